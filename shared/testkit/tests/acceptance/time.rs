//! Times of a story.

use std::fmt;
use tidemark_model::Timestamp;

/// 2026-01-05T12:00:00Z.
const BEGIN_MS: i64 = 1_767_614_400_000;

/// A time of the story, in milliseconds since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl From<i32> for Moment {
    fn from(minutes: i32) -> Self {
        Self(i64::from(minutes) * 60_000)
    }
}

impl From<f64> for Moment {
    fn from(minutes: f64) -> Self {
        Self((minutes * 60_000.0).round() as i64)
    }
}

impl From<Timestamp> for Moment {
    fn from(time: Timestamp) -> Self {
        Self(time.0 - BEGIN_MS)
    }
}

impl Moment {
    pub(crate) fn time(self) -> Timestamp {
        Timestamp(BEGIN_MS + self.0)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (minutes, ms) = (self.0.div_euclid(60_000), self.0.rem_euclid(60_000));
        write!(f, "{minutes:4}:{:02}", ms / 1_000)?;
        if ms % 1_000 == 0 {
            Ok(())
        } else {
            write!(f, ".{:03}", ms % 1_000)
        }
    }
}

/// From one time to another, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Moment,
    pub(crate) to: Moment,
}

pub(crate) fn between(from: impl Into<Moment>, to: impl Into<Moment>) -> Span {
    let (from, to) = (from.into(), to.into());
    assert!(from <= to, "a span ends before it begins");
    Span { from, to }
}

impl Span {
    pub(crate) fn holds(self, at: Moment) -> bool {
        self.from <= at && at <= self.to
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.from, self.to)
    }
}
