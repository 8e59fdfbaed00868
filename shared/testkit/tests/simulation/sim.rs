//! What all simulated processes share: the time, the chance, the log of what was called, and the faults that are about.

use crate::random::Random;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tidemark_model::DAY_MS;
use tidemark_tsdb::memory::MemoryStore;

/// How many lines of the log are kept for a failure's report.
const LOG_LINES: usize = 30_000;

/// How likely each fault is at one call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The call fails, and nothing was done.
    pub(crate) fail: f64,
    /// A write is done, wholly or in part, and its answer is lost.
    pub(crate) lose: f64,
    /// The process dies, before or after the write, or in the middle of a batch of writes.
    pub(crate) crash: f64,
    /// The call fails or the process dies, and the write is done some seconds later all the same.
    pub(crate) straggle: f64,
    /// The call takes long: everybody else goes on meanwhile.
    pub(crate) delay: f64,
}

/// A write that nobody waits for any more, and that will be done all the same.
pub(crate) struct Straggler {
    lands_ms: i64,
    what: String,
    effect: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct State {
    random: Random,
    now_ms: i64,
    faults: Faults,
    stragglers: Vec<Straggler>,
    log: VecDeque<String>,
    /// A hash of the whole log: two runs of one seed must agree in it.
    fingerprint: u64,
    /// Counts what becomes visible: records taken and records stored. Orders them against queries.
    ticks: u64,
}

/// See the module.
pub(crate) struct Sim {
    state: Mutex<State>,
    pub(crate) store: Arc<MemoryStore>,
}

impl Sim {
    pub(crate) fn new(seed: u64, now_ms: i64) -> Self {
        Self {
            state: Mutex::new(State {
                random: Random::new(seed),
                now_ms,
                faults: Faults::default(),
                stragglers: Vec::new(),
                log: VecDeque::new(),
                fingerprint: 0xcbf2_9ce4_8422_2325,
                ticks: 0,
            }),
            store: Arc::new(MemoryStore::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Draws from the one source of chance.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.state().random)
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.state().now_ms
    }

    /// Lets time pass; stragglers whose time has come land.
    pub(crate) fn advance(&self, by_ms: i64) {
        let landing = {
            let mut state = self.state();
            state.now_ms += by_ms;
            let now_ms = state.now_ms;
            let (landing, waiting) = std::mem::take(&mut state.stragglers)
                .into_iter()
                .partition(|straggler| straggler.lands_ms <= now_ms);
            state.stragglers = waiting;
            landing
        };
        self.land(landing);
    }

    /// Lets every straggler land.
    pub(crate) fn land_all(&self) {
        let landing = std::mem::take(&mut self.state().stragglers);
        self.land(landing);
    }

    fn land(&self, landing: Vec<Straggler>) {
        for straggler in landing {
            self.log(&format!("a straggler lands: {}", straggler.what));
            finish(straggler.effect);
        }
    }

    pub(crate) fn straggle(&self, what: String, effect: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut state = self.state();
        let lands_ms = state.now_ms + state.random.magnitude(1, 20_000);
        state.stragglers.push(Straggler { lands_ms, what, effect });
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(crate) fn faults(&self) -> Faults {
        self.state().faults
    }

    pub(crate) fn log(&self, line: &str) {
        let mut state = self.state();
        let line = format!("{} {line}", state.now_ms);
        for byte in line.bytes() {
            state.fingerprint = (state.fingerprint ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if state.log.len() == LOG_LINES {
            state.log.pop_front();
        }
        state.log.push_back(line);
    }

    /// The last lines of the log.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        let state = self.state();
        state
            .log
            .iter()
            .skip(state.log.len().saturating_sub(count))
            .cloned()
            .collect()
    }

    pub(crate) fn fingerprint(&self) -> u64 {
        self.state().fingerprint
    }

    /// The next tick.
    pub(crate) fn tick(&self) -> u64 {
        let mut state = self.state();
        state.ticks += 1;
        state.ticks
    }
}

/// Runs a future that never waits.
pub(crate) fn finish<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> T {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("the memory store never waits"),
    }
}

/// One process: a function's sandbox, with a clock of its own.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) sim: Arc<Sim>,
    skew_ms: i64,
    drift_ppm: i64,
    born_ms: i64,
    crashed: AtomicBool,
    calls: AtomicU64,
}

impl Process {
    /// A process whose clock is wrong by up to half a minute, and goes wrong by some seconds a day.
    pub(crate) fn new(sim: &Arc<Sim>, name: String) -> Arc<Self> {
        let (skew_ms, drift_ppm) = sim.draw(|random| {
            if random.chance(0.3) {
                (0, 0)
            } else {
                (random.between(-30_000, 30_000), random.between(-50, 50))
            }
        });
        Arc::new(Self {
            name,
            sim: Arc::clone(sim),
            skew_ms,
            drift_ppm,
            born_ms: sim.now_ms(),
            crashed: AtomicBool::new(false),
            calls: AtomicU64::new(0),
        })
    }

    /// What its clock shows, in milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        let now_ms = self.sim.now_ms();
        now_ms + self.skew_ms + (now_ms - self.born_ms) * self.drift_ppm / 1_000_000
    }

    /// Whether Lambda has put it away by now. Two days is the longest that anything counts on: what was folded into a block is
    /// noted in the bucket's progress for that long after it can not happen any more.
    pub(crate) fn is_old(&self) -> bool {
        self.sim.now_ms() - self.born_ms > DAY_MS
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.crashed.load(Ordering::Relaxed)
    }

    /// Counts a call to the store.
    pub(crate) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has called the store.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(crate) fn log(&self, line: &str) {
        self.sim.log(&format!("{}: {line}", self.name));
    }

    /// The process dies here: what called this never goes on, and the scheduler drops all of it.
    pub(crate) async fn crash(&self) {
        self.log("crashes");
        self.crashed.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }

    /// Lets the others go on: once, or many times where the delay is long.
    pub(crate) async fn pause(&self) {
        let faults = self.sim.faults();
        let mut polls = self.sim.draw(|random| {
            if random.chance(faults.delay) {
                random.magnitude(5, 300)
            } else {
                random.between(0, 1)
            }
        });
        poll_fn(|context| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            // Futures that run several others at once poll only those that woke them.
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
