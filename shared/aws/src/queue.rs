//! SQS: where records go that cannot be stored, how `notify` sends itself messages, puts them off and gives them up, and how the shards of
//! an evaluation are called.

mod evaluate;
mod notify;

pub use evaluate::EvaluateQueue;
pub use notify::{NotifyQueue, Redriven};

use crate::error::{Partial, is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, Pace, calls};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
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

/// How long sending the messages of one call may take.
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
}

impl DeadLetters for DeadLetterQueue {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        let messages = letters.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        send_all(&self.client, &self.url, &self.pace, messages).await
    }
}

/// Sends messages, in as many calls as they need; all are taken when this returns `Ok`.
async fn send_all(client: &Client, url: &str, pace: &Pace, messages: Vec<String>) -> Result<(), StoreError> {
    for batch in calls(messages, BATCH_MESSAGES, BATCH_BYTES, String::len) {
        send_batch(client, url, batch, pace.within(SEND_LIMIT)).await?;
    }
    Ok(())
}

/// Sends the messages of one call, and again those that were not taken.
async fn send_batch(
    client: &Client,
    url: &str,
    messages: Vec<String>,
    mut attempts: Attempts<'_>,
) -> Result<(), StoreError> {
    const OPERATION: &str = "SendMessageBatch";
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
        let call = client
            .send_message_batch()
            .queue_url(url)
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

#[cfg(test)]
mod tests;
