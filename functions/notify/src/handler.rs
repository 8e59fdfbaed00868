//! From queue messages to deliveries, and back to which messages have to come again.

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse, SqsEvent, SqsMessage};
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

/// The queue that messages are put back into.
pub(crate) trait Postpone {
    /// Hides a message for so many seconds.
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError>;
}

impl Postpone for NotifyQueue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        self.postpone(receipt_handle, seconds).await
    }
}

impl<L: AlertStore, S: PostWebhook, Q: Postpone> Notify<L, S, Q> {
    /// Handles each message on its own; what is not in the answer is done and deleted.
    pub(crate) async fn handle(&self, event: SqsEvent) -> SqsBatchResponse {
        let mut response = SqsBatchResponse::default();
        for message in event.records {
            if self.is_done(&message).await {
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
                // Left to the queue, which moves it to the dead letters after its last receipt.
                tracing::error!(
                    cause = chain(&unreadable),
                    message_id = message.message_id,
                    "a message cannot be read"
                );
                return false;
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
            Next::DeadLetter(_) => {
                self.postpone(message, 0).await;
                false
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
}

fn receive_count(attributes: &HashMap<String, String>) -> u32 {
    attributes
        .get("ApproximateReceiveCount")
        .and_then(|count| count.parse().ok())
        .unwrap_or(1)
}

#[cfg(test)]
mod tests;
