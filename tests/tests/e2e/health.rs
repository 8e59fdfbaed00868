//! Health, operations, statistics, and what a browser and a lost client see.

use anyhow::ensure;
use serde_json::json;
use std::collections::BTreeSet;
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::{eventually, now_ms, unique};

#[tokio::test]
async fn health_names_every_part_and_the_time() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let before = now_ms();
    let answer = api.get("/api/v1/health", &[]).await?;
    assert_eq!(answer.header("content-type"), "application/json");
    let health = answer.expect(200)?;
    for (field, wanted) in [
        ("status", "healthy"),
        ("database", "ok"),
        ("cache", "ok"),
        ("stream", "ok"),
    ] {
        assert_eq!(health[field], wanted, "{health}");
    }
    let at = Timestamp::parse(health["timestamp"].as_str().unwrap())?.0;
    assert!((before - 1_000..=now_ms() + 1_000).contains(&at), "{health}");
    Ok(())
}

#[tokio::test]
async fn statistics_count_what_was_pushed() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let metric = unique("e2e_statistics");
    let before = api.get("/api/v1/stats/system", &[]).await?.expect(200)?;
    let earliest = now_ms() - 3 * 3_600_000;
    let samples: Vec<_> = (0..25)
        .map(|at| json!({"name": metric, "value": at, "timestamp": (earliest / 1_000) + at}))
        .collect();
    api.push(&json!(samples)).await?;
    let fields = BTreeSet::from([
        "total_metrics",
        "total_alerts",
        "active_alerts",
        "metric_names_count",
        "time_range_start",
        "time_range_end",
        "tiers",
        "dirty_windows",
        "overdue_lanes",
    ]);
    eventually("the pushed samples in the statistics", async || {
        let system = api.get("/api/v1/stats/system", &[]).await?.expect(200)?;
        let has: BTreeSet<&str> = system.as_object().unwrap().keys().map(String::as_str).collect();
        ensure!(has == fields, "{system}");
        let grown = |field: &str| system[field].as_u64().unwrap() - before[field].as_u64().unwrap();
        ensure!(grown("total_metrics") >= 25, "{system}");
        ensure!(grown("metric_names_count") >= 1, "{system}");
        let time = |field: &str| Timestamp::parse(system[field].as_str().unwrap_or("")).map(|it| it.0);
        ensure!(time("time_range_start")? <= earliest, "{system}");
        ensure!(time("time_range_end")? >= earliest + 24_000, "{system}");
        ensure!(
            system["active_alerts"].as_u64() <= system["total_alerts"].as_u64(),
            "{system}"
        );
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn queue_statistics_add_up_over_the_real_shards() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let before = api.get("/api/v1/stats/queue", &[]).await?.expect(200)?;
    // Several metrics, so that both shards get some.
    let samples: Vec<_> = (0..32)
        .map(|_| json!({"name": unique("e2e_queue"), "value": 1}))
        .collect();
    api.push(&json!(samples)).await?;
    let stats = api.get("/api/v1/stats/queue", &[]).await?.expect(200)?;
    let fields: BTreeSet<&str> = stats.as_object().unwrap().keys().map(String::as_str).collect();
    for field in ["total_events", "unconsumed_events", "partitions", "events_by_partition"] {
        assert!(fields.contains(field), "{stats}");
    }
    // `samconfig.toml` deploys two shards locally.
    assert_eq!(stats["partitions"], 2, "{stats}");
    let by_shard = stats["events_by_partition"].as_object().unwrap();
    assert_eq!(by_shard.len(), 2, "{stats}");
    assert!(by_shard.keys().all(|shard| shard.starts_with("shardId-")), "{stats}");
    let sum: u64 = by_shard.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(stats["total_events"].as_u64(), Some(sum), "{stats}");
    assert!(
        sum >= before["total_events"].as_u64().unwrap() + 32,
        "{before} then {stats}"
    );
    eventually("the pushed samples are consumed", async || {
        let stats = api.get("/api/v1/stats/queue", &[]).await?.expect(200)?;
        let stored = stats["total_events"].as_u64().unwrap() - stats["unconsumed_events"].as_u64().unwrap();
        ensure!(stored >= sum, "{stats}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test]
async fn the_queue_can_be_drained_by_hand() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let metric = unique("e2e_drain");
    api.push(&json!([{"name": metric, "value": 42}])).await?;
    let drained = api.post("/api/v1/ops/process-queue", &json!({})).await?.expect(200)?;
    let fields: BTreeSet<&str> = drained.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        BTreeSet::from(["fetched", "written", "errors", "remaining"]),
        "{drained}"
    );
    assert!(
        drained.as_object().unwrap().values().all(serde_json::Value::is_u64),
        "{drained}"
    );
    // Whoever drained it, it is stored now: everything before the tips that the call saw.
    let found = api
        .get("/api/v1/query", &[("metric_name", &metric)])
        .await?
        .expect(200)?;
    assert_eq!(
        found["results"].as_array().map(Vec::len),
        Some(1),
        "{drained} then {found}"
    );
    Ok(())
}

#[tokio::test]
async fn alerts_can_be_evaluated_by_hand() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    // Also without a body and a content type.
    for request in [Request::json("{}"), Request::default()] {
        let summary = api
            .call("POST", "/api/v1/ops/evaluate-alerts", request)
            .await?
            .expect(200)?;
        for field in ["rules_evaluated", "alerts_triggered", "alerts_resolved"] {
            assert!(summary[field].is_u64(), "{summary}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_told_apart() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/api/v1"),
        ("GET", "/api/v2/health"),
        ("GET", "/api/v1/nothing"),
        ("POST", "/api/v1/alerts/rules/x/y"),
        ("DELETE", "/api/v1/metrics/names/x"),
    ] {
        let answer = api.call(method, path, Request::default()).await?;
        answer.is_error(404, "not-found", "")?;
    }
    for (method, path) in [
        ("DELETE", "/api/v1/health"),
        ("GET", "/api/v1/metrics"),
        ("POST", "/api/v1/query"),
        ("PUT", "/api/v1/metrics/names"),
        ("DELETE", "/api/v1/metrics/x/labels"),
        ("POST", "/api/v1/metrics/x/labels/y/values"),
        ("PUT", "/api/v1/alerts/rules"),
        ("GET", "/api/v1/alerts/instances/x/resolve"),
        ("GET", "/api/v1/ops/process-queue"),
        ("GET", "/api/v1/ops/evaluate-alerts"),
        ("GET", "/api/v1/ops/compact"),
        ("POST", "/api/v1/stats/queue"),
        ("POST", "/api/v1/stats/system"),
    ] {
        let answer = api.call(method, path, Request::default()).await?;
        answer.is_error(405, "method-not-allowed", "")?;
    }
    Ok(())
}

#[tokio::test]
async fn a_browser_may_call() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let origin = "https://console.example.org";
    for (method, path) in [
        ("POST", "/api/v1/metrics"),
        ("PATCH", "/api/v1/alerts/rules/rule-x"),
        ("DELETE", "/api/v1/alerts/rules/rule-x"),
    ] {
        let preflight = Request::default()
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "content-type,authorization");
        let answer = api.call("OPTIONS", path, preflight).await?;
        assert!(matches!(answer.status, 200 | 204), "{answer:?}");
        let allowed = answer.header("access-control-allow-origin");
        assert!(allowed == "*" || allowed == origin, "{answer:?}");
        let methods = answer.header("access-control-allow-methods").to_ascii_uppercase();
        assert!(methods == "*" || methods.contains(method), "{answer:?}");
        let headers = answer.header("access-control-allow-headers").to_ascii_lowercase();
        assert!(
            headers == "*" || (headers.contains("content-type") && headers.contains("authorization")),
            "{answer:?}"
        );
    }
    // Answers of every function, errors too, can be read by the page.
    for (method, path, status) in [
        ("GET", "/api/v1/health", 200),
        ("GET", "/api/v1/metrics/names?limit=1", 200),
        ("GET", "/api/v1/query", 400),
        ("POST", "/api/v1/metrics", 400),
        ("GET", "/api/v1/nothing", 404),
    ] {
        let answer = api
            .call(method, path, Request::default().header("origin", origin))
            .await?;
        assert_eq!(answer.status, status, "{answer:?}");
        let allowed = answer.header("access-control-allow-origin");
        assert!(allowed == "*" || allowed == origin, "{answer:?}");
    }
    Ok(())
}
