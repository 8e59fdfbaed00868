//! Takes events into the lanes of their channels and tells what is due.

mod decide;
mod enlist;
mod facts;
mod flush;
mod grouping;
mod letter;
mod queue;
mod rate;
mod record;
mod tell;

pub use letter::Letter;
pub use queue::{DeadLetter, MAX_DELAY_SECONDS, MemoryQueue, Queue, Wake};

use crate::retry;
use crate::sender::Deliver;
use crate::store::{DocumentStore, LaneStore};
use flush::Flushed;
use std::error::Error;
use tidemark_model::Timestamp;
use tidemark_rules::store::StoreError;
use tidemark_rules::{AlertStore, Message, Publish, TransitionEvent};

/// For how long a lane is leased, in milliseconds: as long as the function may run.
pub const LEASE_MS: i64 = 60_000;

/// How long after the beginning of its lease a holder still begins to send, in milliseconds. An attempt takes up to 10 s
/// ([`crate::http::TOTAL_TIMEOUT`]); then [`SKEW_MS`] are left until anybody else may take the lane.
pub const SEND_UNTIL_MS: i64 = 35_000;

/// How far the clocks of two processes may be apart, in milliseconds.
pub const SKEW_MS: i64 = 15_000;

/// How long a lane may be overdue before somebody is sent to look, in milliseconds.
pub const OVERDUE_MS: i64 = 90_000;

/// When a message comes again that found somebody else at work, in seconds: most are done in less.
const BUSY_SECONDS: u64 = 5;

/// How often a message comes back by itself before another takes its place: well below the queue's limit, over which it would be taken for
/// one that cannot be handled.
const MAX_RETURNS: u32 = 50;

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
        let incoming = match Incoming::read(body) {
            Ok(incoming) => incoming,
            Err(reason) => {
                tracing::error!(reason, "a message cannot be read");
                return Next::DeadLetter(reason);
            }
        };
        let handled = match &incoming {
            Incoming::Event(event) => self.take_in(event, arrival).await,
            Incoming::Wake { lane } => self.look(lane, None, arrival).await,
            Incoming::Letter(letter) => self.look(&letter.lane, Some(&letter.group_id), arrival).await,
        };
        handled.unwrap_or_else(|error| {
            let error = &error as &dyn Error;
            tracing::warn!(
                error,
                receive_count = arrival.receive_count,
                "a message is handled later"
            );
            Next::RetryIn(retry::delay_seconds(arrival.receive_count, (self.jitter)()))
        })
    }

    /// Looks what of a lane is due.
    async fn look(&self, lane: &str, redrive: Option<&str>, arrival: &Arrival) -> Result<Next, StoreError> {
        // A letter that came back once would try its group anew each time.
        let may_return = redrive.is_none() && arrival.receive_count < MAX_RETURNS;
        // Boxed: what is sent at once is held in one place on the way down.
        let flushed = Box::pin(self.flush(lane, &arrival.holder, redrive, may_return)).await?;
        Ok(match flushed {
            Flushed::Busy => Next::RetryIn(BUSY_SECONDS),
            Flushed::Return(seconds) => Next::RetryIn(u64::from(seconds)),
            Flushed::Done => Next::Done,
        })
    }
}

/// What a message says.
enum Incoming {
    Event(Box<TransitionEvent>),
    Wake { lane: String },
    Letter(Letter),
}

impl Incoming {
    fn read(body: &str) -> Result<Self, String> {
        if let Ok(letter) = serde_json::from_str::<Letter>(body) {
            return Ok(Self::Letter(letter));
        }
        match serde_json::from_str::<Message>(body) {
            Ok(Message::Event(event)) if event.schema_version != TransitionEvent::SCHEMA_VERSION => Err(format!(
                "the event has schema version {}; this version reads {}",
                event.schema_version,
                TransitionEvent::SCHEMA_VERSION
            )),
            Ok(Message::Event(event)) if !event.kind.is_told() => {
                Err(format!("nobody is told of a transition to {}", event.kind.as_str()))
            }
            Ok(Message::Event(event)) => Ok(Self::Event(event)),
            Ok(Message::Wake { lane }) => Ok(Self::Wake { lane }),
            Err(error) => Err(format!("the message cannot be read: {error}")),
        }
    }
}

/// A delay that ends at a time or after it, as long as a queue allows, at least a second.
fn delay_seconds(at: Timestamp, now: Timestamp) -> u32 {
    let ms = at.0.saturating_sub(now.0).max(0);
    u32::try_from(ms.saturating_add(999) / 1_000)
        .unwrap_or(u32::MAX)
        .clamp(1, MAX_DELAY_SECONDS)
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

#[cfg(test)]
mod tests;
