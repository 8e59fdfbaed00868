//! What lies between the consumers' checkpoints and the tip of the stream: counted for the statistics, or stored now.
//!
//! Draining runs beside the event source mapping. Both may store the same records, cut differently: segments then hold
//! a sample twice, readers merge it into one, and the checkpoint counts it once.

use crate::flush::Consumer;
use crate::sequence::ShardId;
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
    /// All samples of each shard.
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
    for shard in shards {
        let checkpoint = stored.get(&shard);
        let (waiting, complete) = if out_of_time() {
            (0, false)
        } else {
            count_waiting(stream, &shard, start(checkpoint), &out_of_time).await?
        };
        stats.complete &= complete;
        stats.unconsumed_events += waiting;
        stats.total_events += waiting;
        let stored = checkpoint.map_or(0, |checkpoint| checkpoint.samples);
        stats.events_by_partition.insert(shard.0, stored + waiting);
    }
    Ok(stats)
}

/// Stores what waits in the stream, shard by shard, until the tips that were seen first or until time runs out.
///
/// # Errors
/// When the stream, the store or the dead letters do not answer. What was stored before stays stored.
pub async fn drain(
    stream: &impl Stream,
    consumer: &mut Consumer<impl Store>,
    dead_letters: &impl DeadLetters,
    out_of_time: impl OutOfTime,
) -> Result<Drained, StoreError> {
    let mut drained = Drained::default();
    for shard in stream.shards().await? {
        let checkpoint = consumer.store().checkpoint(&shard).await?;
        let mut next = Some(start(checkpoint.as_ref()));
        while let Some(position) = next.take() {
            if out_of_time() {
                drained.remaining += count_waiting(stream, &shard, position, &out_of_time).await?.0;
                return Ok(drained);
            }
            let page = stream.read(&shard, &position).await?;
            if !page.records.is_empty() {
                let report = consumer.flush(&shard, &page.records, dead_letters).await?;
                drained.fetched += report.samples + report.refused;
                drained.written += report.samples;
                drained.errors += report.undecodable;
            }
            next = following(page);
        }
    }
    Ok(drained)
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
