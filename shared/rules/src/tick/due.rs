//! Which rules are due, and for how long nobody looked at each.

use crate::rule::Rule;
use crate::store::TickState;
use md5::{Digest, Md5};
use std::collections::BTreeMap;
use tidemark_model::Timestamp;

const MINUTE_MS: i64 = 60_000;

/// A gap between two evaluations up to this is one that nobody need notice: a few ticks were late or missed.
const USUAL_GAP_MS: i64 = 5 * MINUTE_MS;

/// How far the last tick may lie in the future before its time is not believed.
const MAX_SKEW_MS: i64 = 5 * MINUTE_MS;

/// What is known of earlier ticks.
#[derive(Debug)]
pub(super) struct Past {
    last: Option<TickState>,
    /// `None`: everything is evaluated.
    every_ms: Option<i64>,
    now: Timestamp,
}

impl Past {
    /// Everything is due, and somebody looked all the time.
    pub(super) fn all(now: Timestamp) -> Self {
        Self {
            last: None,
            every_ms: None,
            now,
        }
    }

    /// After the last tick of a schedule.
    pub(super) fn since(last: Option<TickState>, every_ms: i64, now: Timestamp) -> Self {
        Self {
            // A tick of the far future was one of a wrong clock: until that time comes, every rule is due on every tick.
            last: last.filter(|last| last.at.0 <= now.0.saturating_add(MAX_SKEW_MS)),
            every_ms: Some(every_ms),
            now,
        }
    }

    /// Whether a rule is to be evaluated: its slot began after the last tick, it is owed, it was changed since, or nothing is known.
    pub(super) fn is_due(&self, rule: &Rule) -> bool {
        let Some(last) = &self.last else {
            return true;
        };
        let interval = interval_minutes(rule);
        let slot = |at: Timestamp| (at.0.div_euclid(MINUTE_MS) + phase(&rule.id, interval)).div_euclid(interval);
        interval == 1
            || slot(last.at) < slot(self.now)
            || last.owed.contains_key(&rule.id)
            || rule.updated_at >= last.at
    }

    /// How much of the time before now nobody looked at a rule.
    pub(super) fn unobserved_ms(&self, rule: &Rule) -> i64 {
        let Some((last, every_ms)) = self.last.as_ref().zip(self.every_ms) else {
            return 0;
        };
        let observed = last.owed.get(&rule.id).unwrap_or(&last.at);
        gap_ms(rule, every_ms, *observed, self.now)
    }

    /// What of these rules the next tick owes, each with the time of the last tick that evaluated it.
    pub(super) fn owed(&self, undone: &[String]) -> BTreeMap<String, Timestamp> {
        let observed = |id: &String| {
            let last = self.last.as_ref();
            last.map_or(self.now, |last| last.owed.get(id).copied().unwrap_or(last.at))
        };
        undone.iter().map(|id| (id.clone(), observed(id))).collect()
    }
}

/// The time between two evaluations of a rule, when it is longer than usual on a schedule with a tick every so many milliseconds; else 0.
fn gap_ms(rule: &Rule, every_ms: i64, before: Timestamp, now: Timestamp) -> i64 {
    let usual_ms = (interval_minutes(rule) * MINUTE_MS).max(every_ms).saturating_mul(2);
    let gap_ms = now.0.saturating_sub(before.0);
    if gap_ms > usual_ms.max(USUAL_GAP_MS) { gap_ms } else { 0 }
}

/// At least 1; at most a week (`limits::MAX_RULE_SECONDS`).
fn interval_minutes(rule: &Rule) -> i64 {
    i64::try_from(rule.spec.interval_seconds / 60)
        .unwrap_or(i64::MAX / MINUTE_MS)
        .clamp(1, 10_080)
}

/// In which of the minutes of its interval a rule is due: those of one interval are spread over it.
fn phase(id: &str, interval_minutes: i64) -> i64 {
    let digest = Md5::digest(id.as_bytes());
    let hash = digest
        .iter()
        .take(4)
        .fold(0_i64, |hash, byte| hash << 8 | i64::from(*byte));
    hash % interval_minutes
}

/// Which of several things a tick begins with, so that ticks that run out of time do not skip the same ones for ever.
///
/// The minute's place in the golden section's sequence (Fibonacci hashing): the beginnings of ticks spread over all
/// of them, also when several minutes lie between the ticks. A step of one per minute would not: with five selections and a
/// tick every five minutes it would always begin with the same one.
pub(super) fn first(now: Timestamp, count: usize) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15; // 2^64 / 1.618…
    let minute = now.0.div_euclid(MINUTE_MS) as u64;
    let place = u128::from(minute.wrapping_mul(GOLDEN));
    // Below `count`: a place is below 2^64.
    ((place * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests;
