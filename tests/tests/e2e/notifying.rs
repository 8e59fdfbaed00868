//! Who is told what when: groups, silences, inhibition, acknowledgement, the history, the sign of life.

use crate::scene::{HISTORY, INSTANCES, RULES, Scene, changed, time};
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::time::Duration;
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::expect::{Labels, labels, sample};
use tidemark_tests::harness::receiver::Receiver;
use tidemark_tests::harness::{eventually, now_ms, unique, within};

const SILENCES: &str = "/api/v1/alerts/silences";

fn a_host() -> Labels {
    labels([("host", "web-01")])
}

async fn delete(api: &Api, path: &str, status: u16) -> anyhow::Result<()> {
    let deleted = api.call("DELETE", path, Request::default()).await?;
    deleted.expect(status).map(drop)
}

#[tokio::test]
async fn alerts_of_a_group_come_in_one_notification() -> anyhow::Result<()> {
    let scene = Scene::with_channel(json!({"group_wait_seconds": 2}), json!({})).await?;
    let hosts = ["web-01", "web-02", "web-03"].map(|host| labels([("host", host)]));
    scene.measure_all(&hosts.clone().map(|host| (host, 99.0))).await?;
    scene.until(&hosts[0], "firing").await?;
    let told = scene.until_told("firing", 1).await?;
    let body = &told[0].body;
    assert_eq!(body["alerts"].as_array().map(Vec::len), Some(3), "{body}");
    assert_eq!(body["groupLabels"], json!({"alertname": scene.rule_name}), "{body}");
    assert_eq!(body["receiver"], json!(scene.channel), "{body}");
    assert_eq!(body["truncatedAlerts"], 0, "{body}");
    for host in &hosts {
        scene.until_counted(host, 1).await?;
    }
    scene.measure_all(&hosts.clone().map(|host| (host, 1.0))).await?;
    scene.until(&hosts[0], "resolved").await?;
    let told = scene.until_told("resolved", 1).await?;
    assert_eq!(told[0].body["groupKey"], body["groupKey"]);
    assert_eq!(scene.receiver.hooks().len(), 2, "{:?}", scene.receiver.hooks());
    scene.delete().await
}

#[tokio::test]
async fn what_is_silenced_is_recorded_and_told_when_the_silence_ends() -> anyhow::Result<()> {
    let scene = Scene::with_channel(json!({}), json!({})).await?;
    let matchers = json!(format!("{{alertname='{}',host=~'web-.*'}}", scene.rule_name));
    let silence = json!({"matchers": matchers, "duration_seconds": 3600, "created_by": "ann", "comment": "a deploy"});
    let silence = scene.api.post(SILENCES, &silence).await?.expect(201)?;
    let id = silence["id"].as_str().context("no id")?;
    assert_eq!(
        time(&silence, "ends_at")? - time(&silence, "starts_at")?,
        3_600_000,
        "{silence}"
    );
    scene.measure(&a_host(), 99.0).await?;
    let firing = scene.until(&a_host(), "firing").await?;
    let preview = format!("{SILENCES}/preview");
    let muted = scene
        .api
        .post(&preview, &json!({"matchers": matchers}))
        .await?
        .expect(200)?;
    let muted = muted["instances"].as_array().context("no instances")?;
    assert!(muted.iter().any(|instance| instance["id"] == firing["id"]), "{muted:?}");
    let recorded = scene.until_recorded(&json!({"event": "suppressed"})).await?;
    assert!(recorded["reason"].as_str().unwrap().contains(id), "{recorded}");
    assert_eq!(scene.receiver.hooks().len(), 0, "{:?}", scene.receiver.hooks());

    let path = format!("{SILENCES}/{id}");
    delete(&scene.api, &path, 200).await?;
    let ended = scene.api.get(&path, &[]).await?.expect(200)?;
    assert!(time(&ended, "ends_at")? <= now_ms(), "{ended}");
    let told = scene.until_told("firing", 1).await?;
    assert_eq!(told[0].body["alerts"][0]["instance_id"], firing["id"]);
    let wrong = json!({"matchers": "{host=~'.*'}", "duration_seconds": 60, "created_by": "ann", "comment": "all"});
    scene
        .api
        .post(SILENCES, &wrong)
        .await?
        .is_error(400, "invalid-parameter", "matchers")?;
    scene.delete().await
}

#[tokio::test]
async fn who_knows_the_cause_is_not_told_of_what_follows() -> anyhow::Result<()> {
    let cause = Scene::with_channel(json!({}), json!({})).await?;
    let effect = Scene::with_channel(json!({}), json!({})).await?;
    let name = unique("e2e-inhibition");
    let inhibition = json!({
        "name": name, "equal": ["dc"],
        "source_matchers": {"alertname": cause.rule_name}, "target_matchers": {"alertname": effect.rule_name},
    });
    let path = "/api/v1/alerts/inhibitions";
    effect.api.post(path, &inhibition).await?.expect(201)?;
    let dc = labels([("dc", "1")]);
    cause.measure(&dc, 99.0).await?;
    cause.until(&dc, "firing").await?;
    let (inside, outside) = (
        labels([("dc", "1"), ("host", "a")]),
        labels([("dc", "2"), ("host", "b")]),
    );
    effect.measure_all(&[(inside.clone(), 99.0), (outside, 99.0)]).await?;
    let inhibited = effect.until(&inside, "firing").await?;
    let recorded = effect
        .until_recorded(&json!({"event": "suppressed", "instance_id": inhibited["id"]}))
        .await?;
    assert!(
        recorded["reason"].as_str().unwrap().contains("inhibited by"),
        "{recorded}"
    );
    let told = effect.until_told("firing", 1).await?;
    assert_eq!(
        told[0].body["alerts"].as_array().map(Vec::len),
        Some(1),
        "{}",
        told[0].body
    );
    assert_eq!(told[0].body["alerts"][0]["labels"]["host"], "b", "{}", told[0].body);
    // The cause is over, and what still fires is told.
    cause.measure(&dc, 1.0).await?;
    cause.until(&dc, "resolved").await?;
    let told = effect.until_told("firing", 2).await?;
    assert_eq!(
        told[1].body["alerts"].as_array().map(Vec::len),
        Some(2),
        "{}",
        told[1].body
    );
    delete(&effect.api, &format!("{path}/{name}"), 204).await?;
    cause.delete().await?;
    effect.delete().await
}

#[tokio::test]
async fn somebody_takes_care_and_it_is_recorded_who() -> anyhow::Result<()> {
    let scene = Scene::with_channel(json!({}), json!({})).await?;
    scene.measure(&a_host(), 99.0).await?;
    let firing = scene.until(&a_host(), "firing").await?;
    let path = format!("{INSTANCES}/{}/acknowledge", firing["id"].as_str().unwrap());
    let nobody = scene.api.post(&path, &json!({"comment": "who?"})).await?;
    nobody.is_error(400, "invalid-parameter", "by")?;
    let ann = json!({"by": "ann", "comment": "on it"});
    let answer = scene.api.post(&path, &ann).await?.expect(200)?;
    assert_eq!(
        (&answer["acknowledged"]["by"], &answer["acknowledged"]["comment"]),
        (&json!("ann"), &json!("on it")),
        "{answer}"
    );
    assert_eq!(answer["state"], "firing", "{answer}");
    let recorded = scene.until_recorded(&json!({"state": "acknowledged"})).await?;
    assert_eq!(
        (&recorded["by"], &recorded["comment"]),
        (&json!("ann"), &json!("on it"))
    );
    scene.measure(&a_host(), 1.0).await?;
    scene.until(&a_host(), "resolved").await?;
    scene.until_told("resolved", 1).await?;
    scene.api.post(&path, &ann).await?.is_error(409, "invalid-state", "")?;
    scene.delete().await
}

#[tokio::test]
async fn the_history_tells_a_whole_incident_by_rule_by_alert_and_by_time() -> anyhow::Result<()> {
    let since = now_ms();
    let scene = Scene::with_channel(json!({}), json!({"duration_seconds": 1})).await?;
    scene.measure(&a_host(), 99.0).await?;
    let firing = scene.until(&a_host(), "firing").await?;
    scene.until_told("firing", 1).await?;
    scene.measure(&a_host(), 1.0).await?;
    scene.until(&a_host(), "resolved").await?;
    scene.until_told("resolved", 1).await?;
    scene
        .until_recorded(&json!({"event": "notification", "state": "resolved"}))
        .await?;
    let history = scene.history().await?;
    let told: Vec<(&str, &str)> = history
        .iter()
        .map(|entry| (entry["event"].as_str().unwrap(), entry["state"].as_str().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("notification", "resolved"),
            ("transition", "resolved"),
            ("notification", "firing"),
            ("transition", "firing"),
            ("transition", "pending"),
        ],
        "the newest first: {history:?}"
    );
    let times = history
        .iter()
        .map(|entry| time(entry, "at"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    assert!(times.is_sorted_by(|one, other| one >= other), "{times:?}");
    assert!(times.iter().all(|at| *at >= since), "{times:?}");
    let fingerprint = firing["fingerprint"].as_str().unwrap();
    let of_alert = [("fingerprint", fingerprint), ("limit", "2")];
    let by_alert = scene.api.all_pages(HISTORY, "history", &of_alert).await?;
    assert_eq!(by_alert, history, "by fingerprint, in pages");
    let (start, end) = (Timestamp(times[4]).to_rfc3339(), Timestamp(times[3]).to_rfc3339());
    let then = [
        ("start_time", start.as_str()),
        ("end_time", end.as_str()),
        ("limit", "1000"),
    ];
    let by_time = scene.api.all_pages(HISTORY, "history", &then).await?;
    let ours = by_time
        .iter()
        .filter(|entry| entry["rule_id"] == scene.rule_id.as_str());
    assert_eq!(ours.collect::<Vec<_>>(), history[3..].iter().collect::<Vec<_>>());
    for (name, bad) in [("start_time", "yesterday"), ("limit", "0"), ("next_token", "?")] {
        let answer = scene.api.get(HISTORY, &[(name, bad)]).await?;
        answer.is_error(400, "invalid-parameter", name)?;
    }
    scene.delete().await
}

#[tokio::test]
async fn a_heartbeat_beats_with_the_schedule() -> anyhow::Result<()> {
    let (api, receiver) = (Api::from_env()?, Receiver::start(&[]).await?);
    let rule = json!({"name": unique("e2e heartbeat"), "kind": "heartbeat", "webhook_url": receiver.url()});
    let created = api.post(RULES, &rule).await?.expect(201)?;
    // Asked for, it fires; only the schedule lets it beat.
    api.post("/api/v1/ops/evaluate-alerts", &json!({})).await?.expect(200)?;
    within(Duration::from_secs(180), "two signs of life", async || {
        let beats = receiver.taken("firing");
        ensure!(beats.len() >= 2, "{beats:?}");
        Ok(Some(()))
    })
    .await?;
    delete(&api, &format!("{RULES}/{}", created["id"].as_str().unwrap()), 204).await
}

#[tokio::test]
async fn a_backtest_tells_what_would_have_fired() -> anyhow::Result<()> {
    let (api, metric) = (Api::from_env()?, unique("e2e_backtest"));
    let rule = json!({"name": unique("backtest"), "metric_name": metric, "condition": ">", "threshold": 90});
    let (hot, cool) = (now_ms() - 180_000, now_ms() - 120_000);
    let quiet = labels([("host", "web-02")]);
    let samples = [
        sample(&metric, &a_host(), hot, 99.0),
        sample(&metric, &a_host(), cool, 1.0),
        sample(&metric, &quiet, hot, 1.0),
    ];
    api.push(&json!(samples)).await?;
    let body = json!({
        "rule": rule, "start_time": Timestamp(hot - 300_000).to_rfc3339(), "step_seconds": 10,
        "end_time": Timestamp(cool + 60_000).to_rfc3339(),
    });
    let path = format!("{RULES}/test");
    let told = eventually("the incident", async || {
        let told = api.post(&path, &body).await?.expect(200)?;
        Ok(Some(told).filter(|told| told["incidents"][0]["resolved_at"].is_string()))
    })
    .await?;
    let incidents = told["incidents"].as_array().context("no incidents")?;
    assert_eq!(incidents.len(), 1, "{told}");
    let incident = &incidents[0];
    assert_eq!(incident["labels"], json!(a_host()), "{told}");
    assert_eq!(incident["value"], 99.0, "{told}");
    assert_eq!(
        (time(incident, "firing_since")?, incident["state"].as_str()),
        (hot, Some("resolved"))
    );
    let over = time(incident, "resolved_at")?;
    assert!((cool..cool + 10_000).contains(&over), "{told}");
    assert_eq!(
        incident["duration_seconds"],
        json!((over - hot) as f64 / 1_000.0),
        "{told}"
    );
    assert!(told["evaluations"].as_u64().unwrap() >= 42, "{told}");
    assert!(told["cost"]["samples_read"].as_u64().unwrap() >= 3, "{told}");
    for (field, wrong) in [
        (
            "start_time",
            json!({"start_time": Timestamp(cool + 60_001).to_rfc3339()}),
        ),
        (
            "end_time",
            json!({"end_time": Timestamp(now_ms() + 3_600_000).to_rfc3339()}),
        ),
        (
            "rule.threshold",
            json!({"rule": {"name": "x", "metric_name": "m", "condition": ">"}}),
        ),
        ("step_seconds", json!({"step_seconds": 0})),
    ] {
        let refused = api.post(&path, &changed(body.clone(), &wrong)?).await?;
        refused.is_error(400, "invalid-parameter", field)?;
    }
    Ok(())
}
