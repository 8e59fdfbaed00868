//! The state of notifying as one process sees it.

use crate::sim::{Effect, Process};
use std::sync::Arc;
use tidemark_model::Timestamp;
use tidemark_notify::MemoryNotifyStore;
use tidemark_notify::settings::Document;
use tidemark_notify::store::{DocumentStore, Enlisted, Group, Lane, LaneContent, LaneStore, Leased, Mark, Settled};
use tidemark_rules::TransitionEvent;
use tidemark_rules::store::{Page, PageRequest, Saved, StoreError};

/// See the module.
pub(crate) struct Lanes {
    pub(crate) inner: Arc<MemoryNotifyStore>,
    pub(crate) process: Arc<Process>,
}

impl Lanes {
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

impl DocumentStore for Lanes {
    async fn get<T: Document>(&self, id: &str) -> Result<Option<T>, StoreError> {
        self.read("get document", self.inner.get(id)).await
    }

    async fn list<T: Document>(&self, page: &PageRequest) -> Result<Page<T>, StoreError> {
        self.read("list documents", self.inner.list(page)).await
    }

    async fn load<T: Document>(&self) -> Result<Vec<T>, StoreError> {
        self.process.begin_read("load documents").await?;
        let mut first: Vec<T> = self.inner.load().await?;
        if self.process.sim.draw(|random| random.chance(0.1)) {
            self.process.pause().await;
            first.truncate(self.process.sim.draw(|random| random.below(first.len() + 1)));
            let last = first.last().map(|document| document.id().to_owned());
            let rest: Vec<T> = self.inner.load().await?;
            first.extend(rest.into_iter().filter(|item| Some(item.id()) > last.as_deref()));
        }
        self.process.pause().await;
        Ok(first)
    }

    async fn put<T: Document>(&self, document: &T, expected: Option<u64>) -> Result<Saved, StoreError> {
        // A document that never comes late: its type need not live for ever.
        self.process.begin_read("put document").await?;
        let saved = self.inner.put(document, expected).await?;
        self.process
            .log(|| format!("put {} {} v{} -> {saved:?}", T::KIND, document.id(), document.version()));
        if saved == Saved::Saved {
            let value = serde_json::to_value(document).unwrap();
            let now_ms = self.process.sim.now_ms();
            self.process
                .sim
                .truth()
                .document_put(T::KIND, document.id(), value, now_ms);
        }
        self.process.pause().await;
        Ok(saved)
    }

    async fn delete<T: Document>(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        self.process.begin_read("delete document").await?;
        let saved = self.inner.delete::<T>(id, expected).await?;
        self.process.log(|| format!("delete {} {id} -> {saved:?}", T::KIND));
        if saved == Saved::Saved {
            let now_ms = self.process.sim.now_ms();
            self.process.sim.truth().document_deleted(T::KIND, id, now_ms);
        }
        self.process.pause().await;
        Ok(saved)
    }
}

impl LaneStore for Lanes {
    async fn enlist(&self, lane: &str, event: &TransitionEvent, now: Timestamp) -> Result<Enlisted, StoreError> {
        let (inner, lane, event) = (Arc::clone(&self.inner), lane.to_owned(), event.clone());
        let what = format!("{lane} {} beat {:?}", event.id, event.beat);
        let effect: Effect<_> = Box::pin(async move { inner.enlist(&lane, &event, now).await });
        self.process.write("enlist", || what.clone(), effect).await
    }

    async fn lane(&self, lane: &str) -> Result<Option<Lane>, StoreError> {
        self.read("lane", self.inner.lane(lane)).await
    }

    async fn wake_by(&self, lane: &str, at: Timestamp) -> Result<(), StoreError> {
        let (inner, lane) = (Arc::clone(&self.inner), lane.to_owned());
        let what = format!("{lane} {}", at.0);
        let effect: Effect<_> = Box::pin(async move { inner.wake_by(&lane, at).await });
        self.process.write("wake_by", || what.clone(), effect).await
    }

    async fn lease(&self, lane: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<Leased, StoreError> {
        let (inner, lane, holder) = (Arc::clone(&self.inner), lane.to_owned(), holder.to_owned());
        let what = format!("{lane} {holder} until {}", until.0);
        let effect: Effect<_> = Box::pin(async move { inner.lease(&lane, &holder, now, until).await });
        self.process.write("lease", || what.clone(), effect).await
    }

    /// Not one step: each part may be as of its own moment.
    async fn content(&self, lane: &str) -> Result<Option<LaneContent>, StoreError> {
        self.process.begin_read("content").await?;
        let mut content = self.inner.content(lane).await?;
        if let Some(content) = &mut content {
            let parts = self.process.sim.draw(|random| random.below(16));
            if parts < 6 {
                self.process.pause().await;
                if let Some(later) = self.inner.content(lane).await? {
                    if parts & 1 != 0 {
                        content.lane = later.lane;
                    }
                    if parts & 2 != 0 {
                        content.groups = later.groups;
                    } else if parts & 4 != 0 {
                        content.members = later.members;
                    }
                }
            }
        }
        self.process.pause().await;
        Ok(content)
    }

    async fn release(&self, holder: &str, head: &Lane) -> Result<Saved, StoreError> {
        let (inner, holder, head) = (Arc::clone(&self.inner), holder.to_owned(), head.clone());
        let what = format!(
            "{} {holder} wake {:?} tokens {}",
            head.id,
            head.wake_at.map(|at| at.0),
            head.tokens
        );
        let effect: Effect<_> = Box::pin(async move { inner.release(&holder, &head).await });
        self.process.write("release", || what.clone(), effect).await
    }

    async fn save_group(&self, lane: &str, group: &Group, expected: Option<u64>) -> Result<Saved, StoreError> {
        let (inner, lane, group) = (Arc::clone(&self.inner), lane.to_owned(), group.clone());
        let what = format!(
            "{lane} {} v{} in flight {:?} told {:?} failures {} given up {}",
            group.key,
            group.version,
            group.in_flight.as_ref().map(|flight| &flight.news),
            group.told.as_ref().map(|told| &told.news),
            group.failures,
            group.given_up.is_some(),
        );
        let process = Arc::clone(&self.process);
        let effect: Effect<_> = Box::pin(async move {
            let saved = inner.save_group(&lane, &group, expected).await?;
            if saved == Saved::Saved && group.told.is_some() {
                process.sim.truth().recorded(&lane, &group.key, &process);
            }
            Ok(saved)
        });
        self.process.write("save_group", || what.clone(), effect).await
    }

    async fn remove_group(&self, lane: &str, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let (inner, lane, id) = (Arc::clone(&self.inner), lane.to_owned(), id.to_owned());
        let what = format!("{lane} {id}");
        let effect: Effect<_> = Box::pin(async move { inner.remove_group(&lane, &id, expected).await });
        self.process.write("remove_group", || what.clone(), effect).await
    }

    async fn mark(&self, lane: &str, incident: &str, mark: &Mark) -> Result<(), StoreError> {
        let (inner, lane, incident, mark) = (
            Arc::clone(&self.inner),
            lane.to_owned(),
            incident.to_owned(),
            mark.clone(),
        );
        let what = format!("{lane} {incident} {mark:?}");
        let effect: Effect<_> = Box::pin(async move { inner.mark(&lane, &incident, &mark).await });
        self.process.write("mark", || what.clone(), effect).await
    }

    async fn settle(&self, lane: &str, incident: &str, settled: &Settled, now: Timestamp) -> Result<(), StoreError> {
        let (inner, lane, incident, settled) = (
            Arc::clone(&self.inner),
            lane.to_owned(),
            incident.to_owned(),
            settled.clone(),
        );
        let what = format!("{lane} {incident} {settled:?}");
        let effect: Effect<_> = Box::pin(async move { inner.settle(&lane, &incident, &settled, now).await });
        self.process.write("settle", || what.clone(), effect).await
    }

    async fn settled(&self, lane: &str, incident: &str) -> Result<Option<Settled>, StoreError> {
        self.read("settled", self.inner.settled(lane, incident)).await
    }

    async fn overdue(&self, before: Timestamp) -> Result<Vec<String>, StoreError> {
        self.read("overdue", self.inner.overdue(before)).await
    }
}
