//! The queue by which one invocation of `evaluate` calls others.

use super::send_all;
use crate::pace::Pace;
use aws_sdk_sqs::Client;
use tidemark_tsdb::StoreError;

/// The queue of the shards of a tick.
#[derive(Debug)]
pub struct EvaluateQueue {
    client: Client,
    url: String,
    pace: Pace,
}

impl EvaluateQueue {
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

    /// Sends messages, each to an invocation of its own.
    ///
    /// # Errors
    /// When the queue did not acknowledge all of them. It may have them all the same: a shard that is evaluated twice conflicts with itself
    /// and tells nothing twice.
    pub async fn send(&self, messages: Vec<String>) -> Result<(), StoreError> {
        send_all(&self.client, &self.url, &self.pace, messages).await
    }
}
