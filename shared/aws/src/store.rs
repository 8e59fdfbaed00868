//! [`Store`] on two DynamoDB tables: segments, and the catalog with references and checkpoints.
//!
//! Reads are strongly consistent: a query that begins after a flush was acknowledged sees it, at twice the price of an
//! eventually consistent read and without the case to explain. TTL deletes up to days late, so every read also leaves out
//! what has expired by this store's clock.

use crate::database::{Attributes, Consumed, Database, Item, Wanted, key, n, s};
use crate::error::{store_error, unavailable};
use crate::keys::{CatalogKey, EXPIRES_AT, PK, SK, SegmentKey};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use std::collections::{BTreeMap, HashMap};
use tidemark_model::{Bucket, Labels, Period, SeriesId, Window};
use tidemark_tsdb::store::{Advance, CatalogEntry, Checkpoint, NewCatalogEntry, Store, StoreError, StoredSegment};
use tidemark_tsdb::{SequenceNumber, ShardId};

const DATA: &str = "data";
const LABELS: &str = "labels";
const NEXT: &str = "next";
const SEQUENCE: &str = "sequence";
const RECORDS: &str = "records";
const SAMPLES: &str = "samples";
const OLDEST: &str = "oldest_ms";
const NEWEST: &str = "newest_ms";

/// The names of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Segments.
    pub segments: String,
    /// Series, metric names, references, checkpoints.
    pub catalog: String,
}

/// The store on DynamoDB. Share one per process.
#[derive(Debug)]
pub struct DynamoStore {
    database: Database,
    tables: Tables,
    now_ms: fn() -> i64,
}

impl DynamoStore {
    /// A store on these tables. `now_ms` is the edge's clock, in milliseconds since the Unix epoch: what has expired by it
    /// is not read.
    #[must_use]
    pub fn new(client: Client, tables: Tables, now_ms: fn() -> i64) -> Self {
        Self::with(client, tables, now_ms, Pace::real())
    }

    /// A store that waits in another way.
    #[must_use]
    pub fn with(client: Client, tables: Tables, now_ms: fn() -> i64, pace: Pace) -> Self {
        Self {
            database: Database::new(client, pace),
            tables,
            now_ms,
        }
    }

    /// What DynamoDB charged for the calls of this store.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.database.consumed
    }

    /// The unexpired items of a partition.
    async fn partition(&self, table: &str, pk: String) -> Result<Vec<Item>, StoreError> {
        let wanted = Wanted {
            pk,
            ..Wanted::default()
        };
        let now_ms = (self.now_ms)();
        let mut items = self.database.query(table, wanted).await?;
        let mut problem = None;
        items.retain(|item| match Attributes(item).expired(now_ms) {
            Ok(expired) => !expired,
            Err(error) => {
                problem = Some(error);
                false
            }
        });
        problem.map_or(Ok(items), Err)
    }
}

impl Store for DynamoStore {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        // One call may not name a key twice; of two writes of one key the later counts.
        let mut items = BTreeMap::new();
        for segment in segments {
            items.insert((segment.bucket, segment.window, segment.order), segment_item(segment));
        }
        self.database
            .put_all(&self.tables.segments, items.into_values().collect())
            .await
    }

    async fn segments(&self, bucket: Bucket, window: Window) -> Result<Vec<StoredSegment>, StoreError> {
        let pk = SegmentKey::partition(bucket, window);
        let items = self.partition(&self.tables.segments, pk).await?;
        items.into_iter().map(read_segment).collect()
    }

    async fn catalog(&self, metric: &str, period: Period) -> Result<Vec<CatalogEntry>, StoreError> {
        let pk = CatalogKey::series_partition(metric, period);
        let items = self.partition(&self.tables.catalog, pk).await?;
        items.iter().map(read_series).collect()
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        const OPERATION: &str = "UpdateItem (references)";
        let place = CatalogKey::References { bucket };
        // An answer that is lost and asked for again leaves a gap in the numbers, which is harmless.
        let call = self
            .database
            .client
            .update_item()
            .table_name(&self.tables.catalog)
            .set_key(Some(key(place.pk(), place.sk())))
            .update_expression("ADD #next :count")
            .expression_attribute_names("#next", NEXT)
            .expression_attribute_values(":count", n(count))
            .return_values(ReturnValue::UpdatedNew)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        let attempts = self.database.attempts();
        let updated = self.database.run(&attempts, OPERATION, call).await?;
        self.database
            .consumed
            .wrote(&self.tables.catalog, 1, updated.consumed_capacity());
        let attributes = updated.attributes.unwrap_or_default();
        let next: u64 = Attributes(&attributes).number(NEXT)?;
        match next.checked_sub(u64::from(count)) {
            Some(first) if next <= u64::from(u32::MAX) + 1 => Ok(u32::try_from(first).unwrap_or(u32::MAX)),
            _ => Err(StoreError::Corrupt {
                item: format!("{} / {}", place.pk(), place.sk()),
                reason: format!("bucket {bucket} has no references left: {next} are handed out"),
            }),
        }
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        let mut items: BTreeMap<(String, String), Item> = BTreeMap::new();
        let mut names: BTreeMap<(Period, String), i64> = BTreeMap::new();
        for new in entries {
            let expires = names
                .entry((new.period, new.metric.clone()))
                .or_insert(new.expires_at_s);
            *expires = new.expires_at_s.max(*expires);
            let place = CatalogKey::Series {
                period: new.period,
                metric: new.metric,
                first_seen_ms: new.entry.first_seen_ms,
                id: new.entry.id,
                reference: new.entry.reference,
            };
            items.insert(
                (place.pk(), place.sk()),
                series_item(&place, &new.entry.labels, new.expires_at_s),
            );
        }
        for ((period, metric), expires_at_s) in names {
            let place = CatalogKey::Name { period, metric };
            let mut item = key(place.pk(), place.sk());
            item.insert(EXPIRES_AT.to_owned(), n(expires_at_s));
            items.insert((place.pk(), place.sk()), item);
        }
        self.database
            .put_all(&self.tables.catalog, items.into_values().collect())
            .await
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        let items = self
            .partition(&self.tables.catalog, CatalogKey::names_partition(period))
            .await?;
        items
            .iter()
            .map(|item| Attributes(item).text(SK).map(str::to_owned))
            .collect()
    }

    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        let place = CatalogKey::Checkpoint { shard: shard.clone() };
        let item = self
            .database
            .get(&self.tables.catalog, key(place.pk(), place.sk()))
            .await?;
        item.as_ref().map(read_checkpoint).transpose()
    }

    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        const OPERATION: &str = "PutItem (checkpoint)";
        let mut call = self
            .database
            .client
            .put_item()
            .table_name(&self.tables.catalog)
            .set_item(Some(checkpoint_item(shard, to)))
            .expression_attribute_names("#pk", PK)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        call = match from {
            None => call.condition_expression("attribute_not_exists(#pk)"),
            Some(from) => call
                .condition_expression("attribute_not_exists(#pk) OR #sequence = :from")
                .expression_attribute_names("#sequence", SEQUENCE)
                .expression_attribute_values(":from", s(from.to_string())),
        };
        let answer = self.database.attempts().run(Box::pin(call.send())).await;
        let error = match answer {
            None => return Err(unavailable(OPERATION, None)),
            Some(Ok(put)) => {
                self.database
                    .consumed
                    .wrote(&self.tables.catalog, 1, put.consumed_capacity());
                return Ok(Advance::Moved);
            }
            Some(Err(error)) => error,
        };
        let stands = error
            .as_service_error()
            .and_then(|error| match error {
                aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) => {
                    failed.item()
                }
                _ => None,
            })
            .map(read_checkpoint)
            .transpose()?;
        match stands {
            None => Err(store_error(OPERATION, error)),
            // An answer that was lost: the SDK asked again and met its own first write.
            Some(stands) if stands == *to => Ok(Advance::Moved),
            Some(stands) => Ok(Advance::Elsewhere(stands)),
        }
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        let items = self
            .partition(&self.tables.catalog, CatalogKey::checkpoints_partition())
            .await?;
        items
            .iter()
            .map(|item| Ok((ShardId(Attributes(item).text(SK)?.to_owned()), read_checkpoint(item)?)))
            .collect()
    }
}

fn segment_item(segment: StoredSegment) -> Item {
    let place = SegmentKey {
        bucket: segment.bucket,
        window: segment.window,
        order: segment.order,
    };
    HashMap::from([
        (PK.to_owned(), s(place.pk())),
        (SK.to_owned(), AttributeValue::B(Blob::new(place.sk()))),
        (DATA.to_owned(), AttributeValue::B(Blob::new(segment.data))),
        (EXPIRES_AT.to_owned(), n(segment.expires_at_s)),
    ])
}

fn read_segment(mut item: Item) -> Result<StoredSegment, StoreError> {
    let attributes = Attributes(&item);
    let key = SegmentKey::parse(attributes.text(PK)?, attributes.bytes(SK)?)
        .map_err(|error| attributes.corrupt(error.to_string()))?;
    let expires_at_s = attributes.number(EXPIRES_AT)?;
    attributes.bytes(DATA)?;
    let data = match item.remove(DATA) {
        Some(AttributeValue::B(data)) => data.into_inner(),
        _ => Vec::new(),
    };
    Ok(StoredSegment {
        bucket: key.bucket,
        window: key.window,
        order: key.order,
        data,
        expires_at_s,
    })
}

fn series_item(place: &CatalogKey, labels: &Labels, expires_at_s: i64) -> Item {
    let labels = labels.iter().map(|(name, value)| (name.to_owned(), s(value))).collect();
    let mut item = key(place.pk(), place.sk());
    item.insert(LABELS.to_owned(), AttributeValue::M(labels));
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s));
    item
}

fn read_series(item: &Item) -> Result<CatalogEntry, StoreError> {
    let attributes = Attributes(item);
    let parsed = CatalogKey::parse(attributes.text(PK)?, attributes.text(SK)?);
    let Ok(CatalogKey::Series {
        metric,
        first_seen_ms,
        id,
        reference,
        ..
    }) = parsed
    else {
        return Err(attributes.corrupt("this is no key of a series"));
    };
    let Some(AttributeValue::M(pairs)) = item.get(LABELS) else {
        return Err(attributes.corrupt("`labels` is missing or no map"));
    };
    let mut labels = Vec::with_capacity(pairs.len());
    for name in pairs.keys() {
        labels.push((name.as_str(), Attributes(pairs).text(name)?));
    }
    let labels = Labels::from_pairs(labels).map_err(|error| attributes.corrupt(error.to_string()))?;
    if SeriesId::new(&metric, labels.iter()) != id {
        return Err(attributes.corrupt("the labels are not those of the series id"));
    }
    Ok(CatalogEntry {
        id,
        reference,
        labels,
        first_seen_ms,
    })
}

/// Checkpoints have no expiry: they are as many as there ever were shards, and hold the totals of the statistics.
fn checkpoint_item(shard: &ShardId, at: &Checkpoint) -> Item {
    let place = CatalogKey::Checkpoint { shard: shard.clone() };
    let mut item = key(place.pk(), place.sk());
    item.insert(SEQUENCE.to_owned(), s(at.sequence.to_string()));
    item.insert(RECORDS.to_owned(), n(at.records));
    item.insert(SAMPLES.to_owned(), n(at.samples));
    if let Some((oldest, newest)) = at.time_range_ms {
        item.insert(OLDEST.to_owned(), n(oldest));
        item.insert(NEWEST.to_owned(), n(newest));
    }
    item
}

fn read_checkpoint(item: &Item) -> Result<Checkpoint, StoreError> {
    let attributes = Attributes(item);
    let oldest: Option<i64> = attributes.optional_number(OLDEST)?;
    let newest: Option<i64> = attributes.optional_number(NEWEST)?;
    Ok(Checkpoint {
        sequence: SequenceNumber::parse(attributes.text(SEQUENCE)?)
            .ok_or_else(|| attributes.corrupt("`sequence` is no sequence number"))?,
        records: attributes.number(RECORDS)?,
        samples: attributes.number(SAMPLES)?,
        time_range_ms: oldest.zip(newest),
    })
}

#[cfg(test)]
mod tests;
