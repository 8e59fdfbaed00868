use super::*;
use crate::flush::Origin;
use crate::ingest::{Intake, RequestTimes, accept};
use crate::layout::{Layout, Retention};
use crate::memory::{MemoryStore, MemoryStream};
use crate::segment;
use crate::select::{Reader, Select, Selector};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidemark_model::{Buckets, LabelFilter, WindowLength};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

const NOW: i64 = 1_767_225_600_000;

fn intake() -> Intake {
    Intake {
        buckets: layout().buckets,
        retention_ms: layout().retention.raw_ms,
    }
}

fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(16).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 86_400_000,
            minute_ms: 30 * 86_400_000,
            hour_ms: 365 * 86_400_000,
        },
        grace_ms: 3_600_000,
    }
}

fn never() -> bool {
    false
}

/// Ten requests of twenty samples each, one metric each.
fn stream() -> MemoryStream {
    let stream = MemoryStream::new(layout().buckets, 2, NOW);
    for metric in 0..10 {
        push(&stream, metric);
    }
    stream
}

/// One request of twenty samples of a metric.
fn push(stream: &MemoryStream, metric: usize) {
    let metrics: Vec<_> = (0..20)
        .map(|host| json!({"name": format!("m{metric}"), "value": host, "labels": {"host": format!("h{host}")}}))
        .collect();
    let body = json!({ "metrics": metrics }).to_string();
    let times = RequestTimes {
        now_ms: NOW,
        within: Duration::from_secs(1),
    };
    block_on(accept(stream, &intake(), body.as_bytes(), times)).unwrap();
}

#[test]
fn what_waits_is_counted_until_it_is_stored() {
    let stream = stream();
    let store = Arc::new(MemoryStore::default());
    let before = block_on(queue_stats(&stream, &*store, never)).unwrap();
    assert_eq!(
        (before.total_events, before.unconsumed_events, before.partitions),
        (200, 200, 2)
    );
    assert_eq!(before.events_by_partition.values().sum::<u64>(), 200);
    assert!(before.complete);

    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    let drained = block_on(drain(&stream, &mut consumer, None, &*store, never)).unwrap();
    assert_eq!(
        drained,
        Drained {
            fetched: 200,
            written: 200,
            errors: 0,
            remaining: 0
        }
    );

    let after = block_on(queue_stats(&stream, &*store, never)).unwrap();
    assert_eq!((after.total_events, after.unconsumed_events), (200, 0));
    assert_eq!(after.events_by_partition, before.events_by_partition);
    let again = block_on(drain(&stream, &mut consumer, None, &*store, never)).unwrap();
    assert_eq!(again, Drained::default());
}

#[test]
fn a_drain_that_runs_out_of_time_says_what_remains() {
    let stream = stream();
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    let steps = AtomicUsize::new(0);
    let out_of_time = || steps.fetch_add(1, Ordering::Relaxed) >= 1;
    let first = block_on(drain(&stream, &mut consumer, None, &*store, out_of_time)).unwrap();
    assert!(first.written > 0 && first.remaining > 0, "{first:?}");
    let second = block_on(drain(&stream, &mut consumer, None, &*store, never)).unwrap();
    assert_eq!(first.written + second.written, 200);
    assert_eq!(second.remaining, 0);
}

#[test]
fn a_poison_record_is_counted_as_an_error_and_passed() {
    let stream = stream();
    stream.append(0, vec![0xff; 10]);
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    let drained = block_on(drain(&stream, &mut consumer, None, &*store, never)).unwrap();
    assert_eq!((drained.written, drained.errors), (200, 1));
    assert_eq!(store.dead_letters().len(), 1);
}

#[test]
fn a_replay_stores_again_what_is_behind_the_checkpoint_and_counts_nothing_twice() {
    let stream = stream();
    stream.set_now(NOW + 60_000);
    push(&stream, 10);
    let store = Arc::new(MemoryStore::default());
    let consumer = || Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    block_on(drain(&stream, &mut consumer(), None, &*store, never)).unwrap();
    let checkpoints = block_on(store.checkpoints()).unwrap();
    let later = block_on(drain(&stream, &mut consumer(), Some(NOW + 60_000), &*store, never)).unwrap();
    assert_eq!((later.fetched, later.written), (20, 20));
    let all = block_on(drain(&stream, &mut consumer(), Some(NOW), &*store, never)).unwrap();
    assert_eq!((all.fetched, all.written), (220, 220));
    let nothing = block_on(drain(&stream, &mut consumer(), Some(NOW + 60_001), &*store, never)).unwrap();
    assert_eq!(nothing, Drained::default());
    assert_eq!(block_on(store.checkpoints()).unwrap(), checkpoints);
    assert!(store.all_segments().iter().all(|segment| segment.late));
}

#[test]
fn a_replay_from_a_time_that_is_not_stored_yet_leaves_no_gap_behind_the_checkpoint() {
    let stream = stream();
    stream.set_now(NOW + 60_000);
    push(&stream, 10);
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
    for shard in 0..2 {
        let first = &stream.records(shard)[..1];
        block_on(consumer.flush(&MemoryStream::shard_id(shard), first, &*store)).unwrap();
    }
    let mut operator = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    block_on(drain(&stream, &mut operator, Some(NOW + 60_000), &*store, never)).unwrap();
    let stats = block_on(queue_stats(&stream, &*store, never)).unwrap();
    assert_eq!((stats.total_events, stats.unconsumed_events), (220, 0));
    let records: u64 = block_on(store.checkpoints())
        .unwrap()
        .iter()
        .map(|(_, at)| at.records)
        .sum();
    assert_eq!(records as usize, stream.records(0).len() + stream.records(1).len());
}

#[test]
fn after_a_reshard_the_samples_of_parents_children_and_forgotten_shards_are_counted_once() {
    let stream = stream();
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
    // One parent is stored in part, the other not at all; the children have records and no checkpoints.
    block_on(consumer.flush(&MemoryStream::shard_id(0), &stream.records(0)[..2], &*store)).unwrap();
    let [left, _] = stream.split(0).unwrap();
    assert_eq!(stream.merge(1, left), None, "they are no neighbours");
    for metric in 20..30 {
        push(&stream, metric);
    }
    let backlog = block_on(queue_stats(&stream, &*store, never)).unwrap();
    assert_eq!((backlog.total_events, backlog.partitions), (400, 4));
    let stored: u64 = block_on(store.checkpoints())
        .unwrap()
        .iter()
        .map(|(_, at)| at.samples)
        .sum();
    assert_eq!(backlog.unconsumed_events, 400 - stored);
    assert!(backlog.complete);
    for shard in 0..stream.shard_count() {
        block_on(consumer.flush(&MemoryStream::shard_id(shard), &stream.records(shard), &*store)).unwrap();
    }
    let partitions = block_on(queue_stats(&stream, &*store, never))
        .unwrap()
        .events_by_partition;
    assert!(stream.forget(0) && !stream.forget(1));
    let after = block_on(queue_stats(&stream, &*store, never)).unwrap();
    assert_eq!(
        (after.total_events, after.unconsumed_events, after.partitions),
        (400, 0, 3)
    );
    let left: BTreeMap<_, _> = partitions
        .into_iter()
        .filter(|(shard, _)| *shard != MemoryStream::shard_id(0).0)
        .collect();
    assert_eq!(after.events_by_partition, left);
}

#[test]
fn counting_stops_when_time_runs_out_and_says_so() {
    let stream = stream();
    let store = MemoryStore::default();
    let stats = block_on(queue_stats(&stream, &store, || true)).unwrap();
    assert_eq!(
        (stats.unconsumed_events, stats.complete, stats.partitions),
        (0, false, 2)
    );
}

fn push_value(stream: &MemoryStream, arrival_ms: i64, at_ms: i64, value: f64) {
    stream.set_now(arrival_ms);
    let metrics = json!([{"name": "cpu", "value": value, "timestamp": at_ms as f64 / 1_000.0}]);
    let times = RequestTimes {
        now_ms: NOW,
        within: Duration::from_secs(1),
    };
    let body = json!({ "metrics": metrics }).to_string();
    block_on(accept(stream, &intake(), body.as_bytes(), times)).unwrap();
}

fn values(store: &Arc<MemoryStore>) -> Vec<f64> {
    let selector = Selector {
        metric: "cpu".to_owned(),
        filter: LabelFilter::default(),
    };
    let reader = Reader::new(Arc::clone(store), layout(), 0);
    let found = block_on(reader.select(&selector, NOW - 60_000, NOW)).unwrap();
    found[0].samples.iter().map(|sample| sample.value).collect()
}

/// Gives all samples that are stored another value, as a deployment would have that decodes wrongly.
fn spoil(store: &MemoryStore) {
    let mut bad = store.all_segments();
    for stored in &mut bad {
        let decoded = segment::decode(&stored.data).unwrap();
        let mut samples = Vec::new();
        decoded.read(0, &mut samples);
        for sample in &mut samples {
            sample.value = 1_000.0;
        }
        stored.data = segment::encode(&[segment::Entry {
            reference: 0,
            samples: &samples,
        }]);
    }
    block_on(store.put_segments(bad)).unwrap();
}

/// The segments of a replay had the arrivals of their records once, and lost where those that they were to mend ended later.
#[test]
fn a_replay_mends_wrong_values_in_segments_that_were_cut_elsewhere() {
    let store = Arc::new(MemoryStore::default());
    let stream = MemoryStream::new(layout().buckets, 1, NOW);
    for at in 0..7 {
        push_value(&stream, NOW + at, NOW - 10_000 + at, 1.0);
    }
    let shard = MemoryStream::shard_id(0);
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
    block_on(consumer.flush(&shard, &stream.records(0), &*store)).unwrap();
    spoil(&store);
    assert_eq!(values(&store), [1_000.0; 7]);
    let mut operator = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    block_on(drain(&stream, &mut operator, Some(NOW), &*store, never)).unwrap();
    assert_eq!(values(&store), [1.0; 7]);
}

#[test]
fn a_replay_keeps_its_own_order_and_loses_to_later_records_and_to_children() {
    let store = Arc::new(MemoryStore::default());
    let stream = MemoryStream::new(layout().buckets, 1, NOW);
    let at_ms = NOW - 10_000;
    for (arrival_ms, value) in [(0, 1.0), (9, 2.0), (5, 3.0), (5, 4.0)] {
        push_value(&stream, NOW + arrival_ms, at_ms, value);
    }
    let flush = |shard: usize, from: usize| {
        let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
        let records = &stream.records(shard)[from..];
        block_on(consumer.flush(&MemoryStream::shard_id(shard), records, &*store)).unwrap();
    };
    let replay = || {
        let mut operator = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
        block_on(drain(&stream, &mut operator, Some(NOW), &*store, never)).unwrap();
    };
    flush(0, 0);
    spoil(&store);
    // Pages hold three records: the last is in a segment of its own.
    replay();
    assert_eq!(values(&store), [4.0]);
    replay();
    assert_eq!(values(&store), [4.0]);
    // Of the same millisecond as the replay's segments.
    push_value(&stream, NOW + 10, at_ms, 5.0);
    flush(0, 4);
    assert_eq!(values(&store), [5.0]);
    // A child begins with the arrival that a replay of its parent has.
    let children = stream.split(0).unwrap();
    push_value(&stream, NOW, at_ms, 6.0);
    children.iter().for_each(|child| flush(*child, 0));
    assert_eq!(values(&store), [6.0]);
    replay();
    assert_eq!(values(&store), [6.0]);
}
