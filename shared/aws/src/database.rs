//! The DynamoDB calls that the stores are made of: whole batches, whole queries, counted.

use crate::error::{Partial, is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, Pace, calls};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ConsumedCapacity, PutRequest, ReturnConsumedCapacity, WriteRequest};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tidemark_tsdb::StoreError;

/// An item, or the key of one.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// The most items of one `BatchWriteItem`.
const BATCH_ITEMS: usize = 25;

/// The most bytes of one `BatchWriteItem`. DynamoDB takes 16 MB; smaller calls run side by side and end within the time
/// of one attempt.
const BATCH_BYTES: usize = 4_000_000;

/// The batches of one write that are under way at once.
const BATCHES_AT_ONCE: usize = 8;

/// How long one operation of a store may take, all attempts and pages together: half of the gateway's 30 s, so that the
/// caller can still answer.
const OPERATION_LIMIT: Duration = Duration::from_secs(15);

/// What DynamoDB said it charged, for one table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Write units.
    pub write: f64,
    /// Read units.
    pub read: f64,
    /// The calls.
    pub calls: u64,
    /// The items that writes were asked for, each attempt counted.
    pub items_written: u64,
}

/// What DynamoDB said it charged, table by table.
#[derive(Debug, Default)]
pub struct Consumed(Mutex<BTreeMap<String, Units>>);

impl Consumed {
    /// What was counted so far.
    #[must_use]
    pub fn by_table(&self) -> BTreeMap<String, Units> {
        self.tables().clone()
    }

    /// What was counted so far for one table.
    #[must_use]
    pub fn of(&self, table: &str) -> Units {
        self.tables().get(table).copied().unwrap_or_default()
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, Units>> {
        // Sums stay sums when a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, table: &str, count: impl FnOnce(&mut Units)) {
        let mut tables = self.tables();
        match tables.get_mut(table) {
            Some(units) => count(units),
            None => count(tables.entry(table.to_owned()).or_default()),
        }
    }

    pub(crate) fn wrote<'a>(
        &self,
        table: &str,
        items: usize,
        capacity: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        let units: f64 = capacity.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
        self.add(table, |counted| {
            counted.calls += 1;
            counted.items_written += items as u64;
            counted.write += units;
        });
    }

    pub(crate) fn read(&self, table: &str, capacity: Option<&ConsumedCapacity>) {
        let units = capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        self.add(table, |counted| {
            counted.calls += 1;
            counted.read += units;
        });
    }
}

/// Which items of one partition are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The partition.
    pub(crate) pk: String,
    /// A condition on the sort key `#sk`, and its values.
    pub(crate) sort: Option<(&'static str, Vec<(&'static str, AttributeValue)>)>,
    /// A filter over attributes by their names (with `#` before), the names, and its values.
    pub(crate) filter: Option<Filter>,
    /// Stop once so many items were found.
    pub(crate) at_least: Option<usize>,
}

/// A filter expression.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) expression: String,
    pub(crate) names: Vec<(&'static str, &'static str)>,
    pub(crate) values: Vec<(String, AttributeValue)>,
}

/// A database: the client, and how it is used.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) client: Client,
    pub(crate) pace: Pace,
    pub(crate) limit: Duration,
    pub(crate) consumed: Consumed,
}

impl Database {
    pub(crate) fn new(client: Client, pace: Pace) -> Self {
        Self {
            client,
            pace,
            limit: OPERATION_LIMIT,
            consumed: Consumed::default(),
        }
    }

    /// Puts items, in any order; all are durable when this returns `Ok`. No two may have the same key.
    pub(crate) async fn put_all(&self, table: &str, items: Vec<Item>) -> Result<(), StoreError> {
        let attempts = self.pace.within(self.limit);
        let batches = calls(items, BATCH_ITEMS, BATCH_BYTES, item_bytes);
        stream::iter(batches)
            .map(|batch| self.put_batch(table, batch, attempts.again()))
            .buffer_unordered(BATCHES_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// Puts the items of one call, and again those that were not processed.
    async fn put_batch(&self, table: &str, items: Vec<Item>, mut attempts: Attempts<'_>) -> Result<(), StoreError> {
        const OPERATION: &str = "BatchWriteItem";
        let all = items.len();
        let mut waiting = Vec::with_capacity(all);
        for item in items {
            let put = PutRequest::builder().set_item(Some(item)).build();
            let put = put.map_err(|error| refused(OPERATION, error))?;
            waiting.push(WriteRequest::builder().put_request(put).build());
        }
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

    /// The wanted items of a partition in ascending order of their sort keys, read consistently, all pages.
    pub(crate) async fn query(&self, table: &str, wanted: Wanted) -> Result<Vec<Item>, StoreError> {
        let attempts = self.pace.within(self.limit);
        let mut found = Vec::new();
        let mut start = None;
        loop {
            let mut call = self
                .client
                .query()
                .table_name(table)
                .consistent_read(true)
                .expression_attribute_names("#pk", crate::keys::PK)
                .expression_attribute_values(":pk", AttributeValue::S(wanted.pk.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .set_exclusive_start_key(start.take());
            call = match &wanted.sort {
                None => call.key_condition_expression("#pk = :pk"),
                Some((condition, values)) => {
                    for (name, value) in values {
                        call = call.expression_attribute_values(*name, value.clone());
                    }
                    call.expression_attribute_names("#sk", crate::keys::SK)
                        .key_condition_expression(format!("#pk = :pk AND {condition}"))
                }
            };
            if let Some(filter) = &wanted.filter {
                call = call.filter_expression(&filter.expression);
                for (name, attribute) in &filter.names {
                    call = call.expression_attribute_names(*name, *attribute);
                }
                for (name, value) in &filter.values {
                    call = call.expression_attribute_values(name, value.clone());
                }
            } else if let Some(at_least) = wanted.at_least {
                // With a filter the limit would count what the filter drops.
                call = call.limit(i32::try_from(at_least - found.len()).unwrap_or(i32::MAX));
            }
            let page = self.run(&attempts, "Query", call.send()).await?;
            self.consumed.read(table, page.consumed_capacity());
            found.extend(page.items.unwrap_or_default());
            let enough = wanted.at_least.is_some_and(|at_least| found.len() >= at_least);
            match page.last_evaluated_key.filter(|key| !key.is_empty()) {
                Some(key) if !enough => start = Some(key),
                _ => return Ok(found),
            }
        }
    }

    /// One item, read consistently.
    pub(crate) async fn get(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        let call = self
            .client
            .get_item()
            .table_name(table)
            .set_key(Some(key))
            .consistent_read(true)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        let got = self.run(&self.attempts(), "GetItem", call).await?;
        self.consumed.read(table, got.consumed_capacity());
        Ok(got.item)
    }

    /// The attempts of one operation.
    pub(crate) fn attempts(&self) -> Attempts<'_> {
        self.pace.within(self.limit)
    }

    /// One call that the SDK repeats by itself, within the time of the operation.
    pub(crate) async fn run<T, E>(
        &self,
        attempts: &Attempts<'_>,
        operation: &'static str,
        call: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, StoreError>
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        match attempts.run(Box::pin(call)).await {
            None => Err(unavailable(operation, None)),
            Some(answer) => answer.map_err(|error| store_error(operation, error)),
        }
    }
}

/// A call that cannot even be built.
pub(crate) fn refused(operation: &'static str, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Refused {
        operation,
        source: Box::new(error),
    }
}

/// About the bytes of an item, to divide batches by.
fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::M(map) => item_bytes(map),
        AttributeValue::L(list) => list.iter().map(value_bytes).sum(),
        _ => 1,
    }
}

/// Reads attributes of items, and says which item is wrong.
pub(crate) struct Attributes<'a>(pub(crate) &'a Item);

impl<'a> Attributes<'a> {
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        let part = |name| match self.0.get(name) {
            Some(AttributeValue::S(text)) => text.clone(),
            Some(AttributeValue::B(bytes)) => bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => "?".to_owned(),
        };
        StoreError::Corrupt {
            item: format!("{} / {}", part(crate::keys::PK), part(crate::keys::SK)),
            reason: reason.into(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, StoreError> {
        match self.0.get(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(self.corrupt(format!("`{name}` is missing or no string"))),
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<&'a [u8], StoreError> {
        match self.0.get(name) {
            Some(AttributeValue::B(bytes)) => Ok(bytes.as_ref()),
            _ => Err(self.corrupt(format!("`{name}` is missing or no binary"))),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_number(name)?
            .ok_or_else(|| self.corrupt(format!("`{name}` is missing")))
    }

    pub(crate) fn optional_number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, StoreError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.corrupt(format!("`{name}` is out of range"))),
            },
            Some(_) => Err(self.corrupt(format!("`{name}` is no number"))),
        }
    }

    /// Whether the item has expired and only waits for its deletion.
    pub(crate) fn expired(&self, now_ms: i64) -> Result<bool, StoreError> {
        let expires_at: Option<i64> = self.optional_number(crate::keys::EXPIRES_AT)?;
        Ok(expires_at.is_some_and(|at| at <= now_ms.div_euclid(1_000)))
    }
}

/// A string attribute.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A number attribute.
pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A key of strings.
pub(crate) fn key(pk: String, sk: String) -> Item {
    HashMap::from([(crate::keys::PK.to_owned(), s(pk)), (crate::keys::SK.to_owned(), s(sk))])
}
