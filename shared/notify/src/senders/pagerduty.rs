//! PagerDuty's Events API, version 2: a group is one alert there, named by its deduplication key; it is triggered, triggered again when
//! its alerts change, and resolved when none fires.

use super::text;
use super::webhook::hex;
use crate::notification::Notification;
use crate::templates::Texts;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tidemark_model::Timestamp;
use tidemark_rules::TransitionKind;
use url::Url;

/// Where events are posted unless a channel says otherwise.
pub const API_URL: &str = "https://events.pagerduty.com/v2/enqueue";

/// The longest summary, in characters; PagerDuty cuts what is longer.
const MAX_SUMMARY_BYTES: usize = 1_024;

/// The most bytes of the text in the details; an event may have 512 KiB.
const MAX_TEXT_BYTES: usize = 32_768;

/// The most alerts in the details one by one.
const MAX_ALERTS: usize = 20;

/// The most bytes of those.
const MAX_ALERTS_BYTES: usize = 131_072;

/// Labels that name the thing that is in trouble, the best first.
const SOURCES: [&str; 6] = ["instance", "host", "hostname", "node", "pod", "service"];
const COMPONENTS: [&str; 4] = ["component", "service", "app", "job"];
const GROUPS: [&str; 5] = ["cluster", "environment", "env", "region", "zone"];

/// Names the group at PagerDuty, for as long as anything of it fires: at most 255 characters are allowed, and a group key may be longer.
#[must_use]
pub fn dedup_key(notification: &Notification) -> String {
    let mut hash = Sha256::new();
    hash.update(notification.channel.as_bytes());
    hash.update([0]);
    hash.update(notification.group_key.as_bytes());
    format!("tidemark-{}", hex(&hash.finalize()))
}

/// The event. The routing key is a secret: it is only in the bytes that are sent.
pub(crate) fn body(notification: &Notification, texts: &Texts, routing_key: &str, now: Timestamp) -> Value {
    let mut event = json!({
        "routing_key": routing_key,
        "dedup_key": dedup_key(notification),
        "client": "Tidemark",
    });
    if notification.status == TransitionKind::Resolved {
        event["event_action"] = json!("resolve");
        return event;
    }
    event["event_action"] = json!("trigger");
    event["payload"] = payload(notification, texts, now);
    let common = notification.common_annotations();
    let runbook = common.get("runbook_url").or_else(|| common.get("runbook"));
    if let Some(url) = runbook.filter(|text| is_link(text)) {
        event["links"] = json!([{"href": url, "text": "Runbook"}]);
    }
    event
}

fn payload(notification: &Notification, texts: &Texts, now: Timestamp) -> Value {
    let labels = notification.common_labels();
    let of = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| labels.get(name))
            .map(|text| text::cut(text, 255))
    };
    let class = labels.get("alertname").map(|name| text::cut(name, 255));
    let fires = |kind: &TransitionKind| *kind == TransitionKind::Firing;
    let began = notification
        .alerts
        .iter()
        .filter(|alert| fires(&alert.status))
        .map(|alert| alert.starts_at)
        .min();
    let firing = text::firing(notification);
    let mut payload = json!({
        "summary": text::cut(&texts.title, MAX_SUMMARY_BYTES),
        "source": of(&SOURCES).or_else(|| class.clone()).unwrap_or_else(|| "tidemark".to_owned()),
        "severity": text::worst(notification).as_str(),
        "timestamp": began.unwrap_or(now).to_rfc3339(),
        "custom_details": {
            "text": texts.plain_body(notification, now, MAX_TEXT_BYTES),
            "channel": notification.channel,
            "firing": firing,
            "resolved": notification.alerts.len() - firing,
            "labels": short(labels.iter().map(|(name, value)| (*name, *value))),
            "alerts": alerts(notification),
        },
    });
    for (field, value) in [("component", of(&COMPONENTS)), ("group", of(&GROUPS)), ("class", class)] {
        if let Some(value) = value {
            payload[field] = json!(value);
        }
    }
    payload
}

/// The first alerts, as many as there is room for; the text says how many more there are.
fn alerts(notification: &Notification) -> Vec<Value> {
    let mut alerts = Vec::new();
    let mut room = MAX_ALERTS_BYTES;
    for alert in text::ordered(notification).into_iter().take(MAX_ALERTS) {
        let json = json!({
            "status": alert.status,
            "summary": text::headline(alert),
            "labels": short(alert.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))),
            "value": text::number(alert.value),
            "starts_at": alert.starts_at.to_rfc3339(),
        });
        let Some(left) = room.checked_sub(json.to_string().len()) else {
            break;
        };
        room = left;
        alerts.push(json);
    }
    alerts
}

/// Labels with values that are cut.
fn short<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<&'a str, String> {
    labels.map(|(name, value)| (name, text::cut(value, 255))).collect()
}

/// PagerDuty refuses an event with a link that is none.
fn is_link(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}
