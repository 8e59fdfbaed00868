use super::*;
use crate::flush::Origin;
use crate::ingest::{Intake, RequestTimes, accept};
use crate::layout::{Layout, Retention};
use crate::memory::{MemoryStore, MemoryStream};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tidemark_model::{Buckets, WindowLength};

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
        let metrics: Vec<_> = (0..20)
            .map(|host| json!({"name": format!("m{metric}"), "value": host, "labels": {"host": format!("h{host}")}}))
            .collect();
        let body = json!({ "metrics": metrics }).to_string();
        let times = RequestTimes {
            now_ms: NOW,
            within: Duration::from_secs(1),
        };
        block_on(accept(&stream, &intake(), body.as_bytes(), times)).unwrap();
    }
    stream
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
    let drained = block_on(drain(&stream, &mut consumer, &*store, never)).unwrap();
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
    let again = block_on(drain(&stream, &mut consumer, &*store, never)).unwrap();
    assert_eq!(again, Drained::default());
}

#[test]
fn a_drain_that_runs_out_of_time_says_what_remains() {
    let stream = stream();
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    let steps = AtomicUsize::new(0);
    let out_of_time = || steps.fetch_add(1, Ordering::Relaxed) >= 1;
    let first = block_on(drain(&stream, &mut consumer, &*store, out_of_time)).unwrap();
    assert!(first.written > 0 && first.remaining > 0, "{first:?}");
    let second = block_on(drain(&stream, &mut consumer, &*store, never)).unwrap();
    assert_eq!(first.written + second.written, 200);
    assert_eq!(second.remaining, 0);
}

#[test]
fn a_poison_record_is_counted_as_an_error_and_passed() {
    let stream = stream();
    stream.append(0, vec![0xff; 10]);
    let store = Arc::new(MemoryStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Operator, Arc::new(|| NOW));
    let drained = block_on(drain(&stream, &mut consumer, &*store, never)).unwrap();
    assert_eq!((drained.written, drained.errors), (200, 1));
    assert_eq!(store.dead_letters().len(), 1);
}
