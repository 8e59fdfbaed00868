//! The rate limit of a channel: a token bucket in its lane's head. Pure.

use crate::channel::RateLimit;
use crate::store::Lane;
use tidemark_model::Timestamp;

/// A bucket at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bucket {
    tokens: f64,
    per_ms: f64,
    at: Timestamp,
}

impl Bucket {
    /// The bucket of a lane. A limit of none per no time would lose what it holds back; it counts as one.
    pub(crate) fn of(lane: &Lane, limit: RateLimit, now: Timestamp) -> Self {
        let size = f64::from(limit.notifications.max(1));
        let per_ms = size / (limit.per_seconds.max(1) as f64 * 1_000.0);
        let tokens = match lane.tokens_at {
            // A clock behind that of the last look brings nothing.
            Some(at) => lane.tokens.max(0.0) + now.0.saturating_sub(at.0).max(0) as f64 * per_ms,
            None => size,
        };
        let tokens = if tokens.is_finite() { tokens.min(size) } else { size };
        Self {
            tokens,
            per_ms,
            // Never back: who comes next, by a clock that is ahead again, would count the same time twice.
            at: lane.tokens_at.map_or(now, |at| at.max(now)),
        }
    }

    /// How many notifications it allows now.
    pub(crate) fn whole(&self) -> usize {
        // What refills in steps of thirds adds up to a little less than one.
        (self.tokens + 1e-6).floor() as usize
    }

    /// Takes some out.
    pub(crate) fn take(&mut self, count: usize) {
        self.tokens = (self.tokens - count as f64).max(0.0);
    }

    /// When it allows one.
    pub(crate) fn next_at(&self) -> Timestamp {
        let missing = (1.0 - self.tokens).max(0.0);
        Timestamp(self.at.0.saturating_add((missing / self.per_ms).ceil() as i64))
    }

    /// Keeps it in the head.
    pub(crate) fn store(&self, lane: &mut Lane) {
        lane.tokens = self.tokens;
        lane.tokens_at = Some(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    const LIMIT: RateLimit = RateLimit {
        notifications: 3,
        per_seconds: 60,
    };

    #[test]
    fn a_bucket_begins_full_and_fills_evenly() {
        let mut lane = Lane::new("l");
        let mut bucket = Bucket::of(&lane, LIMIT, at(0));
        assert_eq!((bucket.whole(), bucket.next_at()), (3, at(0)));
        bucket.take(3);
        assert_eq!((bucket.whole(), bucket.next_at()), (0, at(20)));
        bucket.store(&mut lane);
        assert_eq!(Bucket::of(&lane, LIMIT, at(19)).whole(), 0);
        assert_eq!(Bucket::of(&lane, LIMIT, at(20)).whole(), 1);
        assert_eq!(Bucket::of(&lane, LIMIT, at(3_600)).whole(), 3, "no more than it holds");
    }

    #[test]
    fn small_steps_add_up() {
        let mut lane = Lane::new("l");
        let mut bucket = Bucket::of(&lane, LIMIT, at(0));
        bucket.take(3);
        bucket.store(&mut lane);
        for second in 1..=20 {
            Bucket::of(&lane, LIMIT, at(second)).store(&mut lane);
        }
        assert_eq!(Bucket::of(&lane, LIMIT, at(20)).whole(), 1);
    }

    #[test]
    fn a_clock_that_is_behind_neither_takes_nor_gives() {
        let mut lane = Lane::new("l");
        let mut bucket = Bucket::of(&lane, LIMIT, at(60));
        bucket.take(2);
        bucket.store(&mut lane);
        let behind = Bucket::of(&lane, LIMIT, at(0));
        assert_eq!(behind.whole(), 1);
        behind.store(&mut lane);
        assert_eq!(
            Bucket::of(&lane, LIMIT, at(60)).whole(),
            1,
            "the same minute is not counted twice"
        );
    }

    #[test]
    fn a_limit_of_nothing_still_lets_one_through() {
        let none = RateLimit {
            notifications: 0,
            per_seconds: 0,
        };
        let mut bucket = Bucket::of(&Lane::new("l"), none, at(0));
        assert_eq!(bucket.whole(), 1);
        bucket.take(1);
        assert!(bucket.next_at() > at(0));
    }
}
