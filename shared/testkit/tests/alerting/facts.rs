//! What people had set at which time, and what follows from it for an alert. This is the test's own reading of silences,
//! inhibitions, mute times and channels; the code under test has another.

use crate::sim::{BEGIN_MS, MAX_SKEW_MS};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::LabelFilter;
use tidemark_notify::Channel;
use tidemark_notify::settings::{Document, Inhibition, MuteTime, Silence};
use tidemark_rules::{Routing, RuleSnapshot};

/// How old what a process knows may be when a receiver takes its request: it reads what is set once, and begins to send no
/// later than 40 s after; then the request itself.
pub(crate) const KNOWN_MS: i64 = 60_000 + 2 * MAX_SKEW_MS;

/// Why something is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    Silenced,
    Inhibited,
    Muted,
    NoChannel,
    NoResolves,
}

/// What was set at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    silences: BTreeMap<String, Silence>,
    inhibitions: BTreeMap<String, Inhibition>,
    mute_times: BTreeMap<String, MuteTime>,
    pub(crate) channels: BTreeMap<String, Channel>,
}

/// An alert as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About<'a> {
    pub(crate) labels: &'a BTreeMap<String, String>,
    pub(crate) rule: &'a RuleSnapshot,
}

/// An incident that fired from one time to another.
#[derive(Clone, Debug)]
pub(crate) struct Fired {
    pub(crate) instance_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) from_ms: i64,
    pub(crate) to_ms: Option<i64>,
}

/// The course of all that is set.
#[derive(Debug)]
pub(crate) struct Timeline {
    changes: Vec<(i64, Facts)>,
    pub(crate) fired: Vec<Fired>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            changes: vec![(i64::MIN, Facts::default())],
            fired: Vec::new(),
        }
    }
}

fn matches(filter: &LabelFilter, labels: &BTreeMap<String, String>) -> bool {
    let mut matchers = filter.matchers();
    matchers.all(|matcher| matcher.matches(labels.get(matcher.name()).map_or("", String::as_str)))
}

fn minute_of_day(text: &str) -> i64 {
    let (hours, minutes) = text.split_once(':').unwrap();
    hours.parse::<i64>().unwrap() * 60 + minutes.parse::<i64>().unwrap()
}

/// The workload sets times of the day only, in UTC.
fn is_muted(mute: &MuteTime, ms: i64) -> bool {
    let minute = ms.rem_euclid(86_400_000) / 60_000;
    mute.time_intervals.iter().any(|interval| {
        interval.times.is_empty()
            || interval
                .times
                .iter()
                .any(|range| (minute_of_day(&range.start_time)..minute_of_day(&range.end_time)).contains(&minute))
    })
}

/// The name of a lane's channel, if it is that of one.
pub(crate) fn channel_of(lane: &str) -> Option<&str> {
    lane.strip_prefix("channel#")
}

impl Facts {
    fn of_use<'a>(rule: &'a RuleSnapshot, lane: &str) -> Option<&'a Routing> {
        let name = channel_of(lane).unwrap_or("webhook");
        let mut uses = rule.notification_channels.iter();
        uses.find(|used| used.channel == name).map(|used| &used.routing)
    }

    /// A setting: where the rule names the channel, else the channel's.
    pub(crate) fn setting<T>(&self, rule: &RuleSnapshot, lane: &str, get: impl Fn(&Routing) -> Option<T>) -> Option<T> {
        let of_use = Self::of_use(rule, lane).and_then(&get);
        of_use.or_else(|| get(&self.channels.get(channel_of(lane)?)?.spec.routing))
    }

    /// After how long what still fires is told again, in milliseconds.
    pub(crate) fn repeat_ms(&self, rule: &RuleSnapshot, lane: &str) -> i64 {
        let of_use = Self::of_use(rule, lane).and_then(|routing| routing.repeat_interval_seconds);
        let of_channel = || {
            let channel = self.channels.get(channel_of(lane)?)?;
            channel.spec.routing.repeat_interval_seconds
        };
        let seconds = of_use.or(rule.repeat_interval_seconds).or_else(of_channel);
        i64::try_from(seconds.unwrap_or(14_400)).unwrap() * 1_000
    }

    /// Everything that speaks against telling an alert of a lane at this time; or, for somebody who looked at the clock so many milliseconds
    /// before, whatever that clock is like.
    fn reasons(&self, about: About<'_>, lane: &str, ms: i64, before: i64, fired: &[Fired]) -> BTreeSet<Reason> {
        let mut reasons = BTreeSet::new();
        let silenced = |silence: &Silence| {
            silence.starts_at.0 <= ms - before && ms < silence.ends_at.0 && matches(&silence.matchers, about.labels)
        };
        if self.silences.values().any(silenced) {
            reasons.insert(Reason::Silenced);
        }
        let fires = |one: &&Fired| one.from_ms <= ms && one.to_ms.is_none_or(|to| ms < to);
        for inhibition in self.inhibitions.values() {
            let alike = |source: &Fired| {
                let value =
                    |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
                inhibition
                    .equal
                    .iter()
                    .all(|name| value(&source.labels, name) == value(about.labels, name))
            };
            let target = matches(&inhibition.target_matchers, about.labels);
            // The workload's inhibitions never have the same alert on both sides.
            let source = |one: &Fired| matches(&inhibition.source_matchers, &one.labels) && alike(one);
            if target && fired.iter().filter(fires).any(source) {
                reasons.insert(Reason::Inhibited);
            }
        }
        let mutes = self.setting(about.rule, lane, |routing| routing.mute_times.clone());
        let muted = |name: &String| {
            self.mute_times
                .get(name)
                .is_some_and(|mute| is_muted(mute, ms) && is_muted(mute, ms - before))
        };
        if mutes.is_some_and(|names| names.iter().any(muted)) {
            reasons.insert(Reason::Muted);
        }
        if channel_of(lane).is_some_and(|name| !self.channels.contains_key(name)) {
            reasons.insert(Reason::NoChannel);
        }
        if self.setting(about.rule, lane, |routing| routing.send_resolved) == Some(false) {
            reasons.insert(Reason::NoResolves);
        }
        reasons
    }
}

impl Timeline {
    /// What is set now.
    pub(crate) fn last(&self) -> &Facts {
        &self.changes.last().unwrap().1
    }

    fn change(&mut self, now_ms: i64) -> &mut Facts {
        let next = (now_ms, self.last().clone());
        self.changes.push(next);
        &mut self.changes.last_mut().unwrap().1
    }

    pub(crate) fn put(&mut self, kind: &str, id: &str, value: Value, now_ms: i64) {
        let facts = self.change(now_ms);
        let id = id.to_owned();
        if kind == Silence::KIND {
            facts.silences.insert(id, serde_json::from_value(value).unwrap());
        } else if kind == Inhibition::KIND {
            facts.inhibitions.insert(id, serde_json::from_value(value).unwrap());
        } else if kind == MuteTime::KIND {
            facts.mute_times.insert(id, serde_json::from_value(value).unwrap());
        } else if kind == Channel::KIND {
            facts.channels.insert(id, serde_json::from_value(value).unwrap());
        }
    }

    pub(crate) fn delete(&mut self, kind: &str, id: &str, now_ms: i64) {
        let facts = self.change(now_ms);
        if kind == Silence::KIND {
            facts.silences.remove(id);
        } else if kind == Inhibition::KIND {
            facts.inhibitions.remove(id);
        } else if kind == MuteTime::KIND {
            facts.mute_times.remove(id);
        } else if kind == Channel::KIND {
            facts.channels.remove(id);
        }
    }

    /// What was set at any time of a span.
    pub(crate) fn during(&self, from_ms: i64, to_ms: i64) -> impl Iterator<Item = &Facts> {
        let first = self.changes.partition_point(|(at, _)| *at <= from_ms).saturating_sub(1);
        self.changes[first..]
            .iter()
            .take_while(move |(at, _)| *at <= to_ms)
            .map(|(_, facts)| facts)
    }

    /// Every version of every channel that there ever was under this name.
    pub(crate) fn versions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Channel> {
        self.changes
            .iter()
            .filter_map(move |(_, facts)| facts.channels.get(name))
    }

    /// The moments of a span at which anything may change: every one between two neighbours is like the first.
    fn moments(&self, from_ms: i64, to_ms: i64) -> Vec<i64> {
        let mut moments = BTreeSet::from([from_ms, to_ms]);
        let mut minute = from_ms - from_ms.rem_euclid(60_000);
        while minute <= to_ms {
            moments.insert(minute);
            minute += 60_000;
        }
        for (at, facts) in &self.changes {
            moments.insert(*at);
            for silence in facts.silences.values() {
                moments.extend([silence.starts_at.0, silence.ends_at.0]);
            }
        }
        for fired in &self.fired {
            moments.insert(fired.from_ms);
            moments.extend(fired.to_ms);
        }
        moments.range(from_ms.max(BEGIN_MS - 1)..=to_ms).copied().collect()
    }

    fn at(&self, ms: i64) -> &Facts {
        let next = self.changes.partition_point(|(at, _)| *at <= ms);
        &self.changes[next.saturating_sub(1)].1
    }

    /// What speaks against telling an alert of a lane, at any time of a span.
    pub(crate) fn ever(&self, about: About<'_>, lane: &str, from_ms: i64, to_ms: i64) -> BTreeSet<Reason> {
        let mut all = BTreeSet::new();
        for ms in self.moments(from_ms, to_ms) {
            all.extend(self.at(ms).reasons(about, lane, ms, 0, &self.fired));
        }
        all
    }

    /// Whether any of these spoke against telling an alert of a lane at each time of a span.
    pub(crate) fn always(&self, about: About<'_>, lane: &str, any: &[Reason], from_ms: i64, to_ms: i64) -> bool {
        self.moments(from_ms, to_ms).into_iter().all(|ms| {
            let reasons = self.at(ms).reasons(about, lane, ms, KNOWN_MS, &self.fired);
            any.iter().any(|reason| reasons.contains(reason))
        })
    }
}
