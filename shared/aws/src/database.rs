//! The DynamoDB calls that the stores are made of: whole batches, whole queries, counted.

mod attributes;
mod batch;
mod consumed;

pub(crate) use attributes::{Attributes, b, key, n, s};
pub use consumed::{Consumed, Units};

use crate::error::{is_later, is_unavailable, store_error, unavailable};
use crate::pace::{Attempts, Pace};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::get_item::builders::GetItemFluentBuilder;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::query::builders::QueryFluentBuilder;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure, Select, TransactWriteItem,
};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;
use tidemark_tsdb::StoreError;

/// An item, or the key of one.
pub(crate) type Item = HashMap<String, AttributeValue>;

/// How long one operation of a store may take, all attempts together: half of the gateway's 30 s, so that the caller can
/// still answer. Each page of a query is an operation: how long all of them may take is the caller's to say, whose own deadline
/// ends a read of a hundred pages or does not.
const OPERATION_LIMIT: Duration = Duration::from_secs(15);

/// Which items of one partition are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The partition.
    pub(crate) pk: AttributeValue,
    /// A condition on the sort key `#sk`, and its values.
    pub(crate) sort: Option<(&'static str, Vec<(&'static str, AttributeValue)>)>,
    /// A filter over attributes by their names (with `#` before), the names, and its values.
    pub(crate) filter: Option<Filter>,
    /// Stop once so many items were found.
    pub(crate) at_least: Option<usize>,
    /// In descending order of the sort keys.
    pub(crate) backwards: bool,
}

impl Wanted {
    /// All items of a partition.
    pub(crate) fn all_of(pk: AttributeValue) -> Self {
        Self {
            pk,
            sort: None,
            filter: None,
            at_least: None,
            backwards: false,
        }
    }
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

    /// The wanted items of a partition in the order of their sort keys, read consistently, all pages.
    pub(crate) async fn query(&self, table: &str, wanted: Wanted) -> Result<Vec<Item>, StoreError> {
        let mut found = Vec::new();
        let mut start = None;
        loop {
            let mut call = self
                .client
                .query()
                .table_name(table)
                .consistent_read(true)
                .set_scan_index_forward(wanted.backwards.then_some(false))
                .expression_attribute_names("#pk", crate::keys::PK)
                .expression_attribute_values(":pk", wanted.pk.clone())
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
                call = filtered(call, filter);
            } else if let Some(at_least) = wanted.at_least {
                // With a filter the limit would count what the filter drops.
                call = call.limit(i32::try_from(at_least - found.len()).unwrap_or(i32::MAX));
            }
            let page = self.page(table, &call).await?;
            found.extend(page.items.unwrap_or_default());
            let enough = wanted.at_least.is_some_and(|at_least| found.len() >= at_least);
            match page.last_evaluated_key.filter(|key| !key.is_empty()) {
                Some(key) if !enough => start = Some(key),
                _ => return Ok(found),
            }
        }
    }

    /// One page of a query, asked for again while the table cannot give it.
    async fn page(&self, table: &str, call: &QueryFluentBuilder) -> Result<QueryOutput, StoreError> {
        const OPERATION: &str = "Query";
        let mut attempts = self.attempts();
        loop {
            match attempts.run(Box::pin(call.clone().send())).await {
                None => return Err(unavailable(OPERATION, None)),
                Some(Ok(page)) => {
                    self.consumed.read(table, page.consumed_capacity());
                    return Ok(page);
                }
                Some(Err(error)) => {
                    let again = is_unavailable(&error) && attempts.pause().await;
                    if !again {
                        return Err(store_error(OPERATION, error));
                    }
                }
            }
        }
    }

    /// One item, read consistently.
    pub(crate) async fn get(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        self.got(table, self.client.get_item().set_key(Some(key)).consistent_read(true))
            .await
    }

    /// One item, as it was some time ago at the longest, at half the price.
    pub(crate) async fn get_soon(&self, table: &str, key: Item) -> Result<Option<Item>, StoreError> {
        self.got(table, self.client.get_item().set_key(Some(key))).await
    }

    /// Puts one item, whatever stands there.
    pub(crate) async fn put(&self, table: &str, item: Item) -> Result<(), StoreError> {
        let call = self
            .client
            .put_item()
            .table_name(table)
            .set_item(Some(item))
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        let put = self.run(&self.attempts(), "PutItem", call).await?;
        self.consumed.wrote(table, 1, put.consumed_capacity());
        Ok(())
    }

    async fn got(&self, table: &str, call: GetItemFluentBuilder) -> Result<Option<Item>, StoreError> {
        let call = call
            .table_name(table)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        let got = self.run(&self.attempts(), "GetItem", call).await?;
        self.consumed.read(table, got.consumed_capacity());
        Ok(got.item)
    }

    /// How many items of a partition pass a filter. Read without waiting for the newest writes, at half the price.
    pub(crate) async fn count(&self, table: &str, pk: String, filter: Option<Filter>) -> Result<u64, StoreError> {
        let mut count = 0;
        let mut start = None;
        loop {
            let mut call = self
                .client
                .query()
                .table_name(table)
                .select(Select::Count)
                .key_condition_expression("#pk = :pk")
                .expression_attribute_names("#pk", crate::keys::PK)
                .expression_attribute_values(":pk", s(&pk))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .set_exclusive_start_key(start.take());
            if let Some(filter) = &filter {
                call = filtered(call, filter);
            }
            let page = self.page(table, &call).await?;
            count += u64::try_from(page.count).unwrap_or_default();
            match page.last_evaluated_key.filter(|key| !key.is_empty()) {
                Some(key) => start = Some(key),
                None => return Ok(count),
            }
        }
    }

    /// An update that reports the item when its condition is not met.
    pub(crate) fn update(&self, table: &str, key: Item) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(table)
            .set_key(Some(key))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
    }

    /// Does an update. Repeats what met a transaction.
    pub(crate) async fn written(
        &self,
        operation: &'static str,
        table: &str,
        call: UpdateItemFluentBuilder,
    ) -> Result<Written, StoreError> {
        let mut attempts = self.attempts();
        loop {
            let error = match attempts.run(Box::pin(call.clone().send())).await {
                None => return Err(unavailable(operation, None)),
                Some(Ok(done)) => {
                    self.consumed.wrote(table, 1, done.consumed_capacity());
                    return Ok(Written::Done(done.attributes.unwrap_or_default()));
                }
                Some(Err(error)) => error,
            };
            match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    return Ok(Written::Unmet(failed.item().filter(|item| !item.is_empty()).cloned()));
                }
                Some(UpdateItemError::TransactionConflictException(_)) if attempts.pause().await => {}
                _ => return Err(store_error(operation, error)),
            }
        }
    }

    /// Deletes an item if an attribute has a value; whether it did.
    pub(crate) async fn delete_if(
        &self,
        table: &str,
        key: Item,
        (attribute, value): (&str, AttributeValue),
    ) -> Result<bool, StoreError> {
        const OPERATION: &str = "DeleteItem";
        let call = self
            .client
            .delete_item()
            .table_name(table)
            .set_key(Some(key))
            .condition_expression("#attribute = :value")
            .expression_attribute_names("#attribute", attribute)
            .expression_attribute_values(":value", value)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .send();
        match self.attempts().run(Box::pin(call)).await {
            None => Err(unavailable(OPERATION, None)),
            Some(Ok(done)) => {
                self.consumed.wrote(table, 1, done.consumed_capacity());
                Ok(true)
            }
            Some(Err(error)) => match error.as_service_error() {
                Some(DeleteItemError::ConditionalCheckFailedException(_)) => Ok(false),
                _ => Err(store_error(OPERATION, error)),
            },
        }
    }

    /// Does all of some writes or none: answers with the places of those whose conditions are not met, none when all
    /// were done. Repeats what met another transaction.
    pub(crate) async fn transact(&self, table: &str, writes: Vec<TransactWriteItem>) -> Result<Vec<usize>, StoreError> {
        const OPERATION: &str = "TransactWriteItems";
        let mut attempts = self.attempts();
        loop {
            let call = self
                .client
                .transact_write_items()
                .set_transact_items(Some(writes.clone()))
                .return_consumed_capacity(ReturnConsumedCapacity::Total)
                .send();
            let error = match attempts.run(Box::pin(call)).await {
                None => return Err(unavailable(OPERATION, None)),
                Some(Ok(done)) => {
                    self.consumed.wrote(table, writes.len(), done.consumed_capacity());
                    return Ok(Vec::new());
                }
                Some(Err(error)) => error,
            };
            let Some(TransactWriteItemsError::TransactionCanceledException(canceled)) = error.as_service_error() else {
                return Err(store_error(OPERATION, error));
            };
            let codes: Vec<&str> = canceled
                .cancellation_reasons()
                .iter()
                .map(|reason| reason.code().unwrap_or_default())
                .collect();
            let unmet: Vec<usize> = (0..codes.len())
                .filter(|place| codes[*place] == "ConditionalCheckFailed")
                .collect();
            if !unmet.is_empty() {
                return Ok(unmet);
            }
            if !codes.iter().any(|code| is_later(code)) {
                return Err(store_error(OPERATION, error));
            }
            if !attempts.pause().await {
                return Err(unavailable(OPERATION, Some(error.into())));
            }
        }
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

/// What became of a conditional write.
#[derive(Debug)]
pub(crate) enum Written {
    /// It was done; the attributes that were asked for.
    Done(Item),
    /// The condition was not met; the item that stands there.
    Unmet(Option<Item>),
}

impl Written {
    /// What stands in the way.
    pub(crate) fn stands(&self) -> Option<&Item> {
        match self {
            Self::Unmet(stands) => stands.as_ref(),
            Self::Done(_) => None,
        }
    }
}

fn filtered(mut call: QueryFluentBuilder, filter: &Filter) -> QueryFluentBuilder {
    for (name, attribute) in &filter.names {
        call = call.expression_attribute_names(*name, *attribute);
    }
    for (name, value) in &filter.values {
        call = call.expression_attribute_values(name, value.clone());
    }
    call.filter_expression(&filter.expression)
}

/// A call that cannot even be built.
pub(crate) fn refused(operation: &'static str, error: impl Error + Send + Sync + 'static) -> StoreError {
    StoreError::Refused {
        operation,
        source: Box::new(error),
    }
}
