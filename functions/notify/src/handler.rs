//! From queue messages to deliveries, and back to which messages have to come again.
//!
//! The messages of a batch are delivered side by side: a receiver that hangs delays nobody but itself.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
use futures::future::join_all;
use std::collections::HashMap;
use tidemark_aws::NotifyQueue;
use tidemark_model::Timestamp;
use tidemark_notify::deliver::Arrival;
use tidemark_notify::{Next, PostWebhook, deliver};
use tidemark_rules::{AlertStore, TransitionEvent};
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answer::chain;

/// The function.
pub(crate) struct Notify<L, S, Q> {
    pub(crate) log: L,
    pub(crate) sender: S,
    pub(crate) queue: Q,
    pub(crate) clock: fn() -> Timestamp,
    pub(crate) jitter: fn() -> f64,
}

/// Where messages go that are not done: back into their queue, or to the dead letters.
pub(crate) trait Queue {
    /// Hides a message for so many seconds.
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError>;

    /// Sends a message's body to the dead letters.
    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError>;
}

impl Queue for NotifyQueue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        self.postpone(receipt_handle, seconds).await
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        self.dead_letter(body, reason).await
    }
}

impl<L: AlertStore, S: PostWebhook, Q: Queue> Notify<L, S, Q> {
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
        let body = message.body.as_deref().unwrap_or_default();
        let event = match TransitionEvent::from_json(body) {
            Ok(event) => event,
            Err(unreadable) => {
                let cause = chain(&unreadable);
                tracing::error!(cause, message_id = message.message_id, "a message cannot be read");
                return self.dead_letter(message, &cause).await;
            }
        };
        let arrival = Arrival {
            receive_count: receive_count(&message.attributes),
            now: (self.clock)(),
            jitter: (self.jitter)(),
        };
        // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
        match Box::pin(deliver(&event, &self.log, &self.sender, arrival)).await.next() {
            Next::Done => true,
            Next::RetryIn(seconds) => {
                self.postpone(message, u32::try_from(seconds).unwrap_or(u32::MAX)).await;
                false
            }
            Next::DeadLetter(reason) => self.dead_letter(message, &reason).await,
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

    /// Whether the dead letters have the message. One that they do not have comes back after the queue's own visibility
    /// timeout, and is then settled from the log.
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
