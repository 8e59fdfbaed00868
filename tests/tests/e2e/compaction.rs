//! Compacted data: the same answers from every tier, whatever comes late, and answers from the cache only while they hold.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{DAY_MS, Timestamp};
use tidemark_tests::harness::api::{Answer, Api, Request};
use tidemark_tests::harness::expect::{Labels, Samples, labels, query_samples, same, sample, until_same, value};
use tidemark_tests::harness::{eventually, now_ms, unique, variable};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;

/// The first millisecond of the UTC day that is so many days back.
fn day(back: i64) -> i64 {
    now_ms().div_euclid(DAY_MS) * DAY_MS - back * DAY_MS
}

/// Compacts by hand until nothing is left. The schedule does the same beside it, and holds buckets meanwhile.
async fn compact_all(api: &Api) -> anyhow::Result<()> {
    eventually("everything is compacted", async || {
        let report = api.post("/api/v1/ops/compact", &json!({})).await?.expect(200)?;
        for field in ["skipped_leased", "overtaken", "failed"] {
            ensure!(report[field] == 0, "{report}");
        }
        ensure!(report["remaining"] == false, "{report}");
        Ok(Some(()))
    })
    .await
}

/// One day of two hosts: three hours of a sample every 20 seconds, and one every half hour for the rest. Quarters, so that sums are
/// exact.
fn a_day(start: i64) -> Samples {
    let dense = (0..3 * HOUR_MS).step_by(20_000);
    let sparse = (3 * HOUR_MS..DAY_MS).step_by(30 * 60_000);
    let times: Vec<i64> = dense.chain(sparse).collect();
    let mut samples = Samples::new();
    for (host, factor) in [("a", 0.25), ("b", -1.5)] {
        for (number, at) in times.iter().enumerate() {
            // A counter that starts anew now and then.
            let value = factor * f64::from(u32::try_from(number % 97).unwrap());
            samples.insert((labels([("host", host)]), start + at), value.to_bits());
        }
    }
    samples
}

async fn push(api: &Api, metric: &str, samples: &Samples) -> anyhow::Result<()> {
    let body: Vec<Value> = samples
        .iter()
        .map(|((labels, at), bits)| sample(metric, labels, *at, f64::from_bits(*bits)))
        .collect();
    api.push(&Value::Array(body)).await
}

/// What a definition gives for each series and step: independent of the engine.
fn expected(samples: &Samples, step: i64, function: &str) -> BTreeMap<(Labels, i64), f64> {
    let mut steps: BTreeMap<(Labels, i64), Vec<f64>> = BTreeMap::new();
    for ((labels, at), bits) in samples {
        let start = at.div_euclid(step) * step;
        let values = steps.entry((labels.clone(), start)).or_default();
        values.push(f64::from_bits(*bits));
    }
    let fold = |values: Vec<f64>| match function {
        "count" => values.len() as f64,
        "sum" => values.iter().sum(),
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "avg" => values.iter().sum::<f64>() / values.len() as f64,
        other => panic!("no function {other}"),
    };
    steps.into_iter().map(|(place, values)| (place, fold(values))).collect()
}

/// A query's path. All that is put into it is plain ASCII.
fn query(metric: &str, (from, to): (i64, i64), more: &str) -> String {
    let (from, to) = (Timestamp(from).to_rfc3339(), Timestamp(to).to_rfc3339());
    format!("/api/v1/query?metric_name={metric}&start_time={from}&end_time={to}{more}")
}

async fn ask(api: &Api, path: &str, fresh: bool) -> anyhow::Result<Answer> {
    let request = Request::default();
    let request = if fresh {
        request.header("cache-control", "no-cache")
    } else {
        request
    };
    api.call("GET", path, request).await
}

/// The values of each host in each step, and the tiers that served them. Made anew: what the cache has from before a compaction
/// still holds, and tells of other tiers.
async fn in_steps(
    api: &Api,
    metric: &str,
    range: (i64, i64),
    (step, function): (&str, &str),
) -> anyhow::Result<(BTreeMap<(Labels, i64), f64>, BTreeSet<String>)> {
    let more = format!("&step={step}&aggregation={function}&group_by=host");
    let answer = ask(api, &query(metric, range, &more), true).await?.expect(200)?;
    let mut values = BTreeMap::new();
    for row in answer["results"].as_array().context("no results")? {
        let host = row["labels"]["host"].as_str().context("no host")?;
        let at = Timestamp::parse(row["timestamp"].as_str().context("no time")?)?.0;
        values.insert((labels([("host", host)]), at), value(&row["value"])?);
    }
    let tiers = answer["tiers"].as_array().context("no tiers")?;
    let tiers = tiers.iter().map(|part| part["tier"].as_str().unwrap_or("?").to_owned());
    Ok((values, tiers.collect()))
}

/// Everything that is asked of a day, by its definition.
async fn check_day(api: &Api, metric: &str, range: (i64, i64), samples: &Samples) -> anyhow::Result<()> {
    let got = query_samples(api, metric, range.0, range.1).await?;
    same(metric, &got, samples)?;
    for (step, length) in [
        ("1m", MINUTE_MS),
        ("90s", 90_000),
        ("5m", 5 * MINUTE_MS),
        ("1h", HOUR_MS),
        ("1d", DAY_MS),
    ] {
        for function in ["count", "sum", "min", "max", "avg"] {
            let (got, _) = in_steps(api, metric, range, (step, function)).await?;
            let wanted = expected(samples, length, function);
            ensure!(
                got == wanted,
                "{metric}: {function} of {step}: got {got:?}, wanted {wanted:?}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_tier_gives_the_same_answers_and_late_samples_change_all_of_them() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_tiers"), day(3));
    let range = (start, start + DAY_MS - 1);
    let mut samples = a_day(start);
    push(&api, &metric, &samples).await?;
    until_same(&api, &metric, &samples, range.0, range.1).await?;
    check_day(&api, &metric, range, &samples)
        .await
        .context("from segments")?;
    compact_all(&api).await?;
    check_day(&api, &metric, range, &samples).await.context("from blocks")?;
    for (step, tier) in [("30s", "raw"), ("1m", "1m"), ("20m", "1m"), ("1h", "1h"), ("1d", "1h")] {
        let (_, tiers) = in_steps(&api, &metric, range, (step, "sum")).await?;
        assert_eq!(tiers, BTreeSet::from([tier.to_owned()]), "step {step}");
    }

    // A correction, a sample between others, and a series that nobody knew.
    let mut late = Samples::new();
    for (host, at, value) in [
        ("a", 20_000, 1_000.25),
        ("b", 10 * HOUR_MS + 7, -7.5),
        ("c", 5 * HOUR_MS, 3.0),
    ] {
        late.insert((labels([("host", host)]), start + at), f64::to_bits(value));
    }
    push(&api, &metric, &late).await?;
    samples.extend(late);
    until_same(&api, &metric, &samples, range.0, range.1).await?;
    check_day(&api, &metric, range, &samples)
        .await
        .context("before the fold")?;
    compact_all(&api).await?;
    check_day(&api, &metric, range, &samples)
        .await
        .context("after the fold")?;
    let (_, tiers) = in_steps(&api, &metric, range, ("1h", "sum")).await?;
    assert_eq!(tiers, BTreeSet::from(["1h".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn a_cached_answer_is_given_while_nothing_new_arrived() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_cache"), day(2));
    let range = (start, start + HOUR_MS);
    let mut samples = Samples::new();
    samples.insert((labels([]), start + 1_000), 1.5_f64.to_bits());
    push(&api, &metric, &samples).await?;
    until_same(&api, &metric, &samples, range.0, range.1).await?;
    compact_all(&api).await?;
    let path = query(&metric, range, "&aggregation=sum");
    let sum = |answer: Answer| -> anyhow::Result<f64> { value(&answer.expect(200)?["results"][0]["value"]) };
    // Other tests write into the same bucket, whose answers are all made anew then.
    let hit = async || {
        eventually("an answer from the cache", async || {
            let answer = ask(&api, &path, false).await?;
            ensure!(answer.header("x-cache") == "hit", "{answer:?}");
            Ok(Some(answer))
        })
        .await
    };
    assert_eq!(sum(hit().await?)?, 1.5);
    let fresh = ask(&api, &path, true).await?;
    assert_eq!(fresh.header("x-cache"), "miss", "{fresh:?}");
    assert_eq!(sum(fresh)?, 1.5);

    samples.insert((labels([]), start + 2_000), 2.0_f64.to_bits());
    push(&api, &metric, &samples).await?;
    eventually("the new sample in a cached query", async || {
        let seen = sum(ask(&api, &path, false).await?)?;
        Ok(Some(()).filter(|()| seen == 3.5))
    })
    .await?;
    assert_eq!(sum(hit().await?)?, 3.5, "never again what was before");
    Ok(())
}

#[tokio::test]
async fn the_queue_is_processed_again_from_a_time_without_a_double_count() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_replay"), now_ms());
    let samples: Samples = (0..20)
        .map(|at| ((labels([]), start + at), f64::from(at as i32).to_bits()))
        .collect();
    push(&api, &metric, &samples).await?;
    until_same(&api, &metric, &samples, start, start + 1_000).await?;
    for from in [
        json!(Timestamp(start - 2_000).to_rfc3339()),
        json!((start - 2_000) / 1_000),
    ] {
        let replayed = api.post("/api/v1/ops/process-queue", &json!({ "from": from })).await?;
        let replayed = replayed.expect(200)?;
        ensure!(replayed["fetched"].as_u64() >= Some(20), "{replayed}");
        same(
            &metric,
            &query_samples(&api, &metric, start, start + 1_000).await?,
            &samples,
        )?;
    }
    let refused = async |body: Value, field: &str| {
        let answer = api.post("/api/v1/ops/process-queue", &body).await?;
        answer.is_error(400, "invalid-parameter", field).map(drop)
    };
    let seconds = now_ms() / 1_000;
    refused(json!({"from": seconds + 600}), "from").await?;
    refused(json!({"from": seconds - 40 * 86_400}), "from").await?;
    refused(json!({"from": "yesterday"}), "from").await?;
    refused(json!({"until": seconds}), "until").await
}

#[tokio::test]
async fn statistics_say_how_far_each_tier_reaches_and_how_long_it_lives() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let number = |name: &str| Ok::<i64, anyhow::Error>(variable(name)?.parse()?);
    let window = number("WINDOW_SECONDS")? * 1_000;
    let grace = number("COMPACTION_GRACE_SECONDS")? * 1_000;
    let before = (now_ms() - grace).div_euclid(window) * window;
    compact_all(&api).await?;
    let system = api.get("/api/v1/stats/system", &[]).await?.expect(200)?;
    assert!(system["dirty_windows"].is_u64(), "{system}");
    for (place, (tier, days, reaches)) in [
        ("raw", "RAW_RETENTION_DAYS", before),
        ("1m", "MINUTE_RETENTION_DAYS", before),
        ("1h", "HOUR_RETENTION_DAYS", before.div_euclid(DAY_MS) * DAY_MS),
    ]
    .into_iter()
    .enumerate()
    {
        let told = &system["tiers"][place];
        assert_eq!(told["tier"], tier, "{system}");
        assert_eq!(told["retention_seconds"], number(days)? * 86_400, "{system}");
        let through = Timestamp::parse(told["compacted_before"].as_str().context("never compacted")?)?.0;
        assert!(through >= reaches, "{tier}: {system}");
    }
    Ok(())
}
