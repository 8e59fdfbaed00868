//! What lies between the consumers' checkpoints and the tip of the stream: counted for the statistics, or stored now.
//!
//! Draining runs beside the event source mapping. Both may store the same records, cut differently: segments then hold
//! a sample twice, readers merge it into one, and the checkpoint counts it once. A drain may also begin at a time before the
//! checkpoint (after a deployment that stored nonsense): what is behind the checkpoint is then stored again, wins against what
//! was stored before ([`crate::flush`]), and is counted never.

use crate::bounded;
use crate::flush::Consumer;
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{Checkpoint, Store, StoreError};
use crate::stream::{DeadLetters, Page, Position, Stream, StreamRecord};
use serde::Serialize;
use std::collections::BTreeMap;
use tidemark_wire::envelope;

/// When to stop: called between two steps of work.
pub trait OutOfTime: Fn() -> bool + Send + Sync {}
impl<F: Fn() -> bool + Send + Sync> OutOfTime for F {}

/// The state of the queue, in samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct QueueStats {
    /// All samples that were ever taken: those stored, and those that wait.
    pub total_events: u64,
    /// The samples that wait in the stream.
    pub unconsumed_events: u64,
    /// How many shards there are.
    pub partitions: usize,
    /// All samples of each shard that the stream still has; those of the others are in the total only.
    pub events_by_partition: BTreeMap<String, u64>,
    /// Whether the count of what waits is complete. A long backlog is counted as far as the time allows.
    pub complete: bool,
}

/// What a drain did, in samples; `errors` counts the records that could not be stored and went to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drained {
    /// The samples read from the stream.
    pub fetched: u64,
    /// The samples stored.
    pub written: u64,
    /// The records that went to the dead letters.
    pub errors: u64,
    /// The samples that still wait, as far as they were counted: when time ran out, those of the shards that were not
    /// looked at are missing.
    pub remaining: u64,
}

/// Counts what is stored and what waits.
///
/// # Errors
/// When the stream or the store does not answer.
pub async fn queue_stats(
    stream: &impl Stream,
    store: &impl Store,
    out_of_time: impl OutOfTime,
) -> Result<QueueStats, StoreError> {
    let mut stats = QueueStats {
        complete: true,
        ..QueueStats::default()
    };
    let stored: BTreeMap<ShardId, Checkpoint> = store.checkpoints().await?.into_iter().collect();
    stats.total_events = stored.values().map(|checkpoint| checkpoint.samples).sum();
    let shards = stream.shards().await?;
    stats.partitions = shards.len();
    let counts = shards.iter().map(|shard| {
        let (from, out_of_time) = (start(stored.get(shard)), &out_of_time);
        async move {
            if out_of_time() {
                return Ok((0, false));
            }
            count_waiting(stream, shard, from, out_of_time).await
        }
    });
    let counts = bounded::all(counts.collect()).await;
    for (shard, count) in shards.into_iter().zip(counts) {
        let (waiting, complete) = count?;
        stats.complete &= complete;
        stats.unconsumed_events += waiting;
        stats.total_events += waiting;
        let stored = stored.get(&shard).map_or(0, |checkpoint| checkpoint.samples);
        stats.events_by_partition.insert(shard.0, stored + waiting);
    }
    Ok(stats)
}

/// Stores what waits in the stream, shard by shard, until the tips that were seen first or until time runs out. With
/// `from_ms` also what arrived since that time (in milliseconds since the Unix epoch) and was stored before: how far a shard
/// is stored is never moved over records that were not. A replay that ends before the tip is to be continued: until then a
/// sample that was pushed again later may have its older value. The consumer is one of [`crate::flush::Origin::Operator`].
///
/// # Errors
/// When the stream, the store or the dead letters do not answer. What was stored before stays stored.
pub async fn drain(
    stream: &impl Stream,
    consumer: &mut Consumer<impl Store>,
    from_ms: Option<i64>,
    dead_letters: &impl DeadLetters,
    out_of_time: impl OutOfTime,
) -> Result<Drained, StoreError> {
    let mut drained = Drained::default();
    let mut shards = stream.shards().await?;
    // Parents have smaller numbers than their children: their samples first, as they came.
    shards.sort();
    for shard in shards {
        let checkpoint = consumer.store().checkpoint(&shard).await?;
        let stored = checkpoint.filter(|checkpoint| checkpoint.sequence > SequenceNumber::BEFORE_ALL);
        let (position, least_arrival_ms) = match (from_ms, stored) {
            (Some(from_ms), Some(stored)) => replay_start(stream, &shard, from_ms, &stored, &out_of_time).await?,
            (_, stored) => (start(stored.as_ref()), 0),
        };
        let mut next = Some(position);
        while let Some(position) = next.take() {
            if out_of_time() {
                drained.remaining += count_waiting(stream, &shard, position, &out_of_time).await?.0;
                return Ok(drained);
            }
            let page = stream.read(&shard, &position).await?;
            if !page.records.is_empty() {
                let report = consumer
                    .flush_from(&shard, least_arrival_ms, &page.records, dead_letters)
                    .await?;
                drained.fetched += report.samples + report.refused;
                drained.written += report.samples;
                drained.errors += report.undecodable;
            }
            next = following(page);
        }
    }
    Ok(drained)
}

/// Where a replay begins: at its time, or behind the checkpoint if that is earlier; and the least arrival of its segments, with
/// which they win against all that is stored.
async fn replay_start(
    stream: &impl Stream,
    shard: &ShardId,
    from_ms: i64,
    stored: &Checkpoint,
    out_of_time: &impl OutOfTime,
) -> Result<(Position, u64), StoreError> {
    let mut next = Some(Position::At(from_ms));
    while let Some(position) = next.take() {
        let page = stream.read(shard, &position).await?;
        if let Some(first) = page.records.first() {
            let behind = first.sequence <= stored.sequence;
            return Ok(if behind {
                (Position::At(from_ms), stored.arrival_ms.saturating_add(1))
            } else {
                (stored.position(), 0)
            });
        }
        next = following(page).filter(|_| !out_of_time());
    }
    Ok((stored.position(), 0))
}

/// Where to read on, unless the tip was reached.
fn following(page: Page) -> Option<Position> {
    page.next.filter(|_| !page.at_tip)
}

fn start(checkpoint: Option<&Checkpoint>) -> Position {
    checkpoint.map_or(Position::Oldest, Checkpoint::position)
}

/// The samples from a position to the tip, and whether all were counted. At least one page is.
async fn count_waiting(
    stream: &impl Stream,
    shard: &ShardId,
    from: Position,
    out_of_time: &impl OutOfTime,
) -> Result<(u64, bool), StoreError> {
    let mut count = 0;
    let mut next = Some(from);
    while let Some(position) = next.take() {
        let page = stream.read(shard, &position).await?;
        count += page.records.iter().map(samples_in).sum::<u64>();
        next = following(page);
        if next.is_some() && out_of_time() {
            return Ok((count, false));
        }
    }
    Ok((count, true))
}

/// The samples that a record says it holds; a record that cannot be read holds none.
fn samples_in(record: &StreamRecord) -> u64 {
    envelope::decode_header(&record.data).map_or(0, |header| u64::from(header.samples))
}

#[cfg(test)]
mod tests;
