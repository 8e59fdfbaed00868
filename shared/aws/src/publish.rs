//! SNS: where alert transitions are published for `notify`, and the topics of people.

mod topics;

pub use topics::TopicPublisher;

use crate::error::{is_later, is_unavailable};
use crate::pace::{Attempts, Pace, calls};
use aws_sdk_sns::Client;
use aws_sdk_sns::types::PublishBatchRequestEntry;
use std::time::Duration;
use tidemark_rules::{Message, Publish, PublishError};
use tidemark_tsdb::answer::chain;

/// The most messages of one `PublishBatch`.
const BATCH_MESSAGES: usize = 10;

/// The most bytes of one `PublishBatch`, and of one message.
const BATCH_BYTES: usize = 256 * 1_024;

/// How long publishing some messages may take. What is left over stays in its outbox.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);

/// The topic of alert transitions.
#[derive(Debug)]
pub struct AlertTopic {
    client: Client,
    arn: String,
    pace: Pace,
}

/// A message as text, with its place in the answer.
#[derive(Clone, Debug)]
struct Text {
    index: usize,
    text: String,
}

impl AlertTopic {
    /// The topic with an ARN.
    #[must_use]
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self::with(client, arn, Pace::real())
    }

    /// The topic with an ARN, and another way to wait.
    #[must_use]
    pub fn with(client: Client, arn: impl Into<String>, pace: Pace) -> Self {
        Self {
            client,
            arn: arn.into(),
            pace,
        }
    }

    /// Publishes the messages of one call, and again those that were not taken. What is published is set to `Ok`, what
    /// is not keeps or gets its reason.
    async fn publish_batch(
        &self,
        mut waiting: Vec<Text>,
        mut attempts: Attempts<'_>,
        results: &mut [Result<(), PublishError>],
    ) {
        loop {
            let mut call = self.client.publish_batch().topic_arn(&self.arn);
            for message in &waiting {
                let entry = PublishBatchRequestEntry::builder()
                    .id(message.index.to_string())
                    .message(&message.text)
                    .build();
                match entry {
                    Ok(entry) => call = call.publish_batch_request_entries(entry),
                    Err(error) => results[message.index] = failed(error.to_string()),
                }
            }
            match attempts.run(Box::pin(call.send())).await {
                None => return,
                Some(Ok(answer)) => waiting.retain(|message| {
                    let id = message.index.to_string();
                    if answer.successful().iter().any(|sent| sent.id() == Some(&id)) {
                        results[message.index] = Ok(());
                        return false;
                    }
                    let Some(refused) = answer.failed().iter().find(|failed| failed.id() == id) else {
                        return true;
                    };
                    results[message.index] = failed(refused.code().to_owned());
                    !refused.sender_fault() || is_later(refused.code())
                }),
                Some(Err(error)) => {
                    for message in &waiting {
                        results[message.index] = failed(chain(&error));
                    }
                    if !is_unavailable(&error) {
                        return;
                    }
                }
            }
            if waiting.is_empty() || !attempts.pause().await {
                return;
            }
        }
    }
}

impl Publish for AlertTopic {
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let mut results: Vec<_> = messages.iter().map(|_| failed("no answer in time")).collect();
        let mut texts = Vec::with_capacity(messages.len());
        for (index, message) in messages.iter().enumerate() {
            match serde_json::to_string(message) {
                Ok(text) if text.len() <= BATCH_BYTES => texts.push(Text { index, text }),
                Ok(text) => results[index] = failed(format!("{} bytes are more than a message may have", text.len())),
                Err(error) => results[index] = failed(error.to_string()),
            }
        }
        let attempts = self.pace.within(PUBLISH_LIMIT);
        for batch in calls(texts, BATCH_MESSAGES, BATCH_BYTES, |message| message.text.len()) {
            self.publish_batch(batch, attempts.again(), &mut results).await;
        }
        results
    }
}

fn failed(reason: impl Into<String>) -> Result<(), PublishError> {
    Err(PublishError { reason: reason.into() })
}

#[cfg(test)]
mod tests;
