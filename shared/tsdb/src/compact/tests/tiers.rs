//! What is compacted when, into which tiers, and how long it lives.

use super::*;

#[test]
fn a_window_is_compacted_when_it_has_ended_and_the_grace_has_passed() {
    let plant = two_days();
    let window = layout().window.of(MIDNIGHT - 9 * HOUR_MS);
    let due_ms = layout().window_end_ms(window) + HOUR_MS;
    plant.compact(due_ms - 1);
    assert!(!plant.progress(FAST).is_compacted(window));
    assert!(plant.store.all_blocks().is_empty());
    let report = plant.compact(due_ms);
    assert!(plant.progress(FAST).is_compacted(window) && plant.progress(FAST).is_closed(window));
    assert!(report.windows_compacted > 0 && report.samples > 0 && report.blocks_written > 0);
    let next = Window {
        start_ms: window.start_ms + layout().window.ms(),
    };
    assert!(!plant.progress(FAST).is_closed(next));
    assert!(plant.check().0 > 0);
    plant.finish(due_ms);
}

#[test]
fn both_sides_of_midnight_and_of_a_period_are_compacted_and_the_day_before_is_rolled() {
    let plant = two_days();
    let now_ms = MIDNIGHT + 9 * HOUR_MS;
    let report = plant.compact(now_ms);
    assert_eq!(plant.check(), (2 * 8, 2));
    assert_eq!(plant.progress(FAST).rolled_before_ms, Some(MIDNIGHT));
    assert!(report.days_rolled >= 2);
    plant.compact(MIDNIGHT + DAY_MS + HOUR_MS);
    assert_eq!(plant.check(), (2 * 8, 4));
    plant.finish(MIDNIGHT + DAY_MS + HOUR_MS);
}

#[test]
fn blocks_of_each_tier_expire_a_day_after_its_retention_and_a_slow_chunk_with_the_minutes() {
    let plant = two_days();
    plant.compact(MIDNIGHT + 2 * HOUR_MS);
    let start_ms = MIDNIGHT - 4 * HOUR_MS;
    let end_s = (start_ms + 2 * HOUR_MS) / 1_000;
    let day = DAY_MS / 1_000;
    let expiry = |tier, name, start_ms| -> Vec<i64> {
        let blocks = plant.blocks(tier, name, start_ms);
        blocks.iter().map(|block| block.expires_at_s).collect()
    };
    assert_eq!(expiry(Tier::Raw, FAST, start_ms), [end_s + 4 * day]);
    assert_eq!(expiry(Tier::Minute, FAST, start_ms), [end_s + 11 * day]);
    assert_eq!(expiry(Tier::Raw, SLOW, start_ms), [end_s + 11 * day]);
    assert!(expiry(Tier::Minute, SLOW, start_ms).is_empty());
    for name in [FAST, SLOW] {
        let hours = expiry(Tier::Hour, name, MIDNIGHT - DAY_MS);
        assert_eq!(hours, [MIDNIGHT / 1_000 + 101 * day]);
    }
    let segments = plant.store.all_segments();
    let of_window = segments
        .iter()
        .find(|segment| segment.window.start_ms == start_ms)
        .unwrap();
    assert_eq!(of_window.expires_at_s, MIDNIGHT / 1_000 + 4 * day);
}

#[test]
fn a_series_that_needs_several_items_is_read_from_all_of_them() {
    let mut plant = Plant::default();
    let mut random = 1_u64;
    let start_ms = MIDNIGHT - 4 * HOUR_MS;
    for piece in 0..3 {
        let samples: Vec<_> = (0..25_000)
            .map(|at| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                (
                    FAST,
                    start_ms + piece * 2_500_000 + at * 100,
                    (random >> 11) as f64 * 1e-300,
                )
            })
            .collect();
        plant.write(MIDNIGHT, Origin::Stream, &samples);
    }
    plant.compact(MIDNIGHT + HOUR_MS);
    let parts: Vec<u8> = plant
        .blocks(Tier::Raw, FAST, start_ms)
        .iter()
        .map(|block| block.key.part)
        .collect();
    assert!(parts.len() > 1, "the test needs several parts");
    assert_eq!(plant.check().0, 2);
}

#[test]
fn the_first_pass_takes_all_that_there_is_segments_of() {
    let mut plant = Plant::default();
    let now_ms = MIDNIGHT + 2 * HOUR_MS;
    let oldest_ms = now_ms - 3 * DAY_MS;
    let gone = (FAST, oldest_ms - 2 * DAY_MS, 0.0);
    // Raw samples of then are not kept any more, but it belongs into the coarser tiers.
    let old = (FAST, oldest_ms - 3 * HOUR_MS, 1.0);
    let kept = (FAST, oldest_ms + HOUR_MS, 2.0);
    plant.write(oldest_ms + HOUR_MS, Origin::Stream, &[gone, old, kept]);
    plant.compact(now_ms);
    let blocks = plant.store.all_blocks();
    let raw: Vec<i64> = blocks
        .iter()
        .filter(|block| block.key.tier == Tier::Raw)
        .map(|block| block.key.start_ms)
        .collect();
    assert_eq!(raw, [old, kept].map(|(_, at, _)| layout().window.of(at).start_ms));
}

#[test]
fn after_a_long_pause_what_has_segments_is_compacted_and_no_more() {
    let plant = two_days();
    plant.compact(MIDNIGHT - 6 * HOUR_MS);
    let done = plant.progress(FAST).compacted_before_ms;
    let now_ms = MIDNIGHT + 4 * DAY_MS + 12 * HOUR_MS;
    plant.store.expire(now_ms / 1_000);
    plant.compact(now_ms);
    let yesterday = plant.blocks(Tier::Raw, FAST, MIDNIGHT - 4 * HOUR_MS);
    assert!(yesterday.is_empty(), "its segments are gone");
    assert_eq!(plant.blocks(Tier::Raw, FAST, MIDNIGHT + 2 * HOUR_MS).len(), 1);
    assert_eq!(plant.blocks(Tier::Hour, FAST, MIDNIGHT).len(), 1);
    assert!(plant.progress(FAST).compacted_before_ms > done);
}

#[test]
fn a_bucket_is_left_alone_while_its_lease_lasts_and_the_lease_is_given_back() {
    let plant = two_days();
    let now_ms = MIDNIGHT + 2 * HOUR_MS;
    for bucket in layout().buckets.all() {
        block_on(plant.store.begin_pass(bucket, 0, now_ms + 1))
            .unwrap()
            .unwrap();
    }
    let report = plant.compact(now_ms);
    assert_eq!((report.skipped_leased, report.buckets), (2, 0));
    assert!(plant.store.all_blocks().is_empty());
    let report = plant.compact(now_ms + 1);
    assert_eq!((report.skipped_leased, report.buckets), (0, 2));
    assert_eq!(plant.progress(FAST).leased_until_ms, 0);
}

#[test]
fn runs_that_begin_at_other_buckets_work_on_those_first() {
    let plant = two_days();
    for first in [0_u16, 1, 3] {
        let asked = std::sync::atomic::AtomicUsize::new(0);
        // Time for one bucket's first window.
        let out_of_time = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 1;
        let plant = plant.copy();
        let run = plant.compactor();
        let report = block_on(run.run(|| MIDNIGHT + 2 * HOUR_MS, first, out_of_time)).unwrap();
        assert!(report.remaining);
        let epochs: Vec<u32> = layout()
            .buckets
            .all()
            .map(|bucket| block_on(plant.store.progress(bucket)).unwrap().epoch)
            .collect();
        assert_eq!(epochs, if first == 0 { [1, 0] } else { [0, 1] });
    }
}

#[test]
fn nothing_is_compacted_in_tables_that_are_divided_otherwise() {
    let plant = two_days();
    let other = Layout {
        window: WindowLength::from_seconds(3_600).unwrap(),
        ..layout()
    };
    let compactor = Compactor::new(Arc::clone(&plant.store), other, LEASE_MS);
    let failed = block_on(compactor.run(|| MIDNIGHT + 2 * HOUR_MS, 0, never)).unwrap_err();
    assert!(matches!(failed, CompactError::NotBegun(_)));
    assert!(chain(&failed).contains("windows of 3600 s"), "{}", chain(&failed));
    assert_eq!(plant.progress(FAST).epoch, 0);
}
