use super::*;
use crate::testing::{HOUR, House, MIDNIGHT, MINUTE, Watched, block_on};
use serde_json::{Value, json};
use std::collections::HashMap;
use tidemark_model::DAY_MS;

/// 2026-01-01T00:00:00Z, a midnight.
const NOW: i64 = MIDNIGHT;

/// Series of `cpu`, by host, seconds before now and value.
fn given(series: &[(&str, &[(i64, f64)])]) -> House {
    let mut house = House::new(NOW);
    let samples: Vec<_> = series
        .iter()
        .flat_map(|(host, samples)| samples.iter().map(|(ago, value)| (*host, NOW - ago * 1_000, *value)))
        .collect();
    if !samples.is_empty() {
        house.push("cpu", &samples);
    }
    house
}

fn parse_at(parameters: &[(&str, &str)], now_ms: i64) -> Result<Query, ApiError> {
    let parameters: HashMap<String, String> = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Query::parse(&parameters, now_ms)
}

fn parse(parameters: &[(&str, &str)]) -> Result<Query, ApiError> {
    parse_at(parameters, NOW)
}

fn run_on(reader: &Reader<Watched>, parameters: &[(&str, &str)], now_ms: i64) -> Value {
    let query = parse_at(parameters, now_ms).unwrap();
    let answered = block_on(query.run(reader, now_ms)).unwrap();
    serde_json::from_slice(&answered.body).unwrap()
}

fn run(house: &House, parameters: &[(&str, &str)]) -> Value {
    run_on(&house.reader(), parameters, house.now())
}

fn pages(house: &House, parameters: &[(&str, &str)], limit: &str) -> Value {
    let mut rows = Vec::new();
    let mut token = String::new();
    loop {
        let page = run(
            house,
            &[parameters, &[("limit", limit), ("next_token", &token)]].concat(),
        );
        rows.extend(page["results"].as_array().unwrap().clone());
        match page.get("next_token") {
            Some(next) => token = next.as_str().unwrap().to_owned(),
            None => return rows.into(),
        }
    }
}

#[test]
fn without_aggregation_the_samples_come_in_order_of_time() {
    let house = given(&[("a", &[(20, 1.0), (10, f64::NAN)]), ("z", &[(15, f64::NEG_INFINITY)])]);
    let answer = run(&house, &[("metric_name", "cpu")]);
    assert_eq!(answer["metric_name"], "cpu");
    let rows: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["labels"]["host"], &row["value"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!("a"), &json!(1.0)),
            (&json!("z"), &json!("-Inf")),
            (&json!("a"), &json!("NaN"))
        ]
    );
    assert_eq!(answer["results"][0]["timestamp"], "2025-12-31T23:59:40.000Z");
    assert_eq!(answer.get("next_token"), None);
    assert_eq!(
        answer["tiers"],
        json!([{"tier": "raw", "start_time": "2025-12-31T23:00:00.000Z", "end_time": "2026-01-01T00:00:00.000Z"}])
    );
}

#[test]
fn with_aggregation_there_is_one_result_for_each_group() {
    let house = given(&[("a", &[(20, 1.0), (10, 2.0)]), ("b", &[(10, 6.0)]), ("z", &[(15, 4.0)])]);
    let answer = run(
        &house,
        &[("metric_name", "cpu"), ("aggregation", "avg"), ("group_by", "region")],
    );
    assert_eq!(
        answer["results"],
        json!([
            {"labels": {"region": "eu"}, "value": 3.0, "count": 3, "timestamp": null},
            {"labels": {"region": "us"}, "value": 4.0, "count": 1, "timestamp": null},
        ])
    );
    let all = run(&house, &[("metric_name", "cpu"), ("aggregation", "count")]);
    assert_eq!(
        all["results"],
        json!([{"labels": {}, "value": 4.0, "count": 4, "timestamp": null}])
    );
}

#[test]
fn with_a_step_each_series_has_its_mean_at_multiples_of_the_step() {
    let house = given(&[
        ("a", &[(130, 1.0), (110, 2.0), (70, 4.0), (0, 8.0)]),
        ("z", &[(60, 5.0)]),
    ]);
    let answer = run(&house, &[("metric_name", "cpu"), ("step", "1m")]);
    let rows: Vec<_> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["labels"]["host"], &row["timestamp"], &row["value"], &row["count"]))
        .collect();
    assert_eq!(
        rows,
        [
            (&json!("a"), &json!("2025-12-31T23:57:00.000Z"), &json!(1.0), &json!(1)),
            (&json!("a"), &json!("2025-12-31T23:58:00.000Z"), &json!(3.0), &json!(2)),
            (&json!("a"), &json!("2026-01-01T00:00:00.000Z"), &json!(8.0), &json!(1)),
            (&json!("z"), &json!("2025-12-31T23:59:00.000Z"), &json!(5.0), &json!(1)),
        ]
    );
}

#[test]
fn a_counter_rises_by_its_steps_and_over_its_resets() {
    let house = given(&[
        ("a", &[(150, 10.0), (120, 16.0), (90, 20.0), (59, 3.0), (30, 9.0)]),
        ("b", &[(90, 1.0), (30, 2.0)]),
    ]);
    let values = |function: &str, extra: &[(&str, &str)]| {
        let parameters = [&[("metric_name", "cpu"), ("aggregation", function)], extra].concat();
        let answer = run(&house, &parameters);
        let rows = answer["results"].as_array().unwrap().iter();
        rows.map(|row| row["value"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(values("increase", &[]), [20.0]);
    assert_eq!(values("increase", &[("group_by", "host")]), [19.0, 1.0]);
    // The steps into a minute belong to it.
    assert_eq!(values("increase", &[("step", "60")]), [0.0, 10.0, 10.0]);
    assert_eq!(values("rate", &[("step", "60")]), [0.0, 10.0 / 60.0, 10.0 / 60.0]);
    assert_eq!(values("rate", &[]), [20.0 / 3_600.0]);
    assert_eq!(values("last", &[]), [11.0]);
    assert_eq!(values("last", &[("step", "60")]), [10.0, 21.0, 11.0]);
}

#[test]
fn a_metric_without_samples_has_no_results() {
    let house = given(&[]);
    assert_eq!(run(&house, &[("metric_name", "cpu")])["results"], json!([]));
    for function in ["sum", "rate"] {
        let answer = run(
            &house,
            &[("metric_name", "cpu"), ("aggregation", function), ("step", "1m")],
        );
        assert_eq!(answer["results"], json!([]));
    }
}

#[test]
fn pages_cover_all_samples_without_a_gap_or_a_repeat() {
    let house = given(&[
        ("a", &[(9_000, 0.0), (3, 1.0), (2, 2.0), (1, 3.0)]),
        ("z", &[(3, 4.0), (2, 5.0)]),
    ]);
    let base = [("metric_name", "cpu"), ("start_time", "2025-12-31T00:00:00Z")];
    let whole = run(&house, &base);
    assert_eq!(whole["results"].as_array().unwrap().len(), 6);
    for limit in ["1", "2", "3", "4", "6", "7"] {
        assert_eq!(pages(&house, &base, limit), whole["results"], "limit {limit}");
    }
}

#[test]
fn pages_of_values_cover_all_groups_and_steps_without_a_gap_or_a_repeat() {
    let samples: Vec<(i64, f64)> = (0..10).map(|ago| (ago * 45, ago as f64)).collect();
    let house = given(&[("a", &samples), ("b", &samples[3..]), ("z", &samples[..4])]);
    for extra in [&[("step", "1m")][..], &[("aggregation", "max"), ("group_by", "host")]] {
        let base = [&[("metric_name", "cpu")], extra].concat();
        let whole = run(&house, &base);
        for limit in ["1", "2", "5", "30"] {
            assert_eq!(pages(&house, &base, limit), whole["results"], "limit {limit}");
        }
    }
}

#[test]
fn an_answer_never_passes_its_size_and_continues_on_the_next_page() {
    let samples: Vec<(i64, f64)> = (0..80_000)
        .map(|ago| (80_000 - ago, 0.123_456_789 * ago as f64))
        .collect();
    let house = given(&[("a", &samples)]);
    let base = [("metric_name", "cpu"), ("start_time", "2025-12-30T00:00:00Z")];
    let query = parse(&base).unwrap();
    let body = block_on(query.run(&house.reader(), NOW)).unwrap().body;
    assert!(body.len() < limits::MAX_RESPONSE_BYTES + 1_000);
    let page: Value = serde_json::from_slice(&body).unwrap();
    let token = page["next_token"].as_str().unwrap();
    let rest = run(&house, &[&base[..], &[("next_token", token)]].concat());
    let count = |page: &Value| page["results"].as_array().unwrap().len();
    assert_eq!(count(&page) + count(&rest), samples.len());
}

#[test]
fn what_has_passed_the_retention_is_left_out() {
    let mut house = given(&[("a", &[(6 * 86_400, 1.0), (10, 2.0)])]);
    house.at(NOW + DAY_MS);
    house.push("cpu", &[("a", NOW + DAY_MS - 1_000, 3.0)]);
    // Nobody has compacted: there are no aggregates of what is older.
    let base = [("metric_name", "cpu"), ("start_time", "2025-12-01T00:00:00Z")];
    assert_eq!(run(&house, &base)["results"].as_array().unwrap().len(), 3);
    house.at(NOW + DAY_MS + 1_000);
    let rows = run(&house, &base)["results"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 3, "its minute is kept longer");
    house.at(NOW + 25 * DAY_MS);
    let rows = run(&house, &base)["results"].clone();
    assert_eq!(rows.as_array().unwrap().len(), 2, "older than the minutes: {rows}");
}

#[test]
fn a_range_that_ends_in_the_far_future_is_read_as_far_as_samples_can_be_and_not_kept() {
    let house = given(&[("a", &[(10, 1.0)])]);
    let base = [
        ("metric_name", "cpu"),
        ("end_time", "2026-06-01T00:00:00Z"),
        ("start_time", "2025-12-31T00:00:00Z"),
    ];
    let answered = block_on(parse(&base).unwrap().run(&house.reader(), NOW)).unwrap();
    let answer: Value = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
    assert_eq!(answered.evidence, None);
}

#[test]
fn each_part_of_a_long_range_says_which_tier_served_it() {
    let mut house = House::new(NOW);
    for day in 0..40 {
        house.at(NOW + (day + 1) * DAY_MS);
        let at = |minutes: i64| NOW + day * DAY_MS + minutes * MINUTE;
        house.push(
            "cpu",
            &[("a", at(60), 1.0), ("a", at(60) + 5_000, 3.0), ("a", at(600), 4.0)],
        );
        house.compact();
    }
    house.at(NOW + 40 * DAY_MS + 2 * HOUR);
    house.compact();
    house.store.expire(house.now() / 1_000);
    let base = [("metric_name", "cpu"), ("start_time", "2026-01-01T00:00:00Z")];
    let answer = run(&house, &base);
    let tiers: Vec<_> = answer["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| &part["tier"])
        .collect();
    assert_eq!(tiers, ["1h", "1m", "raw"]);
    let whole = [
        ("aggregation", "sum"),
        ("aggregation", "count"),
        ("aggregation", "increase"),
    ];
    let values = whole.map(|function| {
        let answer = run(&house, &[&base[..], &[function]].concat());
        answer["results"][0]["value"].as_f64().unwrap()
    });
    // Each day rises by 2 and 1, and is a reset to 1 for the next one.
    assert_eq!(values, [320.0, 120.0, 40.0 * 3.0 + 39.0]);
    let daily = run(&house, &[&base[..], &[("step", "1d"), ("aggregation", "sum")]].concat());
    let rows = daily["results"].as_array().unwrap();
    assert!(rows.len() == 40 && rows.iter().all(|row| row["value"] == 8.0 && row["count"] == 3));
}

#[test]
fn times_are_rfc_3339_or_unix_seconds_and_default_to_the_last_hour() {
    let query = parse(&[("metric_name", "cpu")]).unwrap();
    assert_eq!((query.start_ms, query.end_ms), (NOW - 3_600_000, NOW));
    let query = parse_at(&[("metric_name", "cpu")], NOW + 1).unwrap();
    assert_eq!((query.start_ms, query.end_ms), (NOW - 3_590_000, NOW + 10_000));
    let start_s = (NOW / 1_000 - 600).to_string();
    let query = parse(&[
        ("metric_name", "cpu"),
        ("start_time", &start_s),
        ("end_time", "2026-01-01T00:00:00Z"),
    ])
    .unwrap();
    assert_eq!((query.start_ms, query.end_ms), (NOW - 600_000, NOW));
}

#[test]
fn each_bad_parameter_is_named() {
    let base = ("metric_name", "cpu");
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "metric_name"),
        (&[base, ("start_time", "soon")], "start_time"),
        (&[base, ("end_time", "1767225600000")], "end_time"),
        (&[base, ("start_time", "20"), ("end_time", "10")], "start_time"),
        (&[base, ("start_time", "0"), ("end_time", "1767225600")], "start_time"),
        (&[base, ("labels", "host=a")], "labels"),
        (&[base, ("labels", "{\"host\":1}")], "labels"),
        (&[base, ("aggregation", "median")], "aggregation"),
        (&[base, ("group_by", "host")], "group_by"),
        (&[base, ("group_by", "host"), ("step", "1m")], "group_by"),
        (
            &[base, ("aggregation", "avg"), ("group_by", "host,,region")],
            "group_by",
        ),
        (&[base, ("limit", "0")], "limit"),
        (&[base, ("next_token", "?")], "next_token"),
        (&[base, ("step", "often")], "step"),
        (&[base, ("step", "0")], "step"),
        (&[base, ("step", "1000d")], "step"),
        (
            &[base, ("step", "1s"), ("start_time", "10000"), ("end_time", "21000")],
            "step",
        ),
    ];
    for (parameters, field) in cases {
        let error = parse(parameters).unwrap_err();
        assert_eq!(
            (error.status, error.field.as_deref()),
            (400, Some(*field)),
            "{parameters:?}"
        );
    }
    let most = [base, ("step", "1s"), ("start_time", "10000"), ("end_time", "20999")];
    assert!(parse(&most).is_ok());
}

#[test]
fn a_token_of_another_kind_of_answer_is_refused() {
    let house = given(&[("a", &[(3, 1.0), (2, 2.0)])]);
    let samples = [("metric_name", "cpu"), ("limit", "1")];
    let values = [("metric_name", "cpu"), ("limit", "1"), ("step", "1s")];
    for (one, other) in [(&samples[..], &values[..]), (&values[..], &samples[..])] {
        let page = run(&house, one);
        let token = page["next_token"].as_str().unwrap();
        let query = parse(&[other, &[("next_token", token)]].concat()).unwrap();
        let error = block_on(query.run(&house.reader(), NOW)).unwrap_err();
        assert_eq!((error.status, error.field.as_deref()), (400, Some("next_token")));
    }
}

#[test]
fn queries_that_differ_have_different_names_and_the_same_has_the_same() {
    let base = ("metric_name", "cpu");
    let token = Place::Group { labels: 7, start_ms: 1 }.token();
    let queries: &[&[(&str, &str)]] = &[
        &[base],
        &[("metric_name", "cpu2")],
        &[base, ("labels", "{\"host\":\"a\"}")],
        &[base, ("labels", "{\"host\":\"b\"}")],
        &[base, ("labels", "{\"cpu\":\"\"}")],
        &[base, ("start_time", "1767222000.001")],
        &[base, ("end_time", "1767225600.001")],
        &[base, ("step", "60")],
        &[base, ("step", "61")],
        &[base, ("aggregation", "avg")],
        &[base, ("aggregation", "avg"), ("group_by", "a,b")],
        &[base, ("aggregation", "avg"), ("group_by", "a")],
        &[base, ("limit", "1")],
        &[base, ("next_token", &token)],
    ];
    let names: std::collections::BTreeSet<_> = queries
        .iter()
        .map(|query| parse(query).unwrap().fingerprint())
        .collect();
    assert_eq!(names.len(), queries.len());
    let name = |query: &[(&str, &str)]| parse(query).unwrap().fingerprint();
    assert_eq!(
        name(&[base, ("step", "1m"), ("aggregation", "avg"), ("group_by", "b, a")]),
        name(&[
            ("group_by", "a,b"),
            ("aggregation", "avg"),
            base,
            ("step", "60"),
            ("x", "y")
        ])
    );
    assert_eq!(name(&[base]).len(), 32);
}
