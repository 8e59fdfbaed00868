//! Delivers one event to the channels of its rule.
//!
//! The cast: the *event* came through the queue, perhaps for the second time; the *log* knows how far each (transition,
//! channel) has come; the *sender* makes one attempt.
//!
//! **A duplicate** finds `Sent` in the log and does nothing. One that arrives while an attempt runs finds its lease and
//! waits. Only a crash between the receiver's 2xx and the log's `Sent` makes a second delivery; it carries the same
//! `Idempotency-Key`.
//!
//! **Order.** The queue keeps none. A resolve waits until the firing of its incident was sent, given up or found
//! undeliverable, at most [`FIRING_WAIT_MS`] after the incident began to fire, which is longer than the retry policy lasts. A firing is
//! never sent after its resolve.

use crate::retry::{self, Failure, Verdict};
use crate::sender::PostWebhook;
use crate::webhook;
use std::error::Error;
use tidemark_model::Timestamp;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::store::{AttemptKey, Begun, Finished, LogState, StoreError};
use tidemark_rules::{AlertStore, TransitionEvent, TransitionKind};

/// How long after the beginning of an incident its resolve waits for its firing, in milliseconds. The retry policy makes its
/// last attempt after at most 3.2 h.
pub const FIRING_WAIT_MS: i64 = 4 * 3_600 * 1_000;

/// How long an attempt is taken to be running, in milliseconds: three times its time limit.
pub const LEASE_MS: i64 = 30_000;

/// What became of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelOutcome {
    /// The receiver took it now.
    Sent,
    /// The log says that it was settled before; nothing was done.
    Done,
    /// It will not be sent: the channel is not configured, or the incident was already told to be over.
    Undeliverable(String),
    /// Try again.
    RetryIn {
        /// After so many seconds.
        seconds: u64,
        /// Why it was not sent now.
        reason: String,
    },
    /// No attempt is left.
    GaveUp(String),
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Each channel of the rule, in the rule's order.
    pub channels: Vec<(String, ChannelOutcome)>,
}

/// What is to be done with the message that brought the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Delete it.
    Done,
    /// Keep it invisible for so many seconds, then deliver it again.
    RetryIn(u64),
    /// Send its body to the dead-letter queue with this reason, then delete it. Should it come again because that failed,
    /// it is answered from the log.
    DeadLetter(String),
}

impl Delivery {
    /// What follows for the message. Channels that are settled cost nothing when it comes again.
    #[must_use]
    pub fn next(&self) -> Next {
        let retries = self.channels.iter().filter_map(|(_, outcome)| match outcome {
            ChannelOutcome::RetryIn { seconds, .. } => Some(*seconds),
            _ => None,
        });
        if let Some(seconds) = retries.min() {
            return Next::RetryIn(seconds);
        }
        let given_up = self.channels.iter().find_map(|(channel, outcome)| match outcome {
            ChannelOutcome::GaveUp(reason) => Some(Next::DeadLetter(format!("{channel}: {reason}"))),
            _ => None,
        });
        given_up.unwrap_or(Next::Done)
    }
}

/// How a message arrived.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// How often the queue has handed out this message, counted from 1.
    pub receive_count: u32,
    /// The time.
    pub now: Timestamp,
    /// A random number from 0 to 1.
    pub jitter: f64,
}

/// Makes one attempt for each channel that is not settled. It does not fail: what goes wrong is an outcome.
pub async fn deliver<L: AlertStore, S: PostWebhook>(
    event: &TransitionEvent,
    log: &L,
    sender: &S,
    arrival: Arrival,
) -> Delivery {
    let mut channels = Vec::new();
    for channel in &event.rule.notification_channels {
        let one = OneChannel {
            event,
            channel,
            log,
            sender,
            arrival,
        };
        let outcome = match one.deliver().await {
            Ok(outcome) => outcome,
            Err(error) => {
                let error = &error as &dyn Error;
                tracing::warn!(
                    transition_id = event.id,
                    channel,
                    error,
                    "the notification log did not answer"
                );
                one.later("the notification log did not answer")
            }
        };
        one.report(&outcome);
        channels.push((channel.clone(), outcome));
    }
    Delivery { channels }
}

struct OneChannel<'a, L, S> {
    event: &'a TransitionEvent,
    channel: &'a str,
    log: &'a L,
    sender: &'a S,
    arrival: Arrival,
}

impl<L: AlertStore, S: PostWebhook> OneChannel<'_, L, S> {
    fn key(&self, transition_id: String) -> AttemptKey {
        AttemptKey {
            transition_id,
            channel: self.channel.to_owned(),
        }
    }

    /// Comes back without having made an attempt, later with each time.
    fn later(&self, reason: &str) -> ChannelOutcome {
        ChannelOutcome::RetryIn {
            seconds: retry::delay_seconds(self.arrival.receive_count, self.arrival.jitter),
            reason: reason.to_owned(),
        }
    }

    async fn deliver(&self) -> Result<ChannelOutcome, StoreError> {
        let key = self.key(self.event.id.clone());
        let now = self.arrival.now;
        let before = self.log.log_entry(&key).await?;
        match before.map(|entry| entry.state) {
            Some(LogState::Sent { .. } | LogState::Undeliverable { .. }) => return Ok(ChannelOutcome::Done),
            // The same message again: it did not reach the dead-letter queue. A message that an operator sent back from
            // there is a new one, and gets a new attempt.
            Some(LogState::GivenUp { reason }) if self.arrival.receive_count > 1 => {
                return Ok(ChannelOutcome::GaveUp(reason));
            }
            _ => {}
        }
        let url = match (self.channel, &self.event.rule.webhook_url) {
            (WEBHOOK_CHANNEL, Some(url)) => url,
            (WEBHOOK_CHANNEL, None) => return self.undeliverable(&key, "the rule has no webhook_url").await,
            _ => return self.undeliverable(&key, "the channel is not configured").await,
        };
        if let Some(outcome) = self.in_order(&key).await? {
            return Ok(outcome);
        }
        let lease_until = Timestamp(now.0.saturating_add(LEASE_MS));
        match self.log.begin_attempt(&key, now, lease_until).await? {
            Begun::Done => Ok(ChannelOutcome::Done),
            Begun::Running { until } => {
                let ms = until.0.saturating_sub(now.0).clamp(1, LEASE_MS);
                Ok(ChannelOutcome::RetryIn {
                    seconds: u64::try_from(ms).unwrap_or(0).div_ceil(1_000),
                    reason: "another attempt is running".to_owned(),
                })
            }
            Begun::Attempt(attempt) => self.attempt(&key, url, attempt).await,
        }
    }

    /// Keeps a firing from being sent after its resolve, and a resolve before its firing.
    async fn in_order(&self, key: &AttemptKey) -> Result<Option<ChannelOutcome>, StoreError> {
        match self.event.kind {
            TransitionKind::Firing => {
                let resolve = self.log.log_entry(&self.key(self.event.resolved_id())).await?;
                match resolve.map(|entry| entry.state) {
                    Some(LogState::Sent { .. }) => self
                        .undeliverable(key, "the incident was already told to be over")
                        .await
                        .map(Some),
                    _ => Ok(None),
                }
            }
            TransitionKind::Resolved => {
                let waited_ms = self.arrival.now.0.saturating_sub(self.event.firing_since.0);
                if waited_ms >= FIRING_WAIT_MS {
                    return Ok(None);
                }
                let firing = self.log.log_entry(&self.key(self.event.firing_id())).await?;
                match firing.map(|entry| entry.state) {
                    None | Some(LogState::Open { .. }) => Ok(Some(self.later("its firing has not been delivered yet"))),
                    Some(_) => Ok(None),
                }
            }
        }
    }

    async fn attempt(&self, key: &AttemptKey, url: &str, attempt: u32) -> Result<ChannelOutcome, StoreError> {
        let now = self.arrival.now;
        let idempotency_key = format!("{}:{}", key.transition_id, key.channel);
        let result = match serde_json::to_vec(&webhook::message(self.event, self.channel)) {
            Ok(body) => self.sender.post(url, body, &idempotency_key, now).await,
            Err(error) => Err(Failure::Permanent {
                reason: format!("the message could not be written: {error}"),
            }),
        };
        let Err(failure) = result else {
            self.settle_sent(key).await;
            return Ok(ChannelOutcome::Sent);
        };
        match retry::after_failure(attempt, &failure, self.arrival.jitter) {
            Verdict::RetryIn(seconds) => {
                let reason = failure.to_string();
                self.log
                    .finish_attempt(key, &Finished::Failed { reason: reason.clone() }, now)
                    .await?;
                Ok(ChannelOutcome::RetryIn { seconds, reason })
            }
            Verdict::GiveUp(why) => {
                let reason = format!("{why}: {failure}");
                self.log
                    .finish_attempt(key, &Finished::GivenUp { reason: reason.clone() }, now)
                    .await?;
                Ok(ChannelOutcome::GaveUp(reason))
            }
        }
    }

    /// Records a success. The receiver has it, so a log that does not answer is no reason to send it again: the outcome
    /// stays `Sent` and the message is deleted.
    async fn settle_sent(&self, key: &AttemptKey) {
        let now = self.arrival.now;
        for _ in 0..2 {
            match self.log.finish_attempt(key, &Finished::Sent, now).await {
                Ok(()) => break,
                Err(error) => {
                    let error = &error as &dyn Error;
                    tracing::warn!(
                        transition_id = self.event.id,
                        channel = self.channel,
                        error,
                        "a delivery was not logged"
                    );
                }
            }
        }
        if let Err(error) = self.log.record_notification(&self.event.instance_id, now).await {
            let error = &error as &dyn Error;
            tracing::warn!(
                instance_id = self.event.instance_id,
                error,
                "a delivery was not counted"
            );
        }
    }

    async fn undeliverable(&self, key: &AttemptKey, reason: &str) -> Result<ChannelOutcome, StoreError> {
        let outcome = Finished::Undeliverable {
            reason: reason.to_owned(),
        };
        self.log.finish_attempt(key, &outcome, self.arrival.now).await?;
        Ok(ChannelOutcome::Undeliverable(reason.to_owned()))
    }

    fn report(&self, outcome: &ChannelOutcome) {
        let (transition_id, channel) = (self.event.id.as_str(), self.channel);
        match outcome {
            ChannelOutcome::Sent => tracing::info!(transition_id, channel, "notification sent"),
            ChannelOutcome::Done => tracing::debug!(transition_id, channel, "notification was settled before"),
            ChannelOutcome::Undeliverable(reason) => {
                tracing::warn!(transition_id, channel, reason, "notification is undeliverable");
            }
            ChannelOutcome::RetryIn { seconds, reason } => {
                tracing::info!(
                    transition_id,
                    channel,
                    retry_in_seconds = seconds,
                    reason,
                    "notification is tried again later"
                );
            }
            ChannelOutcome::GaveUp(reason) => {
                tracing::error!(
                    transition_id,
                    channel,
                    reason,
                    "notification was given up: somebody was not told"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
