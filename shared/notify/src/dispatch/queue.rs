//! The queue that brings messages to the dispatcher, as far as the dispatcher writes to it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_rules::store::StoreError;

/// The longest delay of a message, in seconds: SQS'. What is further away is reached by several wakes.
pub const MAX_DELAY_SECONDS: u32 = 900;

/// Brings wakes and letters on their way: SQS (`tidemark-aws`), [`MemoryQueue`] in memory. A successful answer is durable.
pub trait Queue: Send + Sync {
    /// Sends a [`tidemark_rules::Message::Wake`] for a lane that arrives after so many seconds, at most [`MAX_DELAY_SECONDS`].
    fn wake(&self, lane: &str, delay_seconds: u32) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Sends a body to the dead letters, where an operator finds it and may send it back.
    fn dead_letter(&self, body: &str, reason: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// A wake that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    /// The lane.
    pub lane: String,
    /// After how many seconds it arrives.
    pub delay_seconds: u32,
}

/// A letter that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The body.
    pub body: String,
    /// Why.
    pub reason: String,
}

/// Keeps what it is given until it is taken: for tests, and for running everything in one process.
#[derive(Debug, Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    wakes: Vec<Wake>,
    letters: Vec<DeadLetter>,
}

impl MemoryQueue {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the wakes that were sent since the last call, in order.
    pub fn take_wakes(&self) -> Vec<Wake> {
        std::mem::take(&mut self.state().wakes)
    }

    /// Takes the dead letters, in order.
    pub fn take_letters(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.state().letters)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue for MemoryQueue {
    async fn wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        self.state().wakes.push(Wake {
            lane: lane.to_owned(),
            delay_seconds,
        });
        Ok(())
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        self.state().letters.push(DeadLetter {
            body: body.to_owned(),
            reason: reason.to_owned(),
        });
        Ok(())
    }
}
