//! Reading a stream from any position.

use super::shards;
use crate::error::{is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, Pace};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::{GetRecordsError, GetRecordsOutput};
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::ShardIteratorType;
use std::time::Duration;
use tidemark_tsdb::stream::{Page, Position, Stream, StreamRecord};
use tidemark_tsdb::{SequenceNumber, ShardId, StoreError};

/// How long one page may take, all attempts together. A shard gives five pages a second to all its readers.
const READ_LIMIT: Duration = Duration::from_secs(8);

/// The most records of one page. Without a limit a page holds up to 10 MB, which the smallest function must decode.
const PAGE_RECORDS: i32 = 500;

/// The consumer's end of the stream.
///
/// A cursor is `<sequence number of the last record before it, or nothing>|<shard iterator>`: an iterator lives for five
/// minutes, and one that has expired is opened again after that record.
#[derive(Debug)]
pub struct KinesisStream {
    client: Client,
    stream_name: String,
    pace: Pace,
}

impl KinesisStream {
    /// Reads a stream.
    #[must_use]
    pub fn new(client: Client, stream_name: impl Into<String>) -> Self {
        Self::with(client, stream_name, Pace::real())
    }

    /// Reads a stream and waits in another way.
    #[must_use]
    pub fn with(client: Client, stream_name: impl Into<String>, pace: Pace) -> Self {
        Self {
            client,
            stream_name: stream_name.into(),
            pace,
        }
    }

    /// A shard iterator that begins after a record, or at the oldest one. A record that the shard does not know (the
    /// stream was made anew under its old name) stands for the beginning: all that there is, is new.
    async fn open(
        &self,
        attempts: &Attempts<'_>,
        shard: &ShardId,
        after: Option<SequenceNumber>,
    ) -> Result<String, StoreError> {
        const OPERATION: &str = "GetShardIterator";
        let mut after = after;
        loop {
            let call = self
                .client
                .get_shard_iterator()
                .stream_name(&self.stream_name)
                .shard_id(&shard.0);
            let call = match after {
                None => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
                Some(after) => call
                    .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                    .starting_sequence_number(sequence_text(after)),
            };
            let answer = attempts
                .run(Box::pin(call.send()))
                .await
                .ok_or_else(|| unavailable(OPERATION, None))?;
            let error = match answer {
                Ok(answer) => {
                    return answer
                        .shard_iterator
                        .ok_or_else(|| unavailable(OPERATION, Some("no iterator in the answer".into())));
                }
                Err(error) => error,
            };
            let unknown = matches!(
                error.as_service_error(),
                Some(GetShardIteratorError::InvalidArgumentException(_))
            );
            if !unknown || after.take().is_none() {
                return Err(store_error(OPERATION, error));
            }
            tracing::warn!(shard = %shard, "the shard does not know the last stored record, it is read from its beginning");
        }
    }
}

impl Stream for KinesisStream {
    async fn shards(&self) -> Result<Vec<ShardId>, StoreError> {
        let attempts = self.pace.within(READ_LIMIT);
        let listed = attempts
            .run(Box::pin(shards::list(&self.client, &self.stream_name)))
            .await
            .ok_or_else(|| unavailable("ListShards", None))?;
        Ok(listed?.into_iter().map(|shard| ShardId(shard.shard_id)).collect())
    }

    async fn read(&self, shard: &ShardId, position: &Position) -> Result<Page, StoreError> {
        const OPERATION: &str = "GetRecords";
        let mut attempts = self.pace.within(READ_LIMIT);
        let (after, mut iterator) = match position {
            Position::Oldest => (None, None),
            Position::After(sequence) => (Some(*sequence), None),
            Position::Cursor(cursor) => read_cursor(cursor)?,
        };
        loop {
            let at = match iterator.take() {
                Some(at) => at,
                None => self.open(&attempts, shard, after).await?,
            };
            let call = self.client.get_records().shard_iterator(&at).limit(PAGE_RECORDS).send();
            let answer = attempts
                .run(Box::pin(call))
                .await
                .ok_or_else(|| unavailable(OPERATION, None))?;
            let error = match answer {
                Ok(answer) => return page(answer, after),
                Err(error) => error,
            };
            let expired = matches!(
                error.as_service_error(),
                Some(GetRecordsError::ExpiredIteratorException(_))
            );
            if !expired {
                if !is_unavailable(&error) {
                    return Err(store_error(OPERATION, error));
                }
                iterator = Some(at);
            }
            if !attempts.pause().await {
                return Err(store_error(OPERATION, error));
            }
        }
    }
}

fn page(answer: GetRecordsOutput, after: Option<SequenceNumber>) -> Result<Page, StoreError> {
    let mut records = Vec::with_capacity(answer.records.len());
    for record in answer.records {
        let sequence = SequenceNumber::parse(&record.sequence_number).ok_or_else(|| StoreError::Corrupt {
            item: format!("record {}", record.sequence_number),
            reason: "its sequence number is no number of 192 bits".into(),
        })?;
        let arrival = record.approximate_arrival_timestamp;
        records.push(StreamRecord {
            sequence,
            arrival_ms: arrival.map(nearest_ms).unwrap_or_default(),
            data: record.data.into_inner(),
        });
    }
    let last = records.last().map(|record| record.sequence).or(after);
    Ok(Page {
        records,
        next: answer.next_shard_iterator.map(|iterator| write_cursor(last, &iterator)),
        at_tip: answer.millis_behind_latest == Some(0),
    })
}

/// A time that came as seconds in a double: the nearest millisecond is the one that the stream meant, and the one that an
/// event source mapping's batch of the same record says.
fn nearest_ms(at: DateTime) -> i64 {
    let rest = (i64::from(at.subsec_nanos()) + 500_000) / 1_000_000;
    at.secs().saturating_mul(1_000).saturating_add(rest)
}

/// A sequence number as the stream wrote it. Kinesis' have 56 digits. Emulators write fewer, with zeros in front up to 30
/// digits, and compare them as texts.
fn sequence_text(sequence: SequenceNumber) -> String {
    format!("{sequence:030}")
}

fn write_cursor(after: Option<SequenceNumber>, iterator: &str) -> Position {
    let after = after.map(|sequence| sequence.to_string()).unwrap_or_default();
    Position::Cursor(format!("{after}|{iterator}"))
}

fn read_cursor(cursor: &str) -> Result<(Option<SequenceNumber>, Option<String>), StoreError> {
    let corrupt = || StoreError::Corrupt {
        item: "cursor".into(),
        reason: "it was not written by this stream".into(),
    };
    let (after, iterator) = cursor.split_once('|').ok_or_else(corrupt)?;
    let after = match after {
        "" => None,
        text => Some(SequenceNumber::parse(text).ok_or_else(corrupt)?),
    };
    Ok((after, Some(iterator.to_owned())))
}

#[cfg(test)]
mod tests;
