//! The alert store and the topic in memory: for tests, and for running everything in one process.

use crate::event::{Publish, PublishError, TransitionEvent};
use crate::instance::Instance;
use crate::rule::Rule;
use crate::store::{
    AlertStore, AttemptKey, Begun, Finished, InstanceFilter, LogEntry, LogState, Page, PageRequest, RuleCreated,
    RuleReplaced, Saved, StoreError,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;

/// Keeps rules, instances and the notification log in maps behind one lock; every guarantee of [`AlertStore`] follows from that.
#[derive(Debug, Default)]
pub struct MemoryAlertStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    rules: BTreeMap<String, Rule>,
    instances: BTreeMap<String, Instance>,
    log: BTreeMap<AttemptKey, LogEntry>,
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

    async fn begin_attempt(
        &self,
        key: &AttemptKey,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        let mut tables = self.tables();
        let attempts = match tables.log.get(key) {
            None => 0,
            Some(entry) => match &entry.state {
                LogState::Sent { .. } | LogState::Undeliverable { .. } => return Ok(Begun::Done),
                LogState::Open { lease_until } if *lease_until > now => {
                    return Ok(Begun::Running { until: *lease_until });
                }
                LogState::Open { .. } | LogState::GivenUp { .. } => entry.attempts,
            },
        };
        let attempts = attempts.saturating_add(1);
        let state = LogState::Open { lease_until };
        let entry = LogEntry {
            state,
            attempts,
            updated_at: now,
        };
        tables.log.insert(key.clone(), entry);
        Ok(Begun::Attempt(attempts))
    }

    async fn finish_attempt(&self, key: &AttemptKey, outcome: &Finished, now: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let before = tables.log.get(key);
        if before.is_some_and(|entry| matches!(entry.state, LogState::Sent { .. } | LogState::Undeliverable { .. })) {
            return Ok(());
        }
        let attempts = before.map_or(0, |entry| entry.attempts);
        let state = match outcome.clone() {
            Finished::Sent => LogState::Sent { at: now },
            Finished::Failed { .. } => LogState::Open {
                lease_until: Timestamp(i64::MIN),
            },
            Finished::Undeliverable { reason } => LogState::Undeliverable { reason },
            Finished::GivenUp { reason } => LogState::GivenUp { reason },
        };
        let entry = LogEntry {
            state,
            attempts,
            updated_at: now,
        };
        tables.log.insert(key.clone(), entry);
        Ok(())
    }

    async fn log_entry(&self, key: &AttemptKey) -> Result<Option<LogEntry>, StoreError> {
        Ok(self.tables().log.get(key).cloned())
    }
}

/// A topic that keeps what is published to it.
#[derive(Debug, Default)]
pub struct MemoryTopic {
    state: Mutex<TopicState>,
}

#[derive(Debug, Default)]
struct TopicState {
    published: Vec<TransitionEvent>,
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
    pub fn take(&self) -> Vec<TransitionEvent> {
        std::mem::take(&mut self.state().published)
    }

    fn state(&self) -> MutexGuard<'_, TopicState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Publish for MemoryTopic {
    async fn publish(&self, events: &[TransitionEvent]) -> Vec<Result<(), PublishError>> {
        let mut state = self.state();
        if state.down {
            let refuse = |_| {
                Err(PublishError {
                    reason: "the topic is down".to_owned(),
                })
            };
            return events.iter().map(refuse).collect();
        }
        state.published.extend_from_slice(events);
        events.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests;
