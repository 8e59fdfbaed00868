//! Putting records, all of them or with an error.

use super::shards::Directory;
use crate::error::{Partial, is_later, is_unavailable};
use crate::pace::{Pace, calls};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidemark_model::Buckets;
use tidemark_model::limits::MAX_RECORD_BYTES;
use tidemark_tsdb::ingest::{PutError, ShardMap, Sink};
use tidemark_tsdb::store::BoxError;
use tidemark_wire::envelope::Record;

/// The most records of one `PutRecords`.
const CALL_RECORDS: usize = 500;

/// The most bytes of one `PutRecords`.
const CALL_BYTES: usize = 5_000_000;

/// Kinesis wants a partition key even where the explicit hash key decides, and counts its bytes.
const PARTITION_KEY: &str = "-";

/// When a client that met a full stream should come back, in seconds: a shard's budget is per second.
const RETRY_AFTER_S: u32 = 2;

/// The producer's end of the stream. Share one per process.
#[derive(Debug)]
pub struct KinesisSink {
    client: Client,
    stream_name: String,
    pace: Pace,
    directory: Directory,
}

impl KinesisSink {
    /// A sink into a stream.
    #[must_use]
    pub fn new(client: Client, stream_name: impl Into<String>, buckets: Buckets) -> Self {
        Self::with(client, stream_name, buckets, Pace::real())
    }

    /// A sink that waits in another way.
    #[must_use]
    pub fn with(client: Client, stream_name: impl Into<String>, buckets: Buckets, pace: Pace) -> Self {
        let stream_name = stream_name.into();
        Self {
            directory: Directory::new(client.clone(), stream_name.clone(), buckets, pace.clone()),
            client,
            stream_name,
            pace,
        }
    }

    /// Puts the records of one call, and again those that were not taken.
    async fn put_call(&self, records: Vec<Record>, deadline: Instant) -> Result<(), PutError> {
        let mut attempts = self.pace.until(deadline);
        let all = records.len();
        let mut waiting = Vec::with_capacity(all);
        for record in records {
            let entry = PutRecordsRequestEntry::builder()
                .data(Blob::new(record.data))
                .explicit_hash_key(record.explicit_hash_key.to_string())
                .partition_key(PARTITION_KEY)
                .build();
            waiting.push(entry.map_err(|error| PutError::Refused { source: error.into() })?);
        }
        let mut last = PutError::Unavailable { source: None };
        loop {
            let call = self
                .client
                .put_records()
                .stream_name(&self.stream_name)
                .set_records(Some(waiting.clone()))
                .send();
            last = match attempts.run(Box::pin(call)).await {
                None => return Err(last),
                Some(Ok(answer)) => {
                    let results = answer.records();
                    if results.len() != waiting.len() {
                        let source = format!("{} results for {} records", results.len(), waiting.len());
                        return Err(PutError::Unavailable {
                            source: Some(source.into()),
                        });
                    }
                    let mut results = results.iter();
                    let mut first = None;
                    let mut throttled = true;
                    waiting.retain(|_| match results.next().and_then(|result| result.error_code()) {
                        None => false,
                        Some(code) => {
                            throttled &= is_throttled(code);
                            first.get_or_insert_with(|| code.to_owned());
                            true
                        }
                    });
                    let Some(first) = first else { return Ok(()) };
                    let partial = Partial {
                        failed: waiting.len(),
                        all,
                        first,
                    };
                    problem(throttled, partial.into())
                }
                Some(Err(error)) if is_unavailable(&error) => {
                    let throttled = error.as_service_error().and_then(code_of).is_some_and(is_throttled);
                    problem(throttled, error.into())
                }
                Some(Err(error)) => return Err(PutError::Refused { source: error.into() }),
            };
            if !attempts.pause().await {
                return Err(last);
            }
        }
    }
}

impl Sink for KinesisSink {
    /// Asks the stream when the last answer is some minutes old or a put failed since; a stream that does not tell is
    /// taken to have one shard per bucket.
    async fn shard_map(&self) -> Arc<ShardMap> {
        self.directory.current().await
    }

    async fn put(&self, records: Vec<Record>, within: Duration) -> Result<(), PutError> {
        let deadline = self.pace.now() + within;
        if let Some(bytes) = records
            .iter()
            .map(|record| record.data.len())
            .find(|bytes| *bytes > MAX_RECORD_BYTES)
        {
            return Err(PutError::TooLarge {
                bytes,
                limit: MAX_RECORD_BYTES,
            });
        }
        for call in calls(records, CALL_RECORDS, CALL_BYTES, |record| {
            record.data.len() + PARTITION_KEY.len()
        }) {
            let put = self.put_call(call, deadline).await;
            if put.is_err() {
                self.directory.doubt();
            }
            put?;
        }
        Ok(())
    }
}

fn problem(throttled: bool, source: BoxError) -> PutError {
    if throttled {
        PutError::Throttled {
            retry_after_s: RETRY_AFTER_S,
            source,
        }
    } else {
        PutError::Unavailable { source: Some(source) }
    }
}

fn is_throttled(code: &str) -> bool {
    is_later(code) && !code.contains("Internal") && code != "ServiceUnavailable"
}

fn code_of(error: &aws_sdk_kinesis::operation::put_records::PutRecordsError) -> Option<&str> {
    use aws_sdk_kinesis::error::ProvideErrorMetadata;
    error.code()
}

#[cfg(test)]
mod tests;
