//! Takes events into the lanes of their channels and tells what is due.

mod letter;
mod queue;

pub use letter::Letter;
pub use queue::{DeadLetter, MAX_DELAY_SECONDS, MemoryQueue, Queue, Wake};

use crate::sender::Deliver;
use crate::store::{DocumentStore, LaneStore, lane_id};
use std::collections::BTreeSet;
use tidemark_model::Timestamp;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::store::StoreError;
use tidemark_rules::{AlertStore, Message, Publish, TransitionEvent};

/// How long a lane is leased, in milliseconds: a little less than the function may run.
pub const LEASE_MS: i64 = 60_000;

/// How long a lane may be overdue before somebody is sent to look, in milliseconds.
pub const OVERDUE_MS: i64 = 90_000;

/// Everything that handling a message needs. Time and dice are arguments.
pub struct Dispatcher<'a, A, N, S, Q> {
    /// Rules' instances and the history.
    pub alerts: &'a A,
    /// Lanes and documents.
    pub store: &'a N,
    /// Who makes attempts.
    pub sender: &'a S,
    /// Where wakes and letters go.
    pub queue: &'a Q,
    /// The time. It is read again and again while a lane is worked on.
    pub clock: &'a (dyn Fn() -> Timestamp + Sync),
    /// A random number from 0 to 1, for each delay.
    pub jitter: &'a (dyn Fn() -> f64 + Sync),
}

/// How a message arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// How often the queue has handed out this message, counted from 1.
    pub receive_count: u32,
    /// Random, another for each arrival: names who takes a lease.
    pub holder: String,
}

/// What is to be done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Delete it.
    Done,
    /// Keep it invisible for so many seconds, then deliver it again.
    RetryIn(u64),
    /// Send its body to the dead letters with this reason, then delete it.
    DeadLetter(String),
}

impl<A, N, S, Q> Dispatcher<'_, A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: Queue,
{
    /// Handles one message. It does not fail: what goes wrong is part of the answer.
    pub async fn handle(&self, body: &str, arrival: &Arrival) -> Next {
        let _ = (self.sender, self.alerts, self.queue, self.jitter);
        let Ok(Message::Event(event)) = serde_json::from_str(body) else {
            return Next::DeadLetter("the message is no event".to_owned());
        };
        for lane in lanes_of(&event) {
            if self.store.enlist(&lane, &event, (self.clock)()).await.is_err() {
                return Next::RetryIn(u64::from(arrival.receive_count.min(60)));
            }
        }
        Next::Done
    }
}

fn lanes_of(event: &TransitionEvent) -> BTreeSet<String> {
    let rule = &event.rule;
    let own = |channel: &str| channel == WEBHOOK_CHANNEL && rule.webhook_url.is_some();
    rule.notification_channels
        .iter()
        .map(|one| lane_id(&one.channel, own(&one.channel).then_some(rule.id.as_str())))
        .collect()
}

/// Sends a wake to each lane that is overdue: a message was lost. Returns how many there were.
///
/// # Errors
/// When the store or the topic does not answer; the next tick tries again.
pub async fn rescue(store: &impl LaneStore, topic: &impl Publish, now: Timestamp) -> Result<usize, StoreError> {
    let overdue = store.overdue(Timestamp(now.0.saturating_sub(OVERDUE_MS))).await?;
    let wakes: Vec<Message> = overdue
        .iter()
        .map(|lane| Message::Wake { lane: lane.clone() })
        .collect();
    if wakes.is_empty() {
        return Ok(0);
    }
    for answer in topic.publish(&wakes).await {
        answer.map_err(|error| StoreError::Unavailable {
            operation: "wake overdue lanes",
            source: Some(Box::new(error)),
        })?;
    }
    Ok(wakes.len())
}
