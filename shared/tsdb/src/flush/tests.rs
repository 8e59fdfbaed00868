use super::*;
use crate::ingest::{Intake, Outcome, RequestTimes, accept};
use crate::layout::Retention;
use crate::memory::faulty::{Faulty, When};
use crate::memory::{MemoryStore, MemoryStream};
use crate::select::{Reader, Select, Selector};
use crate::store::{CatalogEntry, NewCatalogEntry};
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Buckets, LabelFilter, Period, Sample, SeriesId, WindowLength};

mod closed;
mod order;
mod split;

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
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 7 * 86_400_000,
            minute_ms: 30 * 86_400_000,
            hour_ms: 365 * 86_400_000,
        },
        grace_ms: 3_600_000,
    }
}

/// A stream, a store, and consumers that come and go.
struct Pipeline {
    stream: MemoryStream,
    store: Arc<MemoryStore>,
}

impl Pipeline {
    fn new(shards: usize) -> Self {
        Self {
            stream: MemoryStream::new(layout().buckets, shards, NOW),
            store: Arc::new(MemoryStore::default()),
        }
    }

    /// Pushes samples `(metric, host, seconds before now, value)` in one request.
    fn push(&self, samples: &[(&str, &str, i64, f64)]) {
        let metrics: Vec<_> = samples
            .iter()
            .map(|(metric, host, ago, value)| {
                json!({"name": metric, "value": value, "labels": {"host": host}, "timestamp": NOW / 1_000 - ago})
            })
            .collect();
        let body = json!({ "metrics": metrics }).to_string();
        let times = RequestTimes {
            now_ms: NOW,
            within: Duration::from_secs(1),
        };
        let outcome = block_on(accept(&self.stream, &intake(), body.as_bytes(), times)).unwrap();
        assert!(matches!(outcome, Outcome::Accepted(accepted) if accepted.accepted == samples.len()));
    }

    fn consumer(&self) -> Consumer<MemoryStore> {
        Consumer::new(Arc::clone(&self.store), layout(), Origin::Stream, Arc::new(|| NOW))
    }

    fn flush(&self, consumer: &mut Consumer<MemoryStore>, shard: usize, range: std::ops::Range<usize>) -> FlushReport {
        let records = self.stream.records(shard);
        block_on(consumer.flush(&MemoryStream::shard_id(shard), &records[range], &*self.store)).unwrap()
    }

    fn flush_all(&self, shard: usize) -> FlushReport {
        let count = self.stream.records(shard).len();
        self.flush(&mut self.consumer(), shard, 0..count)
    }

    /// `(host, seconds before now, value)` of a metric, by host and time.
    fn read(&self, metric: &str) -> Vec<(String, i64, f64)> {
        let reader = Reader::new(Arc::clone(&self.store), layout(), 0);
        let selector = Selector {
            metric: metric.to_owned(),
            filter: LabelFilter::default(),
        };
        let series = block_on(reader.select(&selector, NOW - 86_400_000, NOW)).unwrap();
        let rows = series.iter().flat_map(|series| {
            let host = series.labels.get("host").unwrap().to_owned();
            series
                .samples
                .iter()
                .map(move |at| (host.clone(), (NOW - at.timestamp_ms) / 1_000, at.value))
        });
        rows.collect()
    }

    fn checkpoint(&self, shard: usize) -> Checkpoint {
        block_on(self.store.checkpoint(&MemoryStream::shard_id(shard)))
            .unwrap()
            .unwrap()
    }
}

#[test]
fn what_was_pushed_is_read() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "b", 10, 1.5), ("cpu", "a", 20, 2.5), ("mem", "a", 20, 7.0)]);
    let report = pipeline.flush_all(0);
    assert_eq!((report.samples, report.undecodable, report.refused), (3, 0, 0));
    assert_eq!(
        pipeline.read("cpu"),
        [("a".to_owned(), 20, 2.5), ("b".to_owned(), 10, 1.5)]
    );
    assert_eq!(pipeline.read("mem").len(), 1);
    assert!(pipeline.read("disk").is_empty());
}

#[test]
fn a_flush_writes_one_segment_for_each_bucket_it_touches() {
    let pipeline = Pipeline::new(1);
    let hosts: Vec<String> = (0..200).map(|host| format!("host-{host}")).collect();
    let metrics: Vec<String> = (0..20).map(|metric| format!("metric_{metric}")).collect();
    for metric in &metrics {
        let samples: Vec<_> = hosts
            .iter()
            .map(|host| (metric.as_str(), host.as_str(), 5, 1.0))
            .collect();
        pipeline.push(&samples);
    }
    let report = pipeline.flush_all(0);
    assert_eq!(report.samples, 4_000);
    assert_eq!(report.segments, u64::from(layout().buckets.count()));
}

#[test]
fn samples_on_both_sides_of_a_window_go_to_two_segments() {
    let pipeline = Pipeline::new(1);
    let into_window = (NOW % layout().window.ms()) / 1_000;
    pipeline.push(&[("cpu", "a", into_window, 1.0), ("cpu", "a", into_window + 1, 2.0)]);
    assert_eq!(pipeline.flush_all(0).segments, 2);
    assert_eq!(pipeline.read("cpu").len(), 2);
}

#[test]
fn samples_come_into_order_and_of_one_time_the_last_to_arrive_stays() {
    let order = |pairs: &[(i64, f64)]| {
        let mut samples: Vec<Sample> = pairs
            .iter()
            .map(|(timestamp_ms, value)| Sample {
                timestamp_ms: *timestamp_ms,
                value: *value,
            })
            .collect();
        let ordered: Vec<(i64, f64)> = gather::in_order(&mut samples)
            .iter()
            .map(|sample| (sample.timestamp_ms, sample.value))
            .collect();
        ordered
    };
    assert_eq!(order(&[]), []);
    assert_eq!(order(&[(1, 1.0), (2, 2.0)]), [(1, 1.0), (2, 2.0)]);
    assert_eq!(order(&[(2, 1.0), (1, 2.0), (2, 3.0), (2, 4.0)]), [(1, 2.0), (2, 4.0)]);
    assert_eq!(order(&[(5, 1.0), (5, 2.0), (5, 3.0)]), [(5, 3.0)]);
}

#[test]
fn a_batch_that_is_delivered_twice_overwrites_itself_and_is_counted_once() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0)]);
    pipeline.push(&[("cpu", "a", 5, 2.0)]);
    let mut consumer = pipeline.consumer();
    pipeline.flush(&mut consumer, 0, 0..2);
    let before = pipeline.store.all_segments();
    pipeline.flush(&mut consumer, 0, 0..2);
    pipeline.flush(&mut pipeline.consumer(), 0, 0..2);
    assert_eq!(pipeline.store.all_segments(), before);
    let checkpoint = pipeline.checkpoint(0);
    assert_eq!((checkpoint.records, checkpoint.samples), (2, 2));
    assert_eq!(checkpoint.time_range_ms, Some((NOW - 10_000, NOW - 5_000)));
}

#[test]
fn a_shorter_cut_never_hides_what_a_longer_one_stored() {
    let pipeline = Pipeline::new(1);
    for second in [40, 30, 20, 10] {
        pipeline.push(&[("cpu", "a", second, second as f64)]);
    }
    pipeline.flush_all(0);
    // A drain that began earlier saw fewer records, and writes after the batch that saw all.
    for cut in [0..1, 0..2, 1..3, 0..3, 2..4, 3..4] {
        pipeline.flush(&mut pipeline.consumer(), 0, cut);
        assert_eq!(pipeline.read("cpu").len(), 4);
    }
    assert_eq!(pipeline.checkpoint(0).samples, 4);
}

#[test]
fn of_two_values_for_one_time_the_later_holds_however_the_batches_are_cut() {
    let cases: [&[(usize, usize)]; 6] = [
        &[(0, 2), (2, 4)],
        &[(0, 4)],
        &[(2, 4), (0, 2)],
        &[(0, 4), (1, 2)],
        &[(1, 4), (0, 3)],
        &[(0, 3), (3, 4), (0, 1)],
    ];
    for cuts in cases {
        let pipeline = Pipeline::new(1);
        for value in [1.0, 2.0, 3.0, 4.0] {
            pipeline.push(&[("cpu", "a", 10, value)]);
        }
        for (start, end) in cuts {
            pipeline.flush(&mut pipeline.consumer(), 0, *start..*end);
        }
        assert_eq!(pipeline.read("cpu"), [("a".to_owned(), 10, 4.0)], "{cuts:?}");
    }
}

#[test]
fn a_record_that_is_no_envelope_goes_to_the_dead_letters_and_blocks_nothing() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0)]);
    pipeline.stream.append(0, b"not an envelope".to_vec());
    pipeline.push(&[("cpu", "a", 5, 2.0)]);
    let report = pipeline.flush_all(0);
    assert_eq!((report.samples, report.undecodable), (2, 1));
    assert_eq!(pipeline.read("cpu").len(), 2);
    let letters = pipeline.store.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].data, b"not an envelope");
    assert!(!letters[0].reason.is_empty());
}

#[test]
fn two_consumers_that_meet_a_series_at_once_give_it_two_references_and_readers_know_both() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0)]);
    pipeline.push(&[("cpu", "a", 5, 2.0)]);
    let (mut one, mut two) = (pipeline.consumer(), pipeline.consumer());
    // Both have read the empty catalog before either adds to it.
    let period = Period::of(NOW - 10_000);
    pipeline.flush(&mut one, 0, 0..1);
    let entries = block_on(pipeline.store.catalog("cpu", period, None)).unwrap();
    let second = NewCatalogEntry {
        metric: "cpu".to_owned(),
        period,
        entry: CatalogEntry {
            reference: 77,
            ..entries[0].clone()
        },
        expires_at_s: 0,
    };
    block_on(pipeline.store.add_to_catalog(vec![second])).unwrap();
    pipeline.flush(&mut two, 0, 1..2);
    assert_eq!(
        pipeline.read("cpu"),
        [("a".to_owned(), 10, 1.0), ("a".to_owned(), 5, 2.0)]
    );
}

#[test]
fn a_series_whose_fingerprint_belongs_to_another_is_refused_loudly() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0), ("cpu", "b", 10, 2.0)]);
    // The catalog has the fingerprint of host a for other labels.
    let forged = NewCatalogEntry {
        metric: "cpu".to_owned(),
        period: Period::of(NOW - 10_000),
        entry: CatalogEntry {
            id: SeriesId::new("cpu", [("host", "a")].into_iter()),
            reference: 5,
            labels: tidemark_model::Labels::from_pairs([("host", "other")]).unwrap(),
            first_seen_ms: NOW,
            late: false,
        },
        expires_at_s: 0,
    };
    block_on(pipeline.store.add_to_catalog(vec![forged])).unwrap();
    let report = pipeline.flush_all(0);
    assert_eq!((report.samples, report.refused), (1, 1));
    assert_eq!(pipeline.read("cpu"), [("b".to_owned(), 10, 2.0)]);
    assert!(pipeline.store.dead_letters()[0].reason.contains("fingerprint"));
}

#[test]
fn a_catalog_that_was_written_in_part_is_not_written_a_second_time() {
    let pipeline = Pipeline::new(1);
    let hosts: Vec<String> = (0..100).map(|host| format!("host-{host}")).collect();
    let samples: Vec<_> = hosts.iter().map(|host| ("cpu", host.as_str(), 5, 1.0)).collect();
    pipeline.push(&samples);
    let inner = Arc::new(MemoryStore::default());
    let store = Arc::new(Faulty::sound(Arc::clone(&inner)));
    let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
    let records = pipeline.stream.records(0);
    let mut flush = || block_on(consumer.flush(&MemoryStream::shard_id(0), &records, &*inner));
    // The first time two writes come before: the division and the new shard's checkpoint.
    for references_and_before in [3, 1, 1] {
        store.fail(references_and_before, When::Midway);
        assert!(flush().is_err());
    }
    assert_eq!(flush().unwrap().samples, 100);
    let entries = block_on(inner.catalog("cpu", Period::of(NOW), None)).unwrap();
    assert_eq!(entries.len(), 100);
}

#[test]
fn parts_of_writers_that_know_a_series_by_other_references_do_not_overwrite_each_other() {
    let (one, two) = (Pipeline::new(1), Pipeline::new(1));
    // Values that do not pack, and more of them than one item holds.
    let mut random = 1_u64;
    let hosts: Vec<String> = (0..60).map(|host| format!("host-{host:02}")).collect();
    let mut count = 0;
    for host in &hosts {
        let samples: Vec<_> = (0..1_000)
            .map(|ago| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                ("cpu", host.as_str(), ago, (random >> 11) as f64 * 1e-300)
            })
            .collect();
        one.push(&samples);
        count += samples.len();
    }
    let records = one.stream.records(0);
    let shard = MemoryStream::shard_id(0);
    let report = block_on(one.consumer().flush(&shard, &records, &*one.store)).unwrap();
    assert!(report.segments > 1, "the test needs several parts");
    // The second writer met the series in the opposite order. It dies after its first part.
    let mut second = two.consumer();
    for bucket in layout().buckets.all() {
        block_on(two.store.allocate_references(bucket, 1_000)).unwrap();
    }
    for record in records.iter().rev() {
        block_on(second.flush(&shard, std::slice::from_ref(record), &*two.store)).unwrap();
    }
    let before = two.store.all_segments();
    block_on(second.flush(&shard, &records, &*two.store)).unwrap();
    let mut written = two
        .store
        .all_segments()
        .into_iter()
        .filter(|segment| !before.contains(segment));
    let first = written.find(|segment| segment.order.part == 0);
    let period = Period::of(NOW - 1_000);
    let entries = block_on(two.store.catalog("cpu", period, None)).unwrap();
    let entries = entries.into_iter().map(|entry| NewCatalogEntry {
        metric: "cpu".to_owned(),
        period,
        entry,
        expires_at_s: 0,
    });
    block_on(one.store.add_to_catalog(entries.collect())).unwrap();
    block_on(one.store.put_segments(first.into_iter().collect())).unwrap();
    assert_eq!(one.read("cpu").len(), count);
}

#[test]
fn runs_hold_at_most_so_many_samples_and_lose_no_record() {
    let pipeline = Pipeline::new(1);
    for at in [3, 1, 5, 2, 2] {
        let samples: Vec<_> = (0..at).map(|ago| ("cpu", "a", ago, 1.0)).collect();
        pipeline.push(&samples);
    }
    let records = pipeline.stream.records(0);
    let lengths: Vec<usize> = runs(&records, 4).iter().map(|run| run.len()).collect();
    assert_eq!(lengths, [2, 1, 2]);
    assert_eq!(runs(&records, 100).len(), 1);
    assert_eq!(runs(&[], 4), [&[][..]]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the records of a shard are cut, repeated and overlapped, every sample is read exactly once.
    #[test]
    fn every_sample_is_read_once(
        pushes in proptest::collection::vec(proptest::collection::vec((0..3_usize, 0..4_usize, 0..90_i64), 1..12), 1..10),
        cuts in proptest::collection::vec((0..10_usize, 1..10_usize), 0..12),
    ) {
        let pipeline = Pipeline::new(1);
        let mut model = std::collections::BTreeMap::new();
        let mut serial = 0.0;
        let hosts = ["a", "b", "c", "d"];
        let metrics = ["cpu", "mem", "net"];
        for push in &pushes {
            let samples: Vec<_> = push.iter().map(|(metric, host, minutes)| {
                serial += 1.0;
                model.insert((metrics[*metric], hosts[*host].to_owned(), -minutes * 60), serial);
                (metrics[*metric], hosts[*host], minutes * 60, serial)
            }).collect();
            pipeline.push(&samples);
        }
        let count = pipeline.stream.records(0).len();
        let mut consumer = pipeline.consumer();
        for (start, length) in cuts {
            let start = start.min(count - 1);
            pipeline.flush(&mut consumer, 0, start..(start + length).min(count));
        }
        // In the end everything is delivered at least once, in order, as a stream does.
        for start in (0..count).step_by(3) {
            pipeline.flush(&mut consumer, 0, start..(start + 3).min(count));
        }
        let read: std::collections::BTreeMap<_, _> = metrics.iter().flat_map(|metric| {
            pipeline.read(metric).into_iter().map(move |(host, ago, value)| ((*metric, host, -ago), value))
        }).collect();
        prop_assert_eq!(read, model);
    }
}
