//! What must hold when all is quiet: everything was told to everybody, or there is a reason in the history that was true.

use crate::facts::{Reason, channel_of};
use crate::sim::{MAX_SKEW_MS, finish};
use crate::truth::{Incident, Told, Truth};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::Timestamp;
use tidemark_notify::store::{LaneStore, Settled, lane_id};
use tidemark_rules::Routing;
use tidemark_rules::TransitionKind::{Firing, Resolved};
use tidemark_rules::history::{AttemptOutcome, HistoryEntry, HistoryEvent, HistoryFilter};
use tidemark_rules::store::{AlertStore, PageRequest};

/// How long after it was taken from the bucket a notification may be taken by its receiver.
const UNDER_WAY_MS: i64 = 60_000;

/// What people may set, and the clocks that judge it.
const SLACK_MS: i64 = 10_000 + MAX_SKEW_MS;

/// The lanes of an incident.
fn lanes(incident: &Incident) -> Vec<String> {
    let rule = &incident.rule;
    let lane = |name: &str| {
        let own = name == "webhook" && rule.webhook_url.is_some();
        lane_id(name, own.then_some(rule.id.as_str()))
    };
    rule.notification_channels
        .iter()
        .map(|used| lane(&used.channel))
        .collect()
}

fn history(world: &World) -> Vec<HistoryEntry> {
    let mut entries = Vec::new();
    let mut page = PageRequest {
        limit: 100_000,
        after: None,
    };
    loop {
        let now = Timestamp(world.sim.now_ms());
        let filter = HistoryFilter::default();
        let listed = finish(world.alerts.list_history(&filter, now, &page)).unwrap();
        entries.extend(listed.items);
        match listed.next {
            None => return entries,
            next => page.after = next,
        }
    }
}

/// Everything that can be told is told, and nobody waits for anything but repeats.
pub(crate) fn quiet(world: &mut World) -> Result<(), String> {
    let history = history(world);
    let truth = world.sim.truth();
    let now_ms = world.sim.now_ms();
    let mut never_told = 0;
    for (id, incident) in &truth.incidents {
        for lane in lanes(incident) {
            never_told += u64::from(told(world, &truth, &history, id, incident, &lane)?);
        }
    }
    world.tally.never_told = never_told;
    let waiting: Vec<String> = world.queue.waiting(now_ms - 60_000);
    if !waiting.is_empty() || world.queue.dead() > 0 {
        return Err(format!("messages are left: {waiting:?}, {} dead", world.queue.dead()));
    }
    let lanes: BTreeSet<String> = truth.incidents.values().flat_map(lanes).collect();
    for lane in &lanes {
        lane_is_quiet(world, &truth, lane)?;
    }
    let nothing = Told::default();
    for lane in &lanes {
        let told = truth.lanes.get(lane).unwrap_or(&nothing);
        rate_is_kept(&truth, lane, told)?;
        attempts_are_kept(&history, lane, told)?;
    }
    transitions_are_kept(&truth, &history)
}

/// Whether an incident was told to a channel, and why not. The answer is whether it was never told at all.
fn told(
    world: &World,
    truth: &Truth,
    history: &[HistoryEntry],
    id: &str,
    incident: &Incident,
    lane: &str,
) -> Result<bool, String> {
    let now_ms = world.sim.now_ms();
    let was_told = |kind| {
        let told = truth.lanes.get(lane);
        told.is_some_and(|told| told.tellings.contains_key(&(id.to_owned(), kind)))
    };
    let (firing, resolved) = (was_told(Firing), was_told(Resolved));
    let reasons = |from: i64| truth.timeline.ever(incident.about(), lane, from - SLACK_MS, now_ms);
    let settled = finish(world.notify.settled(lane, id)).unwrap();
    let Some((_, resolved_ms)) = incident.resolved else {
        if firing || reasons(incident.stored_ms).contains(&Reason::NoChannel) {
            return Ok(!firing);
        }
        return Err(format!("{id} fires and was never told to {lane}: {settled:?}"));
    };
    match &settled {
        None => return Err(format!("{id} is over and not settled in {lane}")),
        Some(Settled::Told) if !resolved => {
            return Err(format!("{id} is settled as told to {lane}, which never took it"));
        }
        Some(Settled::Told | Settled::Untold { .. }) => {}
    }
    if resolved {
        return Ok(false);
    }
    let reasons = reasons(if firing { resolved_ms } else { incident.stored_ms });
    let allowed = |reason: &Reason| !firing || matches!(reason, Reason::NoResolves | Reason::NoChannel);
    if !reasons.iter().any(allowed) {
        return Err(format!(
            "{id} was never told to {lane} to be over (told to fire: {firing}): {settled:?}, {reasons:?}"
        ));
    }
    if firing {
        return Ok(false);
    }
    let suppressed = history.iter().filter_map(|entry| match &entry.event {
        HistoryEvent::Suppressed { channel, reason }
            if entry.instance_id == incident.instance_id
                && entry.at.0 >= incident.since.0 - SLACK_MS
                && channel == channel_of(lane).unwrap_or("webhook") =>
        {
            Some(reason)
        }
        _ => None,
    });
    let suppressed: Vec<&String> = suppressed.collect();
    let is_true = |text: &&&String| match text.as_str() {
        text if text.starts_with("silenced") => reasons.contains(&Reason::Silenced),
        text if text.starts_with("inhibited") => reasons.contains(&Reason::Inhibited),
        text if text.starts_with("muted") => reasons.contains(&Reason::Muted),
        text if text.contains("not configured") => reasons.contains(&Reason::NoChannel),
        _ => reasons.contains(&Reason::NoResolves),
    };
    if !suppressed.iter().any(|text| is_true(&text)) {
        return Err(format!(
            "{id} was never told to {lane}, and the history does not say why: {suppressed:?}, {settled:?}, {reasons:?}"
        ));
    }
    Ok(true)
}

fn lane_is_quiet(world: &World, truth: &Truth, lane: &str) -> Result<(), String> {
    let wrong = |what: String| Err(format!("{lane} is not quiet: {what}"));
    let Some(content) = finish(world.notify.content(lane)).unwrap() else {
        return Ok(());
    };
    let now_ms = world.sim.now_ms();
    let channels = &truth.timeline.last().channels;
    let is_configured = channel_of(lane).is_none_or(|name| channels.contains_key(name));
    let head = &content.lane;
    if head.wake_at.is_some_and(|at| at.0 < now_ms - 120_000) {
        return wrong(format!("it is overdue since {:?}", head.wake_at));
    }
    let is_to_be_repeated = |incident: &str| {
        let incident = truth.incidents.get(incident);
        incident.is_some_and(|incident| incident.acknowledged_ms.is_none() && !incident.rule.is_heartbeat())
    };
    let mut members = content.members.iter();
    if is_configured && head.wake_at.is_none() && members.any(|member| is_to_be_repeated(&member.incident)) {
        return wrong(format!("nobody will look at it again: {:?}", content.members));
    }
    for group in &content.groups {
        let is_open = group.in_flight.is_some() || group.told.is_some() || group.given_up.is_some();
        if is_open && !repeats_soon(truth, lane) {
            return wrong(format!("{group:?}"));
        }
    }
    for member in &content.members {
        if member.is_resolved() {
            return wrong(format!("{} is over and still in it", member.incident));
        }
        if is_configured && member.mark.told_at.is_none() {
            return wrong(format!("{} was never told: {:?}", member.incident, member.mark));
        }
        match truth.incidents.get(&member.incident) {
            Some(incident) if incident.resolved.is_none() => {}
            other => return wrong(format!("{} should not be in it: {other:?}", member.incident)),
        }
    }
    Ok(())
}

/// Something may be under way at any moment where it repeats every minute.
fn repeats_soon(truth: &Truth, lane: &str) -> bool {
    let rules = truth.incidents.values().filter(|incident| incident.resolved.is_none());
    rules
        .map(|incident| truth.timeline.last().repeat_ms(&incident.rule, lane))
        .any(|ms| ms <= 60_000)
}

/// Never more than the bucket holds and what it gains meanwhile. What a disturbed sender sent may have been taken from the
/// bucket and not been noted down.
fn rate_is_kept(truth: &Truth, lane: &str, told: &Told) -> Result<(), String> {
    let Some(name) = channel_of(lane) else {
        return Ok(());
    };
    let limits: Vec<_> = truth
        .timeline
        .versions(name)
        .map(|channel| channel.spec.rate_limit)
        .collect();
    let bucket = limits
        .iter()
        .map(|limit| f64::from(limit.notifications))
        .fold(0.0, f64::max);
    let per_ms =
        |limit: &tidemark_notify::channel::RateLimit| f64::from(limit.notifications) / (limit.per_seconds as f64 * 1e3);
    let gains = limits.iter().map(per_ms).fold(0.0, f64::max);
    let times: Vec<i64> = told
        .takes
        .iter()
        .filter(|take| take.was_undisturbed())
        .map(|take| take.at_ms)
        .collect();
    for (first, from) in times.iter().enumerate() {
        for (count, to) in (1..).zip(&times[first..]) {
            let most = bucket + gains * (to - from + UNDER_WAY_MS) as f64;
            if f64::from(count) > most + 1e-6 {
                return Err(format!(
                    "{lane} took {count} notifications in {} ms, {most} are allowed",
                    to - from
                ));
            }
        }
    }
    Ok(())
}

/// Every attempt whose sender could note it down stands in the history.
fn attempts_are_kept(history: &[HistoryEntry], lane: &str, told: &Told) -> Result<(), String> {
    let mut kept: BTreeMap<(&str, &str), (usize, BTreeSet<u32>)> = BTreeMap::new();
    for entry in history {
        if let HistoryEvent::Notification {
            notification_id,
            outcome,
            attempt,
            ..
        } = &entry.event
        {
            let (sent, failed) = kept.entry((notification_id, &entry.instance_id)).or_default();
            match outcome {
                AttemptOutcome::Sent => *sent += 1,
                AttemptOutcome::Failed | AttemptOutcome::GivenUp => {
                    failed.insert(*attempt);
                }
                AttemptOutcome::Unknown => {}
            }
        }
    }
    for attempt in told.attempts.iter().filter(|attempt| attempt.was_undisturbed()) {
        let id = attempt.notification_id.as_str();
        let is_kept = attempt.instances.iter().any(|instance| {
            kept.get(&(id, instance.as_str()))
                .is_some_and(|(sent, failed)| if attempt.sent { *sent > 0 } else { !failed.is_empty() })
        });
        if !is_kept {
            return Err(format!(
                "an attempt of {id} for {lane} is not in the history (sent: {})",
                attempt.sent
            ));
        }
    }
    Ok(())
}

/// The history has every transition that was stored, once, and no other.
fn transitions_are_kept(truth: &Truth, history: &[HistoryEntry]) -> Result<(), String> {
    let mut counts: BTreeMap<(&str, &str, Timestamp), i64> = BTreeMap::new();
    for entry in history {
        if let HistoryEvent::Transition { state, .. } = &entry.event {
            *counts
                .entry((&entry.instance_id, state.as_str(), entry.at))
                .or_default() += 1;
        }
    }
    for known in &truth.transitions {
        *counts
            .entry((&known.instance_id, known.kind.as_str(), known.at))
            .or_default() -= 1;
    }
    match counts.iter().find(|(_, count)| **count != 0) {
        None => Ok(()),
        Some((which, count)) => Err(format!(
            "the history has {which:?} {} than it happened",
            if *count > 0 { "more often" } else { "less often" }
        )),
    }
}

/// Nothing fires any more, and nothing is left of it.
pub(crate) fn over(world: &World) -> Result<(), String> {
    let truth = world.sim.truth();
    for (id, incident) in &truth.incidents {
        if incident.resolved.is_none() {
            return Err(format!("{id} still fires"));
        }
        for lane in lanes(incident) {
            let content = finish(world.notify.content(&lane)).unwrap();
            if let Some(content) = content.filter(|content| !content.groups.is_empty() || !content.members.is_empty()) {
                return Err(format!("something is left of {lane}: {content:?}"));
            }
        }
    }
    Ok(())
}

/// Where nothing failed, everybody was told as soon as they wanted.
pub(crate) fn prompt(world: &World) -> Result<(), String> {
    let truth = world.sim.truth();
    for (id, incident) in &truth.incidents {
        for lane in lanes(incident) {
            let Some(told) = truth.lanes.get(&lane) else { continue };
            let tellings = |kind| told.tellings.get(&(id.clone(), kind)).into_iter().flatten();
            let first = tellings(Firing).chain(tellings(Resolved)).min();
            let Some(take) = first.map(|&at| &told.takes[at]) else {
                continue;
            };
            let (from_ms, to_ms) = (incident.stored_ms - SLACK_MS, take.at_ms);
            let reasons = truth.timeline.ever(incident.about(), &lane, from_ms, to_ms);
            let is_limited = channel_of(&lane).is_some_and(|name| {
                let mut versions = truth.timeline.versions(name);
                versions.any(|channel| channel.spec.rate_limit.notifications < 30)
            });
            if is_limited || !reasons.iter().all(|reason| *reason == Reason::NoResolves) {
                continue;
            }
            let usual = if channel_of(&lane).is_some() { (10, 300) } else { (0, 0) };
            let seconds = truth.timeline.during(from_ms, to_ms).map(|facts| {
                let get = |get: fn(&Routing) -> Option<u64>| facts.setting(&incident.rule, &lane, get);
                let wait = get(|routing| routing.group_wait_seconds).unwrap_or(usual.0);
                wait.max(get(|routing| routing.group_interval_seconds).unwrap_or(usual.1))
            });
            let most = i64::try_from(seconds.max().unwrap_or_default()).unwrap() * 1_000 + UNDER_WAY_MS;
            let passed = take.at_ms - incident.stored_ms;
            if passed > most {
                return Err(format!("{id} was told to {lane} after {passed} ms, {most} are allowed"));
            }
        }
    }
    Ok(())
}
