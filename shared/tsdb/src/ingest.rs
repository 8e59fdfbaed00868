//! Taking a request's samples: decode, check, and hand to the stream.
//!
//! An answer of acceptance is given only after the stream has acknowledged every record of the request. When it has not,
//! the client is told to send the whole request again; samples that did get through are then stored twice and merged.

use crate::answer;
use crate::store::BoxError;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Bucket, Buckets, limits};
use tidemark_wire::envelope::{self, Record};
use tidemark_wire::{ApiError, ErrorId, SampleError, TimeBounds, decode_metrics};

/// The open shards, as far as it matters to a producer: which buckets share a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMap {
    /// By bucket, the index of its shard, `0..shards`.
    shard_of: Vec<usize>,
    shards: usize,
}

impl ShardMap {
    /// The map of open shards, each with the first and the last hash key of its range. Buckets of one shard get one index;
    /// indexes are dense and leave out shards without a bucket.
    #[must_use]
    pub fn new(buckets: Buckets, ranges: &[(u128, u128)]) -> Self {
        let mut index_of_range = vec![None; ranges.len()];
        let mut shards = 0;
        let mut next = || {
            shards += 1;
            shards - 1
        };
        let shard_of = buckets
            .all()
            .map(|bucket| {
                let hash_key = buckets.hash_key(bucket);
                let range = ranges
                    .iter()
                    .position(|(first, last)| (*first..=*last).contains(&hash_key));
                match range {
                    Some(range) => *index_of_range[range].get_or_insert_with(&mut next),
                    // A gap in what the stream told: this bucket gets records of its own.
                    None => next(),
                }
            })
            .collect();
        Self { shard_of, shards }
    }

    /// The map of a stream of which nothing is known: every bucket gets records of its own.
    #[must_use]
    pub fn unknown(buckets: Buckets) -> Self {
        Self::new(buckets, &[])
    }

    /// The index of a bucket's shard.
    #[must_use]
    pub fn shard_of(&self, bucket: Bucket) -> usize {
        // A bucket beyond the map comes from another number of buckets; it shares the first shard's records.
        self.shard_of.get(usize::from(bucket.0)).copied().unwrap_or_default()
    }

    /// How many indexes there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }
}

/// Why records are not, or not all, in the stream.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The stream took no more until the time was over. Some records may be in it; putting all again is harmless.
    #[error("the stream takes no more at the moment")]
    Throttled {
        /// When to try again, in seconds.
        retry_after_s: u32,
        /// What the stream said last.
        #[source]
        source: BoxError,
    },
    /// The stream did not answer until the time was over. Some records may be in it; putting all again is harmless.
    #[error("the stream did not answer")]
    Unavailable {
        /// What was seen last.
        #[source]
        source: Option<BoxError>,
    },
    /// The stream refuses the call; the same call will fail again.
    #[error("the stream refused the records")]
    Refused {
        /// What the stream said.
        #[source]
        source: BoxError,
    },
    /// A record is larger than the stream takes. Nothing was put.
    #[error("a record of {bytes} bytes is larger than {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The most it may have.
        limit: usize,
    },
}

/// A stream that can be written to.
pub trait Sink: Send + Sync {
    /// Which buckets share a shard. It never fails, and an old answer loses nothing: the stream routes by the key, and of a
    /// record that holds buckets of two shards the consumer knows which belong to the other
    /// ([`crate::Consumer::with_ranges`]). But their samples are late then, and of two samples of one time that come to two
    /// shards either may win.
    fn shard_map(&self) -> impl Future<Output = Arc<ShardMap>> + Send;

    /// Writes records, and gives up when the time is over. `Ok` means that every one of them is acknowledged; on an error
    /// any of them may be.
    fn put(&self, records: Vec<Record>, within: Duration) -> impl Future<Output = Result<(), PutError>> + Send;
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

/// What ingest has to know of the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intake {
    /// How many buckets there are.
    pub buckets: Buckets,
    /// How long raw samples are kept, in milliseconds: older ones are refused.
    pub retention_ms: i64,
}

/// When a request came, and how long the stream may take.
#[derive(Clone, Copy, Debug)]
pub struct RequestTimes {
    /// When it came, in milliseconds since the Unix epoch.
    pub now_ms: i64,
    /// In what time the stream must have acknowledged it.
    pub within: Duration,
}

/// Decodes a body to the records that it becomes. This is all of ingest's own work, without the stream's.
///
/// # Errors
/// When the body cannot be read at all.
pub fn prepare(
    body: &[u8],
    intake: &Intake,
    shards: &ShardMap,
    now_ms: i64,
) -> Result<(Vec<Record>, Accepted), ApiError> {
    let bounds = TimeBounds {
        now_ms,
        oldest_ms: now_ms.saturating_sub(intake.retention_ms),
        newest_ms: now_ms.saturating_add(limits::MAX_FUTURE_MS),
    };
    let batch = decode_metrics(body, bounds)?;
    let shard_of = |bucket| shards.shard_of(bucket);
    let records = envelope::encode_records(&batch, intake.buckets, &shard_of, shards.shards(), now_ms);
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
pub async fn accept(sink: &impl Sink, intake: &Intake, body: &[u8], times: RequestTimes) -> Result<Outcome, ApiError> {
    let shards = sink.shard_map().await;
    let (records, accepted) = prepare(body, intake, &shards, times.now_ms)?;
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
        sink.put(records, times.within).await.map_err(put_failed)?;
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
        PutError::Throttled { retry_after_s, .. } => ApiError::new(
            ErrorId::StreamThrottled,
            "the stream takes no more right now; send the request again",
        )
        .with_retry_after(retry_after_s),
        PutError::Unavailable { .. } => ApiError::new(
            ErrorId::StreamUnavailable,
            "the stream did not answer; send the request again",
        )
        .with_retry_after(2),
        PutError::Refused { .. } | PutError::TooLarge { .. } => answer::internal(&error),
    }
}
