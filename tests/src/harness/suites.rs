//! The checks that every implementation of a store passes, run against the ones on DynamoDB with fresh tables.

use super::aws::{Aws, DYNAMODB};
use super::{eventually, now_ms, unique};
use serde_json::{Value, json};
use tidemark_aws::config::Account;
use tidemark_aws::store::Tables;
use tidemark_aws::{Clients, DynamoAlertStore, DynamoStore};

/// Makes a table as template.yaml does: on demand, `pk` a text, `sk` of the given type or none.
///
/// # Errors
/// When it is not made.
pub async fn create_table(aws: &Aws, name: &str, sort_key: Option<&str>) -> anyhow::Result<()> {
    aws.ready(DYNAMODB, "ListTables").await?;
    let mut attributes = vec![json!({"AttributeName": "pk", "AttributeType": "S"})];
    let mut keys = vec![json!({"AttributeName": "pk", "KeyType": "HASH"})];
    if let Some(kind) = sort_key {
        attributes.push(json!({"AttributeName": "sk", "AttributeType": kind}));
        keys.push(json!({"AttributeName": "sk", "KeyType": "RANGE"}));
    }
    let request = json!({
        "TableName": name, "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": attributes, "KeySchema": keys,
    });
    aws.call(DYNAMODB, "CreateTable", request).await?;
    eventually(&format!("the table {name}"), async || {
        let table = aws.call(DYNAMODB, "DescribeTable", json!({"TableName": name})).await?;
        Ok(Some(()).filter(|()| table["Table"]["TableStatus"] == "ACTIVE"))
    })
    .await
}

/// Removes a table.
///
/// # Errors
/// When it is not removed.
pub async fn delete_table(aws: &Aws, name: &str) -> anyhow::Result<Value> {
    aws.call(DYNAMODB, "DeleteTable", json!({"TableName": name})).await
}

/// Every promise of `Store`, on DynamoDB.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn store(aws: &Aws) -> anyhow::Result<()> {
    let tables = Tables {
        segments: unique("suite-segments"),
        catalog: unique("suite-catalog"),
    };
    create_table(aws, &tables.segments, Some("B")).await?;
    create_table(aws, &tables.catalog, Some("S")).await?;
    let clients = Clients::new(&Account::from_env()?);
    let store = DynamoStore::new(clients.dynamodb(), tables.clone(), now_ms);
    let kept = tidemark_testkit::store_suite::check(&store, now_ms()).await;
    delete_table(aws, &tables.segments).await?;
    delete_table(aws, &tables.catalog).await?;
    Ok(kept?)
}

/// Every promise of `AlertStore`, on DynamoDB.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn alert_store(aws: &Aws) -> anyhow::Result<()> {
    let table = unique("suite-alerts");
    create_table(aws, &table, Some("S")).await?;
    let clients = Clients::new(&Account::from_env()?);
    let store = DynamoAlertStore::new(clients.dynamodb(), &table);
    let kept = tidemark_rules::conformance::check(&store).await;
    delete_table(aws, &table).await?;
    Ok(kept?)
}
