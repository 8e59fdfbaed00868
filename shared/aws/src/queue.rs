//! SQS: where records go that cannot be stored, and how `notify` puts off a message or gives it up.

use crate::error::{Partial, is_unavailable, store_error, unavailable};
use crate::pace::{Pace, calls};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};
use aws_smithy_types::base64;
use serde::Serialize;
use std::time::Duration;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::stream::{DeadLetter, DeadLetters};

/// The most messages of one `SendMessageBatch`.
const BATCH_MESSAGES: usize = 10;

/// The most bytes of one `SendMessageBatch`, and of one message.
const BATCH_BYTES: usize = 256 * 1_024;

/// The most bytes of a record that a letter carries; in base64, with the rest of the letter, they stay below
/// [`BATCH_BYTES`]. The shard and the sequence number lead to the whole record as long as the stream holds it.
const LETTER_DATA_BYTES: usize = 180_000;

/// The most bytes of a reason.
const REASON_BYTES: usize = 2_000;

/// The longest that SQS hides a message.
const LONGEST_DELAY_S: u32 = 43_200;

/// How long sending the letters of one batch of records may take.
const SEND_LIMIT: Duration = Duration::from_secs(15);

/// The dead-letter queue of the stream's consumers.
#[derive(Debug)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
    pace: Pace,
}

/// The JSON of a letter.
#[derive(Debug, Serialize)]
struct Message<'a> {
    shard: &'a str,
    sequence: String,
    arrival_ms: i64,
    reason: &'a str,
    data_bytes: usize,
    data_truncated: bool,
    data: String,
}

impl DeadLetterQueue {
    /// The queue at a URL.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self::with(client, url, Pace::real())
    }

    /// The queue at a URL, and another way to wait.
    #[must_use]
    pub fn with(client: Client, url: impl Into<String>, pace: Pace) -> Self {
        Self {
            client,
            url: url.into(),
            pace,
        }
    }

    /// Sends the messages of one call, and again those that were not taken.
    async fn send_batch(&self, messages: Vec<String>) -> Result<(), StoreError> {
        const OPERATION: &str = "SendMessageBatch";
        let mut attempts = self.pace.within(SEND_LIMIT);
        let all = messages.len();
        let mut waiting = Vec::with_capacity(all);
        for (number, message) in messages.into_iter().enumerate() {
            let entry = SendMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .message_body(message)
                .build();
            waiting.push(entry.map_err(|error| crate::database::refused(OPERATION, error))?);
        }
        loop {
            let call = self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(waiting.clone()))
                .send();
            let problem = match attempts.run(Box::pin(call)).await {
                None => return Err(unavailable(OPERATION, None)),
                Some(Ok(answer)) => {
                    // What is not named as sent is sent again: a letter twice is harmless, a letter lost is not.
                    waiting.retain(|entry| !answer.successful().iter().any(|sent| sent.id() == entry.id()));
                    if waiting.is_empty() {
                        return Ok(());
                    }
                    let failed = answer.failed();
                    let partial = Partial {
                        failed: waiting.len(),
                        all,
                        first: failed.first().map_or("no answer", |failed| failed.code()).to_owned(),
                    };
                    if failed
                        .iter()
                        .any(|failed| failed.sender_fault() && !crate::error::is_later(failed.code()))
                    {
                        return Err(crate::database::refused(OPERATION, partial));
                    }
                    unavailable(OPERATION, Some(partial.into()))
                }
                Some(Err(error)) if is_unavailable(&error) => store_error(OPERATION, error),
                Some(Err(error)) => return Err(store_error(OPERATION, error)),
            };
            if !attempts.pause().await {
                return Err(problem);
            }
        }
    }
}

impl DeadLetters for DeadLetterQueue {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        let messages = letters.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        for batch in calls(messages, BATCH_MESSAGES, BATCH_BYTES, String::len) {
            self.send_batch(batch).await?;
        }
        Ok(())
    }
}

fn message(letter: &DeadLetter) -> Result<String, StoreError> {
    let kept = &letter.data[..letter.data.len().min(LETTER_DATA_BYTES)];
    let reason_end = letter.reason.floor_char_boundary(REASON_BYTES);
    let message = Message {
        shard: &letter.shard.0,
        sequence: letter.sequence.to_string(),
        arrival_ms: letter.arrival_ms,
        reason: &letter.reason[..reason_end],
        data_bytes: letter.data.len(),
        data_truncated: kept.len() < letter.data.len(),
        data: base64::encode(kept),
    };
    serde_json::to_string(&message).map_err(|error| crate::database::refused("SendMessageBatch", error))
}

/// The queue of alert transitions, as far as `notify` steers it.
#[derive(Debug)]
pub struct NotifyQueue {
    client: Client,
    url: String,
    dead_letter_url: String,
}

impl NotifyQueue {
    /// The queue at a URL, and the queue of what is given up.
    #[must_use]
    pub fn new(client: Client, url: impl Into<String>, dead_letter_url: impl Into<String>) -> Self {
        Self {
            client,
            url: url.into(),
            dead_letter_url: dead_letter_url.into(),
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

    /// Sends a message's body, as it came, to the dead-letter queue, with the reason as the attribute `reason`.
    ///
    /// # Errors
    /// When the queue did not acknowledge it. It may have it all the same: a letter twice is harmless.
    pub async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
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

#[cfg(test)]
mod tests;
