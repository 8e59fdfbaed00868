//! The steps of one alert: channel, rule, pending, firing, webhook, resolved.

use super::agents::CPU;
use super::api::{Api, list};
use super::listener::Listener;
use super::screen::cell;
use super::{Screen, poll};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;

pub(crate) const RULE_NAME: &str = "high_cpu_usage";

const CHANNEL: &str = "on-call";

const THRESHOLD: f64 = 90.0;

/// How long the condition must hold. Short, for the demo's sake.
const DURATION_SECONDS: u64 = 5;

/// Between two evaluations that the demo asks for; the schedule runs beside it.
const TICK: Duration = Duration::from_secs(1);

/// What the demo watches.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) rule_id: String,
    pub(crate) host: &'static str,
}

/// Configures the channel and tries it, after removing what an earlier run left behind.
pub(crate) async fn create_channel(screen: &Screen, api: &Api, listener: &Listener) -> anyhow::Result<()> {
    for id in leftovers(api).await? {
        api.delete(&format!("/api/v1/alerts/rules/{id}")).await?;
        screen.line(&format!("the rule of an earlier run was deleted ({id})"));
    }
    let path = format!("/api/v1/channels/{CHANNEL}");
    let channels = api.get("/api/v1/channels", &[("limit", "1000")]).await?;
    if list(&channels, "channels")?
        .iter()
        .any(|channel| channel["id"] == CHANNEL)
    {
        api.delete(&path).await?;
    }
    // Told at once: whoever watches the demo does not want to wait for others of the group.
    let channel = json!({
        "name": CHANNEL, "type": "webhook", "url": listener.url(), "group_by": ["alertname", "host"],
        "group_wait_seconds": 0, "group_interval_seconds": 1,
    });
    screen.asked(&format!("POST /api/v1/channels {channel}"));
    api.post("/api/v1/channels", &channel).await?;
    screen.asked(&format!("POST {path}/test"));
    let tried = api.post(&format!("{path}/test"), &json!({})).await?;
    screen.line(&format!("  {tried}"));
    ensure!(tried["delivered"] == true, "the test of the channel answered {tried}");
    Ok(())
}

/// Creates the rule.
pub(crate) async fn create_rule(screen: &Screen, api: &Api, host: &'static str) -> anyhow::Result<Watch> {
    let rule = json!({
        "name": RULE_NAME,
        "metric_name": CPU,
        "labels": {"job": "web"},
        "condition": ">",
        "threshold": THRESHOLD,
        "duration_seconds": DURATION_SECONDS,
        "severity": "critical",
        "notification_channels": [CHANNEL],
        "annotations": {"summary": "{{ host }} in {{ region }} is at {{ value }} % CPU (threshold {{ threshold }} %)"},
    });
    let probe = json!({"metric_name": CPU, "condition": ">", "threshold": THRESHOLD, "current_value": 97.0});
    let tested = api.post("/api/v1/alerts/rules/test", &probe).await?;
    ensure!(
        tested["triggered"] == true,
        "the test of the condition answered {tested}"
    );
    screen.asked(&format!("POST /api/v1/alerts/rules/test {probe}"));
    screen.line(&format!(
        "  triggered: {}, {}",
        cell(&tested["triggered"]),
        cell(&tested["reason"])
    ));
    let created = api.post("/api/v1/alerts/rules", &rule).await?;
    let rule_id = created["id"]
        .as_str()
        .with_context(|| format!("the rule has no id: {created}"))?
        .to_owned();
    screen.asked("POST /api/v1/alerts/rules");
    screen.json(&created);
    Ok(Watch { rule_id, host })
}

/// The ids of rules with the demo's name.
async fn leftovers(api: &Api) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut token = None::<String>;
    loop {
        let mut parameters = vec![("limit", "1000")];
        parameters.extend(token.as_deref().map(|t| ("next_token", t)));
        let page = api.get("/api/v1/alerts/rules", &parameters).await?;
        let named = list(&page, "rules")?.iter().filter(|rule| rule["name"] == RULE_NAME);
        found.extend(named.filter_map(|rule| rule["id"].as_str()).map(str::to_owned));
        token = page["next_token"].as_str().map(str::to_owned);
        if token.is_none() {
            return Ok(found);
        }
    }
}

impl Watch {
    /// Waits for `pending`, which must be seen: an alert with a duration may not fire at once.
    pub(crate) async fn until_pending(&self, screen: &Screen, api: &Api) -> anyhow::Result<()> {
        self.until(screen, api, "pending", Some("firing")).await
    }

    /// Asks for evaluations until the alert of the troubled host is in `state`.
    pub(crate) async fn until_state(&self, screen: &Screen, api: &Api, state: &str) -> anyhow::Result<()> {
        self.until(screen, api, state, None).await
    }

    async fn until(&self, screen: &Screen, api: &Api, wanted: &str, skipped: Option<&str>) -> anyhow::Result<()> {
        screen.asked("POST /api/v1/ops/evaluate-alerts, every second (the schedule does so every minute)");
        let mut ticks = 0;
        let instance = poll(&format!("an alert in state {wanted}"), TICK, async || {
            let tick = api.post("/api/v1/ops/evaluate-alerts", &json!({})).await?;
            let instance = self.instance(api).await?;
            ticks += 1;
            let shown = instance.as_ref().map_or_else(
                || "no alert".to_owned(),
                |i| format!("{} {} at {} %", self.host, cell(&i["state"]), cell(&i["current_value"])),
            );
            screen.event(&format!(
                "tick {ticks}: rules evaluated {}, triggered {}, resolved {}; {shown}",
                cell(&tick["rules_evaluated"]),
                cell(&tick["alerts_triggered"]),
                cell(&tick["alerts_resolved"]),
            ));
            // A tick that could not publish leaves that to the next one.
            let unpublished = tick["unpublished"].as_u64().unwrap_or(0);
            if unpublished > 0 {
                bail!("{unpublished} notifications are not published yet");
            }
            // Errors are tried again, so a state that can never lead to the wanted one is handed out.
            Ok(instance.filter(|i| i["state"] == wanted || skipped.is_some_and(|other| i["state"] == other)))
        })
        .await?;
        ensure!(
            instance["state"] == wanted,
            "the alert was {} without having been {wanted}",
            cell(&instance["state"])
        );
        let fields = ["state", "current_value", "pending_since", "firing_since", "resolved_at"];
        let fields: Vec<&str> = fields.into_iter().filter(|f| !instance[*f].is_null()).collect();
        screen.asked(&format!("GET /api/v1/alerts/instances?rule={}", self.rule_id));
        screen.table(&fields, &[fields.iter().map(|f| cell(&instance[*f])).collect()]);
        Ok(())
    }

    async fn instance(&self, api: &Api) -> anyhow::Result<Option<Value>> {
        let answer = api.get("/api/v1/alerts/instances", &[("rule", &self.rule_id)]).await?;
        let of_host = |instance: &&Value| instance["labels"]["host"] == self.host;
        Ok(list(&answer, "instances")?.iter().find(of_host).cloned())
    }

    /// Waits for the webhook with this status about the troubled host, and shows it.
    pub(crate) async fn until_webhook(&self, screen: &Screen, listener: &Listener, status: &str) -> anyhow::Result<()> {
        let about_host = |body: &Value| body["status"] == status && self.alert_in(body).is_some();
        let body = poll(
            &format!("a webhook that says {status}"),
            Duration::from_millis(100),
            async || Ok(listener.find(about_host)),
        )
        .await?;
        screen.event(&format!("POST {} received:", listener.url()));
        screen.json(&body);
        let summary = self
            .alert_in(&body)
            .and_then(|alert| alert["annotations"]["summary"].as_str())
            .unwrap_or_default();
        ensure!(
            summary.contains(self.host) && !summary.contains("{{"),
            "the summary is not rendered: {summary:?}"
        );
        Ok(())
    }

    pub(crate) fn alert_in<'a>(&self, body: &'a Value) -> Option<&'a Value> {
        body["alerts"]
            .as_array()?
            .iter()
            .find(|alert| alert["labels"]["host"] == self.host)
    }
}
