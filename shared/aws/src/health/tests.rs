use super::*;
use crate::testing::{Reply, Script};
use serde_json::json;

fn parts() -> Parts {
    Parts {
        database_tables: vec!["segments".into(), "catalog".into()],
        cache_table: "cache".into(),
        stream_name: "stream".into(),
    }
}

async fn checked(answer: impl FnMut(&crate::testing::Call) -> Reply + Send + 'static) -> Health {
    let script = Script::answering(answer);
    let clients = script.clients();
    check(&clients.dynamodb(), &clients.kinesis(), &parts()).await
}

fn table(status: &str) -> Reply {
    Reply::Json(json!({"Table": {"TableStatus": status}}))
}

fn stream(status: &str) -> Reply {
    Reply::Json(json!({"StreamDescriptionSummary": {
        "StreamName": "stream", "StreamARN": "arn", "StreamStatus": status, "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1, "EnhancedMonitoring": [], "OpenShardCount": 1,
    }}))
}

#[tokio::test]
async fn parts_in_use_are_healthy() {
    let health = checked(|call| match call.operation.as_str() {
        "DescribeTable" => table("ACTIVE"),
        _ => stream("UPDATING"),
    })
    .await;
    assert!(health.is_healthy(), "{health:?}");
}

#[tokio::test]
async fn each_part_tells_its_own_fault() {
    let health = checked(|call| match call.body["TableName"].as_str() {
        Some("catalog") => Reply::error(400, "ResourceNotFoundException"),
        Some("cache") => table("CREATING"),
        Some(_) => table("ACTIVE"),
        None => Reply::error(503, "ServiceUnavailable"),
    })
    .await;
    let faults: Vec<(&str, &str)> = health
        .faults()
        .map(|fault| (fault.part, fault.reason.as_str()))
        .collect();
    assert_eq!(
        faults,
        [
            ("database", "cannot be reached: it does not exist, or access is denied"),
            ("cache", "is CREATING"),
            ("stream", "does not answer"),
        ]
    );
    assert!(!health.is_healthy());
}
