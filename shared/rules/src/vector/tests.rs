use super::*;
use crate::rule::RuleSpec;
use serde_json::json;
use tidemark_model::{STALE_NAN_BITS, Sample};

fn query(extra: &serde_json::Value) -> Query {
    let mut body = json!({"name": "r", "metric_name": "m", "condition": ">", "threshold": 1});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    RuleSpec::parse(&body).unwrap().query
}

fn series(host: &str, values: &[f64]) -> SelectedSeries {
    let samples = values
        .iter()
        .zip(0..)
        .map(|(&value, timestamp_ms)| Sample { timestamp_ms, value });
    SelectedSeries {
        labels: Labels::from_pairs([("host", host), ("region", "eu")]).unwrap(),
        samples: samples.collect(),
    }
}

#[test]
fn without_aggregation_each_series_gives_its_latest_value() {
    let rows = vector(&query(&json!({})), &[series("a", &[5.0, 1.0]), series("b", &[3.0])]);
    let values: Vec<_> = rows
        .iter()
        .map(|row| (row.labels.get("host").unwrap(), row.value, row.holds))
        .collect();
    assert_eq!(values, [("a", 1.0, false), ("b", 3.0, true)]);
}

#[test]
fn a_series_that_ends_with_a_stale_marker_is_gone() {
    let stale = f64::from_bits(STALE_NAN_BITS);
    assert!(vector(&query(&json!({})), &[series("a", &[1.0, stale])]).is_empty());
    let rows = vector(&query(&json!({})), &[series("a", &[stale, 1.0, f64::NAN])]);
    assert!(rows[0].value.is_nan(), "an ordinary NaN is a value");
    for function in ["avg", "count", "last", "increase"] {
        let query = query(&json!({"aggregation": function}));
        assert!(vector(&query, &[series("a", &[stale])]).is_empty(), "{function}");
    }
}

#[test]
fn with_aggregation_each_group_gives_one_value() {
    let query = query(&json!({"aggregation": "avg", "group_by": ["region"]}));
    let rows = vector(&query, &[series("a", &[1.0, 2.0]), series("b", &[6.0])]);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].labels.get("region"), rows[0].value), (Some("eu"), 3.0));
    assert!(vector(&query, &[]).is_empty());
}

#[test]
fn the_reset_of_a_counter_is_no_fall_and_no_jump() {
    let given = [series("a", &[100.0, 130.0, 7.0, 12.0]), series("b", &[50.0])];
    for (function, window, value) in [
        ("increase", 60, 42.0),
        ("rate", 60, 0.7),
        ("last", 60, 62.0),
        ("min", 60, 7.0),
    ] {
        let query = query(&json!({"aggregation": function, "window_seconds": window}));
        let rows = vector(&query, &given);
        assert_eq!((rows.len(), rows[0].value), (1, value), "{function}");
    }
}

#[test]
fn a_heartbeat_always_has_one_row_that_holds() {
    let rows = vector(&Query::Heartbeat, &[]);
    assert_eq!((rows.len(), rows[0].value, rows[0].holds), (1, 1.0, true));
    assert!(rows[0].labels.is_empty());
    assert_eq!(range(&Query::Heartbeat, 0), None);
}

#[test]
fn ranges_are_left_open() {
    assert_eq!(range(&query(&json!({})), 1_000_000), Some((700_001, 1_000_000)));
    let minute = query(&json!({"aggregation": "max", "window_seconds": 60}));
    assert_eq!(range(&minute, 1_000_000), Some((940_001, 1_000_000)));
    assert_eq!(range(&minute, i64::MIN), Some((i64::MIN + 1, i64::MIN)));
}
