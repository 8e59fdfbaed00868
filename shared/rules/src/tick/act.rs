//! Writing: what was decided is saved, each instance under its version, and what was saved is told.

use super::{Tick, TickSummary, publish_outboxes};
use crate::decide::{Change, Decision};
use crate::event::Publish;
use crate::instance::{Instance, TransitionKind};
use crate::rule::Rule;
use crate::store::{AlertStore, Saved, StoreError};
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use tidemark_tsdb::{Select, SelectError};

/// How many writes run at the same time.
pub(super) const WRITES_AT_ONCE: usize = 16;

/// What was done, and which rules are left to the next tick.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) summary: TickSummary,
    /// The ids of the rules that failed or were skipped.
    pub(super) undone: Vec<String>,
}

/// What became of a write.
enum Written {
    Conflict,
    Saved,
    /// Something happened that is to be told.
    Transition(Box<Instance>, TransitionKind),
}

impl Done {
    pub(super) fn add(&mut self, other: Self) {
        self.summary.add(other.summary);
        self.undone.extend(other.undone);
    }

    /// Rules that were not begun.
    pub(super) fn skip<'a>(&mut self, rules: impl Iterator<Item = &'a Rule>) {
        let before = self.undone.len();
        self.undone.extend(rules.map(|rule| rule.id.clone()));
        let rules = self.undone.len() - before;
        self.summary.rules_skipped += rules;
        tracing::warn!(rules, "no time left to evaluate rules on this tick");
    }

    /// Rules whose samples could not be read.
    pub(super) fn fail<'a>(&mut self, rules: impl Iterator<Item = &'a Rule>, error: &SelectError) {
        for rule in rules {
            let error = error as &dyn std::error::Error;
            tracing::warn!(
                rule_id = rule.id,
                error,
                "a rule's samples could not be read; its alerts stay as they are"
            );
            self.summary.rules_failed += 1;
            self.undone.push(rule.id.clone());
        }
    }
}

impl<A: AlertStore, D: Select, P: Publish> Tick<'_, A, D, P> {
    /// Saves what was decided of some rules, and tells the transitions of what was saved.
    pub(super) async fn execute(&self, decisions: Vec<(&str, Decision)>) -> Done {
        let mut done = Done::default();
        let rules = decisions.len();
        let mut writes = Vec::new();
        for (rule_id, decision) in decisions {
            if decision.dropped > 0 {
                let rows = decision.dropped;
                done.summary.rows_dropped += rows;
                tracing::warn!(rule_id, rows, "a rule has too many alerts; further ones are not told");
            }
            writes.extend(decision.changes.into_iter().map(|change| self.write(rule_id, change)));
        }
        let mut writes = stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        let (mut to_tell, mut failed) = (Vec::new(), BTreeSet::new());
        while let Some((rule_id, written)) = writes.next().await {
            match written {
                Ok(Written::Conflict) => done.summary.conflicts += 1,
                Ok(Written::Saved) => {}
                Ok(Written::Transition(instance, kind)) => {
                    match kind {
                        TransitionKind::Firing => done.summary.alerts_triggered += 1,
                        TransitionKind::Resolved => done.summary.alerts_resolved += 1,
                        TransitionKind::Pending | TransitionKind::Inactive | TransitionKind::Acknowledged => {}
                    }
                    to_tell.push(*instance);
                }
                Err(error) => {
                    failed.insert(rule_id);
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(
                        rule_id,
                        error,
                        "an alert's state could not be saved; the next tick tries again"
                    );
                }
            }
        }
        drop(writes);
        done.summary.rules_failed += failed.len();
        done.summary.rules_evaluated += rules - failed.len();
        done.undone.extend(failed.into_iter().map(str::to_owned));
        done.summary.unpublished += publish_outboxes(self.world.alerts, self.world.publisher, &mut to_tell).await;
        done
    }

    async fn write<'r>(&self, rule_id: &'r str, change: Change) -> (&'r str, Result<Written, StoreError>) {
        let alerts = self.world.alerts;
        let (saved, told) = match change {
            Change::Save {
                instance,
                expected,
                transition,
            } => {
                let saved = alerts.save_instance(&instance, expected).await;
                (saved, transition.map(|transition| (instance, transition.kind)))
            }
            Change::Remove { id, expected } => (alerts.remove_instance(&id, expected).await, None),
        };
        let written = saved.map(|saved| match (saved, told) {
            (Saved::Conflict, _) => Written::Conflict,
            (Saved::Saved, None) => Written::Saved,
            (Saved::Saved, Some((instance, kind))) => Written::Transition(instance, kind),
        });
        (rule_id, written)
    }
}
