//! Works on one lane: take the lease, mend what a crash has left, tell what is due, say when to look again.

use super::decide::{self, Candidate, Decision, Step, Tell, Unsaid, Why, later};
use super::enlist::sent_wake;
use super::facts::{AT_ONCE, Facts, Lineage, recipient};
use super::grouping::{self, Grouped, Recipient};
use super::rate::Bucket;
use super::record::{self, Attempt};
use super::tell::{Outcome, Slot, with_members};
use super::{Dispatcher, LEASE_MS, Queue, SEND_UNTIL_MS, SKEW_MS, delay_seconds};
use crate::channel::RateLimit;
use crate::retry::MAX_ATTEMPTS;
use crate::sender::Deliver;
use crate::store::{DocumentStore, Lane, LaneContent, LaneStore, Leased, Mark, Member, Settled, StoreError};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::sync::atomic::{AtomicI64, Ordering};
use tidemark_model::Timestamp;
use tidemark_rules::AlertStore;
use tidemark_rules::history::AttemptOutcome;

/// How many notifications of a lane are sent at once. A receiver that hangs holds up its own lane only, and of that an eighth.
const SENDS_AT_ONCE: usize = 8;

/// How much later than needed a wake that is on its way may arrive for no other to be sent, in milliseconds: delays are whole seconds, and
/// messages that lie in the queue for the same time must not bring forth as many for the next.
const COALESCE_MS: i64 = 2_000;

/// How often a lane is looked at in one go. Each time something was told or failed; the rest is left to the next wake.
const MAX_ROUNDS: usize = 20;

/// Why work on a lane ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Interrupted {
    /// The store, the history or the queue did not answer.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    /// Somebody else has the lane: this process was away for longer than its lease.
    #[error("the lease was lost")]
    LeaseLost,
}

/// What came of looking at a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Somebody else works on it.
    Busy,
    /// What was due is done, and somebody will look again in time.
    Done,
    /// What was due was tried and failed. The message that led here looks again after so many seconds.
    Return(u32),
}

/// A lane that is worked on.
pub(crate) struct Work<'a> {
    pub(crate) lane: &'a str,
    pub(crate) recipient: Recipient,
    until: Timestamp,
    /// In milliseconds; the least: never.
    not_before: AtomicI64,
}

impl Work<'_> {
    /// Whether there is time for an attempt: it ends before anybody else may take the lane. And whether the receiver wants one.
    pub(crate) fn may_send(&self, now: Timestamp) -> bool {
        self.has_time(now) && self.not_before.load(Ordering::Relaxed) <= now.0
    }

    fn has_time(&self, now: Timestamp) -> bool {
        now < later(self.until, SEND_UNTIL_MS - LEASE_MS)
    }

    /// Whether the lane is still ours to write to. What is conditional on versions does not need to ask.
    pub(crate) fn check(&self, now: Timestamp) -> Result<(), Interrupted> {
        if later(now, SKEW_MS) < self.until {
            Ok(())
        } else {
            Err(Interrupted::LeaseLost)
        }
    }

    /// The receiver asked for a pause.
    pub(crate) fn slow_down(&self, until: Timestamp) {
        self.not_before.fetch_max(until.0, Ordering::Relaxed);
    }

    fn limit(&self) -> RateLimit {
        let channel = self.recipient.channel();
        channel.map_or_else(RateLimit::default, |channel| channel.spec.rate_limit)
    }
}

/// A group and what becomes of it.
struct Planned<'g, 'a> {
    grouped: &'g Grouped<'a>,
    candidates: Vec<Candidate<'a>>,
    decision: Decision<'a>,
}

/// What one look at a lane came to.
#[derive(Default)]
struct Round {
    /// Whether something was told or tried, so that another look is worth it.
    again: bool,
    failed: bool,
    next: Option<Timestamp>,
    /// Whether an attempt failed, now or before, and the next one is waited for.
    backs_off: bool,
}

impl Round {
    fn look_at(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }
}

impl<A, N, S, Q> Dispatcher<'_, A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: Queue,
{
    /// Works on a lane. `redrive` names a group that is tried again although it was given up. `may_return`: the message that led here may come
    /// again by itself, so that after a failure no other is needed. `came_back`: it did.
    pub(super) async fn flush(
        &self,
        lane: &str,
        holder: &str,
        redrive: Option<&str>,
        may_return: bool,
        came_back: bool,
    ) -> Result<Flushed, StoreError> {
        let Some(recipient) = recipient(self.store, lane).await? else {
            tracing::error!(lane, "there is no lane of this name");
            return Ok(Flushed::Done);
        };
        let mut head = self.store.lane(lane).await?.unwrap_or_else(|| Lane::new(lane));
        let before = sent_wake(&head);
        let now = (self.clock)();
        let until = later(now, LEASE_MS);
        if let Leased::Held { .. } = self.store.lease(lane, holder, now, until).await? {
            return Ok(Flushed::Busy);
        }
        let work = Work {
            lane,
            recipient,
            until,
            not_before: AtomicI64::new(i64::MIN),
        };
        let worked = self.rounds(&work, redrive, &mut head).await;
        if let Err(Interrupted::LeaseLost) = worked {
            return Ok(Flushed::Busy);
        }
        // Also after an error others may go on at once; who got the error comes again.
        // A message that comes back earlier than was agreed after a failure is itself the wake that it finds to be on its way.
        let is_itself = came_back && matches!(&worked, Ok(round) if round.backs_off);
        let before = before.filter(|_| !is_itself);
        let left = self.leave(&work, holder, &head, &worked, before, may_return).await;
        match worked {
            Err(Interrupted::Store(error)) => Err(error),
            Err(Interrupted::LeaseLost) => Ok(Flushed::Busy),
            Ok(_) => left,
        }
    }

    /// Sees to it that somebody looks again, then gives the lane back.
    async fn leave(
        &self,
        work: &Work<'_>,
        holder: &str,
        head: &Lane,
        worked: &Result<Round, Interrupted>,
        before: Option<Timestamp>,
        may_return: bool,
    ) -> Result<Flushed, StoreError> {
        let now = (self.clock)();
        let mut head = head.clone();
        let not_before = work.not_before.load(Ordering::Relaxed);
        if not_before > now.0 {
            head.not_before = Some(Timestamp(not_before));
        }
        let mut flushed = Flushed::Done;
        let next = match worked {
            Ok(Round {
                next: Some(next),
                failed: true,
                ..
            }) if may_return => {
                let delay = delay_seconds(*next, now);
                flushed = Flushed::Return(delay);
                Ok(Some(later(now, i64::from(delay) * 1_000)))
            }
            Ok(round) => match round.next {
                Some(next) => self.wake_at(work.lane, next, before, now).await.map(Some),
                // A wake that is on its way finds nothing.
                None => Ok(None),
            },
            Err(_) => Ok(Some(now)),
        };
        head.wake_at = *next.as_ref().unwrap_or(&Some(now));
        // Who enlisted meanwhile may have asked for an earlier look.
        let asked = self.store.lane(work.lane).await?.and_then(|head| head.wake_at);
        if let Some(asked) = asked.filter(|asked| *asked < work.until) {
            head.wake_at = Some(head.wake_at.map_or(asked, |wake_at| wake_at.min(asked)));
        }
        self.store.release(holder, &head).await?;
        next.map(|_| flushed)
    }

    /// Sees to it that a wake arrives by a time, or as close to it as one reaches, and says when it does.
    async fn wake_at(
        &self,
        lane: &str,
        next: Timestamp,
        before: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        if let Some(before) = before
            && before > later(now, SKEW_MS)
            && before <= later(next, COALESCE_MS)
        {
            // That one is still under way. Close to now it could be the very message that led here, by another clock.
            return Ok(before);
        }
        let delay = delay_seconds(next, now);
        self.queue.wake(lane, delay).await?;
        Ok(later(now, i64::from(delay) * 1_000))
    }

    async fn rounds(&self, work: &Work<'_>, redrive: Option<&str>, head: &mut Lane) -> Result<Round, Interrupted> {
        let mut failed = false;
        let mut facts = None;
        for number in 1.. {
            let Some(content) = self.store.content(work.lane).await? else {
                return Ok(Round::default());
            };
            if number == 1 {
                *head = content.lane.clone();
                work.slow_down(head.not_before.unwrap_or(Timestamp(i64::MIN)));
            }
            let changed =
                (number == 1 && self.redrive(work, &content, redrive).await?) || self.mend(work, &content).await?;
            let mut round = if changed {
                Round {
                    again: true,
                    ..Round::default()
                }
            } else {
                self.round(work, &content, head, &mut facts).await?
            };
            failed |= round.failed;
            let now = (self.clock)();
            if round.again && (number >= MAX_ROUNDS || !work.has_time(now)) {
                round.look_at(later(now, 1_000));
                round.again = false;
            }
            if !round.again {
                return Ok(Round { failed, ..round });
            }
        }
        Ok(Round::default())
    }

    async fn redrive(
        &self,
        work: &Work<'_>,
        content: &LaneContent,
        redrive: Option<&str>,
    ) -> Result<bool, Interrupted> {
        let asked = content.groups.iter().find(|group| redrive == Some(group.id.as_str()));
        let Some(group) = asked.filter(|group| group.given_up.is_some()) else {
            return Ok(false);
        };
        let mut slot = Slot {
            group: group.clone(),
            stored: Some(group.version),
        };
        slot.group.given_up = None;
        slot.group.failures = 0;
        slot.group.not_before = None;
        self.save(work, &mut slot).await?;
        Ok(true)
    }

    /// Finishes what a process that died had begun. Returns whether there was anything: the lane is read again then.
    async fn mend(&self, work: &Work<'_>, content: &LaneContent) -> Result<bool, Interrupted> {
        let begun = |group: &crate::store::Group| group.told.is_some() || group.in_flight.is_some();
        if !content.groups.iter().any(begun) {
            return Ok(false);
        }
        work.check((self.clock)())?;
        let now = (self.clock)();
        let all = grouping::assemble(&content.groups, &content.members, &work.recipient, now);
        for grouped in all.iter().filter(|grouped| begun(&grouped.group)) {
            // A member may be grouped otherwise by now, and was told in this group all the same.
            let members = content.members.iter();
            let mut grouped = grouped.clone();
            grouped.members = members
                .map(|member| (member, grouping::settings(&member.event.rule, &work.recipient)))
                .collect();
            let slot = Slot::of(&grouped);
            if grouped.group.told.is_some() {
                self.finish_told(work, &grouped, slot).await?;
            } else {
                self.unknown(work, &grouped, slot).await?;
            }
        }
        Ok(true)
    }

    /// A notification was under way when its process died: perhaps it was told, perhaps not. It goes again under the same id.
    async fn unknown(&self, work: &Work<'_>, grouped: &Grouped<'_>, mut slot: Slot) -> Result<(), Interrupted> {
        let Some(in_flight) = slot.group.in_flight.take() else {
            return Ok(());
        };
        self.mark_maybe_told(work, grouped, &slot.group.id, &in_flight.news)
            .await?;
        let number = slot.group.failures.saturating_add(1);
        let attempt = Attempt {
            channel: work.recipient.name(),
            group: &slot.group,
            notification_id: &in_flight.notification_id,
            number,
            at: in_flight.at,
        };
        let members = with_members(grouped, &in_flight.news);
        let reason = "the process ended before it knew the answer";
        let entries = attempt.entries(members, AttemptOutcome::Unknown, Some(reason));
        self.record(&entries).await;
        tracing::warn!(
            lane = work.lane,
            notification_id = in_flight.notification_id,
            "the outcome of a notification is unknown; it goes again"
        );
        slot.group.failures = number;
        if number >= MAX_ATTEMPTS {
            self.give_up(
                work,
                &mut slot.group,
                &in_flight.news,
                reason.to_owned(),
                (self.clock)(),
            )
            .await?;
        }
        self.save(work, &mut slot).await
    }

    /// Looks at a lane once. `known` are the facts of an earlier look under this lease.
    async fn round(
        &self,
        work: &Work<'_>,
        content: &LaneContent,
        head: &mut Lane,
        known: &mut Option<Facts>,
    ) -> Result<Round, Interrupted> {
        let now = (self.clock)();
        let mut round = Round {
            backs_off: head.not_before.is_some_and(|until| until > now)
                || content.groups.iter().any(|group| group.failures > 0),
            ..Round::default()
        };
        let all = grouping::assemble(&content.groups, &content.members, &work.recipient, now);
        self.drop_empty(work, &all).await?;
        if content.members.is_empty() {
            return Ok(round);
        }
        let facts = match known {
            Some(facts) => facts,
            None => known.insert(self.facts(now).await?),
        };
        let lineage = Lineage::of(&content.members);
        let mut planned = Vec::new();
        for grouped in all.iter().filter(|grouped| !grouped.members.is_empty()) {
            let mut candidates = facts.candidates(grouped, &work.recipient, &lineage, now);
            self.ask(work.lane, &grouped.group, &mut candidates, now).await?;
            let decision = decide::decide(&grouped.group, &candidates, now);
            planned.push(Planned {
                grouped,
                candidates,
                decision,
            });
        }
        for one in &planned {
            if !one.decision.settle.is_empty() || !one.decision.suppress.is_empty() {
                work.check((self.clock)())?;
                self.put_aside(work, one, now).await?;
            }
            // What was settled may have been the last of its group.
            round.again |= !one.decision.settle.is_empty();
            if let Step::Wait {
                until: Some(until),
                why,
            } = &one.decision.step
            {
                tracing::debug!(
                    lane = work.lane,
                    group_key = one.grouped.group.key,
                    ?why,
                    "nothing is due"
                );
                round.look_at(*until);
            }
        }
        let mut due: Vec<(&Planned<'_, '_>, &Tell<'_>)> = planned
            .iter()
            .filter_map(|one| match &one.decision.step {
                Step::Tell(tell) => Some((one, tell)),
                Step::Wait { .. } => None,
            })
            .collect();
        // What has waited longest is told first, and what repeats itself last: where tokens are few, nothing waits for ever.
        due.sort_by_key(|(_, tell)| (tell.why == Why::Repeat, tell.due));
        if due.is_empty() {
            return Ok(round);
        }
        if !work.may_send(now) {
            let pause = Timestamp(work.not_before.load(Ordering::Relaxed));
            round.look_at(pause.max(later(now, 1_000)));
            return Ok(round);
        }
        let mut bucket = Bucket::of(head, work.limit(), now);
        if due.len() > bucket.whole() && bucket.whole() > 0 && self.make_digest(work, &due, &lineage).await? {
            round.again = true;
            return Ok(round);
        }
        if due.len() > bucket.whole() {
            due.truncate(bucket.whole());
            round.look_at(bucket.next_at().max(later(now, 1)));
        }
        bucket.take(due.len());
        bucket.store(head);
        let sends = due
            .into_iter()
            .map(|(one, tell)| self.tell(work, one.grouped, tell.clone()));
        let outcomes: Vec<Result<Outcome, Interrupted>> =
            stream::iter(sends).buffer_unordered(SENDS_AT_ONCE).collect().await;
        for outcome in outcomes {
            match outcome? {
                Outcome::Sent => round.again = true,
                Outcome::Failed => (round.again, round.failed) = (true, true),
                Outcome::NotBegun => round.look_at(later(now, 1_000)),
            }
        }
        Ok(round)
    }

    /// Records why members are not told, and settles those that never will be.
    async fn put_aside(&self, work: &Work<'_>, planned: &Planned<'_, '_>, now: Timestamp) -> Result<(), Interrupted> {
        let Decision { settle, suppress, .. } = &planned.decision;
        let mut entries = Vec::new();
        let channel = work.recipient.name();
        for (one, reason) in suppress {
            if let Some(reason) = reason {
                entries.push(record::suppressed(one.member, work.lane, channel, reason, now));
            }
        }
        for (one, why) in settle {
            // What was recorded when it began is not recorded again at its end.
            let known = *why == Unsaid::ResolveNotWanted || one.member.mark.suppressed.is_some();
            if !known {
                let held = one.held().map(|(reason, _)| reason.to_string());
                let reason = held.unwrap_or_else(|| why.reason().to_owned());
                entries.push(record::suppressed(one.member, work.lane, channel, &reason, now));
            }
        }
        if !entries.is_empty() {
            self.alerts.append_history(&entries).await.map_err(Interrupted::Store)?;
        }
        let marks = suppress.iter().map(|(one, reason)| async move {
            let mark = Mark {
                suppressed: reason.clone(),
                ..one.member.mark.clone()
            };
            self.store.mark(work.lane, &one.member.incident, &mark).await
        });
        stream::iter(marks)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        let settled = settle.iter().map(|(one, why)| async move {
            let held = one.held().map(|(reason, _)| reason.to_string());
            let reason = one.member.mark.suppressed.clone().or(held);
            let settled = Settled::Untold {
                reason: reason.unwrap_or_else(|| why.reason().to_owned()),
            };
            self.store.settle(work.lane, &one.member.incident, &settled, now).await
        });
        stream::iter(settled)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(())
    }

    /// Brings what was not told yet into the digest. Returns whether there was any.
    async fn make_digest(
        &self,
        work: &Work<'_>,
        due: &[(&Planned<'_, '_>, &Tell<'_>)],
        lineage: &Lineage<'_>,
    ) -> Result<bool, StoreError> {
        let untold = due
            .iter()
            .filter(|(one, _)| !one.grouped.is_digest)
            .flat_map(|(one, _)| &one.candidates)
            .filter(|one| one.held().is_none() && one.may_join_digest(lineage.has_predecessor(one.member)));
        let untold: Vec<&Member> = untold.map(|one| one.member).collect();
        if untold.is_empty() {
            return Ok(false);
        }
        tracing::warn!(
            lane = work.lane,
            alerts = untold.len(),
            "the rate limit is reached: what is new is told in a digest"
        );
        let marks = untold.iter().map(|member| async move {
            let mark = Mark {
                group: Some(grouping::digest_id(&member.event, &work.recipient)),
                ..member.mark.clone()
            };
            self.store.mark(work.lane, &member.incident, &mark).await
        });
        stream::iter(marks)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(true)
    }

    /// Removes groups that nothing is left of.
    async fn drop_empty(&self, work: &Work<'_>, all: &[Grouped<'_>]) -> Result<(), StoreError> {
        let empty = all.iter().filter(|grouped| grouped.members.is_empty());
        let removals =
            empty
                .filter_map(|grouped| Some((grouped, grouped.stored?)))
                .map(|(grouped, stored)| async move {
                    self.store
                        .remove_group(work.lane, &grouped.group.id, stored)
                        .await
                        .map(drop)
                });
        stream::iter(removals).buffer_unordered(AT_ONCE).try_collect().await
    }
}
