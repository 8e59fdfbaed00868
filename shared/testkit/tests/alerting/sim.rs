//! What all simulated processes share: the time, the chance, the log of what was called, the faults that are about, and the
//! truth about what was really done.

use crate::random::Random;
use crate::truth::Truth;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tidemark_model::Timestamp;
use tidemark_rules::store::StoreError;

/// When every run begins: a Sunday in November, 00:00 UTC.
pub(crate) const BEGIN_MS: i64 = 1_763_856_000_000;

/// How wrong a process's clock may be, in milliseconds.
pub(crate) const MAX_SKEW_MS: i64 = 3_000;

/// How late a write may be done that nobody waits for any more, and how late a receiver may take a request of a process
/// that is gone.
const MAX_STRAGGLE_MS: i64 = 5_000;

/// How likely each fault is at one call.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Faults {
    /// The call fails, and nothing was done.
    pub(crate) fail: f64,
    /// It is done, and its answer is lost.
    pub(crate) lose: f64,
    /// The process dies before or after it.
    pub(crate) crash: f64,
    /// It fails or the process dies, and it is done some seconds later all the same.
    pub(crate) straggle: f64,
    /// It takes many seconds.
    pub(crate) slow: f64,
    /// A message is delivered more than once.
    pub(crate) duplicate: f64,
    /// A message comes late, after others that were sent later.
    pub(crate) late: f64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    Failed,
    LostAnswer,
    CrashBefore,
    CrashAfter,
    FailedAndStraggles,
    CrashedAndStraggles,
}

/// Something that a call does.
pub(crate) type Effect<T> = Pin<Box<dyn Future<Output = T> + Send>>;

struct State {
    random: Random,
    now_ms: i64,
    faults: Faults,
    timers: BTreeMap<(i64, u64), Waker>,
    stragglers: BTreeMap<(i64, u64), (String, Effect<()>)>,
    counter: u64,
    log: Option<Vec<String>>,
    violation: Option<String>,
}

/// See the module.
pub(crate) struct Sim {
    state: Mutex<State>,
    truth: Mutex<Truth>,
}

impl Sim {
    pub(crate) fn new(seed: u64, logging: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                random: Random::new(seed),
                now_ms: BEGIN_MS,
                faults: Faults::default(),
                timers: BTreeMap::new(),
                stragglers: BTreeMap::new(),
                counter: 0,
                log: logging.then(Vec::new),
                violation: None,
            }),
            truth: Mutex::new(Truth::default()),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was really done, and what is demanded of it.
    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws from the one source of chance.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    pub(crate) fn chance(&self, probability: f64) -> bool {
        // Nothing is drawn when there is nothing to decide: the quiet end of a run needs no chance.
        probability > 0.0 && self.draw(|random| random.chance(probability))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// A number greater than all before: orders what happens.
    pub(crate) fn order(&self) -> u64 {
        let mut state = self.state();
        state.counter += 1;
        state.counter
    }

    /// When somebody wants to go on next.
    pub(crate) fn next_timer(&self) -> Option<i64> {
        let state = self.state();
        let timer = state.timers.first_key_value().map(|((at, _), _)| *at);
        let straggler = state.stragglers.first_key_value().map(|((at, _), _)| *at);
        timer.into_iter().chain(straggler).min()
    }

    /// Moves the clock. Whoever waited for it goes on, and what is late is done.
    pub(crate) fn advance_to(&self, now_ms: i64) {
        let (wakers, landing) = {
            let mut state = self.state();
            state.now_ms = state.now_ms.max(now_ms);
            let until = (state.now_ms, u64::MAX);
            let later = state.timers.split_off(&until);
            let wakers = std::mem::replace(&mut state.timers, later);
            let later = state.stragglers.split_off(&until);
            (wakers, std::mem::replace(&mut state.stragglers, later))
        };
        for waker in wakers.into_values() {
            waker.wake();
        }
        for (what, effect) in landing.into_values() {
            self.log(|| format!("a straggler lands: {what}"));
            finish(effect);
        }
    }

    fn straggle(&self, what: String, effect: Effect<()>) {
        let mut state = self.state();
        let at = state.now_ms + state.random.magnitude(1, MAX_STRAGGLE_MS);
        state.counter += 1;
        let key = (at, state.counter);
        state.stragglers.insert(key, (what, effect));
    }

    fn wake_at(&self, at_ms: i64, waker: Waker) {
        let mut state = self.state();
        state.counter += 1;
        let key = (at_ms, state.counter);
        state.timers.insert(key, waker);
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.log.is_none() {
            return;
        }
        let line = format!("{:10.3} {}", (state.now_ms - BEGIN_MS) as f64 / 1e3, line());
        if let Some(log) = &mut state.log {
            log.push(line);
        }
    }

    /// The whole log, when one is kept.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().log.clone().unwrap_or_default()
    }

    /// Something is not as it must be; the first counts.
    pub(crate) fn violate(&self, what: impl FnOnce() -> String) {
        let mut state = self.state();
        if state.violation.is_none() {
            state.violation = Some(what());
        }
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.state().violation.clone()
    }

    /// Two runs of one seed must agree in it.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut state = self.state();
        state.random.next() ^ state.counter
    }
}

/// Runs a future that never waits.
pub(crate) fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the stores in memory never wait"),
    }
}

/// One process: a function's invocation, or somebody at the API, with a clock of its own.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) sim: Arc<Sim>,
    skew_ms: i64,
    crashed: AtomicBool,
    /// An operator had it try what was given up, at once.
    asked_anew: AtomicBool,
    /// The [`Sim::order`] of the last fault it met.
    fault: AtomicU64,
}

impl Process {
    pub(crate) fn new(sim: &Arc<Sim>, name: String) -> Arc<Self> {
        let skew_ms = if sim.faults() == Faults::default() {
            0
        } else {
            sim.draw(|random| {
                if random.chance(0.5) {
                    0
                } else {
                    random.between(-MAX_SKEW_MS, MAX_SKEW_MS)
                }
            })
        };
        Arc::new(Self {
            name,
            sim: Arc::clone(sim),
            skew_ms,
            crashed: AtomicBool::new(false),
            asked_anew: AtomicBool::new(false),
            fault: AtomicU64::new(0),
        })
    }

    /// What its clock shows.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp(self.sim.now_ms() + self.skew_ms)
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    /// It is dead from here on; the executor drops what it was doing.
    pub(crate) fn kill(&self) {
        self.log(|| "dies".to_owned());
        self.crashed.store(true, Ordering::Relaxed);
    }

    /// Whether it met a fault after this [`Sim::order`].
    pub(crate) fn met_a_fault_after(&self, order: u64) -> bool {
        self.has_crashed() || self.fault.load(Ordering::Relaxed) > order
    }

    pub(crate) fn is_asked_anew(&self) {
        self.asked_anew.store(true, Ordering::Relaxed);
    }

    pub(crate) fn was_asked_anew(&self) -> bool {
        self.asked_anew.load(Ordering::Relaxed)
    }

    pub(crate) fn meets_a_fault(&self) {
        self.fault.store(self.sim.order(), Ordering::Relaxed);
    }

    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        self.sim.log(|| format!("{}: {}", self.name, line()));
    }

    /// The process dies here.
    pub(crate) async fn crash(&self) {
        self.kill();
        std::future::pending::<()>().await;
    }

    /// Whoever belongs to a dead process does nothing any more.
    async fn live(&self) {
        if self.has_crashed() {
            std::future::pending::<()>().await;
        }
    }

    /// Lets time pass for this process.
    pub(crate) async fn sleep(&self, ms: i64) {
        let until = self.sim.now_ms() + ms;
        poll_fn(|context| {
            if self.sim.now_ms() >= until {
                return Poll::Ready(());
            }
            self.sim.wake_at(until, context.waker().clone());
            Poll::Pending
        })
        .await;
        self.live().await;
    }

    /// Lets the others go on, mostly for no time at all.
    pub(crate) async fn pause(&self) {
        self.live().await;
        let faults = self.sim.faults();
        let (polls, ms) = self.sim.draw(|random| match random.below(100) {
            0..60 => (1, 0),
            60..90 => (random.below(4), 0),
            _ if random.chance(faults.slow) => (0, random.between(2_000, 25_000)),
            _ => (0, random.magnitude(1, 300)),
        });
        if ms >= 2_000 {
            // No excuse for anything: whoever is slow has to know it.
            self.log(|| format!("waits for {ms} ms"));
        }
        if ms > 0 {
            return self.sleep(ms).await;
        }
        let mut polls = polls;
        poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
        self.live().await;
    }

    fn fate(&self, write: bool) -> Fate {
        let faults = self.sim.faults();
        if faults == Faults::default() {
            return Fate::Done;
        }
        self.sim.draw(|random| {
            let at = random.unit();
            let second = random.chance(0.5);
            let mut bound = faults.fail;
            if at < bound {
                return Fate::Failed;
            }
            bound += faults.crash;
            if at < bound {
                return if second && write {
                    Fate::CrashAfter
                } else {
                    Fate::CrashBefore
                };
            }
            bound += faults.lose;
            if write && at < bound {
                return Fate::LostAnswer;
            }
            bound += faults.straggle;
            if write && at < bound {
                return if second {
                    Fate::FailedAndStraggles
                } else {
                    Fate::CrashedAndStraggles
                };
            }
            Fate::Done
        })
    }

    /// A read that is answered as of some moment after this.
    pub(crate) async fn begin_read(&self, operation: &'static str) -> Result<(), StoreError> {
        self.pause().await;
        match self.fate(false) {
            Fate::Done => Ok(()),
            Fate::Failed => {
                self.meets_a_fault();
                self.log(|| format!("{operation} fails"));
                Err(unavailable(operation))
            }
            _ => {
                self.crash().await;
                Ok(())
            }
        }
    }

    /// A write: it fails, is done, is done while its answer is lost, is done late, or is the last thing that the process does.
    pub(crate) async fn write<T: Debug + Send + 'static>(
        &self,
        operation: &'static str,
        what: impl Fn() -> String,
        effect: Effect<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.pause().await;
        let fate = self.fate(true);
        if fate != Fate::Done {
            self.meets_a_fault();
        }
        match fate {
            Fate::Failed => {
                self.log(|| format!("{operation} {} fails", what()));
                return Err(unavailable(operation));
            }
            Fate::CrashBefore => {
                self.log(|| format!("{operation} {} is not done any more", what()));
                self.crash().await;
            }
            Fate::FailedAndStraggles | Fate::CrashedAndStraggles => {
                let said = format!("{} {operation} {}", self.name, what());
                self.log(|| format!("{said} straggles"));
                self.sim.straggle(
                    said,
                    Box::pin(async move {
                        let _ = effect.await;
                    }),
                );
                if fate == Fate::CrashedAndStraggles {
                    self.crash().await;
                }
                return Err(unavailable(operation));
            }
            Fate::Done | Fate::LostAnswer | Fate::CrashAfter => {}
        }
        let answer = effect.await;
        self.log(|| format!("{operation} {} -> {answer:?}", what()));
        match fate {
            Fate::CrashAfter => self.crash().await,
            Fate::LostAnswer => {
                self.log(|| format!("{operation} loses its answer"));
                return Err(unavailable(operation));
            }
            _ => self.pause().await,
        }
        answer
    }

    /// Something that is done some seconds later, whatever becomes of the process.
    pub(crate) fn leave_behind(&self, what: String, effect: Effect<()>) {
        self.sim.straggle(what, effect);
    }
}

pub(crate) fn unavailable(operation: &'static str) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: None,
    }
}
