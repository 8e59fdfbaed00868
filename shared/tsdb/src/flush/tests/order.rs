//! The order of a bucket's normal segments, under everything that a stream and its consumers do.

use super::*;
use crate::segment;
use std::collections::{BTreeMap, BTreeSet};

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    /// A request of one sample of a metric arrives, with the stream's stamp this far after the last one.
    Push {
        metric: usize,
        stamp_ms: i64,
    },
    /// The consumer of a shard is given so many records after those that are stored, or some of those again.
    Deliver {
        shard: usize,
        back: usize,
        count: usize,
    },
    /// The same, and the process dies at a write.
    Die {
        shard: usize,
        count: usize,
        write: usize,
        when: usize,
    },
    /// An operator drains a shard, or stores some of it again.
    Operate {
        shard: usize,
        back: usize,
        count: usize,
    },
    Split {
        shard: usize,
    },
    Merge {
        one: usize,
        other: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..6_usize, -30..60_i64).prop_map(|(metric, stamp_ms)| Event::Push { metric, stamp_ms }),
        6 => (0..8_usize, 0..4_usize, 1..5_usize)
            .prop_map(|(shard, back, count)| Event::Deliver { shard, back: back.saturating_sub(1), count }),
        2 => (0..8_usize, 1..5_usize, 0..10_usize, 0..3_usize)
            .prop_map(|(shard, count, write, when)| Event::Die { shard, count, write, when }),
        1 => (0..8_usize, 0..4_usize, 1..5_usize).prop_map(|(shard, back, count)| Event::Operate { shard, back, count }),
        1 => (0..8_usize).prop_map(|shard| Event::Split { shard }),
        1 => (0..8_usize, 0..8_usize).prop_map(|(one, other)| Event::Merge { one, other }),
    ]
}

/// By metric, the value that wins and the order of its segment: all samples have one time.
type Known = BTreeMap<usize, (SegmentOrder, usize)>;

struct Scene {
    stream: MemoryStream,
    store: Arc<MemoryStore>,
    stamp_ms: i64,
    /// The metric of each sample, whose value is its number.
    pushed: Vec<usize>,
    /// What a reader has seen of each bucket and window: the newest normal segment, and what it knows of each metric.
    seen: BTreeMap<(Bucket, Window), (Option<SegmentOrder>, Known)>,
    segments: BTreeSet<(Bucket, Window, bool, SegmentOrder)>,
}

impl Scene {
    fn new() -> Self {
        Self {
            stream: MemoryStream::new(layout().buckets, 2, NOW),
            store: Arc::new(MemoryStore::default()),
            stamp_ms: NOW,
            pushed: Vec::new(),
            seen: BTreeMap::new(),
            segments: BTreeSet::new(),
        }
    }

    fn push(&mut self, metric: usize, stamp_ms: i64) {
        self.stamp_ms = (self.stamp_ms + stamp_ms).max(NOW);
        self.stream.set_now(self.stamp_ms);
        let value = self.pushed.len();
        self.pushed.push(metric);
        let body = json!({"metrics": [{"name": format!("m{metric}"), "value": value, "timestamp": NOW / 1_000}]});
        let times = RequestTimes {
            now_ms: NOW,
            within: Duration::from_secs(1),
        };
        block_on(accept(&self.stream, &intake(), body.to_string().as_bytes(), times)).unwrap();
    }

    fn stored(&self, shard: usize) -> usize {
        let checkpoint = block_on(self.store.checkpoint(&MemoryStream::shard_id(shard))).unwrap();
        let records = self.stream.records(shard);
        checkpoint.map_or(0, |at| records.partition_point(|record| record.sequence <= at.sequence))
    }

    /// Whether the stream's own consumer may be given a shard: when all of its parents are stored.
    fn is_ready(&self, shard: usize) -> bool {
        let parents = self.stream.parents(shard);
        parents
            .iter()
            .all(|parent| self.is_ready(*parent) && self.stored(*parent) == self.stream.records(*parent).len())
    }

    fn flush<S: Store>(&self, store: Arc<S>, origin: Origin, shard: usize, range: (usize, usize)) {
        let records = self.stream.records(shard);
        let (start, end) = (range.0.min(records.len()), range.1.min(records.len()));
        let mut consumer = Consumer::new(store, layout(), origin, Arc::new(|| NOW));
        // It may fail where that was planned.
        let _ = block_on(consumer.flush(&MemoryStream::shard_id(shard), &records[start..end], &*self.store));
    }

    fn take_place(&mut self, event: &Event) {
        let shards = self.stream.shard_count();
        match *event {
            Event::Push { metric, stamp_ms } => self.push(metric, stamp_ms),
            Event::Deliver { shard, back, count } => {
                let shard = shard % shards;
                if self.is_ready(shard) {
                    let start = self.stored(shard).saturating_sub(back);
                    self.flush(Arc::clone(&self.store), Origin::Stream, shard, (start, start + count));
                }
            }
            Event::Die {
                shard,
                count,
                write,
                when,
            } => {
                let shard = shard % shards;
                if self.is_ready(shard) {
                    let start = self.stored(shard);
                    let faulty = Faulty::failing(Arc::clone(&self.store), write, When::ALL[when], true);
                    self.flush(Arc::new(faulty), Origin::Stream, shard, (start, start + count));
                }
            }
            Event::Operate { shard, back, count } => {
                let shard = shard % shards;
                if self.is_ready(shard) {
                    let start = self.stored(shard).saturating_sub(back);
                    self.flush(Arc::clone(&self.store), Origin::Operator, shard, (start, start + count));
                }
            }
            Event::Split { shard } => drop(self.stream.split(shard % shards)),
            Event::Merge { one, other } => drop(self.stream.merge(one % shards, other % shards)),
        }
    }

    /// Looks at what has appeared, as a reader would that asks for what is new.
    fn look(&mut self) -> Result<(), TestCaseError> {
        let all = self.store.all_segments();
        let new: Vec<_> = all
            .into_iter()
            .filter(|new| self.segments.insert((new.bucket, new.window, new.late, new.order)))
            .collect();
        let before = self.seen.clone();
        for segment in new {
            let place = (segment.bucket, segment.window);
            let samples = self.samples_of(&segment);
            let (newest, known) = before.get(&place).cloned().unwrap_or_default();
            let asked_for = segment.late || newest.is_none_or(|newest| segment.order > newest);
            // Two runs that end with one record hold the same last sample.
            let end = |order: SegmentOrder| (order.arrival_ms, order.last);
            let loses = samples.iter().all(|(metric, value)| {
                known
                    .get(metric)
                    .is_some_and(|(order, wins)| wins == value || end(*order) >= end(segment.order))
            });
            prop_assert!(asked_for || loses, "{:?} appeared after {newest:?}", segment.order);
            let (newest, known) = self.seen.entry(place).or_default();
            if !segment.late {
                *newest = (*newest).max(Some(segment.order));
            }
            for (metric, value) in samples {
                let place = known.entry(metric).or_insert((segment.order, value));
                *place = (segment.order, value).max(*place);
            }
        }
        Ok(())
    }

    fn samples_of(&self, stored: &StoredSegment) -> BTreeMap<usize, usize> {
        let decoded = segment::decode(&stored.data).unwrap();
        let mut samples = Vec::new();
        for index in 0..decoded.references().len() {
            decoded.read_entry(index, &mut samples);
        }
        samples
            .iter()
            .map(|at| (self.pushed[at.value as usize], at.value as usize))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// See the module's documentation: a reader that asks for normal segments after the newest one it knows, and for all late
    /// ones, misses nothing. And in the end, of several samples of one time the one that arrived last is what is read.
    #[test]
    fn normal_segments_appear_in_order_and_the_last_sample_to_arrive_wins(
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut scene = Scene::new();
        for event in &events {
            scene.take_place(event);
            scene.look()?;
        }
        // Everything is stored in the end, parents first.
        for shard in 0..scene.stream.shard_count() {
            let (start, end) = (scene.stored(shard), scene.stream.records(shard).len());
            scene.flush(Arc::clone(&scene.store), Origin::Stream, shard, (start, end));
            scene.look()?;
        }
        let samples: u64 = block_on(scene.store.checkpoints()).unwrap().iter().map(|(_, at)| at.samples).sum();
        prop_assert_eq!(samples, scene.pushed.len() as u64);
        let last: BTreeMap<usize, usize> = (0..).zip(&scene.pushed).map(|(value, metric)| (*metric, value)).collect();
        let reader = Reader::new(Arc::clone(&scene.store), layout(), 0);
        for (metric, value) in last {
            let selector = Selector { metric: format!("m{metric}"), filter: LabelFilter::default() };
            let found = block_on(reader.select(&selector, NOW, NOW)).unwrap();
            prop_assert_eq!(found[0].samples[0].value, value as f64);
        }
    }
}
