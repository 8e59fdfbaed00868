use super::*;
use crate::layout::Retention;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidemark_model::{Buckets, Window, WindowLength};

/// A midnight.
const NOW: i64 = 20_454 * DAY_MS;
const WINDOW_MS: i64 = 2 * HOUR_MS;

fn layout() -> Layout {
    layout_of(7, 30, 365)
}

fn layout_of(raw: i64, minute: i64, hour: i64) -> Layout {
    Layout {
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: raw * DAY_MS,
            minute_ms: minute * DAY_MS,
            hour_ms: hour * DAY_MS,
        },
        grace_ms: HOUR_MS,
    }
}

/// Everything is compacted as it should be at `now_ms`.
fn progress(now_ms: i64) -> Progress {
    let before = |length| Some(floor(now_ms - HOUR_MS, length));
    Progress {
        closed_before_ms: before(WINDOW_MS),
        compacted_before_ms: before(WINDOW_MS),
        rolled_before_ms: before(DAY_MS),
        ..Progress::default()
    }
}

fn range(start_ms: i64, end_ms: i64, want: Want) -> Range {
    Range {
        start_ms,
        end_ms,
        want,
        counter: false,
        now_ms: NOW,
    }
}

/// `tier source from to`, the times in minutes before now; the end is the first minute after the part.
fn told(parts: &[Part]) -> Vec<String> {
    let tell = |part: &Part| {
        let source = if part.source == Source::Blocks {
            "blocks"
        } else {
            "segments"
        };
        let ago = |at: i64| (NOW - at) as f64 / MINUTE_MS as f64;
        format!("{} {source} {} {}", part.tier, ago(part.from_ms), ago(part.to_ms + 1))
    };
    parts.iter().map(tell).collect()
}

fn told_plan(range: &Range, progress: &Progress) -> Vec<String> {
    told(&plan(range, &layout(), Some(progress)))
}

#[test]
fn the_last_hours_come_from_segments_and_older_ones_from_chunks() {
    let range = range(NOW - 6 * HOUR_MS, NOW - 1, Want::Finest);
    assert_eq!(
        told_plan(&range, &progress(NOW)),
        ["raw blocks 360 120", "raw segments 120 0"]
    );
    assert_eq!(told(&plan(&range, &layout(), None)), ["raw segments 360 0"]);
}

#[test]
fn without_a_step_the_finest_tier_that_is_kept_serves() {
    let range = range(NOW - 40 * DAY_MS, NOW - 1, Want::Finest);
    assert_eq!(
        told_plan(&range, &progress(NOW)),
        [
            "1h blocks 57600 43200",
            "1m blocks 43200 10080",
            "raw blocks 10080 120",
            "raw segments 120 0"
        ]
    );
}

#[test]
fn with_a_step_the_coarsest_tier_that_fits_serves_and_edges_come_from_finer_ones() {
    let from = NOW - 3 * DAY_MS - 90 * MINUTE_MS - 30_000;
    let to = NOW - DAY_MS - 29 * MINUTE_MS - 1;
    let hourly = told_plan(&range(from, to, Want::Step(DAY_MS)), &progress(NOW));
    assert_eq!(
        hourly,
        [
            "raw blocks 4410.5 4410",
            "1m blocks 4410 4380",
            "1h blocks 4380 1500",
            "1m blocks 1500 1469"
        ]
    );
    let minutely = told_plan(&range(from, to, Want::Step(90 * MINUTE_MS)), &progress(NOW));
    assert_eq!(minutely, ["raw blocks 4410.5 4410", "1m blocks 4410 1469"]);
    let odd = told_plan(&range(from, to, Want::Step(90_000)), &progress(NOW));
    assert_eq!(odd, ["raw blocks 4410.5 1469"]);
}

#[test]
fn a_dirty_window_is_cut_out_of_its_day() {
    let mut progress = progress(NOW);
    let window = Window {
        start_ms: NOW - 2 * DAY_MS + 4 * HOUR_MS,
    };
    progress.dirty = BTreeMap::from([(window, 1)]);
    let mut range = range(NOW - 2 * DAY_MS, NOW - DAY_MS - 1, Want::Step(HOUR_MS));
    assert_eq!(
        told_plan(&range, &progress),
        ["1h blocks 2880 2640", "raw segments 2640 2520", "1h blocks 2520 1440"]
    );
    // The hours after it do not say what their first values are, the minutes do.
    range.counter = true;
    assert_eq!(
        told_plan(&range, &progress),
        ["1h blocks 2880 2640", "raw segments 2640 2520", "1m blocks 2520 1440"]
    );
}

#[test]
fn counters_enter_a_coarse_tier_at_the_start_of_a_block() {
    let mut range = range(NOW - 3 * DAY_MS - 5 * HOUR_MS, NOW - DAY_MS - 1, Want::Step(HOUR_MS));
    range.counter = true;
    assert_eq!(
        told_plan(&range, &progress(NOW)),
        ["raw blocks 4620 4560", "1m blocks 4560 4320", "1h blocks 4320 1440"]
    );
}

#[test]
fn a_day_that_is_not_rolled_yet_is_read_from_minutes() {
    let mut progress = progress(NOW);
    progress.rolled_before_ms = Some(NOW - 2 * DAY_MS);
    let range = range(NOW - 3 * DAY_MS, NOW - DAY_MS - 1, Want::Step(HOUR_MS));
    assert_eq!(
        told_plan(&range, &progress),
        ["1h blocks 4320 2880", "1m blocks 2880 1440"]
    );
}

#[test]
fn where_nothing_finer_is_kept_a_point_is_taken_whole() {
    let from = NOW - 40 * DAY_MS + 90_000;
    let parts = plan(
        &range(from, from + 60_000, Want::Finest),
        &layout(),
        Some(&progress(NOW)),
    );
    assert_eq!(parts.len(), 1);
    assert_eq!(
        (parts[0].tier, parts[0].widened()),
        (Tier::Hour, (NOW - 40 * DAY_MS, NOW - 40 * DAY_MS + HOUR_MS - 1))
    );
    let from = NOW - 20 * DAY_MS + 90_000;
    let parts = plan(&range(from, from + 1, Want::Finest), &layout(), Some(&progress(NOW)));
    assert_eq!(
        (parts[0].tier, parts[0].widened()),
        (Tier::Minute, (from - 30_000, from + 29_999))
    );
}

#[test]
fn a_window_that_was_never_compacted_is_rolled_up_from_its_segments_once_raw_samples_have_passed() {
    let mut progress = progress(NOW);
    progress.compacted_before_ms = Some(NOW - 8 * DAY_MS);
    let range = range(
        NOW - 7 * DAY_MS - WINDOW_MS,
        NOW - 7 * DAY_MS + WINDOW_MS - 1,
        Want::Finest,
    );
    assert_eq!(
        told_plan(&range, &progress),
        ["1m segments 10200 10080", "raw segments 10080 9960"]
    );
}

#[test]
fn a_dirty_window_without_segments_is_read_from_the_blocks_that_there_are() {
    let mut progress = progress(NOW);
    let start_ms = NOW - 9 * DAY_MS;
    progress.dirty = BTreeMap::from([(Window { start_ms }, 1)]);
    let range = range(start_ms, start_ms + WINDOW_MS - 1, Want::Finest);
    assert_eq!(told_plan(&range, &progress), ["1m blocks 12960 12840"]);
}

#[test]
fn samples_alone_are_never_replaced_by_aggregates() {
    let range = range(NOW - 8 * DAY_MS, NOW - 6 * DAY_MS - 1, Want::Samples);
    assert_eq!(told_plan(&range, &progress(NOW)), ["raw blocks 10080 8640"]);
}

fn any_progress(now_ms: i64) -> impl Strategy<Value = Progress> {
    let dirty = proptest::collection::btree_map(0_i64..400 * 12, 1_u64..3, 0..5);
    (0_i64..200, 0_i64..60, dirty).prop_map(move |(behind_windows, behind_days, dirty)| {
        let mut progress = progress(now_ms);
        let compacted = progress.compacted_before_ms.unwrap() - behind_windows * WINDOW_MS;
        progress.compacted_before_ms = Some(compacted);
        progress.rolled_before_ms = Some(floor(compacted, DAY_MS) - behind_days * DAY_MS);
        let window = |back: i64| Window {
            start_ms: compacted - (back + 1) * WINDOW_MS,
        };
        progress.dirty = dirty.into_iter().map(|(back, marks)| (window(back), marks)).collect();
        progress
    })
}

fn wants() -> impl Strategy<Value = Want> {
    prop_oneof![
        Just(Want::Samples),
        Just(Want::Finest),
        prop_oneof![
            Just(1_000),
            Just(15_000),
            Just(60_000),
            Just(90_000),
            Just(300_000),
            Just(HOUR_MS),
            Just(DAY_MS)
        ]
        .prop_map(Want::Step)
    ]
}

proptest! {
    #[test]
    fn parts_cover_what_is_kept_and_no_tier_passes_its_retention(
        now_ms in NOW..NOW + DAY_MS,
        (progress, want, counter) in (any_progress(NOW), wants(), any::<bool>()),
        back_ms in 0_i64..420 * DAY_MS,
        length_ms in 0_i64..400 * DAY_MS,
        (raw, minute, hour) in (1_i64..40, 1_i64..40, 1_i64..400),
    ) {
        let layout = layout_of(raw, minute, hour);
        let range = Range {
            start_ms: now_ms - back_ms,
            end_ms: now_ms - back_ms + length_ms,
            want,
            counter,
            now_ms,
        };
        let parts = plan(&range, &layout, Some(&progress));
        for part in &parts {
            prop_assert!(part.from_ms <= part.to_ms);
            prop_assert!(range.start_ms <= part.from_ms && part.to_ms <= range.end_ms);
            prop_assert!(part.widened().0 >= now_ms - layout.retention.of(part.tier) || part.tier == Tier::Raw);
            prop_assert!(part.from_ms >= now_ms - layout.retention.of(part.tier));
            if want == Want::Samples {
                prop_assert_eq!(part.tier, Tier::Raw);
            }
            let windows = layout.window.covering(part.from_ms, part.to_ms);
            for window in windows.filter(|_| part.source == Source::Blocks) {
                let gone = layout.segment_expires_at_s(window) <= now_ms / 1_000;
                prop_assert!(window.start_ms < progress.compacted_before_ms.unwrap());
                prop_assert!(gone || !progress.dirty.contains_key(&window));
                prop_assert!(!layout.is_open(window, now_ms));
                prop_assert!(part.tier != Tier::Hour || progress.is_rolled(floor(window.start_ms, DAY_MS)));
            }
        }
        for pair in parts.windows(2) {
            prop_assert!(pair[0].to_ms < pair[1].from_ms);
            // Between two parts nothing is missing that is kept.
            prop_assert!(pair[0].to_ms + 1 == pair[1].from_ms || want != Want::Samples && pair[0].tier == Tier::Hour);
            // Only where the range begins or ends may a part stand for more than itself.
            let whole = pair[0].tier.resolution_ms().max(1);
            prop_assert_eq!((pair[0].to_ms + 1).rem_euclid(whole), 0);
            let whole = pair[1].tier.resolution_ms().max(1);
            prop_assert_eq!(pair[1].from_ms.rem_euclid(whole), 0);
        }
        // All of the raw retention is there; a minute of it may come as an aggregate.
        let raw_from = range.start_ms.max(now_ms - layout.retention.raw_ms);
        if raw_from <= range.end_ms {
            prop_assert!(parts.iter().any(|part| (part.from_ms..=part.to_ms).contains(&raw_from)));
            prop_assert_eq!(parts.last().map(|part| part.to_ms), Some(range.end_ms));
        }
        // A point of a coarse tier fits into the step where raw samples would have been there.
        for part in parts.iter().filter(|part| part.widened().0 >= ceil(now_ms - layout.retention.raw_ms, HOUR_MS)) {
            if part.source == Source::Blocks && part.tier != Tier::Raw {
                let Want::Step(step_ms) = want else {
                    return Err(TestCaseError::fail("coarse without a step"));
                };
                prop_assert_eq!(step_ms % part.tier.resolution_ms(), 0);
                prop_assert_eq!(part.widened(), (part.from_ms, part.to_ms));
            }
        }
    }
}
