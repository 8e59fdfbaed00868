//! What the storage engine asks of a partitioned stream.

use crate::sequence::{SequenceNumber, ShardId};
use crate::store::StoreError;
use std::ops::RangeInclusive;
use std::pin::Pin;

/// A record as it came from a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Its position in the shard.
    pub sequence: SequenceNumber,
    /// When the stream took it, in milliseconds since the Unix epoch.
    pub arrival_ms: i64,
    /// What it holds: an envelope, if a sound producer wrote it.
    pub data: Vec<u8>,
}

/// Where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// At the oldest record that the stream still holds.
    Oldest,
    /// At the first record that arrived at a time or later, in milliseconds since the Unix epoch.
    At(i64),
    /// After a record.
    After(SequenceNumber),
    /// Where a page ended, in the stream's own words.
    Cursor(String),
}

/// Some records of a shard, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The records; possibly none although more follow.
    pub records: Vec<StreamRecord>,
    /// Where to read on; `None` at the end of a closed shard.
    pub next: Option<Position>,
    /// Whether the page ends at the newest record of the shard.
    pub at_tip: bool,
}

/// A stream that can be read from any position.
pub trait Stream: Send + Sync {
    /// All shards, open and closed, that still hold records.
    fn shards(&self) -> impl Future<Output = Result<Vec<ShardId>, StoreError>> + Send;

    /// The records from a position on, as many as the stream gives at once.
    fn read(&self, shard: &ShardId, position: &Position) -> impl Future<Output = Result<Page, StoreError>> + Send;
}

/// The hash keys that a shard takes.
pub type KeyRange = RangeInclusive<u128>;

/// The answer of [`ShardRanges::ranges`].
pub type RangesFuture<'a> = Pin<Box<dyn Future<Output = Result<Vec<(ShardId, KeyRange)>, StoreError>> + Send + 'a>>;

/// Tells which hash keys the shards of a stream take. A shard's range never changes.
pub trait ShardRanges: Send + Sync {
    /// The range of each shard, open or closed, that still holds records.
    fn ranges(&self) -> RangesFuture<'_>;
}

/// Where records go that cannot be stored, each with the reason, so that none blocks its shard and none is lost.
pub trait DeadLetters: Send + Sync {
    /// Hands the letters over. When this returns `Ok`, all of them are kept.
    fn send(&self, letters: Vec<DeadLetter>) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A record that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The shard it came from.
    pub shard: ShardId,
    /// Its position in the shard.
    pub sequence: SequenceNumber,
    /// When the stream took it, in milliseconds since the Unix epoch.
    pub arrival_ms: i64,
    /// Why it cannot be stored.
    pub reason: String,
    /// What it holds.
    pub data: Vec<u8>,
}
