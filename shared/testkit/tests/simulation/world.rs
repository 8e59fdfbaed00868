//! The scheduler: starts processes, polls their tasks in an order of chance, lets time pass, and checks every answer.

use crate::model::Model;
use crate::processes::{self, Answer, Done, Sandbox, Warm};
use crate::sim::{Faults, Process, Sim};
use crate::stream::{Place, SimStream};
use crate::tiers;
use crate::values::Parameters;
use crate::workload::Workload;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tidemark_model::{Buckets, DAY_MS, Period, WindowLength};
use tidemark_tsdb::answers::MemoryAnswers;
use tidemark_tsdb::compact::CompactReport;
use tidemark_tsdb::plan::Want;
use tidemark_tsdb::{FlushReport, Layout, Retention};

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// How finely queries want their answers.
pub(crate) const WANTS: [Want; 5] = [
    Want::Samples,
    Want::Finest,
    Want::Step(60_000),
    Want::Step(300_000),
    Want::Step(HOUR_MS),
];

/// No more than this passes from one settling to the next: what ties flushes and compaction to the life of segments, see
/// the model.
const MOST_UNSETTLED_MS: i64 = 20 * HOUR_MS;

/// What a task is about, as far as the scheduler cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ingest,
    /// The consumer of a shard.
    Consume(usize),
    Operate,
    Compact,
    Ask,
}

pub(crate) struct Task {
    process: Arc<Process>,
    kind: Kind,
    future: Pin<Box<dyn Future<Output = Done>>>,
    /// When Lambda ends it.
    deadline_ms: i64,
    /// How often it gets its turn.
    weight: usize,
}

/// The event source mapping of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mapping {
    /// The place of the first record that was not acknowledged.
    pub(crate) next: usize,
    pub(crate) running: bool,
    /// How many records the next batch may have, after one that failed.
    pub(crate) most: Option<usize>,
}

/// What a run did, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) crashes: u64,
    pub(crate) timeouts: u64,
    pub(crate) flushes: u64,
    pub(crate) failed_flushes: u64,
    pub(crate) records: u64,
    pub(crate) queries: u64,
    pub(crate) results_checked: u64,
    pub(crate) passes: u64,
    pub(crate) blocks_checked: u64,
    pub(crate) settled: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.steps += more.steps;
        self.crashes += more.crashes;
        self.timeouts += more.timeouts;
        self.flushes += more.flushes;
        self.failed_flushes += more.failed_flushes;
        self.records += more.records;
        self.queries += more.queries;
        self.results_checked += more.results_checked;
        self.passes += more.passes;
        self.blocks_checked += more.blocks_checked;
        self.settled += more.settled;
    }
}

/// See the module.
pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) layout: Layout,
    pub(crate) stream: Arc<SimStream>,
    pub(crate) model: Model,
    pub(crate) tally: Tally,
    pub(crate) workload: Workload,
    pub(crate) tasks: Vec<Task>,
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) warm: Vec<Warm>,
    pub(crate) arrived: Arc<Mutex<Vec<Place>>>,
    pub(crate) processes: usize,
    pub(crate) settled_ms: i64,
    /// No sample is older than this.
    pub(crate) first_ms: i64,
    /// Whether the last compactor found anything to do.
    pub(crate) work_left: bool,
    /// Answers of all query processes, and what was asked of late.
    pub(crate) cache: Arc<MemoryAnswers>,
    pub(crate) asked: Vec<Parameters>,
    /// How likely a reshard is, when one may be.
    pub(crate) reshards: f64,
    /// Whether producers may use old maps of the shards, and so bring one bucket's samples to two shards after a split.
    pub(crate) stale_maps: bool,
    /// Whether operators store again what is stored. Where none do, less may be answered.
    pub(crate) replays: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        // Some begin in the middle of a period, some a day or hours before its end.
        let base = Period(680).end_ms();
        let sim = Arc::new(Sim::new(seed, base));
        let now_ms = sim.draw(|random| match random.below(3) {
            0 => base + random.between(0, 20 * DAY_MS),
            1 => base - random.between(0, 2 * DAY_MS),
            _ => base - random.between(0, 6 * HOUR_MS),
        });
        sim.advance(now_ms - base);
        let layout = sim.draw(|random| {
            let raw_ms = random.between(1, 2) * DAY_MS;
            // A day is rolled within two days of its beginning, and must be told from something until then.
            let minute_ms = random.between(3, 4) * DAY_MS;
            Layout {
                buckets: Buckets::new(random.between(1, 4) as u16).unwrap(),
                window: WindowLength::from_seconds(*random.pick(&[3_600, 3_600, 7_200, 14_400])).unwrap(),
                retention: Retention {
                    raw_ms,
                    minute_ms,
                    hour_ms: minute_ms + random.between(0, 5) * DAY_MS,
                },
                grace_ms: *random.pick(&[300_000, 900_000, 3_600_000]),
            }
        });
        let shards = sim.draw(|random| random.between(1, 3) as usize);
        let workload = sim.draw(|random| Workload::new(random, now_ms, layout.retention.raw_ms));
        sim.log(&format!(
            "{layout:?}, {shards} shards, {} series",
            workload.sources.len()
        ));
        let mut world = Self {
            stream: Arc::new(SimStream::new(layout.buckets, shards)),
            model: Model::new(&workload),
            layout,
            tally: Tally::default(),
            workload,
            tasks: Vec::new(),
            mappings: Vec::new(),
            sandboxes: Vec::new(),
            warm: Vec::new(),
            arrived: Arc::default(),
            processes: 0,
            settled_ms: now_ms,
            first_ms: now_ms - layout.retention.raw_ms - 60_000,
            work_left: true,
            cache: Arc::default(),
            asked: Vec::new(),
            reshards: sim.draw(|random| *random.pick(&[0.0, 0.2, 1.0])),
            stale_maps: seed.is_multiple_of(3),
            replays: seed.is_multiple_of(2),
            sim,
        };
        world.set_weather();
        world
    }

    /// Runs some steps, then settles and compares everything.
    pub(crate) fn run(&mut self, steps: u64) -> Result<(), String> {
        // Or the first compactor comes hours after the first samples.
        if self.chance(0.5) {
            self.sim.set_faults(Faults::default());
            self.compact_to_the_end()?;
            self.set_weather();
        }
        let mut settle_at = self.next_settling();
        for _ in 0..steps {
            self.tally.steps += 1;
            self.step()?;
            if self.tally.steps >= settle_at {
                self.settle()?;
                self.jump()?;
                self.set_weather();
                settle_at = self.next_settling();
            }
        }
        self.settle()
    }

    fn next_settling(&self) -> u64 {
        self.tally.steps + self.sim.draw(|random| random.magnitude(100, 4_000)) as u64
    }

    /// Calm or stormy, until the next change.
    fn set_weather(&mut self) {
        let faults = self.sim.draw(|random| {
            let mut rate = |most: f64| if random.chance(0.5) { 0.0 } else { random.unit() * most };
            Faults {
                fail: rate(0.05),
                lose: rate(0.05),
                crash: rate(0.02),
                straggle: rate(0.02),
                delay: rate(0.05),
            }
        });
        self.sim.set_faults(faults);
        self.sim.log(&format!("{faults:?}"));
    }

    pub(crate) fn draw(&self, below: usize) -> usize {
        self.sim.draw(|random| random.below(below))
    }

    pub(crate) fn chance(&self, probability: f64) -> bool {
        self.sim.draw(|random| random.chance(probability))
    }

    fn count(&self, kind: Kind) -> usize {
        self.tasks.iter().filter(|task| task.kind == kind).count()
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        match self.draw(1_000) {
            0..=29 if self.count(Kind::Ingest) < 3 => self.push(),
            30..=79 => self.deliver(),
            80..=85 if self.count(Kind::Operate) < 2 => self.operate(),
            86..=93 if self.count(Kind::Compact) < 3 => self.compact(),
            94..=109 if self.count(Kind::Ask) < 3 => self.ask(),
            110..=129 => self.sim.advance(self.sim.draw(|random| random.magnitude(1, 60_000))),
            130..=131 => self.pass_time(),
            132 => self.expire(),
            133 if self.chance(self.reshards) => self.stream.reshard(&self.sim),
            134 if self.chance(0.3) => self.set_weather(),
            135 if self.chance(0.3) => self.poison(),
            136..=138 => self.count_queue(),
            _ => return self.poll(),
        }
        Ok(())
    }

    /// Minutes or hours pass.
    fn pass_time(&mut self) {
        let room = (self.settled_ms + MOST_UNSETTLED_MS - self.sim.now_ms()).max(1);
        let by_ms = self.sim.draw(|random| random.magnitude(60_000, 8 * HOUR_MS)).min(room);
        self.sim.advance(by_ms);
    }

    /// Hours pass, when nothing was left undone; or days, in which only compactors work.
    fn jump(&mut self) -> Result<(), String> {
        let by_ms = self.sim.draw(|random| random.magnitude(60_000, MOST_UNSETTLED_MS));
        self.sim.log(&format!("{by_ms} ms pass"));
        self.sim.advance(by_ms);
        if self.chance(0.2) {
            for _ in 0..self.draw(7) {
                self.compact_to_the_end()?;
                self.settled_ms = self.sim.now_ms();
                self.sim.advance(MOST_UNSETTLED_MS);
            }
        }
        Ok(())
    }

    fn expire(&mut self) {
        let now_ms = self.sim.now_ms();
        self.sim.log("what has expired is deleted");
        self.sim.store.expire(now_ms / 1_000);
    }

    pub(crate) fn process(&mut self, name: &str) -> Arc<Process> {
        self.processes += 1;
        Process::new(&self.sim, format!("{name}-{}", self.processes))
    }

    pub(crate) fn start(
        &mut self,
        process: &Arc<Process>,
        kind: Kind,
        limit_ms: i64,
        future: impl Future<Output = Done> + 'static,
    ) {
        process.log(&format!("starts: {kind:?}"));
        self.tasks.push(Task {
            process: Arc::clone(process),
            kind,
            future: Box::pin(future),
            deadline_ms: self.sim.now_ms() + limit_ms,
            weight: self.sim.draw(|random| random.magnitude(1, 20)) as usize,
        });
    }

    pub(crate) fn take_arrived(&mut self) {
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        for place in arrived {
            self.tally.records += 1;
            self.sim.tick();
            self.model.taken(&self.stream, place);
        }
    }

    /// One task gets its turn.
    pub(crate) fn poll(&mut self) -> Result<(), String> {
        let total: usize = self.tasks.iter().map(|task| task.weight).sum();
        if total == 0 {
            self.deliver();
            return Ok(());
        }
        let mut at = self.draw(total);
        let index = self.tasks.iter().position(|task| {
            let found = at < task.weight;
            at = at.saturating_sub(task.weight);
            found
        });
        let index = index.unwrap();
        self.sim.advance(self.sim.draw(|random| random.between(0, 3)));
        self.poll_task(index)
    }

    fn poll_task(&mut self, index: usize) -> Result<(), String> {
        let task = &mut self.tasks[index];
        if self.sim.now_ms() > task.deadline_ms {
            self.tally.timeouts += 1;
            task.process.log("runs out of time");
            let task = self.tasks.swap_remove(index);
            self.ended(task.kind);
            return Ok(());
        }
        let polled = task.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let crashed = task.process.has_crashed();
        self.take_arrived();
        if crashed {
            self.tally.crashes += 1;
            let task = self.tasks.swap_remove(index);
            self.ended(task.kind);
            return Ok(());
        }
        let Poll::Ready(done) = polled else { return Ok(()) };
        let task = self.tasks.swap_remove(index);
        self.done(&task, done)
    }

    /// A task came to no end of its own.
    fn ended(&mut self, kind: Kind) {
        if let Kind::Consume(shard) = kind {
            let mapping = &mut self.mappings[shard];
            mapping.running = false;
        }
    }

    fn done(&mut self, task: &Task, done: Done) -> Result<(), String> {
        self.ended(task.kind);
        let by = |why: String| format!("{}: {why}", task.process.name);
        match done {
            Done::Sent(outcome) => outcome.map_err(by),
            Done::Flushed {
                sandbox,
                shard,
                range,
                outcome,
            } => {
                self.sandboxes.push(sandbox);
                self.flushed(task, shard, range, outcome).map_err(by)
            }
            Done::Operated { stored, outcome } => {
                task.process
                    .log(&format!("has stored {} records: {outcome:?}", stored.len()));
                self.stored(stored);
                outcome.map_err(by)
            }
            Done::Compacted(outcome) => {
                task.process.log(&format!("has compacted: {outcome:?}"));
                self.tally.passes += 1;
                let report = outcome.map_err(by)?;
                self.work_left = report.is_none_or(|report| report != CompactReport::default());
                Ok(())
            }
            Done::Counted { before, outcome } => {
                let stats = outcome.map_err(by)?;
                stats.map_or(Ok(()), |stats| self.counted(before, &stats)).map_err(by)
            }
            Done::Asked { warm, begun, answer } => {
                let checked = self.check(begun, &answer);
                self.answered(task, warm, checked)
                    .map_err(|why| by(format!("{}: {why}", answer.what)))
            }
            Done::Told {
                warm,
                begun,
                query,
                body,
            } => {
                let checked = match body {
                    None => Ok(0),
                    Some(body) => body.and_then(|body| self.model.check_values(&query, begun, &body)),
                };
                self.answered(task, warm, checked)
                    .map_err(|why| by(format!("{query:?}: {why}")))
            }
        }
    }

    /// A batch of the event source mapping has come back.
    fn flushed(
        &mut self,
        task: &Task,
        shard: usize,
        range: Range<usize>,
        outcome: Result<FlushReport, processes::Failed>,
    ) -> Result<(), String> {
        let mapping = &mut self.mappings[shard];
        match outcome {
            Ok(report) => {
                task.process
                    .log(&format!("has flushed {range:?} of shard {shard}: {report:?}"));
                mapping.next = range.end;
                mapping.most = None;
                self.tally.flushes += 1;
                self.stored(range.map(|at| Place { shard, at }));
                Ok(())
            }
            Err(processes::Failed::Unavailable) => {
                task.process.log("has failed");
                let halve = self.sim.draw(|random| random.chance(0.5));
                mapping.most = halve.then_some((range.len() / 2).max(1));
                self.tally.failed_flushes += 1;
                Ok(())
            }
            Err(processes::Failed::Broken(why)) => Err(why),
        }
    }

    fn stored(&mut self, places: impl IntoIterator<Item = Place>) {
        let tick = self.sim.tick();
        for place in places {
            self.model.stored(place, tick);
        }
    }

    /// A query was answered; its process stays warm.
    fn answered(&mut self, task: &Task, warm: Warm, checked: Result<usize, String>) -> Result<(), String> {
        let checked = checked?;
        task.process.log(&format!("{checked} results are right"));
        self.tally.queries += 1;
        self.tally.results_checked += checked as u64;
        self.warm.push(warm);
        if self.warm.len() > 4 {
            self.warm.remove(0);
        }
        Ok(())
    }

    fn check(&self, begun: u64, answer: &Answer) -> Result<usize, String> {
        match &answer.found {
            None => Ok(0),
            Some(Err(why)) => Err(why.clone()),
            Some(Ok(collected)) => {
                tiers::check_parts(&collected.parts, &answer.range, &self.layout, self.first_ms)?;
                self.model.check_tiers(&answer.metric, begun, collected)
            }
        }
    }
}
