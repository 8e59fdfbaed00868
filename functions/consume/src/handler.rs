//! From a batch of Kinesis records to a flush, and back to what failed.

use aws_lambda_events::event::kinesis::{KinesisEvent, KinesisEventRecord};
use aws_lambda_events::event::streams::{KinesisBatchItemFailure, KinesisEventResponse};
use tidemark_tsdb::answer::chain;
use tidemark_tsdb::stream::{DeadLetters, StreamRecord};
use tidemark_tsdb::{Consumer, SequenceNumber, ShardId, Store, StoreError};
use tokio::sync::Mutex;

/// Why a batch is not stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotStored {
    /// The database or the dead letters.
    #[error("the batch was not stored")]
    Store(#[from] StoreError),
    /// Lambda delivered something else than records of a stream.
    #[error("the event is no batch of a stream: {0}")]
    Event(String),
}

/// The function. One invocation runs at a time in a process; the lock says so to the compiler.
pub(crate) struct Consume<S, D> {
    consumer: Mutex<Consumer<S>>,
    dead_letters: D,
}

impl<S: Store, D: DeadLetters> Consume<S, D> {
    pub(crate) fn new(consumer: Consumer<S>, dead_letters: D) -> Self {
        Self {
            consumer: Mutex::new(consumer),
            dead_letters,
        }
    }

    /// Stores a batch, whole or not at all.
    ///
    /// When the database does not answer, the batch is to come again whole: the answer names its first record, since Lambda
    /// repeats everything from the lowest sequence number that it is given. What fails in a way that will fail again is an
    /// error of the invocation: Lambda then halves the batch until the record at fault stands alone, and the error is
    /// counted where an alarm sees it.
    pub(crate) async fn handle(&self, event: KinesisEvent) -> Result<KinesisEventResponse, NotStored> {
        let first = event
            .records
            .first()
            .map(|record| record.kinesis.sequence_number.clone());
        match self.flush(event.records).await {
            Ok(()) => Ok(KinesisEventResponse::default()),
            Err(NotStored::Store(failed @ StoreError::Unavailable { .. })) => {
                tracing::error!(
                    cause = chain(&failed),
                    "a batch was not stored and will be delivered again"
                );
                let mut failure = KinesisBatchItemFailure::default();
                failure.item_identifier = first;
                let mut response = KinesisEventResponse::default();
                response.batch_item_failures = vec![failure];
                Ok(response)
            }
            Err(failed) => {
                tracing::error!(
                    cause = chain(&failed),
                    "a batch cannot be stored and will be delivered again in halves"
                );
                Err(failed)
            }
        }
    }

    async fn flush(&self, records: Vec<KinesisEventRecord>) -> Result<(), NotStored> {
        // An event source mapping gives the records of one shard at a time; a replayed event may hold several.
        let mut shards: Vec<(ShardId, Vec<StreamRecord>)> = Vec::new();
        for record in records {
            let (shard, record) = stream_record(record)?;
            match shards.last_mut().filter(|(last, _)| *last == shard) {
                Some((_, records)) => records.push(record),
                None => shards.push((shard, vec![record])),
            }
        }
        let mut consumer = self.consumer.lock().await;
        for (shard, records) in shards {
            // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
            let report = Box::pin(consumer.flush(&shard, &records, &self.dead_letters)).await?;
            tracing::info!(
                shard = %shard,
                records = records.len(),
                samples = report.samples,
                segments = report.segments,
                dirtied = report.dirtied,
                undecodable = report.undecodable,
                refused = report.refused,
                "flushed"
            );
        }
        Ok(())
    }
}

/// The record in our terms. Its event id is `shard:sequence number`.
fn stream_record(record: KinesisEventRecord) -> Result<(ShardId, StreamRecord), NotStored> {
    let event_id = record.event_id.unwrap_or_default();
    let (shard, _) = event_id
        .rsplit_once(':')
        .ok_or_else(|| NotStored::Event(format!("`{event_id}` names no shard")))?;
    let text = record.kinesis.sequence_number;
    let sequence =
        SequenceNumber::parse(&text).ok_or_else(|| NotStored::Event(format!("`{text}` is no sequence number")))?;
    // A fraction of a second that went through JSON and a double: the nearest millisecond is the one that was meant.
    let arrival_ms = (record.kinesis.approximate_arrival_timestamp.timestamp_micros() + 500).div_euclid(1_000);
    Ok((
        ShardId(shard.to_owned()),
        StreamRecord {
            sequence,
            arrival_ms,
            data: record.kinesis.data.0,
        },
    ))
}

#[cfg(test)]
mod tests;
