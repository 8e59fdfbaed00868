//! An alert rule: what it says, and how it is read from JSON.

use crate::condition::Condition;
use crate::routing::ChannelUse;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{LabelFilter, Labels, Timestamp};
use tidemark_tsdb::Selector;
use tidemark_tsdb::aggregate::fold::Function;

pub mod fields;
mod parse;

/// The `window_seconds` of a rule that names none.
pub const DEFAULT_WINDOW_SECONDS: u64 = 300;

/// The `interval_seconds` of a rule that names none, and the shortest: a schedule's finest step.
pub const MIN_INTERVAL_SECONDS: u64 = 60;

/// The longest webhook address, in bytes: what browsers and gateways agree on.
pub const MAX_WEBHOOK_URL_BYTES: usize = 2_048;

/// The most bytes of all annotation templates of one rule together: rendered they are part of every instance and every event,
/// and an event must fit a message of 256 KiB.
pub const MAX_ANNOTATIONS_BYTES: usize = 16_384;

/// The longest channel name, in bytes: it is part of a key.
pub const MAX_CHANNEL_BYTES: usize = 100;

/// The channel of a rule's own `webhook_url`, when no channel of that name is configured.
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

/// What a rule asks of the data. Each kind yields a result vector ([`crate::vector::Row`]); nothing that comes after knows which
/// kind it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Query {
    /// Compares a value of each series or group with a threshold.
    Threshold(Threshold),
    /// Always one row that holds: a dead man's switch. It reads nothing.
    Heartbeat,
}

/// A threshold on a metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The metric that is watched.
    pub metric_name: String,
    /// Which of its series.
    pub labels: LabelFilter,
    /// How the samples of a group become one value, as in a query; `None`: each series by itself, its latest sample.
    pub aggregation: Option<Function>,
    /// Which labels make a group; only with an aggregation.
    pub group_by: Vec<String>,
    /// How the value is compared.
    pub condition: Condition,
    /// To what. Always finite.
    pub threshold: f64,
    /// How far back an aggregation reaches.
    pub window_seconds: u64,
}

/// What a rule makes of data that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoData {
    /// No row is the same as a condition that does not hold, as in Prometheus.
    #[default]
    Ok,
    /// It is itself a problem: what is known goes on as if the condition held, and a rule without any row has one alert with no labels
    /// but its own.
    Alerting,
    /// Everything stays as it is until there is data again.
    Keep,
}

/// What a user writes: every field that a request may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// Unique among the rules.
    pub name: String,
    /// What is asked of the data. Its fields stand beside the others in JSON.
    #[serde(flatten)]
    pub query: Query,
    /// For how long the condition must hold before the rule fires; 0: at once.
    pub duration_seconds: u64,
    /// For how long it goes on firing after the condition has stopped.
    pub keep_firing_for_seconds: u64,
    /// How often it is evaluated: a whole number of minutes.
    pub interval_seconds: u64,
    /// What missing data means.
    pub no_data: NoData,
    /// How bad it is.
    pub severity: Severity,
    /// Labels that every alert of the rule has besides those of its series. They win over those, as in Prometheus.
    pub alert_labels: BTreeMap<String, String>,
    /// Who is told, each with settings of its own.
    pub notification_channels: Vec<ChannelUse>,
    /// Where the channel `webhook` posts to, when no channel of that name is configured.
    pub webhook_url: Option<String>,
    /// After how long who was told is told again; `None`: as the channel says.
    pub repeat_interval_seconds: Option<u64>,
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
    /// Its [`Query`] in JSON. Nothing is selected with it any more, and so the patterns in it are not compiled again for each of the
    /// instances that a tick reads.
    pub query: serde_json::Value,
    /// Its severity.
    pub severity: Severity,
    /// Its own labels.
    pub alert_labels: BTreeMap<String, String>,
    /// Its channels.
    pub notification_channels: Vec<ChannelUse>,
    /// Its webhook.
    pub webhook_url: Option<String>,
    /// Its repeat interval.
    pub repeat_interval_seconds: Option<u64>,
}

impl Query {
    /// The series that are watched; `None` when no data is read.
    #[must_use]
    pub fn selector(&self) -> Option<Selector> {
        match self {
            Self::Threshold(threshold) => Some(Selector {
                metric: threshold.metric_name.clone(),
                filter: threshold.labels.clone(),
            }),
            Self::Heartbeat => None,
        }
    }
}

impl RuleSpec {
    /// What the user should know about a rule that is valid, each a sentence. Which channels exist is not known here.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.webhook_url.is_none()
            && self
                .notification_channels
                .iter()
                .any(|used| used.channel == WEBHOOK_CHANNEL)
        {
            warnings.push(format!(
                "without a webhook_url the channel `{WEBHOOK_CHANNEL}` is told only if a channel of that name is configured"
            ));
        }
        let Query::Threshold(threshold) = &self.query else {
            return warnings;
        };
        if threshold.aggregation.is_none() {
            // Any label may stand in a placeholder: what labels the series will have is not known here.
            return warnings;
        }
        for (annotation, template) in &self.annotations {
            for name in crate::template::label_names(template) {
                if !threshold.group_by.contains(&name) && !self.alert_labels.contains_key(&name) {
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
            // Names and texts always have a JSON.
            query: serde_json::to_value(&spec.query).unwrap_or_default(),
            severity: spec.severity,
            alert_labels: spec.alert_labels.clone(),
            notification_channels: spec.notification_channels.clone(),
            webhook_url: spec.webhook_url.clone(),
            repeat_interval_seconds: spec.repeat_interval_seconds,
        }
    }
}

impl RuleSnapshot {
    /// The labels by which an alert of this rule is told, grouped, silenced and inhibited: those of its series, the rule's own, its name as
    /// `alertname` and its `severity`. As in Prometheus the rule's win over those of the series.
    #[must_use]
    pub fn alert_labels(&self, labels: &Labels) -> BTreeMap<String, String> {
        let mut all: BTreeMap<String, String> = labels
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        all.insert("severity".to_owned(), self.severity.as_str().to_owned());
        all.extend(self.alert_labels.clone());
        all.insert("alertname".to_owned(), self.name.clone());
        all
    }

    /// Whether it is a heartbeat.
    #[must_use]
    pub fn is_heartbeat(&self) -> bool {
        self.asked("kind") == Some(&serde_json::Value::from("heartbeat"))
    }

    /// A field of its query.
    pub(crate) fn asked(&self, field: &str) -> Option<&serde_json::Value> {
        self.query.get(field)
    }
}

#[cfg(test)]
mod tests;
