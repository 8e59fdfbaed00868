//! What happened, kept for a year: every transition, every attempt to notify, every notification that was suppressed.

use crate::instance::{Instance, Transition, TransitionKind, TransitionReason};
use crate::rule::Severity;
use serde::{Deserialize, Serialize};
use tidemark_model::{Labels, Timestamp, value};

/// One thing that happened to one alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// Unique; the same whenever the same thing is written again.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The rule.
    pub rule_id: String,
    /// Its name at that time.
    pub rule_name: String,
    /// Its severity at that time.
    pub severity: Severity,
    /// The instance.
    pub instance_id: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// Its labels.
    pub labels: Labels,
    /// What.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum HistoryEvent {
    /// The state changed, or somebody acknowledged it.
    Transition {
        /// To what.
        state: TransitionKind,
        /// Why.
        reason: TransitionReason,
        /// The value that decided it.
        #[serde(with = "value")]
        value: f64,
        /// Who did it, when it was done by hand.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// What they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        comment: Option<String>,
    },
    /// An attempt to tell it.
    Notification {
        /// The channel.
        channel: String,
        /// The group it was told in.
        group_key: String,
        /// What was told of this alert: firing or resolved.
        state: TransitionKind,
        /// The id of the notification: its idempotency key.
        notification_id: String,
        /// The number of the attempt, counted from 1.
        attempt: u32,
        /// How it ended.
        outcome: AttemptOutcome,
        /// Why it failed; never a secret.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// It is not told now, or never.
    Suppressed {
        /// The channel.
        channel: String,
        /// Why: `silenced by <ids>`, `inhibited by <alert>`, `muted by <name>`, `acknowledged`, `the channel is not configured`.
        reason: String,
    },
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The receiver took it.
    Sent,
    /// It failed and is tried again.
    Failed,
    /// It failed and is not tried again.
    GivenUp,
    /// The process died before the answer was recorded; it is sent again under the same id.
    Unknown,
}

/// Which entries a list is about. Every given condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryFilter {
    /// Of the rule with this id.
    pub rule_id: Option<String>,
    /// Of the alert with this fingerprint.
    pub fingerprint: Option<String>,
    /// Not before.
    pub start: Option<Timestamp>,
    /// Not after.
    pub end: Option<Timestamp>,
}

impl HistoryFilter {
    /// Whether an entry passes.
    #[must_use]
    pub fn matches(&self, entry: &HistoryEntry) -> bool {
        self.rule_id.as_ref().is_none_or(|id| *id == entry.rule_id)
            && self
                .fingerprint
                .as_ref()
                .is_none_or(|print| *print == entry.fingerprint)
            && self.start.is_none_or(|start| start <= entry.at)
            && self.end.is_none_or(|end| entry.at <= end)
    }
}

impl HistoryEntry {
    /// The entry of a transition in an instance's outbox. Its id holds no version: an outbox may pass to a newer version before it is empty.
    #[must_use]
    pub fn of_transition(instance: &Instance, transition: &Transition) -> Self {
        Self {
            id: format!("{}.{}.{}", instance.id, transition.at.0, transition.kind.as_str()),
            at: transition.at,
            rule_id: instance.rule.id.clone(),
            rule_name: instance.rule.name.clone(),
            severity: instance.rule.severity,
            instance_id: instance.id.clone(),
            fingerprint: instance.fingerprint.clone(),
            labels: instance.labels.clone(),
            event: HistoryEvent::Transition {
                state: transition.kind,
                reason: transition.reason,
                value: transition.value,
                by: transition.by.clone(),
                comment: transition.comment.clone(),
            },
        }
    }
}
