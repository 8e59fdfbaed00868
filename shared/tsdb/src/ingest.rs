//! Taking a request's samples: decode, check, and hand to the stream.
//!
//! An answer of acceptance is given only after the stream has acknowledged every record of the request. When it has not,
//! the client is told to send the whole request again; samples that did get through are then stored twice and merged.

use crate::flush::Layout;
use serde::Serialize;
use tidemark_model::limits;
use tidemark_wire::envelope::{self, Record};
use tidemark_wire::{ApiError, ErrorId, SampleError, TimeBounds, decode_metrics};

/// Which shard takes which keys: the shards' first hash keys in ascending order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap(Vec<u128>);

impl ShardMap {
    /// A map from the first hash keys of the open shards. Without any it has one shard for everything.
    #[must_use]
    pub fn new(mut first_keys: Vec<u128>) -> Self {
        first_keys.sort_unstable();
        first_keys.dedup();
        if first_keys.first() != Some(&0) {
            first_keys.insert(0, 0);
        }
        Self(first_keys)
    }

    /// How many shards there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The shard that takes a key.
    #[must_use]
    pub fn shard_of(&self, key: u128) -> usize {
        // The first shard begins at 0, so that at least one begins at or before the key.
        self.0.partition_point(|first| *first <= key) - 1
    }
}

/// Why the stream did not take a request.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// It asked to slow down, until the deadline.
    #[error("the stream is throttling")]
    Throttled,
    /// It did not answer.
    #[error("the stream did not answer")]
    Unavailable(#[source] crate::store::BoxError),
}

/// A stream that can be written to.
pub trait Sink: Send + Sync {
    /// Which shard takes which keys. An old answer is harmless: the stream routes by the key, and a record that holds
    /// buckets of two shards only brings a metric to another shard than its earlier samples.
    fn shard_map(&self) -> impl Future<Output = ShardMap> + Send;

    /// Writes records. `Ok` means that every one of them is acknowledged; on an error any of them may be. Gives up at the
    /// deadline, in milliseconds since the Unix epoch.
    fn put(&self, records: Vec<Record>, deadline_ms: i64) -> impl Future<Output = Result<(), PutError>> + Send;
}

/// The answer to a request of which at least one sample was taken, or none was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// `accepted`, or `rejected` when no sample was taken.
    pub status: &'static str,
    /// The samples that are durable.
    pub accepted: usize,
    /// The samples that were refused.
    pub rejected: usize,
    /// Which and why; at most [`limits::MAX_REPORTED_ERRORS`].
    pub errors: Vec<SampleError>,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Its good samples are durable.
    Accepted(Accepted),
    /// It has samples, and not one is good.
    AllRejected(ApiError, Accepted),
}

/// When a request came and when its answer is due, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimes {
    /// When it came.
    pub now_ms: i64,
    /// When the stream must have acknowledged it.
    pub deadline_ms: i64,
}

/// Decodes a body to the records that it becomes. This is all of ingest's own work, without the stream's.
///
/// # Errors
/// When the body cannot be read at all.
pub fn prepare(
    body: &[u8],
    layout: &Layout,
    shards: &ShardMap,
    now_ms: i64,
) -> Result<(Vec<Record>, Accepted), ApiError> {
    let bounds = TimeBounds {
        now_ms,
        oldest_ms: now_ms.saturating_sub(layout.retention_ms),
        newest_ms: now_ms.saturating_add(limits::MAX_FUTURE_MS),
    };
    let batch = decode_metrics(body, bounds)?;
    let shard_of = |bucket| shards.shard_of(layout.buckets.hash_key(bucket));
    let records = envelope::encode_records(&batch, layout.buckets, &shard_of, shards.count(), now_ms);
    let accepted = Accepted {
        status: "accepted",
        accepted: batch.samples().len(),
        rejected: batch.rejected(),
        errors: batch.errors().to_vec(),
    };
    Ok((records, accepted))
}

/// Takes a request.
///
/// # Errors
/// When the body cannot be read at all, or the stream has not acknowledged everything by the deadline.
pub async fn accept(sink: &impl Sink, layout: &Layout, body: &[u8], times: RequestTimes) -> Result<Outcome, ApiError> {
    let shards = sink.shard_map().await;
    let (records, accepted) = prepare(body, layout, &shards, times.now_ms)?;
    if accepted.accepted == 0 && accepted.rejected > 0 {
        return Ok(Outcome::AllRejected(
            all_rejected(&accepted),
            Accepted {
                status: "rejected",
                ..accepted
            },
        ));
    }
    if !records.is_empty() {
        sink.put(records, times.deadline_ms).await.map_err(put_failed)?;
    }
    Ok(Outcome::Accepted(accepted))
}

fn all_rejected(accepted: &Accepted) -> ApiError {
    let first = accepted.errors.first();
    let example = first
        .map(|error| format!("; the first: {} {}", error.field, error.reason))
        .unwrap_or_default();
    let count = accepted.rejected;
    let mut error = ApiError::new(
        ErrorId::AllSamplesRejected,
        format!("all samples were refused ({count}){example}"),
    );
    if let Some(first) = first.filter(|first| !first.field.is_empty()) {
        error = error.with_field(first.field.clone());
    }
    error
}

fn put_failed(error: PutError) -> ApiError {
    tracing::warn!(
        cause = crate::answer::chain(&error),
        "the stream did not take a request"
    );
    match error {
        PutError::Throttled => ApiError::new(
            ErrorId::StreamThrottled,
            "the stream takes no more right now; send the request again",
        )
        .with_retry_after(1),
        PutError::Unavailable(_) => ApiError::new(
            ErrorId::StreamUnavailable,
            "the stream did not answer; send the request again",
        )
        .with_retry_after(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_to_the_shard_that_begins_at_or_before_it() {
        let half = u128::MAX / 2;
        let map = ShardMap::new(vec![half, 0]);
        assert_eq!((map.count(), map.shard_of(0), map.shard_of(half - 1)), (2, 0, 0));
        assert_eq!((map.shard_of(half), map.shard_of(u128::MAX)), (1, 1));
    }

    #[test]
    fn a_map_without_shards_has_one_for_everything() {
        assert_eq!(ShardMap::new(Vec::new()).shard_of(u128::MAX), 0);
    }
}
