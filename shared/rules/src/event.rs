//! What is published when an alert fires or resolves. A subscriber needs nothing else to deliver it.

use crate::instance::{TransitionKind, TransitionReason, incident_id};
use crate::rule::RuleSnapshot;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::{Labels, Timestamp, value};

/// The most bytes of an event as JSON: SNS takes 256 KiB, some of which are its envelope and, where a message comes back from the dead
/// letters, the letter around it. One that is refused would stay in its outbox for ever.
pub const MAX_EVENT_BYTES: usize = 200_000;

/// What is left of an event that is too large, step by step: the bytes of all annotations and of each label's value.
const CUTS: [(usize, usize); 4] = [(16_384, usize::MAX), (8_192, 256), (2_048, 128), (0, 32)];

/// One transition, as JSON on the topic. An event may be published more than once; its id stays the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionEvent {
    /// The version of this form: [`Self::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// See [`crate::instance::transition_id`].
    pub id: String,
    /// The instance that changed.
    pub instance_id: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// What happened.
    pub kind: TransitionKind,
    /// Why.
    pub reason: TransitionReason,
    /// When it was decided.
    pub at: Timestamp,
    /// Since when the condition held.
    pub pending_since: Option<Timestamp>,
    /// Since when the incident fires or fired.
    pub firing_since: Timestamp,
    /// When it was resolved; only in a resolve.
    pub resolved_at: Option<Timestamp>,
    /// The value that decided it.
    #[serde(with = "value")]
    pub value: f64,
    /// The labels of the series or group.
    pub labels: Labels,
    /// The rendered annotations.
    pub annotations: BTreeMap<String, String>,
    /// The rule as it was when the incident began to fire.
    pub rule: RuleSnapshot,
    /// Only of a heartbeat: a sign of life of that time, and not the beginning of anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<Timestamp>,
    /// The resolve of the incident before this one, when that was within the last day: a queue keeps no order, and what is told of an alert
    /// must not be overtaken by what comes after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<TransitionEvent>>,
}

/// Why a text is no event.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// Not the JSON of an event.
    #[error("the message is not a transition event")]
    NotAnEvent(#[source] serde_json::Error),
    /// Written by a newer version of Tidemark.
    #[error(
        "the event has schema version {found}; this version reads {}",
        TransitionEvent::SCHEMA_VERSION
    )]
    UnknownVersion {
        /// What it says.
        found: u32,
    },
}

impl TransitionEvent {
    /// The version that is written, and the only one that is read.
    pub const SCHEMA_VERSION: u32 = 2;

    /// Reads an event from a message.
    ///
    /// # Errors
    /// When it is not one, or one of another version.
    pub fn from_json(text: &str) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let Version { schema_version } = serde_json::from_str(text).map_err(EventError::NotAnEvent)?;
        if schema_version != Self::SCHEMA_VERSION {
            return Err(EventError::UnknownVersion { found: schema_version });
        }
        serde_json::from_str(text).map_err(EventError::NotAnEvent)
    }

    /// The event, cut until the topic takes it: first without what was before, then with shorter annotations and label values. Its ids and
    /// its fingerprint stay.
    pub(crate) fn fitting(mut self) -> Self {
        let is_too_large = |event: &Self| serde_json::to_vec(event).is_ok_and(|json| json.len() > MAX_EVENT_BYTES);
        if !is_too_large(&self) {
            return self;
        }
        self.previous = None;
        for (annotations, label) in CUTS {
            if !is_too_large(&self) {
                break;
            }
            let mut left = annotations;
            for text in self.annotations.values_mut() {
                *text = cut(text, left);
                left = left.saturating_sub(text.len());
            }
            let pairs = self
                .labels
                .iter()
                .map(|(name, value)| (name.to_owned(), cut(value, label)));
            // Shorter values are still labels.
            if let Ok(labels) = Labels::from_pairs(pairs) {
                self.labels = labels;
            }
        }
        self
    }

    /// The incident that this is about.
    #[must_use]
    pub fn incident_id(&self) -> String {
        incident_id(&self.instance_id, self.firing_since)
    }

    /// The labels by which it is told, grouped, silenced and inhibited.
    #[must_use]
    pub fn alert_labels(&self) -> BTreeMap<String, String> {
        self.rule.alert_labels(&self.labels)
    }
}

/// A text of at most so many bytes, and `…` where something was cut off.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// An event was not published; it stays in its outbox and the next tick tries again.
#[derive(Debug, thiserror::Error)]
#[error("the event was not published: {reason}")]
pub struct PublishError {
    /// What the topic said, for the log.
    pub reason: String,
}

/// A message of the topic: what `notify` is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// Tell this.
    Event(Box<TransitionEvent>),
    /// Look whether anything of a lane is due; see `tidemark-notify`.
    Wake {
        /// The lane.
        lane: String,
    },
}

impl Message {
    /// Reads a message of the topic. What is no JSON object of a known type is told apart from an event of another version.
    ///
    /// # Errors
    /// When it is no message, or an event of another version.
    pub fn from_json(text: &str) -> Result<Self, EventError> {
        #[derive(Deserialize)]
        struct Version {
            schema_version: Option<u32>,
        }
        let Version { schema_version } = serde_json::from_str(text).map_err(EventError::NotAnEvent)?;
        if let Some(found) = schema_version.filter(|found| *found != TransitionEvent::SCHEMA_VERSION) {
            return Err(EventError::UnknownVersion { found });
        }
        serde_json::from_str(text).map_err(EventError::NotAnEvent)
    }
}

/// Where transitions are published.
pub trait Publish: Send + Sync {
    /// Publishes the messages, as many as possible, in any order, and answers for each one in the order given; the answer has as many
    /// entries as there are messages. `Ok` means that the topic has durably taken the message. An implementation splits into as many calls
    /// as its topic needs and retries only what failed. Publishing a message twice is harmless.
    fn publish(&self, messages: &[Message]) -> impl Future<Output = Vec<Result<(), PublishError>>> + Send;
}

#[cfg(test)]
mod tests;
