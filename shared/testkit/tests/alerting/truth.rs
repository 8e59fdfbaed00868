//! What was really stored and what receivers really took, and what must hold whenever a receiver takes something. It knows
//! nothing of lanes' members, groups and marks: only transitions, settings and notifications.

use crate::facts::{About, Fired, Timeline};
use crate::sim::{MAX_SKEW_MS, Process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidemark_model::Timestamp;
use tidemark_notify::retry::Failure;
use tidemark_notify::{ChannelSpec, Notification};
use tidemark_rules::instance::incident_id;
use tidemark_rules::{Instance, RuleSnapshot, TransitionKind};

/// A transition that was stored.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) instance_id: String,
    pub(crate) kind: TransitionKind,
    pub(crate) at: Timestamp,
}

/// From its firing to its resolve.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) instance_id: String,
    pub(crate) since: Timestamp,
    pub(crate) rule: RuleSnapshot,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) stored_ms: i64,
    /// When it was resolved, by whose clock, and when that was stored.
    pub(crate) resolved: Option<(Timestamp, i64)>,
    pub(crate) acknowledged_ms: Option<i64>,
}

impl Incident {
    pub(crate) fn about(&self) -> About<'_> {
        About {
            labels: &self.labels,
            rule: &self.rule,
        }
    }
}

/// A notification that a receiver took.
#[derive(Debug)]
pub(crate) struct Take {
    pub(crate) order: u64,
    pub(crate) at_ms: i64,
    pub(crate) notification_id: String,
    pub(crate) group_key: String,
    pub(crate) is_digest: bool,
    /// The request's number.
    request: u64,
    process: ByProcess,
    answered: bool,
    lost: bool,
    pub(crate) recorded: bool,
}

struct ByProcess(Arc<Process>);

impl std::fmt::Debug for ByProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.name)
    }
}

impl Take {
    /// Whether the sender may not know of it: the answer was lost, or it died or met a fault before it had noted it down.
    pub(crate) fn may_be_repeated(&self) -> bool {
        !self.recorded && (self.lost || self.process.0.met_a_fault_after(self.order))
    }

    pub(crate) fn was_undisturbed(&self) -> bool {
        self.recorded && !self.process.0.met_a_fault_after(self.order)
    }
}

/// A request that ended, as its sender knows it.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) notification_id: String,
    pub(crate) instances: Vec<String>,
    pub(crate) sent: bool,
    group_key: String,
    /// When it failed in a way that passes.
    failed_ms: Option<i64>,
    order: u64,
    process: ByProcess,
}

impl Attempt {
    /// Whether its sender could note it down.
    pub(crate) fn was_undisturbed(&self) -> bool {
        !self.process.0.met_a_fault_after(self.order)
    }
}

/// What one receiver was told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) takes: Vec<Take>,
    /// By incident and kind: which of the takes told it.
    pub(crate) tellings: BTreeMap<(String, TransitionKind), Vec<usize>>,
    pub(crate) attempts: Vec<Attempt>,
    /// Notifications of which an attempt has begun that has not ended with a clear no.
    pub(crate) unclear: BTreeSet<String>,
    /// Until when the receiver asked not to be sent anything, and who knows it since when.
    paused: Option<(i64, u64, ByProcess)>,
    /// How many attempts there are that may have told an incident.
    pub(crate) perhaps: BTreeMap<String, usize>,
}

impl Told {
    pub(crate) fn names(&self, takes: &[usize]) -> String {
        let names: Vec<&str> = takes
            .iter()
            .map(|&at| self.takes[at].notification_id.as_str())
            .collect();
        names.join(", ")
    }
}

/// A notification that arrives.
pub(crate) struct Arriving<'a> {
    pub(crate) process: &'a Arc<Process>,
    pub(crate) lane: &'a str,
    pub(crate) channel: Option<&'a ChannelSpec>,
    pub(crate) notification: &'a Notification,
    pub(crate) begun_ms: i64,
    pub(crate) begun: u64,
    /// Whether an earlier attempt of the same may have been taken.
    pub(crate) again: bool,
    pub(crate) now_ms: i64,
    pub(crate) order: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) timeline: Timeline,
    pub(crate) transitions: Vec<Known>,
    seen: BTreeSet<(String, TransitionKind, Timestamp, Timestamp)>,
    pub(crate) incidents: BTreeMap<String, Incident>,
    /// The incidents of each instance, in order.
    pub(crate) by_instance: BTreeMap<String, Vec<String>>,
    pub(crate) lanes: BTreeMap<String, Told>,
}

impl Truth {
    pub(crate) fn document_put(&mut self, kind: &str, id: &str, value: Value, now_ms: i64) {
        self.timeline.put(kind, id, value, now_ms);
    }

    pub(crate) fn document_deleted(&mut self, kind: &str, id: &str, now_ms: i64) {
        self.timeline.delete(kind, id, now_ms);
    }

    /// An instance was stored. What is new in its outbox has happened.
    pub(crate) fn instance_saved(
        &mut self,
        before: Option<&Instance>,
        after: &Instance,
        now_ms: i64,
    ) -> Result<(), String> {
        if before.is_some_and(|before| before.version + 1 != after.version) {
            return Err(format!("{} was saved as version {}", after.id, after.version));
        }
        for transition in &after.unsent {
            let key = (
                after.id.clone(),
                transition.kind,
                transition.firing_since,
                transition.at,
            );
            if !self.seen.insert(key) {
                continue;
            }
            self.transitions.push(Known {
                instance_id: after.id.clone(),
                kind: transition.kind,
                at: transition.at,
            });
            let id = incident_id(&after.id, transition.firing_since);
            match transition.kind {
                TransitionKind::Firing => self.fired(id, after, transition.firing_since, now_ms)?,
                TransitionKind::Resolved => self.resolved(&id, transition.at, now_ms)?,
                TransitionKind::Pending | TransitionKind::Inactive | TransitionKind::Acknowledged => {}
            }
        }
        if let (Some(since), true) = (after.firing_since, after.acknowledged.is_some())
            && let Some(incident) = self.incidents.get_mut(&incident_id(&after.id, since))
        {
            incident.acknowledged_ms.get_or_insert(now_ms);
        }
        Ok(())
    }

    fn fired(&mut self, id: String, instance: &Instance, since: Timestamp, now_ms: i64) -> Result<(), String> {
        let earlier = self.by_instance.entry(instance.id.clone()).or_default();
        if let Some(last) = earlier.last().and_then(|last| self.incidents.get(last)) {
            let Some((at, _)) = last.resolved else {
                return Err(format!("{id} began to fire while the incident before was not resolved"));
            };
            if since <= at || since <= last.since {
                return Err(format!("{id} began to fire before the incident before was over"));
            }
        }
        earlier.push(id.clone());
        let labels = instance.rule.alert_labels(&instance.labels);
        self.timeline.fired.push(Fired {
            instance_id: instance.id.clone(),
            labels: labels.clone(),
            from_ms: now_ms,
            to_ms: None,
        });
        let incident = Incident {
            instance_id: instance.id.clone(),
            since,
            rule: instance.rule.clone(),
            labels,
            stored_ms: now_ms,
            resolved: None,
            acknowledged_ms: None,
        };
        self.incidents.insert(id, incident);
        Ok(())
    }

    fn resolved(&mut self, id: &str, at: Timestamp, now_ms: i64) -> Result<(), String> {
        let Some(incident) = self.incidents.get_mut(id) else {
            return Err(format!("{id} was resolved and never fired"));
        };
        if incident.resolved.is_some() {
            return Err(format!("{id} was resolved twice"));
        }
        incident.resolved = Some((at, now_ms));
        for fired in &mut self.timeline.fired {
            if fired.instance_id == incident.instance_id && fired.to_ms.is_none() {
                fired.to_ms = Some(now_ms);
            }
        }
        Ok(())
    }

    /// A process has noted down that a group was told.
    pub(crate) fn recorded(&mut self, lane: &str, group_key: &str, process: &Arc<Process>) {
        let Some(told) = self.lanes.get_mut(lane) else { return };
        let of_process = |take: &&mut Take| Arc::ptr_eq(&take.process.0, process) && take.group_key == group_key;
        for take in told.takes.iter_mut().filter(of_process) {
            take.recorded = true;
        }
    }

    /// A sender has its answer.
    pub(crate) fn answered(
        &mut self,
        lane: &str,
        notification: &Notification,
        request: u64,
        answer: &Result<(), Failure>,
        process: &Arc<Process>,
    ) {
        let told = self.lanes.entry(lane.to_owned()).or_default();
        let id = &notification.id;
        if matches!(answer, Err(Failure::Throttled { .. } | Failure::Permanent { .. })) {
            told.unclear.remove(id);
            for alert in &notification.alerts {
                let incident = incident_id(&alert.instance_id, alert.starts_at);
                if let Some(count) = told.perhaps.get_mut(&incident) {
                    *count -= 1;
                }
            }
        } else if answer.is_err() {
            told.unclear.insert(id.clone());
        }
        if let Err(Failure::Throttled {
            after_seconds: Some(seconds),
            ..
        }) = answer
        {
            // No receiver is waited for longer than a quarter of an hour.
            let ms = i64::try_from(*seconds).unwrap_or(900).min(900) * 1_000;
            told.paused = Some((
                process.sim.now_ms() + ms,
                process.sim.order(),
                ByProcess(Arc::clone(process)),
            ));
        }
        for take in told.takes.iter_mut().filter(|take| take.request == request) {
            take.answered = answer.is_ok();
            take.lost = answer.is_err();
        }
        told.attempts.push(Attempt {
            notification_id: id.clone(),
            instances: notification
                .alerts
                .iter()
                .map(|alert| alert.instance_id.clone())
                .collect(),
            sent: answer.is_ok(),
            group_key: notification.group_key.clone(),
            failed_ms: matches!(
                answer,
                Err(Failure::Server { .. } | Failure::Timeout | Failure::Unreachable { .. })
            )
            .then(|| process.sim.now_ms()),
            order: process.sim.order(),
            process: ByProcess(Arc::clone(process)),
        });
    }

    /// A request was begun of which nobody may ever know the end. Whether that is so of an earlier one of the same notification.
    pub(crate) fn begun(&mut self, lane: &str, notification: &Notification, process: &Process) -> bool {
        let told = self.lanes.entry(lane.to_owned()).or_default();
        let now_ms = process.sim.now_ms();
        if let Some((until_ms, order, by)) = &told.paused
            && now_ms + 2 * MAX_SKEW_MS + 1_000 < *until_ms
            && !by.0.met_a_fault_after(*order)
        {
            process
                .sim
                .violate(|| format!("{lane} is sent something {} ms before it wanted", until_ms - now_ms));
        }
        let mut of_process = told.attempts.iter().rev().filter(|attempt| {
            std::ptr::eq(Arc::as_ptr(&attempt.process.0), process) && attempt.group_key == notification.group_key
        });
        // Who could not note down that it failed cannot wait.
        let last = of_process.next().filter(|attempt| attempt.was_undisturbed());
        let failed_ms = last.and_then(|attempt| attempt.failed_ms);
        if failed_ms.is_some_and(|at| now_ms - at < 2_000) && !process.was_asked_anew() {
            process
                .sim
                .violate(|| format!("{lane} is sent {} again at once", notification.id));
        }
        for alert in &notification.alerts {
            let incident = incident_id(&alert.instance_id, alert.starts_at);
            *told.perhaps.entry(incident).or_default() += 1;
        }
        !told.unclear.insert(notification.id.clone())
    }

    /// A receiver takes a notification.
    pub(crate) fn taken(&mut self, arriving: &Arriving<'_>) -> Result<(), String> {
        let Arriving {
            lane,
            notification,
            now_ms,
            ..
        } = *arriving;
        let wrong = |what: &str| Err(format!("{lane} took {}: {what}", notification.id));
        if notification.alerts.is_empty() {
            return wrong("it has no alerts");
        }
        let mut news: Vec<(String, TransitionKind)> = Vec::new();
        for alert in &notification.alerts {
            let incident = incident_id(&alert.instance_id, alert.starts_at);
            if news.iter().any(|(other, _)| *other == incident) {
                return wrong(&format!("it names {incident} twice"));
            }
            news.push((incident, alert.status));
        }
        let wrongs = self.wrongs(arriving, &news);
        if let Some(what) = wrongs.first() {
            return wrong(what);
        }
        let told = self.lanes.entry(lane.to_owned()).or_default();
        for one in &news {
            told.tellings.entry(one.clone()).or_default().push(told.takes.len());
        }
        told.takes.push(Take {
            order: arriving.order,
            at_ms: now_ms,
            notification_id: notification.id.clone(),
            group_key: notification.group_key.clone(),
            is_digest: notification.is_digest,
            request: arriving.begun,
            process: ByProcess(Arc::clone(arriving.process)),
            answered: false,
            lost: false,
            recorded: false,
        });
        Ok(())
    }
}
