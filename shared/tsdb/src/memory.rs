//! A store and a stream in memory, with the guarantees of those on AWS. Tests and simulations run on them.

use crate::progress::{Progress, Step};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use crate::stream::{DeadLetter, DeadLetters};
use crate::tier::{BlockKey, StoredBlock, Tier};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::{Bucket, Period, SeriesId, Window};

#[cfg(test)]
pub(crate) mod faulty;
mod stream;

pub use stream::MemoryStream;

/// See the module.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// By late or not, as in the database.
    segments: BTreeMap<(Bucket, Window), BTreeMap<(bool, SegmentOrder), StoredSegment>>,
    catalog: BTreeMap<(String, Period), BTreeMap<u32, NewCatalogEntry>>,
    names: BTreeMap<Period, BTreeSet<String>>,
    blocks: BTreeMap<BlockKey, StoredBlock>,
    progress: BTreeMap<Bucket, Progress>,
    division: Option<Division>,
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

    /// A store of its own with the same contents.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self {
            state: Mutex::new(self.state().clone()),
        }
    }

    /// The first half of [`Store::add_to_catalog`]: the names of the entries' metrics, without their series.
    pub fn add_names(&self, entries: &[NewCatalogEntry]) {
        let mut state = self.state();
        for new in entries {
            state.names.entry(new.period).or_default().insert(new.metric.clone());
        }
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

    /// Every stored block.
    #[must_use]
    pub fn all_blocks(&self) -> Vec<StoredBlock> {
        self.state().blocks.values().cloned().collect()
    }

    /// Deletes what has expired, as the database does some time later.
    pub fn expire(&self, now_s: i64) {
        let mut state = self.state();
        for segments in state.segments.values_mut() {
            segments.retain(|_, segment| segment.expires_at_s > now_s);
        }
        for entries in state.catalog.values_mut() {
            entries.retain(|_, new| new.expires_at_s > now_s);
        }
        state.blocks.retain(|_, block| block.expires_at_s > now_s);
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
            place.insert((segment.late, segment.order), segment);
        }
        Ok(())
    }

    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        let state = self.state();
        let found = state.segments.get(&(bucket, window)).into_iter().flatten();
        Ok(found
            .filter(|((late, order), _)| *late || after.is_none_or(|after| *order > after))
            .map(|(_, segment)| segment.clone())
            .collect())
    }

    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let state = self.state();
        let found = state.catalog.get(&(metric.to_owned(), period)).into_iter();
        let mut entries: Vec<CatalogEntry> = found
            .flat_map(BTreeMap::values)
            .map(|new| new.entry.clone())
            .filter(|entry| entry.late || after.is_none_or(|after| entry.first_seen_ms > after))
            .collect();
        entries.sort_by_key(|entry| (entry.late, entry.first_seen_ms, entry.id, entry.reference));
        Ok(entries)
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let next = state.references.entry(bucket).or_default();
        let first = *next;
        *next += count;
        Ok(first)
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        self.add_names(&entries);
        let mut state = self.state();
        for new in entries {
            state
                .catalog
                .entry((new.metric.clone(), new.period))
                .or_default()
                .insert(new.entry.reference, new);
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

    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.blocks.extend(blocks.into_iter().map(|block| (block.key, block)));
        Ok(())
    }

    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        let key = |start_ms, epoch, part| BlockKey {
            tier,
            id,
            start_ms,
            epoch,
            part,
        };
        if from_ms > to_ms {
            return Ok(Vec::new());
        }
        let state = self.state();
        let found = state.blocks.range(key(from_ms, 0, 0)..=key(to_ms, u32::MAX, u8::MAX));
        Ok(found.map(|(_, block)| block.clone()).collect())
    }

    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        let mut state = self.state();
        for key in keys {
            state.blocks.remove(&key);
        }
        Ok(())
    }

    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        Ok(self.state().progress.get(&bucket).cloned().unwrap_or_default())
    }

    async fn begin_pass(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> Result<Option<Progress>, StoreError> {
        let mut state = self.state();
        let progress = state.progress.entry(bucket).or_default();
        if progress.epoch != epoch {
            return Ok(None);
        }
        progress.epoch += 1;
        progress.leased_until_ms = leased_until_ms;
        Ok(Some(progress.clone()))
    }

    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        let mut state = self.state();
        let progress = state.progress.entry(bucket).or_default();
        match step.apply(epoch, progress) {
            Some(after) => {
                *progress = after;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        let mut state = self.state();
        let progress = state.progress.entry(bucket).or_default();
        for window in windows {
            *progress.dirty.entry(*window).or_default() += 1;
            progress.late_marks += 1;
        }
        Ok(())
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        let mut state = self.state();
        let stands = state.division.get_or_insert(division);
        *stands = stands.lowered_to(division);
        Ok(*stands)
    }
}

impl DeadLetters for MemoryStore {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        self.state().dead_letters.extend(letters);
        Ok(())
    }
}
