//! Samples that come after their window was closed.

use super::*;

const NOW: i64 = MIDNIGHT + 2 * HOUR_MS;

#[test]
fn late_samples_are_folded_into_chunk_minutes_and_hours_and_nothing_else_is_touched() {
    let mut plant = two_days();
    plant.compact(NOW);
    let start_ms = MIDNIGHT - 4 * HOUR_MS;
    let window = Window { start_ms };
    let untouched = plant.blocks(Tier::Raw, SLOW, start_ms);
    plant.write(
        NOW,
        Origin::Stream,
        &[(FAST, start_ms + 5_000, 9.0), (FAST, start_ms + 40_000, 8.0)],
    );
    assert!(!plant.progress(FAST).is_compacted(window));
    let report = plant.compact(NOW + 1);
    assert_eq!(
        (report.windows_folded, report.windows_compacted, report.series),
        (1, 0, 1)
    );
    // A chunk, minutes and hours: each in the place of an older one.
    assert_eq!((report.blocks_written, report.blocks_deleted), (3, 3));
    let progress = plant.progress(FAST);
    assert!(progress.is_compacted(window));
    assert_eq!(progress.folded, [(window, progress.epoch)].into());
    for (tier, start_ms) in [
        (Tier::Raw, start_ms),
        (Tier::Minute, start_ms),
        (Tier::Hour, MIDNIGHT - DAY_MS),
    ] {
        let blocks = block_on(plant.store.blocks(tier, id(FAST), start_ms, start_ms)).unwrap();
        let epochs: Vec<u32> = blocks.iter().map(|block| block.key.epoch).collect();
        assert_eq!(epochs, [progress.epoch], "{tier}");
    }
    assert_eq!(plant.blocks(Tier::Raw, SLOW, start_ms), untouched);
    assert_eq!(plant.check(), (2 * 5, 2));
    plant.finish(NOW);
}

#[test]
fn two_dirty_windows_of_one_day_and_a_new_series_are_folded_in_one_pass() {
    let mut plant = two_days();
    plant.compact(NOW);
    for hours in [-8, -6] {
        let at = MIDNIGHT + hours * HOUR_MS;
        plant.write(
            NOW,
            Origin::Operator,
            &[(FAST, at, 70.0), (("cpu", "new"), at + 1_000, 1.0)],
        );
    }
    let report = plant.compact(NOW + 1);
    assert_eq!(report.windows_folded, 2);
    plant.check();
    let hours = block_on(plant.store.blocks(Tier::Hour, id(FAST), MIDNIGHT - DAY_MS, MIDNIGHT)).unwrap();
    assert_eq!(hours.len(), 1);
    plant.finish(NOW);
}

#[test]
fn a_slow_series_that_gets_a_second_sample_in_a_minute_gets_minutes() {
    let mut plant = two_days();
    plant.compact(NOW);
    let start_ms = MIDNIGHT - 4 * HOUR_MS;
    plant.write(NOW, Origin::Stream, &[(SLOW, start_ms + 5_000, 9.0)]);
    plant.compact(NOW + 1);
    assert_eq!(plant.blocks(Tier::Minute, SLOW, start_ms).len(), 1);
    let chunk = plant.blocks(Tier::Raw, SLOW, start_ms).remove(0);
    assert_eq!(chunk.expires_at_s, (start_ms + 2 * HOUR_MS + 4 * DAY_MS) / 1_000);
    plant.finish(NOW);
}

#[test]
fn late_samples_whose_day_has_lost_segments_are_given_up_and_the_aggregates_stay() {
    let mut plant = two_days();
    plant.compact(NOW);
    let at = MIDNIGHT - 4 * HOUR_MS;
    let (chunk, hours) = (
        plant.blocks(Tier::Raw, FAST, at),
        plant.blocks(Tier::Hour, FAST, MIDNIGHT - DAY_MS),
    );
    let gone_ms = MIDNIGHT + 4 * DAY_MS;
    write(&plant.store, 100, gone_ms, Origin::Stream, &[(FAST, at + 1_000, 5.0)]);
    let report = plant.compact(gone_ms);
    assert_eq!((report.windows_given_up, report.windows_folded), (1, 0));
    assert!(plant.progress(FAST).dirty.is_empty());
    assert_eq!(plant.blocks(Tier::Raw, FAST, at), chunk);
    assert_eq!(plant.blocks(Tier::Hour, FAST, MIDNIGHT - DAY_MS), hours);
    plant.model.clear();
    plant.finish(gone_ms);
}

#[test]
fn what_is_noted_of_windows_is_forgotten_when_nobody_can_remember_them() {
    let mut plant = two_days();
    plant.compact(NOW);
    plant.write(NOW, Origin::Stream, &[(FAST, MIDNIGHT - 4 * HOUR_MS, 5.0)]);
    plant.compact(NOW + 1);
    assert_eq!(plant.progress(FAST).folded.len(), 1);
    plant.compact(MIDNIGHT + 7 * DAY_MS);
    assert!(plant.progress(FAST).folded.is_empty());
    assert_eq!(plant.progress(FAST).late_marks, 1);
}

/// A late sample of a known or an unknown series arrives between any two calls of a pass, and is lost nowhere.
#[test]
fn late_samples_that_come_while_a_pass_runs_are_found_by_it_or_make_their_window_dirty() {
    let mut plant = two_days();
    // Something of each kind is to be done: a window to fold on a day that is rolled, due windows, a due day.
    plant.compact(MIDNIGHT - 2 * HOUR_MS);
    plant.write(NOW, Origin::Stream, &[(FAST, MIDNIGHT - 8 * HOUR_MS, 5.0)]);
    let sound = Arc::new(Faulty::sound(Arc::new(plant.store.copy())));
    block_on(Compactor::new(Arc::clone(&sound), layout(), LEASE_MS).run(|| NOW, 0, never)).unwrap();
    let late = [
        (FAST, MIDNIGHT - 8 * HOUR_MS + 1_000),
        (FAST, MIDNIGHT - 2 * HOUR_MS + 1_000),
        (("cpu", "new"), MIDNIGHT - 2 * HOUR_MS + 1_000),
        (("newer", "a"), MIDNIGHT - 2 * HOUR_MS + 1_000),
    ];
    for (name, at) in late {
        for origin in [Origin::Stream, Origin::Operator] {
            for call in 0..sound.calls() {
                let mut plant = plant.copy();
                let (store, samples) = (Arc::clone(&plant.store), [(name, at, 77.0)]);
                let hook = move || write(&store, 50, NOW, origin, &samples);
                let store = Arc::new(Faulty::hooked(Arc::clone(&plant.store), call, hook));
                block_on(Compactor::new(store, layout(), LEASE_MS).run(|| NOW, 0, never)).unwrap();
                plant.model.entry(name).or_default().insert(at, 77.0);
                plant.check();
                plant.finish(NOW);
            }
        }
    }
}
