//! The queue of `notify`, and of what it gave up.

use super::{BATCH_MESSAGES, REASON_BYTES, send_batch};
use crate::error::store_error;
use crate::pace::Pace;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName};
use std::time::Duration;
use tidemark_model::Timestamp;
use tidemark_notify::dispatch::{MAX_DELAY_SECONDS, Queue};
use tidemark_rules::Message as Notice;
use tidemark_tsdb::StoreError;

/// The longest that SQS hides a message.
const LONGEST_DELAY_S: u32 = 43_200;

/// How long a message that is sent back is hidden from others who do the same: longer than a call of theirs lasts.
const REDRIVE_HIDDEN_S: i32 = 60;

/// What is asked for again as long as the queue gives something waits so long for a first message. A queue asks all of its servers only
/// then; without it a short queue often looks empty.
const REDRIVE_WAIT_S: i32 = 1;

/// The queue of alert transitions, as far as `notify` and operators steer it.
#[derive(Debug)]
pub struct NotifyQueue {
    client: Client,
    url: String,
    dead_letter_url: String,
    pace: Pace,
}

/// What became of a redrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redriven {
    /// How many messages were sent back into the queue.
    pub messages: usize,
    /// There may be more: the time or the number was used up.
    pub more: bool,
}

impl NotifyQueue {
    /// The queue at a URL, and the queue of what is given up.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>, dead_letter_url: impl Into<String>) -> Self {
        Self::with(client, url, dead_letter_url, Pace::real())
    }

    /// The queues at their URLs, and another way to wait.
    #[must_use]
    pub fn with(client: Client, url: impl Into<String>, dead_letter_url: impl Into<String>, pace: Pace) -> Self {
        Self {
            client,
            url: url.into(),
            dead_letter_url: dead_letter_url.into(),
            pace,
        }
    }

    /// Hides a received message for so many seconds (at most 12 hours); then it is delivered again, unless the handler
    /// reported it as done.
    ///
    /// # Errors
    /// When the queue does not answer or knows no such message. The message then comes back after the queue's own
    /// visibility timeout.
    pub async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        let seconds = i32::try_from(seconds.min(LONGEST_DELAY_S)).unwrap_or_default();
        let call = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(seconds)
            .send();
        Box::pin(call)
            .await
            .map(drop)
            .map_err(|error| store_error("ChangeMessageVisibility", error))
    }

    /// Sends what lies among the dead letters back into the queue, at most so many and for about so long; what was written after the call
    /// `began` is left, or a letter that fails at once would go round within one call. A message is deleted there only
    /// after the queue has it: who dies in between leaves it in both, and telling it twice is harmless.
    ///
    /// # Errors
    /// When one of the queues fails. What was sent back before stays so.
    pub async fn redrive(&self, at_most: usize, within: Duration, began: Timestamp) -> Result<Redriven, StoreError> {
        let until = self.pace.now() + within;
        let mut done = Redriven::default();
        while done.messages < at_most {
            if self.pace.now() >= until {
                done.more = true;
                return Ok(done);
            }
            let wanted = (at_most - done.messages).min(BATCH_MESSAGES);
            let mut messages = self.receive_letters(wanted).await?;
            if messages.is_empty() {
                return Ok(done);
            }
            messages.retain(|message| sent_at(message).is_none_or(|at| at <= began));
            if messages.is_empty() {
                // They are hidden for longer than this call lasts; older ones may follow.
                continue;
            }
            let bodies: Vec<String> = messages.iter().filter_map(|message| message.body.clone()).collect();
            if !bodies.is_empty() {
                let attempts = self.pace.within(super::SEND_LIMIT);
                // Ten bodies together may be more than one call takes.
                for batch in crate::pace::calls(bodies, BATCH_MESSAGES, super::BATCH_BYTES, String::len) {
                    send_batch(&self.client, &self.url, batch, attempts.again()).await?;
                }
            }
            self.delete_letters(&messages).await?;
            done.messages += messages.len();
        }
        done.more = true;
        Ok(done)
    }

    async fn receive_letters(&self, wanted: usize) -> Result<Vec<Message>, StoreError> {
        let call = self
            .client
            .receive_message()
            .queue_url(&self.dead_letter_url)
            .max_number_of_messages(i32::try_from(wanted).unwrap_or(1))
            .visibility_timeout(REDRIVE_HIDDEN_S)
            .wait_time_seconds(REDRIVE_WAIT_S)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .send();
        let received = Box::pin(call).await;
        let received = received.map_err(|error| store_error("ReceiveMessage", error))?;
        Ok(received.messages.unwrap_or_default())
    }

    /// Deletes letters. One that stays comes back after a while, and is sent again by the next redrive.
    async fn delete_letters(&self, messages: &[Message]) -> Result<(), StoreError> {
        const OPERATION: &str = "DeleteMessageBatch";
        let mut entries = Vec::with_capacity(messages.len());
        for (number, message) in messages.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .set_receipt_handle(message.receipt_handle.clone())
                .build();
            entries.push(entry.map_err(|error| crate::database::refused(OPERATION, error))?);
        }
        let call = self
            .client
            .delete_message_batch()
            .queue_url(&self.dead_letter_url)
            .set_entries(Some(entries))
            .send();
        let deleted = Box::pin(call).await.map_err(|error| store_error(OPERATION, error))?;
        if let Some(failed) = deleted.failed().first() {
            tracing::warn!(
                count = deleted.failed().len(),
                code = failed.code(),
                "letters were sent back and not deleted"
            );
        }
        Ok(())
    }

    async fn send_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        const OPERATION: &str = "SendMessage";
        let reason = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(attribute_text(reason))
            .build()
            .map_err(|error| crate::database::refused(OPERATION, error))?;
        let call = self
            .client
            .send_message()
            .queue_url(&self.dead_letter_url)
            .message_body(body)
            .message_attributes("reason", reason)
            .send();
        Box::pin(call)
            .await
            .map(drop)
            .map_err(|error| store_error(OPERATION, error))
    }

    async fn send_wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        const OPERATION: &str = "SendMessage";
        let wake = Notice::Wake { lane: lane.to_owned() };
        let body = serde_json::to_string(&wake).map_err(|error| crate::database::refused(OPERATION, error))?;
        let delay = i32::try_from(delay_seconds.min(MAX_DELAY_SECONDS)).unwrap_or_default();
        let call = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .delay_seconds(delay)
            .send();
        Box::pin(call)
            .await
            .map(drop)
            .map_err(|error| store_error(OPERATION, error))
    }
}

impl Queue for NotifyQueue {
    async fn wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        self.send_wake(lane, delay_seconds).await
    }

    /// The reason becomes the message's attribute `reason`. When the queue did not acknowledge a letter it may have it all the same: a letter
    /// twice is harmless.
    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        self.send_letter(body, reason).await
    }
}

/// When the queue took a message.
fn sent_at(message: &Message) -> Option<Timestamp> {
    let attributes = message.attributes.as_ref()?;
    let ms = attributes.get(&MessageSystemAttributeName::SentTimestamp)?;
    ms.parse().ok().map(Timestamp)
}

/// What SQS takes as the text of an attribute: not empty, and without characters that XML does not know.
fn attribute_text(text: &str) -> String {
    if text.is_empty() {
        return "unknown".to_owned();
    }
    text[..text.floor_char_boundary(REASON_BYTES)]
        .chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            '\u{fffe}' | '\u{ffff}' => char::REPLACEMENT_CHARACTER,
            _ if c.is_control() => char::REPLACEMENT_CHARACTER,
            _ => c,
        })
        .collect()
}
