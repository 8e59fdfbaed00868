//! When a failed notification is tried again: a pure function of the attempt, the failure and a random number.
//!
//! The delay doubles from 5 s to 15 min; half of it is fixed and half random. A purely random delay spreads load best, but
//! cannot promise to last: with half of it fixed, twenty attempts outlive an outage of at least an hour and a half, whatever the dice say.

/// The most attempts for one notification to one channel.
pub const MAX_ATTEMPTS: u32 = 20;

/// The delay after the first failure, in seconds, before its random part.
pub const FIRST_DELAY_SECONDS: u64 = 5;

/// The longest delay, in seconds, also when a receiver asks for more: an on-call person wants to know within a quarter of an hour
/// that the receiver is back.
pub const MAX_DELAY_SECONDS: u64 = 900;

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The receiver asked to slow down (429, or 503 with `Retry-After`).
    #[error("the receiver asked to slow down (status {status})")]
    Throttled {
        /// The HTTP status.
        status: u16,
        /// How long it asked to wait, in seconds.
        after_seconds: Option<u64>,
    },
    /// It did not answer in time.
    #[error("the receiver did not answer in time")]
    Timeout,
    /// It could not be reached, or broke off: name resolution, connection, TLS.
    #[error("the receiver could not be reached: {reason}")]
    Unreachable {
        /// What went wrong, without the URL, which may hold a secret.
        reason: String,
    },
    /// It failed (5xx, 408, 425).
    #[error("the receiver failed with status {status}")]
    Server {
        /// The HTTP status.
        status: u16,
    },
    /// A secret that the channel refers to is not there, cannot be used or could not be read now. Nothing was sent, and somebody may put it
    /// right: it is tried again like a receiver that fails.
    #[error("{reason}")]
    Secret {
        /// Which and why; never its value.
        reason: String,
    },
    /// It will not take this, now or later: any other status, a redirect, a forbidden address.
    #[error("{reason}")]
    Permanent {
        /// Why.
        reason: String,
    },
}

/// What to do after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again after so many seconds, at least 1.
    RetryIn(u64),
    /// Stop.
    GiveUp(GiveUpReason),
}

/// Why no further attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GiveUpReason {
    /// The failure will repeat itself.
    #[error("the failure is permanent")]
    Permanent,
    /// [`MAX_ATTEMPTS`] were made.
    #[error("{MAX_ATTEMPTS} attempts failed")]
    TooManyAttempts,
}

/// The delay after the attempt with this number, counted from 1, in seconds. `jitter` is a random number from 0 to 1.
#[must_use]
pub fn delay_seconds(attempt: u32, jitter: f64) -> u64 {
    let doublings = attempt.saturating_sub(1).min(16);
    let full = (FIRST_DELAY_SECONDS << doublings).min(MAX_DELAY_SECONDS) as f64;
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        1.0
    };
    // From 2.5 to 900: rounded up, at least 3.
    (full * (0.5 + 0.5 * jitter)).ceil() as u64
}

/// What follows from the failure of the attempt with this number, counted from 1. `jitter` is a random number from 0 to 1.
#[must_use]
pub fn after_failure(attempt: u32, failure: &Failure, jitter: f64) -> Verdict {
    if matches!(failure, Failure::Permanent { .. }) {
        return Verdict::GiveUp(GiveUpReason::Permanent);
    }
    if attempt >= MAX_ATTEMPTS {
        return Verdict::GiveUp(GiveUpReason::TooManyAttempts);
    }
    let asked = match failure {
        Failure::Throttled { after_seconds, .. } => after_seconds.unwrap_or(0).min(MAX_DELAY_SECONDS),
        _ => 0,
    };
    Verdict::RetryIn(delay_seconds(attempt, jitter).max(asked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn server() -> Failure {
        Failure::Server { status: 500 }
    }

    #[test]
    fn delays_double_up_to_a_quarter_of_an_hour() {
        let delays: Vec<u64> = (1..=10).map(|attempt| delay_seconds(attempt, 1.0)).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(delay_seconds(1, 0.0), 3);
        assert_eq!(delay_seconds(u32::MAX, 0.0), 450);
    }

    #[test]
    fn the_attempts_outlive_an_outage_of_an_hour_even_with_the_worst_dice() {
        let total: u64 = (1..MAX_ATTEMPTS).map(|attempt| delay_seconds(attempt, 0.0)).sum();
        assert!(total > 90 * 60, "{total} s");
    }

    #[test]
    fn a_permanent_failure_is_not_repeated() {
        let failure = Failure::Permanent {
            reason: "status 404".into(),
        };
        assert_eq!(
            after_failure(1, &failure, 0.5),
            Verdict::GiveUp(GiveUpReason::Permanent)
        );
    }

    #[test]
    fn the_last_attempt_is_the_last() {
        assert!(matches!(
            after_failure(MAX_ATTEMPTS - 1, &server(), 0.5),
            Verdict::RetryIn(_)
        ));
        assert_eq!(
            after_failure(MAX_ATTEMPTS, &server(), 0.5),
            Verdict::GiveUp(GiveUpReason::TooManyAttempts)
        );
    }

    #[test]
    fn a_receiver_may_ask_for_a_longer_pause_but_not_for_a_day() {
        let asks = |after_seconds| Failure::Throttled {
            status: 429,
            after_seconds,
        };
        assert_eq!(after_failure(1, &asks(Some(60)), 0.0), Verdict::RetryIn(60));
        assert_eq!(after_failure(1, &asks(Some(1)), 0.0), Verdict::RetryIn(3));
        assert_eq!(after_failure(1, &asks(Some(u64::MAX)), 0.0), Verdict::RetryIn(900));
        assert_eq!(after_failure(1, &asks(None), 0.0), Verdict::RetryIn(3));
    }

    #[test]
    fn failures_read_as_sentences() {
        assert_eq!(server().to_string(), "the receiver failed with status 500");
        assert_eq!(GiveUpReason::TooManyAttempts.to_string(), "20 attempts failed");
    }

    proptest! {
        #[test]
        fn every_delay_lies_between_three_seconds_and_a_quarter_of_an_hour(attempt in 1_u32.., jitter: f64) {
            prop_assert!((3..=MAX_DELAY_SECONDS).contains(&delay_seconds(attempt, jitter)));
        }
    }
}
