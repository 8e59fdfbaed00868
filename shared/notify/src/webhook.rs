//! The body of a webhook: Alertmanager's JSON, version 4 (its `template.Data` and `webhook.Message`), so that receivers
//! written for it work unchanged, and in each alert what Tidemark knows besides.
//!
//! Each message holds one alert: notifications are not grouped in this version. `groupLabels` and `groupKey` name just that
//! alert, and stay the same from its firing to its resolve.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tidemark_model::{Timestamp, value};
use tidemark_rules::{Condition, RuleSnapshot, TransitionEvent, TransitionKind, TransitionReason};

/// The version of Alertmanager's format.
const VERSION: &str = "4";

/// Alertmanager's "no time": Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

type Texts<'a> = BTreeMap<&'a str, &'a str>;

/// The body of a webhook.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: u32,
    status: TransitionKind,
    receiver: &'a str,
    group_labels: Texts<'a>,
    common_labels: Texts<'a>,
    common_annotations: Texts<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    alerts: [Alert<'a>; 1],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert<'a> {
    status: TransitionKind,
    labels: Texts<'a>,
    annotations: Texts<'a>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: &'a str,
    // What follows is Tidemark's.
    #[serde(rename = "instance_id")]
    instance_id: &'a str,
    reason: TransitionReason,
    #[serde(with = "value")]
    value: f64,
    threshold: f64,
    rule: RuleInfo<'a>,
}

#[derive(Debug, Serialize)]
struct RuleInfo<'a> {
    id: &'a str,
    name: &'a str,
    metric_name: &'a str,
    labels: &'a serde_json::Value,
    aggregation: Option<&'static str>,
    group_by: &'a [String],
    condition: Condition,
    threshold: f64,
    severity: &'static str,
}

impl<'a> RuleInfo<'a> {
    fn of(rule: &'a RuleSnapshot) -> Self {
        Self {
            id: &rule.id,
            name: &rule.name,
            metric_name: &rule.metric_name,
            labels: &rule.labels,
            aggregation: rule.aggregation.map(|aggregation| aggregation.as_str()),
            group_by: &rule.group_by,
            condition: rule.condition,
            threshold: rule.threshold,
            severity: rule.severity.as_str(),
        }
    }
}

/// The message that tells an event to a channel.
#[must_use]
pub fn message<'a>(event: &'a TransitionEvent, channel: &'a str) -> Message<'a> {
    let mut labels: Texts<'a> = event.labels.iter().collect();
    // As in Prometheus, the rule's own labels win over those of the series.
    labels.insert("alertname", &event.rule.name);
    labels.insert("severity", event.rule.severity.as_str());
    let annotations: Texts<'a> = event
        .annotations
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let mut group_labels = labels.clone();
    group_labels.remove("severity");
    let starts_at = event.firing_since.to_rfc3339();
    let ends_at = event
        .resolved_at
        .map_or_else(|| NO_TIME.to_owned(), Timestamp::to_rfc3339);
    Message {
        version: VERSION,
        group_key: group_key(&group_labels),
        truncated_alerts: 0,
        status: event.kind,
        receiver: channel,
        group_labels,
        common_labels: labels.clone(),
        common_annotations: annotations.clone(),
        external_url: "",
        alerts: [Alert {
            status: event.kind,
            labels,
            annotations,
            starts_at,
            ends_at,
            generator_url: "",
            fingerprint: &event.fingerprint,
            instance_id: &event.instance_id,
            reason: event.reason,
            value: event.value,
            threshold: event.rule.threshold,
            rule: RuleInfo::of(&event.rule),
        }],
    }
}

/// `{}:{alertname="high_cpu", host="web-01"}`: Alertmanager writes the route's matchers before the colon, and there is one route.
fn group_key(labels: &Texts<'_>) -> String {
    let mut key = String::from("{}:{");
    for (index, (name, value)) in labels.iter().enumerate() {
        let separator = if index == 0 { "" } else { ", " };
        // Writing to a string does not fail. Debug quotes and escapes, as Go's %q does.
        let _ = write!(key, "{separator}{name}={value:?}");
    }
    key.push('}');
    key
}

#[cfg(test)]
mod tests;
