//! Takes events into the lanes of their channels and tells what is due: never lost, never after what came next, twice only where an answer
//! was lost.
//!
//! ## The cast
//!
//! | who | is |
//! |---|---|
//! | **event** | a firing, a resolve or a beat, from the queue; perhaps not for the first time, perhaps not in order |
//! | **lane** | what one channel has to tell; only one process tells at a time: who has its **lease** |
//! | **member** | one incident in a lane, from its firing to its resolve, with the last that is known of it; its **mark** says what was told |
//! | **group** | the members that are told together, with what is **under way** and what was **told** last |
//! | **log** | the incidents that are settled in a lane: nothing of them is told again |
//! | **wake** | a message that has somebody look at a lane, at a time or soon after it |
//! | **letter** | a dead letter of a notification that was given up; sent back, it has its group tried again |
//!
//! ## The flow
//!
//! ```text
//! event ──> enlist in the lane of each channel ──> group_wait 0: flush; else: is a wake on its way? else send one
//! wake, letter ──> flush
//!
//! flush:  lease ── held? ──> come again in 5 s, then 10 s ... 60 s
//!           │
//!         read the lane; a group that a crash left "under way" or "told" is mended first
//!           │
//!         facts: the channel, silences, inhibitions and their sources, mute times, who acknowledged
//!           │
//!         decide, for each group: settle · mark as suppressed · tell, and why · wait, for what and until when
//!           │
//!         more due than tokens? what is new is brought into the digest, and all is decided again
//!           │
//!         8 at a time:  group "under way" ──> send ──> group "told" ──> history, members marked or settled ──> group at rest
//!           │                                   └──> failed: group "not before", or a letter and "given up"
//!         read again until nothing is due ──> send the next wake ──> release
//! ```
//!
//! The facts are read once per lease, and so up to as old when something is told: a silence that is created meanwhile holds from the next look.
//!
//! What is told is decided from the lane as a whole, not from the event that came: a lane that is looked at once too often does nothing, and
//! which message led there does not matter.
//!
//! ## What a duplicate does
//!
//! An event that is enlisted again changes nothing. A firing that comes after its resolve changes nothing: the resolve tells both. One that
//! comes after its incident was settled is refused by the log, in the same step that would have enlisted it. A wake or a letter that comes
//! twice finds nothing due. The same message handled by two processes at once: one of them finds the lane held.
//!
//! ## What a crash does
//!
//! | after | is left | and then |
//! |---|---|---|
//! | enlisting | the event, which comes again | nothing changes, and the lane is attended to |
//! | sending a wake, before `wake_by` | one more wake | it finds nothing due |
//! | taking the lease | the message, and `wake_at` at the end of the lease | somebody waits for that end and goes on |
//! | marking or settling some members | the others | they are decided again; history entries have the ids they had |
//! | saving "under way", before or while sending | nobody knows whether it was told | recorded as unknown, told again under the same id: the one duplicate |
//! | the receiver's answer, before saving "told" | the same | the same |
//! | saving "told" | members that are not marked | they are marked before anything else is told |
//! | a letter, before saving "given up" | "under way" | one more attempt, one more letter |
//! | sending the next wake, before the release | a lease that ends by itself | the wake waits for it |
//!
//! A store that answers with an error is a crash in which the lease is given back if that is possible.
//!
//! ## Order
//!
//! An event brings along the resolve of the incident before it, which is enlisted first: what overtakes it in the queue does not overtake it here.
//! A member holds one event, and a resolve takes the place of its firing: a firing can only be told before its resolve or never. An incident
//! is over when a later one of the same instance is in its lane, also while its own resolve is still under way; its end is told in or before
//! the notification that tells what began after it, which is why the later one joins the group of the earlier. What is told more than two
//! minutes late is compared with the instance first.
//!
//! ## Whose turn it is: the lease, and what it does not promise
//!
//! A lease ends [`LEASE_MS`] after its holder's clock said `now`. The holder begins to send only within the first [`SEND_UNTIL_MS`]; an
//! attempt ends within 10 s; what is written without a condition (marks, log) is written only until [`SKEW_MS`] before the end. So as long as
//! no two clocks are more than 15 s apart (Lambda's are within milliseconds) nobody else sends or marks while the holder does:
//! `35 s + 10 s + 15 s = 60 s`. Everything a group says is written under its version; who was away for longer finds a conflict there and
//! stops. What remains: a process that is stopped for more than 15 s between its last look at the clock and the first byte on the wire could
//! tell what another has told meanwhile. A lease cannot prevent that, only a receiver that knows the idempotency key can.
//!
//! ## Wakes
//!
//! A message is sent first and `wake_at` stored after: so for every `wake_at` in the future a message is on its way, but for the one that a
//! lease sets, which stands for the death of its holder. Who needs a look at a time sends a wake unless an earlier one is on its way; so a
//! burst of events makes one. After a failed attempt the wake that led to it hides itself (visibility timeout) instead of sending another.
//! What is further away than a queue can delay is reached by several. A lane that nobody came to for [`OVERDUE_MS`] is found by
//! [`rescue`], which evaluation calls each minute.
//!
//! ## What this does not do
//!
//! It does not render or send (`senders`), and knows no receiver's form. It does not keep a receiver from getting a notification that it
//! already has, when it answered and the answer was lost. It does not delay what fires to keep an order between different alerts.

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

/// When a message comes again that found somebody else at work, in seconds: most are done in less. Each time it takes as much longer.
const BUSY_SECONDS: u64 = 5;

/// The longest that takes, in seconds: a lease.
const MAX_BUSY_SECONDS: u64 = 60;

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
        let flushed =
            Box::pin(self.flush(lane, &arrival.holder, redrive, may_return, arrival.receive_count > 1)).await?;
        Ok(match flushed {
            Flushed::Busy => self.look_later(lane, redrive, arrival.receive_count).await?,
            Flushed::Return(seconds) => Next::RetryIn(u64::from(seconds)),
            Flushed::Done => Next::Done,
        })
    }

    /// Somebody else works on the lane. A message that has come too often is followed by another before the queue takes it for one that
    /// cannot be handled.
    async fn look_later(&self, lane: &str, redrive: Option<&str>, receive_count: u32) -> Result<Next, StoreError> {
        if receive_count < MAX_RETURNS {
            let seconds = BUSY_SECONDS.saturating_mul(u64::from(receive_count.max(1)));
            return Ok(Next::RetryIn(seconds.min(MAX_BUSY_SECONDS)));
        }
        if redrive.is_some() {
            // A wake would not know which group is to be tried.
            return Ok(Next::DeadLetter(format!(
                "somebody else was at work on the channel each of {receive_count} times"
            )));
        }
        let delay = u32::try_from(MAX_BUSY_SECONDS).unwrap_or(MAX_DELAY_SECONDS);
        self.queue.wake(lane, delay).await?;
        Ok(Next::Done)
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
