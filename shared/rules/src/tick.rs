//! One evaluation of all rules: read facts, decide, execute.
//!
//! The flow of a tick:
//! 1. Load the instances, *then* the rules. An instance is made by a rule that was there before it; read the other way
//!    round, a rule created in between by another evaluation would look deleted.
//! 2. Publish what earlier ticks saved and did not get rid of (their outboxes), and empty those outboxes.
//! 3. For each distinct (selector, range) select the samples once, for all rules that ask the same.
//! 4. For each rule build the result vector, [`decide`](crate::decide), save each changed instance under its version, publish the
//!    transitions of those saved, empty their outboxes.
//!
//! A crash after a save leaves the transition in the outbox, for step 2 of the next tick. A crash after a publish publishes
//! again, under the same id; `notify` drops the duplicate. Two ticks at once: for each instance one of them saves, the other
//! meets a conflict and leaves it to the winner. A rule whose samples cannot be read keeps its state as it is and counts as failed;
//! the others go on. A tick that runs out of time skips what it has not begun; the next one begins elsewhere.

use crate::decide::{Change, Decision, decide, decide_orphans};
use crate::event::{Message, Publish};
use crate::instance::{Instance, TransitionKind};
use crate::rule::Rule;
use crate::store::{AlertStore, Saved, StoreError};
use crate::vector;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use tidemark_model::{LabelFilter, Timestamp};
use tidemark_tsdb::{Select, Selector};

/// How many selections run at the same time: each holds the samples of one selector in memory.
const SELECTIONS_AT_ONCE: usize = 8;

/// How many writes of one rule run at the same time.
const WRITES_AT_ONCE: usize = 16;

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TickSummary {
    /// Enabled rules whose condition was asked and whose changes were all saved, or left to another evaluation.
    pub rules_evaluated: usize,
    /// Incidents that began to fire.
    pub alerts_triggered: usize,
    /// Incidents that were resolved.
    pub alerts_resolved: usize,
    /// Rules whose samples could not be read or whose state could not be saved. The next tick tries again.
    pub rules_failed: usize,
    /// Rules that were not begun because time ran out.
    pub rules_skipped: usize,
    /// Instances that another evaluation saved first.
    pub conflicts: usize,
    /// Rows that became no instance because their rule has too many.
    pub rows_dropped: usize,
    /// Transitions that were saved but could not be published yet.
    pub unpublished: usize,
}

impl TickSummary {
    fn add(&mut self, other: Self) {
        self.rules_evaluated += other.rules_evaluated;
        self.alerts_triggered += other.alerts_triggered;
        self.alerts_resolved += other.alerts_resolved;
        self.rules_failed += other.rules_failed;
        self.rules_skipped += other.rules_skipped;
        self.conflicts += other.conflicts;
        self.rows_dropped += other.rows_dropped;
        self.unpublished += other.unpublished;
    }
}

/// The parts of the world that a tick works on.
struct World<'a, A, D, P> {
    alerts: &'a A,
    data: &'a D,
    publisher: &'a P,
    now: Timestamp,
    may_go_on: &'a (dyn Fn() -> bool + Sync),
}

/// The instances of each rule.
type ByRule = HashMap<String, Vec<Instance>>;

/// Rules that read the same samples.
struct Shared<'a> {
    selector: Selector,
    start_ms: i64,
    end_ms: i64,
    rules: Vec<&'a Rule>,
}

/// Evaluates every enabled rule once. `may_go_on` is asked before each selection; once it says no, the rules left over are
/// skipped, and later ticks, which begin elsewhere, make up for them.
///
/// # Errors
/// When the rules or the instances cannot be loaded. Whatever fails later is counted in the summary and logged.
pub async fn evaluate_all<A: AlertStore, D: Select, P: Publish>(
    alerts: &A,
    data: &D,
    publisher: &P,
    now: Timestamp,
    may_go_on: &(dyn Fn() -> bool + Sync),
) -> Result<TickSummary, StoreError> {
    let mut instances = alerts.load_instances().await?;
    let rules = alerts.load_rules().await?;
    let mut summary = TickSummary {
        unpublished: publish_outboxes(alerts, publisher, &mut instances).await,
        ..TickSummary::default()
    };

    let mut by_rule: ByRule = HashMap::new();
    for instance in instances {
        by_rule.entry(instance.rule.id.clone()).or_default().push(instance);
    }
    let world = World {
        alerts,
        data,
        publisher,
        now,
        may_go_on,
    };
    let (enabled, disabled): (Vec<&Rule>, Vec<&Rule>) = rules.iter().partition(|rule| rule.spec.enabled);
    let mut shared = share(enabled, now);
    let first = first_selection(now, shared.len());
    shared.rotate_left(first);
    let evaluations: Vec<_> = shared.iter().map(|shared| world.evaluate(shared, &by_rule)).collect();
    let mut evaluations = stream::iter(evaluations).buffer_unordered(SELECTIONS_AT_ONCE);
    while let Some(one) = evaluations.next().await {
        summary.add(one);
    }

    for rule in &disabled {
        let previous = by_rule.get(&rule.id).map_or(&[][..], Vec::as_slice);
        summary.add(world.execute(&rule.id, decide(rule, previous, &[], now, 0)).await);
    }
    for (rule_id, previous) in &by_rule {
        if !rules.iter().any(|rule| rule.id == *rule_id) {
            summary.add(world.execute(rule_id, decide_orphans(previous, now)).await);
        }
    }
    Ok(summary)
}

/// Which selection a tick begins with, so that ticks that run out of time do not skip the same rules for ever.
///
/// The minute's place in the golden section's sequence (Fibonacci hashing): the beginnings of ticks spread over all
/// selections, also when several minutes lie between them. A step of one per minute would not: with five selections and a
/// tick every five minutes it would always begin with the same one.
fn first_selection(now: Timestamp, selections: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / 1.618…
    let minute = now.0.div_euclid(60_000) as u64;
    let place = u128::from(minute.wrapping_mul(GOLDEN));
    // Below `selections`: a place is below 2^64.
    ((place * selections as u128) >> 64) as usize
}

/// Brings rules that read the same samples together.
fn share(rules: Vec<&Rule>, now: Timestamp) -> Vec<Shared<'_>> {
    let mut shared: BTreeMap<(&str, &LabelFilter, i64), Shared<'_>> = BTreeMap::new();
    for rule in rules {
        let (start_ms, end_ms) = vector::range(&rule.spec.query, now.0).unwrap_or((now.0, now.0));
        let crate::rule::Query::Threshold(threshold) = &rule.spec.query else {
            continue;
        };
        let key = (threshold.metric_name.as_str(), &threshold.labels, start_ms);
        let entry = shared.entry(key).or_insert_with(|| Shared {
            selector: Selector {
                metric: threshold.metric_name.clone(),
                filter: threshold.labels.clone(),
            },
            start_ms,
            end_ms,
            rules: Vec::new(),
        });
        entry.rules.push(rule);
    }
    shared.into_values().collect()
}

impl<A: AlertStore, D: Select, P: Publish> World<'_, A, D, P> {
    /// Evaluates the rules that read the same samples.
    async fn evaluate(&self, shared: &Shared<'_>, by_rule: &ByRule) -> TickSummary {
        let mut summary = TickSummary::default();
        if !(self.may_go_on)() {
            summary.rules_skipped = shared.rules.len();
            tracing::warn!(
                rules = shared.rules.len(),
                "no time left to evaluate rules on this tick"
            );
            return summary;
        }
        let series = match self.data.select(&shared.selector, shared.start_ms, shared.end_ms).await {
            Ok(series) => series,
            Err(error) => {
                summary.rules_failed = shared.rules.len();
                let error = &error as &dyn std::error::Error;
                for rule in &shared.rules {
                    tracing::warn!(
                        rule_id = rule.id,
                        error,
                        "a rule's samples could not be read; its alerts stay as they are"
                    );
                }
                return summary;
            }
        };
        for rule in &shared.rules {
            let rows = vector::vector(&rule.spec.query, &series);
            let previous = by_rule.get(&rule.id).map_or(&[][..], Vec::as_slice);
            let done = self.execute(&rule.id, decide(rule, previous, &rows, self.now, 0)).await;
            summary.rules_evaluated += usize::from(done.rules_failed == 0);
            summary.add(done);
        }
        summary
    }

    /// Saves what was decided, and publishes the transitions of what was saved.
    async fn execute(&self, rule_id: &str, decision: Decision) -> TickSummary {
        let mut summary = TickSummary {
            rows_dropped: decision.dropped,
            ..TickSummary::default()
        };
        if decision.dropped > 0 {
            tracing::warn!(
                rule_id,
                rows = decision.dropped,
                "a rule has too many alerts; further ones are not told"
            );
        }
        let writes: Vec<_> = decision.changes.into_iter().map(|change| self.write(change)).collect();
        let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        let mut to_tell = Vec::new();
        while let Some(written) = writes.next().await {
            match written {
                Ok((Saved::Conflict, _)) => summary.conflicts += 1,
                Ok((Saved::Saved, None)) => {}
                Ok((Saved::Saved, Some((instance, kind)))) => {
                    match kind {
                        TransitionKind::Firing => summary.alerts_triggered += 1,
                        TransitionKind::Resolved => summary.alerts_resolved += 1,
                        _ => {}
                    }
                    to_tell.push(*instance);
                }
                Err(error) => {
                    summary.rules_failed = 1;
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        rule_id,
                        error,
                        "an alert's state could not be saved; the next tick tries again"
                    );
                }
            }
        }
        summary.unpublished = publish_outboxes(self.alerts, self.publisher, &mut to_tell).await;
        summary
    }

    async fn write(&self, change: Change) -> Result<(Saved, Option<(Box<Instance>, TransitionKind)>), StoreError> {
        match change {
            Change::Save {
                instance,
                expected,
                transition,
            } => {
                let saved = self.alerts.save_instance(&instance, expected).await?;
                Ok((saved, transition.map(|transition| (instance, transition.kind))))
            }
            Change::Remove { id, expected } => Ok((self.alerts.remove_instance(&id, expected).await?, None)),
        }
    }
}

/// Publishes every transition in the outboxes of these instances and empties the outboxes of those that were published
/// whole, here and in the store. Answers how many transitions are still unpublished.
pub(crate) async fn publish_outboxes<A: AlertStore, P: Publish>(
    alerts: &A,
    publisher: &P,
    instances: &mut [Instance],
) -> usize {
    let full: Vec<&mut Instance> = instances
        .iter_mut()
        .filter(|instance| !instance.unsent.is_empty())
        .collect();
    let events: Vec<Message> = full
        .iter()
        .flat_map(|instance| {
            instance
                .unsent
                .iter()
                .map(|transition| Message::Event(Box::new(instance.event(transition))))
        })
        .collect();
    if events.is_empty() {
        return 0;
    }
    let mut results = publisher.publish(&events).await.into_iter();
    let mut unpublished = 0;
    let mut clears = Vec::new();
    for instance in full {
        let mut failed = 0;
        for _ in &instance.unsent {
            // A publisher that answers for too few events has not taken the others.
            let result = results.next();
            if let Some(Err(error)) = &result {
                let error = error as &dyn std::error::Error;
                tracing::warn!(
                    instance_id = instance.id,
                    error,
                    "a transition was not published; the next tick tries again"
                );
            }
            failed += usize::from(!matches!(result, Some(Ok(()))));
        }
        unpublished += failed;
        if failed == 0 {
            instance.unsent.clear();
            clears.push(clear(alerts, instance.id.clone(), instance.version));
        }
    }
    stream::iter(clears)
        .buffer_unordered(WRITES_AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    unpublished
}

async fn clear<A: AlertStore>(alerts: &A, id: String, version: u64) {
    // A conflict: somebody saved a newer state and took the outbox along; it is published once more.
    if let Err(error) = alerts.clear_unsent(&id, version).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(
            instance_id = id,
            error,
            "an outbox could not be emptied; it is published again"
        );
    }
}

#[cfg(test)]
mod tests;
