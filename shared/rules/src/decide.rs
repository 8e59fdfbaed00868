//! The life of an alert as one pure function: (rule, previous instances, result vector, now) → what changes.
//!
//! The cast: a *row* is one value that the condition is asked about; an *instance* is what a row with these labels has
//! become over time; a *transition* is a change that people are told about. The rules are those of Prometheus
//! (`rules/alerting.go`):
//!
//! - The first tick on which the condition holds begins an incident: `pending_since`. It fires on the first tick on which
//!   that is at least `duration_seconds` ago, with a duration of 0 at once.
//! - A pending incident whose condition stops goes back to inactive, and nobody hears of it. A firing one is resolved.
//! - No row is the same as a condition that does not hold: a series that ends resolves its alert. (An *error* while reading
//!   is no answer at all; then this function is not asked, and nothing changes.)
//! - A resolved instance whose condition holds again is a new incident, also when it was resolved by hand.
//! - Ticks may be missed: only times count, never the number of ticks. A clock that steps back makes no negative durations.
//!
//! An instance whose outbox is not empty waits: nothing about it changes until it has been told what it was before. So an
//! outbox never grows, and a topic that is down delays alerts but loses and reorders none.

use crate::instance::{
    Instance, InstanceState, Transition, TransitionKind, TransitionReason, fingerprint, instance_id,
};
use crate::rule::Rule;
use crate::template;
use crate::vector::Row;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{Labels, Timestamp, limits};

/// How long an instance that is over stays to be looked at, in milliseconds: a day.
pub const ENDED_RETENTION_MS: i64 = 86_400_000;

/// A write that follows from a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Save this state if the stored version is `expected`.
    Save {
        /// The new state, with its new version.
        instance: Box<Instance>,
        /// The version it replaces; `None`: there is none.
        expected: Option<u64>,
        /// What people are to be told; it is also the last entry of the instance's outbox.
        transition: Option<Transition>,
    },
    /// Remove an instance that has been over for long, if the stored version is `expected`.
    Remove {
        /// Its id.
        id: String,
        /// Its version.
        expected: u64,
    },
}

/// What follows from one evaluation of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// The writes, in ascending order of the instances' labels. What does not change is not among them.
    pub changes: Vec<Change>,
    /// How many rows met the condition and became no instance, because the rule has [`limits::MAX_INSTANCES_PER_RULE`].
    pub dropped: usize,
}

/// Decides what one evaluation of a rule changes. `previous` are all instances of this rule, `rows` its result vector,
/// `unobserved_ms` the time before `now` in which nobody looked.
#[must_use]
pub fn decide(rule: &Rule, previous: &[Instance], rows: &[Row], now: Timestamp, unobserved_ms: i64) -> Decision {
    let _ = unobserved_ms;
    if !rule.spec.enabled {
        return end_all(previous, TransitionReason::RuleDisabled, now);
    }
    let rows: BTreeMap<&Labels, &Row> = rows.iter().map(|row| (&row.labels, row)).collect();
    let known: BTreeMap<&Labels, &Instance> = previous.iter().map(|instance| (&instance.labels, instance)).collect();
    let all: BTreeSet<&Labels> = rows.keys().chain(known.keys()).copied().collect();

    let mut decision = Decision::default();
    let mut room = limits::MAX_INSTANCES_PER_RULE
        .saturating_sub(previous.iter().filter(|instance| instance.state.is_active()).count());
    for labels in all {
        let row = rows.get(labels).copied();
        let before = known.get(labels).copied();
        if before.is_some_and(|instance| !instance.unsent.is_empty()) {
            continue;
        }
        let change = match (row.filter(|row| row.holds), before) {
            (Some(row), Some(before)) if before.state.is_active() => go_on(rule, before, row, now),
            (Some(_), _) if room == 0 => {
                decision.dropped += 1;
                None
            }
            (Some(row), before) => {
                room -= 1;
                Some(begin(rule, before, row, now))
            }
            (None, Some(before)) => end(before, row, why_over(rule, before, row), now),
            (None, None) => None,
        };
        decision.changes.extend(change);
    }
    decision
}

/// Decides what becomes of instances whose rule is gone.
#[must_use]
pub fn decide_orphans(previous: &[Instance], now: Timestamp) -> Decision {
    end_all(previous, TransitionReason::RuleDeleted, now)
}

/// Resolves an instance by hand; `None` when it is not active. If its condition still holds on the next tick, a new incident
/// begins.
#[must_use]
pub fn resolve_by_hand(instance: &Instance, now: Timestamp) -> Option<Change> {
    if !instance.state.is_active() {
        return None;
    }
    end(instance, None, TransitionReason::ResolvedByHand, now)
}

fn end_all(previous: &[Instance], reason: TransitionReason, now: Timestamp) -> Decision {
    let settled = previous.iter().filter(|instance| instance.unsent.is_empty());
    Decision {
        changes: settled
            .filter_map(|instance| end(instance, None, reason, now))
            .collect(),
        dropped: 0,
    }
}

/// Why a firing instance is over, as far as the rule and the row tell.
fn why_over(rule: &Rule, before: &Instance, row: Option<&Row>) -> TransitionReason {
    match row {
        _ if before.rule.query != rule.snapshot().query => TransitionReason::RuleChanged,
        Some(_) => TransitionReason::ConditionCleared,
        None => TransitionReason::DataMissing,
    }
}

/// The condition holds for what was not active: a new incident.
fn begin(rule: &Rule, before: Option<&Instance>, row: &Row, now: Timestamp) -> Change {
    let fingerprint = fingerprint(&rule.id, &row.labels);
    // An incident is named by the time it fires: never the one of the incident before, whatever the clock says.
    let after = before
        .and_then(|before| before.resolved_at)
        .map_or(i64::MIN, |at| at.0.saturating_add(1));
    let since = Timestamp(now.0.max(after));
    let instance = Instance {
        id: instance_id(&rule.id, &fingerprint),
        rule: rule.snapshot(),
        fingerprint,
        labels: row.labels.clone(),
        state: InstanceState::Pending,
        current_value: row.value,
        annotations: template::render(&rule.spec, &row.labels, row.value),
        pending_since: Some(since),
        firing_since: None,
        resolved_at: None,
        keep_firing_since: None,
        acknowledged: None,
        updated_at: now,
        version: before.map_or(0, |before| before.version),
        unsent: Vec::new(),
        notifications_sent: before.map_or(0, |before| before.notifications_sent),
        last_notification_at: before.and_then(|before| before.last_notification_at),
    };
    let expected = before.map(|before| before.version);
    if rule.spec.duration_seconds == 0 {
        fire(instance, expected, since, now)
    } else {
        save(instance, expected, None, now)
    }
}

/// The condition still holds for what is pending or firing.
fn go_on(rule: &Rule, before: &Instance, row: &Row, now: Timestamp) -> Option<Change> {
    let mut instance = before.clone();
    instance.current_value = row.value;
    instance.annotations = template::render(&rule.spec, &row.labels, row.value);
    if before.state == InstanceState::Pending {
        instance.rule = rule.snapshot();
        // A clock that stepped back: the incident cannot have begun in the future.
        let since = Timestamp(before.pending_since.map_or(now.0, |since| since.0.min(now.0)));
        instance.pending_since = Some(since);
        let held_ms = now.0.saturating_sub(since.0);
        // At most a week of seconds (`limits::MAX_RULE_SECONDS`).
        let duration_ms = i64::try_from(rule.spec.duration_seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000);
        if held_ms >= duration_ms {
            return Some(fire(instance, Some(before.version), now, now));
        }
    }
    let same = instance.current_value.to_bits() == before.current_value.to_bits()
        && instance.annotations == before.annotations
        && instance.rule == before.rule
        && instance.pending_since == before.pending_since;
    (!same).then(|| save(instance, Some(before.version), None, now))
}

fn fire(mut instance: Instance, expected: Option<u64>, since: Timestamp, now: Timestamp) -> Change {
    instance.state = InstanceState::Firing;
    instance.firing_since = Some(since);
    let transition = Transition {
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: since,
        firing_since: since,
        value: instance.current_value,
        by: None,
        comment: None,
    };
    save(instance, expected, Some(transition), now)
}

/// The condition does not hold, or is no longer asked about.
fn end(before: &Instance, row: Option<&Row>, reason: TransitionReason, now: Timestamp) -> Option<Change> {
    let mut instance = before.clone();
    match before.state {
        InstanceState::Pending => {
            instance.state = InstanceState::Inactive;
            instance.pending_since = None;
            Some(save(instance, Some(before.version), None, now))
        }
        InstanceState::Firing => {
            let firing_since = before.firing_since.unwrap_or(now);
            let at = now.max(firing_since);
            instance.state = InstanceState::Resolved;
            instance.resolved_at = Some(at);
            instance.current_value = row.map_or(before.current_value, |row| row.value);
            let transition = Transition {
                kind: TransitionKind::Resolved,
                reason,
                at,
                firing_since,
                value: instance.current_value,
                by: None,
                comment: None,
            };
            Some(save(instance, Some(before.version), Some(transition), now))
        }
        InstanceState::Inactive | InstanceState::Resolved => {
            let over_ms = now.0.saturating_sub(before.updated_at.0);
            (over_ms > ENDED_RETENTION_MS).then(|| Change::Remove {
                id: before.id.clone(),
                expected: before.version,
            })
        }
    }
}

fn save(mut instance: Instance, expected: Option<u64>, transition: Option<Transition>, now: Timestamp) -> Change {
    instance.version = instance.version.saturating_add(1);
    instance.updated_at = now;
    instance.unsent.extend(transition.clone());
    Change::Save {
        instance: Box::new(instance),
        expected,
        transition,
    }
}

#[cfg(test)]
mod tests;
