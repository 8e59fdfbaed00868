//! One run: everything of one installation, and what happens to it until all is quiet again.

use crate::alerts::Alerts;
use crate::data::{Course, Data, Eyes};
use crate::executor::{Ended, Executor};
use crate::lanes::Lanes;
use crate::people::{self, CHANNELS, Deed, Person};
use crate::queue::{Mail, Received, SimQueue, Topic};
use crate::random::Random;
use crate::receivers::{Receivers, Senders, draw_mood};
use crate::sim::{BEGIN_MS, Faults, Process, Sim};
use crate::verdict;
use futures::future::join_all;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use tidemark_model::Timestamp;
use tidemark_notify::store::lane_id;
use tidemark_notify::{Arrival, Dispatcher, MemoryNotifyStore, Next, rescue};
use tidemark_rules::MemoryAlertStore;
use tidemark_rules::tick::{self, Shard, Which};

const MINUTE_MS: i64 = 60_000;

/// An evaluation by the schedule.
const DUE: Which = Which::Due { every_ms: MINUTE_MS };

/// How long `notify` and `evaluate` may run: as in `template.yaml`.
const NOTIFY_LIMIT_MS: i64 = 60_000;
const TICK_LIMIT_MS: i64 = 55_000;

/// How long a person waits.
const PERSON_LIMIT_MS: i64 = 29_000;

/// How long it may take until all is quiet when the faults have ended: the longest back-off and the longest time in which a
/// message is hidden, some of them one after the other, and the slowest rate limit for all that waits.
const CALM_MS: i64 = 240 * MINUTE_MS;

/// How much happened, over all runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) ticks: u64,
    pub(crate) invocations: u64,
    pub(crate) messages: u64,
    pub(crate) crashes: u64,
    pub(crate) incidents: u64,
    pub(crate) taken: u64,
    pub(crate) again: u64,
    pub(crate) digests: u64,
    pub(crate) letters: u64,
    pub(crate) never_told: u64,
    pub(crate) minutes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.runs += other.runs;
        self.steps += other.steps;
        self.ticks += other.ticks;
        self.invocations += other.invocations;
        self.messages += other.messages;
        self.crashes += other.crashes;
        self.incidents += other.incidents;
        self.taken += other.taken;
        self.again += other.again;
        self.digests += other.digests;
        self.letters += other.letters;
        self.never_told += other.never_told;
        self.minutes += other.minutes;
    }
}

/// What happens at a time.
#[derive(Clone, Debug)]
enum Happening {
    Tick,
    SecondTick,
    Samples,
    Somebody,
    Mood,
    Redrive,
}

/// What a process has done.
enum Done {
    Ticked,
    Acted,
    /// Which messages are done.
    Notified(Vec<(u64, bool)>),
}

/// See the module.
pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) alerts: Arc<MemoryAlertStore>,
    pub(crate) notify: Arc<MemoryNotifyStore>,
    pub(crate) queue: Arc<SimQueue>,
    pub(crate) tally: Tally,
    pub(crate) weather: Weather,
    receivers: Arc<Receivers>,
    data: Arc<Data>,
    executor: Executor<Done>,
    happenings: BTreeMap<(i64, u64), Happening>,
    notifying: usize,
    /// Nobody evaluates until then.
    idle_until_ms: i64,
    course: Course,
    calm: bool,
    named: usize,
}

/// What a run is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    faults: Faults,
    /// Nothing fails, nobody is late: then everybody is told in time.
    pub(crate) is_fine: bool,
    most_notifying: usize,
    /// Whether ticks also look for lanes that are overdue. Nothing may depend on it: it is for what nobody thought of.
    rescues: bool,
    shards: u32,
    mean_deed_ms: i64,
    /// How often a receiver changes its mood.
    mood_ms: i64,
}

impl Weather {
    fn draw(random: &mut Random) -> Self {
        let is_fine = random.chance(0.1);
        Self {
            faults: if is_fine {
                Faults::default()
            } else {
                draw_faults(random)
            },
            is_fine,
            most_notifying: 1 + random.below(5),
            rescues: random.chance(0.25),
            shards: 1 + random.below(2) as u32,
            mean_deed_ms: random.magnitude(10_000, 200_000),
            mood_ms: random.magnitude(10_000, 600_000),
        }
    }
}

fn draw_faults(random: &mut Random) -> Faults {
    let mut some = |most: f64| {
        let at = random.unit();
        if random.chance(0.3) { 0.0 } else { most * at * at }
    };
    Faults {
        fail: some(0.15),
        lose: some(0.15),
        crash: some(0.04),
        straggle: some(0.03),
        slow: some(0.2),
        duplicate: some(0.5),
        late: some(0.9),
    }
}

impl World {
    pub(crate) fn new(seed: u64, logging: bool) -> Self {
        let sim = Sim::new(seed, logging);
        let weather = sim.draw(Weather::draw);
        sim.set_faults(weather.faults);
        sim.log(|| format!("{weather:?}"));
        Self {
            sim,
            alerts: Arc::new(MemoryAlertStore::new()),
            notify: Arc::new(MemoryNotifyStore::new()),
            queue: Arc::new(SimQueue::default()),
            tally: Tally {
                runs: 1,
                ..Tally::default()
            },
            receivers: Arc::new(Receivers::default()),
            data: Arc::new(Data::new()),
            executor: Executor::new(),
            happenings: BTreeMap::new(),
            notifying: 0,
            weather,
            idle_until_ms: i64::MIN,
            course: Course::Walk,
            calm: false,
            named: 0,
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.begin()?;
        let chaos_ms = self.sim.draw(|random| {
            let longest = if random.chance(0.1) { 180 } else { 40 };
            random.magnitude(5 * MINUTE_MS, longest * MINUTE_MS)
        });
        self.run_until(BEGIN_MS + chaos_ms)?;

        self.sim.log(|| "---- all faults end".to_owned());
        self.calm = true;
        self.sim.set_faults(Faults::default());
        self.receivers.heal();
        self.idle_until_ms = i64::MIN;
        self.course = Course::Stay;
        self.perform(Deed::Hush);
        self.later(MINUTE_MS, Happening::Redrive);
        self.calm_down(verdict::quiet)?;

        self.sim.log(|| "---- everything comes to its end".to_owned());
        self.course = Course::Fall;
        self.perform(Deed::End);
        self.calm_down(|world| verdict::quiet(world).and_then(|()| verdict::over(world)))?;
        if self.weather.is_fine {
            verdict::prompt(self)?;
        }
        self.count();
        Ok(())
    }

    /// Lets time pass until all is quiet, at most [`CALM_MS`].
    fn calm_down(&mut self, verdict: impl Fn(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let latest_ms = self.sim.now_ms() + CALM_MS;
        loop {
            self.run_until(self.sim.now_ms() + 10 * MINUTE_MS)?;
            match verdict(self) {
                Err(why) if self.sim.now_ms() < latest_ms => self.sim.log(|| format!("not quiet yet: {why}")),
                verdict => return verdict,
            }
        }
    }

    fn count(&mut self) {
        let truth = self.sim.truth();
        self.tally.incidents = truth.incidents.len() as u64;
        for told in truth.lanes.values() {
            self.tally.taken += told.takes.len() as u64;
            self.tally.digests += told.takes.iter().filter(|take| take.is_digest).count() as u64;
            self.tally.again += told.takes.iter().filter(|take| take.may_be_repeated()).count() as u64;
        }
        self.tally.letters = self.queue.letters();
        self.tally.minutes = ((self.sim.now_ms() - BEGIN_MS) / MINUTE_MS) as u64;
    }

    /// The channels and rules that there are from the beginning, made without faults.
    fn begin(&mut self) -> Result<(), String> {
        let faults = self.sim.faults();
        self.sim.set_faults(Faults::default());
        let now = Timestamp(BEGIN_MS);
        for name in &CHANNELS[..4] {
            let channel = self.sim.draw(|random| people::channel(random, name, now));
            self.perform(Deed::Configure(channel));
        }
        let rules = self.sim.draw(|random| 1 + random.below(6));
        for _ in 0..rules {
            let id = format!("rule{}", self.named);
            let name = format!("r{}", self.named);
            self.named += 1;
            let body = self.sim.draw(|random| people::rule(random, &name));
            self.perform(Deed::Create { id, body });
        }
        self.run_until(BEGIN_MS + 5_000)?;
        self.sim.set_faults(faults);
        for (after_ms, happening) in [
            (1_000, Happening::Samples),
            (MINUTE_MS - 5_000, Happening::Tick),
            (10_000, Happening::Somebody),
            (20_000, Happening::Mood),
            (10 * MINUTE_MS, Happening::Redrive),
        ] {
            self.later(after_ms, happening);
        }
        Ok(())
    }

    fn later(&mut self, after_ms: i64, happening: Happening) {
        let key = (self.sim.now_ms() + after_ms, self.sim.order());
        self.happenings.insert(key, happening);
    }

    fn process(&mut self, kind: &str) -> Arc<Process> {
        self.named += 1;
        Process::new(&self.sim, format!("{kind}{}", self.named))
    }

    fn alerts(&self, process: &Arc<Process>) -> Alerts {
        Alerts {
            inner: Arc::clone(&self.alerts),
            process: Arc::clone(process),
        }
    }

    fn lanes(&self, process: &Arc<Process>) -> Lanes {
        Lanes {
            inner: Arc::clone(&self.notify),
            process: Arc::clone(process),
        }
    }

    fn topic(&self, process: &Arc<Process>) -> Topic {
        Topic {
            queue: Arc::clone(&self.queue),
            process: Arc::clone(process),
        }
    }

    fn perform(&mut self, deed: Deed) {
        let process = self.process("person");
        let person = Person {
            alerts: self.alerts(&process),
            lanes: self.lanes(&process),
            topic: self.topic(&process),
            process: Arc::clone(&process),
        };
        let future = async move {
            person.act(deed).await;
            Done::Acted
        };
        self.executor.spawn(&process, PERSON_LIMIT_MS, Box::pin(future));
    }

    /// A tick of each shard, or an evaluation of everything that somebody asks for.
    fn tick(&mut self, which: Which) {
        for index in 0..self.weather.shards {
            self.tick_shard(
                Shard {
                    index,
                    of: self.weather.shards,
                },
                which,
            );
        }
    }

    fn tick_shard(&mut self, shard: Shard, which: Which) {
        let process = self.process("tick");
        self.tally.ticks += 1;
        let (alerts, lanes, topic) = (self.alerts(&process), self.lanes(&process), self.topic(&process));
        let eyes = Eyes {
            data: Arc::clone(&self.data),
            process: Arc::clone(&process),
        };
        let rescues = self.weather.rescues && shard.index == 0;
        let mine = Arc::clone(&process);
        let future = async move {
            let until = mine.now().0 + TICK_LIMIT_MS - 10_000;
            let may_go_on = || mine.now().0 < until;
            let parts = tick::World {
                alerts: &alerts,
                data: &eyes,
                publisher: &topic,
                now: mine.now(),
                may_go_on: &may_go_on,
            };
            let summary = tick::evaluate(&parts, shard, which).await;
            mine.log(|| format!("{shard:?} {summary:?}"));
            if rescues {
                let rescued = rescue(&lanes, &topic, mine.now()).await;
                mine.log(|| format!("rescued {rescued:?}"));
            }
            Done::Ticked
        };
        self.executor.spawn(&process, TICK_LIMIT_MS, Box::pin(future));
    }

    fn notify(&mut self, batch: Vec<Received>) {
        let process = self.process("notify");
        self.tally.invocations += 1;
        self.tally.messages += batch.len() as u64;
        self.notifying += 1;
        if batch.iter().any(|message| message.body.contains("\"type\":\"letter\"")) {
            process.is_asked_anew();
        }
        let (alerts, lanes) = (self.alerts(&process), self.lanes(&process));
        let senders = Senders {
            receivers: Arc::clone(&self.receivers),
            process: Arc::clone(&process),
        };
        let mail = Mail {
            queue: Arc::clone(&self.queue),
            process: Arc::clone(&process),
        };
        let mine = Arc::clone(&process);
        let future = async move {
            let clock = || mine.now();
            let jitter = || mine.sim.draw(Random::unit);
            let dispatcher = Dispatcher {
                alerts: &alerts,
                store: &lanes,
                sender: &senders,
                queue: &mail,
                clock: &clock,
                jitter: &jitter,
            };
            let (dispatcher, mail, mine) = (&dispatcher, &mail, &mine);
            let done = join_all(batch.into_iter().map(|message| async move {
                let arrival = Arrival {
                    receive_count: message.receive_count,
                    holder: format!("{}.{}", mine.name, message.id),
                };
                mine.log(|| {
                    format!(
                        "receives {} for the {}. time: {}",
                        message.id,
                        message.receive_count,
                        outline(&message.body)
                    )
                });
                let next = dispatcher.handle(&message.body, &arrival).await;
                mine.log(|| format!("{} -> {next:?}", message.id));
                let is_done = match next {
                    Next::Done => true,
                    Next::RetryIn(seconds) => {
                        mail.postpone(message.id, seconds).await;
                        false
                    }
                    Next::DeadLetter(reason) => tidemark_notify::Queue::dead_letter(mail, &message.body, &reason)
                        .await
                        .is_ok(),
                };
                (message.id, is_done)
            }))
            .await;
            Done::Notified(done)
        };
        self.executor.spawn(&process, NOTIFY_LIMIT_MS, Box::pin(future));
    }

    fn ended(&mut self, ended: Ended<Done>) {
        if ended.process.name.starts_with("notify") {
            self.notifying -= 1;
        }
        match ended.value {
            None => self.tally.crashes += 1,
            Some(Done::Notified(done)) => {
                // The platform deletes what is done only now, unless its answer is lost on the way.
                for (id, _) in done.into_iter().filter(|(_, is_done)| *is_done) {
                    self.queue.delete(&self.sim, id);
                }
            }
            Some(Done::Ticked | Done::Acted) => {}
        }
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Tick => {
                let (skipped, doubled, idle) = self
                    .sim
                    .draw(|random| (random.chance(0.03), random.chance(0.05), random.chance(0.003)));
                let steady = self.calm || self.weather.is_fine;
                if !steady && idle {
                    self.idle_until_ms =
                        self.sim.now_ms() + self.sim.draw(|random| random.magnitude(MINUTE_MS, 40 * MINUTE_MS));
                }
                if steady || !skipped && self.idle_until_ms <= self.sim.now_ms() {
                    self.tick(DUE);
                }
                if !self.calm && doubled {
                    let after = self.sim.draw(|random| random.magnitude(1, 20_000));
                    self.later(after, Happening::SecondTick);
                }
                self.later(MINUTE_MS, Happening::Tick);
            }
            Happening::SecondTick => {
                let which = self
                    .sim
                    .draw(|random| if random.chance(0.8) { DUE } else { Which::All });
                self.tick(which);
            }
            Happening::Samples => {
                let (data, course, now_ms) = (Arc::clone(&self.data), self.course, self.sim.now_ms());
                self.sim.draw(|random| data.go_on(random, course, now_ms));
                self.later(30_000, Happening::Samples);
            }
            Happening::Somebody if !self.calm => {
                let now = Timestamp(self.sim.now_ms());
                self.named += 1;
                let named = self.named;
                let deed = self.sim.draw(|random| people::deed(random, named, now));
                self.perform(deed);
                let after = self.sim.draw(|random| random.between(1, 2 * self.weather.mean_deed_ms));
                self.later(after, Happening::Somebody);
            }
            Happening::Mood if !self.calm && !self.weather.is_fine => {
                let mut lanes: Vec<String> = CHANNELS.iter().map(|name| lane_id(name, None)).collect();
                lanes.extend(
                    self.sim
                        .truth()
                        .lanes
                        .keys()
                        .filter(|lane| lane.starts_with("rule#"))
                        .cloned(),
                );
                let lane = self.sim.draw(|random| random.pick(&lanes).clone());
                let (mood, ms) = draw_mood(&self.sim);
                self.sim.log(|| format!("{lane} is {mood:?} for {ms} ms"));
                self.receivers.set(&lane, mood, self.sim.now_ms() + ms);
                let after = self.sim.draw(|random| random.between(1_000, 2 * self.weather.mood_ms));
                self.later(after, Happening::Mood);
            }
            Happening::Redrive => {
                let count = self.queue.redrive(&self.sim);
                self.sim.log(|| format!("an operator sends {count} letters back"));
                let after = if self.calm {
                    5 * MINUTE_MS
                } else {
                    self.sim.draw(|random| random.magnitude(MINUTE_MS, 120 * MINUTE_MS))
                };
                self.later(after, Happening::Redrive);
            }
            Happening::Somebody | Happening::Mood => {}
        }
    }

    /// Whether the next step is taken before the clock moves on.
    fn run_until(&mut self, until_ms: i64) -> Result<(), String> {
        loop {
            if let Some(why) = self.sim.violation() {
                return Err(why);
            }
            if let Some(ended) = self.executor.step(&self.sim) {
                self.tally.steps += 1;
                if let Some(ended) = ended {
                    self.ended(ended);
                }
                continue;
            }
            let may_notify = self.notifying < self.weather.most_notifying;
            let visible = self.queue.next_visible().filter(|_| may_notify);
            if visible.is_some_and(|at| at <= self.sim.now_ms()) {
                let batch = self.queue.receive(&self.sim);
                if !batch.is_empty() {
                    self.notify(batch);
                }
                continue;
            }
            let happening = self.happenings.first_key_value().map(|((at, _), _)| *at);
            let next = [visible, happening, self.sim.next_timer(), self.executor.next_limit()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|at| *at <= until_ms) else {
                self.sim.advance_to(until_ms);
                return Ok(());
            };
            self.sim.advance_to(next);
            for ended in self.executor.end_overdue(self.sim.now_ms()) {
                self.ended(ended);
            }
            while let Some(first) = self.happenings.first_entry() {
                if first.key().0 > self.sim.now_ms() {
                    break;
                }
                let happening = first.remove();
                self.happen(&happening);
            }
        }
    }
}

/// What a message is about, for the log.
fn outline(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    format!("{} {} {}", value["type"], value["id"], value["lane"])
}
