//! The stream: shards that split and merge while producers go on with an old map of them, stamps that go back by some
//! milliseconds, pages that end anywhere, and records that are gone after a day.

use crate::sim::{Process, Sim};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidemark_model::{Buckets, DAY_MS, Sample, SeriesId};
use tidemark_tsdb::ingest::{PutError, ShardMap, Sink};
use tidemark_tsdb::stream::{Page, Position, RangesFuture, ShardRanges, Stream, StreamRecord};
use tidemark_tsdb::{SequenceNumber, ShardId, StoreError};
use tidemark_wire::envelope::{self, Record};

/// How long the stream holds a record.
const HELD_MS: i64 = DAY_MS;

/// A record and what the test knows of it.
pub(crate) struct Taken {
    pub(crate) record: StreamRecord,
    /// What it holds, in the order of arrival; nothing for one that is no envelope.
    pub(crate) samples: Vec<(SeriesId, Sample)>,
    /// Whether it is an envelope.
    pub(crate) sound: bool,
}

/// One shard.
pub(crate) struct Shard {
    range: (u128, u128),
    /// How far its stamps lie behind the time: children may stamp earlier than their parents did.
    behind_ms: i64,
    pub(crate) parents: Vec<usize>,
    pub(crate) closed_ms: Option<i64>,
    pub(crate) records: Vec<Taken>,
}

struct State {
    shards: Vec<Shard>,
    next_sequence: u64,
    /// The maps that producers may still have, the newest last.
    maps: Vec<Arc<ShardMap>>,
}

/// See the module.
pub(crate) struct SimStream {
    buckets: Buckets,
    state: Mutex<State>,
}

/// A record that was taken: its shard and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) shard: usize,
    pub(crate) at: usize,
}

impl SimStream {
    pub(crate) fn new(buckets: Buckets, shards: usize) -> Self {
        let share = u128::MAX / shards as u128;
        let all = (0..shards as u128).map(|at| {
            let last = if at + 1 == shards as u128 {
                u128::MAX
            } else {
                share * (at + 1) - 1
            };
            Shard {
                range: (share * at, last),
                behind_ms: 0,
                parents: Vec::new(),
                closed_ms: None,
                records: Vec::new(),
            }
        });
        let mut state = State {
            shards: all.collect(),
            next_sequence: 1,
            maps: Vec::new(),
        };
        state.remap(buckets);
        Self {
            buckets,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the shards.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Shard]) -> T) -> T {
        look(&self.state().shards)
    }

    pub(crate) fn shard_id(shard: usize) -> ShardId {
        ShardId(format!("shardId-{shard:012}"))
    }

    fn shard_of(&self, id: &ShardId) -> usize {
        (0..self.state().shards.len())
            .find(|at| Self::shard_id(*at) == *id)
            .expect("a shard that exists")
    }

    /// Splits an open shard in two, or merges two neighbours.
    pub(crate) fn reshard(&self, sim: &Sim) {
        let mut state = self.state();
        let mut open: Vec<usize> = (0..state.shards.len())
            .filter(|at| state.shards[*at].closed_ms.is_none())
            .collect();
        open.sort_by_key(|at| state.shards[*at].range.0);
        let merge = open.len() > 1 && (open.len() > 2 || sim.draw(|random| random.chance(0.5)));
        let at = sim.draw(|random| random.below(if merge { open.len() - 1 } else { open.len() }));
        let parents = if merge {
            vec![open[at], open[at + 1]]
        } else {
            vec![open[at]]
        };
        let (from, to) = (
            state.shards[parents[0]].range.0,
            state.shards[*parents.last().unwrap()].range.1,
        );
        let ranges = if merge {
            vec![(from, to)]
        } else {
            let middle = from + (to - from) / 2;
            vec![(from, middle), (middle + 1, to)]
        };
        for parent in &parents {
            state.shards[*parent].closed_ms = Some(sim.now_ms());
        }
        sim.log(&format!(
            "reshard: {parents:?} become {} shards from {}",
            ranges.len(),
            state.shards.len()
        ));
        for range in ranges {
            let behind_ms = sim.draw(|random| {
                if random.chance(0.5) {
                    0
                } else {
                    random.magnitude(1, 5_000)
                }
            });
            state.shards.push(Shard {
                range,
                behind_ms,
                parents: parents.clone(),
                closed_ms: None,
                records: Vec::new(),
            });
        }
        state.remap(self.buckets);
    }

    /// Appends a record to the shard of its key.
    pub(crate) fn append(&self, sim: &Sim, hash_key: u128, data: Vec<u8>) -> Place {
        let decoded = envelope::decode(&data);
        let sound = decoded.is_ok();
        let samples = decoded.iter().flat_map(|envelope| {
            envelope
                .series()
                .flat_map(|series| series.samples().map(move |sample| (series.id(), sample)))
                .collect::<Vec<_>>()
        });
        let samples: Vec<(SeriesId, Sample)> = samples.collect();
        let mut state = self.state();
        let shard = state
            .shards
            .iter()
            .position(|shard| shard.closed_ms.is_none() && (shard.range.0..=shard.range.1).contains(&hash_key))
            .expect("the open shards cover all keys");
        // Stamps are about right, and now and then one is older than the one before.
        let arrival_ms = sim.now_ms()
            - state.shards[shard].behind_ms
            - sim.draw(|random| if random.chance(0.2) { random.between(0, 40) } else { 0 });
        state.next_sequence += sim.draw(|random| random.between(1, 3) as u64);
        let mut sequence = [0; SequenceNumber::BYTES];
        sequence[SequenceNumber::BYTES - 8..].copy_from_slice(&state.next_sequence.to_be_bytes());
        let sequence = SequenceNumber::from_be_bytes(sequence);
        let at = state.shards[shard].records.len();
        sim.log(&format!(
            "record {sequence} of shard {shard}, place {at}: {} samples, stamp {arrival_ms}",
            samples.len()
        ));
        state.shards[shard].records.push(Taken {
            record: StreamRecord {
                sequence,
                arrival_ms,
                data,
            },
            samples,
            sound,
        });
        Place { shard, at }
    }

    /// Whether a shard is closed and has no record at or after the place that `done` tells, and all that it came from neither.
    pub(crate) fn is_finished(&self, shard: usize, done: &dyn Fn(usize) -> usize) -> bool {
        let (here, parents) = self.look(|shards| {
            let of = &shards[shard];
            (
                of.closed_ms.is_some() && done(shard) >= of.records.len(),
                of.parents.clone(),
            )
        });
        here && parents.into_iter().all(|parent| self.is_finished(parent, done))
    }
}

impl State {
    fn remap(&mut self, buckets: Buckets) {
        let open: Vec<(u128, u128)> = self
            .shards
            .iter()
            .filter(|shard| shard.closed_ms.is_none())
            .map(|shard| shard.range)
            .collect();
        self.maps.push(Arc::new(ShardMap::new(buckets, &open)));
    }
}

/// The stream as a producer sees it.
pub(crate) struct Producer {
    pub(crate) process: Arc<Process>,
    pub(crate) stream: Arc<SimStream>,
    /// Whether it may work with an old map of the shards.
    pub(crate) may_be_stale: bool,
    /// Told of every record that was taken.
    pub(crate) taken: Arc<dyn Fn(Place) + Send + Sync>,
}

impl Sink for Producer {
    async fn shard_map(&self) -> Arc<ShardMap> {
        let state = self.stream.state();
        let back = self.process.sim.draw(|random| {
            let stale = self.may_be_stale && random.chance(0.3);
            if stale { random.below(3) } else { 0 }
        });
        let at = (state.maps.len() - 1).saturating_sub(back);
        Arc::clone(&state.maps[at])
    }

    async fn put(&self, records: Vec<Record>, _within: Duration) -> Result<(), PutError> {
        self.process.pause().await;
        let fault = self.process.sim.faults().fail;
        let mut all = true;
        for record in records {
            if self.process.sim.draw(|random| random.chance(fault)) {
                all = false;
                continue;
            }
            let place = self
                .stream
                .append(&self.process.sim, record.explicit_hash_key, record.data);
            (self.taken)(place);
            self.process.pause().await;
        }
        let lost = self.process.sim.draw(|random| random.chance(fault));
        if all && !lost {
            Ok(())
        } else {
            Err(PutError::Unavailable { source: None })
        }
    }
}

/// The stream as an operator reads it. It notes what was read, since an operator that reads on has stored what it read before;
/// unless it did not call the store meanwhile: then it only looked.
pub(crate) struct StreamEnd {
    pub(crate) process: Arc<Process>,
    pub(crate) stream: Arc<SimStream>,
    pub(crate) read: Arc<Mutex<ReadSoFar>>,
    /// Told of all records that were read, when some of them may be stored again.
    pub(crate) replayed: Option<Arc<Mutex<BTreeSet<Place>>>>,
}

/// See [`StreamEnd`].
#[derive(Default)]
pub(crate) struct ReadSoFar {
    /// Whether time has run out, so that what is read from now on is only counted.
    pub(crate) only_counts: bool,
    /// The records of the last page.
    last: Vec<Place>,
    /// How often the store had been called then.
    calls: u64,
    /// Those of the pages before.
    pub(crate) before: BTreeSet<Place>,
}

impl ReadSoFar {
    /// The last page was worked off.
    pub(crate) fn worked_off(&mut self, process: &Process) {
        let last = std::mem::take(&mut self.last);
        if process.calls() > self.calls {
            self.before.extend(last);
        }
    }
}

impl StreamEnd {
    async fn call(&self, operation: &'static str) -> Result<(), StoreError> {
        self.process.pause().await;
        let faults = self.process.sim.faults();
        let (fails, crashes) = self
            .process
            .sim
            .draw(|random| (random.chance(faults.fail), random.chance(faults.crash)));
        if crashes {
            self.process.crash().await;
        }
        if fails {
            return Err(StoreError::Unavailable {
                operation,
                source: None,
            });
        }
        Ok(())
    }

    /// The shards that still hold records, or are open.
    fn listed<T>(&self, told: impl Fn(ShardId, &Shard) -> T) -> Vec<T> {
        let horizon = self.process.sim.now_ms() - HELD_MS;
        let held = |shard: &Shard| shard.closed_ms.is_none_or(|closed| closed >= horizon);
        self.stream.look(|shards| {
            let all = shards.iter().enumerate().filter(|(_, shard)| held(shard));
            all.map(|(at, shard)| told(SimStream::shard_id(at), shard)).collect()
        })
    }

    /// The first place that the stream still holds.
    fn oldest(&self, shard: &Shard) -> usize {
        let horizon = self.process.sim.now_ms() - HELD_MS;
        shard.records.partition_point(|taken| taken.record.arrival_ms < horizon)
    }
}

impl ShardRanges for StreamEnd {
    fn ranges(&self) -> RangesFuture<'_> {
        Box::pin(async {
            self.call("ListShards").await?;
            Ok(self.listed(|id, shard| (id, shard.range.0..=shard.range.1)))
        })
    }
}

impl Stream for StreamEnd {
    async fn shards(&self) -> Result<Vec<ShardId>, StoreError> {
        self.call("ListShards").await?;
        Ok(self.listed(|id, _| id))
    }

    async fn read(&self, shard: &ShardId, position: &Position) -> Result<Page, StoreError> {
        {
            let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
            read.worked_off(&self.process);
        }
        self.call("GetRecords").await?;
        let number = self.stream.shard_of(shard);
        let most = self.process.sim.draw(|random| random.below(6));
        let page = self.stream.look(|shards| {
            let shard = &shards[number];
            let records = &shard.records;
            let from = match position {
                Position::Oldest => 0,
                // Stamps go back by some milliseconds, and the stream looks for the first that does not come before.
                Position::At(at) => records
                    .iter()
                    .position(|taken| taken.record.arrival_ms >= *at)
                    .unwrap_or(records.len()),
                Position::After(sequence) => records.partition_point(|taken| taken.record.sequence <= *sequence),
                Position::Cursor(at) => at.parse().unwrap(),
            };
            let from = from.max(self.oldest(shard));
            let to = records.len().min(from + most);
            let page = records[from..to].iter().map(|taken| taken.record.clone()).collect();
            let ended = shard.closed_ms.is_some() && to == records.len();
            let next = (!ended).then(|| Position::Cursor(to.to_string()));
            (
                from..to,
                Page {
                    records: page,
                    next,
                    at_tip: to == records.len(),
                },
            )
        });
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if !read.only_counts {
            read.calls = self.process.calls();
            read.last = page.0.map(|at| Place { shard: number, at }).collect();
            if let Some(replayed) = &self.replayed {
                replayed.lock().unwrap().extend(read.last.iter().copied());
            }
        }
        Ok(page.1)
    }
}
