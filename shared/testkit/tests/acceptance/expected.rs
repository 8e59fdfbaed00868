//! What a story may expect: that receivers are told, and what the history says.

use crate::language::Series;
use std::fmt;
use tidemark_notify::Cause;
use tidemark_rules::history::AttemptOutcome;
use tidemark_rules::{TransitionKind, TransitionReason};

/// One alert as a receiver is told of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) kind: TransitionKind,
    pub(crate) rule: String,
    pub(crate) series: Series,
    /// Not compared when an expectation has none.
    pub(crate) reason: Option<TransitionReason>,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rule, self.kind.as_str())?;
        let series: Vec<String> = self
            .series
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        write!(f, "({})", series.join(","))?;
        self.reason.map_or(Ok(()), |reason| write!(f, " {reason:?}"))
    }
}

/// One notification as a receiver gets it.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) channel: String,
    pub(crate) cause: Cause,
    pub(crate) digest: bool,
    pub(crate) alerts: Vec<Said>,
}

/// A notification without alerts, to be filled.
pub(crate) fn page(channel: &str) -> Page {
    Page {
        channel: channel.to_owned(),
        cause: Cause::Change,
        digest: false,
        alerts: Vec::new(),
    }
}

/// A notification that says just that.
pub(crate) fn firing(rule: &str, channel: &str, series: Series) -> Page {
    page(channel).firing(rule, series)
}

/// A notification that says just that.
pub(crate) fn resolved(rule: &str, channel: &str, series: Series) -> Page {
    page(channel).resolved(rule, series)
}

/// A sign of life.
pub(crate) fn beat(rule: &str, channel: &str) -> Page {
    let beat = firing(rule, channel, Series::new());
    Page {
        cause: Cause::Heartbeat,
        ..beat
    }
}

impl Page {
    fn and(mut self, kind: TransitionKind, rule: &str, series: Series) -> Self {
        self.alerts.push(Said {
            kind,
            rule: rule.to_owned(),
            series,
            reason: None,
        });
        self
    }

    pub(crate) fn firing(self, rule: &str, series: Series) -> Self {
        self.and(TransitionKind::Firing, rule, series)
    }

    pub(crate) fn resolved(self, rule: &str, series: Series) -> Self {
        self.and(TransitionKind::Resolved, rule, series)
    }

    /// The reason of the last alert.
    pub(crate) fn because(mut self, reason: TransitionReason) -> Self {
        self.alerts.last_mut().expect("an alert").reason = Some(reason);
        self
    }

    pub(crate) fn repeated(mut self) -> Self {
        self.cause = Cause::Repeat;
        self
    }

    pub(crate) fn in_digest(mut self) -> Self {
        self.digest = true;
        self
    }

    /// Whether what was told is what was expected.
    pub(crate) fn is_met_by(&self, told: &Self) -> bool {
        let same = |one: &Said, other: &Said| {
            (one.kind, &one.rule, &one.series) == (other.kind, &other.rule, &other.series)
                && one.reason.is_none_or(|reason| other.reason == Some(reason))
        };
        let mut left: Vec<&Said> = told.alerts.iter().collect();
        for said in &self.alerts {
            match left.iter().position(|other| same(said, other)) {
                Some(at) => left.swap_remove(at),
                None => return false,
            };
        }
        left.is_empty() && (&self.channel, self.cause, self.digest) == (&told.channel, told.cause, told.digest)
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alerts: Vec<String> = self.alerts.iter().map(Said::to_string).collect();
        write!(f, "{}: {}", self.channel, alerts.join(" + "))?;
        f.write_str(match self.cause {
            Cause::Change => "",
            Cause::Repeat => " [again]",
            Cause::Heartbeat => " [heartbeat]",
            Cause::Test => " [test]",
        })?;
        f.write_str(if self.digest { " [digest]" } else { "" })
    }
}

/// Something that the history must tell.
#[derive(Clone, Debug)]
pub(crate) enum Recorded {
    /// A suppression in a channel, whose reason contains this.
    Suppressed { channel: String, reason: String },
    /// An attempt at a channel.
    Attempt { channel: String, outcome: AttemptOutcome },
    /// A transition, perhaps by somebody.
    Transition {
        kind: TransitionKind,
        reason: TransitionReason,
        by: Option<String>,
    },
}

pub(crate) fn suppressed(channel: &str, reason: &str) -> Recorded {
    Recorded::Suppressed {
        channel: channel.to_owned(),
        reason: reason.to_owned(),
    }
}

pub(crate) fn attempt(channel: &str, outcome: AttemptOutcome) -> Recorded {
    Recorded::Attempt {
        channel: channel.to_owned(),
        outcome,
    }
}

pub(crate) fn became(kind: TransitionKind, reason: TransitionReason) -> Recorded {
    Recorded::Transition { kind, reason, by: None }
}

pub(crate) fn by(who: &str, kind: TransitionKind, reason: TransitionReason) -> Recorded {
    Recorded::Transition {
        kind,
        reason,
        by: Some(who.to_owned()),
    }
}

/// Something that must come true.
#[derive(Clone, Debug)]
pub(crate) enum Expectation {
    Told(Page),
    /// So many entries of a rule's alert; `None`: at least one.
    History {
        rule: String,
        series: Series,
        what: Recorded,
        times: Option<usize>,
    },
    DeadLetter {
        channel: String,
    },
    /// So many attempts at a channel, whether they succeeded or not.
    Attempts {
        channel: String,
        least: usize,
        most: usize,
    },
}
