//! The records of the stream, and Kinesis events made of them.

use super::aws::{Aws, KINESIS};
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Lambda hands a function at most this much at once.
const MAX_EVENT_BYTES: usize = 6_000_000;

/// What a record takes in an event beside its data.
const EVENT_BYTES_BESIDE_DATA: usize = 600;

/// A record as `GetRecords` gives it.
#[derive(Clone, Debug)]
pub struct Record {
    shard: String,
    sequence: String,
    partition_key: String,
    /// Base64.
    data: String,
    /// Seconds since the Unix epoch.
    arrival: Value,
}

impl Record {
    /// Its sequence number.
    #[must_use]
    pub fn sequence(&self) -> &str {
        &self.sequence
    }

    /// What it holds.
    ///
    /// # Errors
    /// When it came as no base64.
    pub fn data(&self) -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(&self.data)?)
    }
}

/// The ids of all shards, open and closed.
///
/// # Errors
/// When the stream does not answer.
pub async fn shards(aws: &Aws, stream: &str) -> anyhow::Result<Vec<String>> {
    let listed = aws.call(KINESIS, "ListShards", json!({"StreamName": stream})).await?;
    let shards = listed["Shards"].as_array().context("no shards")?;
    Ok(shards
        .iter()
        .filter_map(|shard| shard["ShardId"].as_str())
        .map(str::to_owned)
        .collect())
}

/// All records of a shard, or those after a sequence number.
///
/// # Errors
/// When the stream does not answer.
pub async fn records(aws: &Aws, stream: &str, shard: &str, after: Option<&str>) -> anyhow::Result<Vec<Record>> {
    let mut request = json!({"StreamName": stream, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
    if let Some(after) = after {
        request["ShardIteratorType"] = "AFTER_SEQUENCE_NUMBER".into();
        request["StartingSequenceNumber"] = after.into();
    }
    let mut iterator = aws.call(KINESIS, "GetShardIterator", request).await?["ShardIterator"].take();
    let mut all = Vec::new();
    loop {
        let mut page = aws
            .call(KINESIS, "GetRecords", json!({"ShardIterator": iterator, "Limit": 100}))
            .await?;
        let Value::Array(found) = page["Records"].take() else {
            anyhow::bail!("no records in {page}");
        };
        let empty = found.is_empty();
        for record in found {
            let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
            all.push(Record {
                shard: shard.to_owned(),
                sequence: text("SequenceNumber"),
                partition_key: text("PartitionKey"),
                data: text("Data"),
                arrival: record["ApproximateArrivalTimestamp"].clone(),
            });
        }
        iterator = page["NextShardIterator"].take();
        if iterator.is_null() || (empty && page["MillisBehindLatest"].as_i64().unwrap_or(0) == 0) {
            return Ok(all);
        }
    }
}

/// The event that Lambda makes of records of one shard.
#[must_use]
pub fn event(records: &[Record], region: &str) -> Value {
    let records: Vec<Value> = records
        .iter()
        .map(|record| {
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": record.sequence,
                    "data": record.data,
                    "approximateArrivalTimestamp": record.arrival,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": format!("{}:{}", record.shard, record.sequence),
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/consume",
                "awsRegion": region,
                "eventSourceARN": format!("arn:aws:kinesis:{region}:000000000000:stream/tidemark"),
            })
        })
        .collect();
    json!({ "Records": records })
}

/// A run of neighbouring records, `most` at most, from anywhere: a batch cut anew.
#[must_use]
pub fn cut<'a>(records: &'a [Record], most: usize, random: &mut StdRng) -> &'a [Record] {
    if records.is_empty() {
        return records;
    }
    let from = random.random_range(0..records.len());
    let until = (from + random.random_range(1..=most)).min(records.len());
    fitting(&records[from..until])
}

/// As many of the records as an invocation's event holds, from the first on; at least one.
#[must_use]
pub fn fitting(records: &[Record]) -> &[Record] {
    let mut bytes = 0;
    let fits = records.iter().take_while(|record| {
        bytes += record.data.len() + EVENT_BYTES_BESIDE_DATA;
        bytes <= MAX_EVENT_BYTES
    });
    let count = fits.count().max(1).min(records.len());
    &records[..count]
}
