//! The alert store as one process sees it.

use crate::sim::{Effect, Process};
use std::sync::Arc;
use tidemark_model::Timestamp;
use tidemark_rules::history::{HistoryEntry, HistoryFilter};
use tidemark_rules::store::{
    AlertStore, InstanceFilter, Page, PageRequest, RuleCreated, RuleReplaced, Saved, StoreError, TickState,
};
use tidemark_rules::{Instance, MemoryAlertStore, Rule};

/// See the module.
pub(crate) struct Alerts {
    pub(crate) inner: Arc<MemoryAlertStore>,
    pub(crate) process: Arc<Process>,
}

impl Alerts {
    /// Everything of a kind: where it is read in pages, those behind a place are as of a later moment.
    async fn whole<T, F: Future<Output = Result<Vec<T>, StoreError>>>(
        &self,
        operation: &'static str,
        id: impl Fn(&T) -> String,
        ask: impl Fn() -> F,
    ) -> Result<Vec<T>, StoreError> {
        self.process.begin_read(operation).await?;
        let mut first = ask().await?;
        if self.process.sim.draw(|random| random.chance(0.2)) {
            self.process.pause().await;
            first.truncate(self.process.sim.draw(|random| random.below(first.len() + 1)));
            let last = first.last().map(&id);
            let rest = ask().await?;
            first.extend(rest.into_iter().filter(|item| Some(id(item)) > last));
        }
        self.process.pause().await;
        Ok(first)
    }

    async fn read<T>(
        &self,
        operation: &'static str,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.process.begin_read(operation).await?;
        let answer = ask.await;
        self.process.pause().await;
        answer
    }
}

fn outline(instance: &Instance) -> String {
    let unsent: Vec<_> = instance.unsent.iter().map(|one| one.kind.as_str()).collect();
    format!(
        "{} v{} {} since {:?} unsent {unsent:?}",
        instance.id,
        instance.version,
        instance.state,
        instance.firing_since.map(|at| at.0)
    )
}

impl AlertStore for Alerts {
    async fn create_rule(&self, rule: &Rule) -> Result<RuleCreated, StoreError> {
        let (inner, rule) = (Arc::clone(&self.inner), rule.clone());
        let what = rule.id.clone();
        let effect: Effect<_> = Box::pin(async move { inner.create_rule(&rule).await });
        self.process.write("create_rule", || what.clone(), effect).await
    }

    async fn get_rule(&self, id: &str) -> Result<Option<Rule>, StoreError> {
        self.read("get_rule", self.inner.get_rule(id)).await
    }

    async fn list_rules(&self, page: &PageRequest) -> Result<Page<Rule>, StoreError> {
        self.read("list_rules", self.inner.list_rules(page)).await
    }

    async fn load_rules(&self) -> Result<Vec<Rule>, StoreError> {
        self.whole("load_rules", |rule: &Rule| rule.id.clone(), || self.inner.load_rules())
            .await
    }

    async fn replace_rule(&self, previous: &Rule, next: &Rule) -> Result<RuleReplaced, StoreError> {
        let (inner, previous, next) = (Arc::clone(&self.inner), previous.clone(), next.clone());
        let what = format!("{} v{} enabled {}", next.id, next.version, next.spec.enabled);
        let effect: Effect<_> = Box::pin(async move { inner.replace_rule(&previous, &next).await });
        self.process.write("replace_rule", || what.clone(), effect).await
    }

    async fn delete_rule(&self, rule: &Rule) -> Result<Saved, StoreError> {
        let (inner, rule) = (Arc::clone(&self.inner), rule.clone());
        let what = rule.id.clone();
        let effect: Effect<_> = Box::pin(async move { inner.delete_rule(&rule).await });
        self.process.write("delete_rule", || what.clone(), effect).await
    }

    async fn count_rules(&self) -> Result<u64, StoreError> {
        self.read("count_rules", self.inner.count_rules()).await
    }

    async fn count_instances(&self) -> Result<u64, StoreError> {
        self.read("count_instances", self.inner.count_instances()).await
    }

    async fn count_active_instances(&self) -> Result<u64, StoreError> {
        self.read("count_active_instances", self.inner.count_active_instances())
            .await
    }

    async fn load_instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.whole(
            "load_instances",
            |instance: &Instance| instance.id.clone(),
            || self.inner.load_instances(),
        )
        .await
    }

    async fn list_instances(&self, filter: &InstanceFilter, page: &PageRequest) -> Result<Page<Instance>, StoreError> {
        self.read("list_instances", self.inner.list_instances(filter, page))
            .await
    }

    async fn get_instance(&self, id: &str) -> Result<Option<Instance>, StoreError> {
        self.read("get_instance", self.inner.get_instance(id)).await
    }

    async fn save_instance(&self, instance: &Instance, expected: Option<u64>) -> Result<Saved, StoreError> {
        let (inner, instance, sim) = (Arc::clone(&self.inner), instance.clone(), Arc::clone(&self.process.sim));
        let what = outline(&instance);
        let effect: Effect<_> = Box::pin(async move {
            let before = inner.get_instance(&instance.id).await?;
            let saved = inner.save_instance(&instance, expected).await?;
            if saved == Saved::Saved {
                let now_ms = sim.now_ms();
                let said = sim.truth().instance_saved(before.as_ref(), &instance, now_ms);
                if let Err(why) = said {
                    sim.violate(|| why);
                }
            }
            Ok(saved)
        });
        self.process.write("save_instance", || what.clone(), effect).await
    }

    async fn remove_instance(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        let what = id.clone();
        let effect: Effect<_> = Box::pin(async move { inner.remove_instance(&id, expected).await });
        self.process.write("remove_instance", || what.clone(), effect).await
    }

    async fn clear_unsent(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
        let what = format!("{id} v{expected}");
        let effect: Effect<_> = Box::pin(async move { inner.clear_unsent(&id, expected).await });
        self.process.write("clear_unsent", || what.clone(), effect).await
    }

    async fn record_notification(&self, instance_id: &str, at: Timestamp) -> Result<(), StoreError> {
        let (inner, id) = (Arc::clone(&self.inner), instance_id.to_owned());
        let effect: Effect<_> = Box::pin(async move { inner.record_notification(&id, at).await });
        self.process
            .write("record_notification", || instance_id.to_owned(), effect)
            .await
    }

    async fn append_history(&self, entries: &[HistoryEntry]) -> Result<(), StoreError> {
        let (inner, entries) = (Arc::clone(&self.inner), entries.to_vec());
        // Not one step: where it does not succeed, any of the entries may be there.
        let part = self.process.sim.draw(|random| random.chance(0.5));
        let what: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        let (first, rest): (Vec<_>, Vec<_>) = entries.into_iter().enumerate().partition(|(at, _)| part && at % 2 == 0);
        let plain = |part: Vec<(usize, HistoryEntry)>| part.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>();
        let (first, rest) = (plain(first), plain(rest));
        if !first.is_empty() {
            let inner = Arc::clone(&inner);
            let effect: Effect<_> = Box::pin(async move { inner.append_history(&first).await });
            self.process
                .write("append_history (a part)", String::new, effect)
                .await?;
        }
        let effect: Effect<_> = Box::pin(async move { inner.append_history(&rest).await });
        self.process
            .write("append_history", || format!("{what:?}"), effect)
            .await
    }

    async fn list_history(
        &self,
        filter: &HistoryFilter,
        now: Timestamp,
        page: &PageRequest,
    ) -> Result<Page<HistoryEntry>, StoreError> {
        self.read("list_history", self.inner.list_history(filter, now, page))
            .await
    }

    async fn load_tick(&self, shard: u32) -> Result<Option<TickState>, StoreError> {
        self.read("load_tick", self.inner.load_tick(shard)).await
    }

    async fn save_tick(&self, shard: u32, state: &TickState) -> Result<Saved, StoreError> {
        let (inner, state) = (Arc::clone(&self.inner), state.clone());
        let what = format!("{shard} {state:?}");
        let effect: Effect<_> = Box::pin(async move { inner.save_tick(shard, &state).await });
        self.process.write("save_tick", || what.clone(), effect).await
    }
}
