//! `POST /api/v1/metrics`: what is accepted, refused, and told.

use anyhow::ensure;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::io::Write as _;
use tidemark_model::{Timestamp, limits};
use tidemark_tests::harness::api::{Answer, Api, Request};
use tidemark_tests::harness::expect::{Samples, labels, until_same};
use tidemark_tests::harness::{eventually, now_ms, unique};

const PUSH: &str = "/api/v1/metrics";

async fn push(api: &Api, body: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
    api.call("POST", PUSH, Request::json(body)).await
}

#[tokio::test]
async fn one_metric_or_many_may_be_pushed() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, from) = (unique("e2e_push"), now_ms() - 1_000);
    let accepted = |n: u64| json!({"status": "accepted", "accepted": n, "rejected": 0, "errors": []});
    let alone = json!({"name": metric, "value": 1.5});
    assert_eq!(push(&api, alone.to_string()).await?.expect(202)?, accepted(1));
    let at = now_ms();
    let rfc = Timestamp(at).to_rfc3339();
    let batch = json!({
        "agent": "unknown fields are ignored",
        "metrics": [
            {"name": metric, "value": 2, "labels": {"via": "rfc3339"}, "timestamp": rfc, "unit": "s"},
            {"name": metric, "value": "+Inf", "labels": {"via": "seconds"}, "timestamp": at / 1_000},
            {"name": metric, "value": 4e-3, "labels": {"via": "null"}, "timestamp": null},
        ],
    });
    assert_eq!(push(&api, batch.to_string()).await?.expect(202)?, accepted(3));
    assert_eq!(push(&api, "{\"metrics\":[]}").await?.expect(202)?, accepted(0));
    let until = now_ms() + 1_000;
    eventually("four samples", async || {
        let (from, until) = (Timestamp(from).to_rfc3339(), Timestamp(until).to_rfc3339());
        let parameters = [
            ("metric_name", metric.as_str()),
            ("start_time", from.as_str()),
            ("end_time", until.as_str()),
        ];
        let found = api.get("/api/v1/query", &parameters).await?.expect(200)?;
        let rows = found["results"].as_array().unwrap();
        ensure!(rows.len() == 4, "{found}");
        let value = |labels: Value| rows.iter().find(|row| row["labels"] == labels).map(|row| &row["value"]);
        ensure!(value(json!({})) == Some(&json!(1.5)), "{found}");
        ensure!(value(json!({"via": "rfc3339"})) == Some(&json!(2.0)), "{found}");
        ensure!(value(json!({"via": "seconds"})) == Some(&json!("+Inf")), "{found}");
        ensure!(value(json!({"via": "null"})) == Some(&json!(0.004)), "{found}");
        let of_text = rows.iter().find(|row| row["labels"]["via"] == "rfc3339");
        ensure!(of_text.is_some_and(|row| row["timestamp"] == rfc.as_str()), "{found}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn good_samples_go_on_and_bad_ones_are_named() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, at) = (unique("e2e_partial"), now_ms());
    let time = at as f64 / 1_000.0;
    let body = json!({"metrics": [
        {"name": metric, "value": 1, "timestamp": time},
        {"name": "", "value": 1},
        {"name": metric, "value": "many"},
        {"name": metric, "value": 1, "labels": {"host": 7}},
        {"name": metric, "value": 1, "timestamp": "yesterday"},
        {"name": metric, "labels": {}},
        7,
        {"name": metric, "value": 2, "labels": {"kept": "yes"}, "timestamp": time},
    ]});
    let answer = push(&api, body.to_string()).await?.expect(202)?;
    assert_eq!(
        (&answer["status"], &answer["accepted"], &answer["rejected"]),
        (&json!("accepted"), &json!(2), &json!(6)),
        "{answer}"
    );
    let errors = answer["errors"].as_array().unwrap();
    let named: Vec<(u64, &str)> = errors
        .iter()
        .map(|error| {
            assert!(
                error["reason"].as_str().is_some_and(|reason| reason.len() > 5),
                "{error}"
            );
            assert_eq!(error.as_object().unwrap().len(), 3, "{error}");
            (error["index"].as_u64().unwrap(), error["field"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        named,
        [
            (1, "name"),
            (2, "value"),
            (3, "labels.host"),
            (4, "timestamp"),
            (5, "value"),
            (6, "")
        ]
    );
    let wanted = Samples::from([
        ((labels([]), at), 1.0_f64.to_bits()),
        ((labels([("kept", "yes")]), at), 2.0_f64.to_bits()),
    ]);
    until_same(&api, &metric, &wanted, at - 60_000, at + 60_000).await
}

#[tokio::test]
async fn a_request_without_one_good_sample_is_refused_as_a_whole() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let body = json!({"metrics": [{"name": "m", "value": "x"}, {"name": "m"}]});
    let answer = push(&api, body.to_string()).await?;
    answer.is_error(400, "all-samples-rejected", "value")?;
    assert_eq!(
        (&answer.json["accepted"], &answer.json["rejected"]),
        (&json!(0), &json!(2))
    );
    assert_eq!(answer.json["errors"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[tokio::test]
async fn what_is_no_push_is_refused() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    for body in [
        "",
        "{",
        "not json",
        "[]",
        "\"x\"",
        "{}",
        "{\"metrics\":{}}",
        "{\"metrics\":[{\"name\":\"a\",]}",
    ] {
        let answer = push(&api, body).await?;
        answer.is_error(400, "invalid-body", "")?;
    }
    // Not UTF-8: as bytes of no text type, so that no gateway changes them.
    let request = Request::default()
        .header("content-type", "application/octet-stream")
        .body(b"{\"name\":\"\xff\",\"value\":1}".to_vec());
    api.call("POST", PUSH, request)
        .await?
        .is_error(400, "invalid-body", "")?;
    let request = Request::json("{}").header("content-encoding", "br");
    api.call("POST", PUSH, request)
        .await?
        .is_error(415, "unsupported-encoding", "")?;
    let request = Request::json("{\"name\":\"a\",\"value\":1}").header("content-encoding", "gzip");
    api.call("POST", PUSH, request)
        .await?
        .is_error(400, "invalid-body", "")?;
    Ok(())
}

pub(crate) fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_packed_body_is_unpacked_up_to_a_limit() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, at) = (unique("e2e_gzip"), now_ms());
    let body = json!({"name": metric, "value": -0.5, "timestamp": at as f64 / 1_000.0}).to_string();
    let request = Request::json(gzip(body.as_bytes())).header("content-encoding", "gzip");
    let answer = api.call("POST", PUSH, request).await?.expect(202)?;
    assert_eq!(answer["accepted"], 1, "{answer}");
    let wanted = Samples::from([((labels([]), at), (-0.5_f64).to_bits())]);
    until_same(&api, &metric, &wanted, at - 60_000, at + 60_000).await?;

    // A small body that unpacks to more than the function's memory could hold.
    let mut bomb = b"{\"metrics\":[".to_vec();
    bomb.resize(40_000_000, b' ');
    let request = Request::json(gzip(&bomb)).header("content-encoding", "gzip");
    assert!(request.body.len() < 100_000);
    api.call("POST", PUSH, request)
        .await?
        .is_error(413, "body-too-large", "")?;
    Ok(())
}

#[tokio::test]
async fn too_many_samples_are_refused_as_a_whole() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let metric = unique("e2e_too_many");
    let sample = format!("{{\"name\":\"{metric}\",\"value\":1}},");
    let mut body = String::from("{\"metrics\":[");
    body.push_str(&sample.repeat(limits::MAX_SAMPLES_PER_REQUEST + 1));
    body.pop();
    body.push_str("]}");
    let request = Request::json(gzip(body.as_bytes())).header("content-encoding", "gzip");
    api.call("POST", PUSH, request)
        .await?
        .is_error(413, "too-many-samples", "")?;
    let found = api
        .get("/api/v1/query", &[("metric_name", &metric)])
        .await?
        .expect(200)?;
    assert_eq!(found["results"], Value::Array(Vec::new()));
    Ok(())
}
