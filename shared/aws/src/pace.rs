//! How adapters wait: the clock, the pauses between attempts, and the chance in them.
//!
//! AWS batch calls succeed partially. The SDK retries calls that fail; what a *successful* call reports as failed is
//! repeated here, entry by entry, after a pause that doubles and is drawn at random ("full jitter": clients that were
//! throttled together must not come back together), until the caller's deadline.

use futures::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest first pause. A throttled Kinesis shard or DynamoDB partition has room again within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest later pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A clock that only goes forward, a way to sleep and a source of chance. Tests script all three.
#[derive(Clone)]
pub struct Pace {
    now: Arc<dyn Fn() -> Instant + Send + Sync>,
    sleep: Arc<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
    jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Pace {
    /// Real time, and the thread's random numbers.
    #[must_use]
    pub fn real() -> Self {
        Self::scripted(Instant::now, |pause| Box::pin(tokio::time::sleep(pause)), rand::random)
    }

    /// Another clock, another sleep, another source of numbers in `0.0..1.0`.
    pub fn scripted(
        now: impl Fn() -> Instant + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
        jitter: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self {
            now: Arc::new(now),
            sleep: Arc::new(sleep),
            jitter: Arc::new(jitter),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Instant {
        (self.now)()
    }

    /// Attempts until a deadline.
    pub(crate) fn until(&self, deadline: Instant) -> Attempts<'_> {
        Attempts {
            pace: self,
            deadline,
            pauses: 0,
        }
    }

    /// Attempts within a time from now.
    pub(crate) fn within(&self, limit: Duration) -> Attempts<'_> {
        self.until(self.now() + limit)
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pace")
    }
}

/// The attempts of one operation.
#[derive(Debug)]
pub(crate) struct Attempts<'a> {
    pace: &'a Pace,
    deadline: Instant,
    pauses: u32,
}

impl Attempts<'_> {
    /// Runs one attempt; `None` when the deadline comes first. What it may have done by then is unknown.
    pub(crate) async fn run<F: Future>(&self, attempt: F) -> Option<F::Output> {
        let left = self.deadline.saturating_duration_since(self.pace.now());
        if left.is_zero() {
            return None;
        }
        tokio::time::timeout(left, attempt).await.ok()
    }

    /// Attempts of a part of the same operation, with the same deadline.
    pub(crate) fn again(&self) -> Self {
        Self {
            pace: self.pace,
            deadline: self.deadline,
            pauses: 0,
        }
    }

    /// Waits before the next attempt; `false`, at once, when the deadline would pass meanwhile.
    pub(crate) async fn pause(&mut self) -> bool {
        let longest = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(LONGEST_PAUSE);
        self.pauses += 1;
        let pause = longest.mul_f64((self.pace.jitter)().clamp(0.0, 1.0));
        if self.pace.now() + pause >= self.deadline {
            return false;
        }
        (self.pace.sleep)(pause).await;
        true
    }
}

/// Splits entries into calls of at most `count` entries and `bytes` bytes, in order. An entry that is larger alone gets
/// a call alone.
pub(crate) fn calls<T>(entries: Vec<T>, count: usize, bytes: usize, size: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut calls: Vec<Vec<T>> = Vec::new();
    let mut used = 0;
    for entry in entries {
        let more = size(&entry);
        match calls.last_mut() {
            Some(call) if call.len() < count && used + more <= bytes => {
                used += more;
                call.push(entry);
            }
            _ => {
                used = more;
                calls.push(vec![entry]);
            }
        }
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Time;
    use proptest::prelude::*;

    #[tokio::test]
    async fn pauses_double_up_to_a_second() {
        let time = Time::new(1.0);
        let pace = time.pace();
        let mut attempts = pace.within(Duration::from_secs(60));
        for _ in 0..7 {
            assert!(attempts.pause().await);
        }
        let millis: Vec<u128> = time.pauses().iter().map(Duration::as_millis).collect();
        assert_eq!(millis, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }

    #[tokio::test]
    async fn no_pause_reaches_the_deadline() {
        let time = Time::new(1.0);
        let pace = time.pace();
        let mut attempts = pace.within(Duration::from_millis(120));
        assert!(attempts.pause().await);
        assert!(!attempts.pause().await);
        assert_eq!(time.pauses().len(), 1);
    }

    #[tokio::test]
    async fn an_attempt_ends_with_the_deadline() {
        let pace = Pace::real();
        let attempts = pace.within(Duration::from_millis(20));
        assert_eq!(attempts.run(std::future::pending::<()>()).await, None);
        assert_eq!(attempts.run(async { 1 }).await, None);
    }

    proptest! {
        #[test]
        fn calls_keep_order_and_limits(sizes in proptest::collection::vec(0_usize..60, 0..80)) {
            let made = calls(sizes.clone(), 5, 100, |size| *size);
            prop_assert_eq!(made.concat(), sizes);
            for call in made {
                prop_assert!(!call.is_empty() && call.len() <= 5 && call.iter().sum::<usize>() <= 100);
            }
        }
    }
}
