//! One question, one answer, whatever it is read from: segments, chunks, minutes or hours.

use super::*;
use crate::testing::{HOUR, House, MIDNIGHT, block_on};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use tidemark_model::{DAY_MS, Sample};

const FUNCTIONS: [&str; 8] = ["avg", "max", "min", "sum", "count", "last", "rate", "increase"];

/// The day that is asked about, and the end of the one before, so that something lies before each range.
const FIRST: i64 = MIDNIGHT - 6 * HOUR;
const COMPACTED: i64 = MIDNIGHT + DAY_MS + 3 * HOUR;

/// A series: `(milliseconds since the last sample, kind of value, size)`.
fn series(gap_ms: std::ops::Range<i64>, most: usize) -> impl Strategy<Value = Vec<Sample>> {
    let sample = (gap_ms, 0_u8..40, 0_i64..1_000);
    proptest::collection::vec(sample, most / 2..most).prop_map(|steps| {
        let (mut at, mut counter) = (FIRST, 0_i64);
        let sample = |(gap, kind, size): (i64, u8, i64)| {
            at += gap;
            counter = if kind == 0 { 0 } else { counter + size };
            let value = match kind {
                1 => f64::NAN,
                2 => f64::INFINITY,
                3 => size as f64 + 0.1,
                _ => counter as f64 / 10.0,
            };
            Sample {
                // What is pushed has seconds or milliseconds, and ends with the day after.
                timestamp_ms: at.min(MIDNIGHT + DAY_MS + HOUR),
                value,
            }
        };
        steps.into_iter().map(sample).collect()
    })
}

fn push(house: &mut House, all: &[Vec<Sample>]) {
    let names = ["a", "b", "slow", "z"];
    for (name, samples) in names.iter().zip(all) {
        let samples: Vec<_> = samples.iter().map(|at| (*name, at.timestamp_ms, at.value)).collect();
        house.push("cpu", &samples);
    }
}

/// `(labels, timestamp, value, count)`.
type Rows = Vec<(String, String, f64, u64)>;

fn ask(house: &House, now_ms: i64, parameters: &[(&str, String)]) -> (Rows, Vec<String>) {
    let mut all: HashMap<String, String> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    all.insert("metric_name".to_owned(), "cpu".to_owned());
    let query = Query::parse(&all, now_ms).unwrap();
    let body = block_on(query.run(&house.reader(), now_ms)).unwrap().body;
    let answer: Value = serde_json::from_slice(&body).unwrap();
    let value = |row: &Value| match &row["value"] {
        Value::String(text) => text.replace("Inf", "inf").parse().unwrap(),
        number => number.as_f64().unwrap(),
    };
    let rows = answer["results"].as_array().unwrap().iter().map(|row| {
        let count = row["count"].as_u64().unwrap();
        (
            row["labels"].to_string(),
            row["timestamp"].to_string(),
            value(row),
            count,
        )
    });
    let tiers = answer["tiers"].as_array().unwrap().iter();
    let tiers = tiers.map(|part| part["tier"].as_str().unwrap().to_owned()).collect();
    (rows.collect(), tiers)
}

fn assert_same(got: &Rows, wanted: &Rows, what: &str) {
    assert_eq!(got.len(), wanted.len(), "{what}\n{got:?}\n{wanted:?}");
    for (got, wanted) in got.iter().zip(wanted) {
        let names = |row: &(String, String, f64, u64)| (row.0.clone(), row.1.clone(), row.3);
        assert_eq!(names(got), names(wanted), "{what}");
        let near = (got.2 - wanted.2).abs() <= 1e-9 * wanted.2.abs().max(1.0);
        let same = near || got.2 == wanted.2 || (got.2.is_nan() && wanted.2.is_nan());
        assert!(same, "{what}: {got:?}, wanted {wanted:?}");
    }
}

fn parameters(range: (i64, i64), step: Option<&str>, function: &str, group_by: &str) -> Vec<(&'static str, String)> {
    let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
    let mut parameters = vec![
        ("start_time", seconds(range.0)),
        ("end_time", seconds(range.1)),
        ("aggregation", function.to_owned()),
        ("group_by", group_by.to_owned()),
    ];
    parameters.extend(step.map(|step| ("step", step.to_owned())));
    parameters
}

fn samples() -> impl Strategy<Value = Vec<Vec<Sample>>> {
    let of = (
        series(1_000..120_000, 900),
        series(1_000..90_000, 900),
        series(60_000..900_000, 200),
        series(1_000..3_000_000, 40),
    );
    of.prop_map(|(a, b, slow, z)| vec![a, b, slow, z])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn all_tiers_agree(
        all in samples(),
        late in series(600_000..9_000_000, 12),
        (from, length) in (0_i64..DAY_MS, HOUR..DAY_MS),
        group_by in prop_oneof![Just(""), Just("host"), Just("region")],
    ) {
        let mut plain = House::new(MIDNIGHT + DAY_MS + HOUR);
        push(&mut plain, &all);
        let mut compacted = House::new(MIDNIGHT + DAY_MS + HOUR);
        push(&mut compacted, &all);
        compacted.at(COMPACTED);
        compacted.compact();
        plain.at(COMPACTED);
        // Any range while raw samples are kept, whole hours later on.
        let any = (MIDNIGHT + from, (MIDNIGHT + from + length).min(MIDNIGHT + DAY_MS - 1));
        let day = (MIDNIGHT, MIDNIGHT + DAY_MS - 1);
        for function in FUNCTIONS {
            for step in [None, Some("90s"), Some("5m"), Some("1h"), Some("1d")] {
                for range in [any, day] {
                    let parameters = parameters(range, step, function, group_by);
                    let what = format!("{parameters:?}");
                    let (wanted, tiers) = ask(&plain, COMPACTED, &parameters);
                    prop_assert_eq!(&tiers, &["raw"]);
                    let (rows, _) = ask(&compacted, COMPACTED, &parameters);
                    assert_same(&rows, &wanted, &what);
                    let is_whole = step != Some("90s") && range == day;
                    if is_whole {
                        let (rows, tiers) = ask(&compacted, COMPACTED + 10 * DAY_MS, &parameters);
                        prop_assert_eq!(&tiers, if matches!(step, Some("1h" | "1d")) { &["1h"] } else { &["1m"] });
                        assert_same(&rows, &wanted, &format!("{what} later"));
                    }
                    if is_whole && step != Some("5m") {
                        let (rows, tiers) = ask(&compacted, COMPACTED + 40 * DAY_MS, &parameters);
                        prop_assert_eq!(&tiers, &["1h"]);
                        assert_same(&rows, &wanted, &format!("{what} much later"));
                    }
                }
            }
        }
        // Late samples: cut out of their day, then folded into it.
        for house in [&mut plain, &mut compacted] {
            push(house, &[late.clone(), late[..3].to_vec()]);
        }
        for _ in 0..2 {
            for function in FUNCTIONS {
                for step in [None, Some("5m"), Some("1h")] {
                    let parameters = parameters(day, step, function, group_by);
                    let (wanted, _) = ask(&plain, COMPACTED, &parameters);
                    let (rows, tiers) = ask(&compacted, COMPACTED, &parameters);
                    assert_same(&rows, &wanted, &format!("{parameters:?} from {tiers:?}"));
                }
            }
            compacted.compact();
        }
    }
}

#[test]
fn minutes_alone_serve_a_range_inside_a_minute_whole() {
    let mut house = House::new(MIDNIGHT + HOUR);
    let at = |seconds: i64| ("a", MIDNIGHT + seconds * 1_000, seconds as f64);
    house.push("cpu", &[at(0), at(30), at(70), at(110), at(130)]);
    house.at(COMPACTED);
    house.compact();
    let range = (MIDNIGHT + 65_000, MIDNIGHT + 100_000);
    let (rows, tiers) = ask(&house, MIDNIGHT + 9 * DAY_MS, &parameters(range, None, "count", ""));
    assert_eq!((rows[0].3, tiers), (2, vec!["1m".to_owned()]));
    let (rows, tiers) = ask(&house, MIDNIGHT + 32 * DAY_MS, &parameters(range, None, "count", ""));
    assert_eq!((rows[0].3, tiers), (5, vec!["1h".to_owned()]));
}
