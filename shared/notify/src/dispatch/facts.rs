//! What is known of the members of a lane at one time: who is told, what mutes them, what has ended, what was acknowledged.

use super::Dispatcher;
use super::decide::{self, Candidate, Held, Timing, Verdict, later};
use super::grouping::{Grouped, Recipient, Settings};
use crate::channel::Channel;
use crate::sender::Deliver;
use crate::settings::{Inhibition, MuteTime, Silence};
use crate::store::{DocumentStore, Group, LaneStore, Member};
use crate::suppress::{self, Source, Suppression};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashMap};
use tidemark_model::Timestamp;
use tidemark_rules::instance::transition_id;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::store::{InstanceFilter, PageRequest, StoreError};
use tidemark_rules::{AlertStore, Instance, InstanceState, TransitionEvent, TransitionKind, TransitionReason};

/// When it is looked again whether an inhibition has ended, or a channel has come, at the earliest and at the latest, in milliseconds.
const RECHECK_MS: std::ops::RangeInclusive<i64> = 60_000..=900_000;

/// How old the news of a firing is when it is worth asking whether it still fires, in milliseconds: usually it is told within seconds.
const LATE_MS: i64 = 120_000;

/// How many instances one page has.
const PAGE: usize = 1_000;

/// How many reads or writes go on at once.
pub(crate) const AT_ONCE: usize = 16;

/// What people have set.
pub(crate) struct Facts {
    silences: Vec<Silence>,
    inhibitions: Vec<Inhibition>,
    sources: Vec<Source>,
    mute_times: BTreeMap<String, MuteTime>,
}

/// Whom a lane tells; `None` when its id is none.
pub(crate) async fn recipient(store: &impl DocumentStore, lane: &str) -> Result<Option<Recipient>, StoreError> {
    if let Some(name) = lane.strip_prefix("channel#") {
        let channel = store.get::<Channel>(name).await?;
        return Ok(Some(Recipient::Channel {
            name: name.to_owned(),
            channel: channel.map(Box::new),
        }));
    }
    if !lane.starts_with("rule#") {
        return Ok(None);
    }
    // A lane of a rule stays one when a channel of that name comes or goes: what was told there is also told to be over.
    Ok(Some(match store.get::<Channel>(WEBHOOK_CHANNEL).await? {
        Some(channel) => Recipient::Channel {
            name: WEBHOOK_CHANNEL.to_owned(),
            channel: Some(Box::new(channel)),
        },
        None => Recipient::Webhook,
    }))
}

impl<A, N, S, Q> Dispatcher<'_, A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: super::Queue,
{
    pub(super) async fn facts(&self, now: Timestamp) -> Result<Facts, StoreError> {
        let inhibitions = self.store.load::<Inhibition>().await?;
        let mut sources = Vec::new();
        let filter = InstanceFilter {
            states: vec![InstanceState::Firing],
            rule_id: None,
        };
        let mut page = PageRequest {
            limit: PAGE,
            after: None,
        };
        while !inhibitions.is_empty() {
            let found = self.alerts.list_instances(&filter, &page).await?;
            sources.extend(suppress::sources(&inhibitions, &found.items));
            let Some(next) = found.next else { break };
            page.after = Some(next);
        }
        let mute_times = self.store.load::<MuteTime>().await?;
        let mut silences = self.store.load::<Silence>().await?;
        silences.retain(|silence| silence.ends_at > now);
        Ok(Facts {
            silences,
            inhibitions,
            sources,
            mute_times: mute_times.into_iter().map(|one| (one.id.clone(), one)).collect(),
        })
    }

    /// Asks the instances of the group what its events cannot say: whether somebody takes care of what is to be repeated; and whether what is
    /// told late still is so. That it is not is noted down before it is told: who comes after a crash may not ask.
    pub(super) async fn ask(
        &self,
        lane: &str,
        group: &Group,
        candidates: &mut [Candidate<'_>],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let repeats = decide::repeat_at(group, candidates, now).is_some_and(|at| at <= now);
        let is_asked = |one: &Candidate<'_>| {
            let is_told = one.member.mark.told_at.is_some();
            let is_late = later(one.member.event.at, LATE_MS) < now && one.held().is_none();
            one.over_at.is_none() && if is_told { repeats } else { is_late }
        };
        let asked = candidates.iter_mut().filter(|one| is_asked(one)).map(|one| async move {
            let Some(instance) = self.alerts.get_instance(&one.member.event.instance_id).await? else {
                return Ok(());
            };
            match end_of(one.member, &instance) {
                Some(end) => {
                    self.store.enlist(lane, &end, now).await?;
                    one.over_at = Some(end.at);
                }
                None => one.acknowledged = instance.acknowledged.is_some(),
            }
            Ok(())
        });
        stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await
    }
}

/// The resolve of a member that is taken to fire, when its instance says that it is over.
fn end_of(member: &Member, instance: &Instance) -> Option<TransitionEvent> {
    let event = &member.event;
    let since = event.firing_since;
    let mut ends = std::iter::successors(instance.previous.as_deref(), |end| end.previous.as_deref());
    if let Some(end) = ends.find(|end| end.firing_since == since) {
        return Some(TransitionEvent {
            previous: None,
            ..end.clone()
        });
    }
    let at = match instance.firing_since {
        Some(other) if other == since => instance.resolved_at?,
        Some(other) if other < since => return None,
        // It has begun again since: it ended before that, and when is not known any more.
        _ => instance.pending_since.unwrap_or(instance.updated_at),
    };
    let at = at.max(since);
    Some(TransitionEvent {
        id: transition_id(&event.instance_id, since, TransitionKind::Resolved),
        kind: TransitionKind::Resolved,
        reason: TransitionReason::ConditionCleared,
        at,
        resolved_at: Some(at),
        beat: None,
        previous: None,
        ..event.clone()
    })
}

impl Facts {
    fn verdict(&self, member: &Member, settings: &Settings, recipient: &Recipient, now: Timestamp) -> Verdict {
        let recheck = later(
            now,
            settings
                .timing
                .interval_ms
                .clamp(*RECHECK_MS.start(), *RECHECK_MS.end()),
        );
        let is_absent = match recipient {
            Recipient::Channel { channel, .. } => channel.is_none(),
            Recipient::Webhook => member.event.rule.webhook_url.is_none(),
        };
        let labels = member.event.alert_labels();
        let inhibited = || suppress::inhibited(&self.inhibitions, &self.sources, &labels).map(|why| (why, recheck));
        // A silence may be ended early: then it is not waited for.
        let silenced =
            || suppress::silenced(&self.silences, &labels, now).map(|(why, until)| (why, until.min(recheck)));
        Verdict {
            no_channel: is_absent.then_some((Suppression::NoChannel, recheck)),
            quiet: inhibited().or_else(silenced),
            muted: self.muted(&settings.mute_times, now),
        }
    }

    /// A mute time that is not there (any more) mutes nothing.
    fn muted(&self, names: &[String], now: Timestamp) -> Option<Held> {
        let mut by = Vec::new();
        let mut until = now;
        for mute_time in names.iter().filter_map(|name| self.mute_times.get(name)) {
            if let Some(end) = mute_time.muted_until(now) {
                by.push(mute_time.id.clone());
                until = until.max(end);
            }
        }
        (!by.is_empty()).then_some((Suppression::Muted { by }, until))
    }

    /// The members of a group with what is known of them, but for acknowledgements.
    pub(crate) fn candidates<'a>(
        &self,
        grouped: &Grouped<'a>,
        recipient: &Recipient,
        lineage: &Lineage<'_>,
        now: Timestamp,
    ) -> Vec<Candidate<'a>> {
        let candidate = |(member, settings): &(&'a Member, Settings)| Candidate {
            member,
            timing: timing(settings.timing, member, grouped.is_digest),
            verdict: self.verdict(member, settings, recipient, now),
            over_at: lineage.over_at(member),
            has_successor: lineage.successor(member).is_some(),
            acknowledged: false,
        };
        grouped.members.iter().map(candidate).collect()
    }
}

/// The digest waits for tokens, and not for others as well.
fn timing(timing: Timing, member: &Member, in_digest: bool) -> Timing {
    if !in_digest {
        return timing;
    }
    let is_told = member.mark.told_at.is_some();
    Timing {
        wait_ms: 0,
        interval_ms: if is_told { timing.interval_ms } else { 0 },
        ..timing
    }
}

/// Which incidents of one instance follow each other in a lane.
pub(crate) struct Lineage<'a> {
    by_instance: HashMap<&'a str, Vec<&'a Member>>,
}

impl<'a> Lineage<'a> {
    pub(crate) fn of(members: &'a [Member]) -> Self {
        let mut by_instance: HashMap<&str, Vec<&Member>> = HashMap::new();
        for member in members {
            by_instance.entry(&member.event.instance_id).or_default().push(member);
        }
        Self { by_instance }
    }

    fn others(&self, member: &Member) -> impl Iterator<Item = &'a Member> {
        let all = self.by_instance.get(member.event.instance_id.as_str());
        all.into_iter().flatten().copied()
    }

    /// The next incident of the same instance.
    fn successor(&self, member: &Member) -> Option<&'a Member> {
        self.others(member)
            .filter(|other| other.event.firing_since > member.event.firing_since)
            .min_by_key(|other| other.event.firing_since)
    }

    pub(crate) fn has_predecessor(&self, member: &Member) -> bool {
        self.others(member)
            .any(|other| other.event.firing_since < member.event.firing_since)
    }

    /// When an incident ended. What has begun again had ended before, also when the message that says so is still under way.
    fn over_at(&self, member: &Member) -> Option<Timestamp> {
        if member.is_resolved() {
            return Some(member.event.resolved_at.unwrap_or(member.event.at));
        }
        let next = self.successor(member)?;
        let began = next.event.pending_since.unwrap_or(next.event.firing_since);
        Some(began.max(member.event.firing_since))
    }
}
