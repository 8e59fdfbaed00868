//! Secrets that are remembered, and secrets in memory.

use super::{SecretError, SecretRef, Secrets};
use secrecy::SecretString;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;

/// How long a secret is remembered, in milliseconds. Somebody who changes one waits no longer for it to be used.
pub const REMEMBERED_MS: i64 = 300_000;

/// The most secrets that are remembered: more than a process has channels to tell.
const MAX_REMEMBERED: usize = 1_000;

/// Remembers what it has read for five minutes, and goes on with the last value for as long as the service does not answer: an outage of
/// Secrets Manager must not be an outage of paging. What the service says is gone, is gone.
pub struct Cached<S, C> {
    inner: S,
    clock: C,
    values: Mutex<BTreeMap<SecretRef, Remembered>>,
}

#[derive(Clone)]
struct Remembered {
    value: SecretString,
    read_at: Timestamp,
}

impl<S: Secrets, C: Fn() -> Timestamp + Send + Sync> Cached<S, C> {
    /// Remembers what `inner` reads, by this clock.
    pub fn new(inner: S, clock: C) -> Self {
        Self {
            inner,
            clock,
            values: Mutex::default(),
        }
    }

    fn values(&self) -> MutexGuard<'_, BTreeMap<SecretRef, Remembered>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S, C> fmt::Debug for Cached<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").finish_non_exhaustive()
    }
}

impl<S: Secrets, C: Fn() -> Timestamp + Send + Sync> Secrets for Cached<S, C> {
    async fn read(&self, reference: &SecretRef) -> Result<SecretString, SecretError> {
        let now = (self.clock)();
        let known = self.values().get(reference).cloned();
        if let Some(known) = &known {
            let age_ms = now.0.saturating_sub(known.read_at.0);
            // A clock that was set back makes nothing younger.
            if (0..REMEMBERED_MS).contains(&age_ms) {
                return Ok(known.value.clone());
            }
        }
        match (self.inner.read(reference).await, known) {
            (Ok(value), _) => {
                let mut values = self.values();
                if values.len() >= MAX_REMEMBERED && !values.contains_key(reference) {
                    values.clear();
                }
                let remembered = Remembered {
                    value: value.clone(),
                    read_at: now,
                };
                values.insert(reference.clone(), remembered);
                Ok(value)
            }
            (Err(error @ SecretError::Unavailable { .. }), Some(known)) => {
                tracing::warn!(
                    secret = %reference,
                    reason = %error,
                    "a secret could not be read again; its last value is used"
                );
                Ok(known.value)
            }
            (Err(error), _) => {
                if matches!(error, SecretError::Unusable { .. }) {
                    self.values().remove(reference);
                }
                Err(error)
            }
        }
    }
}

/// Secrets in memory: for tests, and for running everything in one process.
#[derive(Debug, Default)]
pub struct MemorySecrets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    values: BTreeMap<SecretRef, SecretString>,
    is_down: bool,
    reads: usize,
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

    /// How often it was asked.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Secrets for MemorySecrets {
    async fn read(&self, reference: &SecretRef) -> Result<SecretString, SecretError> {
        let mut state = self.state();
        state.reads += 1;
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

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn reference() -> SecretRef {
        "ssm:/tidemark/slack".parse().unwrap()
    }

    async fn value(secrets: &impl Secrets) -> Result<String, SecretError> {
        let read = secrets.read(&reference()).await;
        read.map(|value| value.expose_secret().to_owned())
    }

    #[tokio::test]
    async fn a_secret_is_remembered_for_five_minutes_and_through_an_outage() {
        let inner = MemorySecrets::new();
        inner.set(reference(), "one");
        let now = AtomicI64::new(1_000);
        let cached = Cached::new(inner, || Timestamp(now.load(Ordering::SeqCst)));
        assert_eq!(value(&cached).await.unwrap(), "one");
        cached.inner.set(reference(), "two");
        now.fetch_add(REMEMBERED_MS - 1, Ordering::SeqCst);
        assert_eq!(value(&cached).await.unwrap(), "one");
        now.fetch_add(1, Ordering::SeqCst);
        assert_eq!(value(&cached).await.unwrap(), "two");
        assert_eq!(cached.inner.reads(), 2);
        cached.inner.set_down(true);
        now.fetch_add(10 * REMEMBERED_MS, Ordering::SeqCst);
        assert_eq!(value(&cached).await.unwrap(), "two");
        // What is deleted is not used any more, and not brought back by an outage.
        cached.inner.set_down(false);
        cached.inner.remove(&reference());
        assert!(matches!(value(&cached).await, Err(SecretError::Unusable { .. })));
        cached.inner.set_down(true);
        assert!(matches!(value(&cached).await, Err(SecretError::Unavailable { .. })));
        assert!(!format!("{cached:?} {:?}", cached.inner).contains("two"));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_makes_no_secret_younger() {
        let inner = MemorySecrets::new();
        inner.set(reference(), "one");
        let now = AtomicI64::new(1_000_000);
        let cached = Cached::new(inner, || Timestamp(now.load(Ordering::SeqCst)));
        assert_eq!(value(&cached).await.unwrap(), "one");
        cached.inner.set(reference(), "two");
        now.store(999_999, Ordering::SeqCst);
        assert_eq!(value(&cached).await.unwrap(), "two");
    }
}
