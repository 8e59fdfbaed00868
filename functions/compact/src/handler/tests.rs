#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use std::sync::atomic::{AtomicI64, Ordering};
use tidemark_model::{Bucket, Buckets, DAY_MS, WindowLength};
use tidemark_tsdb::Retention;
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::store::Division;

const NOW: i64 = 1_795_000_000_000;

fn layout(buckets: u16) -> Layout {
    Layout {
        buckets: Buckets::new(buckets).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: DAY_MS,
            minute_ms: DAY_MS,
            hour_ms: DAY_MS,
        },
        grace_ms: 3_600_000,
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn every_bucket_is_compacted_and_its_lease_given_back() {
    let store = Arc::new(MemoryStore::default());
    let compact = Compact::new(Arc::clone(&store), layout(4), || NOW);
    let report = block_on(compact.handle(Some(NOW + 60_000), 3)).unwrap();
    assert_eq!(
        (report.buckets, report.failed, report.remaining),
        (4, 0, false),
        "{report:?}"
    );
    for bucket in 0..4 {
        let progress = block_on(store.progress(Bucket(bucket))).unwrap();
        assert!(progress.compacted_before_ms.is_some(), "{progress:?}");
        assert_eq!(progress.leased_until_ms, 0);
    }
    let again = block_on(compact.handle(Some(NOW + 60_000), 0)).unwrap();
    assert_eq!(again, CompactReport::default(), "nothing is left to do");
}

#[test]
fn a_run_without_time_leaves_its_work_to_the_next_and_is_no_failure() {
    let store = Arc::new(MemoryStore::default());
    let compact = Compact::new(store, layout(4), || NOW);
    let report = block_on(compact.handle(Some(NOW + RESERVE_MS), 0)).unwrap();
    assert_eq!((report.buckets, report.remaining), (0, true), "{report:?}");
}

#[test]
fn a_deadline_that_is_no_time_is_as_late_as_a_function_may_run() {
    // The clock moves a second whenever it is read.
    static CLOCK: AtomicI64 = AtomicI64::new(NOW);
    let compact = Compact::new(Arc::new(MemoryStore::default()), layout(4), || {
        CLOCK.fetch_add(1_000, Ordering::Relaxed)
    });
    for deadline_ms in [None, Some(600_000)] {
        let report = block_on(compact.handle(deadline_ms, 0)).unwrap();
        assert!(!report.remaining, "{report:?}");
    }
}

#[test]
fn tables_that_are_divided_otherwise_are_a_failure_and_left_alone() {
    let store = Arc::new(MemoryStore::default());
    let division = Division {
        buckets: 8,
        ..layout(4).division()
    };
    block_on(store.pin_division(division)).unwrap();
    let compact = Compact::new(Arc::clone(&store), layout(4), || NOW);
    let failed = block_on(compact.handle(None, 0)).unwrap_err();
    assert!(chain(&failed).contains("8 buckets"), "{}", chain(&failed));
    assert_eq!(block_on(store.progress(Bucket(0))).unwrap().epoch, 0);
}
