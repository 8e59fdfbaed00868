//! The checks that every implementation of a store passes, run against the ones on DynamoDB with fresh tables.

use super::aws::{Aws, DYNAMODB};
use super::{eventually, now_ms, unique};
use serde_json::{Value, json};
use tidemark_aws::config::Account;
use tidemark_aws::store::Tables;
use tidemark_aws::{Clients, DynamoAlertStore, DynamoNotifyStore, DynamoStore};

/// The types of a table's keys, as DynamoDB names them: of `pk`, and of `sk` when it has one.
pub type KeyTypes<'a> = (&'a str, Option<&'a str>);

/// Makes a table as template.yaml does: on demand, with keys of these types.
///
/// # Errors
/// When it is not made.
pub async fn create_table(aws: &Aws, name: &str, (partition_key, sort_key): KeyTypes<'_>) -> anyhow::Result<()> {
    aws.ready(DYNAMODB, "ListTables").await?;
    let mut attributes = vec![json!({"AttributeName": "pk", "AttributeType": partition_key})];
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

/// A store on tables of its own, which [`delete_tables`] removes.
///
/// # Errors
/// When a table is not made.
pub async fn create_store(aws: &Aws, stem: &str) -> anyhow::Result<(DynamoStore, Tables)> {
    let tables = Tables {
        segments: unique(&format!("{stem}-segments")),
        catalog: unique(&format!("{stem}-catalog")),
        metrics: unique(&format!("{stem}-metrics")),
        aggregates: unique(&format!("{stem}-aggregates")),
    };
    create_table(aws, &tables.segments, ("S", Some("B"))).await?;
    create_table(aws, &tables.catalog, ("S", Some("S"))).await?;
    create_table(aws, &tables.metrics, ("B", Some("B"))).await?;
    create_table(aws, &tables.aggregates, ("B", Some("B"))).await?;
    let clients = Clients::new(&Account::from_env()?);
    let store = DynamoStore::new(clients.dynamodb(), tables.clone(), now_ms);
    Ok((store, tables))
}

/// Removes the tables of a store.
///
/// # Errors
/// When one is not removed.
pub async fn delete_tables(aws: &Aws, tables: &Tables) -> anyhow::Result<()> {
    for table in [&tables.segments, &tables.catalog, &tables.metrics, &tables.aggregates] {
        delete_table(aws, table).await?;
    }
    Ok(())
}

/// Every promise of `Store`, on DynamoDB.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn store(aws: &Aws) -> anyhow::Result<()> {
    let (store, tables) = create_store(aws, "suite").await?;
    let kept = tidemark_testkit::store_suite::check(&store, now_ms()).await;
    delete_tables(aws, &tables).await?;
    Ok(kept?)
}

/// Every promise of `AlertStore`, on DynamoDB.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn alert_store(aws: &Aws) -> anyhow::Result<()> {
    let table = unique("suite-alerts");
    create_table(aws, &table, ("S", Some("S"))).await?;
    let clients = Clients::new(&Account::from_env()?);
    let store = DynamoAlertStore::new(clients.dynamodb(), &table);
    let kept = tidemark_rules::conformance::check(&store).await;
    delete_table(aws, &table).await?;
    Ok(kept?)
}

/// Every promise of `LaneStore` and `DocumentStore`, on DynamoDB.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn notify_store(aws: &Aws) -> anyhow::Result<()> {
    let table = unique("suite-lanes");
    create_table(aws, &table, ("S", Some("S"))).await?;
    let clients = Clients::new(&Account::from_env()?);
    let store = DynamoNotifyStore::new(clients.dynamodb(), &table);
    let kept = tidemark_notify::conformance::check(&store).await;
    delete_table(aws, &table).await?;
    Ok(kept?)
}
