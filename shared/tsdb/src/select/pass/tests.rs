use super::*;
use crate::layout::Layout;
use crate::memory::MemoryStore;
use crate::select::{Select, Selector};
use crate::store::{CatalogEntry, NewCatalogEntry, StoredSegment};
use crate::testing::{Asked, HOUR, House, MIDNIGHT, MINUTE, Watched, block_on, layout, selector};
use proptest::prelude::*;
use tidemark_model::{Bucket, Buckets, DAY_MS, LabelFilter, Labels, Period, SeriesId, limits};

/// Half past four in the afternoon: the last hour lies in two windows.
const NOW: i64 = MIDNIGHT + 16 * HOUR + 30 * MINUTE;

fn wanted(metric: &str, back_ms: i64) -> Wanted {
    Wanted {
        selector: selector(metric),
        start_ms: NOW - back_ms,
    }
}

fn of_host(metric: &str, host: &str, back_ms: i64) -> Wanted {
    let filter = LabelFilter::equal([("host", host)]).unwrap();
    Wanted {
        selector: Selector {
            metric: metric.to_owned(),
            filter,
        },
        start_ms: NOW - back_ms,
    }
}

fn many(reader: &Reader<Watched>, wanted: &[Wanted]) -> Vec<Result<Vec<SelectedSeries>, SelectError>> {
    block_on(async { reader.select_many(wanted, NOW).collect().await })
}

fn each(reader: &Reader<Watched>, wanted: &[Wanted]) -> Vec<Vec<SelectedSeries>> {
    let select = |one: &Wanted| block_on(reader.select(&one.selector, one.start_ms, NOW)).unwrap();
    wanted.iter().map(select).collect()
}

fn unwrapped(answers: Vec<Result<Vec<SelectedSeries>, SelectError>>) -> Vec<Vec<SelectedSeries>> {
    answers.into_iter().map(Result::unwrap).collect()
}

/// Three metrics of one bucket, some of it in the window before the last.
fn house() -> House {
    let mut house = House::new(NOW);
    for metric in ["cpu", "mem", "disk"] {
        house.push(metric, &[("a", NOW - 50 * MINUTE, 1.0), ("b", NOW - 40 * MINUTE, 2.0)]);
        house.push(metric, &[("a", NOW - MINUTE, 3.0), ("c", NOW - 10 * MINUTE, 4.0)]);
    }
    house
}

fn mixed() -> Vec<Wanted> {
    vec![
        wanted("cpu", 5 * MINUTE),
        of_host("cpu", "b", HOUR),
        wanted("cpu", HOUR),
        of_host("disk", "a", 30 * MINUTE),
        wanted("mem", HOUR),
        wanted("none", HOUR),
    ]
}

#[test]
fn however_many_selections_there_are_each_window_and_each_catalog_is_read_once() {
    let house = house();
    let reader = house.reader();
    let wanted = mixed();
    let cold = unwrapped(many(&reader, &wanted));
    let asked = house.watched.asked();
    assert_eq!((asked.segments, asked.segments_given, asked.catalogs), (2, 6, 4));
    assert_eq!((asked.progress, asked.blocks), (0, 0));
    assert_eq!(cold, each(&house.reader(), &wanted));
    house.watched.asked();
    assert_eq!(unwrapped(many(&reader, &wanted)), cold);
    let warm = Asked {
        segments: 2,
        ..Asked::default()
    };
    assert_eq!(house.watched.asked(), warm);
}

#[test]
fn a_reader_that_remembers_nothing_reads_each_once_too() {
    let house = house();
    let wanted = mixed();
    let reader = house.reader_with(0);
    for _ in 0..2 {
        many(&reader, &wanted);
        let asked = house.watched.asked();
        assert_eq!((asked.segments, asked.segments_given, asked.catalogs), (2, 6, 4));
    }
}

#[test]
fn no_selection_reads_nothing() {
    let house = house();
    assert!(many(&house.reader(), &[]).is_empty());
    assert_eq!(house.watched.asked(), Asked::default());
}

#[test]
fn a_selection_that_hits_a_limit_fails_alone() {
    let house = house();
    // More series than a query may read.
    let entry = |number: usize| NewCatalogEntry {
        metric: "big".to_owned(),
        period: Period::of(NOW),
        entry: CatalogEntry {
            id: SeriesId {
                name: 1,
                labels: number as u64,
            },
            labels: Labels::from_pairs([("n", number.to_string())]).unwrap(),
            reference: 1_000 + u32::try_from(number).unwrap(),
            first_seen_ms: NOW,
            late: false,
        },
        expires_at_s: i64::MAX,
    };
    let entries = (0..=limits::MAX_SERIES_PER_QUERY).map(entry).collect();
    block_on(house.store.add_to_catalog(entries)).unwrap();
    let wanted = [wanted("cpu", HOUR), wanted("big", HOUR), wanted("mem", HOUR)];
    let answers = many(&house.reader(), &wanted);
    assert!(matches!(answers[1], Err(SelectError::TooManySeries { .. })));
    assert!(answers[0].as_ref().is_ok_and(|series| series.len() == 3));
    assert!(answers[2].as_ref().is_ok_and(|series| series.len() == 3));
}

#[test]
fn when_what_they_share_cannot_be_read_all_fail() {
    let house = house();
    let window = layout().window.of(NOW);
    let mut broken: StoredSegment = block_on(house.store.segments(Bucket(0), window, None))
        .unwrap()
        .remove(0);
    broken.data = vec![255];
    broken.order.arrival_ms += 1;
    block_on(house.store.put_segments(vec![broken])).unwrap();
    let answers = many(&house.reader(), &mixed());
    assert_eq!(answers.len(), mixed().len());
    for answer in answers {
        assert!(matches!(answer, Err(SelectError::Store(StoreError::Corrupt { .. }))));
    }
}

#[test]
fn old_windows_come_from_blocks_or_are_held_once() {
    let mut house = House::new(MIDNIGHT + 2 * HOUR);
    let samples: Vec<_> = (0..240).map(|at| ("a", MIDNIGHT + at * 30_000, at as f64)).collect();
    for metric in ["cpu", "mem"] {
        house.push(metric, &samples);
    }
    house.at(MIDNIGHT + 8 * HOUR);
    house.push("cpu", &[("a", MIDNIGHT + 8 * HOUR, 1.0)]);
    house.at(NOW);
    let wanted = [
        wanted("cpu", 16 * HOUR + 30 * MINUTE),
        wanted("mem", DAY_MS),
        of_host("cpu", "a", DAY_MS),
    ];
    let answers = unwrapped(many(&house.reader(), &wanted));
    let before = house.watched.asked();
    // Nothing is compacted: nine windows of the day, and those of the evening before.
    assert_eq!((before.segments, before.catalogs, before.progress), (13, 2, 1));
    house.compact();
    let reader = house.reader();
    assert_eq!(unwrapped(many(&reader, &wanted)), answers);
    let after = house.watched.asked();
    assert_eq!((after.segments, after.catalogs, after.progress), (2, 2, 1));
    assert_eq!(unwrapped(many(&reader, &wanted)), answers);
    let warm = house.watched.asked();
    assert_eq!((warm.segments, warm.catalogs, warm.blocks, warm.progress), (2, 0, 0, 1));
}

#[test]
fn metrics_of_another_bucket_are_read_all_the_same() {
    let house = house();
    let divided = Layout {
        buckets: Buckets::new(64).unwrap(),
        ..layout()
    };
    let reader: Reader<MemoryStore> = Reader::new(Arc::clone(&house.store), divided, 0);
    let wanted = mixed();
    let answers: Vec<_> = block_on(async { reader.select_many(&wanted, NOW).collect().await });
    assert!(answers.iter().all(Result::is_ok));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn together_they_answer_what_each_answers_alone(
        pushes in proptest::collection::vec((0..3_usize, 0..4_usize, 0..1_000_i64, any::<bool>()), 1..60),
        asked in proptest::collection::vec((0..3_usize, proptest::option::of(0..4_usize), 1..1_000_i64), 1..20),
        compacts in any::<bool>(),
    ) {
        const METRICS: [&str; 3] = ["cpu", "mem", "disk"];
        const HOSTS: [&str; 4] = ["a", "b", "y", "z"];
        let mut house = House::new(NOW);
        for (metric, host, minutes, beside) in &pushes {
            let sample = (HOSTS[*host], NOW - minutes * MINUTE, *minutes as f64);
            if *beside {
                house.push_beside(METRICS[*metric], &[sample]);
            } else {
                house.push(METRICS[*metric], &[sample]);
            }
        }
        if compacts {
            house.compact();
        }
        let wanted: Vec<Wanted> = asked
            .iter()
            .map(|(metric, host, minutes)| match host {
                Some(host) => of_host(METRICS[*metric], HOSTS[*host], minutes * MINUTE),
                None => wanted(METRICS[*metric], minutes * MINUTE),
            })
            .collect();
        let alone = each(&house.reader(), &wanted);
        let reader = house.reader();
        prop_assert_eq!(&unwrapped(many(&reader, &wanted)), &alone);
        prop_assert_eq!(&unwrapped(many(&reader, &wanted)), &alone);
    }
}
