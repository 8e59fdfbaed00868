//! One notification, from the group that says "under way" to the members that say "told".

use super::decide::{Candidate, Tell, Why, later};
use super::facts::AT_ONCE;
use super::flush::{Interrupted, Work};
use super::grouping::{Grouped, Recipient, short_hash};
use super::letter::Letter;
use super::record::Attempt;
use super::{Dispatcher, Queue};
use crate::notification::{Alert, Cause, Notification};
use crate::retry::{self, Failure, Verdict};
use crate::sender::{Deliver, Target};
use crate::store::{DocumentStore, GivenUp, Group, InFlight, LaneStore, Mark, Member, News, Settled, StoreError, Told};
use futures::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::error::Error;
use tidemark_model::Timestamp;
use tidemark_rules::history::AttemptOutcome;
use tidemark_rules::store::Saved;
use tidemark_rules::{AlertStore, HistoryEntry, TransitionKind, TransitionReason};

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The receiver took it.
    Sent,
    /// It did not, or did not say so.
    Failed,
    /// There was no time left to begin.
    NotBegun,
}

impl<A, N, S, Q> Dispatcher<'_, A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: Queue,
{
    /// Sends one notification of a group.
    pub(super) async fn tell(
        &self,
        work: &Work<'_>,
        grouped: &Grouped<'_>,
        tell: Tell<'_>,
    ) -> Result<Outcome, Interrupted> {
        let mut slot = Slot::of(grouped);
        if tell.afresh {
            slot.group.given_up = None;
            slot.group.failures = 0;
        }
        let notification = notification(work, &slot.group, grouped.is_digest, &tell);
        let at = (self.clock)();
        if !work.may_send(at) {
            return Ok(Outcome::NotBegun);
        }
        slot.group.in_flight = Some(InFlight {
            notification_id: notification.id.clone(),
            at,
            news: tell.news.clone(),
        });
        self.save(work, &mut slot).await?;
        if !work.may_send((self.clock)()) {
            // The store took long. Nothing was sent, and that is known.
            slot.group.in_flight = None;
            self.save(work, &mut slot).await?;
            return Ok(Outcome::NotBegun);
        }
        let target = match &work.recipient {
            Recipient::Channel {
                channel: Some(channel), ..
            } => Target::Channel(&channel.spec),
            _ => Target::Webhook {
                url: tell
                    .alerts
                    .first()
                    .and_then(|one| one.member.event.rule.webhook_url.as_deref())
                    .unwrap_or(""),
            },
        };
        match self.sender.deliver(target, &notification, at).await {
            Ok(()) => self.told(work, grouped, slot, &tell, notification.id, at).await,
            Err(failure) => {
                self.failed(work, grouped, slot, &tell, notification.id, at, failure)
                    .await
            }
        }
    }

    async fn told(
        &self,
        work: &Work<'_>,
        grouped: &Grouped<'_>,
        mut slot: Slot,
        tell: &Tell<'_>,
        notification_id: String,
        at: Timestamp,
    ) -> Result<Outcome, Interrupted> {
        let group = &mut slot.group;
        tracing::info!(
            lane = work.lane,
            group_key = group.key,
            notification_id,
            alerts = tell.alerts.len(),
            why = ?tell.why,
            "notification sent"
        );
        group.told = Some(Told {
            notification_id,
            attempt: group.failures.saturating_add(1),
            at,
            news: tell.news.clone(),
        });
        group.in_flight = None;
        group.failures = 0;
        group.not_before = None;
        group.given_up = None;
        if tell.complete {
            // What is left follows at once: as if this one had not been.
            group.notified_at = Some(at);
        }
        let saved = (slot.group.version, slot.stored);
        if let Err(Interrupted::Store(error)) = self.save(work, &mut slot).await {
            // The receiver has it: that is not to be forgotten by one call that failed. If it was applied all the same, this is a conflict,
            // and whoever comes next finds it.
            let error = &error as &dyn Error;
            tracing::warn!(
                lane = work.lane,
                error,
                "a notification that was sent is saved once more"
            );
            (slot.group.version, slot.stored) = saved;
            self.save(work, &mut slot).await?;
        }
        self.finish_told(work, grouped, slot).await?;
        Ok(Outcome::Sent)
    }

    /// Brings what a group has told to its members. It is repeated after a crash from wherever it came to.
    pub(super) async fn finish_told(
        &self,
        work: &Work<'_>,
        grouped: &Grouped<'_>,
        mut slot: Slot,
    ) -> Result<(), Interrupted> {
        let Some(told) = slot.group.told.take() else {
            return Ok(());
        };
        work.check((self.clock)())?;
        let attempt = Attempt {
            channel: work.recipient.name(),
            group: &slot.group,
            notification_id: &told.notification_id,
            number: told.attempt,
            at: told.at,
        };
        let members = with_members(grouped, &told.news);
        let entries = attempt.entries(members.iter().copied(), AttemptOutcome::Sent, None);
        self.alerts.append_history(&entries).await?;
        let group_id = slot.group.id.as_str();
        let marks = stream::iter(members).map(|(member, news)| async move {
            self.alerts
                .record_notification(&member.event.instance_id, told.at)
                .await?;
            if news.kind == TransitionKind::Resolved {
                return self
                    .store
                    .settle(work.lane, &news.incident, &Settled::Told, told.at)
                    .await;
            }
            let mark = Mark {
                told_at: Some(member.mark.told_at.unwrap_or(told.at)),
                told_beat: news.beat.max(member.mark.told_beat),
                suppressed: None,
                group: Some(group_id.to_owned()),
                maybe_told: false,
            };
            if mark == member.mark {
                return Ok(());
            }
            self.store.mark(work.lane, &news.incident, &mark).await
        });
        marks.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        self.save(work, &mut slot).await
    }

    #[expect(clippy::too_many_arguments, reason = "one attempt and how it ended")]
    async fn failed(
        &self,
        work: &Work<'_>,
        grouped: &Grouped<'_>,
        mut slot: Slot,
        tell: &Tell<'_>,
        notification_id: String,
        at: Timestamp,
        failure: Failure,
    ) -> Result<Outcome, Interrupted> {
        let now = (self.clock)();
        let number = slot.group.failures.saturating_add(1);
        if !matches!(failure, Failure::Permanent { .. } | Failure::Throttled { .. }) {
            self.mark_maybe_told(work, grouped, &slot.group.id, &tell.news).await?;
        }
        if let Failure::Throttled { after_seconds, .. } = &failure {
            let seconds = after_seconds
                .unwrap_or(0)
                .clamp(retry::FIRST_DELAY_SECONDS, retry::MAX_DELAY_SECONDS);
            work.slow_down(seconds_later(now, seconds));
        }
        let verdict = retry::after_failure(number, &failure, (self.jitter)());
        let outcome = match verdict {
            Verdict::RetryIn(_) => AttemptOutcome::Failed,
            Verdict::GiveUp(_) => AttemptOutcome::GivenUp,
        };
        let attempt = Attempt {
            channel: work.recipient.name(),
            group: &slot.group,
            notification_id: &notification_id,
            number,
            at,
        };
        let members = with_members(grouped, &tell.news);
        let entries = attempt.entries(members, outcome, Some(&failure.to_string()));
        self.record(&entries).await;
        let (lane, group_key) = (work.lane, slot.group.key.as_str());
        match verdict {
            Verdict::RetryIn(seconds) => {
                let reason = failure.to_string();
                tracing::info!(
                    lane,
                    group_key,
                    notification_id,
                    retry_in_seconds = seconds,
                    reason,
                    "notification failed"
                );
                slot.group.not_before = Some(seconds_later(now, seconds));
            }
            Verdict::GiveUp(why) => {
                let reason = format!("{why}: {failure}");
                tracing::error!(
                    lane,
                    group_key,
                    notification_id,
                    reason,
                    "notification was given up: somebody was not told"
                );
                self.give_up(work, &mut slot.group, &tell.news, reason, now).await?;
            }
        }
        slot.group.failures = number;
        slot.group.in_flight = None;
        self.save(work, &mut slot).await?;
        Ok(Outcome::Failed)
    }

    /// Sends a letter, and then remembers that no attempt is left. A crash in between makes a second letter.
    pub(super) async fn give_up(
        &self,
        work: &Work<'_>,
        group: &mut Group,
        news: &[News],
        reason: String,
        at: Timestamp,
    ) -> Result<(), Interrupted> {
        // There is a letter already: this was one more attempt for the same, or the next sign of life to a receiver that takes none.
        if group.given_up.is_none() {
            let letter = Letter {
                lane: work.lane.to_owned(),
                channel: work.recipient.name().to_owned(),
                group_id: group.id.clone(),
                group_key: group.key.clone(),
                news: news.to_vec(),
                reason: reason.clone(),
                at,
            };
            let body = serde_json::to_string(&letter).map_err(|error| StoreError::Corrupt {
                item: "a letter".to_owned(),
                reason: error.to_string(),
            })?;
            self.queue.dead_letter(&body, &reason).await?;
        }
        group.given_up = Some(GivenUp {
            at,
            reason,
            news: news.to_vec(),
        });
        group.not_before = None;
        Ok(())
    }

    /// The receiver may have it: the members stay in this group, and their end is told.
    pub(super) async fn mark_maybe_told(
        &self,
        work: &Work<'_>,
        grouped: &Grouped<'_>,
        group_id: &str,
        news: &[News],
    ) -> Result<(), StoreError> {
        let marks = with_members(grouped, news)
            .into_iter()
            .filter(|(member, _)| member.mark.told_at.is_none() && !member.mark.maybe_told)
            .map(|(member, _)| async move {
                let mark = Mark {
                    group: Some(group_id.to_owned()),
                    maybe_told: true,
                    ..member.mark.clone()
                };
                self.store.mark(work.lane, &member.incident, &mark).await
            });
        stream::iter(marks).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Writes to the history what telling does not wait for.
    pub(super) async fn record(&self, entries: &[HistoryEntry]) {
        if entries.is_empty() {
            return;
        }
        for _ in 0..2 {
            match self.alerts.append_history(entries).await {
                Ok(()) => return,
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::warn!(entries = entries.len(), error, "the history was not written");
                }
            }
        }
    }

    pub(super) async fn save(&self, work: &Work<'_>, slot: &mut Slot) -> Result<(), Interrupted> {
        slot.group.version = slot.group.version.saturating_add(1);
        match self.store.save_group(work.lane, &slot.group, slot.stored).await? {
            Saved::Saved => {
                slot.stored = Some(slot.group.version);
                Ok(())
            }
            Saved::Conflict => Err(Interrupted::LeaseLost),
        }
    }
}

/// A group and the version of it that is stored.
pub(crate) struct Slot {
    pub(crate) group: Group,
    pub(crate) stored: Option<u64>,
}

impl Slot {
    pub(crate) fn of(grouped: &Grouped<'_>) -> Self {
        Self {
            group: grouped.group.clone(),
            stored: grouped.stored,
        }
    }
}

fn seconds_later(at: Timestamp, seconds: u64) -> Timestamp {
    later(at, i64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}

/// The members that news is about. What was settled meanwhile has none any more.
pub(crate) fn with_members<'a, 'n>(grouped: &Grouped<'a>, news: &'n [News]) -> Vec<(&'a Member, &'n News)> {
    let all: HashMap<&str, &'a Member> = grouped
        .members
        .iter()
        .map(|(member, _)| (member.incident.as_str(), *member))
        .collect();
    news.iter()
        .filter_map(|news| all.get(news.incident.as_str()).map(|member| (*member, news)))
        .collect()
}

fn notification(work: &Work<'_>, group: &Group, is_digest: bool, tell: &Tell<'_>) -> Notification {
    let mut alerts: Vec<Alert> = tell.alerts.iter().map(alert).collect();
    alerts.sort_by(|a, b| (a.starts_at, &a.labels).cmp(&(b.starts_at, &b.labels)));
    let fires = alerts.iter().any(|alert| alert.status == TransitionKind::Firing);
    Notification {
        id: notification_id(work.lane, group, &tell.news),
        channel: work.recipient.name().to_owned(),
        group_key: group.key.clone(),
        group_labels: group.labels.clone(),
        status: if fires {
            TransitionKind::Firing
        } else {
            TransitionKind::Resolved
        },
        cause: match tell.why {
            Why::NewFiring | Why::Resolved => Cause::Change,
            Why::Repeat => Cause::Repeat,
            Why::Heartbeat => Cause::Heartbeat,
        },
        is_digest,
        alerts,
        truncated_alerts: tell.left_out,
    }
}

/// Another for other news, and for the same news at another time; the same for what is sent again because nobody knows whether it arrived.
fn notification_id(lane: &str, group: &Group, news: &[News]) -> String {
    let after = group.notified_at.map_or_else(String::new, |at| at.0.to_string());
    let told = news.iter().map(|one| {
        let beat = one.beat.map_or(0, |beat| beat.0);
        format!("{} {} {beat}", one.incident, one.kind.as_str())
    });
    let told: Vec<String> = told.collect();
    let parts = [lane, group.id.as_str(), after.as_str()];
    short_hash(parts.into_iter().chain(told.iter().map(String::as_str)))
}

fn alert(one: &Candidate<'_>) -> Alert {
    let event = &one.member.event;
    Alert {
        status: if one.over_at.is_some() {
            TransitionKind::Resolved
        } else {
            TransitionKind::Firing
        },
        reason: if one.over_at.is_some() && !one.member.is_resolved() {
            // Its own message is still under way; the next incident says that it ended.
            TransitionReason::ConditionCleared
        } else {
            event.reason
        },
        labels: event.alert_labels(),
        annotations: event.annotations.clone(),
        starts_at: event.firing_since,
        ends_at: one.over_at,
        fingerprint: event.fingerprint.clone(),
        instance_id: event.instance_id.clone(),
        value: event.value,
        rule: event.rule.clone(),
    }
}
