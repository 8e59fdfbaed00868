//! Lanes and documents in memory: for tests, and for running everything in one process.

use crate::settings::Document;
use crate::store::{
    DocumentStore, Enlisted, Group, Lane, LaneContent, LaneStore, Leased, Mark, Member, Settled, StoreError,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;
use tidemark_rules::TransitionEvent;
use tidemark_rules::store::{Page, PageRequest, Saved};

/// Keeps everything in maps behind one lock; every guarantee of [`LaneStore`] and [`DocumentStore`] follows from that. Documents are kept as
/// the JSON that a database would keep, so that what does not survive that shows here. Nothing expires.
#[derive(Debug, Default)]
pub struct MemoryNotifyStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    documents: BTreeMap<(&'static str, String), (u64, String)>,
    lanes: BTreeMap<String, Stored>,
}

#[derive(Debug)]
struct Stored {
    head: Option<Lane>,
    holder: Option<String>,
    groups: BTreeMap<String, Group>,
    members: BTreeMap<String, Member>,
    settled: BTreeMap<String, Settled>,
}

impl Stored {
    fn new() -> Self {
        Self {
            head: None,
            holder: None,
            groups: BTreeMap::new(),
            members: BTreeMap::new(),
            settled: BTreeMap::new(),
        }
    }

    fn head(&mut self, lane: &str) -> &mut Lane {
        self.head.get_or_insert_with(|| Lane::new(lane))
    }
}

impl Tables {
    fn lane(&mut self, lane: &str) -> &mut Stored {
        self.lanes.entry(lane.to_owned()).or_insert_with(Stored::new)
    }
}

impl MemoryNotifyStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // A panic elsewhere leaves whole entries behind.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T: Document>(id: &str, json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(|error| StoreError::Corrupt {
        item: format!("{}/{id}", T::KIND),
        reason: error.to_string(),
    })
}

fn write<T: Document>(document: &T) -> Result<String, StoreError> {
    serde_json::to_string(document).map_err(|error| StoreError::Corrupt {
        item: format!("{}/{}", T::KIND, document.id()),
        reason: error.to_string(),
    })
}

impl DocumentStore for MemoryNotifyStore {
    async fn get<T: Document>(&self, id: &str) -> Result<Option<T>, StoreError> {
        let tables = self.tables();
        let stored = tables.documents.get(&(T::KIND, id.to_owned()));
        stored.map(|(_, json)| read(id, json)).transpose()
    }

    async fn list<T: Document>(&self, page: &PageRequest) -> Result<Page<T>, StoreError> {
        let tables = self.tables();
        let mut items = Vec::new();
        let mut next = None;
        for ((kind, id), (_, json)) in &tables.documents {
            if *kind != T::KIND || page.after.as_deref().is_some_and(|after| id.as_str() <= after) {
                continue;
            }
            if items.len() >= page.limit.max(1) {
                next = items.last().map(|last: &T| last.id().to_owned());
                break;
            }
            items.push(read(id, json)?);
        }
        Ok(Page { items, next })
    }

    async fn load<T: Document>(&self) -> Result<Vec<T>, StoreError> {
        let tables = self.tables();
        let of_kind = tables.documents.iter().filter(|((kind, _), _)| *kind == T::KIND);
        of_kind.map(|((_, id), (_, json))| read(id, json)).collect()
    }

    async fn put<T: Document>(&self, document: &T, expected: Option<u64>) -> Result<Saved, StoreError> {
        let json = write(document)?;
        let mut tables = self.tables();
        let key = (T::KIND, document.id().to_owned());
        if tables.documents.get(&key).map(|(version, _)| *version) != expected {
            return Ok(Saved::Conflict);
        }
        tables.documents.insert(key, (document.version(), json));
        Ok(Saved::Saved)
    }

    async fn delete<T: Document>(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let key = (T::KIND, id.to_owned());
        if tables.documents.get(&key).map(|(version, _)| *version) != Some(expected) {
            return Ok(Saved::Conflict);
        }
        tables.documents.remove(&key);
        Ok(Saved::Saved)
    }
}

impl LaneStore for MemoryNotifyStore {
    async fn enlist(&self, lane: &str, event: &TransitionEvent, now: Timestamp) -> Result<Enlisted, StoreError> {
        let mut tables = self.tables();
        let stored = tables.lane(lane);
        let incident = event.incident_id();
        if stored.settled.contains_key(&incident) {
            return Ok(Enlisted::Settled);
        }
        match stored.members.get_mut(&incident) {
            Some(member) if member.is_replaced_by(event) => member.event = event.clone(),
            Some(_) => {}
            None => {
                stored.members.insert(
                    incident.clone(),
                    Member {
                        incident,
                        event: event.clone(),
                        enlisted_at: now,
                        mark: Mark::default(),
                    },
                );
            }
        }
        Ok(Enlisted::InLane)
    }

    async fn lane(&self, lane: &str) -> Result<Option<Lane>, StoreError> {
        Ok(self.tables().lanes.get(lane).and_then(|stored| stored.head.clone()))
    }

    async fn wake_by(&self, lane: &str, at: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let head = tables.lane(lane).head(lane);
        if head.wake_at.is_none_or(|wake_at| at < wake_at) {
            head.wake_at = Some(at);
        }
        Ok(())
    }

    async fn lease(&self, lane: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<Leased, StoreError> {
        let mut tables = self.tables();
        let stored = tables.lane(lane);
        let head = stored.head(lane);
        if let Some(held) = head.leased_until.filter(|held| *held > now) {
            return Ok(Leased::Held { until: held });
        }
        head.leased_until = Some(until);
        head.wake_at = Some(until);
        stored.holder = Some(holder.to_owned());
        Ok(Leased::Taken)
    }

    async fn content(&self, lane: &str) -> Result<Option<LaneContent>, StoreError> {
        let mut tables = self.tables();
        let Some(stored) = tables.lanes.get_mut(lane) else {
            return Ok(None);
        };
        Ok(Some(LaneContent {
            lane: stored.head.clone().unwrap_or_else(|| Lane::new(lane)),
            groups: stored.groups.values().cloned().collect(),
            members: stored.members.values().cloned().collect(),
        }))
    }

    async fn release(&self, holder: &str, head: &Lane) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let stored = tables.lane(&head.id);
        if stored.holder.as_deref() != Some(holder) {
            return Ok(Saved::Conflict);
        }
        stored.holder = None;
        stored.head = Some(Lane {
            leased_until: None,
            ..head.clone()
        });
        Ok(Saved::Saved)
    }

    async fn save_group(&self, lane: &str, group: &Group, expected: Option<u64>) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let groups = &mut tables.lane(lane).groups;
        if groups.get(&group.id).map(|stored| stored.version) != expected {
            return Ok(Saved::Conflict);
        }
        groups.insert(group.id.clone(), group.clone());
        Ok(Saved::Saved)
    }

    async fn remove_group(&self, lane: &str, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let mut tables = self.tables();
        let groups = &mut tables.lane(lane).groups;
        if groups.get(id).map(|stored| stored.version) != Some(expected) {
            return Ok(Saved::Conflict);
        }
        groups.remove(id);
        Ok(Saved::Saved)
    }

    async fn mark(&self, lane: &str, incident: &str, mark: &Mark) -> Result<(), StoreError> {
        if let Some(member) = self.tables().lane(lane).members.get_mut(incident) {
            member.mark = mark.clone();
        }
        Ok(())
    }

    async fn settle(&self, lane: &str, incident: &str, settled: &Settled, _now: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let stored = tables.lane(lane);
        stored.settled.insert(incident.to_owned(), settled.clone());
        stored.members.remove(incident);
        Ok(())
    }

    async fn settled(&self, lane: &str, incident: &str) -> Result<Option<Settled>, StoreError> {
        let tables = self.tables();
        Ok(tables
            .lanes
            .get(lane)
            .and_then(|stored| stored.settled.get(incident).cloned()))
    }

    async fn overdue(&self, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let tables = self.tables();
        let heads = tables.lanes.values().filter_map(|stored| stored.head.as_ref());
        let overdue = heads.filter(|head| head.wake_at.is_some_and(|wake_at| wake_at < before));
        Ok(overdue.map(|head| head.id.clone()).collect())
    }
}
