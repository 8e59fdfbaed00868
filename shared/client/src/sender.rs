//! The background task: waits until a batch is due, sends it, and settles it or puts it back.
//!
//! One request is under way at a time, so samples leave in the order of their pushes. A batch that failed goes back to the
//! front of the buffer, where it is the first to be dropped when room is needed.

use crate::buffer::{Buffer, Due};
use crate::retry::Backoff;
use crate::stats::{Refusal, Stats};
use crate::transport::{Failure, Outcome, SampleError, Transport};
use rand::Rng as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

/// What is called with each refused sample.
pub(crate) type OnRefused = Box<dyn Fn(Refusal<'_>) + Send + Sync>;

/// Whether the client is still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// `close` waits for the rest to be sent.
    Draining,
    /// All handles are gone: what waits is sent once, without retries.
    Abandoned,
}

/// What `push` and the task share.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) buffer: Buffer,
    pub(crate) stats: Stats,
    /// Samples up to this one are sent without waiting for a full batch.
    pub(crate) flush_to: u64,
    pub(crate) phase: Phase,
}

/// The state, and the bell that tells the task of a change.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) bell: Notify,
}

impl Shared {
    pub(crate) fn new(buffer: Buffer) -> Self {
        let state = State {
            buffer,
            stats: Stats::default(),
            flush_to: 0,
            phase: Phase::Open,
        };
        Self {
            state: Mutex::new(state),
            bell: Notify::new(),
        }
    }

    /// Every change under the lock is complete before anything could panic, so a poisoned lock holds a sound state.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Step {
    Send,
    SleepUntil(Instant),
    Sleep,
    End,
}

impl State {
    fn next_step(&self) -> Step {
        if self.phase != Phase::Open {
            return if self.buffer.unsettled() == 0 {
                Step::End
            } else {
                Step::Send
            };
        }
        if self.buffer.settled() < self.flush_to {
            return Step::Send;
        }
        match self.buffer.due() {
            Due::Now => Step::Send,
            Due::At(time) if time <= Instant::now() => Step::Send,
            Due::At(time) => Step::SleepUntil(time),
            Due::Never => Step::Sleep,
        }
    }
}

pub(crate) struct Sender {
    pub(crate) shared: Arc<Shared>,
    pub(crate) transport: Transport,
    pub(crate) backoff: Backoff,
    pub(crate) batch_samples: usize,
    pub(crate) on_refused: Option<OnRefused>,
    /// How many of the samples pushed first are done with; `flush` waits for it.
    pub(crate) settled: watch::Sender<u64>,
}

impl Sender {
    pub(crate) async fn run(self) {
        let mut size = self.batch_samples;
        let mut failures = 0;
        loop {
            let (step, settled) = {
                let state = self.shared.lock();
                (state.next_step(), state.buffer.settled())
            };
            self.settled.send_replace(settled);
            match step {
                Step::Send => self.send(&mut size, &mut failures).await,
                Step::SleepUntil(time) => {
                    tokio::select! {
                        () = sleep_until(time) => {}
                        () = self.shared.bell.notified() => {}
                    }
                }
                Step::Sleep => self.shared.bell.notified().await,
                Step::End => return,
            }
        }
    }

    /// Makes one attempt with the oldest samples, and the pause after it if it failed.
    async fn send(&self, size: &mut usize, failures: &mut u32) {
        let batch = {
            let mut state = self.shared.lock();
            state.stats.requests += 1;
            state.buffer.take(*size, Instant::now())
        };
        match self.transport.send(&batch).await {
            Outcome::Decided { rejected, errors } => {
                self.settle(&batch, rejected);
                self.report(&batch, &errors);
                *size = size.saturating_mul(2).min(self.batch_samples);
            }
            Outcome::TooLarge if batch.len() > 1 => {
                *size = batch.len() / 2;
                self.put_back(batch);
            }
            Outcome::TooLarge => self.refuse(&batch, "the server takes no request of this size"),
            Outcome::Refused { reason } => self.refuse(&batch, &reason),
            Outcome::Failed { failure, retry_after } => {
                *failures = failures.saturating_add(1);
                self.put_back(batch);
                self.after_failure(&failure, failures, retry_after).await;
                return;
            }
        }
        if std::mem::take(failures) > 0 {
            info!("the server answers again");
        }
    }

    fn settle(&self, batch: &[Box<str>], rejected: usize) {
        let rejected = rejected.min(batch.len());
        let mut state = self.shared.lock();
        state.buffer.settle();
        state.stats.rejected += rejected as u64;
        state.stats.accepted += (batch.len() - rejected) as u64;
    }

    fn put_back(&self, batch: Vec<Box<str>>) {
        let mut state = self.shared.lock();
        let dropped = state.buffer.put_back(batch, Instant::now());
        state.stats.dropped += dropped as u64;
    }

    fn refuse(&self, batch: &[Box<str>], reason: &str) {
        warn!(samples = batch.len(), reason, "the server refused a request");
        self.settle(batch, batch.len());
        if let Some(on_refused) = &self.on_refused {
            for (index, sample) in batch.iter().enumerate() {
                on_refused(Refusal {
                    index,
                    field: None,
                    reason,
                    sample,
                });
            }
        }
    }

    fn report(&self, batch: &[Box<str>], errors: &[SampleError]) {
        let Some(on_refused) = &self.on_refused else {
            if let Some(first) = errors.first() {
                warn!(
                    samples = errors.len(),
                    reason = first.reason,
                    "the server refused samples"
                );
            }
            return;
        };
        for error in errors {
            let sample = batch.get(error.index).map_or("", AsRef::as_ref);
            on_refused(Refusal {
                index: error.index,
                field: error.field.as_deref(),
                reason: &error.reason,
                sample,
            });
        }
    }

    async fn after_failure(&self, failure: &Failure, failures: &mut u32, retry_after: Option<Duration>) {
        let pause = self.backoff.pause(*failures, retry_after, rand::rng().random());
        let phase = {
            let mut state = self.shared.lock();
            if state.phase == Phase::Abandoned {
                let lost = state.buffer.abandon();
                state.stats.dropped += lost as u64;
                warn!(samples = lost, reason = %failure, "the client is gone; samples are lost");
                return;
            }
            state.stats.retried += 1;
            let (buffered, dropped) = (state.buffer.unsettled(), state.stats.dropped);
            let pause_ms = pause.as_millis() as u64;
            warn!(reason = %failure, pause_ms, buffered, dropped, "samples could not be sent and wait for the next attempt");
            state.phase
        };
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.shared.bell.notified() => {}
            }
            // Whoever closes the client has little time: try at once, unless the server itself named the pause.
            let changed = self.shared.lock().phase != phase;
            if changed && retry_after.is_none() {
                *failures = 0;
                return;
            }
        }
    }
}
