//! A store in memory, with the guarantees of the one on DynamoDB. Tests and simulations run on it.

use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{
    Advance, CatalogEntry, Checkpoint, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use crate::stream::{DeadLetter, DeadLetters};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::{Bucket, Period, Window};

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    segments: BTreeMap<(Bucket, Window), BTreeMap<SegmentOrder, StoredSegment>>,
    catalog: BTreeMap<(String, Period), BTreeMap<u32, CatalogEntry>>,
    names: BTreeMap<Period, BTreeSet<String>>,
    references: BTreeMap<Bucket, u32>,
    checkpoints: BTreeMap<ShardId, Checkpoint>,
    dead_letters: Vec<DeadLetter>,
    segments_put: usize,
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics while it holds the lock has failed already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`DeadLetters::send`] was given.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters.clone()
    }

    /// How many segments were written, those that overwrote another included.
    #[must_use]
    pub fn segments_put(&self) -> usize {
        self.state().segments_put
    }

    /// Every stored segment.
    #[must_use]
    pub fn all_segments(&self) -> Vec<StoredSegment> {
        self.state()
            .segments
            .values()
            .flat_map(BTreeMap::values)
            .cloned()
            .collect()
    }
}

impl Store for MemoryStore {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.segments_put += segments.len();
        for segment in segments {
            let place = state.segments.entry((segment.bucket, segment.window)).or_default();
            place.insert(segment.order, segment);
        }
        Ok(())
    }

    async fn segments(&self, bucket: Bucket, window: Window) -> Result<Vec<StoredSegment>, StoreError> {
        let state = self.state();
        let found = state.segments.get(&(bucket, window));
        Ok(found
            .map(|segments| segments.values().cloned().collect())
            .unwrap_or_default())
    }

    async fn catalog(&self, metric: &str, period: Period) -> Result<Vec<CatalogEntry>, StoreError> {
        let state = self.state();
        let found = state.catalog.get(&(metric.to_owned(), period));
        Ok(found
            .map(|entries| entries.values().cloned().collect())
            .unwrap_or_default())
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let next = state.references.entry(bucket).or_default();
        let first = *next;
        *next += count;
        Ok(first)
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        let mut state = self.state();
        for new in entries {
            state.names.entry(new.period).or_default().insert(new.metric.clone());
            state
                .catalog
                .entry((new.metric, new.period))
                .or_default()
                .insert(new.entry.reference, new.entry);
        }
        Ok(())
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        Ok(self
            .state()
            .names
            .get(&period)
            .map(|names| names.iter().cloned().collect())
            .unwrap_or_default())
    }

    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        Ok(self.state().checkpoints.get(shard).cloned())
    }

    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        let mut state = self.state();
        match state.checkpoints.get(shard) {
            Some(now) if Some(now.sequence) != from => Ok(Advance::Elsewhere(now.clone())),
            // As in the database: a checkpoint that is gone (it expires long after its shard) starts anew.
            _ => {
                state.checkpoints.insert(shard.clone(), to.clone());
                Ok(Advance::Moved)
            }
        }
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        Ok(self
            .state()
            .checkpoints
            .iter()
            .map(|(shard, at)| (shard.clone(), at.clone()))
            .collect())
    }
}

impl DeadLetters for MemoryStore {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        self.state().dead_letters.extend(letters);
        Ok(())
    }
}
