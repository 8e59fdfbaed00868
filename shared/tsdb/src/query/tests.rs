use super::*;
use serde_json::{Value, json};
use tidemark_model::{Labels, Sample};

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

const NOW: i64 = 1_767_225_600_000;

/// Series that are given, whatever is selected; nobody may look beyond what can be there.
struct Given(Vec<SelectedSeries>);

impl Select for Given {
    async fn select(&self, _: &Selector, start_ms: i64, end_ms: i64) -> Result<Vec<SelectedSeries>, SelectError> {
        assert!(end_ms <= NOW + 600_000, "looked for samples of the far future");
        let mut series = self.0.clone();
        for one in &mut series {
            one.samples
                .retain(|sample| (start_ms..=end_ms).contains(&sample.timestamp_ms));
        }
        series.retain(|one| !one.samples.is_empty());
        Ok(series)
    }
}

fn given(series: &[(&str, &[(i64, f64)])]) -> Given {
    let series = series.iter().map(|(host, samples)| SelectedSeries {
        labels: Labels::from_pairs([("host", *host), ("region", if *host < "m" { "eu" } else { "us" })]).unwrap(),
        samples: samples
            .iter()
            .map(|(ago, value)| Sample {
                timestamp_ms: NOW - ago * 1_000,
                value: *value,
            })
            .collect(),
    });
    Given(series.collect())
}

fn parse(parameters: &[(&str, &str)]) -> Result<Query, ApiError> {
    let parameters = parameters
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Query::parse(&parameters, NOW)
}

fn run(data: &Given, parameters: &[(&str, &str)]) -> Value {
    let query = parse(parameters).unwrap();
    let bytes = block_on(query.run(data, NOW - 86_400_000, NOW + 600_000)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn without_aggregation_the_samples_come_in_order_of_time() {
    let data = given(&[("a", &[(20, 1.0), (10, f64::NAN)]), ("z", &[(15, f64::NEG_INFINITY)])]);
    let answer = run(&data, &[("metric_name", "cpu")]);
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
}

#[test]
fn with_aggregation_there_is_one_result_for_each_group() {
    let data = given(&[("a", &[(20, 1.0), (10, 2.0)]), ("b", &[(10, 6.0)]), ("z", &[(15, 4.0)])]);
    let answer = run(
        &data,
        &[("metric_name", "cpu"), ("aggregation", "avg"), ("group_by", "region")],
    );
    assert_eq!(
        answer["results"],
        json!([
            {"labels": {"region": "eu"}, "value": 3.0, "count": 3, "timestamp": null},
            {"labels": {"region": "us"}, "value": 4.0, "count": 1, "timestamp": null},
        ])
    );
    let all = run(&data, &[("metric_name", "cpu"), ("aggregation", "count")]);
    assert_eq!(
        all["results"],
        json!([{"labels": {}, "value": 4.0, "count": 4, "timestamp": null}])
    );
}

#[test]
fn a_metric_without_samples_has_no_results() {
    let data = given(&[]);
    assert_eq!(run(&data, &[("metric_name", "cpu")])["results"], json!([]));
    assert_eq!(
        run(&data, &[("metric_name", "cpu"), ("aggregation", "sum")])["results"],
        json!([])
    );
}

#[test]
fn pages_cover_all_samples_without_a_gap_or_a_repeat() {
    let data = given(&[("a", &[(3, 1.0), (2, 2.0), (1, 3.0)]), ("z", &[(3, 4.0), (2, 5.0)])]);
    let whole = run(&data, &[("metric_name", "cpu")]);
    for limit in ["1", "2", "3", "4"] {
        let mut rows = Vec::new();
        let mut token = String::new();
        loop {
            let page = run(
                &data,
                &[("metric_name", "cpu"), ("limit", limit), ("next_token", &token)],
            );
            rows.extend(page["results"].as_array().unwrap().clone());
            match page.get("next_token") {
                Some(next) => token = next.as_str().unwrap().to_owned(),
                None => break,
            }
        }
        assert_eq!(Value::from(rows), whole["results"], "limit {limit}");
    }
}

#[test]
fn an_answer_never_passes_its_size_and_continues_on_the_next_page() {
    let samples: Vec<(i64, f64)> = (0..80_000)
        .map(|ago| (80_000 - ago, 0.123_456_789 * ago as f64))
        .collect();
    let data = given(&[("a", &samples)]);
    let query = parse(&[("metric_name", "cpu"), ("start_time", "2025-12-30T00:00:00Z")]).unwrap();
    let bytes = block_on(query.run(&data, NOW - 86_400_000, NOW + 600_000)).unwrap();
    assert!(bytes.len() < limits::MAX_RESPONSE_BYTES + 1_000);
    let page: Value = serde_json::from_slice(&bytes).unwrap();
    assert!(page["next_token"].is_string());
}

#[test]
fn pages_of_groups_continue_where_they_ended() {
    let data = given(&[("a", &[(1, 1.0)]), ("b", &[(1, 2.0)]), ("z", &[(1, 3.0)])]);
    let parameters = [
        ("metric_name", "cpu"),
        ("aggregation", "max"),
        ("group_by", "host"),
        ("limit", "2"),
    ];
    let first = run(&data, &parameters);
    assert_eq!(first["results"].as_array().unwrap().len(), 2);
    let token = first["next_token"].as_str().unwrap();
    let second = run(&data, &[&parameters[..], &[("next_token", token)]].concat());
    assert_eq!(second["results"][0]["labels"]["host"], "z");
    assert_eq!(second.get("next_token"), None);
}

#[test]
fn what_has_passed_the_retention_is_left_out() {
    let data = given(&[("a", &[(86_401, 1.0), (10, 2.0)])]);
    let answer = run(&data, &[("metric_name", "cpu"), ("start_time", "2025-12-01T00:00:00Z")]);
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
}

#[test]
fn a_range_that_ends_in_the_far_future_is_read_as_far_as_samples_can_be() {
    let data = given(&[("a", &[(10, 1.0)])]);
    let answer = run(
        &data,
        &[
            ("metric_name", "cpu"),
            ("end_time", "2026-06-01T00:00:00Z"),
            ("start_time", "2025-12-31T00:00:00Z"),
        ],
    );
    assert_eq!(answer["results"].as_array().unwrap().len(), 1);
}

#[test]
fn times_are_rfc_3339_or_unix_seconds_and_default_to_the_last_hour() {
    let query = parse(&[("metric_name", "cpu")]).unwrap();
    assert_eq!((query.start_ms, query.end_ms), (NOW - 3_600_000, NOW));
    let query = parse(&[
        ("metric_name", "cpu"),
        ("start_time", "1767225000"),
        ("end_time", "2026-01-01T00:00:00Z"),
    ])
    .unwrap();
    assert_eq!((query.start_ms, query.end_ms), (NOW - 600_000, NOW));
}

#[test]
fn labels_are_a_selector_or_an_object_of_equal_values() {
    let filter = |text: &str| {
        parse(&[("metric_name", "cpu"), ("labels", text)])
            .unwrap()
            .selector
            .filter
    };
    assert_eq!(
        filter(r#"{"host":"a","region":"eu"}"#),
        filter("{host='a',region=\"eu\"}")
    );
    assert_eq!(filter(" {} "), LabelFilter::default());
    // A quoted name is no JSON: the operator says so.
    assert_eq!(filter(r#"{"host"="a"}"#), filter(r#"{"host":"a"}"#));
    let labels = Labels::from_pairs([("host", "web-01"), ("path", "/api/users")]).unwrap();
    assert!(filter("{host=~`web-\\d+`,region!='eu',path=~'/api/.*'}").matches(&labels));
    assert!(!filter("{host!~'web-.*'}").matches(&labels));
}

#[test]
fn a_wrong_selector_says_where_and_a_wrong_pattern_for_which_label() {
    let message = |text: &str| parse(&[("metric_name", "cpu"), ("labels", text)]).unwrap_err().message;
    assert_eq!(
        message("{host=web-01}"),
        "labels cannot be read at character 7: expected a value in quotes"
    );
    assert_eq!(
        message("{host=~'web-(01'}"),
        "labels has a wrong pattern for `host`: unclosed group at its character 5"
    );
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
        (&[base, ("labels", "[]")], "labels"),
        (&[base, ("labels", "{host}")], "labels"),
        (&[base, ("labels", "{host=~'('}")], "labels"),
        (&[base, ("labels", "{\"host\":\"a\"")], "labels"),
        (&[base, ("aggregation", "median")], "aggregation"),
        (&[base, ("group_by", "host")], "group_by"),
        (
            &[base, ("aggregation", "avg"), ("group_by", "host,,region")],
            "group_by",
        ),
        (&[base, ("limit", "0")], "limit"),
        (&[base, ("next_token", "?")], "next_token"),
    ];
    for (parameters, field) in cases {
        let error = parse(parameters).unwrap_err();
        assert_eq!(
            (error.status, error.field.as_deref()),
            (400, Some(*field)),
            "{parameters:?}"
        );
    }
}
