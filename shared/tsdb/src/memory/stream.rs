//! A stream in memory.

use crate::ingest::{PutError, ShardMap, Sink};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::StoreError;
use crate::stream::{Page, Position, RangesFuture, ShardRanges, Stream, StreamRecord};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidemark_model::Buckets;
use tidemark_wire::envelope::Record;

/// A stream in memory: shards that divide the key space evenly at first, and a clock that the test sets.
#[derive(Debug)]
pub struct MemoryStream {
    buckets: Buckets,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By number, those that are gone included.
    shards: Vec<Shard>,
    now_ms: i64,
    /// The last sequence number that was given. Those of a child are greater than those of its parents.
    sequence: u64,
}

#[derive(Debug)]
struct Shard {
    range: (u128, u128),
    records: Vec<StreamRecord>,
    /// The parents; none for those that were there from the beginning.
    parents: Vec<usize>,
    open: bool,
    gone: bool,
}

impl Shard {
    fn new(range: (u128, u128), parents: Vec<usize>) -> Self {
        Self {
            range,
            records: Vec::new(),
            parents,
            open: true,
            gone: false,
        }
    }
}

impl State {
    fn is_open(&self, shard: usize) -> bool {
        self.shards.get(shard).is_some_and(|shard| shard.open)
    }

    /// Closes the parents and opens children in their place.
    fn reshard(&mut self, parents: &[usize], ranges: &[(u128, u128)]) -> Vec<usize> {
        for parent in parents {
            self.shards[*parent].open = false;
        }
        let first = self.shards.len();
        let children = ranges.iter().map(|range| Shard::new(*range, parents.to_vec()));
        self.shards.extend(children);
        (first..self.shards.len()).collect()
    }

    fn append(&mut self, shard: usize, data: Vec<u8>) {
        self.sequence += 1;
        let mut sequence = [0; SequenceNumber::BYTES];
        sequence[SequenceNumber::BYTES - 8..].copy_from_slice(&self.sequence.to_be_bytes());
        self.shards[shard].records.push(StreamRecord {
            sequence: SequenceNumber::from_be_bytes(sequence),
            arrival_ms: self.now_ms,
            data,
        });
    }
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
        let shards = (0..count).map(|shard| Shard::new((share * shard, last(shard)), Vec::new()));
        Self {
            buckets,
            state: Mutex::new(State {
                shards: shards.collect(),
                now_ms,
                sequence: 0,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the clock. It may go back, as the stamps of the machines behind a stream do.
    pub fn set_now(&self, now_ms: i64) {
        self.state().now_ms = now_ms;
    }

    /// The records of a shard so far.
    #[must_use]
    pub fn records(&self, shard: usize) -> Vec<StreamRecord> {
        self.state().shards[shard].records.clone()
    }

    /// The name of a shard.
    #[must_use]
    pub fn shard_id(shard: usize) -> ShardId {
        ShardId(format!("shardId-{shard:012}"))
    }

    /// How many shards there ever were. They are numbered from 0.
    #[must_use]
    pub fn shard_count(&self) -> usize {
        self.state().shards.len()
    }

    /// The open shards.
    #[must_use]
    pub fn open_shards(&self) -> Vec<usize> {
        let state = self.state();
        (0..state.shards.len()).filter(|shard| state.is_open(*shard)).collect()
    }

    /// The shards that were closed for this one to open: a consumer stores all of theirs first.
    #[must_use]
    pub fn parents(&self, shard: usize) -> Vec<usize> {
        self.state().shards[shard].parents.clone()
    }

    /// Closes an open shard and opens two that divide its range. `None` when it is not open or has a single key.
    pub fn split(&self, shard: usize) -> Option<[usize; 2]> {
        let mut state = self.state();
        if !state.is_open(shard) {
            return None;
        }
        let (first, last) = state.shards[shard].range;
        let middle = first + (last - first) / 2;
        if middle == last {
            return None;
        }
        let children = state.reshard(&[shard], &[(first, middle), (middle + 1, last)]);
        children.try_into().ok()
    }

    /// Closes two open shards and opens one in their place. `None` when they are not open or not neighbours.
    pub fn merge(&self, one: usize, other: usize) -> Option<usize> {
        let mut state = self.state();
        if !state.is_open(one) || !state.is_open(other) {
            return None;
        }
        let (lower, upper) = (state.shards[one].range, state.shards[other].range);
        let (lower, upper) = (lower.min(upper), lower.max(upper));
        if lower.1.checked_add(1) != Some(upper.0) {
            return None;
        }
        state.reshard(&[one, other], &[(lower.0, upper.1)]).first().copied()
    }

    /// Forgets a closed shard with its records, as a stream does when its retention has passed. `false` when it is open.
    pub fn forget(&self, shard: usize) -> bool {
        let mut state = self.state();
        let closed = !state.is_open(shard);
        if let Some(shard) = state.shards.get_mut(shard).filter(|_| closed) {
            shard.gone = true;
            shard.records.clear();
        }
        closed
    }

    /// Appends bytes to a shard, whether or not they are an envelope.
    pub fn append(&self, shard: usize, data: Vec<u8>) {
        self.state().append(shard, data);
    }
}

impl Sink for MemoryStream {
    async fn shard_map(&self) -> Arc<ShardMap> {
        let state = self.state();
        let open = state.shards.iter().filter(|shard| shard.open);
        let ranges: Vec<(u128, u128)> = open.map(|shard| shard.range).collect();
        Arc::new(ShardMap::new(self.buckets, &ranges))
    }

    async fn put(&self, records: Vec<Record>, _within: Duration) -> Result<(), PutError> {
        let mut state = self.state();
        for record in records {
            let key = record.explicit_hash_key;
            let owns = |shard: &Shard| shard.open && (shard.range.0..=shard.range.1).contains(&key);
            // The ranges of the open shards cover all keys.
            let shard = state.shards.iter().position(owns).unwrap_or_default();
            state.append(shard, record.data);
        }
        Ok(())
    }
}

impl ShardRanges for MemoryStream {
    fn ranges(&self) -> RangesFuture<'_> {
        Box::pin(async {
            let state = self.state();
            let known = (0..).zip(&state.shards).filter(|(_, shard)| !shard.gone);
            Ok(known
                .map(|(at, shard)| (Self::shard_id(at), shard.range.0..=shard.range.1))
                .collect())
        })
    }
}

impl Stream for MemoryStream {
    async fn shards(&self) -> Result<Vec<ShardId>, StoreError> {
        let state = self.state();
        let known = (0..).zip(&state.shards).filter(|(_, shard)| !shard.gone);
        Ok(known.map(|(at, _)| Self::shard_id(at)).collect())
    }

    async fn read(&self, shard: &ShardId, position: &Position) -> Result<Page, StoreError> {
        let state = self.state();
        let found = (0..).zip(&state.shards).find(|(at, _)| Self::shard_id(*at) == *shard);
        let Some((_, shard)) = found else {
            return Ok(Page {
                records: Vec::new(),
                next: None,
                at_tip: true,
            });
        };
        let records = &shard.records;
        let from = match position {
            Position::Oldest => 0,
            Position::After(sequence) => records.partition_point(|record| record.sequence <= *sequence),
            Position::At(time_ms) => records
                .iter()
                .position(|record| record.arrival_ms >= *time_ms)
                .unwrap_or(records.len()),
            Position::Cursor(at) => at.parse().unwrap_or(0),
        };
        let to = records.len().min(from + Self::PAGE);
        let ended = to == records.len();
        Ok(Page {
            records: records[from..to].to_vec(),
            next: (shard.open || !ended).then(|| Position::Cursor(to.to_string())),
            at_tip: ended,
        })
    }
}
