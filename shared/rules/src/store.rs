//! What the alerting side asks of a database. Two implementations ship: DynamoDB (`tidemark-aws`) and
//! [`crate::MemoryAlertStore`].
//!
//! **Guarantees that callers rely on.** Each method is atomic by itself, and a successful answer is durable. Reads see
//! every write that was answered before they began (strongly consistent), except the two counts, which may lag. Conditions
//! are checked and applied in one step. A method that answers with an error may or may not have been applied: every caller
//! repeats it on the next tick or redelivery, and a repeat is harmless or answers `Conflict`.
//!
//! **Items.** On one table: a rule and its name (two items, written in one transaction), one item per instance (its outbox
//! inside, so that a state and what is to be told about it are saved together), the entries of the history, one item per shard of the
//! evaluation. The counters of an instance are written apart from its state, so that a delivery and an evaluation
//! never conflict.

use crate::history::{HistoryEntry, HistoryFilter};
use crate::instance::{Instance, InstanceState};
use crate::rule::Rule;
use std::collections::BTreeMap;
use std::future::Future;
use tidemark_model::Timestamp;
pub use tidemark_tsdb::StoreError;

/// Which page of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// The most items to return; at least 1.
    pub limit: usize,
    /// Return only items whose id is greater, byte by byte: the `next` of the page before. Any text is allowed.
    pub after: Option<String>,
}

/// A page of a list, in ascending order of the items' ids.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// At most as many as were asked for; fewer only at the end.
    pub items: Vec<T>,
    /// The `after` of the next page; `None` at the end. The page after this one may turn out to be empty.
    pub next: Option<String>,
}

/// Which instances a list is about. Every given condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// One of these states; empty: any.
    pub states: Vec<InstanceState>,
    /// Of the rule with this id.
    pub rule_id: Option<String>,
}

impl InstanceFilter {
    /// Pending and firing instances.
    #[must_use]
    pub fn active() -> Self {
        Self {
            states: vec![InstanceState::Pending, InstanceState::Firing],
            rule_id: None,
        }
    }

    /// Whether an instance passes.
    #[must_use]
    pub fn matches(&self, instance: &Instance) -> bool {
        (self.states.is_empty() || self.states.contains(&instance.state))
            && self.rule_id.as_ref().is_none_or(|id| *id == instance.rule.id)
    }
}

/// What became of a new rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleCreated {
    /// It is stored.
    Created,
    /// Another rule has this name; nothing was stored.
    NameTaken,
    /// Another rule has this id; nothing was stored.
    IdTaken,
}

/// What became of a changed rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleReplaced {
    /// It is stored, and the old name is free when it was another.
    Replaced,
    /// Another rule has the new name; nothing was stored.
    NameTaken,
    /// The rule is gone or no longer has the version that the caller read; nothing was stored.
    Conflict,
}

/// What became of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// It is stored.
    Saved,
    /// The item is gone, is new, or no longer has the version that the caller read; nothing was stored.
    Conflict,
}

/// How far a shard of the evaluation has come.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TickState {
    /// When its last tick began.
    pub at: Timestamp,
    /// The ids of rules that were due then and could not be evaluated, each with the time of the last tick on which it could.
    pub owed: BTreeMap<String, Timestamp>,
}

/// The database under alerting. See the module's page for the guarantees.
pub trait AlertStore: Send + Sync {
    /// Stores a new rule if neither its id nor its name is taken.
    fn create_rule(&self, rule: &Rule) -> impl Future<Output = Result<RuleCreated, StoreError>> + Send;

    /// The rule with this id.
    fn get_rule(&self, id: &str) -> impl Future<Output = Result<Option<Rule>, StoreError>> + Send;

    /// A page of the rules.
    fn list_rules(&self, page: &PageRequest) -> impl Future<Output = Result<Page<Rule>, StoreError>> + Send;

    /// Every rule, in ascending order of the ids.
    fn load_rules(&self) -> impl Future<Output = Result<Vec<Rule>, StoreError>> + Send;

    /// Stores `next` in place of `previous` (the same id) if the stored version is that of `previous`, and moves the name.
    fn replace_rule(
        &self,
        previous: &Rule,
        next: &Rule,
    ) -> impl Future<Output = Result<RuleReplaced, StoreError>> + Send;

    /// Deletes a rule and frees its name if the stored version is that of `rule`. Its instances stay; the next tick
    /// resolves them.
    fn delete_rule(&self, rule: &Rule) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// How many rules there are.
    fn count_rules(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// How many instances there are.
    fn count_instances(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// How many instances are pending or firing.
    fn count_active_instances(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Every instance, in ascending order of the ids, in one pass.
    fn load_instances(&self) -> impl Future<Output = Result<Vec<Instance>, StoreError>> + Send;

    /// A page of the instances that pass the filter.
    fn list_instances(
        &self,
        filter: &InstanceFilter,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<Instance>, StoreError>> + Send;

    /// The instance with this id.
    fn get_instance(&self, id: &str) -> impl Future<Output = Result<Option<Instance>, StoreError>> + Send;

    /// Stores an instance's state and outbox if the stored version is `expected` (`None`: if there is no such instance).
    /// `instance.version` is the new version. `notifications_sent` and `last_notification_at` are *not* written: they stay
    /// as they are stored, and begin at 0 and `None`.
    fn save_instance(
        &self,
        instance: &Instance,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Removes an instance if its stored version is `expected`. Callers remove only what has an empty outbox.
    fn remove_instance(&self, id: &str, expected: u64) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Empties the outbox of an instance if its stored version is `expected`; the version stays. A conflict is harmless: who
    /// saved a newer version took the outbox along and publishes it.
    fn clear_unsent(&self, id: &str, expected: u64) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Adds one to `notifications_sent` and moves `last_notification_at` forward to `at`; neither version nor state change.
    /// Nothing happens when the instance is gone: it must not be created by this.
    fn record_notification(
        &self,
        instance_id: &str,
        at: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Adds entries to the history. An entry with an id and a time that are there already replaces the same. Entries may be deleted a year
    /// after their time, never earlier.
    fn append_history(&self, entries: &[HistoryEntry]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// A page of the entries that pass the filter, the newest first. The page's `after` is the `next` of the page before and nothing
    /// else.
    fn list_history(
        &self,
        filter: &HistoryFilter,
        now: Timestamp,
        page: &PageRequest,
    ) -> impl Future<Output = Result<Page<HistoryEntry>, StoreError>> + Send;

    /// How far a shard has come; `None` before its first tick.
    fn load_tick(&self, shard: u32) -> impl Future<Output = Result<Option<TickState>, StoreError>> + Send;

    /// Stores how far a shard has come, unless a later tick has stored that before.
    fn save_tick(&self, shard: u32, state: &TickState) -> impl Future<Output = Result<Saved, StoreError>> + Send;
}
