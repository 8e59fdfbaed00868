use super::*;
use crate::testing::{Reply, Script};
use serde_json::json;

fn parts() -> Parts {
    Parts {
        database_tables: vec!["segments".into(), "catalog".into()],
        cache_table: "cache".into(),
        catalog_table: "catalog".into(),
        division: Division {
            buckets: 16,
            window_seconds: 7_200,
            raw_retention_s: 7 * 86_400,
            minute_retention_s: 30 * 86_400,
        },
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

fn division(buckets: u16, raw_days: Option<u32>) -> Reply {
    let place = CatalogKey::Division;
    let buckets = json!({"N": buckets.to_string()});
    let mut item = json!({
        "pk": {"S": place.pk()}, "sk": {"S": place.sk()}, "buckets": buckets, "window_seconds": {"N": "7200"},
    });
    if let Some(days) = raw_days {
        item["raw_retention_s"] = json!({"N": (days * 86_400).to_string()});
    }
    Reply::Json(json!({ "Item": item }))
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
        "GetItem" if call.body["TableName"] == "catalog" => division(16, None),
        "GetItem" => Reply::Json(json!({})),
        _ => stream("UPDATING"),
    })
    .await;
    assert!(health.is_healthy(), "{health:?}");
}

#[tokio::test]
async fn each_part_tells_its_own_fault() {
    let health = checked(|call| match call.body["TableName"].as_str() {
        Some("catalog") => Reply::error(400, "ResourceNotFoundException"),
        Some("cache") => Reply::error(400, "AccessDeniedException"),
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
            ("cache", "cannot be reached: it does not exist, or access is denied"),
            ("stream", "does not answer"),
        ]
    );
    assert!(!health.is_healthy());
}

#[tokio::test]
async fn a_table_that_is_being_made_or_divided_otherwise_is_not_healthy() {
    let reason = async |status: &'static str, buckets: u16, raw_days: u32| {
        let health = checked(
            move |call| match (call.operation.as_str(), call.body["TableName"].as_str()) {
                ("DescribeTable", _) => table(status),
                ("GetItem", Some("catalog")) => division(buckets, Some(raw_days)),
                ("GetItem", _) => Reply::Json(json!({})),
                _ => stream("ACTIVE"),
            },
        )
        .await;
        assert_eq!((&health.cache, &health.stream), (&None, &None));
        health.database.unwrap().reason
    };
    assert_eq!(reason("CREATING", 16, 7).await, "is CREATING");
    assert_eq!(
        reason("ACTIVE", 8, 7).await,
        "is not what this function is configured for: the tables are divided into 8 buckets and windows of 7200 s, this function \
         is configured for 16 buckets and windows of 7200 s: neither can be changed while the tables live"
    );
    assert_eq!(
        reason("ACTIVE", 16, 3).await,
        "is not what this function is configured for: RawRetentionDays is 7, but the tables hold data that was written to live \
         for 3: it may be lowered, never raised while the tables live; set it to 3 or less"
    );
}
