//! What is told to a channel at one time: some alerts of one group.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{Labels, Timestamp};
use tidemark_rules::{RuleSnapshot, Severity, TransitionKind, TransitionReason};

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Something of the group changed.
    Change,
    /// Nothing changed for the repeat interval, and something still fires.
    Repeat,
    /// A heartbeat.
    Heartbeat,
    /// Somebody tries the channel.
    Test,
}

/// A notification. Renderers turn it into what each receiver understands.
#[derive(Clone, Debug, PartialEq)]
pub struct Notification {
    /// The idempotency key: the same for the same news, also when it is sent again.
    pub id: String,
    /// The channel's name.
    pub channel: String,
    /// Names the group for as long as anything of it fires; the base of deduplication keys. Alertmanager's form:
    /// `{}:{alertname="high_cpu"}`.
    pub group_key: String,
    /// The labels that make the group.
    pub group_labels: BTreeMap<String, String>,
    /// Firing while any of its alerts fires, else resolved.
    pub status: TransitionKind,
    /// Why it is sent.
    pub cause: Cause,
    /// Whether it stands for several groups, because the channel's rate limit was reached.
    pub is_digest: bool,
    /// The alerts: those that fire and those that were resolved since the last time, in ascending order of `starts_at`, then labels.
    /// Never empty.
    pub alerts: Vec<Alert>,
    /// How many alerts are left out.
    pub truncated_alerts: usize,
}

/// One alert of a notification. One that is resolved tells of its firing as well: it may have begun and ended unheard.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Firing or resolved.
    pub status: TransitionKind,
    /// Why it is so.
    pub reason: TransitionReason,
    /// See [`RuleSnapshot::alert_labels`].
    pub labels: BTreeMap<String, String>,
    /// The rendered annotations.
    pub annotations: BTreeMap<String, String>,
    /// When it began to fire.
    pub starts_at: Timestamp,
    /// When it was resolved.
    pub ends_at: Option<Timestamp>,
    /// The fingerprint of its instance.
    pub fingerprint: String,
    /// Its instance.
    pub instance_id: String,
    /// The value that decided it.
    pub value: f64,
    /// The rule as it was when the incident began to fire.
    pub rule: RuleSnapshot,
}

/// The rule that a test of a channel names.
pub const TEST_RULE: &str = "test_notification";

impl Notification {
    /// What a test of a channel sends: one alert that fires, or the same when it is over. Whoever tests sends both, one after the other, so
    /// that no incident stays open at the receiver. `id` is the idempotency key.
    #[must_use]
    pub fn test(channel: &str, id: &str, status: TransitionKind, now: Timestamp) -> Self {
        let rule = RuleSnapshot {
            id: "test".to_owned(),
            version: 1,
            name: TEST_RULE.to_owned(),
            query: serde_json::json!({"kind": "test"}),
            severity: Severity::Info,
            alert_labels: BTreeMap::new(),
            notification_channels: vec![channel.into()],
            webhook_url: None,
            repeat_interval_seconds: None,
        };
        let summary = format!("This is a test of the channel {channel}. Nothing is wrong.");
        let is_resolved = status == TransitionKind::Resolved;
        Self {
            id: id.to_owned(),
            channel: channel.to_owned(),
            group_key: format!("{{}}:{{alertname={TEST_RULE:?}}}"),
            group_labels: [("alertname".to_owned(), TEST_RULE.to_owned())].into(),
            status,
            cause: Cause::Test,
            is_digest: false,
            alerts: vec![Alert {
                status,
                reason: if is_resolved {
                    TransitionReason::ConditionCleared
                } else {
                    TransitionReason::ConditionHeld
                },
                labels: rule.alert_labels(&Labels::default()),
                annotations: [("summary".to_owned(), summary)].into(),
                starts_at: now,
                ends_at: is_resolved.then_some(now),
                fingerprint: "0000000000000000".to_owned(),
                instance_id: "test".to_owned(),
                value: 1.0,
                rule,
            }],
            truncated_alerts: 0,
        }
    }

    /// The labels that all alerts share.
    #[must_use]
    pub fn common_labels(&self) -> BTreeMap<&str, &str> {
        common(self.alerts.iter().map(|alert| &alert.labels))
    }

    /// The annotations that all alerts share.
    #[must_use]
    pub fn common_annotations(&self) -> BTreeMap<&str, &str> {
        common(self.alerts.iter().map(|alert| &alert.annotations))
    }
}

fn common<'a>(mut all: impl Iterator<Item = &'a BTreeMap<String, String>>) -> BTreeMap<&'a str, &'a str> {
    let first = all.next().into_iter().flatten();
    let mut shared: BTreeMap<&str, &str> = first.map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for other in all {
        shared.retain(|name, value| other.get(*name).is_some_and(|theirs| theirs == value));
    }
    shared
}
