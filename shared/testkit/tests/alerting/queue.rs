//! The topic and the queue behind it, as SNS and SQS are: a message comes at least once, in any order, late, and again when
//! nobody has deleted it in time; one that came too often goes to the dead letters, from where an operator sends it back.

use crate::sim::{Effect, Process, Sim};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidemark_notify::dispatch::Queue;
use tidemark_rules::store::StoreError;
use tidemark_rules::{Message, Publish, PublishError};

/// How long a message that was received is hidden, in milliseconds: as in `template.yaml`.
pub(crate) const VISIBILITY_MS: i64 = 360_000;

/// How often a message is received before it goes to the dead letters: as in `template.yaml`.
pub(crate) const MAX_RECEIVES: u32 = 100;

/// The longest delay of a message, in seconds.
const MAX_DELAY_SECONDS: u32 = 900;

#[derive(Clone)]
struct Stored {
    body: Arc<str>,
    visible_ms: i64,
    receives: u32,
}

/// A message that was received.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) id: u64,
    pub(crate) body: Arc<str>,
    pub(crate) receive_count: u32,
}

#[derive(Default)]
struct State {
    next_id: u64,
    messages: BTreeMap<u64, Stored>,
    dead: Vec<Arc<str>>,
    /// How many went to the dead letters in all.
    letters: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct SimQueue {
    state: Mutex<State>,
}

impl SimQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, body: &Arc<str>, visible_ms: i64) {
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        let stored = Stored {
            body: Arc::clone(body),
            visible_ms,
            receives: 0,
        };
        state.messages.insert(id, stored);
    }

    /// Takes a message, perhaps twice, perhaps late.
    fn take(&self, sim: &Sim, body: &str, delay_ms: i64) {
        let faults = sim.faults();
        let body: Arc<str> = body.into();
        let copies = if sim.chance(faults.duplicate) { 2 } else { 1 };
        for copy in 0..copies {
            let late = sim.chance(faults.late);
            let more_ms = sim.draw(|random| match (copy, late) {
                (0, false) => random.between(0, 50),
                (0, true) => random.magnitude(100, 600_000),
                // A copy may come hours later, when all is settled.
                (_, false) => random.between(0, 3_000),
                (_, true) => random.magnitude(1_000, 4 * 3_600_000),
            });
            self.push(&body, sim.now_ms() + delay_ms + more_ms);
        }
    }

    /// When the next message can be received.
    pub(crate) fn next_visible(&self) -> Option<i64> {
        self.state().messages.values().map(|stored| stored.visible_ms).min()
    }

    /// Receives some of the messages that can be.
    pub(crate) fn receive(&self, sim: &Sim) -> Vec<Received> {
        let now_ms = sim.now_ms();
        let mut state = self.state();
        let mut visible: Vec<u64> = state
            .messages
            .iter()
            .filter(|(_, stored)| stored.visible_ms <= now_ms)
            .map(|(id, _)| *id)
            .collect();
        let most = sim.draw(|random| 1 + random.below(10));
        let mut batch = Vec::new();
        while batch.len() < most && !visible.is_empty() {
            let id = visible.swap_remove(sim.draw(|random| random.below(visible.len())));
            let Some(stored) = state.messages.get_mut(&id) else {
                continue;
            };
            if stored.receives >= MAX_RECEIVES {
                let body = Arc::clone(&stored.body);
                state.messages.remove(&id);
                state.dead.push(body);
                state.letters += 1;
                continue;
            }
            stored.receives += 1;
            stored.visible_ms = now_ms + VISIBILITY_MS;
            batch.push(Received {
                id,
                body: Arc::clone(&stored.body),
                receive_count: stored.receives,
            });
        }
        batch
    }

    /// Deletes a message, unless it comes once more all the same.
    pub(crate) fn delete(&self, sim: &Sim, id: u64) {
        let again = sim.chance(sim.faults().duplicate / 4.0);
        let mut state = self.state();
        if again && let Some(stored) = state.messages.get_mut(&id) {
            stored.visible_ms = sim.now_ms() + sim.draw(|random| random.magnitude(1, 600_000));
            return;
        }
        state.messages.remove(&id);
    }

    /// Shows a message again after so long.
    pub(crate) fn hide(&self, sim: &Sim, id: u64, ms: i64) {
        if let Some(stored) = self.state().messages.get_mut(&id) {
            stored.visible_ms = sim.now_ms() + ms;
        }
    }

    /// An operator sends everything back from the dead letters. Answers how much it was.
    pub(crate) fn redrive(&self, sim: &Sim) -> usize {
        let dead = std::mem::take(&mut self.state().dead);
        for body in &dead {
            self.push(body, sim.now_ms() + sim.draw(|random| random.between(0, 2_000)));
        }
        dead.len()
    }

    pub(crate) fn dead(&self) -> usize {
        self.state().dead.len()
    }

    pub(crate) fn letters(&self) -> u64 {
        self.state().letters
    }

    /// The messages that can be received within so long.
    pub(crate) fn waiting(&self, until_ms: i64) -> Vec<String> {
        let state = self.state();
        let soon = state.messages.values().filter(|stored| stored.visible_ms <= until_ms);
        soon.map(|stored| stored.body.to_string()).collect()
    }
}

/// The topic as one process sees it.
pub(crate) struct Topic {
    pub(crate) queue: Arc<SimQueue>,
    pub(crate) process: Arc<Process>,
}

impl Publish for Topic {
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut answers = Vec::new();
        for message in messages {
            let body = serde_json::to_string(message).unwrap();
            let what = match message {
                Message::Event(event) => format!("{} beat {:?}", event.id, event.beat),
                Message::Wake { lane } => format!("wake {lane}"),
            };
            let (queue, sim) = (Arc::clone(&self.queue), Arc::clone(&self.process.sim));
            let effect: Effect<_> = Box::pin(async move {
                queue.take(&sim, &body, 0);
                Ok(())
            });
            let answer = self.process.write("publish", || what.clone(), effect).await;
            answers.push(answer.map_err(|error: StoreError| PublishError {
                reason: error.to_string(),
            }));
        }
        answers
    }
}

/// The queue as one process sees it.
pub(crate) struct Mail {
    pub(crate) queue: Arc<SimQueue>,
    pub(crate) process: Arc<Process>,
}

impl Mail {
    /// Hides a message that is tried again later; when that fails, it comes after the queue's own time.
    pub(crate) async fn postpone(&self, id: u64, seconds: u64) {
        let (queue, sim) = (Arc::clone(&self.queue), Arc::clone(&self.process.sim));
        let ms = i64::try_from(seconds).unwrap() * 1_000;
        let effect: Effect<_> = Box::pin(async move {
            queue.hide(&sim, id, ms);
            Ok(())
        });
        let _ = self
            .process
            .write("postpone", || format!("{id} by {seconds} s"), effect)
            .await;
    }
}

impl Queue for Mail {
    async fn wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        if delay_seconds > MAX_DELAY_SECONDS {
            self.process
                .sim
                .violate(|| format!("a wake for {lane} is delayed by {delay_seconds} s"));
        }
        let message = Message::Wake { lane: lane.to_owned() };
        let body = serde_json::to_string(&message).unwrap();
        let (queue, sim) = (Arc::clone(&self.queue), Arc::clone(&self.process.sim));
        let effect: Effect<_> = Box::pin(async move {
            queue.take(&sim, &body, i64::from(delay_seconds) * 1_000);
            Ok(())
        });
        self.process
            .write("wake", || format!("{lane} in {delay_seconds} s"), effect)
            .await
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        let (queue, body) = (Arc::clone(&self.queue), Arc::<str>::from(body));
        let what = format!("{reason}: {body}");
        let effect: Effect<_> = Box::pin(async move {
            let mut state = queue.state();
            state.dead.push(body);
            state.letters += 1;
            Ok(())
        });
        self.process.write("dead_letter", || what.clone(), effect).await
    }
}
