//! The scheduler: starts processes, polls their tasks in an order of chance, lets time pass, and checks every answer.

use crate::blocks;
use crate::model::Model;
use crate::processes::{self, Answer, Done, Question, Sandbox, Warm};
use crate::sim::{self, Faults, Process, Sim};
use crate::stream::{Place, SimStream};
use crate::tiers;
use crate::workload::Workload;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use tidemark_model::{Buckets, DAY_MS, Period, WindowLength};
use tidemark_tsdb::compact::CompactReport;
use tidemark_tsdb::plan::Want;
use tidemark_tsdb::{Layout, Retention, Store};

const HOUR_MS: i64 = 3_600_000;

/// How finely queries want their answers.
const WANTS: [Want; 5] = [
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

struct Task {
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
struct Mapping {
    /// The place of the first record that was not acknowledged.
    next: usize,
    running: bool,
    /// How many records the next batch may have, after one that failed.
    most: Option<usize>,
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
    pub(crate) samples_checked: u64,
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
        self.samples_checked += more.samples_checked;
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
    workload: Workload,
    tasks: Vec<Task>,
    mappings: Vec<Mapping>,
    sandboxes: Vec<Sandbox>,
    warm: Vec<Warm>,
    arrived: Arc<Mutex<Vec<Place>>>,
    processes: usize,
    settled_ms: i64,
    /// No sample is older than this.
    first_ms: i64,
    /// Whether the last compactor found anything to do.
    work_left: bool,
    /// Whether producers may use old maps of the shards.
    stale_maps: bool,
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
        let layout = sim.draw(|random| Layout {
            buckets: Buckets::new(random.between(1, 4) as u16).unwrap(),
            window: WindowLength::from_seconds(*random.pick(&[3_600, 3_600, 7_200, 14_400])).unwrap(),
            retention: Retention {
                raw_ms: random.between(1, 2) * DAY_MS,
                minute_ms: 4 * DAY_MS,
                hour_ms: 10 * DAY_MS,
            },
            grace_ms: *random.pick(&[300_000, 900_000, 3_600_000]),
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
            stale_maps: sim.draw(|random| random.chance(0.3)),
            sim,
        };
        world.set_weather();
        world
    }

    /// Runs some steps, then settles and compares everything.
    pub(crate) fn run(&mut self, steps: u64) -> Result<(), String> {
        let mut settle_at = self.next_settling();
        for _ in 0..steps {
            self.tally.steps += 1;
            self.step()?;
            if self.tally.steps >= settle_at {
                self.settle()?;
                self.jump();
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

    fn draw(&self, below: usize) -> usize {
        self.sim.draw(|random| random.below(below))
    }

    fn chance(&self, probability: f64) -> bool {
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
            133 if self.chance(0.2) => self.stream.reshard(&self.sim),
            134 if self.chance(0.3) => self.set_weather(),
            135 if self.chance(0.3) => self.poison(),
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

    /// Hours pass, or most of a day, when nothing was left undone.
    fn jump(&mut self) {
        let by_ms = self.sim.draw(|random| random.magnitude(60_000, MOST_UNSETTLED_MS));
        self.sim.log(&format!("{by_ms} ms pass"));
        self.sim.advance(by_ms);
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

    fn start(
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

    fn push(&mut self) {
        let process = self.process("ingest");
        let now_ms = process.now_ms();
        let workload = &mut self.workload;
        let pushes = self.sim.draw(|random| workload.request(random, now_ms));
        if pushes.is_empty() {
            return;
        }
        let arrived = Arc::clone(&self.arrived);
        let producer = processes::producer(&process, &self.stream, self.stale_maps, arrived);
        let json = self.chance(0.2);
        let pushes = pushes.into_iter().map(|(at, sample)| {
            let source = &self.workload.sources[at];
            (source.metric.clone(), source.labels.clone(), sample)
        });
        let future = processes::ingest(producer, self.layout, pushes.collect(), json);
        self.start(&process, Kind::Ingest, 10_000, future);
    }

    /// A record that is no envelope.
    fn poison(&mut self) {
        let (key, length) = self
            .sim
            .draw(|random| (u128::from(random.next()) << 64, random.below(30)));
        let data = (0..length).map(|at| (at * 37) as u8).collect();
        let place = self.stream.append(&self.sim, key, data);
        self.arrived.lock().unwrap().push(place);
        self.take_arrived();
    }

    fn take_arrived(&mut self) {
        let arrived = std::mem::take(&mut *self.arrived.lock().unwrap());
        for place in arrived {
            self.tally.records += 1;
            self.sim.tick();
            self.model.taken(&self.stream, place);
        }
    }

    /// The event source mapping delivers a batch of a shard.
    fn deliver(&mut self) {
        let shards = self.stream.look(<[_]>::len);
        self.mappings.resize(shards, Mapping::default());
        let shard = self.draw(shards);
        self.deliver_of(shard);
    }

    fn deliver_of(&mut self, shard: usize) {
        let mapping = self.mappings[shard];
        let next = |shard: usize| self.mappings[shard].next;
        let ready = self.stream.look(|shards| shards[shard].parents.clone());
        let ready = ready.iter().all(|parent| self.stream.is_finished(*parent, &next));
        let waiting = self.stream.look(|shards| shards[shard].records.len()) - mapping.next;
        if mapping.running || !ready || waiting == 0 {
            return;
        }
        let most = mapping.most.unwrap_or(usize::MAX).min(waiting);
        let count = self.sim.draw(|random| random.magnitude(1, 12)) as usize;
        let range = mapping.next..mapping.next + count.min(most);
        self.mappings[shard].running = true;
        let sandbox = if self.sandboxes.is_empty() || self.chance(0.1) {
            let process = self.process("consume");
            processes::consumer(&process, self.layout)
        } else {
            let at = self.draw(self.sandboxes.len());
            self.sandboxes.swap_remove(at)
        };
        let process = Arc::clone(&sandbox.process);
        process.log(&format!("is given records {range:?} of shard {shard}"));
        let records = self.stream.look(|shards| {
            let records = &shards[shard].records[range.clone()];
            records.iter().map(|taken| taken.record.clone()).collect::<Vec<_>>()
        });
        self.start(
            &process,
            Kind::Consume(shard),
            60_000,
            processes::flush(sandbox, shard, range, records),
        );
    }

    fn operate(&mut self) {
        let process = self.process("operator");
        let hurry = self.chance(0.3);
        let steps = self.draw(8);
        let back_ms = self.sim.draw(|random| random.magnitude(1, DAY_MS));
        let from_ms = self.chance(0.5).then_some(self.sim.now_ms() - back_ms);
        process.log(&format!("stores what waits, from {from_ms:?}"));
        let future = processes::drain(&process, &self.stream, self.layout, from_ms, hurry.then_some(steps));
        self.start(&process, Kind::Operate, 300_000, future);
    }

    fn compact(&mut self) {
        let process = self.process("compact");
        let hurry = self.chance(0.2);
        let steps = self.draw(30);
        let first = self.draw(usize::from(self.layout.buckets.count())) as u16;
        // Some leave no lease behind that is worth the name, so that passes overlap.
        let lease_ms = self.sim.draw(|random| random.magnitude(1, 300_000));
        let future = processes::compact(
            Arc::clone(&process),
            self.layout,
            first,
            lease_ms,
            hurry.then_some(steps),
        );
        self.start(&process, Kind::Compact, 300_000, future);
    }

    /// A query, by a process that is warm or not.
    fn ask(&mut self) {
        let warm = if self.warm.is_empty() || self.chance(0.2) {
            let process = self.process("query");
            processes::reader(&process, self.layout)
        } else {
            let at = self.draw(self.warm.len());
            self.warm.swap_remove(at)
        };
        let metric = self.sim.draw(|random| random.pick(&self.workload.metrics).clone());
        let question = self.question(metric);
        let process = Arc::clone(&warm.process);
        self.start(&process, Kind::Ask, 30_000, processes::ask(warm, question));
    }

    /// A question for some range, most often a recent one.
    fn question(&self, metric: String) -> Question {
        let now_ms = self.sim.now_ms();
        let longest_ms = self.layout.retention.longest_ms() + DAY_MS;
        self.sim.draw(|random| {
            let mut end_ms = now_ms + 600_000 - random.magnitude(1, longest_ms);
            let mut start_ms = end_ms - random.magnitude(1, longest_ms);
            if random.chance(0.5) {
                start_ms -= start_ms.rem_euclid(HOUR_MS);
                end_ms -= end_ms.rem_euclid(HOUR_MS) + random.between(0, 1);
            }
            Question {
                metric,
                start_ms,
                end_ms: end_ms.max(start_ms),
                want: *random.pick(&WANTS),
                counter: random.chance(0.5),
            }
        })
    }

    /// One task gets its turn.
    fn poll(&mut self) -> Result<(), String> {
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
        match done {
            Done::Sent(outcome) => outcome.map_err(|why| format!("{}: {why}", task.process.name)),
            Done::Flushed {
                sandbox,
                shard,
                range,
                outcome,
            } => {
                self.sandboxes.push(sandbox);
                let mapping = &mut self.mappings[shard];
                match outcome {
                    Ok(report) => {
                        task.process
                            .log(&format!("has flushed {range:?} of shard {shard}: {report:?}"));
                        mapping.next = range.end;
                        mapping.most = None;
                        self.tally.flushes += 1;
                        let tick = self.sim.tick();
                        for at in range {
                            self.model.stored(Place { shard, at }, tick);
                        }
                    }
                    Err(processes::Failed::Unavailable) => {
                        self.tally.failed_flushes += 1;
                        task.process.log("has failed");
                        mapping.most = self
                            .sim
                            .draw(|random| random.chance(0.5))
                            .then_some((range.len() / 2).max(1));
                    }
                    Err(processes::Failed::Broken(why)) => return Err(format!("{}: {why}", task.process.name)),
                }
                Ok(())
            }
            Done::Operated { stored, outcome } => {
                task.process
                    .log(&format!("has stored {} records: {outcome:?}", stored.len()));
                let tick = self.sim.tick();
                for place in stored {
                    self.model.stored(place, tick);
                }
                outcome
            }
            Done::Compacted(outcome) => {
                task.process.log(&format!("has compacted: {outcome:?}"));
                self.tally.passes += 1;
                let report = outcome?;
                self.work_left = report.is_none_or(|report| report != CompactReport::default());
                Ok(())
            }
            Done::Asked { warm, begun, answer } => {
                self.tally.queries += 1;
                let checked = self
                    .check(begun, &answer)
                    .map_err(|why| format!("{} {}: {why}", task.process.name, answer.what))?;
                task.process
                    .log(&format!("{}: {checked} samples are right", answer.what));
                self.tally.samples_checked += checked as u64;
                self.warm.push(warm);
                if self.warm.len() > 4 {
                    self.warm.remove(0);
                }
                Ok(())
            }
        }
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

    /// Everything comes to its end, without faults: then nothing may be left undone, and everything must be equal.
    fn settle(&mut self) -> Result<(), String> {
        self.sim.set_faults(Faults::default());
        self.sim.log("settles");
        loop {
            while !self.tasks.is_empty() {
                self.poll()?;
            }
            self.mappings.resize(self.stream.look(<[_]>::len), Mapping::default());
            for shard in 0..self.mappings.len() {
                self.deliver_of(shard);
            }
            if self.tasks.is_empty() {
                break;
            }
        }
        self.sim.land_all();
        self.settled_ms = self.sim.now_ms();
        self.tally.settled += 1;
        self.compact_to_the_end()?;
        self.check_everything()?;
        let oldest_ms = self.sim.now_ms() - self.layout.retention.longest_ms() - 3 * DAY_MS;
        self.model.forget_before(oldest_ms);
        Ok(())
    }

    fn run_all(&mut self) -> Result<(), String> {
        while !self.tasks.is_empty() {
            self.poll()?;
        }
        Ok(())
    }

    fn compact_to_the_end(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            // Leases of passes that died run out.
            self.sim.advance(400_000);
            let process = self.process("compact");
            let future = processes::compact(Arc::clone(&process), self.layout, 0, 300_000, None);
            self.start(&process, Kind::Compact, DAY_MS, future);
            self.run_all()?;
            if !self.work_left {
                return self.check_progress();
            }
        }
        Err("compaction comes to no end".to_owned())
    }

    /// Every bucket is compacted as far as it can be.
    fn check_progress(&self) -> Result<(), String> {
        for bucket in self.layout.buckets.all() {
            let progress = sim::finish(Box::pin(self.sim.store.progress(bucket))).map_err(|error| error.to_string())?;
            if !progress.dirty.is_empty() {
                return Err(format!(
                    "bucket {bucket} is dirty after all was compacted: {progress:?}"
                ));
            }
            // Clocks may be half a minute behind.
            let due_ms = self.sim.now_ms() - self.layout.grace_ms - self.layout.window.ms() - 60_000;
            if progress.compacted_before_ms.is_none_or(|before| before < due_ms) {
                return Err(format!("bucket {bucket} is not compacted up to {due_ms}: {progress:?}"));
            }
            if progress.rolled_before_ms.is_none_or(|before| before < due_ms - DAY_MS) {
                return Err(format!("bucket {bucket} is not rolled up to {due_ms}: {progress:?}"));
            }
        }
        Ok(())
    }

    /// Every metric as a whole and in part, by every warm reader and a cold one.
    fn check_everything(&mut self) -> Result<(), String> {
        let now_ms = self.sim.now_ms();
        let process = self.process("query");
        let cold = processes::reader(&process, self.layout);
        let mut readers = std::mem::take(&mut self.warm);
        readers.push(cold);
        for metric in self.workload.metrics.clone() {
            for want in WANTS {
                for at in 0..readers.len() {
                    let mut question = self.question(metric.clone());
                    question.want = want;
                    if at % 2 == 0 {
                        question.start_ms = now_ms - self.layout.retention.longest_ms() - DAY_MS;
                        question.end_ms = now_ms + 900_000;
                    }
                    let warm = readers.remove(0);
                    let process = Arc::clone(&warm.process);
                    self.start(&process, Kind::Ask, DAY_MS, processes::ask(warm, question));
                    self.run_all()?;
                    let asked = self.warm.pop().ok_or("a query came to no end")?;
                    readers.push(asked);
                }
            }
        }
        self.warm = readers;
        let tick = self.sim.tick();
        let blocks = blocks::check(&self.sim, &self.layout, &self.model, tick, self.first_ms)?;
        self.tally.blocks_checked += blocks as u64;
        blocks::check_segments(&self.sim, &self.layout)?;
        self.check_letters()
    }

    /// Every record that is no envelope is among the dead letters, and no other.
    fn check_letters(&self) -> Result<(), String> {
        let letters = self.sim.store.dead_letters();
        self.stream.look(|shards| {
            for (number, shard) in shards.iter().enumerate() {
                for (at, taken) in shard.records.iter().enumerate() {
                    let place = Place { shard: number, at };
                    if !self.model.is_stored(place) {
                        return Err(format!("record {at} of shard {number} was not stored"));
                    }
                    let is_of = |letter: &&tidemark_tsdb::stream::DeadLetter| {
                        letter.shard == SimStream::shard_id(number) && letter.sequence == taken.record.sequence
                    };
                    let found = letters.iter().any(|letter| is_of(&letter));
                    if found == taken.sound {
                        return Err(format!(
                            "record {at} of shard {number} is sound: {}, dead letter: {found}",
                            taken.sound
                        ));
                    }
                }
            }
            Ok(())
        })
    }
}
