//! Alerts from a push to a webhook and back, on the deployed system: rule, tick, state, topic, queue, delivery.
//!
//! Other tests evaluate the same rules at the same time, as the schedule does. So nothing here counts on who evaluates.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::aws::{Aws, LOGS};
use tidemark_tests::harness::expect::{Labels, labels, query_samples, sample};
use tidemark_tests::harness::receiver::{Hook, Receiver};
use tidemark_tests::harness::{eventually, now_ms, unique};

const RULES: &str = "/api/v1/alerts/rules";
const INSTANCES: &str = "/api/v1/alerts/instances";

/// One rule over one metric, and who is told.
struct Scene {
    api: Api,
    receiver: Receiver,
    metric: String,
    rule_id: String,
}

impl Scene {
    /// A rule that fires at once above 90, changed by `change`.
    async fn new(script: &[(u16, Option<u32>)], change: Value) -> anyhow::Result<Self> {
        let (api, receiver) = (Api::from_env()?, Receiver::start(script).await?);
        let metric = unique("e2e_alert");
        let mut rule = json!({
            "name": format!("rule on {metric}"),
            "metric_name": metric,
            "condition": ">",
            "threshold": 90,
            "duration_seconds": 0,
            "severity": "critical",
            "webhook_url": receiver.url(),
            "annotations": {"summary": "{{ host }} is at {{ value }} (limit {{ threshold }})"},
        });
        for (field, value) in change.as_object().context("no object")? {
            rule[field] = value.clone();
        }
        let created = api.post(RULES, &rule).await?.expect(201)?;
        let rule_id = created["id"].as_str().context("no id")?.to_owned();
        Ok(Self {
            api,
            receiver,
            metric,
            rule_id,
        })
    }

    /// Pushes a sample of now and waits until a query gives it.
    async fn measure(&self, labels: &Labels, value: f64) -> anyhow::Result<()> {
        let at = now_ms();
        self.api.push(&json!([sample(&self.metric, labels, at, value)])).await?;
        eventually("the measured value", async || {
            let got = query_samples(&self.api, &self.metric, at, at).await?;
            ensure!(got.get(&(labels.clone(), at)) == Some(&value.to_bits()), "{got:?}");
            Ok(Some(()))
        })
        .await
    }

    async fn evaluate(&self) -> anyhow::Result<Value> {
        self.api
            .post("/api/v1/ops/evaluate-alerts", &json!({}))
            .await?
            .expect(200)
    }

    async fn instances(&self) -> anyhow::Result<Vec<Value>> {
        self.api
            .all_pages(INSTANCES, "instances", &[("rule", &self.rule_id)])
            .await
    }

    /// Evaluates until the instance with these labels is in this state.
    async fn until(&self, labels: &Labels, state: &str) -> anyhow::Result<Value> {
        eventually(&format!("an instance that is {state}"), async || {
            self.evaluate().await?;
            let instances = self.instances().await?;
            let found = instances.iter().find(|it| it["labels"] == json!(labels)).cloned();
            let found = found.with_context(|| format!("no instance: {instances:?}"))?;
            ensure!(found["state"] == state, "{found}");
            Ok(Some(found))
        })
        .await
    }

    /// Waits for so many webhooks that were taken with this status.
    async fn until_told(&self, status: &str, count: usize) -> anyhow::Result<Vec<Hook>> {
        eventually(&format!("{count} webhooks that say {status}"), async || {
            let taken = self.receiver.taken(status);
            ensure!(taken.len() >= count, "{taken:?}");
            Ok(Some(taken))
        })
        .await
    }

    /// Waits until the instance has counted so many notifications.
    async fn until_counted(&self, labels: &Labels, count: u64) -> anyhow::Result<Value> {
        eventually(&format!("{count} notifications counted"), async || {
            let instances = self.instances().await?;
            let found = instances.iter().find(|it| it["labels"] == json!(labels)).cloned();
            let found = found.context("no instance")?;
            ensure!(found["notifications_sent"] == count, "{found}");
            Ok(Some(found))
        })
        .await
    }

    async fn delete_rule(&self) -> anyhow::Result<()> {
        let path = format!("{RULES}/{}", self.rule_id);
        self.api
            .call("DELETE", &path, Request::default())
            .await?
            .expect(204)
            .map(drop)
    }
}

fn time(instance: &Value, field: &str) -> anyhow::Result<i64> {
    let text = instance[field].as_str();
    let text = text.with_context(|| format!("{field} is not set: {instance}"))?;
    Ok(Timestamp::parse(text)?.0)
}

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
    let path = format!("{INSTANCES}/{}/resolve", firing["id"].as_str().unwrap());
    let resolved = scene.api.post(&path, &json!({})).await?.expect(200)?;
    assert_eq!(resolved["state"], "resolved", "{resolved}");
    assert_eq!(resolved["id"], firing["id"], "{resolved}");
    time(&resolved, "resolved_at")?;
    let told = scene.until_told("resolved", 1).await?;
    assert_eq!(
        told[0].body["alerts"][0]["reason"], "resolved_by_hand",
        "{}",
        told[0].body
    );
    // The condition still holds: a new incident begins and is told as one.
    scene.until_told("firing", 2).await?;
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
