//! Secrets in memory.

use super::{SecretError, SecretRef, Secrets};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Secrets in memory: for tests, and for running everything in one process.
#[derive(Debug, Default)]
pub struct MemorySecrets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<SecretRef, SecretString>,
    is_down: bool,
}

impl MemorySecrets {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a secret.
    pub fn set(&self, reference: SecretRef, value: &str) {
        self.state().values.insert(reference, value.into());
    }

    /// Removes a secret.
    pub fn remove(&self, reference: &SecretRef) {
        self.state().values.remove(reference);
    }

    /// Whether the service answers.
    pub fn set_down(&self, is_down: bool) {
        self.state().is_down = is_down;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets for MemorySecrets {
    async fn read(&self, reference: &SecretRef) -> Result<SecretString, SecretError> {
        let state = self.state();
        let reference = reference.clone();
        if state.is_down {
            let reason = "the service does not answer".to_owned();
            return Err(SecretError::Unavailable { reference, reason });
        }
        state.values.get(&reference).cloned().ok_or_else(|| {
            let reason = "there is none".to_owned();
            SecretError::Unusable { reference, reason }
        })
    }
}
