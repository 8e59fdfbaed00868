//! [`Store`] on four DynamoDB tables: segments; the catalog with references, checkpoints and the progress of compaction; and the
//! blocks of compacted data, raw ones in one table and aggregates in another.
//!
//! Reads are strongly consistent: a query that begins after a flush was acknowledged sees it, at twice the price of an
//! eventually consistent read and without the case to explain. TTL deletes up to days late, so every read also leaves out
//! what has expired by this store's clock.

mod blocks;
mod items;
mod progress;

use crate::database::{Attributes, Consumed, Database, Item, Wanted, b, key, n, s};
use crate::error::{store_error, unavailable};
use crate::keys::{CatalogKey, EXPIRES_AT, PK, SK, SegmentKey};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure};
use items::{NEXT, SEQUENCE};
pub(crate) use progress::read_division;
use std::collections::BTreeMap;
use tidemark_model::{Bucket, Period, SeriesId, Window};
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use tidemark_tsdb::tier::{BlockKey, StoredBlock};
use tidemark_tsdb::{SequenceNumber, ShardId, Tier};

/// The names of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Segments.
    pub segments: String,
    /// Series, metric names, references, checkpoints, the progress of compaction.
    pub catalog: String,
    /// Raw blocks.
    pub metrics: String,
    /// Blocks of aggregates.
    pub aggregates: String,
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

    /// The wanted items that have not expired.
    async fn unexpired(&self, table: &str, wanted: Wanted) -> Result<Vec<Item>, StoreError> {
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

/// All items of a partition whose sort keys come after one.
fn beyond(pk: String, after: Option<aws_sdk_dynamodb::types::AttributeValue>) -> Wanted {
    Wanted {
        sort: after.map(|after| ("#sk > :after", vec![(":after", after)])),
        ..Wanted::all_of(s(pk))
    }
}

impl Store for DynamoStore {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        // One call may not name a key twice; of two writes of one key the later counts.
        let mut all = BTreeMap::new();
        for segment in segments {
            let place = (segment.bucket, segment.window, segment.late, segment.order);
            all.insert(place, items::segment(segment));
        }
        self.database
            .put_all(&self.tables.segments, all.into_values().collect())
            .await
    }

    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        // Late ones sort behind all others.
        let after = after.map(|after| b(SegmentKey::sort_key(false, after)));
        let wanted = beyond(SegmentKey::partition(bucket, window), after);
        let found = self.unexpired(&self.tables.segments, wanted).await?;
        found.into_iter().map(items::read_segment).collect()
    }

    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let after = after.map(|after| s(CatalogKey::seen_after(after)));
        let wanted = beyond(CatalogKey::series_partition(metric, period), after);
        let found = self.unexpired(&self.tables.catalog, wanted).await?;
        found.iter().map(items::read_series).collect()
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
        let mut series: BTreeMap<(String, String), Item> = BTreeMap::new();
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
                late: new.entry.late,
            };
            series.insert(
                (place.pk(), place.sk()),
                items::series(&place, &new.entry.labels, new.expires_at_s),
            );
        }
        let names = names.into_iter().map(|((period, metric), expires_at_s)| {
            let place = CatalogKey::Name { period, metric };
            let mut item = key(place.pk(), place.sk());
            item.insert(EXPIRES_AT.to_owned(), n(expires_at_s));
            item
        });
        // One after the other: a series whose name is missing is known to a consumer that comes again, and the name never written.
        let catalog = &self.tables.catalog;
        self.database.put_all(catalog, names.collect()).await?;
        self.database.put_all(catalog, series.into_values().collect()).await
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        let wanted = Wanted::all_of(s(CatalogKey::names_partition(period)));
        let found = self.unexpired(&self.tables.catalog, wanted).await?;
        found
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
        item.as_ref().map(items::read_checkpoint).transpose()
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
            .set_item(Some(items::checkpoint(shard, to)))
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
                PutItemError::ConditionalCheckFailedException(failed) => failed.item(),
                _ => None,
            })
            .map(items::read_checkpoint)
            .transpose()?;
        match stands {
            None => Err(store_error(OPERATION, error)),
            // An answer that was lost: the SDK asked again and met its own first write.
            Some(stands) if stands == *to => Ok(Advance::Moved),
            Some(stands) => Ok(Advance::Elsewhere(stands)),
        }
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        let wanted = Wanted::all_of(s(CatalogKey::checkpoints_partition()));
        let found = self.unexpired(&self.tables.catalog, wanted).await?;
        found
            .iter()
            .map(|item| {
                let shard = ShardId(Attributes(item).text(SK)?.to_owned());
                Ok((shard, items::read_checkpoint(item)?))
            })
            .collect()
    }

    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        self.write_blocks(blocks).await
    }

    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        self.read_blocks(tier, id, (from_ms, to_ms)).await
    }

    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        self.remove_blocks(keys).await
    }

    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        self.read_progress(bucket).await
    }

    async fn begin_pass(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> Result<Option<Progress>, StoreError> {
        self.take_epoch(bucket, epoch, leased_until_ms).await
    }

    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        self.take_step(bucket, epoch, step).await
    }

    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        self.add_marks(bucket, windows).await
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        self.pin(division).await
    }
}

#[cfg(test)]
mod tests;
