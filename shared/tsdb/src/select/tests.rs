use super::*;
use crate::segment::{self, Entry};
use crate::sequence::SequenceNumber;
use crate::store::{CatalogEntry, NewCatalogEntry, SegmentOrder, StoredSegment};
use crate::testing::{Asked, HOUR, House, MIDNIGHT, MINUTE, Watched, block_on, layout, selector};
use tidemark_model::{Bucket, DAY_MS, Period, Window};

/// Five in the afternoon: the last hour lies in two windows.
const NOW: i64 = MIDNIGHT + 16 * HOUR + 30 * MINUTE;

fn select(reader: &Reader<Watched>, back_ms: i64, now_ms: i64) -> Vec<(String, Vec<f64>)> {
    rows(&block_on(reader.select(&selector("cpu"), now_ms - back_ms, now_ms)).unwrap())
}

fn rows(series: &[SelectedSeries]) -> Vec<(String, Vec<f64>)> {
    let row = |one: &SelectedSeries| {
        let host = one.labels.get("host").unwrap().to_owned();
        (host, one.samples.iter().map(|sample| sample.value).collect())
    };
    series.iter().map(row).collect()
}

fn host(name: &str, values: &[f64]) -> (String, Vec<f64>) {
    (name.to_owned(), values.to_vec())
}

/// Two series, with samples in the two windows of the last hour.
fn house() -> House {
    let mut house = House::new(NOW);
    house.push("cpu", &[("a", NOW - 50 * MINUTE, 1.0), ("b", NOW - 40 * MINUTE, 2.0)]);
    house.push("cpu", &[("a", NOW - MINUTE, 3.0)]);
    house.push("mem", &[("a", NOW - MINUTE, 9.0)]);
    house
}

#[test]
fn one_hour_takes_three_pages_cold_and_nothing_but_new_keys_warm() {
    let mut house = house();
    let reader = house.reader();
    let wanted = [host("a", &[1.0, 3.0]), host("b", &[2.0])];
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    let cold = house.watched.asked();
    assert_eq!((cold.segments, cold.catalogs, cold.blocks, cold.progress), (2, 1, 0, 0));
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    let warm = Asked {
        segments: 2,
        ..Asked::default()
    };
    assert_eq!(house.watched.asked(), warm);
    // One new segment: it, and the catalog of what came since.
    house.push("cpu", &[("c", NOW, 4.0)]);
    assert_eq!(select(&reader, HOUR, NOW).len(), 3);
    let new = house.watched.asked();
    assert_eq!((new.segments, new.segments_given, new.catalogs), (2, 1, 1));
}

#[test]
fn what_arrived_long_before_the_range_is_not_read() {
    let mut house = House::new(NOW - 25 * MINUTE);
    house.push("cpu", &[("a", NOW - 26 * MINUTE, 1.0)]);
    house.at(NOW - 10 * MINUTE);
    // As far in the future as any sample may lie.
    house.push("cpu", &[("a", NOW, 2.0)]);
    house.at(NOW);
    house.push("cpu", &[("a", NOW - MINUTE, 3.0)]);
    let reader = house.reader();
    assert_eq!(select(&reader, 2 * MINUTE, NOW), [host("a", &[3.0, 2.0])]);
    assert_eq!(house.watched.asked().segments_given, 2);
    assert_eq!(select(&reader, 2 * MINUTE, NOW), [host("a", &[3.0, 2.0])]);
    assert_eq!(house.watched.asked().segments_given, 0);
    // A longer range needs what was left out; a shorter one then reads nothing again.
    assert_eq!(select(&reader, 30 * MINUTE, NOW), [host("a", &[1.0, 3.0, 2.0])]);
    assert_eq!(house.watched.asked().segments_given, 3);
    assert_eq!(select(&reader, 2 * MINUTE, NOW), [host("a", &[3.0, 2.0])]);
    assert_eq!(house.watched.asked().segments_given, 0);
}

#[test]
fn new_series_are_read_alone() {
    let mut house = House::new(NOW);
    let names: Vec<String> = (0..50).map(|host| format!("host-{host:02}")).collect();
    let samples: Vec<_> = names.iter().map(|host| (host.as_str(), NOW, 1.0)).collect();
    house.push("cpu", &samples);
    house.at(NOW + 1_000);
    house.push("cpu", &[("host-00", NOW + 1, 1.0)]);
    let reader = house.reader();
    assert_eq!(select(&reader, HOUR, NOW + 1_000).len(), 50);
    house.watched.asked();
    house.at(NOW + 2_000);
    house.push("cpu", &[("new", NOW + 2, 1.0)]);
    assert_eq!(select(&reader, HOUR, NOW + 2_000).len(), 51);
    assert_eq!(house.watched.asked().entries_given, 1);
    house.push_beside("cpu", &[("newer", NOW + 3, 1.0)]);
    assert_eq!(select(&reader, HOUR, NOW + 2_000).len(), 52);
}

#[test]
fn what_an_operator_stores_is_found_each_time() {
    let mut house = house();
    let reader = house.reader();
    select(&reader, HOUR, NOW);
    house.push_beside("cpu", &[("a", NOW - MINUTE, 5.0), ("z", NOW - 2 * MINUTE, 6.0)]);
    let wanted = [host("a", &[1.0, 5.0]), host("b", &[2.0]), host("z", &[6.0])];
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    house.watched.asked();
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    let asked = house.watched.asked();
    assert_eq!((asked.segments_given, asked.catalogs), (1, 0));
    assert_eq!(select(&house.reader(), HOUR, NOW), wanted);
}

#[test]
fn segments_without_new_series_need_no_catalog() {
    let mut house = house();
    let reader = house.reader();
    select(&reader, HOUR, NOW);
    house.push("cpu", &[("a", NOW, 4.0), ("b", NOW, 5.0)]);
    house.push("mem", &[("a", NOW, 4.0)]);
    house.watched.asked();
    assert_eq!(
        select(&reader, HOUR, NOW),
        [host("a", &[1.0, 3.0, 4.0]), host("b", &[2.0, 5.0])]
    );
    let asked = house.watched.asked();
    assert_eq!((asked.segments_given, asked.catalogs), (2, 0));
}

#[test]
fn another_reference_of_a_series_is_found_wherever_it_was_entered() {
    let mut house = house();
    let reader = house.reader();
    select(&reader, HOUR, NOW);
    // A batch of long ago is delivered again, to a process that does not know the series: it enters it again, at that batch's
    // place, and names it so from now on.
    let window = layout().window.of(NOW);
    let period = Period::of(window.start_ms);
    let entries = block_on(house.store.catalog("cpu", period, None)).unwrap();
    let again = NewCatalogEntry {
        metric: "cpu".to_owned(),
        period,
        entry: CatalogEntry {
            reference: 70,
            first_seen_ms: entries[0].first_seen_ms - 1_000_000,
            ..entries[0].clone()
        },
        expires_at_s: i64::MAX,
    };
    block_on(house.store.add_to_catalog(vec![again])).unwrap();
    let arrival_ms = u64::try_from(NOW).unwrap() + 5;
    let segment = part_of(70, arrival_ms, 0, 0, 7.0);
    block_on(house.store.put_segments(vec![segment])).unwrap();
    let wanted = [host("a", &[1.0, 3.0, 7.0]), host("b", &[2.0])];
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    house.watched.asked();
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    assert_eq!(house.watched.asked().catalogs, 0);
    // New series of another metric are told apart once.
    house.at(NOW + 10);
    house.push("mem", &[("z", NOW, 1.0)]);
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    assert_eq!(house.watched.asked().catalogs, 2);
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    assert_eq!(house.watched.asked().catalogs, 0);
}

#[test]
fn readers_share_what_they_remember() {
    let house = house();
    let reader = house.reader();
    select(&reader.clone(), HOUR, NOW);
    house.watched.asked();
    select(&reader, HOUR, NOW);
    assert_eq!(house.watched.asked().segments_given, 0);
}

#[test]
fn without_room_everything_is_read_again_and_is_the_same() {
    let house = house();
    let reader = house.reader_with(0);
    for _ in 0..2 {
        assert_eq!(select(&reader, HOUR, NOW), [host("a", &[1.0, 3.0]), host("b", &[2.0])]);
        let asked = house.watched.asked();
        assert_eq!((asked.segments_given, asked.catalogs), (3, 1));
        assert_eq!(reader.remembered_bytes(), 0);
    }
}

/// A part of a batch of the one series of `cpu`.
fn part(arrival_ms: u64, part: u8, last_part: u8, value: f64) -> StoredSegment {
    part_of(0, arrival_ms, part, last_part, value)
}

fn part_of(reference: u32, arrival_ms: u64, part: u8, last_part: u8, value: f64) -> StoredSegment {
    let window = layout().window.of(NOW);
    let samples = [Sample {
        timestamp_ms: NOW - i64::from(part),
        value,
    }];
    let entry = Entry {
        reference,
        samples: &samples,
    };
    StoredSegment {
        bucket: Bucket(0),
        window,
        late: false,
        order: SegmentOrder {
            arrival_ms,
            last: SequenceNumber::parse(&arrival_ms.to_string()).unwrap(),
            shard: 0,
            first_hash: arrival_ms,
            part,
            last_part,
        },
        data: segment::encode(&[entry]),
        expires_at_s: i64::MAX,
    }
}

#[test]
fn a_batch_that_appears_part_by_part_is_found_whole_even_when_an_earlier_part_comes_later() {
    let mut house = House::new(NOW);
    house.push("cpu", &[("a", NOW - 30, 1.0)]);
    let later = u64::try_from(NOW).unwrap() + 1;
    let reader = house.reader();
    assert_eq!(select(&reader, HOUR, NOW), [host("a", &[1.0])]);
    let put = |part| block_on(house.store.put_segments(vec![part])).unwrap();
    // The consumer dies after the second of three parts, twice.
    put(part(later, 1, 2, 11.0));
    put(part(later + 1, 1, 2, 21.0));
    assert_eq!(select(&reader, HOUR, NOW), [host("a", &[1.0, 21.0])]);
    put(part(later, 0, 2, 10.0));
    put(part(later, 2, 2, 12.0));
    assert_eq!(select(&reader, HOUR, NOW), [host("a", &[1.0, 12.0, 21.0, 10.0])]);
    put(part(later + 1, 0, 2, 20.0));
    put(part(later + 1, 2, 2, 22.0));
    let wanted = [host("a", &[1.0, 22.0, 21.0, 20.0])];
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    house.watched.asked();
    assert_eq!(select(&reader, HOUR, NOW), wanted);
    assert_eq!(house.watched.asked().segments_given, 0);
}

/// A day of samples each half a minute, all compacted and rolled.
fn old_house() -> House {
    let mut house = House::new(MIDNIGHT + DAY_MS);
    let samples: Vec<_> = (0..2_880).map(|at| ("a", MIDNIGHT + at * 30_000, at as f64)).collect();
    house.push("cpu", &samples);
    let slow: Vec<_> = (0..288)
        .map(|at| ("slow", MIDNIGHT + at * 300_000, at as f64))
        .collect();
    house.push("cpu", &slow);
    house.at(MIDNIGHT + DAY_MS + 2 * HOUR);
    house.compact();
    house
}

fn range(start_ms: i64, end_ms: i64, want: Want, now_ms: i64) -> Range {
    Range {
        start_ms,
        end_ms,
        want,
        counter: false,
        now_ms,
    }
}

/// Samples and points of each series.
fn counts(tiered: &Tiered) -> Vec<(usize, usize)> {
    tiered
        .series
        .iter()
        .map(|one| (one.samples.len(), one.points.len()))
        .collect()
}

#[test]
fn compacted_windows_are_read_from_blocks_and_those_are_remembered() {
    let house = old_house();
    let reader = house.reader();
    let read = |want, from, to| {
        let range = range(from, to, want, house.now());
        counts(&block_on(reader.select_tiers(&selector("cpu"), &range)).unwrap())
    };
    let day = (MIDNIGHT, MIDNIGHT + DAY_MS - 1);
    assert_eq!(read(Want::Step(HOUR), day.0, day.1), [(0, 24), (0, 24)]);
    let asked = house.watched.asked();
    assert_eq!((asked.segments, asked.progress, asked.blocks), (0, 1, 2));
    assert_eq!(read(Want::Step(MINUTE), day.0, day.1), [(0, 1_440), (0, 288)]);
    // The slow series has no minutes: its chunks say the same.
    assert_eq!(house.watched.asked().blocks, 3);
    assert_eq!(read(Want::Finest, day.0, day.1), [(2_880, 0), (288, 0)]);
    assert_eq!(house.watched.asked().blocks, 1);
    for want in [Want::Finest, Want::Step(MINUTE), Want::Step(HOUR)] {
        read(want, day.0, day.1);
    }
    let warm = Asked {
        progress: 3,
        ..Asked::default()
    };
    assert_eq!(house.watched.asked(), warm);
    assert_eq!(
        read(Want::Step(MINUTE), MIDNIGHT + 30_000, MIDNIGHT + 3 * HOUR),
        [(2, 179), (1, 35)]
    );
}

#[test]
fn late_data_is_read_from_segments_until_it_is_folded_and_from_new_blocks_then() {
    let mut house = old_house();
    let reader = house.reader();
    let day = range(MIDNIGHT, MIDNIGHT + DAY_MS - 1, Want::Step(HOUR), house.now());
    let sum = |reader: &Reader<Watched>| {
        let tiered = block_on(reader.select_tiers(&selector("cpu"), &day)).unwrap();
        let of = |one: &TieredSeries| {
            let samples: f64 = one.samples.iter().map(|sample| sample.value).sum();
            samples + one.points.iter().map(|(_, point)| point.sum).sum::<f64>()
        };
        let sums: Vec<f64> = tiered.series.iter().map(of).collect();
        (sums, tiered.parts.len())
    };
    let (a, slow) = (2_879.0 * 1_440.0, 287.0 * 144.0);
    assert_eq!(sum(&reader), (vec![a, slow], 1));
    house.push(
        "cpu",
        &[
            ("a", MIDNIGHT + 7 * HOUR + 1, 1_000.0),
            ("new", MIDNIGHT + 7 * HOUR, 5.0),
        ],
    );
    let wanted = vec![a + 1_000.0, 5.0, slow];
    assert_eq!(sum(&reader), (wanted.clone(), 3));
    house.watched.asked();
    house.compact();
    assert_eq!(sum(&reader), (wanted.clone(), 1));
    assert_eq!(sum(&house.reader()), (wanted.clone(), 1));
    house.watched.asked();
    assert_eq!(sum(&reader), (wanted, 1));
    assert_eq!(house.watched.asked().blocks, 0);
}

#[test]
fn a_series_that_appears_while_its_windows_are_compacted_is_found_by_a_reader_that_knew_the_others() {
    let mut house = old_house();
    let reader = house.reader();
    let now = house.now();
    let read = |now_ms| {
        let range = range(MIDNIGHT, MIDNIGHT + DAY_MS + 4 * HOUR, Want::Finest, now_ms);
        block_on(reader.select_tiers(&selector("cpu"), &range))
            .unwrap()
            .series
            .len()
    };
    assert_eq!(read(now), 2);
    // Stored and compacted before the reader comes again: it sees no new segment.
    house.push("cpu", &[("b", MIDNIGHT + DAY_MS + HOUR, 1.0)]);
    house.at(now + 6 * HOUR);
    house.compact();
    assert_eq!(read(now + 6 * HOUR), 3);
}

#[test]
fn blocks_beyond_the_room_are_read_again() {
    let house = old_house();
    let reader = house.reader_with(3_000);
    let day = range(MIDNIGHT, MIDNIGHT + DAY_MS - 1, Want::Finest, house.now());
    for _ in 0..2 {
        let tiered = block_on(reader.select_tiers(&selector("cpu"), &day)).unwrap();
        assert_eq!(counts(&tiered), [(2_880, 0), (288, 0)]);
        assert!(house.watched.asked().blocks_given > 12);
        assert!(reader.remembered_bytes() <= 3_000);
    }
}

#[test]
fn a_block_of_a_pass_that_began_after_the_progress_was_read_is_not_taken() {
    let house = old_house();
    let block = house
        .store
        .all_blocks()
        .into_iter()
        .find(|block| block.key.tier == Tier::Raw)
        .unwrap();
    let mut newer = block.clone();
    newer.key.epoch += 7;
    newer.data = vec![255];
    block_on(house.store.put_blocks(vec![newer.clone()])).unwrap();
    let day = range(MIDNIGHT, MIDNIGHT + DAY_MS - 1, Want::Finest, house.now());
    let reader = house.reader();
    assert!(block_on(reader.select_tiers(&selector("cpu"), &day)).is_ok());
    house.watched.asked();
    // It is not remembered either: that pass may have changed the window.
    assert!(block_on(reader.select_tiers(&selector("cpu"), &day)).is_ok());
    assert_eq!(house.watched.asked().blocks, 1);
}

#[test]
fn a_sample_of_some_hours_ago_is_found_in_its_own_window() {
    let mut house = house();
    let before: Window = layout().window.of(NOW - 3 * HOUR);
    house.push("cpu", &[("old", before.start_ms, 8.0)]);
    assert_eq!(select(&house.reader(), 5 * HOUR, NOW).len(), 3);
}

#[test]
fn too_many_samples_are_refused() {
    let mut held = Held {
        series: vec![TieredSeries {
            labels: Labels::default(),
            samples: Vec::new(),
            points: Vec::new(),
        }],
        count: limits::MAX_SELECTED_SAMPLES,
    };
    assert!(held.reached(0));
    held.samples(
        0,
        &[Sample {
            timestamp_ms: 0,
            value: 0.0,
        }],
    );
    assert!(!held.reached(0));
}
