//! From a batch of Kinesis records to a flush, and back to what failed.

use aws_lambda_events::event::kinesis::{KinesisEvent, KinesisEventRecord};
use aws_lambda_events::event::streams::{KinesisBatchItemFailure, KinesisEventResponse};
use tidemark_tsdb::answer::chain;
use tidemark_tsdb::stream::{DeadLetters, StreamRecord};
use tidemark_tsdb::{Consumer, SequenceNumber, ShardId, Store};
use tokio::sync::Mutex;

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

    /// Stores a batch. A batch is stored whole or, when the database does not answer, delivered again whole: the answer
    /// then names its first record, since Lambda repeats everything from the lowest sequence number that it is given.
    pub(crate) async fn handle(&self, event: KinesisEvent) -> KinesisEventResponse {
        let first = event
            .records
            .first()
            .map(|record| record.kinesis.sequence_number.clone());
        match self.flush(event.records).await {
            Ok(()) => KinesisEventResponse::default(),
            Err(cause) => {
                tracing::error!(cause, "a batch was not stored and will be delivered again");
                let mut failure = KinesisBatchItemFailure::default();
                failure.item_identifier = first;
                let mut response = KinesisEventResponse::default();
                response.batch_item_failures = vec![failure];
                response
            }
        }
    }

    async fn flush(&self, records: Vec<KinesisEventRecord>) -> Result<(), String> {
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
            let report = Box::pin(consumer.flush(&shard, &records, &self.dead_letters))
                .await
                .map_err(|failed| chain(&failed))?;
            tracing::info!(
                shard = %shard,
                records = records.len(),
                samples = report.samples,
                segments = report.segments,
                undecodable = report.undecodable,
                refused = report.refused,
                "flushed"
            );
        }
        Ok(())
    }
}

/// The record in our terms. Its event id is `shard:sequence number`.
fn stream_record(record: KinesisEventRecord) -> Result<(ShardId, StreamRecord), String> {
    let event_id = record.event_id.unwrap_or_default();
    let (shard, _) = event_id
        .rsplit_once(':')
        .ok_or_else(|| format!("`{event_id}` names no shard"))?;
    let text = record.kinesis.sequence_number;
    let sequence = SequenceNumber::parse(&text).ok_or_else(|| format!("`{text}` is no sequence number"))?;
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
