//! The functions of the installation, each as one future over the real code.

use crate::sim::Process;
use crate::store::SimStore;
use crate::stream::{Place, Producer, ReadSoFar, SimStream, StreamEnd};
use crate::tiers::Collected;
use crate::values::Parameters;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemark_model::value::JsonF64;
use tidemark_model::{LabelFilter, Labels, Sample, is_stale_marker, limits};
use tidemark_tsdb::answers::{self, MemoryAnswers};
use tidemark_tsdb::compact::{CompactError, CompactReport, Compactor};
use tidemark_tsdb::drain::{self, QueueStats};
use tidemark_tsdb::flush::Origin;
use tidemark_tsdb::ingest::{self, Intake, Outcome, RequestTimes, Sink};
use tidemark_tsdb::plan::{self, Want};
use tidemark_tsdb::query::Query;
use tidemark_tsdb::stream::StreamRecord;
use tidemark_tsdb::{Consumer, FlushReport, Layout, Reader, SelectError, Selector, StoreError};
use tidemark_wire::{BatchBuilder, ErrorId, TimeBounds, envelope};

/// What a reader may remember: all that there is, or so little that it has to forget.
const CACHE_BYTES: [usize; 3] = [5_000, 30_000, 10_000_000];

/// How a task ended.
pub(crate) enum Done {
    Sent(Result<(), String>),
    Flushed {
        sandbox: Sandbox,
        shard: usize,
        range: Range<usize>,
        outcome: Result<FlushReport, Failed>,
    },
    Operated {
        /// The records that were stored, whatever came after.
        stored: BTreeSet<Place>,
        outcome: Result<(), String>,
    },
    Compacted(Result<Option<CompactReport>, String>),
    /// The statistics of the queue, and how many samples had been taken before and were waiting.
    Counted {
        before: (u64, u64),
        outcome: Result<Option<QueueStats>, String>,
    },
    Asked {
        warm: Warm,
        begun: u64,
        answer: Answer,
    },
    Told {
        warm: Warm,
        begun: u64,
        query: Box<Query>,
        /// Nothing when the query failed by a fault of the simulation.
        body: Option<Result<Vec<u8>, String>>,
    },
}

/// Why something did not succeed.
pub(crate) enum Failed {
    /// A fault of the simulation.
    Unavailable,
    /// One of the code.
    Broken(String),
}

fn failed(error: &StoreError) -> Failed {
    match error {
        StoreError::Unavailable { .. } => Failed::Unavailable,
        StoreError::Refused { .. } | StoreError::Corrupt { .. } => Failed::Broken(tidemark_tsdb::answer::chain(error)),
    }
}

/// Only what the simulation did not cause itself is an error.
fn tolerated<T>(outcome: Result<T, StoreError>) -> Result<Option<T>, String> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) => match failed(&error) {
            Failed::Unavailable => Ok(None),
            Failed::Broken(why) => Err(why),
        },
    }
}

fn clock(process: &Arc<Process>) -> Arc<dyn Fn() -> i64 + Send + Sync> {
    let process = Arc::clone(process);
    Arc::new(move || process.now_ms())
}

/// A consumer's process, with what it remembers.
pub(crate) struct Sandbox {
    pub(crate) process: Arc<Process>,
    consumer: Consumer<SimStore>,
}

/// One that asks the stream for the ranges of its shards, if there is one to ask: without old maps it need not.
pub(crate) fn consumer(process: &Arc<Process>, layout: Layout, ranges: Option<&Arc<SimStream>>) -> Sandbox {
    let store = Arc::new(SimStore::new(process));
    let mut consumer = Consumer::new(store, layout, Origin::Stream, clock(process));
    if let Some(stream) = ranges {
        consumer = consumer.with_ranges(Arc::new(StreamEnd {
            process: Arc::clone(process),
            stream: Arc::clone(stream),
            read: Arc::default(),
            replayed: None,
        }));
    }
    Sandbox {
        process: Arc::clone(process),
        consumer,
    }
}

/// An invocation of the consumer.
pub(crate) async fn flush(mut sandbox: Sandbox, shard: usize, range: Range<usize>, records: Vec<StreamRecord>) -> Done {
    let letters = SimStore::new(&sandbox.process);
    let flushed = sandbox
        .consumer
        .flush(&SimStream::shard_id(shard), &records, &letters)
        .await;
    Done::Flushed {
        sandbox,
        shard,
        range,
        outcome: flushed.map_err(|error| failed(&error)),
    }
}

/// An operator's `process-queue`, which runs out of time after so many steps, if at all, and may begin at an earlier time: then
/// it tells which records it read.
pub(crate) fn drain(
    process: &Arc<Process>,
    stream: &Arc<SimStream>,
    layout: Layout,
    from: Option<(i64, Arc<Mutex<BTreeSet<Place>>>)>,
    most: Option<usize>,
) -> impl Future<Output = Done> + 'static {
    let read = Arc::new(Mutex::new(ReadSoFar::default()));
    let end = StreamEnd {
        process: Arc::clone(process),
        stream: Arc::clone(stream),
        read: Arc::clone(&read),
        replayed: from.as_ref().map(|(_, replayed)| Arc::clone(replayed)),
    };
    let from_ms = from.map(|(from_ms, _)| from_ms);
    let store = Arc::new(SimStore::new(process));
    let letters = SimStore::new(process);
    let mut consumer = Consumer::new(store, layout, Origin::Operator, clock(process));
    let process = Arc::clone(process);
    async move {
        let steps = AtomicUsize::new(0);
        let (of, by) = (Arc::clone(&read), Arc::clone(&process));
        let out_of_time = move || {
            let out = most.is_some_and(|most| steps.fetch_add(1, Ordering::Relaxed) >= most);
            if out {
                let mut read = of.lock().unwrap();
                read.worked_off(&by);
                read.only_counts = true;
            }
            out
        };
        let outcome = tolerated(drain::drain(&end, &mut consumer, from_ms, &letters, out_of_time).await);
        let mut read = read.lock().unwrap();
        if matches!(outcome, Ok(Some(_))) {
            read.worked_off(&process);
        }
        Done::Operated {
            stored: std::mem::take(&mut read.before),
            outcome: outcome.map(drop),
        }
    }
}

/// The statistics of the queue.
pub(crate) fn count(
    process: &Arc<Process>,
    stream: &Arc<SimStream>,
    before: (u64, u64),
) -> impl Future<Output = Done> + 'static {
    let end = StreamEnd {
        process: Arc::clone(process),
        stream: Arc::clone(stream),
        read: Arc::default(),
        replayed: None,
    };
    let store = SimStore::new(process);
    async move {
        let outcome = tolerated(drain::queue_stats(&end, &store, || false).await);
        Done::Counted { before, outcome }
    }
}

/// An invocation of the compactor, which runs out of time after so many steps, if at all.
pub(crate) async fn compact(
    process: Arc<Process>,
    layout: Layout,
    first: u16,
    lease_ms: i64,
    most: Option<usize>,
) -> Done {
    let compactor = Compactor::new(Arc::new(SimStore::new(&process)), layout, lease_ms);
    let steps = AtomicUsize::new(0);
    let out_of_time = || most.is_some_and(|most| steps.fetch_add(1, Ordering::Relaxed) >= most);
    let now = || process.now_ms();
    Done::Compacted(match compactor.run(now, first, out_of_time).await {
        Ok(report) => Ok(Some(report)),
        Err(CompactError::NotBegun(error) | CompactError::Failed { source: error, .. }) => match failed(&error) {
            Failed::Unavailable => Ok(None),
            Failed::Broken(why) => Err(why),
        },
    })
}

/// A query's process, with what it remembers.
pub(crate) struct Warm {
    pub(crate) process: Arc<Process>,
    reader: Reader<SimStore>,
}

pub(crate) fn reader(process: &Arc<Process>, layout: Layout) -> Warm {
    let cache_bytes = process.sim.draw(|random| *random.pick(&CACHE_BYTES));
    Warm {
        process: Arc::clone(process),
        reader: Reader::new(Arc::new(SimStore::new(process)), layout, cache_bytes),
    }
}

/// What a query was answered.
pub(crate) struct Answer {
    /// The query, in words.
    pub(crate) what: String,
    pub(crate) metric: String,
    pub(crate) range: plan::Range,
    /// Nothing when the query failed by a fault of the simulation.
    pub(crate) found: Option<Result<Collected, String>>,
}

/// A question for a metric in a range.
pub(crate) struct Question {
    pub(crate) metric: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) want: Want,
    pub(crate) counter: bool,
}

/// A query, in tiers.
pub(crate) async fn ask(warm: Warm, question: Question) -> Done {
    let sim = Arc::clone(&warm.process.sim);
    let begun = sim.tick();
    let range = plan::Range {
        start_ms: question.start_ms,
        end_ms: question.end_ms,
        want: question.want,
        counter: question.counter,
        now_ms: warm.process.now_ms(),
    };
    let metric = question.metric;
    let selector = Selector {
        metric: metric.clone(),
        filter: LabelFilter::default(),
    };
    let what = format!("query for {metric} in {range:?}");
    warm.process.log(&what);
    let found = match collect(&warm.reader, &selector, &range).await {
        Ok(collected) => Some(Ok(collected)),
        Err(SelectError::Store(error)) => match failed(&error) {
            Failed::Unavailable => None,
            Failed::Broken(why) => Some(Err(why)),
        },
        Err(other) => Some(Err(other.to_string())),
    };
    let answer = Answer {
        what,
        metric,
        range,
        found,
    };
    Done::Asked { warm, begun, answer }
}

/// A query of the API, through the cache that all processes share.
pub(crate) async fn ask_api(warm: Warm, cache: Arc<MemoryAnswers>, parameters: Parameters, fresh: bool) -> Done {
    let sim = Arc::clone(&warm.process.sim);
    let begun = sim.tick();
    let now_ms = warm.process.now_ms();
    let query = parameters.query(now_ms);
    warm.process.log(&format!("query {parameters:?}"));
    let body = match answers::answer(&query, &warm.reader, &*cache, fresh, now_ms).await {
        Ok((body, found)) => {
            warm.process.log(&format!("cache: {}", found.as_str()));
            Some(Ok(body))
        }
        Err(error) if error.id == ErrorId::StoreUnavailable.as_str() => None,
        Err(error) => Some(Err(format!("{error:?}"))),
    };
    Done::Told {
        warm,
        begun,
        query: Box::new(query),
        body,
    }
}

async fn collect(
    reader: &Reader<SimStore>,
    selector: &Selector,
    range: &plan::Range,
) -> Result<Collected, SelectError> {
    let selection = reader.open(selector, range).await?;
    let mut collected = Collected::new(selection.labels(), selection.parts());
    selection.read(&mut collected).await?;
    Ok(collected)
}

pub(crate) fn producer(
    process: &Arc<Process>,
    stream: &Arc<SimStream>,
    may_be_stale: bool,
    arrived: Arc<Mutex<Vec<Place>>>,
) -> Producer {
    Producer {
        process: Arc::clone(process),
        stream: Arc::clone(stream),
        may_be_stale,
        taken: Arc::new(move |place| arrived.lock().unwrap().push(place)),
    }
}

/// A request, sent again until it is accepted or the client gives up.
pub(crate) async fn ingest(
    producer: Producer,
    layout: Layout,
    pushes: Vec<(String, Labels, Sample)>,
    json: bool,
) -> Done {
    let plain = pushes.iter().all(|(_, _, sample)| !sample.value.is_nan());
    debug_assert!(
        pushes
            .iter()
            .all(|(_, _, sample)| !is_stale_marker(sample.value) || !plain)
    );
    for _ in 0..3 {
        let outcome = if json && plain {
            as_json(&producer, layout, &pushes).await
        } else {
            as_batch(&producer, layout, &pushes).await
        };
        match outcome {
            Ok(true) => return Done::Sent(Ok(())),
            Ok(false) => {}
            Err(why) => return Done::Sent(Err(why)),
        }
    }
    Done::Sent(Ok(()))
}

async fn as_json(producer: &Producer, layout: Layout, pushes: &[(String, Labels, Sample)]) -> Result<bool, String> {
    let metrics = pushes.iter().map(|(metric, labels, sample)| {
        serde_json::json!({
            "name": metric,
            "labels": labels,
            "value": JsonF64(sample.value),
            "timestamp": sample.timestamp_ms as f64 / 1_000.0,
        })
    });
    let body = serde_json::json!({ "metrics": metrics.collect::<Vec<_>>() }).to_string();
    let intake = Intake {
        buckets: layout.buckets,
        retention_ms: layout.retention.raw_ms,
    };
    let times = RequestTimes {
        now_ms: producer.process.now_ms(),
        within: Duration::from_secs(1),
    };
    match ingest::accept(producer, &intake, body.as_bytes(), times).await {
        Ok(Outcome::Accepted(accepted)) if accepted.accepted == pushes.len() => Ok(true),
        Ok(other) => Err(format!("of {} samples not all were taken: {other:?}", pushes.len())),
        // The faults of the simulation are the only ones that there can be.
        Err(_) => Ok(false),
    }
}

async fn as_batch(producer: &Producer, layout: Layout, pushes: &[(String, Labels, Sample)]) -> Result<bool, String> {
    let now_ms = producer.process.now_ms();
    let bounds = TimeBounds {
        now_ms,
        oldest_ms: now_ms - layout.retention.raw_ms,
        newest_ms: now_ms + limits::MAX_FUTURE_MS,
    };
    let map = producer.shard_map().await;
    let records = {
        let mut builder = BatchBuilder::new(bounds);
        for (metric, labels, sample) in pushes {
            builder.push(metric, labels.iter(), Some(sample.timestamp_ms), sample.value);
        }
        let batch = builder.finish();
        if batch.samples().len() != pushes.len() {
            return Err(format!(
                "of {} samples not all were taken: {:?}",
                pushes.len(),
                batch.errors()
            ));
        }
        envelope::encode_records(
            &batch,
            layout.buckets,
            &|bucket| map.shard_of(bucket),
            map.shards(),
            now_ms,
        )
    };
    Ok(producer.put(records, Duration::from_secs(1)).await.is_ok())
}
