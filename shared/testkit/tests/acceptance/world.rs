//! The installation in one process, on a clock that the story moves: ingest, stream, consumer, store, evaluation, topic, queue and
//! delivery are the real code over stores in memory; only who receives is played.

use crate::language::{Moment, Series, State, Story};
use crate::parts::{Played, Queued, Shared};
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tidemark_model::{Bucket, Buckets, DAY_MS, Timestamp, WindowLength};
use tidemark_notify::MemoryNotifyStore;
use tidemark_notify::dispatch::{Arrival, Dispatcher, Next, Queue as _, rescue};
use tidemark_rules::history::{HistoryEntry, HistoryEvent, HistoryFilter};
use tidemark_rules::store::PageRequest;
use tidemark_rules::tick::{self, Shard, Which};
use tidemark_rules::{AlertStore as _, MemoryAlertStore};
use tidemark_tsdb::ingest::{self, Intake, Outcome, RequestTimes};
use tidemark_tsdb::memory::{MemoryStore, MemoryStream};
use tidemark_tsdb::select::Wanted;
use tidemark_tsdb::{
    Consumer, Layout, Origin, Reader, Retention, Select, SelectError, SelectedSeries, Selector, StoreError,
};

/// How often the queue hands out a message before it moves it to the dead letters by itself: `maxReceiveCount` of template.yaml.
const MOST_RECEIVES: u32 = 100;

/// After how long the queue hands out a message again whose taker has died: its visibility time-out.
const VISIBILITY_SECONDS: u64 = 360;

/// How many characters a time has in the timeline, without its milliseconds.
const TIME_WIDTH: usize = 7;

fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 7 * DAY_MS,
            minute_ms: 30 * DAY_MS,
            hour_ms: 365 * DAY_MS,
        },
        grace_ms: 3_600_000,
    }
}

/// The samples of a reader, unless they cannot be read.
struct Data<'a> {
    reader: &'a Reader<MemoryStore>,
    down: bool,
}

fn unreadable() -> SelectError {
    SelectError::Store(StoreError::Unavailable {
        operation: "read samples",
        source: None,
    })
}

impl Select for Data<'_> {
    async fn select(&self, selector: &Selector, from_ms: i64, to_ms: i64) -> Result<Vec<SelectedSeries>, SelectError> {
        if self.down {
            return Err(unreadable());
        }
        self.reader.select(selector, from_ms, to_ms).await
    }

    fn select_many<'a>(
        &'a self,
        wanted: &'a [Wanted],
        end_ms: i64,
    ) -> impl Stream<Item = Result<Vec<SelectedSeries>, SelectError>> + Send + 'a {
        if self.down {
            return stream::iter(wanted.iter().map(|_| Err(unreadable()))).left_stream();
        }
        self.reader.select_many(wanted, end_ms).right_stream()
    }

    fn bucket(&self, metric: &str) -> Bucket {
        self.reader.bucket(metric)
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) shared: Arc<Shared>,
    stream: MemoryStream,
    consumer: Consumer<MemoryStore>,
    stored: Arc<MemoryStore>,
    /// How many records of the stream the consumer has taken.
    consumed: usize,
    reader: Reader<MemoryStore>,
    pub(crate) alerts: MemoryAlertStore,
    pub(crate) notify: MemoryNotifyStore,
    arrivals: u64,
    pub(crate) runtime: tokio::runtime::Runtime,
}

/// Lets a story happen.
pub(crate) fn play(story: &Story) -> Played {
    let mut world = World::new(story);
    let end = story.end();
    let mut acts = story.acts.clone();
    acts.sort_by_key(|(at, _)| *at);
    let mut acts = acts.into_iter().peekable();
    let mut tick = Moment(0);
    loop {
        // What happens at a minute happens before its tick, and a tick before what the queue brings.
        let act = acts.peek().map(|(at, _)| *at);
        let message = world.next_message();
        let next = [act, Some(tick), message].into_iter().flatten().min().unwrap_or(tick);
        if next > end {
            break;
        }
        world.shared.now.store(next.0, Ordering::Relaxed);
        world.stream.set_now(next.time().0);
        if act == Some(next) {
            let (_, act) = acts.next().unwrap();
            world.act(act);
        } else if tick == next {
            world.scheduled_tick();
            tick = Moment(tick.0 + 60_000);
        } else {
            world.deliver();
        }
    }
    world.finish()
}

impl World {
    fn new(story: &Story) -> Self {
        let shared = Arc::new(Shared::new(story.states.clone()));
        let stored = Arc::new(MemoryStore::default());
        let clock = Arc::clone(&shared);
        let clock = Arc::new(move || clock.now().time().0);
        Self {
            stream: MemoryStream::new(layout().buckets, 1, Moment(0).time().0),
            consumer: Consumer::new(Arc::clone(&stored), layout(), Origin::Stream, clock),
            reader: Reader::new(Arc::clone(&stored), layout(), 1_000_000),
            stored,
            consumed: 0,
            alerts: MemoryAlertStore::new(),
            notify: MemoryNotifyStore::new(),
            arrivals: 0,
            runtime: tokio::runtime::Builder::new_current_thread().build().unwrap(),
            shared,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.now().time()
    }

    fn next_message(&self) -> Option<Moment> {
        let queue = self.shared.queue.lock().unwrap();
        let first = queue.iter().map(|message| message.visible).min()?;
        // While nothing runs, messages wait.
        let waits = self
            .shared
            .states
            .iter()
            .filter(|(_, state)| matches!(state, State::Outage));
        let mut at = first.max(self.shared.now());
        for (span, _) in waits {
            if span.holds(at) {
                at = Moment(span.to.0 + 1);
            }
        }
        Some(at)
    }

    pub(crate) fn push(&mut self, metric: &str, series: &Series, value: f64) {
        let now_ms = self.now().0;
        let sample = json!({"name": metric, "labels": series, "timestamp": now_ms as f64 / 1_000.0, "value": value});
        let body = json!({"metrics": [sample]}).to_string();
        let intake = Intake {
            buckets: layout().buckets,
            retention_ms: layout().retention.raw_ms,
        };
        let times = RequestTimes {
            now_ms,
            within: Duration::from_secs(1),
        };
        let taken = self
            .runtime
            .block_on(ingest::accept(&self.stream, &intake, body.as_bytes(), times));
        let Ok(Outcome::Accepted(accepted)) = taken else {
            panic!("a sample was not taken: {taken:?}");
        };
        assert_eq!((accepted.accepted, accepted.rejected), (1, 0), "{accepted:?}");
        self.consume();
    }

    /// Stores what is in the stream, unless nothing runs.
    fn consume(&mut self) {
        if self.shared.is(|state| matches!(state, State::Outage)) {
            return;
        }
        let records = self.stream.records(0);
        let shard = MemoryStream::shard_id(0);
        let flushed = self.consumer.flush(&shard, &records[self.consumed..], &*self.stored);
        self.runtime.block_on(flushed).unwrap();
        self.consumed = records.len();
    }

    fn scheduled_tick(&mut self) {
        if self.shared.is(|state| matches!(state, State::Outage | State::NoTicks)) {
            return;
        }
        // After an outage the consumer is there before the next tick.
        self.consume();
        let due = Which::Due { every_ms: 60_000 };
        self.tick(due);
        if self.shared.is(|state| matches!(state, State::TwoTicks)) {
            self.tick(due);
        }
    }

    pub(crate) fn tick(&self, which: Which) {
        let ticked = async {
            tokio::select! {
                biased;
                () = self.evaluate(which) => {}
                () = self.shared.death.notified() => self.shared.log("the evaluation died"),
            }
        };
        self.runtime.block_on(ticked);
    }

    async fn evaluate(&self, which: Which) {
        let data = Data {
            reader: &self.reader,
            down: self.shared.is(|state| matches!(state, State::DataDown)),
        };
        let world = tick::World {
            alerts: &self.alerts,
            data: &data,
            publisher: &*self.shared,
            now: self.shared.evaluation_time(),
            may_go_on: &|| true,
        };
        let summary = tick::evaluate(&world, Shard::WHOLE, which).await.unwrap();
        if !summary.is_complete() {
            let (failed, unpublished) = (summary.rules_failed, summary.unpublished);
            self.shared.log(&format!(
                "a tick: {failed} rules failed, {unpublished} transitions were not published"
            ));
        }
        rescue(&self.notify, &*self.shared, self.now()).await.unwrap();
    }

    /// The queue hands out the message that has been visible for longest.
    fn deliver(&mut self) {
        let now = self.shared.now();
        let message = {
            let mut queue = self.shared.queue.lock().unwrap();
            let first = (0..queue.len()).min_by_key(|at| queue[*at].visible).expect("a message");
            queue.remove(first)
        };
        self.arrivals += 1;
        let arrival = Arrival {
            receive_count: message.receives + 1,
            holder: format!("arrival {}", self.arrivals),
        };
        let clock = || self.now();
        let dispatcher = Dispatcher {
            alerts: &self.alerts,
            store: &self.notify,
            sender: &*self.shared,
            queue: &*self.shared,
            clock: &clock,
            jitter: &|| 0.5,
        };
        let handled = async {
            tokio::select! {
                biased;
                next = dispatcher.handle(&message.body, &arrival) => next,
                () = self.shared.death.notified() => {
                    self.shared.log("notify died");
                    // The visibility time-out of template.yaml.
                    Next::RetryIn(VISIBILITY_SECONDS)
                }
            }
        };
        let next = self.runtime.block_on(handled);
        match next {
            Next::Done => {}
            Next::RetryIn(_) if arrival.receive_count >= MOST_RECEIVES => {
                self.bury(&message.body, "received too often")
            }
            Next::RetryIn(seconds) => {
                let visible = Moment(now.0 + seconds as i64 * 1_000);
                self.shared.queue.lock().unwrap().push(Queued {
                    visible,
                    receives: arrival.receive_count,
                    ..message
                });
            }
            Next::DeadLetter(reason) => self.bury(&message.body, &reason),
        }
    }

    fn bury(&self, body: &str, reason: &str) {
        self.runtime.block_on(self.shared.dead_letter(body, reason)).unwrap();
    }
    /// All that is known at the end.
    fn finish(self) -> Played {
        let everything = PageRequest {
            limit: usize::MAX,
            after: None,
        };
        let any = HistoryFilter::default();
        let read = self.alerts.list_history(&any, self.now(), &everything);
        let mut history = self.runtime.block_on(read).unwrap().items;
        history.reverse();
        let mut played = std::mem::take(&mut *self.shared.played.lock().unwrap());
        let told = history.iter().filter_map(line);
        let lines: Vec<(Moment, String)> = told.collect();
        // Both are ordered by time; the times stand at the beginning of the lines, all as long.
        played
            .timeline
            .extend(lines.into_iter().map(|(at, line)| format!("{at}  {line}")));
        played
            .timeline
            .sort_by(|one, other| one[..TIME_WIDTH].cmp(&other[..TIME_WIDTH]));
        played.history = history;
        played
    }
}

/// An entry of the history in the timeline. Attempts are there already.
fn line(entry: &HistoryEntry) -> Option<(Moment, String)> {
    let what = match &entry.event {
        HistoryEvent::Transition {
            state, reason, value, ..
        } => format!("{} {reason:?} at {value}", state.as_str()),
        HistoryEvent::Suppressed { channel, reason } => format!("not told to {channel}: {reason}"),
        HistoryEvent::Notification { .. } => return None,
    };
    let labels = entry.labels.iter().map(|(name, value)| format!("{name}={value}"));
    let series = labels.collect::<Vec<_>>().join(",");
    Some((entry.at.into(), format!("    {}({series}) {what}", entry.rule_name)))
}
