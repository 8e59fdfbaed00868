use super::*;
use crate::testing::{HOUR, House, MIDNIGHT, MINUTE, Watched, block_on};
use std::collections::HashMap;
use tidemark_model::DAY_MS;

const NOW: i64 = MIDNIGHT + DAY_MS + 9 * HOUR + 30 * MINUTE;

fn query(parameters: &[(&str, i64)], now_ms: i64) -> Query {
    let mut all: HashMap<String, String> = parameters
        .iter()
        .map(|(name, at)| ((*name).to_owned(), (at / 1_000).to_string()))
        .collect();
    all.insert("metric_name".to_owned(), "cpu".to_owned());
    Query::parse(&all, now_ms).unwrap()
}

fn ask(house: &House, reader: &Reader<Watched>, cache: &impl AnswerCache, query: &Query) -> (usize, Found) {
    let (body, found) = block_on(answer(query, reader, cache, false, house.now())).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    (json["results"].as_array().unwrap().len(), found)
}

/// A day and some hours of samples every ten minutes, compacted as is due.
fn house() -> House {
    let mut house = House::new(NOW);
    let samples: Vec<_> = (0..200)
        .map(|at| ("a", MIDNIGHT + at * 10 * MINUTE, at as f64))
        .collect();
    house.push("cpu", &samples);
    house.compact();
    house
}

#[test]
fn an_answer_is_given_again_until_something_new_is_stored() {
    let mut house = house();
    let (reader, cache) = (house.reader(), MemoryAnswers::default());
    let query = query(&[], NOW);
    let (rows, found) = ask(&house, &reader, &cache, &query);
    assert_eq!(found, Found::Miss);
    house.watched.asked();
    assert_eq!(ask(&house, &reader, &cache, &query), (rows, Found::Hit));
    let asked = house.watched.asked();
    assert_eq!((asked.segments, asked.segments_given, asked.progress), (1, 0, 0));
    // Whatever arrives in the bucket's open windows.
    house.push("mem", &[("a", NOW, 1.0)]);
    assert_eq!(ask(&house, &reader, &cache, &query), (rows, Found::Miss));
    assert_eq!(ask(&house, &reader, &cache, &query), (rows, Found::Hit));
    house.push("cpu", &[("a", NOW - 1_000, 1.0)]);
    assert_eq!(ask(&house, &reader, &cache, &query), (rows + 1, Found::Miss));
    assert_eq!(ask(&house, &house.reader(), &cache, &query), (rows + 1, Found::Hit));
    house.push_beside("cpu", &[("a", NOW - 2_000, 1.0)]);
    assert_eq!(ask(&house, &reader, &cache, &query), (rows + 2, Found::Miss));
}

#[test]
fn closed_windows_need_the_progress_alone_and_late_data_ends_what_was_kept() {
    let mut house = house();
    let (reader, cache) = (house.reader(), MemoryAnswers::default());
    let query = query(
        &[("start_time", MIDNIGHT), ("end_time", MIDNIGHT + DAY_MS - 1_000)],
        NOW,
    );
    assert_eq!(ask(&house, &reader, &cache, &query), (144, Found::Miss));
    house.push("cpu", &[("a", NOW, 1.0)]);
    house.watched.asked();
    assert_eq!(ask(&house, &reader, &cache, &query), (144, Found::Hit));
    let asked = house.watched.asked();
    assert_eq!((asked.segments, asked.blocks, asked.progress), (0, 0, 1));
    house.push("cpu", &[("a", MIDNIGHT + 1_000, 1.0)]);
    assert_eq!(ask(&house, &reader, &cache, &query), (145, Found::Miss));
    house.compact();
    assert_eq!(ask(&house, &reader, &cache, &query), (145, Found::Hit));
}

#[test]
fn windows_that_should_be_compacted_and_are_not_are_never_kept() {
    let mut house = House::new(NOW);
    house.push("cpu", &[("a", MIDNIGHT, 1.0)]);
    let (reader, cache) = (house.reader(), MemoryAnswers::default());
    let query = query(&[("start_time", MIDNIGHT)], NOW);
    for rows in 1..4 {
        assert_eq!(ask(&house, &reader, &cache, &query), (rows, Found::Miss));
        house.push("cpu", &[("a", MIDNIGHT + 1_000 * rows as i64, 1.0)]);
    }
}

#[test]
fn an_answer_expires_by_the_age_of_its_newest_data() {
    for (end_ms, seconds) in [(NOW - MINUTE, 60), (NOW - 2 * HOUR, 300), (NOW - DAY_MS - 1_000, 3_600)] {
        let house = house();
        let (reader, cache) = (house.reader(), MemoryAnswers::default());
        let query = query(&[("start_time", MIDNIGHT), ("end_time", end_ms)], NOW);
        assert_eq!(ask(&house, &reader, &cache, &query).1, Found::Miss);
        house.at(NOW + (seconds - 1) * 1_000);
        assert_eq!(ask(&house, &reader, &cache, &query).1, Found::Hit, "{seconds}");
        house.at(NOW + seconds * 1_000);
        assert_eq!(ask(&house, &reader, &cache, &query).1, Found::Miss, "{seconds}");
    }
}

#[test]
fn who_wants_a_fresh_answer_gets_it_and_leaves_it_for_the_others() {
    let house = house();
    let (reader, cache) = (house.reader(), MemoryAnswers::default());
    let query = query(&[], NOW);
    let old = CachedAnswer {
        body: compress::zstd(br#"{"results":[]}"#, 1).unwrap(),
        evidence: block_on(query.run(&reader, NOW)).unwrap().evidence.unwrap().to_bytes(),
        expires_at_s: NOW / 1_000 + 60,
    };
    block_on(cache.put(&query.fingerprint(), old)).unwrap();
    assert_eq!(ask(&house, &reader, &cache, &query), (0, Found::Hit));
    let (_, found) = block_on(answer(&query, &reader, &cache, true, NOW)).unwrap();
    assert_eq!(found, Found::Miss);
    let (rows, found) = ask(&house, &reader, &cache, &query);
    assert!(rows > 0 && found == Found::Hit);
}

#[test]
fn an_answer_that_fits_no_item_is_not_kept() {
    let mut house = House::new(NOW);
    let mut noise = 1_u64;
    let samples: Vec<_> = (0..50_000)
        .map(|at| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ("a", NOW - 3_000_000 + at * 60, noise as f64)
        })
        .collect();
    house.push("cpu", &samples);
    let (reader, cache) = (house.reader(), MemoryAnswers::default());
    let query = query(&[], NOW);
    assert_eq!(ask(&house, &reader, &cache, &query).1, Found::Miss);
    assert_eq!(block_on(cache.get(&query.fingerprint())).unwrap(), None);
}

/// A cache that is down.
struct Down;

impl AnswerCache for Down {
    async fn get(&self, _: &str) -> Result<Option<CachedAnswer>, StoreError> {
        Err(down())
    }

    async fn put(&self, _: &str, _: CachedAnswer) -> Result<(), StoreError> {
        Err(down())
    }
}

fn down() -> StoreError {
    StoreError::Unavailable {
        operation: "GetItem",
        source: None,
    }
}

#[test]
fn a_cache_that_is_down_fails_no_query_and_neither_does_an_entry_that_is_none() {
    let house = house();
    let reader = house.reader();
    let query = query(&[], NOW);
    let (rows, found) = ask(&house, &reader, &Down, &query);
    assert!(rows > 0 && found == Found::Miss);
    let cache = MemoryAnswers::default();
    let good = block_on(query.run(&reader, NOW)).unwrap().evidence.unwrap().to_bytes();
    for (body, evidence) in [(vec![1, 2], good), (vec![], vec![]), (vec![0; 50], vec![9; 12])] {
        let entry = CachedAnswer {
            body,
            evidence,
            expires_at_s: i64::MAX,
        };
        block_on(cache.put(&query.fingerprint(), entry)).unwrap();
        assert_eq!(ask(&house, &reader, &cache, &query), (rows, Found::Miss));
    }
}
