//! One alert of one rule: the series or group that it is about, and what state it is in.

use crate::event::TransitionEvent;
use crate::rule::RuleSnapshot;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tidemark_model::series::write_canonical;
use tidemark_model::{Labels, Timestamp, value};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// The condition held for a while and stopped before it had held for the rule's duration. Nobody was notified.
    Inactive,
    /// The condition holds, but not yet for the rule's duration.
    Pending,
    /// The condition has held for the rule's duration.
    Firing,
    /// It fired and is over.
    Resolved,
}

/// A text is no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of inactive, pending, firing, resolved")]
pub struct UnknownState;

impl InstanceState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Inactive, Self::Pending, Self::Firing, Self::Resolved];

    /// Whether the condition holds: pending or firing.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Pending | Self::Firing)
    }

    /// The state as it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for InstanceState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or(UnknownState)
    }
}

/// A change of an instance. People are told of [`TransitionKind::Firing`] and [`TransitionKind::Resolved`]; all stand in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransitionKind {
    /// The condition began to hold.
    Pending,
    /// It stopped before anybody was told.
    Inactive,
    /// A problem began.
    Firing,
    /// It is over.
    Resolved,
    /// Somebody takes care of it.
    Acknowledged,
}

impl TransitionKind {
    /// The kind as it is written in JSON and in transition ids.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Inactive => "inactive",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
            Self::Acknowledged => "acknowledged",
        }
    }

    /// Whether people are told.
    #[must_use]
    pub fn is_told(self) -> bool {
        matches!(self, Self::Firing | Self::Resolved)
    }
}

/// Why a transition happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionReason {
    /// The condition holds.
    ConditionMet,
    /// The condition has held for the rule's duration.
    ConditionHeld,
    /// The condition no longer holds.
    ConditionCleared,
    /// The series or group has no current sample any more.
    DataMissing,
    /// The rule was changed, and under its new form the condition does not hold.
    RuleChanged,
    /// The rule was disabled.
    RuleDisabled,
    /// The rule was deleted.
    RuleDeleted,
    /// Somebody resolved it by hand.
    ResolvedByHand,
    /// Somebody acknowledged it.
    Acknowledged,
}

/// A change of state that is to be told, kept in its instance until it has been published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// What happened.
    pub kind: TransitionKind,
    /// Why.
    pub reason: TransitionReason,
    /// When it was decided.
    pub at: Timestamp,
    /// When the incident began to fire; together with the instance's id it names the incident. For what never fired, when its condition
    /// began to hold.
    pub firing_since: Timestamp,
    /// The value that decided it; at a resolve without data the last one known.
    #[serde(with = "value")]
    pub value: f64,
    /// Who did it, when it was done by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The most bytes of the resolve that travels with what comes after it: both must fit one message of 256 KiB. Beyond it the order of two
/// incidents rests on the queue, which keeps it nearly always.
const MAX_PREVIOUS_BYTES: usize = 32_768;

/// Somebody takes care of an incident: what still fires is not told again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// What they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// One alert of one rule. The JSON form is for storage; [`Instance::view`] is what the API shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// `<rule id>.<fingerprint>`
    pub id: String,
    /// The rule as it was when the incident began to fire (before that: at the last tick). A resolve goes to those who
    /// were told of the firing, even when the rule has been changed or deleted since.
    pub rule: RuleSnapshot,
    /// See [`fingerprint`].
    pub fingerprint: String,
    /// The labels of the series, or of the group.
    pub labels: Labels,
    /// Where it is in its life.
    pub state: InstanceState,
    /// The value at the last tick on which it was active, or the one that resolved it.
    #[serde(with = "value")]
    pub current_value: f64,
    /// The annotations of the rule, rendered with the labels and the current value.
    pub annotations: BTreeMap<String, String>,
    /// The first tick of this incident on which the condition held.
    pub pending_since: Option<Timestamp>,
    /// When this incident began to fire.
    pub firing_since: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// When the incident before this one was resolved: this one is named by a later time, whatever the clock says.
    #[serde(default)]
    pub previous_resolved_at: Option<Timestamp>,
    /// The resolve of the incident before this one, or of this one when it is over, with that of the one before in it. It travels with what
    /// happens next, so that nobody is told of that before they are told of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<TransitionEvent>>,
    /// Since when its data is missing, where that counts as a problem ([`crate::rule::NoData::Alerting`]). It stays when somebody resolves it
    /// by hand: what is gone for good is not missed again before it has been back.
    #[serde(default)]
    pub missing_since: Option<Timestamp>,
    /// Since when a firing instance's condition does not hold any more, while the rule keeps it firing.
    #[serde(default)]
    pub keep_firing_since: Option<Timestamp>,
    /// Up to when time in which nobody looked has been taken off its times: it is not taken off twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_until: Option<Timestamp>,
    /// Who takes care of this incident.
    #[serde(default)]
    pub acknowledged: Option<Acknowledgement>,
    /// When the state was last saved.
    pub updated_at: Timestamp,
    /// Grows by one with each save of the state: the guard against two evaluations at once.
    pub version: u64,
    /// The outbox: transitions that have not been published yet, oldest first.
    #[serde(default)]
    pub unsent: Vec<Transition>,
    /// How many notifications have been delivered. Written by [`crate::AlertStore::record_notification`] only.
    #[serde(default)]
    pub notifications_sent: u64,
    /// When the last one was delivered. Written by [`crate::AlertStore::record_notification`] only.
    #[serde(default)]
    pub last_notification_at: Option<Timestamp>,
}

/// An instance as the API shows it.
#[derive(Debug, Serialize)]
pub struct InstanceView<'a> {
    id: &'a str,
    rule_id: &'a str,
    rule_name: &'a str,
    severity: crate::rule::Severity,
    state: InstanceState,
    fingerprint: &'a str,
    labels: &'a Labels,
    #[serde(with = "value")]
    current_value: f64,
    annotations: &'a BTreeMap<String, String>,
    pending_since: Option<Timestamp>,
    firing_since: Option<Timestamp>,
    resolved_at: Option<Timestamp>,
    missing_since: Option<Timestamp>,
    keep_firing_since: Option<Timestamp>,
    acknowledged: Option<&'a Acknowledgement>,
    notifications_sent: u64,
    last_notification_at: Option<Timestamp>,
}

/// The fingerprint of an instance: the MD5 of the rule id and the labels, in hexadecimal. The rule id is written as the
/// labels' canonical encoding writes a string (its length as a little-endian `u32`, then its bytes), the labels follow in
/// that encoding. MD5 names things here; nothing is secured by it.
#[must_use]
pub fn fingerprint(rule_id: &str, labels: &Labels) -> String {
    let mut bytes = Vec::with_capacity(256);
    // Ids have sixteen characters or so; the length always fits.
    bytes.extend_from_slice(&u32::try_from(rule_id.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(rule_id.as_bytes());
    write_canonical(&mut bytes, labels.iter());
    Md5::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The id of an instance.
#[must_use]
pub fn instance_id(rule_id: &str, fingerprint: &str) -> String {
    format!("{rule_id}.{fingerprint}")
}

/// The id of an incident: `<instance id>.<firing since, ms>`.
#[must_use]
pub fn incident_id(instance_id: &str, firing_since: Timestamp) -> String {
    format!("{instance_id}.{}", firing_since.0)
}

/// The id of a transition: `<instance id>.<firing since, ms>.<firing|resolved>`. An incident fires once and resolves once, so
/// the id names one notification whoever decides it, and the resolve's id tells the firing's.
#[must_use]
pub fn transition_id(instance_id: &str, firing_since: Timestamp, kind: TransitionKind) -> String {
    format!("{instance_id}.{}.{}", firing_since.0, kind.as_str())
}

impl Instance {
    /// What the API shows.
    #[must_use]
    pub fn view(&self) -> InstanceView<'_> {
        InstanceView {
            id: &self.id,
            rule_id: &self.rule.id,
            rule_name: &self.rule.name,
            severity: self.rule.severity,
            state: self.state,
            fingerprint: &self.fingerprint,
            labels: &self.labels,
            current_value: self.current_value,
            annotations: &self.annotations,
            pending_since: self.pending_since,
            firing_since: self.firing_since,
            resolved_at: self.resolved_at,
            missing_since: self.missing_since,
            keep_firing_since: self.keep_firing_since,
            acknowledged: self.acknowledged.as_ref(),
            notifications_sent: self.notifications_sent,
            last_notification_at: self.last_notification_at,
        }
    }

    /// The event that tells a transition of this instance, cut to what the topic takes.
    #[must_use]
    pub fn event(&self, transition: &Transition) -> TransitionEvent {
        let event = TransitionEvent {
            schema_version: TransitionEvent::SCHEMA_VERSION,
            id: transition_id(&self.id, transition.firing_since, transition.kind),
            instance_id: self.id.clone(),
            fingerprint: self.fingerprint.clone(),
            kind: transition.kind,
            reason: transition.reason,
            at: transition.at,
            pending_since: self.pending_since,
            firing_since: transition.firing_since,
            resolved_at: (transition.kind == TransitionKind::Resolved).then_some(transition.at),
            value: transition.value,
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            rule: self.rule.clone(),
            beat: None,
            previous: self.before(transition.firing_since),
        };
        event.fitting()
    }

    /// The resolve of the last incident that began before a time. One that is very large does not travel.
    fn before(&self, firing_since: Timestamp) -> Option<Box<TransitionEvent>> {
        let mut one = self.previous.as_deref();
        while let Some(event) = one.filter(|event| event.firing_since >= firing_since) {
            one = event.previous.as_deref();
        }
        let alone = Box::new(TransitionEvent {
            previous: None,
            ..one?.clone()
        });
        let bytes = serde_json::to_vec(&alone).map_or(usize::MAX, |json| json.len());
        (bytes <= MAX_PREVIOUS_BYTES).then_some(alone)
    }
}
