//! A sender that sends nothing: for tests, and for running everything in one process.

use crate::channel::ChannelSpec;
use crate::notification::Notification;
use crate::retry::Failure;
use crate::sender::{Deliver, Target};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tidemark_model::Timestamp;

/// What a receiver does with one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Takes it and says so.
    Take,
    /// Takes it, and the answer is lost: the sender sees this failure.
    TakeAndLose(Failure),
    /// Does not take it.
    Refuse(Failure),
}

/// Where a recorded notification went.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordedTarget {
    /// A configured channel.
    Channel(Box<ChannelSpec>),
    /// A rule's own webhook.
    Webhook {
        /// Where to.
        url: String,
    },
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Where to.
    pub target: RecordedTarget,
    /// What.
    pub notification: Notification,
    /// When, by the sender's clock.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
}

impl Recorded {
    /// Whether the receiver has it, whatever the sender was told.
    #[must_use]
    pub fn was_taken(&self) -> bool {
        !matches!(self.outcome, Outcome::Refuse(_))
    }
}

/// Remembers what it is given, and fails as it was told to. Receivers are told apart by the name in [`Notification::channel`].
#[derive(Debug, Default)]
pub struct RecordingSender {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    attempts: Vec<Recorded>,
    next: VecDeque<Outcome>,
    next_of: BTreeMap<String, VecDeque<Outcome>>,
    always_of: BTreeMap<String, Outcome>,
}

impl State {
    fn outcome(&mut self, channel: &str) -> Outcome {
        let of_channel = self.next_of.get_mut(channel).and_then(VecDeque::pop_front);
        of_channel
            .or_else(|| self.always_of.get(channel).cloned())
            .or_else(|| self.next.pop_front())
            .unwrap_or(Outcome::Take)
    }
}

impl RecordingSender {
    /// Takes everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next attempts to any channel fail with these, one each, before it takes anything again.
    pub fn fail_next(&self, failures: impl IntoIterator<Item = Failure>) {
        self.state().next.extend(failures.into_iter().map(Outcome::Refuse));
    }

    /// What becomes of the next attempts to a channel; comes before anything else that was said.
    pub fn script(&self, channel: &str, outcomes: impl IntoIterator<Item = Outcome>) {
        let mut state = self.state();
        state.next_of.entry(channel.to_owned()).or_default().extend(outcomes);
    }

    /// What becomes of each attempt to a channel from now on: an outage. `None` ends it.
    pub fn always(&self, channel: &str, outcome: Option<Outcome>) {
        let mut state = self.state();
        match outcome {
            Some(outcome) => state.always_of.insert(channel.to_owned(), outcome),
            None => state.always_of.remove(channel),
        };
    }

    /// All attempts, in order.
    #[must_use]
    pub fn attempts(&self) -> Vec<Recorded> {
        self.state().attempts.clone()
    }

    /// What receivers have taken, in order.
    #[must_use]
    pub fn delivered(&self) -> Vec<Recorded> {
        let mut all = self.attempts();
        all.retain(Recorded::was_taken);
        all
    }

    /// What one channel has taken, in order.
    #[must_use]
    pub fn delivered_to(&self, channel: &str) -> Vec<Notification> {
        let state = self.state();
        let taken = state.attempts.iter().filter(|one| one.was_taken());
        taken
            .filter(|one| one.notification.channel == channel)
            .map(|one| one.notification.clone())
            .collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deliver for RecordingSender {
    async fn deliver(&self, target: Target<'_>, notification: &Notification, now: Timestamp) -> Result<(), Failure> {
        let mut state = self.state();
        let outcome = state.outcome(&notification.channel);
        state.attempts.push(Recorded {
            target: match target {
                Target::Channel(spec) => RecordedTarget::Channel(Box::new(spec.clone())),
                Target::Webhook { url } => RecordedTarget::Webhook { url: url.to_owned() },
            },
            notification: notification.clone(),
            at: now,
            outcome: outcome.clone(),
        });
        match outcome {
            Outcome::Take => Ok(()),
            Outcome::TakeAndLose(failure) | Outcome::Refuse(failure) => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{alert, at, notification};

    async fn send(sender: &RecordingSender, channel: &str) -> Result<(), Failure> {
        let mut notification = notification(vec![alert("web-01", None)]);
        notification.channel = channel.to_owned();
        let target = Target::Webhook {
            url: "https://example.org/",
        };
        sender.deliver(target, &notification, at(0)).await
    }

    #[tokio::test]
    async fn it_fails_as_it_was_told_and_remembers_what_was_taken() {
        let sender = RecordingSender::new();
        sender.script(
            "ops",
            [
                Outcome::TakeAndLose(Failure::Timeout),
                Outcome::Refuse(Failure::Timeout),
            ],
        );
        assert_eq!(send(&sender, "dev").await, Ok(()));
        assert_eq!(send(&sender, "ops").await, Err(Failure::Timeout));
        assert_eq!(send(&sender, "ops").await, Err(Failure::Timeout));
        assert_eq!(sender.delivered_to("ops").len(), 1);
        sender.fail_next([Failure::Server { status: 500 }]);
        assert_eq!(send(&sender, "dev").await, Err(Failure::Server { status: 500 }));
        sender.always("dev", Some(Outcome::Refuse(Failure::Timeout)));
        assert_eq!(send(&sender, "dev").await, Err(Failure::Timeout));
        assert_eq!(send(&sender, "dev").await, Err(Failure::Timeout));
        sender.always("dev", None);
        assert_eq!(send(&sender, "dev").await, Ok(()));
        assert_eq!((sender.attempts().len(), sender.delivered().len()), (7, 3));
    }
}
