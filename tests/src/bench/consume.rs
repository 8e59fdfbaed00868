//! The consumer's own work: from a batch of records to segments. The store takes everything and does nothing.

use super::ingest::Batch;
use super::report::Report;
use super::workload::Pushing;
use super::{WINDOW_SECONDS, cpu, layout};
use anyhow::{Context as _, ensure};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidemark_model::{Bucket, Period, SeriesId, Window};
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::sequence::{SequenceNumber, ShardId};
use tidemark_tsdb::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use tidemark_tsdb::stream::{DeadLetter, DeadLetters};
use tidemark_tsdb::tier::{BlockKey, StoredBlock};
use tidemark_tsdb::{Consumer, Layout, Origin, Tier};
use tokio::runtime::Runtime;

/// DynamoDB's write unit.
const WRITE_UNIT_BYTES: usize = 1_024;

/// How many fresh consumers one repetition of the cold measurement starts, each with a copy of the catalog that was made
/// beforehand.
const COLD_CONSUMERS: usize = 10;

/// Measures the flush of the batches.
pub(crate) fn measure(
    pushing: Pushing,
    batches: &[Batch],
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    let suffix = pushing.suffix();
    let layout = layout(WINDOW_SECONDS)?;
    let store = Arc::new(FreeStore::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout, Origin::Stream, Arc::new(|| 0));

    // Everything once, with the segments kept: their sizes, and the catalog for all that follows.
    store.state().keep = true;
    for batch in batches {
        flush(runtime, &mut consumer, batch, &store)?;
    }
    let kept = std::mem::take(&mut store.state().kept);
    store.state().keep = false;
    if pushing == Pushing::Collector {
        measure_segments(&kept, batches, report)?;
    }

    let mut next = batches.iter().cycle();
    let warm = cpu::samples_per_second(|| {
        let batch = next.next().context("there are no batches")?;
        flush(runtime, &mut consumer, batch, &store)
    })?;
    let goal = if suffix.is_empty() { "2 M" } else { "" };
    report.add(format!("consume.samples_per_cpu_second{suffix}"), warm, goal)?;

    let first = batches.first().context("there are no batches")?;
    let cold = measure_cold(runtime, layout, first, &store)?;
    report.add(format!("consume.samples_per_cpu_second_cold{suffix}"), cold, "")
}

/// A consumer's first flush, which has to read the catalog. The CPU time of preparing the catalog's answers does not count.
fn measure_cold(runtime: &Runtime, layout: Layout, batch: &Batch, store: &Arc<FreeStore>) -> anyhow::Result<f64> {
    let mut speeds = Vec::new();
    for _ in 0..15 {
        store.prepare_answers(COLD_CONSUMERS);
        let mut consumers: Vec<_> = (0..COLD_CONSUMERS)
            .map(|_| Consumer::new(Arc::clone(store), layout, Origin::Stream, Arc::new(|| 0)))
            .collect();
        let (began, mut samples) = (cpu::used()?, 0);
        for consumer in &mut consumers {
            samples += flush(runtime, consumer, batch, store)?;
        }
        speeds.push(samples as f64 / cpu::used()?.saturating_sub(began).as_secs_f64());
    }
    Ok(cpu::median(&mut speeds))
}

fn flush(
    runtime: &Runtime,
    consumer: &mut Consumer<FreeStore>,
    batch: &Batch,
    letters: &FreeStore,
) -> anyhow::Result<u64> {
    let shard = ShardId("shardId-000000000000".to_owned());
    let report = runtime.block_on(consumer.flush(&shard, &batch.records, letters))?;
    ensure!(
        report.samples == batch.samples && report.undecodable == 0,
        "of {} samples this was stored: {report:?}",
        batch.samples
    );
    Ok(report.samples)
}

/// Sizes of the items that the flushes wrote, and what DynamoDB asks for them.
fn measure_segments(kept: &[StoredSegment], batches: &[Batch], report: &mut Report) -> anyhow::Result<()> {
    let samples: u64 = batches.iter().map(|batch| batch.samples).sum();
    let data: usize = kept.iter().map(|segment| segment.data.len()).sum();
    let items: Vec<usize> = kept.iter().map(item_bytes).collect();
    let units: usize = items.iter().map(|bytes| bytes.div_ceil(WRITE_UNIT_BYTES)).sum();
    let mut per_flush_and_bucket: BTreeMap<_, usize> = BTreeMap::new();
    for segment in kept {
        *per_flush_and_bucket
            .entry((segment.order.last, segment.bucket, segment.window))
            .or_default() += 1;
    }
    let most = per_flush_and_bucket.values().max().copied().unwrap_or_default();
    let per_sample = |bytes: usize| bytes as f64 / samples as f64;
    report.add(
        "segment.bytes_per_sample",
        per_sample(items.iter().sum()),
        "at most 3, keys included",
    )?;
    report.add("segment.data_bytes_per_sample", per_sample(data), "")?;
    report.add(
        "segment.write_units_per_million_samples",
        per_sample(units) * 1_000_000.0,
        "",
    )?;
    report.add(
        "segment.items_per_flush",
        kept.len() as f64 / batches.len() as f64,
        "at most 16",
    )?;
    report.add("segment.max_items_per_flush_and_bucket", most as f64, "at most 1")
}

/// The size of the item that holds a segment, as DynamoDB counts it: the names and the values of all attributes. A number
/// has a byte for every two digits and one more.
fn item_bytes(segment: &StoredSegment) -> usize {
    let pk = "pk".len() + format!("{}#{}", segment.bucket, segment.window).len();
    let sk = "sk".len() + 1 + SegmentOrder::BYTES;
    let data = "data".len() + segment.data.len();
    let expires_at = "expires_at".len() + segment.expires_at_s.to_string().len().div_ceil(2) + 1;
    pk + sk + data + expires_at
}

/// A store that costs nothing: segments are dropped, checkpoints forgotten, and the catalog's answers are prepared before
/// the clock runs.
#[derive(Debug, Default)]
struct FreeStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    keep: bool,
    kept: Vec<StoredSegment>,
    catalog: HashMap<(String, Period), Vec<CatalogEntry>>,
    /// Copies of the catalog, each to be given away once.
    answers: HashMap<(String, Period), Vec<Vec<CatalogEntry>>>,
    references: HashMap<Bucket, u32>,
}

impl FreeStore {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prepare_answers(&self, copies: usize) {
        let mut state = self.state();
        state.answers = state
            .catalog
            .iter()
            .map(|(place, entries)| (place.clone(), vec![entries.clone(); copies]))
            .collect();
    }
}

impl Store for FreeStore {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        let mut state = self.state();
        if state.keep {
            state.kept.extend(segments);
        }
        Ok(())
    }

    async fn segments(&self, _: Bucket, _: Window, _: Option<SegmentOrder>) -> Result<Vec<StoredSegment>, StoreError> {
        Ok(Vec::new())
    }

    async fn catalog(&self, metric: &str, period: Period, _: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let prepared = self
            .state()
            .answers
            .get_mut(&(metric.to_owned(), period))
            .and_then(Vec::pop);
        Ok(prepared.unwrap_or_default())
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        let mut state = self.state();
        let next = state.references.entry(bucket).or_default();
        *next += count;
        Ok(*next - count)
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        let mut state = self.state();
        for new in entries {
            state
                .catalog
                .entry((new.metric, new.period))
                .or_default()
                .push(new.entry);
        }
        Ok(())
    }

    async fn metric_names(&self, _: Period) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn checkpoint(&self, _: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        Ok(None)
    }

    async fn advance_checkpoint(
        &self,
        _: &ShardId,
        _: Option<SequenceNumber>,
        _: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        Ok(Advance::Moved)
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        Ok(Vec::new())
    }

    async fn put_blocks(&self, _: Vec<StoredBlock>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn blocks(&self, _: Tier, _: SeriesId, _: i64, _: i64) -> Result<Vec<StoredBlock>, StoreError> {
        Ok(Vec::new())
    }

    async fn delete_blocks(&self, _: Vec<BlockKey>) -> Result<(), StoreError> {
        Ok(())
    }

    async fn progress(&self, _: Bucket) -> Result<Progress, StoreError> {
        Ok(Progress::default())
    }

    async fn begin_pass(&self, _: Bucket, _: u32, _: i64) -> Result<Option<Progress>, StoreError> {
        Ok(None)
    }

    async fn advance_progress(&self, _: Bucket, _: u32, _: Step) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn mark_dirty(&self, _: Bucket, _: &[Window]) -> Result<(), StoreError> {
        Ok(())
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        Ok(division)
    }
}

impl DeadLetters for FreeStore {
    async fn send(&self, _: Vec<DeadLetter>) -> Result<(), StoreError> {
        Ok(())
    }
}
