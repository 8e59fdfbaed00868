//! The alert store and the topic in memory: for tests, and for running everything in one process.

use crate::event::{Message, Publish, PublishError};
use crate::history::{HistoryEntry, HistoryFilter};
use crate::instance::Instance;
use crate::rule::Rule;
use crate::store::{
    AlertStore, InstanceFilter, Page, PageRequest, RuleCreated, RuleReplaced, Saved, StoreError, TickState,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;

/// Keeps rules, instances and the history in maps behind one lock; every guarantee of [`AlertStore`] follows from that.
#[derive(Debug, Default)]
pub struct MemoryAlertStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    rules: BTreeMap<String, Rule>,
    instances: BTreeMap<String, Instance>,
    history: BTreeMap<(Timestamp, String), HistoryEntry>,
    ticks: BTreeMap<u32, TickState>,
}

impl Tables {
    fn name_taken(&self, name: &str, by_other_than: &str) -> bool {
        let mut others = self.rules.values().filter(|rule| rule.id != by_other_than);
        others.any(|rule| rule.spec.name == name)
    }
}

impl MemoryAlertStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere leaves whole entries behind: each method changes at most one.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn page_of<T: Clone>(all: &BTreeMap<String, T>, page: &PageRequest, passes: impl Fn(&T) -> bool) -> Page<T> {
    let after = |id: &str| page.after.as_deref().is_none_or(|after| id > after);
    let mut left = all.iter().filter(|(id, item)| after(id) && passes(item));
    let taken: Vec<(&String, &T)> = left.by_ref().take(page.limit.max(1)).collect();
    let next = left.next().and_then(|_| taken.last().map(|(id, _)| (*id).clone()));
    Page {
        items: taken.into_iter().map(|(_, item)| item.clone()).collect(),
        next,
    }
}

impl AlertStore for MemoryAlertStore {
    async fn create_rule(&self, rule: &Rule) -> Result<RuleCreated, StoreError> {
        let mut tables = self.tables();
        if tables.rules.contains_key(&rule.id) {
            return Ok(RuleCreated::IdTaken);
        }
        if tables.name_taken(&rule.spec.name, &rule.id) {
            return Ok(RuleCreated::NameTaken);
        }
        tables.rules.insert(rule.id.clone(), rule.clone());
        Ok(RuleCreated::Created)
    }

    async fn get_rule(&self, id: &str) -> Result<Option<Rule>, StoreError> {
        Ok(self.tables().rules.get(id).cloned())
    }

    async fn list_rules(&self, page: &PageRequest) -> Result<Page<Rule>, StoreError> {
        Ok(page_of(&self.tables().rules, page, |_| true))
    }

    async fn load_rules(&self) -> Result<Vec<Rule>, StoreError> {
        Ok(self.tables().rules.values().cloned().collect())
    }

    async fn replace_rule(&self, previous: &Rule, next: &Rule) -> Result<RuleReplaced, StoreError> {
        let mut tables = self.tables();
        let stored = tables.rules.get(&previous.id);
        if stored.is_none_or(|stored| stored.version != previous.version) {
            return Ok(RuleReplaced::Conflict);
        }
        if tables.name_taken(&next.spec.name, &next.id) {
            return Ok(RuleReplaced::NameTaken);
        }
        tables.rules.insert(next.id.clone(), next.clone());
        Ok(RuleReplaced::Replaced)
    }

    async fn delete_rule(&self, rule: &Rule) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let stored = tables.rules.get(&rule.id);
        if stored.is_none_or(|stored| stored.version != rule.version) {
            return Ok(Saved::Conflict);
        }
        tables.rules.remove(&rule.id);
        Ok(Saved::Saved)
    }

    async fn count_rules(&self) -> Result<u64, StoreError> {
        Ok(self.tables().rules.len() as u64)
    }

    async fn count_instances(&self) -> Result<u64, StoreError> {
        Ok(self.tables().instances.len() as u64)
    }

    async fn count_active_instances(&self) -> Result<u64, StoreError> {
        let tables = self.tables();
        let active = tables.instances.values().filter(|instance| instance.state.is_active());
        Ok(active.count() as u64)
    }

    async fn load_instances(&self) -> Result<Vec<Instance>, StoreError> {
        Ok(self.tables().instances.values().cloned().collect())
    }

    async fn list_instances(&self, filter: &InstanceFilter, page: &PageRequest) -> Result<Page<Instance>, StoreError> {
        Ok(page_of(&self.tables().instances, page, |instance| {
            filter.matches(instance)
        }))
    }

    async fn get_instance(&self, id: &str) -> Result<Option<Instance>, StoreError> {
        Ok(self.tables().instances.get(id).cloned())
    }

    async fn save_instance(&self, instance: &Instance, expected: Option<u64>) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let stored = tables.instances.get(&instance.id);
        if stored.map(|stored| stored.version) != expected {
            return Ok(Saved::Conflict);
        }
        let mut next = instance.clone();
        next.notifications_sent = stored.map_or(0, |stored| stored.notifications_sent);
        next.last_notification_at = stored.and_then(|stored| stored.last_notification_at);
        tables.instances.insert(next.id.clone(), next);
        Ok(Saved::Saved)
    }

    async fn remove_instance(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let stored = tables.instances.get(id);
        if stored.is_none_or(|stored| stored.version != expected) {
            return Ok(Saved::Conflict);
        }
        tables.instances.remove(id);
        Ok(Saved::Saved)
    }

    async fn clear_unsent(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        match tables.instances.get_mut(id).filter(|stored| stored.version == expected) {
            Some(stored) => {
                stored.unsent.clear();
                Ok(Saved::Saved)
            }
            None => Ok(Saved::Conflict),
        }
    }

    async fn record_notification(&self, instance_id: &str, at: Timestamp) -> Result<(), StoreError> {
        if let Some(stored) = self.tables().instances.get_mut(instance_id) {
            stored.notifications_sent += 1;
            stored.last_notification_at = stored.last_notification_at.max(Some(at));
        }
        Ok(())
    }

    async fn append_history(&self, entries: &[HistoryEntry]) -> Result<(), StoreError> {
        let mut tables = self.tables();
        for entry in entries {
            tables.history.insert((entry.at, entry.id.clone()), entry.clone());
        }
        Ok(())
    }

    async fn list_history(
        &self,
        filter: &HistoryFilter,
        _now: Timestamp,
        page: &PageRequest,
    ) -> Result<Page<HistoryEntry>, StoreError> {
        let tables = self.tables();
        let after = |key: &str| page.after.as_deref().is_none_or(|after| key < after);
        let mut left = tables
            .history
            .iter()
            .rev()
            .map(|((at, id), entry)| (format!("{:013}#{id}", at.0), entry))
            .filter(|(key, entry)| after(key) && filter.matches(entry));
        let taken: Vec<_> = left.by_ref().take(page.limit.max(1)).collect();
        let next = left.next().and_then(|_| taken.last().map(|(key, _)| key.clone()));
        Ok(Page {
            items: taken.into_iter().map(|(_, entry)| entry.clone()).collect(),
            next,
        })
    }

    async fn load_tick(&self, shard: u32) -> Result<Option<TickState>, StoreError> {
        Ok(self.tables().ticks.get(&shard).cloned())
    }

    async fn save_tick(&self, shard: u32, state: &TickState) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        if tables.ticks.get(&shard).is_some_and(|stored| stored.at > state.at) {
            return Ok(Saved::Conflict);
        }
        tables.ticks.insert(shard, state.clone());
        Ok(Saved::Saved)
    }
}

/// A topic that keeps what is published to it.
#[derive(Debug, Default)]
pub struct MemoryTopic {
    state: Mutex<TopicState>,
}

#[derive(Debug, Default)]
struct TopicState {
    published: Vec<Message>,
    down: bool,
}

impl MemoryTopic {
    /// An empty topic.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A topic that is down takes nothing.
    pub fn set_down(&self, down: bool) {
        self.state().down = down;
    }

    /// What was published since the last call, in order.
    #[must_use]
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.state().published)
    }

    fn state(&self) -> MutexGuard<'_, TopicState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for MemoryTopic {
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut state = self.state();
        if state.down {
            let refuse = |_| {
                Err(PublishError {
                    reason: "the topic is down".to_owned(),
                })
            };
            return messages.iter().map(refuse).collect();
        }
        state.published.extend_from_slice(messages);
        messages.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests;
