//! The life of an alert as one pure function: (rule, previous instances, result vector, now) → what changes.
//!
//! The cast: a *row* is one value that the condition is asked about; an *instance* is what a row with these labels has
//! become over time; a *transition* is a change of it, which goes to the history and, when it fires or is resolved, to people. The
//! rules are those of Prometheus (`rules/alerting.go`):
//!
//! - The first tick on which the condition holds begins an incident: `pending_since`. It fires on the first tick on which
//!   that is at least `duration_seconds` ago, with a duration of 0 at once.
//! - A pending incident whose condition stops goes back to inactive, and nobody is told. A firing one is resolved, once its condition has
//!   not held for `keep_firing_for_seconds`.
//! - No row is the same as a condition that does not hold: a series that ends resolves its alert. (An *error* while reading
//!   is no answer at all; then this function is not asked, and nothing changes.) A rule may say otherwise: see
//!   [`NoData`](crate::rule::NoData).
//! - A resolved instance whose condition holds again is a new incident, also when it was resolved by hand.
//! - Ticks may be missed: only times count, never the number of ticks. Time in which nobody looked (`unobserved_ms`) does not count
//!   towards a duration: an outage of the evaluation fires nothing by itself. A clock that steps back makes no negative durations.
//!
//! An instance whose outbox is not empty waits: its state does not change until everybody knows what it was before. So an
//! outbox never grows by itself, and a topic that is down delays alerts but loses and reorders none.

use crate::instance::{
    Acknowledgement, Instance, InstanceState, Transition, TransitionKind, TransitionReason, fingerprint, instance_id,
};
use crate::rule::{NoData, Rule};
use crate::template;
use crate::vector::Row;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::{Labels, Timestamp, limits};

mod absence;

/// How long an instance that is over stays to be looked at, in milliseconds: a day.
pub const ENDED_RETENTION_MS: i64 = 86_400_000;

/// How many instances of a rule that are over are kept: each evaluation loads them all, and whoever looks at what was reads the history. Beyond
/// it the oldest ones go before their time.
pub const MAX_ENDED_PER_RULE: usize = 1_000;

/// A gap between two evaluations up to this, or two intervals of the rule, is one that nobody need notice.
const USUAL_GAP_MS: i64 = 5 * 60_000;

/// A write that follows from a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Save this state if the stored version is `expected`.
    Save {
        /// The new state, with its new version.
        instance: Box<Instance>,
        /// The version it replaces; `None`: there is none.
        expected: Option<u64>,
        /// What happened; it is also the last entry of the instance's outbox.
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
    /// The writes, in ascending order of the instances' labels; after them what is removed because it is too many. What does not change is not among them.
    pub changes: Vec<Change>,
    /// How many rows met the condition and became no instance, because the rule has [`limits::MAX_INSTANCES_PER_RULE`].
    pub dropped: usize,
}

/// What the condition says of one set of labels.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// It holds, or counts as if it did because data is missing.
    Holds { value: f64, missing: bool },
    /// It does not. Without a value there is no row.
    Cleared {
        value: Option<f64>,
        reason: TransitionReason,
    },
    /// Nobody can say; what is active stays as it is.
    Unknown,
}

/// One evaluation of one rule.
struct Evaluation<'a> {
    rule: &'a Rule,
    now: Timestamp,
    unobserved_ms: i64,
    /// Whether the result vector has any row.
    has_rows: bool,
    /// Whether an alert with labels says better than one without what is missing. Looked at only where data may be missing.
    has_labelled: bool,
}

/// Decides what one evaluation of a rule changes. `previous` are all instances of this rule, `rows` its result vector,
/// `unobserved_ms` how much of the time before `now` nobody looked.
#[must_use]
pub fn decide(rule: &Rule, previous: &[Instance], rows: &[Row], now: Timestamp, unobserved_ms: i64) -> Decision {
    if !rule.spec.enabled {
        return end_all(previous, TransitionReason::RuleDisabled, now);
    }
    let evaluation = Evaluation {
        rule,
        now,
        unobserved_ms: unobserved_ms.max(0),
        has_rows: !rows.is_empty(),
        has_labelled: rows.is_empty() && absence::has_labelled(rule, previous),
    };
    let rows: BTreeMap<&Labels, &Row> = rows.iter().map(|row| (&row.labels, row)).collect();
    let known: BTreeMap<&Labels, &Instance> = previous.iter().map(|instance| (&instance.labels, instance)).collect();
    let unlabelled = Labels::default();
    let mut all: BTreeSet<&Labels> = rows.keys().chain(known.keys()).copied().collect();
    // Who misses everything has no labels to say it of.
    all.insert(&unlabelled);

    let mut decision = Decision::default();
    let mut room = limits::MAX_INSTANCES_PER_RULE
        .saturating_sub(previous.iter().filter(|instance| instance.state.is_active()).count());
    for labels in all {
        let before = known.get(labels).copied();
        if let Some(before) = before.filter(|instance| !instance.unsent.is_empty()) {
            decision.changes.extend(evaluation.wait(before));
            continue;
        }
        let change = match (evaluation.ask(labels, rows.get(labels).copied(), before), before) {
            (Answer::Holds { value, missing }, Some(before)) if before.state.is_active() => {
                evaluation.go_on(before, value, missing)
            }
            (Answer::Holds { .. }, _) if room == 0 => {
                decision.dropped += 1;
                None
            }
            (Answer::Holds { value, missing }, before) => {
                room -= 1;
                Some(evaluation.begin(labels, before, value, missing))
            }
            (Answer::Cleared { value, reason }, Some(before)) => evaluation.clear(before, value, reason),
            (Answer::Unknown, Some(before)) => evaluation.wait(before),
            (Answer::Unknown | Answer::Cleared { .. }, None) => None,
        };
        decision.changes.extend(change);
    }
    cut_ended(previous, &mut decision, now);
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
pub fn resolve_by_hand(instance: &Instance, by: &str, comment: Option<&str>, now: Timestamp) -> Option<Change> {
    if !instance.state.is_active() {
        return None;
    }
    let mut over = over(instance, None, TransitionReason::ResolvedByHand, now)?;
    over.1.by = Some(by.to_owned());
    over.1.comment = comment.map(str::to_owned);
    Some(save(over.0, Some(instance.version), Some(over.1), now))
}

/// Notes that somebody takes care of an incident; `None` when there is none. It takes the place of an acknowledgement before.
#[must_use]
pub fn acknowledge(instance: &Instance, by: &str, comment: Option<&str>, now: Timestamp) -> Option<Change> {
    if !instance.state.is_active() {
        return None;
    }
    // Two in the same millisecond are still two in the history.
    let earlier = instance.acknowledged.as_ref().map(|earlier| earlier.at);
    let at = now.max(earlier.map_or(now, after));
    let mut next = instance.clone();
    next.acknowledged = Some(Acknowledgement {
        at,
        by: by.to_owned(),
        comment: comment.map(str::to_owned),
    });
    let mut transition = transition(&next, TransitionKind::Acknowledged, TransitionReason::Acknowledged, at);
    transition.by = Some(by.to_owned());
    transition.comment = comment.map(str::to_owned);
    Some(save(next, Some(instance.version), Some(transition), now))
}

fn end_all(previous: &[Instance], reason: TransitionReason, now: Timestamp) -> Decision {
    let settled = previous.iter().filter(|instance| instance.unsent.is_empty());
    let changes = settled.filter_map(|instance| end(instance, None, reason, false, now));
    let mut decision = Decision {
        changes: changes.collect(),
        dropped: 0,
    };
    cut_ended(previous, &mut decision, now);
    decision
}

/// Removes the oldest instances that are over beyond those that a rule may have.
fn cut_ended(previous: &[Instance], decision: &mut Decision, now: Timestamp) {
    let ended = previous.iter().filter(|instance| !instance.state.is_active()).count();
    if ended <= MAX_ENDED_PER_RULE {
        return;
    }
    let changed: BTreeSet<&str> = decision.changes.iter().map(Change::id).collect();
    let removable = |instance: &&Instance| {
        !instance.state.is_active()
            && instance.unsent.is_empty()
            && instance.updated_at < now
            && !changed.contains(instance.id.as_str())
    };
    let leaving = previous
        .iter()
        .filter(|instance| !instance.state.is_active() && changed.contains(instance.id.as_str()));
    let excess = ended.saturating_sub(MAX_ENDED_PER_RULE).saturating_sub(leaving.count());
    let mut oldest: Vec<&Instance> = previous.iter().filter(removable).collect();
    oldest.sort_by(|a, b| (a.updated_at, &a.id).cmp(&(b.updated_at, &b.id)));
    let removed: Vec<Change> = oldest.into_iter().take(excess).map(remove).collect();
    decision.changes.extend(removed);
}

impl Change {
    /// The id of the instance that it changes.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Save { instance, .. } => &instance.id,
            Self::Remove { id, .. } => id,
        }
    }
}

impl Evaluation<'_> {
    /// The condition holds for what was not active: a new incident.
    fn begin(&self, labels: &Labels, before: Option<&Instance>, value: f64, missing: bool) -> Change {
        let (rule, now) = (self.rule, self.now);
        let fingerprint = fingerprint(&rule.id, labels);
        let previous = before.and_then(|before| before.resolved_at.max(before.previous_resolved_at));
        let instance = Instance {
            id: instance_id(&rule.id, &fingerprint),
            rule: rule.snapshot(),
            fingerprint,
            labels: labels.clone(),
            state: InstanceState::Pending,
            current_value: value,
            annotations: template::render(&rule.spec, labels, value),
            pending_since: Some(now),
            firing_since: None,
            resolved_at: None,
            previous_resolved_at: previous,
            previous: before.and_then(|before| before.previous.clone()),
            missing_since: missing.then_some(now),
            keep_firing_since: None,
            observed_until: Some(now),
            acknowledged: None,
            updated_at: now,
            version: before.map_or(0, |before| before.version),
            unsent: Vec::new(),
            notifications_sent: before.map_or(0, |before| before.notifications_sent),
            last_notification_at: before.and_then(|before| before.last_notification_at),
        };
        let expected = before.map(|before| before.version);
        if rule.spec.duration_seconds == 0 {
            return self.fire(instance, expected);
        }
        let reason = if missing {
            TransitionReason::DataMissing
        } else {
            TransitionReason::ConditionMet
        };
        let transition = transition(&instance, TransitionKind::Pending, reason, now);
        save(instance, expected, Some(transition), now)
    }

    /// The condition still holds for what is pending or firing.
    fn go_on(&self, before: &Instance, value: f64, missing: bool) -> Option<Change> {
        let (rule, now) = (self.rule, self.now);
        let mut instance = before.clone();
        instance.current_value = value;
        instance.annotations = template::render(&rule.spec, &before.labels, value);
        instance.missing_since = missing.then(|| before.missing_since.unwrap_or(now));
        instance.keep_firing_since = None;
        if before.state == InstanceState::Pending {
            instance.rule = rule.snapshot();
            let since = self.observed(before, before.pending_since);
            instance.pending_since = Some(since);
            instance.observed_until = self.observed_until(before);
            if now.0.saturating_sub(since.0) >= millis(rule.spec.duration_seconds) {
                return Some(self.fire(instance, Some(before.version)));
            }
        }
        let same = instance.current_value.to_bits() == before.current_value.to_bits()
            && instance.annotations == before.annotations
            && instance.rule == before.rule
            && instance.pending_since == before.pending_since
            && instance.observed_until == before.observed_until
            && instance.missing_since == before.missing_since
            && instance.keep_firing_since == before.keep_firing_since;
        (!same).then(|| save(instance, Some(before.version), None, now))
    }

    fn fire(&self, mut instance: Instance, expected: Option<u64>) -> Change {
        // An incident is named by the time it fires: never as the one before, whatever the clock says.
        let earlier = instance.previous_resolved_at;
        let since = earlier.map_or(self.now, |at| self.now.max(after(at)));
        instance.state = InstanceState::Firing;
        instance.firing_since = Some(since);
        let reason = if instance.missing_since.is_some() {
            TransitionReason::DataMissing
        } else {
            TransitionReason::ConditionHeld
        };
        let transition = transition(&instance, TransitionKind::Firing, reason, since);
        save(instance, expected, Some(transition), self.now)
    }

    /// The condition does not hold.
    fn clear(&self, before: &Instance, value: Option<f64>, reason: TransitionReason) -> Option<Change> {
        let now = self.now;
        // Which has been back may be missed again.
        let back = value.is_some() || (before.labels.is_empty() && self.has_rows);
        if !before.state.is_active() {
            if back && before.missing_since.is_some() {
                let mut instance = before.clone();
                instance.missing_since = None;
                return Some(save(instance, Some(before.version), None, now));
            }
            let knows = self.rule.spec.no_data == NoData::Alerting;
            // Resolved by hand it is gone for good, and not missed again when it is a day old.
            if knows && before.missing_since.is_some() && absence::is_still_asked(self.rule, before) {
                return None;
            }
            return end(before, value, reason, knows, now);
        }
        let keep_ms = millis(self.rule.spec.keep_firing_for_seconds);
        // A question that is no longer asked gives nothing to wait for.
        if before.state == InstanceState::Firing && keep_ms > 0 && reason != TransitionReason::RuleChanged {
            let since = self.observed(before, before.keep_firing_since);
            if now.0.saturating_sub(since.0) < keep_ms {
                let mut instance = before.clone();
                instance.keep_firing_since = Some(since);
                instance.observed_until = before
                    .keep_firing_since
                    .map_or(Some(now), |_| self.observed_until(before));
                let same = instance.keep_firing_since == before.keep_firing_since
                    && instance.observed_until == before.observed_until;
                return (!same).then(|| save(instance, Some(before.version), None, now));
            }
        }
        let (mut instance, transition) = over(before, value, reason, now)?;
        if back {
            instance.missing_since = None;
        }
        Some(save(instance, Some(before.version), Some(transition), now))
    }

    /// Nothing is decided; only the time in which nobody looked is taken off, since the next evaluation does not know of it.
    fn wait(&self, before: &Instance) -> Option<Change> {
        let counts = before.state == InstanceState::Pending || before.keep_firing_since.is_some();
        if self.unobserved_ms == 0 || !counts {
            return None;
        }
        let mut instance = before.clone();
        if before.state == InstanceState::Pending {
            instance.pending_since = Some(self.observed(before, before.pending_since));
        }
        let keep = before.keep_firing_since;
        instance.keep_firing_since = keep.map(|since| self.observed(before, Some(since)));
        instance.observed_until = self.observed_until(before);
        let same = instance.pending_since == before.pending_since
            && instance.keep_firing_since == before.keep_firing_since
            && instance.observed_until == before.observed_until;
        (!same).then(|| save(instance, Some(before.version), None, self.now))
    }

    /// Since when something has been observed without the time in which nobody looked; never in the future, where a clock that stepped
    /// back would leave it.
    fn observed(&self, before: &Instance, since: Option<Timestamp>) -> Timestamp {
        since.map_or(self.now, |since| {
            Timestamp(since.0.saturating_add(self.gap_ms(before))).min(self.now)
        })
    }

    /// How much of the time in which nobody looked has not been taken off yet. While ticks cannot save how far they came, each one sees
    /// the whole gap again; the instance knows better until when somebody looked at it.
    fn gap_ms(&self, before: &Instance) -> i64 {
        // A time to come is one of a clock that stepped back.
        let Some(until) = before.observed_until.filter(|until| *until <= self.now) else {
            return self.unobserved_ms;
        };
        let since_ms = self.now.0.saturating_sub(until.0);
        let usual_ms = millis(self.rule.spec.interval_seconds)
            .saturating_mul(2)
            .max(USUAL_GAP_MS);
        if since_ms > usual_ms {
            self.unobserved_ms.min(since_ms)
        } else {
            0
        }
    }

    /// Set on each evaluation that is told of a gap: the next one may be told of the same.
    fn observed_until(&self, before: &Instance) -> Option<Timestamp> {
        if self.unobserved_ms > 0 {
            Some(self.now)
        } else {
            before.observed_until
        }
    }
}

/// The instance after its incident, and what is told of its end; `None` when there is no incident.
fn over(
    before: &Instance,
    value: Option<f64>,
    reason: TransitionReason,
    now: Timestamp,
) -> Option<(Instance, Transition)> {
    let mut instance = before.clone();
    instance.keep_firing_since = None;
    instance.acknowledged = None;
    instance.current_value = value.unwrap_or(before.current_value);
    let kind = match before.state {
        InstanceState::Pending => {
            instance.state = InstanceState::Inactive;
            TransitionKind::Inactive
        }
        InstanceState::Firing => {
            instance.state = InstanceState::Resolved;
            TransitionKind::Resolved
        }
        InstanceState::Inactive | InstanceState::Resolved => return None,
    };
    let mut transition = transition(&instance, kind, reason, now);
    transition.at = now.max(transition.firing_since);
    if kind == TransitionKind::Resolved {
        instance.resolved_at = Some(transition.at);
        instance.previous = Some(Box::new(instance.event(&transition)));
    } else {
        instance.pending_since = None;
    }
    Some((instance, transition))
}

/// The condition is no longer asked about: what is active is over, what has been over for long is removed. What never fired is removed by
/// the next evaluation, unless the rule `knows` by it what it may miss, or an incident before it is not over for long.
fn end(before: &Instance, value: Option<f64>, reason: TransitionReason, knows: bool, now: Timestamp) -> Option<Change> {
    if let Some((instance, transition)) = over(before, value, reason, now) {
        return Some(save(instance, Some(before.version), Some(transition), now));
    }
    let is_old = |at: Timestamp| now.0.saturating_sub(at.0) > ENDED_RETENTION_MS;
    let is_removed = if before.state == InstanceState::Inactive && !knows {
        before.updated_at < now && before.previous_resolved_at.is_none_or(is_old)
    } else {
        is_old(before.updated_at)
    };
    is_removed.then(|| remove(before))
}

fn remove(instance: &Instance) -> Change {
    Change::Remove {
        id: instance.id.clone(),
        expected: instance.version,
    }
}

fn transition(instance: &Instance, kind: TransitionKind, reason: TransitionReason, at: Timestamp) -> Transition {
    Transition {
        kind,
        reason,
        at,
        firing_since: instance.firing_since.or(instance.pending_since).unwrap_or(at),
        value: instance.current_value,
        by: None,
        comment: None,
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

fn after(at: Timestamp) -> Timestamp {
    Timestamp(at.0.saturating_add(1))
}

/// At most a week (`limits::MAX_RULE_SECONDS`).
fn millis(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
