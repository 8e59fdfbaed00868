//! The language of the stories. A [`Story`] is written down in any order (what is configured, what happens when, who is told what)
//! and then told at once, on a fake clock, by [`Story::expect_nothing_else`].
//!
//! ```text
//! let mut story = Story::new();
//! story.channel("ops", json!({}));
//! story.rule("high_cpu", json!({"duration_seconds": 60}));
//! story.during(between(1, 9)).push("cpu", host("a"), 95.0);
//! story.at(0).silence("known", "{host='a'}", between(5, 9));
//! story.expect(between(2, 3), firing("high_cpu", "ops", host("a")));
//! story.expect_nothing_else();
//! ```
//!
//! Times are minutes since the story began, a Monday at noon, UTC; ticks come at whole minutes, after what happens at that minute.
//! A rule watches `cpu` above 90 and names the channel `ops`, a channel is a webhook with Tidemark's own settings, unless the story
//! says otherwise. The story ends at the latest time that it names.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use tidemark_model::Timestamp;
use tidemark_notify::{Cause, Failure};
use tidemark_rules::history::AttemptOutcome;
use tidemark_rules::{TransitionKind, TransitionReason};

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

/// The labels of a series.
pub(crate) type Series = BTreeMap<String, String>;

pub(crate) fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Series {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

pub(crate) fn host(name: &str) -> Series {
    labels([("host", name)])
}

/// Something that is done at one time.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Push {
        metric: String,
        series: Series,
        value: f64,
    },
    CreateRule {
        name: String,
        fields: Value,
    },
    PatchRule {
        name: String,
        fields: Value,
    },
    DeleteRule {
        name: String,
    },
    CreateChannel {
        id: String,
        fields: Value,
    },
    CreateSilence {
        id: String,
        matchers: String,
        span: Span,
    },
    EndSilence {
        id: String,
    },
    CreateInhibition {
        fields: Value,
    },
    CreateMuteTime {
        fields: Value,
    },
    Acknowledge {
        rule: String,
        series: Series,
        by: String,
    },
    Resolve {
        rule: String,
        series: Series,
        by: String,
    },
    /// An operator sends all dead letters back.
    Redrive,
    /// Somebody evaluates all rules by hand.
    Tick,
    /// The evaluation dies once it has saved what it decided, before anything of it is published.
    DieBeforePublishing,
    /// `notify` dies with a receiver's answer in its hands.
    DieBeforeRecording,
}

/// What is so for a while.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Nothing runs: no tick, no consumer, no delivery. Samples pile up in the stream.
    Outage,
    /// The schedule makes no ticks.
    NoTicks,
    /// Each tick comes twice.
    TwoTicks,
    /// The topic takes nothing.
    TopicDown,
    /// Samples cannot be read.
    DataDown,
    /// The queue delivers every message twice.
    Twice,
    /// What a channel's receiver answers.
    Receiver { channel: String, answer: Answer },
}

/// What a receiver answers that does not just take what comes.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Fails(Failure),
    /// It takes it, and the answer is lost.
    Lost,
}

pub(crate) fn server_error() -> Answer {
    Answer::Fails(Failure::Server { status: 500 })
}

pub(crate) fn slow_down(after_seconds: u64) -> Answer {
    Answer::Fails(Failure::Throttled {
        status: 429,
        after_seconds: Some(after_seconds),
    })
}

pub(crate) fn gone() -> Answer {
    Answer::Fails(Failure::Permanent {
        reason: "the receiver answered with status 410".to_owned(),
    })
}

pub(crate) fn answer_lost() -> Answer {
    Answer::Lost
}

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

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Story {
    pub(crate) acts: Vec<(Moment, Act)>,
    pub(crate) states: Vec<(Span, State)>,
    pub(crate) expectations: Vec<(Span, Expectation)>,
}

/// At one time of a story.
#[derive(Debug)]
pub(crate) struct At<'a>(&'a mut Story, Moment);

/// For a while of a story.
#[derive(Debug)]
pub(crate) struct During<'a>(&'a mut Story, Span);

impl Story {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A rule from the beginning on.
    pub(crate) fn rule(&mut self, name: &str, fields: Value) {
        self.at(0).rule(name, fields);
    }

    /// A channel from the beginning on.
    pub(crate) fn channel(&mut self, id: &str, fields: Value) {
        self.at(0).channel(id, fields);
    }

    /// An inhibition from the beginning on.
    pub(crate) fn inhibition(&mut self, fields: Value) {
        self.at(0).act(Act::CreateInhibition { fields });
    }

    /// A mute time from the beginning on.
    pub(crate) fn mute_time(&mut self, fields: Value) {
        self.at(0).act(Act::CreateMuteTime { fields });
    }

    pub(crate) fn at(&mut self, when: impl Into<Moment>) -> At<'_> {
        At(self, when.into())
    }

    pub(crate) fn during(&mut self, span: Span) -> During<'_> {
        During(self, span)
    }

    /// Somebody is told, once for each time that this is said.
    pub(crate) fn expect(&mut self, span: Span, page: Page) {
        self.expectations.push((span, Expectation::Told(page)));
    }

    /// The history has at least one such entry.
    pub(crate) fn expect_history(&mut self, span: Span, rule: &str, series: Series, what: Recorded) {
        self.history(span, rule, series, what, None);
    }

    /// The history has just so many such entries.
    pub(crate) fn expect_history_times(
        &mut self,
        times: usize,
        span: Span,
        rule: &str,
        series: Series,
        what: Recorded,
    ) {
        self.history(span, rule, series, what, Some(times));
    }

    fn history(&mut self, span: Span, rule: &str, series: Series, what: Recorded, times: Option<usize>) {
        let rule = rule.to_owned();
        let entry = Expectation::History {
            rule,
            series,
            what,
            times,
        };
        self.expectations.push((span, entry));
    }

    /// A notification of a channel is given up, once for each time that this is said.
    pub(crate) fn expect_dead_letter(&mut self, span: Span, channel: &str) {
        let channel = channel.to_owned();
        self.expectations.push((span, Expectation::DeadLetter { channel }));
    }

    /// A receiver is tried so many times in a span.
    pub(crate) fn expect_attempts(&mut self, span: Span, channel: &str, least: usize, most: usize) {
        let channel = channel.to_owned();
        let attempts = Expectation::Attempts { channel, least, most };
        self.expectations.push((span, attempts));
    }

    /// Tells the story. Fails, with all that happened, when anything expected did not happen, or anybody was told anything else.
    pub(crate) fn expect_nothing_else(self) {
        crate::verdict::judge(&self, &crate::world::play(&self));
    }

    /// The latest time that is named.
    pub(crate) fn end(&self) -> Moment {
        let acts = self.acts.iter().map(|(at, _)| *at);
        let spans = self.states.iter().map(|(span, _)| span.to);
        let expected = self.expectations.iter().map(|(span, _)| span.to);
        acts.chain(spans).chain(expected).max().expect("a story without times")
    }
}

impl At<'_> {
    fn act(self, act: Act) {
        self.0.acts.push((self.1, act));
    }

    pub(crate) fn push(self, metric: &str, series: Series, value: f64) {
        let metric = metric.to_owned();
        self.act(Act::Push { metric, series, value });
    }

    pub(crate) fn rule(self, name: &str, fields: Value) {
        let name = name.to_owned();
        self.act(Act::CreateRule { name, fields });
    }

    pub(crate) fn change_rule(self, name: &str, fields: Value) {
        let name = name.to_owned();
        self.act(Act::PatchRule { name, fields });
    }

    pub(crate) fn disable_rule(self, name: &str) {
        self.change_rule(name, json!({"enabled": false}));
    }

    pub(crate) fn delete_rule(self, name: &str) {
        self.act(Act::DeleteRule { name: name.to_owned() });
    }

    pub(crate) fn channel(self, id: &str, fields: Value) {
        let id = id.to_owned();
        self.act(Act::CreateChannel { id, fields });
    }

    pub(crate) fn silence(self, id: &str, matchers: &str, span: Span) {
        let (id, matchers) = (id.to_owned(), matchers.to_owned());
        self.act(Act::CreateSilence { id, matchers, span });
    }

    pub(crate) fn end_silence(self, id: &str) {
        self.act(Act::EndSilence { id: id.to_owned() });
    }

    pub(crate) fn acknowledge(self, rule: &str, series: Series, by: &str) {
        let (rule, by) = (rule.to_owned(), by.to_owned());
        self.act(Act::Acknowledge { rule, series, by });
    }

    pub(crate) fn resolve(self, rule: &str, series: Series, by: &str) {
        let (rule, by) = (rule.to_owned(), by.to_owned());
        self.act(Act::Resolve { rule, series, by });
    }

    pub(crate) fn redrive(self) {
        self.act(Act::Redrive);
    }

    pub(crate) fn tick(self) {
        self.act(Act::Tick);
    }

    pub(crate) fn evaluation_dies_before_publishing(self) {
        self.act(Act::DieBeforePublishing);
    }

    pub(crate) fn notify_dies_before_recording(self) {
        self.act(Act::DieBeforeRecording);
    }
}

impl During<'_> {
    /// A sample each minute.
    pub(crate) fn push(self, metric: &str, series: Series, value: f64) {
        self.push_each(metric, series, |_| value);
    }

    /// A sample each minute, its value from the number of the minute, counted from 0.
    pub(crate) fn push_each(self, metric: &str, series: Series, value: impl Fn(i32) -> f64) {
        let Self(story, span) = self;
        let times = (0..).map(|minute| (minute, Moment(span.from.0 + i64::from(minute) * 60_000)));
        for (minute, at) in times.take_while(|(_, at)| *at <= span.to) {
            story.at(at).push(metric, series.clone(), value(minute));
        }
    }

    fn state(self, state: State) {
        self.0.states.push((self.1, state));
    }

    pub(crate) fn outage(self) {
        self.state(State::Outage);
    }

    pub(crate) fn no_ticks(self) {
        self.state(State::NoTicks);
    }

    pub(crate) fn two_ticks(self) {
        self.state(State::TwoTicks);
    }

    pub(crate) fn topic_is_down(self) {
        self.state(State::TopicDown);
    }

    pub(crate) fn data_cannot_be_read(self) {
        self.state(State::DataDown);
    }

    pub(crate) fn messages_come_twice(self) {
        self.state(State::Twice);
    }

    pub(crate) fn receiver(self, channel: &str, answer: Answer) {
        let channel = channel.to_owned();
        self.state(State::Receiver { channel, answer });
    }
}
