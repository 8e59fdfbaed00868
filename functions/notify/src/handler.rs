//! From queue messages to the dispatcher, and back to which messages have to come again.
//!
//! The messages of a batch are handled side by side: a receiver that hangs delays nobody but its own lane.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::future::join_all;
use std::collections::HashMap;
use tidemark_aws::NotifyQueue;
use tidemark_model::Timestamp;
use tidemark_notify::dispatch::{Arrival, Dispatcher, Next, Queue};
use tidemark_notify::{Deliver, DocumentStore, LaneStore};
use tidemark_rules::AlertStore;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answer::chain;

/// The function.
pub(crate) struct Notify<A, N, S, Q> {
    pub(crate) alerts: A,
    pub(crate) store: N,
    pub(crate) sender: S,
    pub(crate) queue: Q,
    pub(crate) clock: fn() -> Timestamp,
    /// From 0 to 1.
    pub(crate) jitter: fn() -> f64,
    /// Another random name each time.
    pub(crate) holder: fn() -> String,
}

/// A queue whose messages can be put off.
pub(crate) trait Postpone {
    /// Hides a message for so many seconds.
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError>;
}

impl Postpone for NotifyQueue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        self.postpone(receipt_handle, seconds).await
    }
}

impl<A, N, S, Q> Notify<A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: Queue + Postpone,
{
    /// Handles each message on its own; what is not in the answer is done and deleted. The event source bounds how many
    /// there are at once.
    pub(crate) async fn handle(&self, event: SqsEvent) -> SqsBatchResponse {
        let done = join_all(event.records.iter().map(|message| self.is_done(message))).await;
        let mut response = SqsBatchResponse::default();
        for (message, done) in event.records.into_iter().zip(done) {
            if done {
                continue;
            }
            // A message without an id cannot be named: an empty name makes the whole batch come again, which loses nothing.
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = message.message_id.unwrap_or_default();
            response.batch_item_failures.push(failure);
        }
        response
    }

    async fn is_done(&self, message: &SqsMessage) -> bool {
        let dispatcher = Dispatcher {
            alerts: &self.alerts,
            store: &self.store,
            sender: &self.sender,
            queue: &self.queue,
            clock: &self.clock,
            jitter: &self.jitter,
        };
        let arrival = Arrival {
            receive_count: receive_count(&message.attributes),
            holder: (self.holder)(),
        };
        let body = message.body.as_deref().unwrap_or_default();
        // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
        match Box::pin(dispatcher.handle(body, &arrival)).await {
            Next::Done => true,
            Next::RetryIn(seconds) => {
                self.postpone(message, u32::try_from(seconds).unwrap_or(u32::MAX)).await;
                false
            }
            Next::DeadLetter(reason) => {
                tracing::error!(
                    reason,
                    message_id = message.message_id,
                    "a message goes to the dead letters"
                );
                self.dead_letter(message, &reason).await
            }
        }
    }

    /// A message that cannot be postponed comes back after the queue's own visibility timeout.
    async fn postpone(&self, message: &SqsMessage, seconds: u32) {
        let Some(receipt_handle) = &message.receipt_handle else {
            return;
        };
        if let Err(failed) = self.queue.postpone(receipt_handle, seconds).await {
            tracing::warn!(
                cause = chain(&failed),
                message_id = message.message_id,
                "a message was not postponed"
            );
        }
    }

    /// Whether the dead letters have the message. One that they do not have comes back after the queue's own visibility timeout.
    async fn dead_letter(&self, message: &SqsMessage, reason: &str) -> bool {
        let body = message.body.as_deref().unwrap_or_default();
        match self.queue.dead_letter(body, reason).await {
            Ok(()) => true,
            Err(failed) => {
                tracing::error!(
                    cause = chain(&failed),
                    message_id = message.message_id,
                    "a message did not reach the dead letters"
                );
                false
            }
        }
    }
}

fn receive_count(attributes: &HashMap<String, String>) -> u32 {
    attributes
        .get("ApproximateReceiveCount")
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
}

#[cfg(test)]
mod tests;
