//! What the function works on.

use crate::replay::Kept;
use serde::Serialize;
use std::time::Duration;
use tidemark_aws::{
    AlertTopic, DeadLetterQueue, DynamoAlertStore, DynamoNotifyStore, DynamoStore, KinesisStream, Mailer, NotifyQueue,
    SecretReader, TopicPublisher,
};
use tidemark_model::Timestamp;
use tidemark_notify::{Deliver, DocumentStore, LaneStore, Senders};
use tidemark_rules::{AlertStore, Publish};
use tidemark_tsdb::stream::{DeadLetters, Stream};
use tidemark_tsdb::{Store, StoreError};

/// One implementation of each thing that the function needs: AWS in Lambda, memory in the tests. What each guarantees is said where its
/// trait is.
pub(crate) trait Backends {
    /// Rules, instances, the history.
    type Alerts: AlertStore;
    /// Channels, silences, inhibitions, mute times; and the lanes, to count those that nobody looks after.
    type Settings: DocumentStore + LaneStore;
    /// Where transitions are published.
    type Topic: Publish;
    /// Who delivers a test of a channel.
    type Sender: Deliver;
    /// What `notify` gave up.
    type Letters: Redrive;
    /// Where samples are.
    type Samples: Store;
    /// Where samples wait.
    type Stream: Stream + Kept;
    /// Where samples go that cannot be stored.
    type DeadLetters: DeadLetters;
}

/// AWS.
pub(crate) struct Aws;

impl Backends for Aws {
    type Alerts = DynamoAlertStore;
    type Settings = DynamoNotifyStore;
    type Topic = AlertTopic;
    type Sender = Senders<SecretReader, Mailer, TopicPublisher>;
    type Letters = NotifyQueue;
    type Samples = DynamoStore;
    type Stream = KinesisStream;
    type DeadLetters = DeadLetterQueue;
}

/// The dead letters of `notify`.
pub(crate) trait Redrive {
    /// Sends letters back to `notify`, at most so many and for about so long; those that were written after the
    /// call `began` are left. One that is sent back twice is harmless.
    async fn redrive(&self, at_most: usize, within: Duration, began: Timestamp) -> Result<Redriven, StoreError>;
}

/// What became of a redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Redriven {
    /// How many letters were sent back.
    pub(crate) redriven: usize,
    /// Whether there may be more.
    pub(crate) remaining: bool,
}

impl Redrive for NotifyQueue {
    async fn redrive(&self, at_most: usize, within: Duration, began: Timestamp) -> Result<Redriven, StoreError> {
        let done = self.redrive(at_most, within, began).await?;
        Ok(Redriven {
            redriven: done.messages,
            remaining: done.more,
        })
    }
}
