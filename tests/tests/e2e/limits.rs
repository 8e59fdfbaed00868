//! What is just within the limits is stored, what is just beyond is refused and named.

use crate::push::gzip;
use rand::Rng as _;
use serde_json::{Value, json};
use std::fmt::Write as _;
use tidemark_model::limits;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::expect::{Labels, Samples, labels, sample, until_same};
use tidemark_tests::harness::{now_ms, random, unique};

const PUSH: &str = "/api/v1/metrics";

/// `name` filled up to so many bytes.
fn padded(name: &str, bytes: usize) -> String {
    format!("{name}{}", "x".repeat(bytes - name.len()))
}

async fn refused(api: &Api, metric: &str, labels: &Labels, ms: i64, field: &str) -> anyhow::Result<()> {
    let body = json!({"metrics": [sample(metric, labels, ms, 1.0)]});
    let answer = api.post(PUSH, &body).await?;
    answer.is_error(400, "all-samples-rejected", field)?;
    assert_eq!(answer.json["errors"][0]["field"], field, "{}", answer.json);
    Ok(())
}

#[tokio::test]
async fn the_longest_names_and_values_are_stored_and_one_byte_more_is_not() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let now = now_ms();
    let longest = padded(&unique("e2e_longest"), limits::MAX_METRIC_NAME_BYTES);
    let label = padded("label", limits::MAX_LABEL_NAME_BYTES);
    let value = padded("value", limits::MAX_LABEL_VALUE_BYTES);
    let set = labels([(&label, &value), ("empty", "")]);
    api.push(&json!([
        sample(&longest, &set, now, 1.0),
        sample(&longest, &labels([]), now, 2.0)
    ]))
    .await?;
    let wanted = Samples::from([((set, now), 1.0_f64.to_bits()), ((labels([]), now), 2.0_f64.to_bits())]);
    until_same(&api, &longest, &wanted, now - 1_000, now + 1_000).await?;

    refused(&api, &format!("{longest}x"), &labels([]), now, "name").await?;
    let too_long = format!("{label}x");
    let field = format!("labels.{too_long}");
    let body = json!({"metrics": [sample("m", &labels([(&too_long, "1")]), now, 1.0)]});
    let answer = api.post(PUSH, &body).await?;
    assert_eq!(answer.status, 400, "{}", answer.json);
    let named = answer.json["errors"][0]["field"].as_str().unwrap();
    // A name that is itself too long need not be repeated in full.
    assert!(
        named == "labels" || field.starts_with(named.trim_end_matches('…')),
        "{named}"
    );
    refused(&api, "m", &labels([("host", &format!("{value}x"))]), now, "labels.host").await
}

#[tokio::test]
async fn a_series_may_have_64_labels_and_not_65() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, now) = (unique("e2e_labels"), now_ms());
    let many = |count: usize| -> Labels {
        (0..count)
            .map(|number| (format!("label_{number:02}"), format!("value {number}")))
            .collect()
    };
    let most = limits::MAX_LABELS_PER_SERIES;
    assert_eq!(most, 64);
    api.push(&json!([sample(&metric, &many(most), now, 1.0)])).await?;
    refused(&api, &metric, &many(most + 1), now, "labels").await?;
    let wanted = Samples::from([((many(most), now), 1.0_f64.to_bits())]);
    until_same(&api, &metric, &wanted, now - 1_000, now + 1_000).await
}

#[tokio::test]
async fn samples_reach_back_to_the_retention_and_ten_minutes_ahead() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, now) = (unique("e2e_times"), now_ms());
    let retention = 7 * 86_400_000;
    // A minute of air for a slow run; the borders themselves are unit-tested to the millisecond.
    let (oldest, newest) = (now - retention + 60_000, now + limits::MAX_FUTURE_MS - 1_000);
    let times = [oldest, oldest + 86_400_000, now - 3 * 3_600_000 - 1, now, newest];
    let (mut body, mut wanted) = (Vec::new(), Samples::new());
    for (number, ms) in times.into_iter().enumerate() {
        body.push(sample(&metric, &labels([]), ms, number as f64));
        wanted.insert((labels([]), ms), (number as f64).to_bits());
    }
    api.push(&Value::Array(body)).await?;
    refused(&api, &metric, &labels([]), now - retention - 1_000, "timestamp").await?;
    refused(
        &api,
        &metric,
        &labels([]),
        now + limits::MAX_FUTURE_MS + 60_000,
        "timestamp",
    )
    .await?;
    refused(&api, &metric, &labels([]), 0, "timestamp").await?;
    until_same(&api, &metric, &wanted, oldest, newest).await
}

/// A body of nearly `bytes`, each sample a series of its own with a random label, so that it does not compress away.
fn large_body(metric: &str, bytes: usize, at: i64) -> (String, Samples) {
    let mut random = random(metric);
    let seconds = format!("{}.{:03}", at / 1_000, at % 1_000);
    let (mut body, mut wanted) = (String::from("{\"metrics\":["), Samples::new());
    loop {
        let id = format!("{:0256x}", 0).replace('0', "");
        let id = (0..64).fold(id, |mut id, _| {
            let _ = write!(id, "{:08x}", random.random::<u32>());
            id
        });
        let value: f64 = random.random();
        let sample =
            format!(r#"{{"name":"{metric}","labels":{{"id":"{id}"}},"timestamp":{seconds},"value":{value:?}}},"#);
        if body.len() + sample.len() + 2 > bytes {
            body.pop();
            body.push_str("]}");
            return (body, wanted);
        }
        body.push_str(&sample);
        wanted.insert((labels([("id", &id)]), at), value.to_bits());
    }
}

#[tokio::test]
async fn the_largest_plain_body_is_stored_and_a_larger_one_refused() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, at) = (unique("e2e_plain"), now_ms());
    let (body, wanted) = large_body(&metric, limits::MAX_BODY_BYTES, at);
    assert!(body.len() > limits::MAX_BODY_BYTES - 1_000);
    let answer = api.call("POST", PUSH, Request::json(body)).await?.expect(202)?;
    assert_eq!(answer["accepted"], wanted.len(), "{}", answer["errors"]);
    until_same(&api, &metric, &wanted, at - 1_000, at + 1_000).await?;

    let (body, _) = large_body(&unique("e2e_larger"), limits::MAX_BODY_BYTES + 2_000, at);
    assert!(body.len() > limits::MAX_BODY_BYTES);
    let answer = api.call("POST", PUSH, Request::json(body)).await?;
    answer.is_error(413, "body-too-large", "")?;
    Ok(())
}

#[tokio::test]
async fn the_largest_packed_body_is_stored() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, at) = (unique("e2e_packed"), now_ms());
    // Hexadecimal digits pack to half.
    let (body, wanted) = large_body(&metric, 8_200_000, at);
    let packed = gzip(body.as_bytes());
    assert!((3_500_000..4_500_000).contains(&packed.len()), "{}", packed.len());
    let request = Request::json(packed).header("content-encoding", "gzip");
    let answer = api.call("POST", PUSH, request).await?.expect(202)?;
    assert_eq!(answer["accepted"], wanted.len(), "{}", answer["errors"]);
    until_same(&api, &metric, &wanted, at - 1_000, at + 1_000).await
}
