//! `GET /api/v1/query`: every parameter, and what is refused.

use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::expect::{Samples, labels, query_samples, sample, until_same};
use tidemark_tests::harness::{now_ms, unique};

const QUERY: &str = "/api/v1/query";

/// Three hosts in two regions, a sample a second for ten seconds; the value is `10 * host + second`. Returns when all are
/// readable.
async fn ten_seconds(api: &Api, metric: &str, start_ms: i64) -> anyhow::Result<()> {
    let (mut body, mut wanted) = (Vec::new(), Samples::new());
    for (host, region) in [("1", "eu"), ("2", "eu"), ("3", "us")] {
        for second in 0..10_i64 {
            let value = host.parse::<f64>()? * 10.0 + second as f64;
            let labels = labels([("host", host), ("region", region)]);
            body.push(sample(metric, &labels, start_ms + second * 1_000, value));
            wanted.insert((labels, start_ms + second * 1_000), value.to_bits());
        }
    }
    api.push(&Value::Array(body)).await?;
    until_same(api, metric, &wanted, start_ms, start_ms + 10_000).await
}

async fn results(api: &Api, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
    let mut answer = api.get(QUERY, parameters).await?.expect(200)?;
    assert!(answer["metric_name"].is_string(), "{answer}");
    Ok(answer["results"].take())
}

fn count(results: &Value) -> usize {
    results.as_array().unwrap().len()
}

#[tokio::test]
async fn samples_come_with_labels_value_and_time_and_in_order_of_time() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_query"), now_ms() - 600_000);
    ten_seconds(&api, &metric, start).await?;
    let answer = api.get(QUERY, &[("metric_name", &metric)]).await?.expect(200)?;
    assert_eq!(answer["metric_name"], metric.as_str());
    let first = &answer["results"][0];
    assert_eq!(first["timestamp"], Timestamp(start).to_rfc3339(), "{first}");
    assert_eq!(first["count"], 1, "{first}");
    assert_eq!(
        first["labels"].as_object().map(serde_json::Map::len),
        Some(2),
        "{first}"
    );
    let times: Vec<&str> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["timestamp"].as_str().unwrap())
        .collect();
    assert_eq!(times.len(), 30);
    assert!(times.is_sorted(), "{times:?}");
    Ok(())
}

#[tokio::test]
async fn a_range_holds_both_of_its_ends_and_takes_both_forms_of_time() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_range"), now_ms() - 2 * 3_600_000);
    ten_seconds(&api, &metric, start).await?;
    let at = |second: i64| start + second * 1_000;
    for (from, to, wanted) in [(at(2), at(4), 9), (at(2), at(2), 3), (at(2) + 1, at(3) - 1, 0)] {
        let texts = [from, to].map(|ms| Timestamp(ms).to_rfc3339());
        let seconds = [from, to].map(|ms| format!("{}.{:03}", ms / 1_000, ms % 1_000));
        for [from, to] in [texts, seconds] {
            let found = results(
                &api,
                &[("metric_name", &metric), ("start_time", &from), ("end_time", &to)],
            )
            .await?;
            assert_eq!(count(&found), wanted, "{from} to {to}: {found}");
        }
    }
    // Two hours ago is not in the last hour, which is what a query without a start asks for; with an end, the hour before it.
    assert_eq!(count(&results(&api, &[("metric_name", &metric)]).await?), 0);
    let end = Timestamp(at(0) + 3_600_000).to_rfc3339();
    let found = results(&api, &[("metric_name", &metric), ("end_time", &end)]).await?;
    assert_eq!(count(&found), 30);
    let start = Timestamp(at(0)).to_rfc3339();
    let found = results(&api, &[("metric_name", &metric), ("start_time", &start)]).await?;
    assert_eq!(count(&found), 30);
    Ok(())
}

#[tokio::test]
async fn labels_filter_and_groups_aggregate() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_groups"), now_ms() - 600_000);
    ten_seconds(&api, &metric, start).await?;
    let ask = async |more: &[(&str, &str)]| {
        let mut parameters = vec![("metric_name", metric.as_str())];
        parameters.extend(more);
        results(&api, &parameters).await
    };
    assert_eq!(count(&ask(&[("labels", r#"{"region":"eu"}"#)]).await?), 20);
    assert_eq!(count(&ask(&[("labels", r#"{"region":"eu","host":"3"}"#)]).await?), 0);
    // A label that nothing has matches only the empty value, as in Prometheus.
    assert_eq!(count(&ask(&[("labels", r#"{"rack":""}"#)]).await?), 30);
    assert_eq!(count(&ask(&[("labels", r#"{"rack":"1"}"#)]).await?), 0);
    let one = |labels: Value, value: f64, count: u64| json!({"labels": labels, "value": value, "count": count, "timestamp": null});
    for (aggregation, value) in [
        ("avg", 24.5),
        ("max", 39.0),
        ("min", 10.0),
        ("sum", 735.0),
        ("count", 30.0),
    ] {
        let found = ask(&[("aggregation", aggregation)]).await?;
        assert_eq!(found, json!([one(json!({}), value, 30)]), "{aggregation}");
    }
    let found = ask(&[("aggregation", "max"), ("group_by", "region")]).await?;
    let wanted = json!([
        one(json!({"region": "eu"}), 29.0, 20),
        one(json!({"region": "us"}), 39.0, 10)
    ]);
    assert_eq!(found, wanted);
    let filter = r#"{"region":"eu"}"#;
    let found = ask(&[("aggregation", "sum"), ("group_by", "host,region"), ("labels", filter)]).await?;
    let wanted = json!([
        one(json!({"host": "1", "region": "eu"}), 145.0, 10),
        one(json!({"host": "2", "region": "eu"}), 245.0, 10),
    ]);
    assert_eq!(found, wanted);
    assert_eq!(
        ask(&[("aggregation", "sum"), ("labels", r#"{"host":"9"}"#)]).await?,
        json!([])
    );
    Ok(())
}

#[tokio::test]
async fn selectors_filter_as_in_prometheus() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_matchers"), now_ms() - 600_000);
    ten_seconds(&api, &metric, start).await?;
    for (filter, wanted) in [
        ("{}", 30),
        (r#"{region="eu"}"#, 20),
        (r#"{region="eu",host="3"}"#, 0),
        ("{region!='eu'}", 10),
        ("{host=~'1|3'}", 20),
        ("{host=~`[12]`,region=~'e.*'}", 20),
        ("{host!~'1|3',}", 10),
        (r#"{"host"=~"\\d"}"#, 30),
        // A pattern is matched against the whole value.
        ("{region=~'e'}", 0),
        // A label that nothing has is empty, for every operator.
        ("{rack!='1'}", 30),
        ("{rack=~'.*'}", 30),
        ("{rack=~'.+'}", 0),
        ("{rack!~'.+'}", 30),
    ] {
        let found = results(&api, &[("metric_name", &metric), ("labels", filter)]).await?;
        assert_eq!(count(&found), wanted, "{filter}: {found}");
    }
    let parameters = [
        ("metric_name", metric.as_str()),
        ("aggregation", "sum"),
        ("labels", "{region!~'us|ap-.*'}"),
    ];
    let found = results(&api, &parameters).await?;
    assert_eq!(
        found,
        json!([{"labels": {}, "value": 390.0, "count": 20, "timestamp": null}])
    );
    Ok(())
}

#[tokio::test]
async fn pages_give_every_sample_once() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_pages"), now_ms() - 600_000);
    ten_seconds(&api, &metric, start).await?;
    let whole = query_samples(&api, &metric, start, start + 10_000).await?;
    let mut paged = Vec::new();
    let mut token = String::new();
    loop {
        let mut parameters = vec![("metric_name", metric.as_str()), ("limit", "7")];
        if !token.is_empty() {
            parameters.push(("next_token", &token));
        }
        let page = api.get(QUERY, &parameters).await?.expect(200)?;
        let rows = page["results"].as_array().unwrap().clone();
        assert!(rows.len() <= 7);
        paged.extend(rows);
        match page["next_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(paged.len(), whole.len());
    let parameters = [
        ("metric_name", metric.as_str()),
        ("aggregation", "count"),
        ("group_by", "host"),
        ("limit", "2"),
    ];
    let groups = api.all_pages(QUERY, "results", &parameters).await?;
    assert_eq!(groups.len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_is_not_known_is_an_empty_answer() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let metric = unique("e2e_unknown");
    let answer = api.get(QUERY, &[("metric_name", &metric)]).await?.expect(200)?;
    assert_eq!(
        (&answer["metric_name"], &answer["results"]),
        (&json!(metric), &json!([]))
    );
    let parameters = [("metric_name", metric.as_str()), ("aggregation", "avg")];
    let answer = api.get(QUERY, &parameters).await?.expect(200)?;
    assert_eq!(
        (&answer["metric_name"], &answer["results"]),
        (&json!(metric), &json!([]))
    );
    Ok(())
}

#[tokio::test]
async fn a_wrong_parameter_is_named() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    api.get(QUERY, &[])
        .await?
        .is_error(400, "invalid-parameter", "metric_name")?;
    for (name, bad) in [
        ("metric_name", ""),
        ("start_time", "yesterday"),
        ("start_time", "2999-01-01T00:00:00Z"),
        ("start_time", "2020-01-01T00:00:00Z"),
        ("end_time", "1e400"),
        ("labels", "host=web"),
        ("labels", "[]"),
        ("labels", "{host=web}"),
        ("labels", "{host=~'('}"),
        ("labels", r"{host=~`(\w{100}){100}`}"),
        ("labels", r#"{"host":1}"#),
        ("aggregation", "median"),
        ("group_by", "host"),
        ("limit", "0"),
        ("limit", "many"),
        ("next_token", "%%%"),
    ] {
        let mut parameters = vec![("metric_name", "m")];
        parameters.retain(|(known, _)| *known != name);
        parameters.push((name, bad));
        let answer = api.get(QUERY, &parameters).await?;
        answer.is_error(400, "invalid-parameter", name)?;
    }
    let parameters = [("metric_name", "m"), ("aggregation", "sum"), ("group_by", "host,,")];
    api.get(QUERY, &parameters)
        .await?
        .is_error(400, "invalid-parameter", "group_by")?;
    Ok(())
}
