//! Alerts from a push to a webhook and back, on the deployed system: rule, tick, state, topic, queue, delivery.

use crate::scene::{INSTANCES, RULES, Scene, time};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::aws::{Aws, LOGS};
use tidemark_tests::harness::expect::{Labels, labels};
use tidemark_tests::harness::{eventually, now_ms, unique};

#[tokio::test]
async fn an_alert_fires_is_told_resolves_and_is_told() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({})).await?;
    let (hot, cool) = (labels([("host", "web-01")]), labels([("host", "web-02")]));
    scene.measure(&cool, 90.0).await?;
    scene.measure(&hot, 97.25).await?;
    let firing = scene.until(&hot, "firing").await?;
    assert_eq!(firing["rule_id"], scene.rule_id.as_str());
    assert_eq!(firing["current_value"], 97.25);
    assert_eq!(firing["resolved_at"], Value::Null);
    assert_eq!(firing["fingerprint"].as_str().map(str::len), Some(32), "{firing}");
    assert!(
        time(&firing, "pending_since")? <= time(&firing, "firing_since")?,
        "{firing}"
    );
    let active = scene
        .api
        .all_pages(&format!("{INSTANCES}/active"), "instances", &[])
        .await?;
    assert!(active.iter().any(|it| it["id"] == firing["id"]));
    let of_rule = [("state", "firing"), ("rule", scene.rule_id.as_str())];
    let filtered = scene.api.all_pages(INSTANCES, "instances", &of_rule).await?;
    assert_eq!(filtered.len(), 1, "only one host is above the threshold: {filtered:?}");

    let told = scene.until_told("firing", 1).await?;
    let body = &told[0].body;
    assert_eq!(body["version"], "4", "{body}");
    let alert = &body["alerts"][0];
    assert_eq!(alert["labels"]["host"], "web-01", "{body}");
    assert_eq!(
        alert["labels"]["alertname"],
        format!("rule on {}", scene.metric),
        "{body}"
    );
    assert_eq!(alert["labels"]["severity"], "critical", "{body}");
    assert_eq!(
        alert["annotations"]["summary"], "web-01 is at 97.25 (limit 90)",
        "{body}"
    );
    assert_eq!(alert["fingerprint"], firing["fingerprint"], "{body}");
    assert_eq!(alert["instance_id"], firing["id"], "{body}");
    assert_eq!(told[0].header("content-type"), "application/json");
    let counted = scene.until_counted(&hot, 1).await?;
    assert!(
        time(&counted, "last_notification_at")? >= time(&counted, "firing_since")?,
        "{counted}"
    );

    scene.measure(&hot, 12.0).await?;
    let resolved = scene.until(&hot, "resolved").await?;
    assert!(
        time(&resolved, "resolved_at")? >= time(&resolved, "firing_since")?,
        "{resolved}"
    );
    let told = scene.until_told("resolved", 1).await?;
    assert_eq!(
        told[0].body["alerts"][0]["reason"], "condition_cleared",
        "{}",
        told[0].body
    );
    scene.until_counted(&hot, 2).await?;
    // An instance that is over cannot be resolved by hand.
    let path = format!("{INSTANCES}/{}/resolve", resolved["id"].as_str().unwrap());
    scene
        .api
        .post(&path, &json!({}))
        .await?
        .is_error(409, "invalid-state", "")?;
    for _ in 0..3 {
        scene.evaluate().await?;
    }
    assert_eq!(scene.receiver.hooks().len(), 2, "{:?}", scene.receiver.hooks());
    scene.delete_rule().await
}

#[tokio::test]
async fn a_condition_must_hold_for_its_duration() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({"duration_seconds": 3})).await?;
    let host = labels([("host", "web-01")]);
    scene.measure(&host, 91.0).await?;
    let firing = scene.until(&host, "firing").await?;
    let (pending, fired) = (time(&firing, "pending_since")?, time(&firing, "firing_since")?);
    assert!(fired - pending >= 3_000, "{firing}");
    scene.until_told("firing", 1).await?;
    scene.delete_rule().await
}

#[tokio::test]
async fn an_aggregated_rule_has_an_instance_for_each_group() -> anyhow::Result<()> {
    let change = json!({
        "aggregation": "avg", "group_by": ["region"], "labels": {"job": "web"}, "window_seconds": 600,
        "annotations": {"summary": "{{ region }} averages {{ value }}"},
    });
    let scene = Scene::new(&[], change).await?;
    for (host, region, job, value) in [
        ("1", "eu", "web", 100.0),
        ("2", "eu", "web", 90.0),
        ("3", "us", "web", 100.0),
        ("4", "us", "web", 60.0),
        ("5", "ap", "db", 100.0),
    ] {
        let labels = labels([("host", host), ("region", region), ("job", job)]);
        scene.measure(&labels, value).await?;
    }
    let firing = scene.until(&labels([("region", "eu")]), "firing").await;
    // The first host alone was above the threshold; with the second the average is 95.
    let firing = firing?;
    let told = scene.until_told("firing", 1).await?;
    let summary = told[0].body["alerts"][0]["annotations"]["summary"].as_str().unwrap();
    assert!(summary.starts_with("eu averages "), "{summary}");
    eventually("the average of both hosts", async || {
        scene.evaluate().await?;
        let instances = scene.instances().await?;
        let eu = instances.iter().find(|it| it["id"] == firing["id"]).context("gone")?;
        ensure!(eu["current_value"] == 95.0, "{instances:?}");
        Ok(Some(()))
    })
    .await?;
    let instances = scene.instances().await?;
    assert!(
        !instances.iter().any(|it| it["labels"]["region"] == "ap"),
        "{instances:?}"
    );
    scene.delete_rule().await
}

#[tokio::test]
async fn a_webhook_that_fails_is_sent_again_and_counted_once() -> anyhow::Result<()> {
    let scene = Scene::new(&[(500, None), (429, Some(1))], json!({})).await?;
    let host = labels([("host", "web-01")]);
    scene.measure(&host, 99.0).await?;
    scene.until(&host, "firing").await?;
    scene.until_told("firing", 1).await?;
    let hooks = scene.receiver.hooks();
    let answers: Vec<u16> = hooks.iter().map(|hook| hook.answered).collect();
    assert_eq!(answers, [500, 429, 200]);
    assert!(hooks.iter().all(|hook| hook.body == hooks[0].body), "{hooks:?}");
    let key = hooks[0].header("idempotency-key");
    assert!(
        !key.is_empty() && hooks.iter().all(|hook| hook.header("idempotency-key") == key),
        "{hooks:?}"
    );
    scene.until_counted(&host, 1).await?;
    scene.delete_rule().await?;
    // The resolve, and nothing else.
    scene.until(&host, "resolved").await?;
    scene.until_told("resolved", 1).await?;
    assert_eq!(scene.receiver.hooks().len(), 4, "{:?}", scene.receiver.hooks());
    Ok(())
}

#[tokio::test]
async fn deleting_a_rule_resolves_what_it_fires() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({})).await?;
    let host = labels([("host", "web-01")]);
    scene.measure(&host, 99.0).await?;
    scene.until(&host, "firing").await?;
    scene.delete_rule().await?;
    scene.until(&host, "resolved").await?;
    let told = scene.until_told("resolved", 1).await?;
    assert_eq!(told[0].body["alerts"][0]["reason"], "rule_deleted", "{}", told[0].body);
    Ok(())
}

#[tokio::test]
async fn an_alert_can_be_resolved_by_hand() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({})).await?;
    let host = labels([("host", "web-01")]);
    scene.measure(&host, 99.0).await?;
    let firing = scene.until(&host, "firing").await?;
    scene.until_told("firing", 1).await?;
    let path = format!("{INSTANCES}/{}/resolve", firing["id"].as_str().unwrap());
    let by_hand = json!({"by": "ann", "comment": "a false alarm"});
    let resolved = scene.api.post(&path, &by_hand).await?.expect(200)?;
    assert_eq!(resolved["state"], "resolved", "{resolved}");
    assert_eq!(resolved["id"], firing["id"], "{resolved}");
    time(&resolved, "resolved_at")?;
    let recorded = scene.until_recorded(&json!({"reason": "resolved_by_hand"})).await?;
    assert_eq!(
        (&recorded["by"], &recorded["comment"], &recorded["state"]),
        (&json!("ann"), &json!("a false alarm"), &json!("resolved")),
        "{recorded}"
    );
    // The condition still holds: a new incident begins. Whoever evaluates may be so quick that both are told in one notification.
    eventually("the end by hand, and a new beginning", async || {
        scene.evaluate().await?;
        let hooks = scene.receiver.hooks();
        let alerts = hooks.iter().filter_map(|hook| hook.body["alerts"].as_array()).flatten();
        let told: Vec<(&Value, &Value)> = alerts.map(|alert| (&alert["status"], &alert["reason"])).collect();
        let by_hand = (&json!("resolved"), &json!("resolved_by_hand"));
        let beginnings = told.iter().filter(|(status, _)| **status == "firing").count();
        ensure!(told.contains(&by_hand) && beginnings == 2, "{told:?}");
        Ok(Some(()))
    })
    .await?;
    scene.delete_rule().await
}

#[tokio::test]
async fn evaluations_at_the_same_time_send_one_page() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({"enabled": false})).await?;
    let hosts: Vec<Labels> = (0..4).map(|host| labels([("host", &format!("web-{host}"))])).collect();
    for host in &hosts {
        scene.measure(host, 99.0).await?;
    }
    let path = format!("{RULES}/{}", scene.rule_id);
    let enable = Request::json(json!({"enabled": true}).to_string());
    scene.api.call("PATCH", &path, enable).await?.expect(200)?;
    futures::future::try_join_all((0..5).map(|_| scene.evaluate())).await?;
    for host in &hosts {
        scene.until(host, "firing").await?;
    }
    scene.until_told("firing", hosts.len()).await?;
    for host in &hosts {
        scene.measure(host, 1.0).await?;
    }
    futures::future::try_join_all((0..5).map(|_| scene.evaluate())).await?;
    for host in &hosts {
        scene.until(host, "resolved").await?;
    }
    scene.until_told("resolved", hosts.len()).await?;
    for host in &hosts {
        scene.until_counted(host, 2).await?;
    }
    assert_eq!(
        scene.receiver.hooks().len(),
        2 * hosts.len(),
        "{:?}",
        scene.receiver.hooks()
    );
    scene.delete_rule().await
}

#[tokio::test]
async fn the_schedule_evaluates_by_itself() -> anyhow::Result<()> {
    let (api, aws) = (Api::from_env()?, Aws::from_env()?);
    let rule = json!({"name": unique("e2e schedule"), "metric_name": "m", "condition": ">", "threshold": 0});
    let created = api.post(RULES, &rule).await?.expect(201)?;
    let since = now_ms();
    // Only the schedule invokes this function; `ops/evaluate-alerts` runs in another.
    let group = "/tidemark/tidemark/evaluate"; // `stack_name` of samconfig.toml's `local` is in it
    eventually("a tick of the schedule in the function's log", async || {
        let request = json!({"logGroupName": group, "startTime": since});
        let found = aws.call(LOGS, "FilterLogEvents", request).await?;
        let lines = found["events"].as_array().context("no events")?;
        Ok(lines
            .iter()
            .filter_map(|line| line["message"].as_str())
            .find(|line| line.contains("evaluated") && line.contains("rules_evaluated"))
            .map(str::to_owned))
    })
    .await?;
    let path = format!("{RULES}/{}", created["id"].as_str().unwrap());
    api.call("DELETE", &path, Request::default()).await?.expect(204)?;
    Ok(())
}

#[tokio::test]
async fn disabling_a_rule_resolves_what_it_fires() -> anyhow::Result<()> {
    let scene = Scene::new(&[], json!({})).await?;
    let host = labels([("host", "web-01")]);
    scene.measure(&host, 99.0).await?;
    scene.until(&host, "firing").await?;
    let path = format!("{RULES}/{}", scene.rule_id);
    let disable = Request::json(json!({"enabled": false}).to_string());
    scene.api.call("PATCH", &path, disable).await?.expect(200)?;
    scene.until(&host, "resolved").await?;
    let told = scene.until_told("resolved", 1).await?;
    assert_eq!(told[0].body["alerts"][0]["reason"], "rule_disabled", "{}", told[0].body);
    scene.delete_rule().await
}
