//! What becomes of one group at one time: a pure function of its members, of what is known of each and of what was told before.
//!
//! Alertmanager decides the same in two places, the timers of `dispatch.go` and the deduplication stage of `notify.go`. Here one function
//! says what is told, why, and if nothing, when to look again and what is waited for.

use crate::store::{Group, Member, News};
use crate::suppress::Suppression;
use tidemark_model::Timestamp;
use tidemark_rules::TransitionKind;

/// The most alerts of one notification: what Slack, mail programs and people still take. The rest follows in the next one.
pub(crate) const MAX_ALERTS: usize = 500;

/// How long what was given up is kept for an operator to send its letter back, in milliseconds: as long as a queue keeps the letter.
pub(crate) const GIVEN_UP_KEPT_MS: i64 = 14 * 86_400_000;

/// When a member is told, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) wait_ms: i64,
    pub(crate) interval_ms: i64,
    pub(crate) repeat_ms: i64,
    pub(crate) send_resolved: bool,
}

/// Why something is not told, and when to look again.
pub(crate) type Held = (Suppression, Timestamp);

/// What stands against telling a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// There is nobody to tell.
    pub(crate) no_channel: Option<Held>,
    /// An inhibition or silences: firings are not told.
    pub(crate) quiet: Option<Held>,
    /// Mute times: nothing is told.
    pub(crate) muted: Option<Held>,
}

/// A member of the group, with everything that counts.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) member: &'a Member,
    pub(crate) timing: Timing,
    pub(crate) verdict: Verdict,
    /// When it ended: as its event says, or because a later incident of the same instance is in the lane.
    pub(crate) over_at: Option<Timestamp>,
    /// A later incident of the same instance is in the lane. This one's end is told before that begins.
    pub(crate) has_successor: bool,
    pub(crate) acknowledged: bool,
}

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It fires and is to be told.
    NewFiring,
    /// It was told, and a new sign of life has come.
    NewBeat,
    /// It fires and was told.
    Firing,
    /// It fires and is not told now.
    Held,
    /// It is over, and that is to be told.
    NewEnd,
    /// It is over, and that is told later.
    HeldEnd,
    /// It is over, and nothing is to be told.
    Unsaid(Unsaid),
}

/// Why a member that is over is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsaid {
    /// It was suppressed while it fired.
    Suppressed,
    /// There is nobody to tell.
    NoChannel,
    /// Its firing was told; the channel takes no resolves.
    ResolveNotWanted,
    /// Its firing was not told in time; the channel takes no resolves.
    OverBeforeTold,
    /// It was given up long ago, and nobody has sent its letter back.
    GivenUp,
}

impl Unsaid {
    /// As it stands in the log and the history.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Suppressed => "it was suppressed until it was over",
            Self::NoChannel => "the channel is not configured",
            Self::ResolveNotWanted => "the channel takes no resolves",
            Self::OverBeforeTold => "it was over before it was told, and the channel takes no resolves",
            Self::GivenUp => "it was given up",
        }
    }
}

impl Candidate<'_> {
    fn was_told(&self) -> bool {
        self.member.mark.told_at.is_some()
    }

    fn may_be_told(&self) -> bool {
        self.was_told() || self.member.mark.maybe_told
    }

    fn is_heartbeat(&self) -> bool {
        self.member.event.rule.is_heartbeat()
    }

    /// What keeps its firing from being told.
    pub(crate) fn held(&self) -> Option<&Held> {
        let Verdict {
            no_channel,
            quiet,
            muted,
        } = &self.verdict;
        no_channel.as_ref().or(quiet.as_ref()).or(muted.as_ref())
    }

    /// Where it stands in a group that was given up, or was not.
    pub(crate) fn standing(&self, given_up: bool, now: Timestamp) -> Standing {
        let Some(over_at) = self.over_at else {
            return match (self.held(), self.was_told()) {
                (Some(_), _) => Standing::Held,
                (None, false) => Standing::NewFiring,
                (None, true) if self.member.event.beat > self.member.mark.told_beat => Standing::NewBeat,
                (None, true) => Standing::Firing,
            };
        };
        if self.verdict.no_channel.is_some() {
            return Standing::Unsaid(Unsaid::NoChannel);
        }
        if !self.may_be_told() && (self.held().is_some() || self.member.mark.suppressed.is_some()) {
            return Standing::Unsaid(Unsaid::Suppressed);
        }
        if !self.timing.send_resolved {
            return Standing::Unsaid(if self.was_told() {
                Unsaid::ResolveNotWanted
            } else {
                Unsaid::OverBeforeTold
            });
        }
        if given_up && later(over_at, GIVEN_UP_KEPT_MS) <= now {
            return Standing::Unsaid(Unsaid::GivenUp);
        }
        if self.verdict.muted.is_some() {
            return Standing::HeldEnd;
        }
        Standing::NewEnd
    }

    /// Whether the rate limit may bring it into the digest: nothing of it was told, and nothing of what came before it is left to tell.
    pub(crate) fn may_join_digest(&self, has_predecessor: bool) -> bool {
        !self.may_be_told() && self.member.mark.group.is_none() && !has_predecessor && !self.is_heartbeat()
    }

    fn news(&self) -> News {
        let over = self.over_at.is_some();
        News {
            incident: self.member.incident.clone(),
            kind: if over {
                TransitionKind::Resolved
            } else {
                TransitionKind::Firing
            },
            beat: self.member.event.beat.filter(|_| !over),
        }
    }
}

/// Why a notification is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Something new fires.
    NewFiring,
    /// Something ended, and nothing new fires.
    Resolved,
    /// A sign of life.
    Heartbeat,
    /// What was told still fires.
    Repeat,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For others of the group.
    Others,
    /// For the time after the last notification.
    Interval,
    /// For the next repetition.
    Repeat,
    /// For the next attempt after a failure.
    Backoff,
    /// For an operator, or for the next repetition.
    GivenUp,
    /// For a silence, an inhibition or a mute time to end.
    Suppressed,
    /// For nothing: what fires was acknowledged, or has nothing to repeat.
    Nothing,
}

/// A notification to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Tell<'a> {
    pub(crate) why: Why,
    /// Since when it is due.
    pub(crate) due: Timestamp,
    /// What it tells that is new, or again.
    pub(crate) news: Vec<News>,
    /// Its alerts.
    pub(crate) alerts: Vec<Candidate<'a>>,
    /// How many alerts it leaves out.
    pub(crate) left_out: usize,
    /// Whether all of the news is in it. If not, the next one follows at once.
    pub(crate) complete: bool,
    /// Whether what was given up is tried anew: there is more news than that.
    pub(crate) afresh: bool,
}

/// What follows.
#[derive(Clone, Debug)]
pub(crate) enum Step<'a> {
    /// Tell.
    Tell(Tell<'a>),
    /// Look again later; `None`: not before something comes.
    Wait { until: Option<Timestamp>, why: Wait },
}

/// What becomes of a group.
#[derive(Clone, Debug)]
pub(crate) struct Decision<'a> {
    /// Members that are over and are not told.
    pub(crate) settle: Vec<(Candidate<'a>, Unsaid)>,
    /// Members whose suppression begins, changes or ends.
    pub(crate) suppress: Vec<(Candidate<'a>, Option<String>)>,
    /// What follows.
    pub(crate) step: Step<'a>,
}

/// A time so much later.
pub(crate) fn later(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp(at.0.saturating_add(ms))
}

/// When what was told and still fires is told again, if it is.
pub(crate) fn repeat_at(group: &Group, candidates: &[Candidate<'_>], now: Timestamp) -> Option<Timestamp> {
    let told = group.notified_at?;
    let given_up = group.given_up.is_some();
    candidates
        .iter()
        .filter(|one| one.standing(given_up, now) == Standing::Firing && !one.is_heartbeat())
        .map(|one| later(told, one.timing.repeat_ms))
        .min()
}

/// Decides.
pub(crate) fn decide<'a>(group: &Group, candidates: &[Candidate<'a>], now: Timestamp) -> Decision<'a> {
    let given_up = group.given_up.is_some();
    let mut standings: Vec<(Standing, &Candidate<'a>)> = candidates
        .iter()
        .map(|one| (one.standing(given_up, now), one))
        .collect();
    release_ends(&mut standings);
    let repeat = repeat_at(group, candidates, now).filter(|_| {
        standings
            .iter()
            .any(|(standing, one)| *standing == Standing::Firing && !one.acknowledged && !one.is_heartbeat())
    });
    let mut settle = Vec::new();
    let mut suppress = Vec::new();
    for (standing, one) in &standings {
        match standing {
            Standing::Unsaid(why) => settle.push(((*one).clone(), *why)),
            Standing::HeldEnd | Standing::NewEnd => {}
            _ => suppress.extend(suppression(group, one, now).map(|reason| ((*one).clone(), reason))),
        }
    }
    let step = match news_at(group, &standings) {
        Some((due, why)) if due > now => wait(group, &standings, Some((due, why)), repeat, now),
        Some((due, _)) => Step::Tell(tell(group, &standings, due)),
        None => match repeat.map(|due| due.max(group.not_before.unwrap_or(due))) {
            Some(due) if due <= now => Step::Tell(tell(group, &standings, due)),
            _ => wait(group, &standings, None, repeat, now),
        },
    };
    Decision { settle, suppress, step }
}

/// The end of an incident waits for its mute time, but not once there is news of a later incident of the same instance, whose rule may name other
/// mute times by then: both are told together, the end first.
fn release_ends(standings: &mut [(Standing, &Candidate<'_>)]) {
    let news: Vec<(String, Timestamp)> = standings
        .iter()
        .filter(|(standing, _)| is_news(*standing))
        .map(|(_, one)| (one.member.event.instance_id.clone(), one.member.event.firing_since))
        .collect();
    for (standing, one) in standings {
        let event = &one.member.event;
        let is_followed =
            |(instance, since): &(String, Timestamp)| *instance == event.instance_id && *since > event.firing_since;
        if *standing == Standing::HeldEnd && news.iter().any(is_followed) {
            *standing = Standing::NewEnd;
        }
    }
}

/// The change of a member's mark, if there is one: why it is not told.
fn suppression(group: &Group, one: &Candidate<'_>, now: Timestamp) -> Option<Option<String>> {
    let marked = &one.member.mark.suppressed;
    let reason = match one.held() {
        Some((reason, _)) => Some(reason.to_string()),
        None if one.was_told() && one.acknowledged => {
            let acknowledged = Suppression::Acknowledged.to_string();
            let is_due = group
                .notified_at
                .is_some_and(|at| later(at, one.timing.repeat_ms) <= now);
            (is_due || marked.as_ref() == Some(&acknowledged)).then_some(acknowledged)
        }
        // Who acknowledged it is not asked each time.
        None if one.was_told() && marked.as_deref() == Some("acknowledged") => marked.clone(),
        None => None,
    };
    (reason != *marked).then_some(reason)
}

/// When the group's news is to be told, and what is waited for until then.
fn news_at(group: &Group, standings: &[(Standing, &Candidate<'_>)]) -> Option<(Timestamp, Wait)> {
    let news = standings
        .iter()
        .filter(|(standing, _)| is_news(*standing))
        .map(|(_, one)| one);
    let first = news.clone().map(|one| match group.notified_at {
        None => (later(one.member.enlisted_at, one.timing.wait_ms), Wait::Others),
        // Not before it was there: who waits is told in the order of these times.
        Some(at) => (later(at, one.timing.interval_ms).max(since(one)), Wait::Interval),
    });
    let mut due = first.min_by_key(|(at, _)| *at)?;
    if let Some(given_up) = &group.given_up
        && news.clone().all(|one| given_up.news.contains(&one.news()))
    {
        // What is over is not worth another page without being asked for.
        let fires = news.filter(|one| one.over_at.is_none() && !one.is_heartbeat());
        let again = fires.map(|one| later(given_up.at, one.timing.repeat_ms)).min();
        due = (again.unwrap_or(Timestamp(i64::MAX)), Wait::GivenUp);
    }
    match group.not_before {
        Some(not_before) if not_before > due.0 => Some((not_before, Wait::Backoff)),
        _ => Some(due),
    }
}

/// Since when a candidate has been news, as far as that is known.
fn since(one: &Candidate<'_>) -> Timestamp {
    if one.may_be_told() {
        Timestamp(i64::MIN)
    } else {
        one.member.enlisted_at
    }
}

fn is_news(standing: Standing) -> bool {
    matches!(standing, Standing::NewFiring | Standing::NewBeat | Standing::NewEnd)
}

/// What is waited for first.
fn wait<'a>(
    group: &Group,
    standings: &[(Standing, &Candidate<'_>)],
    news: Option<(Timestamp, Wait)>,
    repeat: Option<Timestamp>,
    now: Timestamp,
) -> Step<'a> {
    let mut waits: Vec<(Timestamp, Wait)> = news.into_iter().collect();
    waits.extend(repeat.map(|at| {
        let at = at.max(group.not_before.unwrap_or(at));
        (at, Wait::Repeat)
    }));
    for (standing, one) in standings {
        let until = match standing {
            Standing::Held => one.held().map(|(_, until)| *until),
            Standing::HeldEnd => one.verdict.muted.as_ref().map(|(_, until)| *until),
            _ => None,
        };
        waits.extend(until.map(|until| (until, Wait::Suppressed)));
        if let (Standing::NewEnd, Some(over_at), true) = (standing, one.over_at, group.given_up.is_some()) {
            waits.push((later(over_at, GIVEN_UP_KEPT_MS), Wait::GivenUp));
        }
    }
    let first = waits
        .into_iter()
        .filter(|(at, _)| at.0 != i64::MAX)
        .min_by_key(|(at, _)| *at);
    match first {
        // Never now: what is due is told, and what is only looked at does not spin.
        Some((at, why)) => Step::Wait {
            until: Some(at.max(later(now, 1))),
            why,
        },
        None => Step::Wait {
            until: None,
            why: Wait::Nothing,
        },
    }
}

/// In which order news gets a place: the end of what has begun again, then what fires, then what is over.
fn place(standing: Standing, one: &Candidate<'_>) -> (u8, Timestamp) {
    let class = match standing {
        Standing::NewEnd if one.has_successor => 0,
        Standing::NewFiring | Standing::NewBeat => 1,
        _ => 2,
    };
    (class, one.member.event.firing_since)
}

fn tell<'a>(group: &Group, standings: &[(Standing, &Candidate<'a>)], due: Timestamp) -> Tell<'a> {
    let mut news: Vec<&(Standing, &Candidate<'a>)> =
        standings.iter().filter(|(standing, _)| is_news(*standing)).collect();
    news.sort_by_key(|(standing, one)| place(*standing, one));
    let is_repeat = news.is_empty();
    let told: Vec<&Candidate<'a>> = standings
        .iter()
        .filter(|(standing, _)| *standing == Standing::Firing)
        .map(|(_, one)| *one)
        .collect();
    let why = why(&news);
    let mut chosen: Vec<&Candidate<'a>> = news.iter().take(MAX_ALERTS).map(|(_, one)| *one).collect();
    let mut new_count = chosen.len();
    if !is_repeat && chosen.iter().all(|one| one.over_at.is_some()) {
        // While anything of the group fires, it is not told to be over as a whole: also when what fires has been silenced since it was told.
        let held = standings
            .iter()
            .filter(|(standing, one)| *standing == Standing::Held && one.was_told())
            .map(|(_, one)| *one);
        let fresh = news.iter().map(|(_, one)| *one).filter(|one| one.over_at.is_none());
        if let Some(fires) = told.iter().copied().chain(held).chain(fresh).next() {
            let is_new = !fires.was_told();
            if chosen.len() == MAX_ALERTS {
                chosen.pop();
                new_count -= 1;
            }
            if is_new {
                new_count += 1;
            }
            chosen.insert(new_count - usize::from(is_new), fires);
        }
    }
    let complete = is_repeat || new_count == news.len();
    let mut news: Vec<News> = chosen.iter().take(new_count).map(|one| one.news()).collect();
    for one in &told {
        let is_in = chosen.iter().any(|other| std::ptr::eq(other.member, one.member));
        if chosen.len() < MAX_ALERTS && !is_in {
            chosen.push(one);
        }
    }
    if is_repeat {
        news.extend(chosen.iter().filter(|one| !one.acknowledged).map(|one| one.news()));
    }
    news.sort();
    let all = standings
        .iter()
        .filter(|(standing, _)| is_news(*standing) || *standing == Standing::Firing)
        .count();
    let afresh = group.given_up.as_ref().is_some_and(|given_up| {
        news.iter()
            .any(|one| one.beat.is_none() && !given_up.news.contains(one))
    });
    Tell {
        why,
        due,
        left_out: all.saturating_sub(chosen.len()),
        alerts: chosen.into_iter().cloned().collect(),
        news,
        complete,
        afresh,
    }
}

fn why(news: &[&(Standing, &Candidate<'_>)]) -> Why {
    let any = |wanted: Standing| news.iter().any(|(standing, _)| *standing == wanted);
    if news.is_empty() {
        Why::Repeat
    } else if news.iter().all(|(_, one)| one.is_heartbeat() && one.over_at.is_none()) {
        Why::Heartbeat
    } else if any(Standing::NewFiring) {
        Why::NewFiring
    } else {
        Why::Resolved
    }
}

#[cfg(test)]
mod tests;
