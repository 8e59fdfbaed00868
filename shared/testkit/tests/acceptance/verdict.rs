//! What happened, against what was expected.

use crate::language::{Expectation, Moment, Page, Recorded, Series, Span, Story};
use crate::parts::Played;
use std::fmt::Write as _;
use tidemark_rules::history::{HistoryEntry, HistoryEvent};

/// Panics, with the whole story, when anything expected did not happen, or anything else did.
pub(crate) fn judge(story: &Story, played: &Played) {
    let mut missing = Vec::new();
    let mut told: Vec<Option<&(Moment, Page)>> = played.told.iter().map(Some).collect();
    let mut letters: Vec<Option<&(Moment, String)>> = played.dead_letters.iter().map(Some).collect();
    // Of two that expect the same the one whose time is over first takes what comes first.
    let mut expectations: Vec<&(Span, Expectation)> = story.expectations.iter().collect();
    expectations.sort_by_key(|(span, _)| span.to);
    for (span, expectation) in expectations {
        let met = match expectation {
            Expectation::Told(page) => take(&mut told, |(at, told)| span.holds(*at) && page.is_met_by(told)),
            Expectation::DeadLetter { channel } => take(&mut letters, |(at, dead)| span.holds(*at) && channel == dead),
            Expectation::History {
                rule,
                series,
                what,
                times,
            } => {
                let fits = |entry: &&HistoryEntry| span.holds(entry.at.into()) && is_about(entry, rule, series, what);
                let count = played.history.iter().filter(fits).count();
                times.map_or(count > 0, |times| count == times)
            }
            Expectation::Attempts { channel, least, most } => {
                let at = |(at, tried): &&(Moment, String)| span.holds(*at) && tried == channel;
                let count = played.attempts.iter().filter(at).count();
                (*least..=*most).contains(&count)
            }
        };
        if !met {
            missing.push(format!("{span}  {}", text(expectation)));
        }
    }
    let told = told.into_iter().flatten().map(|(at, page)| format!("{at}  {page}"));
    let letters = letters.into_iter().flatten();
    let letters = letters.map(|(at, channel)| format!("{at}  a dead letter of {channel}"));
    let unexpected: Vec<String> = told.chain(letters).collect();
    if missing.is_empty() && unexpected.is_empty() {
        return;
    }
    let mut report = String::new();
    for (title, lines) in [
        ("expected, and did not happen", &missing),
        ("happened, and was not expected", &unexpected),
        ("all that happened", &played.timeline),
    ] {
        let _ = writeln!(report, "{title}:");
        for line in lines {
            let _ = writeln!(report, "  {line}");
        }
    }
    panic!("the story went otherwise\n{report}");
}

/// Takes the first that fits away.
fn take<T>(all: &mut [Option<&T>], fits: impl Fn(&T) -> bool) -> bool {
    let found = all.iter_mut().find(|one| one.is_some_and(&fits));
    found.and_then(Option::take).is_some()
}

fn is_about(entry: &HistoryEntry, rule: &str, series: &Series, what: &Recorded) -> bool {
    let labels: Series = entry
        .labels
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    entry.rule_name == rule && labels == *series && is_event(&entry.event, what)
}

fn is_event(event: &HistoryEvent, what: &Recorded) -> bool {
    match (event, what) {
        (
            HistoryEvent::Suppressed { channel, reason },
            Recorded::Suppressed {
                channel: on,
                reason: why,
            },
        ) => channel == on && reason.contains(why),
        (
            HistoryEvent::Notification { channel, outcome, .. },
            Recorded::Attempt {
                channel: on,
                outcome: how,
            },
        ) => channel == on && outcome == how,
        (
            HistoryEvent::Transition { state, reason, by, .. },
            Recorded::Transition {
                kind,
                reason: why,
                by: who,
            },
        ) => state == kind && reason == why && (who.is_none() || by == who),
        _ => false,
    }
}

fn text(expectation: &Expectation) -> String {
    match expectation {
        Expectation::Told(page) => page.to_string(),
        Expectation::DeadLetter { channel } => format!("a dead letter of {channel}"),
        Expectation::History {
            rule,
            series,
            what,
            times,
        } => {
            let times = times.map_or("at least once".to_owned(), |times| format!("{times} times"));
            format!("in the history of {rule} {series:?}, {times}: {what:?}")
        }
        Expectation::Attempts { channel, least, most } => format!("{least} to {most} attempts at {channel}"),
    }
}
