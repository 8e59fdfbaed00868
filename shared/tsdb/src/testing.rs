//! What the tests of reading build on: a house with a stream, a consumer and a compactor on a fake clock, and a store that
//! counts what readers ask of it.

use crate::compact::Compactor;
use crate::flush::{Consumer, Origin};
use crate::ingest::{Intake, Outcome, RequestTimes, accept};
use crate::layout::{Layout, Retention};
use crate::memory::{MemoryStore, MemoryStream};
use crate::progress::{Progress, Step};
use crate::select::{Reader, Selector};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use crate::tier::{BlockKey, StoredBlock, Tier};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;
use tidemark_model::{Bucket, Buckets, DAY_MS, LabelFilter, Period, SeriesId, Window, WindowLength};

/// A midnight.
pub(crate) const MIDNIGHT: i64 = 20_454 * DAY_MS;
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 3_600_000;

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(1).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 7 * DAY_MS,
            minute_ms: 30 * DAY_MS,
            hour_ms: 365 * DAY_MS,
        },
        grace_ms: HOUR,
    }
}

pub(crate) fn selector(metric: &str) -> Selector {
    Selector {
        metric: metric.to_owned(),
        filter: LabelFilter::default(),
    }
}

/// See the module. One bucket, one shard.
pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) watched: Arc<Watched>,
    clock: Arc<AtomicI64>,
    stream: MemoryStream,
    consumer: Consumer<MemoryStore>,
    flushed: usize,
}

impl House {
    pub(crate) fn new(now_ms: i64) -> Self {
        let store = Arc::new(MemoryStore::default());
        let clock = Arc::new(AtomicI64::new(now_ms));
        Self {
            watched: Arc::new(Watched::new(Arc::clone(&store))),
            consumer: consumer(&store, Origin::Stream, &clock),
            stream: MemoryStream::new(layout().buckets, 1, now_ms),
            store,
            clock,
            flushed: 0,
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub(crate) fn at(&self, now_ms: i64) {
        self.clock.store(now_ms, Ordering::Relaxed);
        self.stream.set_now(now_ms);
    }

    /// Pushes samples `(host, time, value)` of a metric, and stores them with the stream's consumer.
    pub(crate) fn push(&mut self, metric: &str, samples: &[(&str, i64, f64)]) {
        self.send(metric, samples);
        let records = self.stream.records(0);
        let shard = MemoryStream::shard_id(0);
        block_on(self.consumer.flush(&shard, &records[self.flushed..], &*self.store)).unwrap();
        self.flushed = records.len();
    }

    /// Pushes samples, and stores them with an operator's consumer: out of order.
    pub(crate) fn push_beside(&mut self, metric: &str, samples: &[(&str, i64, f64)]) {
        self.send(metric, samples);
        let records = self.stream.records(0);
        let shard = MemoryStream::shard_id(0);
        let mut beside = consumer(&self.store, Origin::Operator, &self.clock);
        block_on(beside.flush(&shard, &records[self.flushed..], &*self.store)).unwrap();
    }

    fn send(&self, metric: &str, samples: &[(&str, i64, f64)]) {
        let sample = |(host, at, value): &(&str, i64, f64)| {
            let labels = json!({"host": host, "region": if *host < "m" { "eu" } else { "us" }});
            json!({"name": metric, "labels": labels, "timestamp": *at as f64 / 1_000.0,
                "value": tidemark_model::value::JsonF64(*value)})
        };
        for samples in samples.chunks(10_000) {
            let metrics: Vec<_> = samples.iter().map(sample).collect();
            let body = json!({ "metrics": metrics }).to_string();
            let intake = Intake {
                buckets: layout().buckets,
                retention_ms: layout().retention.raw_ms,
            };
            let times = RequestTimes {
                now_ms: self.now(),
                within: Duration::from_secs(1),
            };
            let outcome = block_on(accept(&self.stream, &intake, body.as_bytes(), times)).unwrap();
            assert!(matches!(outcome, Outcome::Accepted(accepted) if accepted.accepted == samples.len()));
        }
    }

    /// Compacts all that is due.
    pub(crate) fn compact(&self) {
        let compactor = Compactor::new(Arc::clone(&self.store), layout(), 60_000);
        block_on(compactor.run(|| self.now(), 0, || false)).unwrap();
    }

    /// A reader that remembers nothing yet, and can remember much.
    pub(crate) fn reader(&self) -> Reader<Watched> {
        self.reader_with(100_000_000)
    }

    pub(crate) fn reader_with(&self, cache_bytes: usize) -> Reader<Watched> {
        Reader::new(Arc::clone(&self.watched), layout(), cache_bytes)
    }
}

fn consumer(store: &Arc<MemoryStore>, origin: Origin, clock: &Arc<AtomicI64>) -> Consumer<MemoryStore> {
    let clock = Arc::clone(clock);
    let now = move || clock.load(Ordering::Relaxed);
    Consumer::new(Arc::clone(store), layout(), origin, Arc::new(now))
}

/// How often a reader asked, and how much it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) segments: usize,
    pub(crate) segments_given: usize,
    pub(crate) catalogs: usize,
    pub(crate) entries_given: usize,
    pub(crate) blocks: usize,
    pub(crate) blocks_given: usize,
    pub(crate) progress: usize,
}

/// A store that counts what is read.
pub(crate) struct Watched {
    inner: Arc<MemoryStore>,
    counts: [AtomicUsize; 7],
}

impl Watched {
    fn new(inner: Arc<MemoryStore>) -> Self {
        Self {
            inner,
            counts: Default::default(),
        }
    }

    /// What was asked since the last time that this was.
    pub(crate) fn asked(&self) -> Asked {
        let [
            segments,
            segments_given,
            catalogs,
            entries_given,
            blocks,
            blocks_given,
            progress,
        ] = [0, 1, 2, 3, 4, 5, 6].map(|at: usize| self.counts[at].swap(0, Ordering::Relaxed));
        Asked {
            segments,
            segments_given,
            catalogs,
            entries_given,
            blocks,
            blocks_given,
            progress,
        }
    }

    fn count(&self, at: usize, given: Option<usize>) {
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        if let Some(given) = given {
            self.counts[at + 1].fetch_add(given, Ordering::Relaxed);
        }
    }
}

impl Store for Watched {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        self.inner.put_segments(segments).await
    }

    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        let found = self.inner.segments(bucket, window, after).await?;
        self.count(0, Some(found.len()));
        Ok(found)
    }

    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let found = self.inner.catalog(metric, period, after).await?;
        self.count(2, Some(found.len()));
        Ok(found)
    }

    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        let found = self.inner.blocks(tier, id, from_ms, to_ms).await?;
        self.count(4, Some(found.len()));
        Ok(found)
    }

    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        self.count(6, None);
        self.inner.progress(bucket).await
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        self.inner.allocate_references(bucket, count).await
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        self.inner.add_to_catalog(entries).await
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        self.inner.metric_names(period).await
    }

    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        self.inner.checkpoint(shard).await
    }

    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        self.inner.advance_checkpoint(shard, from, to).await
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        self.inner.checkpoints().await
    }

    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        self.inner.put_blocks(blocks).await
    }

    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        self.inner.delete_blocks(keys).await
    }

    async fn begin_pass(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> Result<Option<Progress>, StoreError> {
        self.inner.begin_pass(bucket, epoch, leased_until_ms).await
    }

    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        self.inner.advance_progress(bucket, epoch, step).await
    }

    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        self.inner.mark_dirty(bucket, windows).await
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        self.inner.pin_division(division).await
    }
}
