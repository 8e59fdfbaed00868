//! What the storage engine asks of a database. Two implementations ship: DynamoDB (`tidemark-aws`) and memory
//! ([`crate::memory`]).

use crate::progress::{Progress, Step};
use crate::sequence::{SequenceNumber, ShardId};
use crate::stream::Position;
use crate::tier::{BlockKey, StoredBlock, Tier};
use tidemark_model::{Bucket, Labels, Period, SeriesId, Window};

/// A source error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database asked to slow down, or did not answer in time; the same call may succeed later.
    #[error("{operation} was throttled or timed out")]
    Unavailable {
        /// The operation, in the database's words.
        operation: &'static str,
        /// What the client reported.
        #[source]
        source: Option<BoxError>,
    },
    /// The database refused the call; the same call will fail again.
    #[error("{operation} was refused")]
    Refused {
        /// The operation, in the database's words.
        operation: &'static str,
        /// What the client reported.
        #[source]
        source: BoxError,
    },
    /// An item is not what this version of Tidemark writes.
    #[error("{item} cannot be read: {reason}")]
    Corrupt {
        /// Which item, by its key.
        item: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where a segment stands among those of its bucket and window. Ordered as segments are merged: of two segments that
/// hold a sample of one series and time, the greater wins.
///
/// The last record comes first: batches are contiguous runs of a shard's records, and of two runs that overlap, the one
/// that ends later has the later value of whatever both hold. The first record is in the key too, so that two runs
/// that end together but begin apart (a batch that was cut again) are two segments, and neither hides the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentOrder {
    /// When the batch's last record arrived in the stream, in milliseconds since the Unix epoch, and never less than for any
    /// record before it: the normal segments of a bucket appear in ascending order ([`crate::flush`]).
    pub arrival_ms: u64,
    /// The sequence number of the batch's last record.
    pub last: SequenceNumber,
    /// The number of the batch's shard.
    pub shard: u32,
    /// The hash of the sequence number of the batch's first record and of the bytes of all its parts.
    pub first_hash: u64,
    /// Which part of the batch, where one item could not hold it.
    pub part: u8,
    /// The number of the batch's last part in this bucket and window: who has seen parts 0 to this has seen all.
    pub last_part: u8,
}

impl SegmentOrder {
    /// The length of [`Self::to_bytes`].
    pub const BYTES: usize = 6 + SequenceNumber::BYTES + 4 + 8 + 1 + 1;

    /// Bytes that order as the values do: arrival (6), last (24), shard (4), first_hash (8), part (1), last_part (1), all
    /// big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..6].copy_from_slice(&self.arrival_ms.to_be_bytes()[2..]);
        bytes[6..30].copy_from_slice(&self.last.to_be_bytes());
        bytes[30..34].copy_from_slice(&self.shard.to_be_bytes());
        bytes[34..42].copy_from_slice(&self.first_hash.to_be_bytes());
        bytes[42] = self.part;
        bytes[43] = self.last_part;
        bytes
    }

    /// The reverse of [`Self::to_bytes`]; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let mut arrival = [0; 8];
        arrival[2..].copy_from_slice(&bytes[..6]);
        Some(Self {
            arrival_ms: u64::from_be_bytes(arrival),
            last: SequenceNumber::from_be_bytes(bytes[6..30].try_into().ok()?),
            shard: u32::from_be_bytes(bytes[30..34].try_into().ok()?),
            first_hash: u64::from_be_bytes(bytes[34..42].try_into().ok()?),
            part: bytes[42],
            last_part: bytes[43],
        })
    }
}

/// One flush of one bucket, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSegment {
    /// The bucket of all its series.
    pub bucket: Bucket,
    /// The window of all its samples.
    pub window: Window,
    /// Whether it was written out of the stream's order, or into a closed window. Readers that know a bucket's newest segment
    /// ask for the normal ones after it and for all late ones.
    pub late: bool,
    /// Where it stands among the others when they are merged, late or not.
    pub order: SegmentOrder,
    /// The segment, as [`crate::segment`] encodes it.
    pub data: Vec<u8>,
    /// When the store may delete it, in seconds since the Unix epoch.
    pub expires_at_s: i64,
}

/// A series as the catalog knows it for one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogEntry {
    /// The fingerprint.
    pub id: SeriesId,
    /// The number that segments of the series' bucket name it by. A series may have several.
    pub reference: u32,
    /// The labels, without the metric name.
    pub labels: Labels,
    /// One more than the arrival, as in [`SegmentOrder`], of the first batch that held the series in the period: more than that
    /// of any normal segment of the bucket that could be read before.
    pub first_seen_ms: i64,
    /// Whether it was written out of the stream's order, so that `first_seen_ms` says nothing of when it appeared.
    pub late: bool,
}

/// A catalog entry with the place it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCatalogEntry {
    /// The metric name.
    pub metric: String,
    /// The period.
    pub period: Period,
    /// The series.
    pub entry: CatalogEntry,
    /// When the store may delete it, in seconds since the Unix epoch.
    pub expires_at_s: i64,
}

/// How far the records of a shard have been stored, and what was counted on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last record whose samples are in segments; [`SequenceNumber::BEFORE_ALL`] when there is none yet.
    pub sequence: SequenceNumber,
    /// The arrival, as in [`SegmentOrder`], of the batch that ended with it.
    pub arrival_ms: u64,
    /// The records up to there.
    pub records: u64,
    /// The samples in them.
    pub samples: u64,
    /// The oldest and the newest timestamp among them, in milliseconds since the Unix epoch.
    pub time_range_ms: Option<(i64, i64)>,
}

impl Checkpoint {
    /// The checkpoint of a shard that nothing was stored of yet. Its segments will carry at least this arrival.
    #[must_use]
    pub fn opened(arrival_ms: u64) -> Self {
        Self {
            sequence: SequenceNumber::BEFORE_ALL,
            arrival_ms,
            records: 0,
            samples: 0,
            time_range_ms: None,
        }
    }

    /// Where to read on.
    #[must_use]
    pub fn position(&self) -> Position {
        if self.sequence == SequenceNumber::BEFORE_ALL {
            Position::Oldest
        } else {
            Position::After(self.sequence)
        }
    }
}

/// What says where a sample lies and until when, and so cannot change at will while the tables live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// How many buckets there are.
    pub buckets: u16,
    /// The length of a window in seconds.
    pub window_seconds: u32,
    /// The shortest time that raw samples were ever to be kept, in seconds. What was written then expires by it: who takes a
    /// longer time for granted misses what is gone.
    pub raw_retention_s: u32,
    /// The same of aggregates of one minute.
    pub minute_retention_s: u32,
}

impl Division {
    /// Whether a sample lies elsewhere by the other one.
    #[must_use]
    pub fn is_elsewhere(self, other: Self) -> bool {
        (self.buckets, self.window_seconds) != (other.buckets, other.window_seconds)
    }

    /// What stands once `configured` works on tables that are divided like this: the shorter retentions. Who divides otherwise
    /// does not work on them, and changes nothing.
    #[must_use]
    pub fn lowered_to(self, configured: Self) -> Self {
        if self.is_elsewhere(configured) {
            return self;
        }
        Self {
            raw_retention_s: self.raw_retention_s.min(configured.raw_retention_s),
            minute_retention_s: self.minute_retention_s.min(configured.minute_retention_s),
            ..self
        }
    }
}

/// What became of an attempt to move a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advance {
    /// It was moved.
    Moved,
    /// Somebody else had moved it, to this.
    Elsewhere(Checkpoint),
}

/// The database under the storage engine.
///
/// All writes are idempotent: the same value for the same key may be written any number of times.
pub trait Store: Send + Sync {
    /// Writes segments. When this returns `Ok`, all of them are durable; on an error any of them may be.
    fn put_segments(&self, segments: Vec<StoredSegment>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Segments of a bucket and window: the normal ones after `after` (all without it), then all late ones, each in ascending
    /// order. Sees every segment whose write was acknowledged before the call.
    fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> impl Future<Output = Result<Vec<StoredSegment>, StoreError>> + Send;

    /// Series of a metric in a period: those first seen after `after` (all without it), then all late ones. Sees every entry
    /// whose write was acknowledged before the call.
    fn catalog(
        &self,
        metric: &str,
        period: Period,
        after: Option<i64>,
    ) -> impl Future<Output = Result<Vec<CatalogEntry>, StoreError>> + Send;

    /// Reserves `count` references of a bucket that nobody else gets, and returns the first of them.
    fn allocate_references(&self, bucket: Bucket, count: u32) -> impl Future<Output = Result<u32, StoreError>> + Send;

    /// Adds series to the catalog, and the names of their metrics to the list of names. The names are durable before any of
    /// the series: after an error there may be names without series, but no series without its metric's name.
    fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The names of the metrics that have series in a period, in ascending order.
    fn metric_names(&self, period: Period) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;

    /// How far a shard has been stored. `None` before its first batch.
    fn checkpoint(&self, shard: &ShardId) -> impl Future<Output = Result<Option<Checkpoint>, StoreError>> + Send;

    /// Moves a shard's checkpoint if it still stands at `from`.
    fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> impl Future<Output = Result<Advance, StoreError>> + Send;

    /// The checkpoints of all shards, in ascending order of their names.
    fn checkpoints(&self) -> impl Future<Output = Result<Vec<(ShardId, Checkpoint)>, StoreError>> + Send;

    /// Writes blocks. When this returns `Ok`, all of them are durable; on an error any of them may be.
    fn put_blocks(&self, blocks: Vec<StoredBlock>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The blocks of a series that start in `from_ms..=to_ms`, of all epochs, in ascending order of their keys.
    fn blocks(
        &self,
        tier: Tier,
        id: SeriesId,
        from_ms: i64,
        to_ms: i64,
    ) -> impl Future<Output = Result<Vec<StoredBlock>, StoreError>> + Send;

    /// Deletes blocks. Those that are gone are no error.
    fn delete_blocks(&self, keys: Vec<BlockKey>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How far a bucket is compacted. Sees every change that was acknowledged before the call.
    fn progress(&self, bucket: Bucket) -> impl Future<Output = Result<Progress, StoreError>> + Send;

    /// Begins a compaction pass if the last one is still `epoch`: takes the next epoch and the lease, and returns the progress
    /// as of this moment. `None` when another pass has begun.
    fn begin_pass(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> impl Future<Output = Result<Option<Progress>, StoreError>> + Send;

    /// Takes a step of the pass `epoch`, as [`Step::apply`] says; `false` when it is not allowed any more.
    fn advance_progress(
        &self,
        bucket: Bucket,
        epoch: u32,
        step: Step,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Marks closed windows of a bucket as written to. An answer that was lost may mark them twice, which is harmless.
    fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Stores how the tables are divided, unless that is stored already, lowers what is stored as
    /// [`Division::lowered_to`] says, and returns what stands.
    fn pin_division(&self, division: Division) -> impl Future<Output = Result<Division, StoreError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn order() -> impl Strategy<Value = SegmentOrder> {
        (
            0..1_u64 << 48,
            any::<u128>(),
            any::<u32>(),
            any::<u64>(),
            any::<u8>(),
            any::<u8>(),
        )
            .prop_map(|(arrival_ms, last, shard, first_hash, part, last_part)| SegmentOrder {
                arrival_ms,
                last: SequenceNumber::parse(&last.to_string()).unwrap(),
                shard,
                first_hash,
                part,
                last_part,
            })
    }

    proptest! {
        #[test]
        fn the_bytes_of_an_order_read_back_and_sort_as_it_does(a in order(), b in order()) {
            prop_assert_eq!(SegmentOrder::from_bytes(&a.to_bytes()), Some(a));
            prop_assert_eq!(a.to_bytes().cmp(&b.to_bytes()), a.cmp(&b));
        }

        #[test]
        fn bytes_of_another_length_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(SegmentOrder::from_bytes(&bytes).is_some(), bytes.len() == SegmentOrder::BYTES);
        }
    }
}
