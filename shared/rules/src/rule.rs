//! A threshold rule: what it says, and how it is read from JSON.

use crate::condition::Condition;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{LabelFilter, Timestamp};
use tidemark_tsdb::Selector;
use tidemark_tsdb::aggregate::Aggregation;

pub(crate) mod fields;
mod parse;

/// The `window_seconds` of a rule that names none.
pub const DEFAULT_WINDOW_SECONDS: u64 = 300;

/// The longest webhook address, in bytes: what browsers and gateways agree on.
pub const MAX_WEBHOOK_URL_BYTES: usize = 2_048;

/// The most bytes of all annotation templates of one rule together: rendered they are part of every instance and every event,
/// and an event must fit a message of 256 KiB.
pub const MAX_ANNOTATIONS_BYTES: usize = 16_384;

/// The longest channel name, in bytes: it is part of a key.
pub const MAX_CHANNEL_BYTES: usize = 100;

/// The one channel that this version delivers to.
pub const WEBHOOK_CHANNEL: &str = "webhook";

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    Warning,
    /// To be acted on now.
    Critical,
}

impl Severity {
    /// The severity as it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A part of a request that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidField {
    /// The path of the field, as in `annotations.summary` or `notification_channels[0]`; empty for the body as a whole.
    pub field: String,
    /// What is wrong with it, to be read after the field's name: "must be a number".
    pub reason: String,
}

/// What a user writes: every field that a request may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Unique among the rules.
    pub name: String,
    /// The metric that is watched.
    pub metric_name: String,
    /// Which of its series.
    pub labels: LabelFilter,
    /// How the samples of a group become one value; `None`: each series by itself, its latest sample.
    pub aggregation: Option<Aggregation>,
    /// Which labels make a group; only with an aggregation.
    pub group_by: Vec<String>,
    /// How the value is compared.
    pub condition: Condition,
    /// To what. Always finite.
    pub threshold: f64,
    /// For how long the condition must hold before the rule fires; 0: at once.
    pub duration_seconds: u64,
    /// How far back an aggregation reaches.
    pub window_seconds: u64,
    /// How bad it is.
    pub severity: Severity,
    /// Who is told.
    pub notification_channels: Vec<String>,
    /// Where the channel `webhook` posts to.
    pub webhook_url: Option<String>,
    /// Texts with placeholders, see [`crate::template`].
    pub annotations: BTreeMap<String, String>,
    /// A disabled rule is not evaluated, and what it fires is resolved.
    pub enabled: bool,
}

/// A stored rule. Its JSON is flat: what the API answers and what the store keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Given by the edge, never changes.
    pub id: String,
    /// What the user wrote.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// 1 at first, one more with each change.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// As much of a rule as an alert needs to be told: it stays with the instance when the rule is changed or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSnapshot {
    /// The rule's id.
    pub id: String,
    /// Its version at that time.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// Its metric.
    pub metric_name: String,
    /// Its label filter in JSON. Nothing is selected with it any more, and so the patterns in it are not compiled again for each
    /// of the instances that a tick reads.
    pub labels: serde_json::Value,
    /// Its aggregation.
    pub aggregation: Option<Aggregation>,
    /// What it groups by.
    pub group_by: Vec<String>,
    /// Its condition.
    pub condition: Condition,
    /// Its threshold.
    pub threshold: f64,
    /// Its severity.
    pub severity: Severity,
    /// Its channels.
    pub notification_channels: Vec<String>,
    /// Its webhook.
    pub webhook_url: Option<String>,
}

impl RuleSpec {
    /// The series that the rule watches.
    #[must_use]
    pub fn selector(&self) -> Selector {
        Selector {
            metric: self.metric_name.clone(),
            filter: self.labels.clone(),
        }
    }

    /// What the user should know about a rule that is valid, each a sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .notification_channels
            .iter()
            .filter(|channel| *channel != WEBHOOK_CHANNEL)
            .map(|channel| format!("notification channel `{channel}` is not configured: nothing will be sent to it"))
            .collect();
        if self.aggregation.is_none() {
            // Any label may stand in a placeholder: what labels the series will have is not known here.
            return warnings;
        }
        for (annotation, template) in &self.annotations {
            for name in crate::template::label_names(template) {
                if !self.group_by.contains(&name) {
                    warnings.push(format!(
                        "annotation `{annotation}` names `{name}`, which is not in group_by: it will be empty"
                    ));
                }
            }
        }
        warnings
    }
}

impl Rule {
    /// What stays with an instance.
    #[must_use]
    pub fn snapshot(&self) -> RuleSnapshot {
        let spec = &self.spec;
        RuleSnapshot {
            id: self.id.clone(),
            version: self.version,
            name: spec.name.clone(),
            metric_name: spec.metric_name.clone(),
            // Names and texts always have a JSON.
            labels: serde_json::to_value(&spec.labels).unwrap_or_default(),
            aggregation: spec.aggregation,
            group_by: spec.group_by.clone(),
            condition: spec.condition,
            threshold: spec.threshold,
            severity: spec.severity,
            notification_channels: spec.notification_channels.clone(),
            webhook_url: spec.webhook_url.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
