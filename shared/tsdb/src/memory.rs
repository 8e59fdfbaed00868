//! A store and a stream in memory, with the guarantees of those on AWS. Tests and simulations run on them.

use crate::ingest::{PutError, ShardMap, Sink};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{
    Advance, CatalogEntry, Checkpoint, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use crate::stream::{DeadLetter, DeadLetters, Page, Position, Stream, StreamRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidemark_model::{Bucket, Buckets, Period, Window};
use tidemark_wire::envelope::Record;

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

/// A stream in memory: shards that divide the key space evenly, and a clock that the test sets.
#[derive(Debug)]
pub struct MemoryStream {
    buckets: Buckets,
    ranges: Vec<(u128, u128)>,
    shards: Vec<Mutex<Vec<StreamRecord>>>,
    now_ms: Mutex<i64>,
}

impl MemoryStream {
    /// The most records of one page, small so that tests see several.
    const PAGE: usize = 3;

    /// A stream with this many shards, at least one.
    #[must_use]
    pub fn new(buckets: Buckets, shards: usize, now_ms: i64) -> Self {
        let count = shards.max(1) as u128;
        let share = u128::MAX / count;
        let last = |shard| {
            if shard + 1 == count {
                u128::MAX
            } else {
                share * (shard + 1) - 1
            }
        };
        Self {
            buckets,
            ranges: (0..count).map(|shard| (share * shard, last(shard))).collect(),
            shards: (0..count).map(|_| Mutex::default()).collect(),
            now_ms: Mutex::new(now_ms),
        }
    }

    /// Sets the clock.
    pub fn set_now(&self, now_ms: i64) {
        *self.now_ms.lock().unwrap_or_else(PoisonError::into_inner) = now_ms;
    }

    /// The records of a shard so far.
    #[must_use]
    pub fn records(&self, shard: usize) -> Vec<StreamRecord> {
        self.shards[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The name of a shard.
    #[must_use]
    pub fn shard_id(shard: usize) -> ShardId {
        ShardId(format!("shardId-{shard:012}"))
    }

    /// Appends bytes to a shard, whether or not they are an envelope.
    pub fn append(&self, shard: usize, data: Vec<u8>) {
        let arrival_ms = *self.now_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let mut sequence = [0; SequenceNumber::BYTES];
        sequence[SequenceNumber::BYTES - 8..].copy_from_slice(&(records.len() as u64 + 1).to_be_bytes());
        records.push(StreamRecord {
            sequence: SequenceNumber::from_be_bytes(sequence),
            arrival_ms,
            data,
        });
    }

    fn find(&self, shard: &ShardId) -> Vec<StreamRecord> {
        let at = (0..self.shards.len()).find(|at| Self::shard_id(*at) == *shard);
        at.map(|at| self.records(at)).unwrap_or_default()
    }
}

impl Sink for MemoryStream {
    async fn shard_map(&self) -> Arc<ShardMap> {
        Arc::new(ShardMap::new(self.buckets, &self.ranges))
    }

    async fn put(&self, records: Vec<Record>, _within: Duration) -> Result<(), PutError> {
        for record in records {
            let key = record.explicit_hash_key;
            let shard = self
                .ranges
                .iter()
                .position(|(first, last)| (*first..=*last).contains(&key));
            // The ranges cover all keys.
            self.append(shard.unwrap_or_default(), record.data);
        }
        Ok(())
    }
}

impl Stream for MemoryStream {
    async fn shards(&self) -> Result<Vec<ShardId>, StoreError> {
        Ok((0..self.shards.len()).map(Self::shard_id).collect())
    }

    async fn read(&self, shard: &ShardId, position: &Position) -> Result<Page, StoreError> {
        let records = self.find(shard);
        let from = match position {
            Position::Oldest => 0,
            Position::After(sequence) => records.partition_point(|record| record.sequence <= *sequence),
            Position::Cursor(at) => at.parse().unwrap_or(0),
        };
        let to = records.len().min(from + Self::PAGE);
        Ok(Page {
            records: records[from..to].to_vec(),
            next: Some(Position::Cursor(to.to_string())),
            at_tip: to == records.len(),
        })
    }
}
