//! A store in memory that counts what DynamoDB would: calls, items, bytes and capacity units, by part of the system.
//!
//! Sizes and units follow DynamoDB's rules: an item's size is that of its attributes' names and values; a write takes one unit
//! per started kilobyte of each item; a strongly consistent query takes one unit per started 4 KB of each page of at most 1 MB.
//! `tests/tests/localstack/cost.rs` holds these sums against what AWS's own local DynamoDB counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::{Bucket, Period, SeriesId, Window};
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::sequence::{SequenceNumber, ShardId};
use tidemark_tsdb::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use tidemark_tsdb::stream::{DeadLetter, DeadLetters};
use tidemark_tsdb::tier::{BlockKey, StoredBlock, Tier};

const WRITE_UNIT_BYTES: usize = 1_024;
const READ_UNIT_BYTES: usize = 4_096;
const PAGE_BYTES: usize = 1_048_576;
const BATCH_ITEMS: usize = 25;

/// What an item costs beside its keys and its data: `expires_at`, ten digits.
const EXPIRES_AT_BYTES: usize = "expires_at".len() + 6;
const KEY_NAMES_BYTES: usize = "pk".len() + "sk".len();

/// What the capacity is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// Segments.
    Segments,
    /// Series and metric names.
    Catalog,
    /// Checkpoints, references, progress.
    Marks,
    /// Raw chunks.
    Chunks,
    /// Aggregates of a minute.
    Minute,
    /// Aggregates of an hour.
    Hour,
}

impl Part {
    pub(crate) const ALL: [Self; 6] = [
        Self::Segments,
        Self::Catalog,
        Self::Marks,
        Self::Chunks,
        Self::Minute,
        Self::Hour,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Segments => "segments",
            Self::Catalog => "catalog",
            Self::Marks => "marks",
            Self::Chunks => "chunks",
            Self::Minute => "minute",
            Self::Hour => "hour",
        }
    }

    fn of(tier: Tier) -> Self {
        match tier {
            Tier::Raw => Self::Chunks,
            Tier::Minute => Self::Minute,
            Tier::Hour => Self::Hour,
        }
    }
}

/// What was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) write_calls: u64,
    pub(crate) items: u64,
    pub(crate) item_bytes: u64,
    pub(crate) data_bytes: u64,
    pub(crate) write_units: u64,
    pub(crate) read_calls: u64,
    pub(crate) pages: u64,
    pub(crate) read_units: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    inner: MemoryStore,
    used: Mutex<BTreeMap<Part, Used>>,
}

impl Meter {
    /// What was used since the last call.
    pub(crate) fn take(&self) -> BTreeMap<Part, Used> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Part, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Items written by batches, or one by one.
    fn wrote(&self, part: Part, items: impl IntoIterator<Item = (usize, usize)>, at_once: usize) {
        let mut used = self.lock();
        let used = used.entry(part).or_default();
        let before = used.items;
        for (bytes, data) in items {
            used.items += 1;
            used.item_bytes += bytes as u64;
            used.data_bytes += data as u64;
            used.write_units += bytes.div_ceil(WRITE_UNIT_BYTES) as u64;
        }
        used.write_calls += (used.items - before).div_ceil(at_once as u64);
    }

    /// One query that returned so many bytes of items. Even one that finds nothing takes a unit.
    fn read(&self, part: Part, bytes: usize) {
        let mut used = self.lock();
        let used = used.entry(part).or_default();
        used.read_calls += 1;
        used.pages += bytes.div_ceil(PAGE_BYTES).max(1) as u64;
        used.read_units += bytes.div_ceil(READ_UNIT_BYTES).max(1) as u64;
    }
}

/// The item of a segment. The keys are those of `tidemark_aws::keys`.
fn segment_bytes(segment: &StoredSegment) -> usize {
    let pk = format!("{}#{}", segment.bucket, segment.window).len();
    let sk = 1 + SegmentOrder::BYTES;
    KEY_NAMES_BYTES + pk + sk + "data".len() + segment.data.len() + EXPIRES_AT_BYTES
}

/// The item of a block: the series (and the resolution) in the partition key; start, epoch and part in the sort key.
fn block_bytes(block: &StoredBlock) -> usize {
    let pk = if block.key.tier == Tier::Raw { 16 } else { 17 };
    KEY_NAMES_BYTES + pk + 13 + "data".len() + block.data.len() + EXPIRES_AT_BYTES
}

fn entry_bytes(metric: &str, entry: &CatalogEntry) -> usize {
    let pk = "series#692#".len() + metric.len();
    let sk = 13 + 1 + 32 + 1 + entry.reference.to_string().len();
    // A map takes three bytes and one for each of its pairs.
    let labels: usize = entry
        .labels
        .iter()
        .map(|(name, value)| name.len() + value.len() + 1)
        .sum();
    KEY_NAMES_BYTES + pk + sk + "labels".len() + 3 + labels + EXPIRES_AT_BYTES
}

/// A small item of a few numbers.
const MARK: (usize, usize) = (200, 0);

impl Store for Meter {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        let items = segments
            .iter()
            .map(|segment| (segment_bytes(segment), segment.data.len()));
        self.wrote(Part::Segments, items, BATCH_ITEMS);
        self.inner.put_segments(segments).await
    }

    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        let found = self.inner.segments(bucket, window, after).await?;
        self.read(Part::Segments, found.iter().map(segment_bytes).sum());
        Ok(found)
    }

    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let found = self.inner.catalog(metric, period, after).await?;
        self.read(
            Part::Catalog,
            found.iter().map(|entry| entry_bytes(metric, entry)).sum(),
        );
        Ok(found)
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        self.wrote(Part::Marks, [MARK], 1);
        self.inner.allocate_references(bucket, count).await
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        let items = entries.iter().map(|new| (entry_bytes(&new.metric, &new.entry), 0));
        self.wrote(Part::Catalog, items, BATCH_ITEMS);
        self.inner.add_to_catalog(entries).await
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        let names = self.inner.metric_names(period).await?;
        self.read(Part::Catalog, names.iter().map(|name| name.len() + 40).sum());
        Ok(names)
    }

    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        self.read(Part::Marks, MARK.0);
        self.inner.checkpoint(shard).await
    }

    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        self.wrote(Part::Marks, [MARK], 1);
        self.inner.advance_checkpoint(shard, from, to).await
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        self.read(Part::Marks, MARK.0);
        self.inner.checkpoints().await
    }

    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        for tier in Tier::ALL {
            let of_tier = blocks.iter().filter(|block| block.key.tier == tier);
            let items: Vec<_> = of_tier.map(|block| (block_bytes(block), block.data.len())).collect();
            if !items.is_empty() {
                self.wrote(Part::of(tier), items, BATCH_ITEMS);
            }
        }
        self.inner.put_blocks(blocks).await
    }

    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        let found = self.inner.blocks(tier, id, from_ms, to_ms).await?;
        self.read(Part::of(tier), found.iter().map(block_bytes).sum());
        Ok(found)
    }

    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        for tier in Tier::ALL {
            let count = keys.iter().filter(|key| key.tier == tier).count();
            if count > 0 {
                self.wrote(Part::of(tier), std::iter::repeat_n((1, 0), count), BATCH_ITEMS);
            }
        }
        self.inner.delete_blocks(keys).await
    }

    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        self.read(Part::Marks, MARK.0);
        self.inner.progress(bucket).await
    }

    async fn begin_pass(&self, bucket: Bucket, epoch: u32, until_ms: i64) -> Result<Option<Progress>, StoreError> {
        self.wrote(Part::Marks, [MARK], 1);
        self.inner.begin_pass(bucket, epoch, until_ms).await
    }

    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        self.wrote(Part::Marks, [MARK], 1);
        self.inner.advance_progress(bucket, epoch, step).await
    }

    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        self.wrote(Part::Marks, [MARK], 1);
        self.inner.mark_dirty(bucket, windows).await
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        self.inner.pin_division(division).await
    }
}

impl DeadLetters for Meter {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        self.inner.send(letters).await
    }
}
