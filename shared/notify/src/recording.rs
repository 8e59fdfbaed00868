//! A sender that sends nothing: for tests, and for running everything in one process.

use crate::retry::Failure;
use crate::sender::PostWebhook;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;

/// One webhook that would have been sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Posted {
    /// Where to.
    pub url: String,
    /// Its body.
    pub body: serde_json::Value,
    /// Its `Idempotency-Key`.
    pub idempotency_key: String,
}

/// Remembers what it is given, and fails as it was told to.
#[derive(Debug, Default)]
pub struct RecordingSender {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    posted: Vec<Posted>,
    failures: VecDeque<Failure>,
}

impl RecordingSender {
    /// Takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next attempts fail with these, one each, before it takes anything again.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().failures.extend(failures);
    }

    /// What it has taken, in order.
    #[must_use]
    pub fn posted(&self) -> Vec<Posted> {
        self.state().posted.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PostWebhook for RecordingSender {
    async fn post(&self, url: &str, body: Vec<u8>, idempotency_key: &str, _now: Timestamp) -> Result<(), Failure> {
        let mut state = self.state();
        if let Some(failure) = state.failures.pop_front() {
            return Err(failure);
        }
        let body = serde_json::from_slice(&body).map_err(|error| Failure::Permanent {
            reason: error.to_string(),
        })?;
        state.posted.push(Posted {
            url: url.to_owned(),
            body,
            idempotency_key: idempotency_key.to_owned(),
        });
        Ok(())
    }
}
