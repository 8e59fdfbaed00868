//! Windows that a compactor has closed, and tables that are divided otherwise.

use super::*;
use crate::progress::{Progress, Step};
use crate::store::StoreError;
use std::sync::atomic::{AtomicI64, Ordering};

fn close(store: &MemoryStore, before_ms: i64) {
    for bucket in layout().buckets.all() {
        let epoch = block_on(store.progress(bucket)).unwrap().epoch;
        block_on(store.begin_pass(bucket, epoch, 0)).unwrap().unwrap();
        assert!(block_on(store.advance_progress(bucket, epoch + 1, Step::Close { before_ms })).unwrap());
    }
}

fn bucket_of(metric: &str) -> Bucket {
    layout().buckets.of_metric(tidemark_model::series::hash_name(metric))
}

fn progress(store: &MemoryStore, metric: &str) -> Progress {
    block_on(store.progress(bucket_of(metric))).unwrap()
}

const HOUR: i64 = 3_600;

#[test]
fn a_sample_in_a_closed_window_is_written_as_late_too_and_marks_the_window_before_the_checkpoint_moves() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 5 * HOUR, 1.0), ("cpu", "a", 0, 2.0)]);
    let window = layout().window.of(NOW - 5 * HOUR * 1_000);
    close(&pipeline.store, layout().window_end_ms(window));
    let report = pipeline.flush_all(0);
    assert_eq!((report.segments, report.dirtied), (3, 1));
    let segments = pipeline.store.all_segments();
    let late: Vec<_> = segments.iter().filter(|segment| segment.late).collect();
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].window, window);
    let normal = segments
        .iter()
        .find(|segment| !segment.late && segment.window == window);
    assert_eq!(normal.unwrap().order, late[0].order);
    assert_eq!(progress(&pipeline.store, "cpu").dirty, [(window, 1)].into());
    assert_eq!(progress(&pipeline.store, "cpu").late_marks, 1);
}

#[test]
fn a_consumer_that_knows_that_a_window_is_closed_writes_late_at_once_and_marks_it_each_time() {
    let pipeline = Pipeline::new(1);
    let window = layout().window.of(NOW - 5 * HOUR * 1_000);
    close(&pipeline.store, layout().window_end_ms(window));
    let mut consumer = pipeline.consumer();
    for (at, marks) in [(0, 1), (1, 2), (2, 3)] {
        pipeline.push(&[("cpu", "a", 5 * HOUR, f64::from(marks))]);
        let report = pipeline.flush(&mut consumer, 0, at..at + 1);
        assert_eq!(report.segments, if at == 0 { 2 } else { 1 });
        let dirty = progress(&pipeline.store, "cpu").dirty;
        assert_eq!(dirty, [(window, u64::try_from(marks).unwrap())].into());
    }
    assert_eq!(pipeline.read("cpu"), [("a".to_owned(), 5 * HOUR, 3.0)]);
}

#[test]
fn an_operator_writes_late_always_and_marks_what_is_closed() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 5 * HOUR, 1.0), ("cpu", "b", 0, 2.0)]);
    let window = layout().window.of(NOW - 5 * HOUR * 1_000);
    close(&pipeline.store, layout().window_end_ms(window));
    let store = Arc::clone(&pipeline.store);
    let mut operator = Consumer::new(store, layout(), Origin::Operator, Arc::new(|| NOW));
    let report = pipeline.flush(&mut operator, 0, 0..1);
    assert_eq!((report.segments, report.dirtied), (2, 1));
    assert!(pipeline.store.all_segments().iter().all(|segment| segment.late));
    let entries = block_on(pipeline.store.catalog("cpu", Period::of(NOW), None)).unwrap();
    assert!(entries.iter().all(|entry| entry.late));
    assert_eq!(progress(&pipeline.store, "cpu").dirty, [(window, 1)].into());
    assert_eq!(pipeline.read("cpu").len(), 2);
}

#[test]
fn windows_that_have_not_ended_by_the_clock_after_the_write_are_not_looked_up() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0)]);
    let end_ms = layout().window_end_ms(layout().window.of(NOW - 10_000));
    for (now_ms, looks) in [(end_ms - 1, 0), (end_ms, 1)] {
        let store = Arc::new(Faulty::sound(Arc::new(MemoryStore::default())));
        let clock = Arc::new(AtomicI64::new(i64::MIN));
        let read = Arc::clone(&clock);
        let clock = move || {
            read.fetch_add(1, Ordering::Relaxed);
            now_ms
        };
        let mut consumer = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(clock));
        let records = pipeline.stream.records(0);
        block_on(consumer.flush(&MemoryStream::shard_id(0), &records, &*store.inner)).unwrap();
        // Beside the look: the division, three of the checkpoint's, the catalog, references, names, entries, segments and
        // the move.
        assert_eq!(store.calls(), 10 + looks);
    }
}

#[test]
fn a_flush_that_dies_anywhere_is_repaired_by_the_next_and_loses_no_mark() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[
        ("cpu", "a", 5 * HOUR, 1.0),
        ("mem", "a", 5 * HOUR, 1.0),
        ("cpu", "a", 0, 2.0),
    ]);
    let window = layout().window.of(NOW - 5 * HOUR * 1_000);
    close(&pipeline.store, layout().window_end_ms(window));
    let records = pipeline.stream.records(0);
    let shard = MemoryStream::shard_id(0);
    for when in When::ALL {
        for write in 0.. {
            let store = Arc::new(pipeline.store.copy());
            let faulty = Arc::new(Faulty::failing(Arc::clone(&store), write, when, true));
            let mut consumer = Consumer::new(Arc::clone(&faulty), layout(), Origin::Stream, Arc::new(|| NOW));
            let outcome = block_on(consumer.flush(&shard, &records, &*store));
            if faulty.is_unharmed() {
                assert!(write > 8, "only {write} writes");
                break;
            }
            let stored = block_on(store.checkpoint(&shard)).unwrap().map_or(0, |at| at.samples);
            if stored == 0 {
                assert!(outcome.is_err());
                let mut next = Consumer::new(Arc::clone(&store), layout(), Origin::Stream, Arc::new(|| NOW));
                block_on(next.flush(&shard, &records, &*store)).unwrap();
            }
            assert_eq!(block_on(store.checkpoint(&shard)).unwrap().unwrap().samples, 3);
            for metric in ["cpu", "mem"] {
                assert!(progress(&store, metric).dirty.contains_key(&window), "{when:?} {write}");
                let late = store.all_segments().into_iter();
                let late = late.filter(|segment| segment.late && segment.bucket == bucket_of(metric));
                assert!(late.count() > 0);
            }
        }
    }
}

#[test]
fn nothing_is_written_to_tables_that_are_divided_otherwise() {
    let pipeline = Pipeline::new(1);
    pipeline.push(&[("cpu", "a", 10, 1.0)]);
    pipeline.flush_all(0);
    let before = pipeline.store.segments_put();
    let other = Layout {
        buckets: Buckets::new(5).unwrap(),
        ..layout()
    };
    let mut consumer = Consumer::new(Arc::clone(&pipeline.store), other, Origin::Stream, Arc::new(|| NOW));
    let records = pipeline.stream.records(0);
    let failed = block_on(consumer.flush(&MemoryStream::shard_id(0), &records, &*pipeline.store)).unwrap_err();
    assert!(matches!(failed, StoreError::Refused { .. }));
    let text = crate::answer::chain(&failed);
    assert!(
        text.contains("into 4 buckets") && text.contains("for 5 buckets"),
        "{text}"
    );
    assert_eq!(pipeline.store.segments_put(), before);
}
