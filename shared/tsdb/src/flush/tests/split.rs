//! A producer with an old map of the shards, after a split.

use super::*;
use crate::ingest::{PutError, ShardMap, Sink};
use crate::stream::{RangesFuture, ShardRanges};
use tidemark_wire::envelope::Record;

/// A stream as a producer sees it that asked for its shards before they were split.
struct Stale<'a>(&'a MemoryStream, Arc<ShardMap>);

impl Sink for Stale<'_> {
    async fn shard_map(&self) -> Arc<ShardMap> {
        Arc::clone(&self.1)
    }

    async fn put(&self, records: Vec<Record>, within: Duration) -> Result<(), PutError> {
        self.0.put(records, within).await
    }
}

/// Two children of one shard, and what the consumers of both have stored.
struct Split {
    stream: Arc<MemoryStream>,
    store: Arc<MemoryStore>,
    stale: Arc<ShardMap>,
    /// A metric of the first bucket, in the one child.
    lower: String,
    /// A metric of the last bucket, in the other.
    upper: String,
    children: [usize; 2],
    flushed: [usize; 2],
}

impl Split {
    fn new() -> Self {
        let stream = MemoryStream::new(layout().buckets, 1, NOW);
        let stale = block_on(stream.shard_map());
        let metric_of = |bucket: u16| {
            let mut names = (0..).map(|at| format!("m{at:02}"));
            let of = |name: &str| layout().buckets.of_metric(tidemark_model::series::hash_name(name)).0;
            names.find(|name| of(name) == bucket).unwrap()
        };
        Self {
            children: stream.split(0).unwrap(),
            stream: Arc::new(stream),
            store: Arc::default(),
            stale,
            lower: metric_of(0),
            upper: metric_of(3),
            flushed: [0, 0],
        }
    }

    fn push(&self, sink: &impl Sink, at_ms: i64, samples: &[(&str, f64)]) {
        self.stream.set_now(at_ms);
        let metrics: Vec<_> = samples
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value, "timestamp": at_ms as f64 / 1_000.0}))
            .collect();
        let body = json!({ "metrics": metrics }).to_string();
        let times = RequestTimes {
            now_ms: at_ms,
            within: Duration::from_secs(1),
        };
        block_on(accept(sink, &intake(), body.as_bytes(), times)).unwrap();
    }

    fn push_stale(&self, at_ms: i64, samples: &[(&str, f64)]) {
        self.push(&Stale(&self.stream, Arc::clone(&self.stale)), at_ms, samples);
    }

    fn push_fresh(&self, at_ms: i64, samples: &[(&str, f64)]) {
        self.push(&*self.stream, at_ms, samples);
    }

    fn flush(&mut self, child: usize) {
        let ranges: Arc<MemoryStream> = Arc::clone(&self.stream);
        let store = Arc::clone(&self.store);
        let mut consumer = Consumer::new(store, layout(), Origin::Stream, Arc::new(|| NOW)).with_ranges(ranges);
        let records = self.stream.records(self.children[child]);
        let shard = MemoryStream::shard_id(self.children[child]);
        block_on(consumer.flush(&shard, &records[self.flushed[child]..], &*self.store)).unwrap();
        self.flushed[child] = records.len();
    }
}

fn values(reader: &Reader<MemoryStore>, metric: &str) -> Vec<f64> {
    let selector = Selector {
        metric: metric.to_owned(),
        filter: LabelFilter::default(),
    };
    let found = block_on(reader.select(&selector, NOW - 60_000, NOW + 60_000)).unwrap();
    let samples = found.iter().flat_map(|series| &series.samples);
    samples.map(|sample| sample.value).collect()
}

/// Both consumers wrote normal segments once: a warm reader that knew the newer never asked for the older.
#[test]
fn a_warm_reader_sees_what_an_old_map_brought_to_the_other_child() {
    let mut split = Split::new();
    let (lower, upper) = (split.lower.clone(), split.upper.clone());
    let warm = Reader::new(Arc::clone(&split.store), layout(), 10_000_000);
    split.push_fresh(NOW, &[(&lower, 0.0), (&upper, 1.0)]);
    split.flush(0);
    split.flush(1);
    let before = split.stream.records(split.children[0]).len();
    // The order of buckets in a stale record decides which child it lands in.
    split.push_stale(NOW + 1_000, &[(&lower, 0.0), (&upper, 2.0)]);
    assert_eq!(
        split.stream.records(split.children[0]).len(),
        before + 1,
        "one record for both"
    );
    split.push_fresh(NOW + 2_000, &[(&upper, 3.0)]);
    split.flush(1);
    assert_eq!(values(&warm, &upper), [1.0, 3.0]);
    split.flush(0);
    assert_eq!(values(&warm, &upper), [1.0, 2.0, 3.0]);
    assert_eq!(values(&warm, &lower), [0.0, 0.0]);
    let upper_bucket = Bucket(3);
    let late = split.store.all_segments().into_iter().filter(|segment| segment.late);
    assert_eq!(late.map(|segment| segment.bucket).collect::<Vec<_>>(), [upper_bucket]);
}

/// A series that a warm reader has not met, and that another shard's consumer enters into the catalog with an earlier arrival.
#[test]
fn a_warm_reader_finds_a_series_that_an_old_map_brought_to_the_other_child() {
    let mut split = Split::new();
    let (lower, upper) = (split.lower.clone(), split.upper.clone());
    let warm = Reader::new(Arc::clone(&split.store), layout(), 10_000_000);
    split.push_stale(NOW + 1_000, &[(&lower, 0.0), (&upper, 2.0)]);
    split.push_fresh(NOW + 2_000, &[(&upper, 3.0)]);
    split.flush(1);
    assert_eq!(values(&warm, &upper), [3.0]);
    split.flush(0);
    assert_eq!(values(&warm, &upper), [2.0, 3.0]);
}

/// A stream that does not list the shard.
struct Silent;

impl ShardRanges for Silent {
    fn ranges(&self) -> RangesFuture<'_> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

#[test]
fn nothing_is_stored_of_a_shard_whose_range_is_not_known() {
    let split = Split::new();
    split.push_fresh(NOW, &[(&split.lower, 0.0)]);
    let store = Arc::clone(&split.store);
    let mut consumer = Consumer::new(store, layout(), Origin::Stream, Arc::new(|| NOW)).with_ranges(Arc::new(Silent));
    let records = split.stream.records(split.children[0]);
    let shard = MemoryStream::shard_id(split.children[0]);
    let refused = block_on(consumer.flush(&shard, &records, &*split.store)).unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }));
    assert_eq!(split.store.all_segments(), []);
    assert_eq!(block_on(split.store.checkpoint(&shard)).unwrap(), None);
}
