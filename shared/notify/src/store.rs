//! What notifying asks of a database. Two implementations ship: DynamoDB (`tidemark-aws`) and [`crate::MemoryNotifyStore`].
//!
//! The cast: a *lane* is what one channel has to tell (its id is [`lane_id`]); a *member* of a lane is one incident (an instance, from its
//! firing to its resolve); a *group* is the members that are told together. The *notification log* has an entry for each incident and lane
//! that is settled: nothing of it will be told again.
//!
//! **Guarantees that callers rely on.** Each method is atomic by itself unless its page says otherwise, and a successful answer is durable.
//! Reads see every write that was answered before they began. A method that answers with an error may or may not have been applied:
//! every caller repeats it, and a repeat is harmless.

use crate::settings::Document;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::Timestamp;
pub use tidemark_rules::store::StoreError;
use tidemark_rules::store::{Page, PageRequest, Saved};
use tidemark_rules::{TransitionEvent, TransitionKind};

/// The id of the lane of a channel, or of a rule's own `webhook_url`.
#[must_use]
pub fn lane_id(channel: &str, rule_of_webhook: Option<&str>) -> String {
    match rule_of_webhook {
        None => format!("channel#{channel}"),
        Some(rule) => format!("rule#{rule}"),
    }
}

/// Documents: channels, silences, inhibitions, mute times.
pub trait DocumentStore: Send + Sync {
    /// The document with this id.
    fn get<T: Document>(&self, id: &str) -> impl Future<Output = Result<Option<T>, StoreError>> + Send;

    /// A page of a kind, in ascending order of ids.
    fn list<T: Document>(&self, page: &PageRequest) -> impl Future<Output = Result<Page<T>, StoreError>> + Send;

    /// All of a kind, in ascending order of ids.
    fn load<T: Document>(&self) -> impl Future<Output = Result<Vec<T>, StoreError>> + Send;

    /// Stores a document if the stored version is `expected` (`None`: if there is none).
    fn put<T: Document>(
        &self,
        document: &T,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Deletes a document if its stored version is `expected`.
    fn delete<T: Document>(&self, id: &str, expected: u64) -> impl Future<Output = Result<Saved, StoreError>> + Send;
}

/// One incident in a lane. Who enlists writes `event`, `beat_at` and `enlisted_at`; who flushes writes [`Mark`]; neither undoes the
/// other's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The incident: [`TransitionEvent::incident_id`].
    pub incident: String,
    /// The last that is known of it: its firing, or its resolve, which tells the firing as well.
    pub event: TransitionEvent,
    /// When it came into the lane.
    pub enlisted_at: Timestamp,
    /// What the flusher knows.
    pub mark: Mark,
}

/// What has become of a member.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// When its firing was told; `None`: it was not.
    pub told_at: Option<Timestamp>,
    /// The last heartbeat that was told.
    pub told_beat: Option<Timestamp>,
    /// Why it is not told now, as recorded in the history.
    pub suppressed: Option<String>,
    /// The id of the group that it belongs to, once an attempt to tell it was made: it stays there to its end, whatever `group_by` says
    /// by then. The digest's, from when the rate limit brought it there. `None`: as its labels say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// An attempt may have told its firing although no answer said so. Its resolve is told as if `told_at` were set.
    #[serde(default)]
    pub maybe_told: bool,
}

impl Member {
    /// Whether the incident is over.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.event.kind == TransitionKind::Resolved
    }

    /// Whether an event of the same incident takes the place of this one's: a resolve that of a firing, a later beat that of an earlier.
    /// A resolve stays.
    #[must_use]
    pub fn is_replaced_by(&self, event: &TransitionEvent) -> bool {
        match event.kind {
            TransitionKind::Resolved => !self.is_resolved(),
            TransitionKind::Firing => !self.is_resolved() && event.beat > self.event.beat,
            _ => false,
        }
    }
}

/// A group and its notification log: what was told when, and what is being told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// A short id, from the key.
    pub id: String,
    /// See [`crate::Notification::group_key`].
    pub key: String,
    /// The labels that make the group.
    pub labels: BTreeMap<String, String>,
    /// When it was last told; `None`: never.
    pub notified_at: Option<Timestamp>,
    /// What is being told. If nobody holds the lane, the process that did has died and the outcome is unknown.
    pub in_flight: Option<InFlight>,
    /// What was told and is not yet marked in the members: it is to be marked before anything else.
    pub told: Option<Told>,
    /// How many attempts for the present news have failed.
    pub failures: u32,
    /// No attempt before.
    pub not_before: Option<Timestamp>,
    /// No attempt is left for the present news, until more of it comes or an operator asks: the last failure.
    pub given_up: Option<GivenUp>,
    /// Grows by one with each save.
    pub version: u64,
}

/// A notification under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// The notification's id.
    pub notification_id: String,
    /// When it was begun.
    pub at: Timestamp,
    /// What it tells.
    pub news: Vec<News>,
}

/// What a notification tells of one incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct News {
    /// The incident.
    pub incident: String,
    /// Firing or resolved.
    pub kind: TransitionKind,
    /// The heartbeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beat: Option<Timestamp>,
}

/// A notification that the receiver took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The notification's id.
    pub notification_id: String,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// When.
    pub at: Timestamp,
    /// What was told.
    pub news: Vec<News>,
}

/// An end of trying.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GivenUp {
    /// When.
    pub at: Timestamp,
    /// The last failure.
    pub reason: String,
    /// What was not told.
    pub news: Vec<News>,
}

/// A lane's head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lane {
    /// See [`lane_id`].
    pub id: String,
    /// When somebody will look at it next: a message is on its way for then. `None`: there is nothing to come.
    pub wake_at: Option<Timestamp>,
    /// Until when somebody works on it.
    pub leased_until: Option<Timestamp>,
    /// Nothing is sent before: the receiver asked to slow down.
    pub not_before: Option<Timestamp>,
    /// How many notifications the rate limit still allowed at `tokens_at`.
    pub tokens: f64,
    /// When that was; `None`: the bucket was never used, and is full.
    pub tokens_at: Option<Timestamp>,
}

impl Lane {
    /// The head of a lane in which nothing has happened yet.
    #[must_use]
    pub fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            wake_at: None,
            leased_until: None,
            not_before: None,
            tokens: 0.0,
            tokens_at: None,
        }
    }
}

/// Everything of a lane.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneContent {
    /// Its head.
    pub lane: Lane,
    /// Its groups, in ascending order of ids.
    pub groups: Vec<Group>,
    /// Its members, in ascending order of incidents.
    pub members: Vec<Member>,
}

/// What became of an enlistment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enlisted {
    /// It is in the lane, as new or as news of a member; or was already.
    InLane,
    /// The log says that it is settled: nothing is to be told.
    Settled,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leased {
    /// It is the caller's.
    Taken,
    /// Somebody else has it.
    Held {
        /// Until then, unless they are done earlier.
        until: Timestamp,
    },
}

/// How an incident was settled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Settled {
    /// Its resolve was told, and its firing.
    Told,
    /// It was suppressed as a whole, or cannot be told.
    Untold {
        /// Why.
        reason: String,
    },
}

/// The state of notifying. See the module's page for the guarantees.
pub trait LaneStore: Send + Sync {
    /// Takes an event into a lane, in one step with the question to the log: nothing is done when its incident is settled there.
    ///
    /// Without a member the event makes one. The event of a member is replaced as [`Member::is_replaced_by`] says: by a resolve unless it is
    /// one, by a heartbeat when it fires and has an earlier `beat` or none. Nothing else of the member changes.
    fn enlist(
        &self,
        lane: &str,
        event: &TransitionEvent,
        now: Timestamp,
    ) -> impl Future<Output = Result<Enlisted, StoreError>> + Send;

    /// A lane's head.
    fn lane(&self, lane: &str) -> impl Future<Output = Result<Option<Lane>, StoreError>> + Send;

    /// Sets `wake_at` to an earlier time, or to a first one; makes the lane if it is new. A later time than the stored one is not written.
    fn wake_by(&self, lane: &str, at: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes a lane for oneself when nobody has it at `now`: sets `leased_until` and `wake_at` to `until`, so that a lane whose holder dies is
    /// looked at again. `holder` is random and names the caller for [`LaneStore::release`]. A lease saves work and keeps two processes from
    /// telling at once; it ends before a late answer could matter, see `dispatch`.
    fn lease(
        &self,
        lane: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> impl Future<Output = Result<Leased, StoreError>> + Send;

    /// Everything of a lane. Not one step: what changes meanwhile may be missing, but what was there before is not.
    fn content(&self, lane: &str) -> impl Future<Output = Result<Option<LaneContent>, StoreError>> + Send;

    /// Ends a lease if it is still the holder's, and stores `wake_at`, `not_before`, `tokens` and `tokens_at` of `head`. `Conflict` when
    /// somebody else has taken it.
    fn release(&self, holder: &str, head: &Lane) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Stores a group if the stored version is `expected` (`None`: if there is none). `group.version` is the new version.
    fn save_group(
        &self,
        lane: &str,
        group: &Group,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Removes a group if its stored version is `expected`.
    fn remove_group(
        &self,
        lane: &str,
        id: &str,
        expected: u64,
    ) -> impl Future<Output = Result<Saved, StoreError>> + Send;

    /// Writes a member's mark, if there is such a member.
    fn mark(&self, lane: &str, incident: &str, mark: &Mark) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Enters an incident as settled in the log and removes its member, in one step. Entries may be deleted 30 days later, never earlier:
    /// longer than any message lives.
    fn settle(
        &self,
        lane: &str,
        incident: &str,
        settled: &Settled,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// How an incident was settled in a lane.
    fn settled(&self, lane: &str, incident: &str) -> impl Future<Output = Result<Option<Settled>, StoreError>> + Send;

    /// The ids of the lanes whose `wake_at` is before a time: nobody came.
    fn overdue(&self, before: Timestamp) -> impl Future<Output = Result<Vec<String>, StoreError>> + Send;
}
