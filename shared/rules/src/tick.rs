//! One evaluation of the rules of a shard: read facts, decide, execute.
//!
//! The flow of a tick:
//! 1. Load how far the shard has come, the instances, *then* the rules. An instance is made by a rule that was there before it; read the
//!    other way round, a rule created in between by another evaluation would look deleted.
//! 2. Tell what earlier ticks saved and could not tell (their outboxes): `tell`.
//! 3. End what belongs to disabled and deleted rules. Which rules are due, and for how long nobody looked at each: `due`.
//! 4. For each bucket one read pass ([`Select::select_many`]); in it one selection for all rules that ask for the same series, cut to the
//!    window of each: `read`.
//! 5. For each rule the result vector, [`decide`](crate::decide::decide), save each changed instance under its version, tell the
//!    transitions of those saved: `act`.
//! 6. When nothing is left undone, let the heartbeats beat. Save how far the shard has come, and which rules are owed.
//!
//! **What may go wrong.** A crash after a save leaves the transition in the outbox, for step 2 of the next tick. A crash after a publish
//! publishes again, under the same id; `notify` drops the duplicate. A crash before the end leaves the shard where it was: the next tick
//! does the same again. Two ticks at once: for each instance one of them saves, the other meets a conflict and leaves it to the winner. A
//! second tick in the same minute finds what the first one left. A rule whose samples cannot be read keeps its state as it is, counts as
//! failed and is owed: the next tick evaluates it, however long its interval. A tick that runs out of time skips what it has not begun,
//! and owes it; the next one begins elsewhere.

use crate::decide::{decide, decide_orphans};
use crate::event::{Message, Publish};
use crate::instance::{Instance, InstanceState, Transition, TransitionKind, TransitionReason, incident_id};
use crate::rule::{Query, Rule};
use crate::store::{AlertStore, StoreError, TickState};
use act::Done;
use due::Past;
use futures::stream::{self, StreamExt};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use tidemark_model::Timestamp;
use tidemark_tsdb::Select;

mod act;
mod due;
mod read;
mod tell;

pub(crate) use tell::publish_outboxes;

/// How many rules one invocation evaluates, before others help it.
pub const RULES_PER_SHARD: u64 = 2_000;

/// How many buckets are read at the same time; each holds the samples of a few selections in memory.
const BUCKETS_AT_ONCE: usize = 3;

/// The parts of the world that a tick works on.
#[derive(Clone, Copy)]
pub struct World<'a, A, D, P> {
    /// Rules, instances, history.
    pub alerts: &'a A,
    /// Samples.
    pub data: &'a D,
    /// Where transitions are published.
    pub publisher: &'a P,
    /// The time of the tick.
    pub now: Timestamp,
    /// Asked before each selection; once it says no, the rules left over are skipped.
    pub may_go_on: &'a (dyn Fn() -> bool + Sync),
}

/// A part of the rules: one of `of`, counted from 0. All rules of a bucket are in one shard, so that no bucket is read twice. Heartbeats
/// and what deleted rules left are in shard 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// Which rules a tick evaluates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those whose interval has passed, on a schedule with a tick every so many milliseconds.
    Due {
        /// How long it is from tick to tick.
        every_ms: i64,
    },
    /// All of them, as if the schedule had been there all the time. The state of the schedule stays as it is, and no heart beats: that
    /// somebody asks is no sign that the schedule lives.
    All,
}

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
    /// Rules that were not begun because time ran out. The next tick evaluates them.
    pub rules_skipped: usize,
    /// Instances that another evaluation saved first.
    pub conflicts: usize,
    /// Rows that became no instance because their rule has too many.
    pub rows_dropped: usize,
    /// Transitions that were saved but could not be told yet.
    pub unpublished: usize,
    /// Other shards whose last tick is long ago: nobody evaluates their rules.
    pub shards_behind: usize,
    /// Signs of life that were published.
    pub beats: usize,
    /// How often samples were selected.
    pub selections: usize,
    /// In how many passes: one for each bucket that has rules which are due.
    pub read_passes: usize,
    /// How many samples the selections had.
    pub samples_read: usize,
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
        self.shards_behind += other.shards_behind;
        self.beats += other.beats;
        self.selections += other.selections;
        self.read_passes += other.read_passes;
        self.samples_read += other.samples_read;
    }

    /// Whether it left nothing to the next tick.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rules_failed + self.rules_skipped + self.unpublished + self.shards_behind == 0
    }
}

impl Shard {
    /// All rules in one.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// How many shards so many rules take.
    #[must_use]
    pub fn count_for(rules: u64) -> u32 {
        u32::try_from(rules.div_ceil(RULES_PER_SHARD))
            .unwrap_or(u32::MAX)
            .max(1)
    }

    fn has(self, rule: &Rule, data: &impl Select) -> bool {
        let home = match &rule.spec.query {
            Query::Threshold(threshold) => u32::from(data.bucket(&threshold.metric_name).0) % self.of.max(1),
            Query::Heartbeat => 0,
        };
        home == self.index
    }
}

/// After how many ticks without a sign of it a shard counts as behind: its message waits behind others for a while, and one may be lost.
const TICKS_BEHIND: i64 = 4;

fn is_heartbeat(rule: &Rule) -> bool {
    matches!(rule.spec.query, Query::Heartbeat)
}

/// The instances of each rule.
type ByRule = BTreeMap<String, Vec<Instance>>;

/// What is known of the instances of a rule.
fn instances_of<'a>(by_rule: &'a ByRule, rule: &Rule) -> &'a [Instance] {
    by_rule.get(&rule.id).map_or(&[], Vec::as_slice)
}

/// Evaluates every enabled rule once, whatever its interval: see [`Which::All`].
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
    let world = World {
        alerts,
        data,
        publisher,
        now,
        may_go_on,
    };
    evaluate(&world, Shard::WHOLE, Which::All).await
}

/// One tick of a shard; see the module.
///
/// # Errors
/// When the state of the shard, the rules or the instances cannot be loaded, and when the state cannot be saved at the end: then all
/// the rest was done. Whatever else fails is counted in the summary and logged.
pub async fn evaluate<A: AlertStore, D: Select, P: Publish>(
    world: &World<'_, A, D, P>,
    shard: Shard,
    which: Which,
) -> Result<TickSummary, StoreError> {
    let past = match which {
        Which::All => Past::all(world.now),
        Which::Due { every_ms } => Past::since(world.alerts.load_tick(shard.index).await?, every_ms, world.now),
    };
    let mut instances = world.alerts.load_instances().await?;
    let rules = world.alerts.load_rules().await?;
    let mine: HashMap<&str, bool> = rules
        .iter()
        .map(|rule| (rule.id.as_str(), shard.has(rule, world.data)))
        .collect();
    instances.retain(|instance| mine.get(instance.rule.id.as_str()).copied().unwrap_or(shard.index == 0));
    let tick = Tick {
        world,
        past,
        rules: rules.iter().filter(|rule| mine[rule.id.as_str()]).collect(),
        unpublished: publish_outboxes(world.alerts, world.publisher, &mut instances).await,
        by_rule: by_rule(instances),
    };
    let mut done = tick.run().await;
    let Which::Due { every_ms } = which else {
        return Ok(done.summary);
    };
    done.summary.shards_behind = tick.shards_behind(shard, every_ms).await?;
    // Before the hearts beat: who hears them knows that this worked, too.
    tick.save(shard, &done).await?;
    let told = done.undone.len();
    tick.beat(&mut done).await;
    if done.undone.len() > told {
        tick.save(shard, &done).await?;
    }
    Ok(done.summary)
}

fn by_rule(instances: Vec<Instance>) -> ByRule {
    let mut by_rule = ByRule::new();
    for instance in instances {
        by_rule.entry(instance.rule.id.clone()).or_default().push(instance);
    }
    by_rule
}

/// The facts of a tick.
struct Tick<'a, A, D, P> {
    world: &'a World<'a, A, D, P>,
    past: Past,
    /// The rules of the shard.
    rules: Vec<&'a Rule>,
    /// The instances of those, and on shard 0 of rules that are gone.
    by_rule: ByRule,
    /// What of the outboxes could not be told.
    unpublished: usize,
}

impl<A: AlertStore, D: Select, P: Publish> Tick<'_, A, D, P> {
    async fn run(&self) -> Done {
        let mut done = Done::default();
        done.summary.unpublished = self.unpublished;
        done.add(self.end().await);
        let due: Vec<&Rule> = self
            .rules
            .iter()
            .copied()
            .filter(|rule| rule.spec.enabled && self.past.is_due(rule))
            .collect();
        let (heartbeats, watching): (Vec<&Rule>, Vec<&Rule>) = due.into_iter().partition(|rule| is_heartbeat(rule));
        done.add(self.heartbeats(&heartbeats).await);
        let passes = read::passes(watching, self.world.data, self.world.now);
        let reads: Vec<_> = passes.iter().map(|pass| self.read(pass)).collect();
        let mut reads = stream::iter(reads).buffer_unordered(BUCKETS_AT_ONCE);
        while let Some(one) = reads.next().await {
            done.add(one);
        }
        done
    }

    /// Keeps how far the shard has come, for the next tick.
    async fn save(&self, shard: Shard, done: &Done) -> Result<(), StoreError> {
        let state = TickState {
            at: self.world.now,
            owed: self.past.owed(&done.undone),
        };
        self.world.alerts.save_tick(shard.index, &state).await.map(drop)
    }

    /// How many other shards have not ticked for long, as seen from the one that has the hearts.
    async fn shards_behind(&self, shard: Shard, every_ms: i64) -> Result<usize, StoreError> {
        let mut behind = 0;
        let others = if shard.index == 0 { 1..shard.of } else { 0..0 };
        let long_ago = self.world.now.0.saturating_sub(every_ms.saturating_mul(TICKS_BEHIND));
        for index in others {
            let last = self.world.alerts.load_tick(index).await?;
            if last.is_none_or(|last| last.at.0 < long_ago) {
                tracing::error!(shard = index, "a shard of the evaluation has not ticked for long");
                behind += 1;
            }
        }
        Ok(behind)
    }

    /// Ends what disabled rules and those that are gone have left.
    async fn end(&self) -> Done {
        let now = self.world.now;
        let known: HashSet<&str> = self.rules.iter().map(|rule| rule.id.as_str()).collect();
        let disabled = self.rules.iter().filter(|rule| !rule.spec.enabled).map(|rule| {
            let previous = instances_of(&self.by_rule, rule);
            (rule.id.as_str(), decide(rule, previous, &[], now, 0))
        });
        let orphans = self.by_rule.iter().filter(|(id, _)| !known.contains(id.as_str()));
        let orphans = orphans.map(|(id, previous)| (id.as_str(), decide_orphans(previous, now)));
        let decisions = disabled.chain(orphans).collect();
        let mut done = self.execute(decisions).await;
        done.summary.rules_evaluated = 0;
        done
    }

    /// Evaluates the heartbeats: they read nothing.
    async fn heartbeats(&self, rules: &[&Rule]) -> Done {
        let decisions = rules.iter().map(|rule| {
            let rows = crate::vector::vector(&rule.spec.query, &[]);
            let previous = instances_of(&self.by_rule, rule);
            (rule.id.as_str(), decide(rule, previous, &rows, self.world.now, 0))
        });
        self.execute(decisions.collect()).await
    }

    /// Tells that the evaluation lives, when it left nothing undone. Hearts that began to beat on this tick have told it themselves.
    async fn beat(&self, done: &mut Done) {
        let due = |rule: &&&Rule| rule.spec.enabled && is_heartbeat(rule) && self.past.is_due(rule);
        let rules: Vec<&Rule> = self.rules.iter().filter(due).copied().collect();
        if !done.summary.is_complete() {
            done.undone.extend(rules.iter().map(|rule| rule.id.clone()));
            return;
        }
        let mut beats = Vec::new();
        for rule in &rules {
            let beating = instances_of(&self.by_rule, rule)
                .iter()
                .filter(|instance| instance.state == InstanceState::Firing && instance.unsent.is_empty());
            beats.extend(beating.map(|instance| (*rule, beat(instance, self.world.now))));
        }
        let messages: Vec<Message> = beats.iter().map(|(_, message)| message.clone()).collect();
        if messages.is_empty() {
            return;
        }
        let mut results = self.world.publisher.publish(&messages).await.into_iter();
        for (rule, _) in &beats {
            if let Some(Ok(())) = results.next() {
                done.summary.beats += 1;
            } else {
                tracing::warn!(rule_id = rule.id, "a sign of life was not published");
                done.summary.unpublished += 1;
                done.undone.push(rule.id.clone());
            }
        }
    }
}

/// A sign of life: the firing of a heartbeat, told once more under an id of its own.
fn beat(instance: &Instance, now: Timestamp) -> Message {
    let firing_since = instance.firing_since.unwrap_or(now);
    let mut event = instance.event(&Transition {
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: now,
        firing_since,
        value: instance.current_value,
        by: None,
        comment: None,
    });
    event.id = format!("{}.beat.{}", incident_id(&instance.id, firing_since), now.0);
    event.beat = Some(now);
    Message::Event(Box::new(event))
}

#[cfg(test)]
mod tests;
