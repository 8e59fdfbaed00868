//! One rule over one metric of its own, and who is told: what the tests of alerting share.
//!
//! Other tests evaluate the same rules at the same time, as the schedule does. So nothing here counts on who evaluates.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::expect::{Labels, query_samples, sample};
use tidemark_tests::harness::receiver::{Hook, Receiver};
use tidemark_tests::harness::{eventually, now_ms, unique};

pub(crate) const RULES: &str = "/api/v1/alerts/rules";
pub(crate) const INSTANCES: &str = "/api/v1/alerts/instances";
pub(crate) const HISTORY: &str = "/api/v1/alerts/history";
pub(crate) const CHANNELS: &str = "/api/v1/channels";

/// See the module.
pub(crate) struct Scene {
    pub(crate) api: Api,
    pub(crate) receiver: Receiver,
    pub(crate) metric: String,
    pub(crate) rule_id: String,
    pub(crate) rule_name: String,
    /// Made for this scene, if any was.
    pub(crate) channel: Option<String>,
}

/// `body` with the fields of `change`.
pub(crate) fn changed(mut body: Value, change: &Value) -> anyhow::Result<Value> {
    for (field, value) in change.as_object().context("no object")? {
        body[field] = value.clone();
    }
    Ok(body)
}

impl Scene {
    /// A rule that fires at once above 90 and has a webhook of its own, changed by `change`. The first webhooks are answered by the script.
    pub(crate) async fn new(script: &[(u16, Option<u32>)], change: Value) -> anyhow::Result<Self> {
        let receiver = Receiver::start(script).await?;
        let change = changed(json!({"webhook_url": receiver.url()}), &change)?;
        Self::of(receiver, None, &change).await
    }

    /// A rule that names a channel of its own: a webhook to the receiver that tells each group at once, changed by `channel`.
    pub(crate) async fn with_channel(channel: Value, change: Value) -> anyhow::Result<Self> {
        let receiver = Receiver::start(&[]).await?;
        Self::with_receiver(receiver, channel, change).await
    }

    /// The same with a receiver that has been told what to answer.
    pub(crate) async fn with_receiver(receiver: Receiver, channel: Value, change: Value) -> anyhow::Result<Self> {
        let name = unique("ops");
        let usual = json!({
            "name": name, "type": "webhook", "url": receiver.url(), "group_wait_seconds": 0, "group_interval_seconds": 1,
        });
        let api = Api::from_env()?;
        let answer = api.post(CHANNELS, &changed(usual, &channel)?).await?;
        answer.expect(201)?;
        let change = changed(json!({"notification_channels": [name]}), &change)?;
        Self::of(receiver, Some(name), &change).await
    }

    async fn of(receiver: Receiver, channel: Option<String>, change: &Value) -> anyhow::Result<Self> {
        let api = Api::from_env()?;
        let metric = unique("e2e_alert");
        let rule_name = format!("rule on {metric}");
        let rule = json!({
            "name": rule_name,
            "metric_name": metric,
            "condition": ">",
            "threshold": 90,
            "duration_seconds": 0,
            "severity": "critical",
            "annotations": {"summary": "{{ host }} is at {{ value }} (limit {{ threshold }})"},
        });
        let created = api.post(RULES, &changed(rule, change)?).await?.expect(201)?;
        ensure!(created.get("warnings").is_none(), "{created}");
        let rule_id = created["id"].as_str().context("no id")?.to_owned();
        Ok(Self {
            api,
            receiver,
            metric,
            rule_id,
            rule_name,
            channel,
        })
    }

    /// Pushes a sample of now and waits until a query gives it.
    pub(crate) async fn measure(&self, labels: &Labels, value: f64) -> anyhow::Result<()> {
        self.measure_all(&[(labels.clone(), value)]).await
    }

    /// Pushes samples of now in one request, which become readable at once, and waits until a query gives them.
    pub(crate) async fn measure_all(&self, values: &[(Labels, f64)]) -> anyhow::Result<()> {
        let at = now_ms();
        let samples = values
            .iter()
            .map(|(labels, value)| sample(&self.metric, labels, at, *value));
        self.api.push(&samples.collect()).await?;
        eventually("the measured values", async || {
            let got = query_samples(&self.api, &self.metric, at, at).await?;
            for (labels, value) in values {
                ensure!(got.get(&(labels.clone(), at)) == Some(&value.to_bits()), "{got:?}");
            }
            Ok(Some(()))
        })
        .await
    }

    pub(crate) async fn evaluate(&self) -> anyhow::Result<Value> {
        let path = "/api/v1/ops/evaluate-alerts";
        self.api.post(path, &json!({})).await?.expect(200)
    }

    pub(crate) async fn instances(&self) -> anyhow::Result<Vec<Value>> {
        self.api
            .all_pages(INSTANCES, "instances", &[("rule", &self.rule_id)])
            .await
    }

    /// What the history has of the rule, the newest first.
    pub(crate) async fn history(&self) -> anyhow::Result<Vec<Value>> {
        let of_rule = [("rule", self.rule_id.as_str())];
        self.api.all_pages(HISTORY, "history", &of_rule).await
    }

    /// Waits until the history of the rule has an entry with all these fields, and returns it.
    pub(crate) async fn until_recorded(&self, fields: &Value) -> anyhow::Result<Value> {
        eventually(&format!("{fields} in the history"), async || {
            let history = self.history().await?;
            let wanted = fields.as_object().context("no object")?;
            let fits = |entry: &&Value| wanted.iter().all(|(name, value)| entry[name] == *value);
            let found = history.iter().find(fits).cloned();
            Ok(Some(found.with_context(|| format!("{history:?}"))?))
        })
        .await
    }

    /// Evaluates until the instance with these labels is in this state.
    pub(crate) async fn until(&self, labels: &Labels, state: &str) -> anyhow::Result<Value> {
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
    pub(crate) async fn until_told(&self, status: &str, count: usize) -> anyhow::Result<Vec<Hook>> {
        eventually(&format!("{count} webhooks that say {status}"), async || {
            let taken = self.receiver.taken(status);
            ensure!(taken.len() >= count, "{taken:?}");
            Ok(Some(taken))
        })
        .await
    }

    /// Waits until the instance has counted so many notifications.
    pub(crate) async fn until_counted(&self, labels: &Labels, count: u64) -> anyhow::Result<Value> {
        eventually(&format!("{count} notifications counted"), async || {
            let instances = self.instances().await?;
            let found = instances.iter().find(|it| it["labels"] == json!(labels)).cloned();
            let found = found.context("no instance")?;
            ensure!(found["notifications_sent"] == count, "{found}");
            Ok(Some(found))
        })
        .await
    }

    /// Deletes the rule. What it fires is resolved by the next tick, whoever makes it.
    pub(crate) async fn delete_rule(&self) -> anyhow::Result<()> {
        let path = format!("{RULES}/{}", self.rule_id);
        let deleted = self.api.call("DELETE", &path, Request::default()).await?;
        deleted.expect(204).map(drop)
    }

    /// Deletes the rule and its channel.
    pub(crate) async fn delete(&self) -> anyhow::Result<()> {
        self.delete_rule().await?;
        if let Some(channel) = &self.channel {
            let path = format!("{CHANNELS}/{channel}");
            let deleted = self.api.call("DELETE", &path, Request::default()).await?;
            deleted.expect(204)?;
        }
        Ok(())
    }
}

/// A time of an answer, in milliseconds.
pub(crate) fn time(answer: &Value, field: &str) -> anyhow::Result<i64> {
    let text = answer[field].as_str();
    let text = text.with_context(|| format!("{field} is not set: {answer}"))?;
    Ok(Timestamp::parse(text)?.0)
}
