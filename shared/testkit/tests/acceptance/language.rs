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

pub(crate) use crate::expected::*;
pub(crate) use crate::time::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tidemark_notify::Failure;

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
    /// The clock of who evaluates is wrong by so many seconds.
    Skew(i64),
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

    pub(crate) fn evaluation_clock_is_off_by(self, seconds: i64) {
        self.state(State::Skew(seconds));
    }

    pub(crate) fn messages_come_twice(self) {
        self.state(State::Twice);
    }

    pub(crate) fn receiver(self, channel: &str, answer: Answer) {
        let channel = channel.to_owned();
        self.state(State::Receiver { channel, answer });
    }
}
