//! How long to wait before the next attempt: a pure function of what failed, how often, and a random number.

use std::time::Duration;

/// The longest `Retry-After` that is obeyed. A server that asks for more is asked again anyway: a mistaken header must not
/// silence a host for a day.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Exponential back-off between two bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) longest: Duration,
}

impl Backoff {
    /// The pause after the `failures`-th failure in a row (from 1), with `jitter` in 0..1.
    ///
    /// Half of the pause is random, so that a fleet that failed together does not come back together. A `Retry-After` is
    /// the least to wait, and gets a random part on top for the same reason.
    pub(crate) fn pause(&self, failures: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let ceiling = self.first.saturating_mul(1 << doublings).min(self.longest);
        let pause = ceiling.mul_f64(0.5 + 0.5 * jitter);
        match retry_after {
            Some(after) => pause.max(after.min(MAX_RETRY_AFTER) + self.first.mul_f64(jitter)),
            None => pause,
        }
    }
}

/// The seconds of a `Retry-After` header. Its other form, a date, would need both clocks to agree and is not read.
pub(crate) fn parse_retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(500),
        longest: Duration::from_secs(60),
    };

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<f64> = (1..=9).map(|n| BACKOFF.pause(n, None, 1.0).as_secs_f64()).collect();
        assert_eq!(pauses, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        assert_eq!(BACKOFF.pause(u32::MAX, None, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn half_of_a_pause_is_random() {
        assert_eq!(BACKOFF.pause(3, None, 0.0), Duration::from_secs(1));
        assert_eq!(BACKOFF.pause(3, None, 0.5), Duration::from_millis(1_500));
    }

    #[test]
    fn retry_after_is_the_least_to_wait_within_reason() {
        let after = |seconds, failures| BACKOFF.pause(failures, Some(Duration::from_secs(seconds)), 0.0);
        assert_eq!(after(7, 1), Duration::from_secs(7));
        assert_eq!(after(0, 3), Duration::from_secs(1));
        assert_eq!(after(86_400, 1), MAX_RETRY_AFTER);
        assert_eq!(after(u64::MAX, 1), MAX_RETRY_AFTER);
    }

    #[test]
    fn only_whole_seconds_are_read() {
        assert_eq!(parse_retry_after(" 3 "), Some(Duration::from_secs(3)));
        for header in [
            "",
            "-1",
            "soon",
            "1.5",
            "Wed, 21 Oct 2026 07:28:00 GMT",
            "99999999999999999999",
        ] {
            assert_eq!(parse_retry_after(header), None, "{header}");
        }
    }
}
