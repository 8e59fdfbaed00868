//! Writing many items: calls of a bounded size, some of them side by side, each repeated for what it left undone.

use super::attributes::item_bytes;
use super::{Database, Item, refused};
use crate::error::{Partial, is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, calls};
use aws_sdk_dynamodb::types::{DeleteRequest, PutRequest, ReturnConsumedCapacity, WriteRequest};
use futures::{StreamExt, TryStreamExt, stream};
use tidemark_tsdb::StoreError;

const OPERATION: &str = "BatchWriteItem";

/// The most items of one `BatchWriteItem`.
const BATCH_ITEMS: usize = 25;

/// The most bytes of one `BatchWriteItem`. DynamoDB takes 16 MB; smaller calls run side by side and end within the time
/// of one attempt.
const BATCH_BYTES: usize = 4_000_000;

/// The batches of one write that are under way at once.
const BATCHES_AT_ONCE: usize = 8;

impl Database {
    /// Puts items, in any order; all are durable when this returns `Ok`. No two may have the same key.
    pub(crate) async fn put_all(&self, table: &str, items: Vec<Item>) -> Result<(), StoreError> {
        self.write_all(table, items, put).await
    }

    /// Deletes items by their keys, in any order; those that are gone are no error. No key may stand twice.
    pub(crate) async fn delete_all(&self, table: &str, keys: Vec<Item>) -> Result<(), StoreError> {
        self.write_all(table, keys, delete).await
    }

    async fn write_all(
        &self,
        table: &str,
        items: Vec<Item>,
        request: fn(Item) -> Result<WriteRequest, StoreError>,
    ) -> Result<(), StoreError> {
        let attempts = self.attempts();
        let mut batches = Vec::new();
        for batch in calls(items, BATCH_ITEMS, BATCH_BYTES, item_bytes) {
            batches.push(batch.into_iter().map(request).collect::<Result<Vec<_>, _>>()?);
        }
        stream::iter(batches)
            .map(|batch| self.write_batch(table, batch, attempts.again()))
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Writes the items of one call, and again those that were not processed.
    async fn write_batch(
        &self,
        table: &str,
        mut waiting: Vec<WriteRequest>,
        mut attempts: Attempts<'_>,
    ) -> Result<(), StoreError> {
        let all = waiting.len();
        loop {
            let asked = waiting.len();
            let call = self
                .client
                .batch_write_item()
                .request_items(table, waiting.clone())
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let problem = match attempts.run(Box::pin(call)).await {
                None => return Err(unavailable(OPERATION, None)),
                Some(Ok(done)) => {
                    self.consumed.wrote(table, asked, done.consumed_capacity());
                    let unprocessed = done.unprocessed_items.unwrap_or_default();
                    waiting = unprocessed.into_values().flatten().collect();
                    if waiting.is_empty() {
                        return Ok(());
                    }
                    unavailable(
                        OPERATION,
                        Some(Box::new(Partial {
                            failed: waiting.len(),
                            all,
                            first: "unprocessed".into(),
                        })),
                    )
                }
                Some(Err(error)) if is_unavailable(&error) => store_error(OPERATION, error),
                Some(Err(error)) => return Err(store_error(OPERATION, error)),
            };
            if !attempts.pause().await {
                return Err(problem);
            }
        }
    }
}

fn put(item: Item) -> Result<WriteRequest, StoreError> {
    let put = PutRequest::builder().set_item(Some(item)).build();
    let put = put.map_err(|error| refused(OPERATION, error))?;
    Ok(WriteRequest::builder().put_request(put).build())
}

fn delete(key: Item) -> Result<WriteRequest, StoreError> {
    let delete = DeleteRequest::builder().set_key(Some(key)).build();
    let delete = delete.map_err(|error| refused(OPERATION, error))?;
    Ok(WriteRequest::builder().delete_request(delete).build())
}
