//! Why an alert is not told: silences and inhibitions matched against its labels. Pure. Mute times belong to a channel's settings, not to
//! labels, and are looked at in `dispatch`.

use crate::settings::{Inhibition, Silence};
use std::collections::BTreeMap;
use std::fmt;
use tidemark_model::{LabelFilter, Timestamp};
use tidemark_rules::{Instance, InstanceState};

/// Why something is not told now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Suppression {
    /// There is nobody to tell.
    NoChannel,
    /// Another alert that fires mutes it.
    Inhibited {
        /// The inhibition.
        by: String,
        /// The alert that fires.
        source: String,
    },
    /// Somebody muted it.
    Silenced {
        /// The ids of the silences, in ascending order.
        by: Vec<String>,
    },
    /// It is not the time.
    Muted {
        /// The names of the mute times, in the order of the settings.
        by: Vec<String>,
    },
    /// Somebody takes care of it: what was told is not repeated.
    Acknowledged,
}

/// As it stands in the history.
impl fmt::Display for Suppression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoChannel => f.write_str("the channel is not configured"),
            Self::Inhibited { by, source } => write!(f, "inhibited by {source} ({by})"),
            Self::Silenced { by } => write!(f, "silenced by {}", by.join(", ")),
            Self::Muted { by } => write!(f, "muted by {}", by.join(", ")),
            Self::Acknowledged => f.write_str("acknowledged"),
        }
    }
}

/// The labels of an alert: [`tidemark_rules::RuleSnapshot::alert_labels`].
pub type AlertLabels = BTreeMap<String, String>;

fn matches(filter: &LabelFilter, labels: &AlertLabels) -> bool {
    filter.matches_with(|name| labels.get(name).map(String::as_str))
}

/// The silences that mute an alert, and until when the last of them does; `None` when there is none.
#[must_use]
pub fn silenced(silences: &[Silence], labels: &AlertLabels, now: Timestamp) -> Option<(Suppression, Timestamp)> {
    let mut by = Vec::new();
    let mut until = now;
    for silence in silences {
        if silence.is_active(now) && matches(&silence.matchers, labels) {
            by.push(silence.id.clone());
            until = until.max(silence.ends_at);
        }
    }
    by.sort();
    (!by.is_empty()).then_some((Suppression::Silenced { by }, until))
}

/// An alert that fires, as far as it may mute others.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its instance.
    pub instance_id: String,
    /// Its labels.
    pub labels: AlertLabels,
}

/// The alerts that fire and that some inhibition takes as a source, in ascending order of instances.
#[must_use]
pub fn sources(inhibitions: &[Inhibition], instances: &[Instance]) -> Vec<Source> {
    let firing = instances
        .iter()
        .filter(|instance| instance.state == InstanceState::Firing);
    let mut sources: Vec<Source> = firing
        .map(|instance| Source {
            instance_id: instance.id.clone(),
            labels: instance.rule.alert_labels(&instance.labels),
        })
        .filter(|source| {
            inhibitions
                .iter()
                .any(|inhibition| matches(&inhibition.source_matchers, &source.labels))
        })
        .collect();
    sources.sort_by(|a, b| a.instance_id.cmp(&b.instance_id));
    sources
}

/// The first inhibition that mutes an alert. As in Alertmanager, alerts that match both sides do not mute each other: else two of them would
/// both be silent.
#[must_use]
pub fn inhibited(inhibitions: &[Inhibition], sources: &[Source], labels: &AlertLabels) -> Option<Suppression> {
    for inhibition in inhibitions {
        if !matches(&inhibition.target_matchers, labels) {
            continue;
        }
        let is_source_too = matches(&inhibition.source_matchers, labels);
        let value = |labels: &'_ AlertLabels, name: &str| labels.get(name).cloned().unwrap_or_default();
        let found = sources.iter().find(|source| {
            matches(&inhibition.source_matchers, &source.labels)
                && inhibition
                    .equal
                    .iter()
                    .all(|name| value(&source.labels, name) == value(labels, name))
                && !(is_source_too && matches(&inhibition.target_matchers, &source.labels))
        });
        if let Some(source) = found {
            return Some(Suppression::Inhibited {
                by: inhibition.id.clone(),
                source: source.labels.get("alertname").cloned().unwrap_or_default(),
            });
        }
    }
    None
}

/// The alerts among these that a silence with such matchers would mute: those that are pending or fire.
#[must_use]
pub fn preview<'a>(matchers: &LabelFilter, instances: &'a [Instance]) -> Vec<&'a Instance> {
    instances
        .iter()
        .filter(|instance| instance.state.is_active())
        .filter(|instance| matches(matchers, &instance.rule.alert_labels(&instance.labels)))
        .collect()
}

#[cfg(test)]
mod tests;
