//! Passes that fail, die, run out of time and overlap, at every point.

use super::*;
use crate::memory::faulty::When;
use crate::store::SegmentOrder;
use crate::{SequenceNumber, StoreError};
use std::sync::atomic::{AtomicUsize, Ordering};

const NOW: i64 = MIDNIGHT + 2 * HOUR_MS;

/// Something of each kind is to be done: windows to fold, two of them on a day that is rolled, due windows, and a due day.
fn busy() -> Plant {
    let mut plant = two_days();
    plant.write(MIDNIGHT, Origin::Stream, &regular(FAST, MIDNIGHT - 30 * HOUR_MS, 1, 30));
    plant.compact(MIDNIGHT - 2 * HOUR_MS);
    let late = [-30, -27, -8].map(|hours| (FAST, MIDNIGHT + hours * HOUR_MS + 7_000, 5.0));
    plant.write(NOW, Origin::Stream, &late);
    plant
}

#[test]
fn a_pass_that_fails_or_dies_at_any_write_is_repaired_by_the_next() {
    let plant = busy();
    for when in When::ALL {
        for dies in [false, true] {
            for write in 0.. {
                let plant = plant.copy();
                let store = Arc::new(Faulty::failing(Arc::clone(&plant.store), write, when, dies));
                let outcome = block_on(Compactor::new(Arc::clone(&store), layout(), LEASE_MS).run(|| NOW, 0, never));
                plant.check();
                if store.is_unharmed() {
                    assert!(outcome.is_ok() && write > 20, "only {write} writes");
                    break;
                }
                plant.finish(NOW);
            }
        }
    }
}

#[test]
fn a_run_that_is_out_of_time_stops_in_good_order_and_the_next_goes_on() {
    let plant = busy();
    for looks in 0.. {
        let plant = plant.copy();
        let asked = AtomicUsize::new(0);
        let out_of_time = || asked.fetch_add(1, Ordering::Relaxed) >= looks;
        let report = block_on(plant.compactor().run(|| NOW, 0, out_of_time)).unwrap();
        plant.check();
        for bucket in layout().buckets.all() {
            assert_eq!(block_on(plant.store.progress(bucket)).unwrap().leased_until_ms, 0);
        }
        plant.finish(NOW - LEASE_MS);
        if !report.remaining {
            assert!(looks > 10, "only {looks} looks");
            break;
        }
    }
}

/// A second compactor takes over between any two calls of the first, whose lease is over by its clock. The first goes on as if
/// nothing had happened, and late samples arrive before it wakes or before it has slept.
#[test]
fn a_pass_that_was_overtaken_changes_nothing_that_is_read() {
    let plant = busy();
    let sound = Arc::new(Faulty::sound(Arc::new(plant.store.copy())));
    block_on(Compactor::new(Arc::clone(&sound), layout(), LEASE_MS).run(|| NOW, 0, never)).unwrap();
    let late = (FAST, MIDNIGHT - 4 * HOUR_MS + 3_000, 33.0);
    for before in [true, false] {
        for call in 0..sound.calls() {
            let mut plant = plant.copy();
            let other = plant.compactor();
            let store = Arc::clone(&plant.store);
            let hook = move || {
                if before {
                    write(&store, 50, NOW, Origin::Stream, &[late]);
                }
                block_on(other.run(|| NOW + LEASE_MS, 0, never)).unwrap();
                if !before {
                    write(&store, 50, NOW, Origin::Stream, &[late]);
                }
            };
            let store = Arc::new(Faulty::hooked(Arc::clone(&plant.store), call, hook));
            block_on(Compactor::new(store, layout(), LEASE_MS).run(|| NOW, 0, never)).unwrap();
            plant.model.entry(late.0).or_default().insert(late.1, late.2);
            plant.check();
            plant.finish(NOW + LEASE_MS);
        }
    }
}

#[test]
fn a_bucket_whose_segment_is_broken_fails_loudly_and_the_others_are_compacted() {
    let plant = two_days();
    assert_ne!(
        layout().buckets.of(id(FAST)),
        layout().buckets.of(id(SLOW)),
        "the test needs two buckets"
    );
    let window = Window {
        start_ms: MIDNIGHT - 4 * HOUR_MS,
    };
    let unknown = crate::segment::encode(&[crate::segment::Entry {
        reference: 4_000,
        samples: &plant.samples(FAST, window),
    }]);
    for (data, reason) in [
        (vec![99, 0], "unknown segment version 99"),
        (unknown, "reference 4000 is not in the catalog"),
    ] {
        let plant = plant.copy();
        let broken = crate::store::StoredSegment {
            bucket: layout().buckets.of(id(FAST)),
            window,
            late: false,
            order: SegmentOrder {
                arrival_ms: 0,
                last: SequenceNumber::BEFORE_ALL,
                shard: 0,
                first_hash: 0,
                part: 0,
                last_part: 0,
            },
            data,
            expires_at_s: i64::MAX,
        };
        block_on(plant.store.put_segments(vec![broken])).unwrap();
        let failed = block_on(plant.compactor().run(|| NOW, 0, never)).unwrap_err();
        assert!(chain(&failed).contains(reason), "{}", chain(&failed));
        let CompactError::Failed { report, bucket, source } = failed else {
            panic!("{failed}");
        };
        assert_eq!((report.failed, report.buckets), (1, 2));
        assert_eq!(bucket, layout().buckets.of(id(FAST)));
        assert!(matches!(source, StoreError::Corrupt { .. }));
        // What comes before the window is done, the window itself is read from its segments.
        assert_eq!(plant.progress(FAST).compacted_before_ms, Some(window.start_ms));
        assert_eq!(plant.progress(FAST).leased_until_ms, 0);
        assert!(plant.progress(SLOW).compacted_before_ms > Some(window.start_ms));
        plant.check();
    }
}
