//! Reading a stream from any position.

use super::shards;
use crate::error::{is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, Pace};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::operation::get_records::{GetRecordsError, GetRecordsOutput};
use aws_sdk_kinesis::operation::get_shard_iterator::GetShardIteratorError;
use aws_sdk_kinesis::primitives::DateTime;
use aws_sdk_kinesis::types::{Shard, ShardIteratorType};
use std::time::Duration;
use tidemark_tsdb::stream::{Page, Position, RangesFuture, ShardRanges, Stream, StreamRecord};
use tidemark_tsdb::{SequenceNumber, ShardId, StoreError};

/// How long one page may take, all attempts together. A shard gives five pages a second to all its readers.
const READ_LIMIT: Duration = Duration::from_secs(8);

/// The most records of one page. Without a limit a page holds up to 10 MB, which the smallest function must decode.
const PAGE_RECORDS: i32 = 500;

/// The consumer's end of the stream.
///
/// A cursor is `<start>|<shard iterator>`: an iterator lives for five minutes, and one that has expired is opened again at the
/// start: the sequence number of the last record before it, `@` and a time in milliseconds, or nothing for the oldest record.
#[derive(Debug)]
pub struct KinesisStream {
    client: Client,
    stream_name: String,
    pace: Pace,
}

/// Where an iterator is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Oldest,
    At(i64),
    After(SequenceNumber),
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

    /// How long the stream keeps a record, in milliseconds.
    ///
    /// # Errors
    /// When the stream does not answer.
    pub async fn keeps_ms(&self) -> Result<i64, StoreError> {
        const OPERATION: &str = "DescribeStreamSummary";
        let call = self
            .client
            .describe_stream_summary()
            .stream_name(&self.stream_name)
            .send();
        let answer = self.pace.within(READ_LIMIT).run(Box::pin(call)).await;
        let answer = answer.ok_or_else(|| unavailable(OPERATION, None))?;
        let described = answer.map_err(|error| store_error(OPERATION, error))?;
        let summary = described.stream_description_summary();
        let hours = summary.map(|summary| summary.retention_period_hours());
        let hours = hours.ok_or_else(|| unavailable(OPERATION, Some("no stream in the answer".into())))?;
        Ok(i64::from(hours) * 3_600_000)
    }

    /// All shards that still hold records.
    async fn list(&self) -> Result<Vec<Shard>, StoreError> {
        let attempts = self.pace.within(READ_LIMIT);
        let listed = attempts
            .run(Box::pin(shards::list(&self.client, &self.stream_name)))
            .await;
        listed.ok_or_else(|| unavailable("ListShards", None))?
    }

    /// A shard iterator that begins at a start. A record that the shard does not know (the stream was made anew under its old
    /// name) stands for the beginning: all that there is, is new.
    async fn open(&self, attempts: &Attempts<'_>, shard: &ShardId, mut start: Start) -> Result<String, StoreError> {
        const OPERATION: &str = "GetShardIterator";
        loop {
            let call = self
                .client
                .get_shard_iterator()
                .stream_name(&self.stream_name)
                .shard_id(&shard.0);
            let call = match start {
                Start::Oldest => call.shard_iterator_type(ShardIteratorType::TrimHorizon),
                Start::At(time_ms) => call
                    .shard_iterator_type(ShardIteratorType::AtTimestamp)
                    .timestamp(DateTime::from_millis(time_ms)),
                Start::After(after) => call
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
            if !unknown || !matches!(start, Start::After(_)) {
                return Err(store_error(OPERATION, error));
            }
            start = Start::Oldest;
            tracing::warn!(shard = %shard, "the shard does not know the last stored record, it is read from its beginning");
        }
    }
}

impl ShardRanges for KinesisStream {
    fn ranges(&self) -> RangesFuture<'_> {
        Box::pin(async {
            let listed = self.list().await?;
            Ok(listed
                .into_iter()
                .filter_map(|shard| {
                    let (first, last) = shards::range_of(&shard)?;
                    Some((ShardId(shard.shard_id), first..=last))
                })
                .collect())
        })
    }
}

impl Stream for KinesisStream {
    async fn shards(&self) -> Result<Vec<ShardId>, StoreError> {
        let listed = self.list().await?;
        Ok(listed.into_iter().map(|shard| ShardId(shard.shard_id)).collect())
    }

    async fn read(&self, shard: &ShardId, position: &Position) -> Result<Page, StoreError> {
        const OPERATION: &str = "GetRecords";
        let mut attempts = self.pace.within(READ_LIMIT);
        let (start, mut iterator) = match position {
            Position::Oldest => (Start::Oldest, None),
            Position::At(time_ms) => (Start::At(*time_ms), None),
            Position::After(sequence) => (Start::After(*sequence), None),
            Position::Cursor(cursor) => read_cursor(cursor)?,
        };
        loop {
            let at = match iterator.take() {
                Some(at) => at,
                None => self.open(&attempts, shard, start).await?,
            };
            let call = self.client.get_records().shard_iterator(&at).limit(PAGE_RECORDS).send();
            let answer = attempts
                .run(Box::pin(call))
                .await
                .ok_or_else(|| unavailable(OPERATION, None))?;
            let error = match answer {
                Ok(answer) => return page(answer, start),
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

fn page(answer: GetRecordsOutput, start: Start) -> Result<Page, StoreError> {
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
    let start = records.last().map_or(start, |record| Start::After(record.sequence));
    Ok(Page {
        records,
        next: answer
            .next_shard_iterator
            .map(|iterator| write_cursor(start, &iterator)),
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

fn write_cursor(start: Start, iterator: &str) -> Position {
    Position::Cursor(match start {
        Start::Oldest => format!("|{iterator}"),
        Start::At(time_ms) => format!("@{time_ms}|{iterator}"),
        Start::After(sequence) => format!("{sequence}|{iterator}"),
    })
}

fn read_cursor(cursor: &str) -> Result<(Start, Option<String>), StoreError> {
    let corrupt = || StoreError::Corrupt {
        item: "cursor".into(),
        reason: "it was not written by this stream".into(),
    };
    let (start, iterator) = cursor.split_once('|').ok_or_else(corrupt)?;
    let start = match (start, start.strip_prefix('@')) {
        ("", _) => Start::Oldest,
        (_, Some(time_ms)) => Start::At(time_ms.parse().map_err(|_| corrupt())?),
        (text, None) => Start::After(SequenceNumber::parse(text).ok_or_else(corrupt)?),
    };
    Ok((start, Some(iterator.to_owned())))
}

#[cfg(test)]
mod tests;
