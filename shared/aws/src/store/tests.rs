mod compaction;

use super::*;
use crate::testing::{Call, Reply, Script, Time};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tidemark_model::Labels;

const NOW_MS: i64 = 1_795_000_000_000;

fn store(script: &Script, pace: Pace) -> DynamoStore {
    let tables = Tables {
        segments: "segments".into(),
        catalog: "catalog".into(),
        metrics: "metrics".into(),
        aggregates: "aggregates".into(),
    };
    DynamoStore::with(script.clients().dynamodb(), tables, || NOW_MS, pace)
}

fn sequence(number: u64) -> SequenceNumber {
    SequenceNumber::parse(&number.to_string()).unwrap()
}

fn segment(number: u64) -> StoredSegment {
    StoredSegment {
        bucket: Bucket(3),
        window: Window { start_ms: 7_200_000 },
        late: false,
        order: SegmentOrder {
            arrival_ms: number,
            last: sequence(number),
            shard: 0,
            first_hash: number,
            part: 0,
            last_part: 0,
        },
        data: vec![number as u8; 10],
        expires_at_s: NOW_MS / 1_000 + 60,
    }
}

fn checkpoint(number: u64) -> Checkpoint {
    Checkpoint {
        sequence: sequence(number),
        arrival_ms: number,
        records: number,
        samples: number * 10,
        time_range_ms: Some((-5, 5)),
    }
}

fn requests(call: &Call) -> Vec<Value> {
    call.body["RequestItems"]["segments"].as_array().unwrap().clone()
}

fn sort_key(request: &Value) -> String {
    request["PutRequest"]["Item"]["sk"]["B"].as_str().unwrap().to_owned()
}

/// A table that takes each item with a chance of one in three, and remembers which.
fn reluctant_table(taken: Arc<Mutex<Vec<String>>>) -> Script {
    let mut state = 7_u64;
    Script::answering(move |call| {
        let mut left = Vec::new();
        for request in requests(call) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if (state >> 33).is_multiple_of(3) {
                taken.lock().unwrap().push(sort_key(&request));
            } else {
                left.push(request);
            }
        }
        let capacity = json!([{"TableName": "segments", "CapacityUnits": 2.0}]);
        let unprocessed = if left.is_empty() {
            json!({})
        } else {
            json!({ "segments": left })
        };
        Reply::Json(json!({"UnprocessedItems": unprocessed, "ConsumedCapacity": capacity}))
    })
}

#[tokio::test]
async fn only_unprocessed_items_are_written_again_and_none_is_lost() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let script = reluctant_table(Arc::clone(&taken));
    let store = store(&script, Time::new(0.1).pace());
    store.put_segments((0..110).map(segment).collect()).await.unwrap();
    let taken = taken.lock().unwrap().clone();
    let distinct: BTreeSet<&String> = taken.iter().collect();
    assert_eq!((taken.len(), distinct.len()), (110, 110), "every item once");
    assert!(script.calls().iter().all(|call| requests(call).len() <= 25));
    let units = store.consumed().of("segments");
    assert_eq!(units.calls as usize, script.calls().len());
    assert!((units.write - 2.0 * units.calls as f64).abs() < 1e-9);
    assert_eq!(store.consumed().of("catalog"), crate::Units::default());
}

#[tokio::test]
async fn a_table_that_takes_nothing_is_given_up_at_the_deadline() {
    let script = Script::answering(|call| Reply::Json(json!({"UnprocessedItems": call.body["RequestItems"]})));
    let time = Time::new(1.0);
    let error = store(&script, time.pace())
        .put_segments(vec![segment(1)])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert_eq!(
        tidemark_tsdb::answer::chain(&error),
        "BatchWriteItem was throttled or timed out: 1 of 1 entries were not taken: unprocessed"
    );
    let waited: Duration = time.pauses().iter().sum();
    assert!(
        waited > Duration::from_secs(13) && waited < Duration::from_secs(15),
        "{waited:?}"
    );
}

#[tokio::test]
async fn a_throttled_call_is_repeated_and_a_refused_one_is_not() {
    let script = Script::new([
        Reply::error(400, "ProvisionedThroughputExceededException"),
        Reply::error(500, "InternalServerError"),
        Reply::Reset,
        Reply::error(400, "ThrottlingException"),
        Reply::Json(json!({})),
    ]);
    store(&script, Time::new(0.5).pace())
        .put_segments(vec![segment(1)])
        .await
        .unwrap();
    assert_eq!(script.calls().len(), 5);

    let script = Script::new([Reply::error(400, "ResourceNotFoundException")]);
    let error = store(&script, Time::new(0.5).pace())
        .put_segments(vec![segment(1)])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_database_that_hangs_ends_with_the_deadline() {
    let script = Script::answering(|_| Reply::Hang);
    let mut store = store(&script, Pace::real());
    store.database.limit = Duration::from_millis(30);
    let error = store.put_segments(vec![segment(1)]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { source: None, .. }),
        "{error:?}"
    );
    let error = store
        .segments(Bucket(1), Window { start_ms: 0 }, None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { operation: "Query", .. }),
        "{error:?}"
    );
    assert!(store.checkpoint(&ShardId("s".into())).await.is_err());
    assert!(
        store
            .advance_checkpoint(&ShardId("s".into()), None, &checkpoint(1))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn one_key_twice_in_a_batch_is_one_item_the_later_one() {
    let script = Script::new([Reply::Json(json!({}))]);
    let mut later = segment(1);
    later.data = vec![9];
    store(&script, Time::new(0.5).pace())
        .put_segments(vec![segment(1), later])
        .await
        .unwrap();
    let written = requests(&script.calls()[0]);
    assert_eq!(written.len(), 1);
    assert_eq!(written[0]["PutRequest"]["Item"]["data"]["B"], "CQ==");
}

#[tokio::test]
async fn nothing_to_write_is_no_call() {
    let script = Script::new([]);
    let store = store(&script, Time::new(0.5).pace());
    store.put_segments(Vec::new()).await.unwrap();
    store.add_to_catalog(Vec::new()).await.unwrap();
    assert!(script.calls().is_empty());
}

/// What a put would store, as a query would give it back.
async fn items_of(write: impl AsyncFnOnce(&DynamoStore)) -> Vec<Value> {
    let script = Script::answering(|_| Reply::Json(json!({})));
    write(&store(&script, Time::new(0.5).pace())).await;
    let mut items = Vec::new();
    for call in script.calls() {
        for requests in call.body["RequestItems"].as_object().unwrap().values() {
            items.extend(
                requests
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|request| request["PutRequest"]["Item"].clone()),
            );
        }
    }
    items
}

#[tokio::test]
async fn segments_are_read_page_by_page_without_the_expired() {
    let mut expired = segment(2);
    expired.expires_at_s = NOW_MS / 1_000;
    let items = items_of(async |store| {
        let segments = vec![segment(1), expired, segment(3)];
        store.put_segments(segments).await.unwrap();
    })
    .await;
    let last_key = json!({"pk": items[1]["pk"], "sk": items[1]["sk"]});
    let script = Script::new([
        Reply::Json(
            json!({"Items": items[..2], "LastEvaluatedKey": last_key, "ConsumedCapacity": {"CapacityUnits": 1.5}}),
        ),
        // A page may be empty although more follow.
        Reply::Json(json!({"Items": [], "LastEvaluatedKey": last_key, "ConsumedCapacity": {"CapacityUnits": 0.5}})),
        Reply::Json(json!({"Items": items[2..], "ConsumedCapacity": {"CapacityUnits": 1.0}})),
    ]);
    let store = store(&script, Time::new(0.5).pace());
    let found = store
        .segments(Bucket(3), Window { start_ms: 7_200_000 }, None)
        .await
        .unwrap();
    assert_eq!(found, [segment(1), segment(3)]);
    let calls = script.calls();
    assert_eq!(calls[0].body["ConsistentRead"], true);
    assert_eq!(calls[0].body["ExpressionAttributeValues"][":pk"]["S"], "3#7200000");
    assert_eq!(calls[2].body["ExclusiveStartKey"], last_key);
    assert!((store.consumed().of("segments").read - 3.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_page_that_is_throttled_is_asked_for_again_and_each_has_its_own_time() {
    let items = items_of(async |store| store.put_segments((0..4).map(segment).collect()).await.unwrap()).await;
    let time = Time::new(0.5);
    let (clock, mut asked, mut page) = (time.clone(), 0, 0);
    let script = Script::answering(move |call| {
        // More often than the SDK asks by itself.
        asked += 1;
        if asked % 5 != 0 {
            return Reply::error(400, "ThrottlingException");
        }
        clock.advance(Duration::from_secs(5));
        let body = &call.body["ExclusiveStartKey"]["sk"];
        let before: &Value = if page == 0 {
            &Value::Null
        } else {
            &items[page - 1]["sk"]
        };
        assert_eq!(body, before, "the page after the last one that was given");
        page += 1;
        let item = &items[page - 1];
        let mut answer = json!({"Items": [item]});
        if page < items.len() {
            answer["LastEvaluatedKey"] = json!({"pk": item["pk"], "sk": item["sk"]});
        }
        Reply::Json(answer)
    });
    let store = store(&script, time.pace());
    let window = Window { start_ms: 7_200_000 };
    let found = store.segments(Bucket(3), window, None).await.unwrap();
    assert_eq!(found.len(), 4, "in 20 s, 5 s a page");
}

#[tokio::test]
async fn a_page_that_is_never_given_ends_with_its_time() {
    let script = Script::answering(|_| Reply::error(400, "ThrottlingException"));
    let time = Time::new(1.0);
    let store = store(&script, time.pace());
    let window = Window { start_ms: 7_200_000 };
    let error = store.segments(Bucket(3), window, None).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unavailable { operation: "Query", .. }),
        "{error:?}"
    );
    let waited: Duration = time.pauses().iter().sum();
    assert!(
        waited > Duration::from_secs(13) && waited < Duration::from_secs(15),
        "{waited:?}"
    );

    let script = Script::new([Reply::error(400, "ResourceNotFoundException")]);
    let store = super::tests::store(&script, Time::new(0.5).pace());
    let error = store.segments(Bucket(3), window, None).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_reader_asks_only_for_what_it_does_not_know_and_for_what_came_late() {
    let script = Script::answering(|_| Reply::Json(json!({"Items": []})));
    let store = store(&script, Time::new(0.5).pace());
    let known = segment(5).order;
    let window = Window { start_ms: 7_200_000 };
    store.segments(Bucket(3), window, Some(known)).await.unwrap();
    store.catalog("cpu", Period(692), Some(NOW_MS)).await.unwrap();
    let calls = script.calls();
    let condition = "#pk = :pk AND #sk > :after";
    for call in &calls {
        assert_eq!(call.body["KeyConditionExpression"], condition);
        assert_eq!(call.body["ConsistentRead"], true);
    }
    let sent = &calls[0].body["ExpressionAttributeValues"][":after"]["B"];
    let wanted = aws_smithy_types::base64::encode(SegmentKey::sort_key(false, known));
    assert_eq!(*sent, wanted);
    let sent = &calls[1].body["ExpressionAttributeValues"][":after"]["S"];
    assert_eq!(*sent, "1795000000001");
}

fn new_entry(metric: &str, value: &str, reference: u32) -> NewCatalogEntry {
    let labels = Labels::from_pairs([("host", value), ("empty", ""), ("ключ", "значение")]).unwrap();
    NewCatalogEntry {
        metric: metric.into(),
        period: Period(692),
        entry: CatalogEntry {
            id: SeriesId::new(metric, labels.iter()),
            reference,
            labels,
            first_seen_ms: NOW_MS,
            late: false,
        },
        expires_at_s: NOW_MS / 1_000 + 10,
    }
}

#[tokio::test]
async fn a_catalog_entry_is_written_with_its_name_once_and_read_back() {
    let entries = vec![
        new_entry("cpu", "a", 1),
        new_entry("cpu", "b", 2),
        new_entry("cpu", "a", 1),
    ];
    let items = items_of(async |store| store.add_to_catalog(entries).await.unwrap()).await;
    let names = items.iter().filter(|item| item["pk"]["S"] == "names#692").count();
    let series: Vec<&Value> = items
        .iter()
        .filter(|item| item["pk"]["S"] == "series#692#cpu")
        .collect();
    assert_eq!((names, series.len()), (1, 2));
    let script = Script::new([Reply::Json(json!({ "Items": series }))]);
    let mut found = store(&script, Time::new(0.5).pace())
        .catalog("cpu", Period(692), None)
        .await
        .unwrap();
    found.sort_by_key(|entry| entry.reference);
    assert_eq!(found, [new_entry("cpu", "a", 1).entry, new_entry("cpu", "b", 2).entry]);
}

#[tokio::test]
async fn no_series_is_written_before_the_names_are() {
    // The names are throttled, then taken; then the series are, and never get through.
    let mut names_asked = 0;
    let script = Script::answering(move |call| {
        let requests = call.body["RequestItems"]["catalog"].as_array().unwrap();
        let is_name = |request: &Value| request["PutRequest"]["Item"]["pk"]["S"] == "names#692";
        if !requests.iter().all(is_name) {
            assert!(!requests.iter().any(is_name), "names and series in one call");
            assert!(names_asked > 2, "series before names");
            return Reply::Json(json!({"UnprocessedItems": call.body["RequestItems"]}));
        }
        names_asked += 1;
        match names_asked {
            1 => Reply::error(400, "ThrottlingException"),
            2 => Reply::Json(json!({"UnprocessedItems": {"catalog": [requests[0]]}})),
            _ => Reply::Json(json!({})),
        }
    });
    let entries: Vec<NewCatalogEntry> = (0..60)
        .map(|at| new_entry(&format!("m{}", at % 30), &at.to_string(), at))
        .collect();
    let store = store(&script, Time::new(0.5).pace());
    assert!(store.add_to_catalog(entries).await.is_err());

    let script = Script::answering(|call| Reply::Json(json!({"UnprocessedItems": call.body["RequestItems"]})));
    let store = super::tests::store(&script, Time::new(0.5).pace());
    assert!(store.add_to_catalog(vec![new_entry("cpu", "a", 1)]).await.is_err());
    assert!(
        script.calls().iter().all(|call| !call.text.contains("series#")),
        "no series without its name"
    );
}

#[tokio::test]
async fn labels_that_are_not_those_of_the_series_are_reported() {
    let items = items_of(async |store| store.add_to_catalog(vec![new_entry("cpu", "a", 1)]).await.unwrap()).await;
    let mut item = items
        .iter()
        .find(|item| item["pk"]["S"] == "series#692#cpu")
        .unwrap()
        .clone();
    item["labels"]["M"]["host"]["S"] = "b".into();
    let script = Script::new([Reply::Json(json!({ "Items": [item] }))]);
    let error = store(&script, Time::new(0.5).pace())
        .catalog("cpu", Period(692), None)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("the labels are not those of the series id"),
        "{error}"
    );
}

#[tokio::test]
async fn references_come_from_one_counter_until_it_is_full() {
    let answer = |next: u64| Reply::Json(json!({"Attributes": {"next": {"N": next.to_string()}}}));
    let script = Script::new([answer(10), answer(1 << 32), answer((1 << 32) + 1)]);
    let store = store(&script, Time::new(0.5).pace());
    assert_eq!(store.allocate_references(Bucket(5), 10).await.unwrap(), 0);
    assert_eq!(store.allocate_references(Bucket(5), 1).await.unwrap(), u32::MAX);
    assert!(matches!(
        store.allocate_references(Bucket(5), 1).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(
        script.calls()[0].body["Key"],
        json!({"pk": {"S": "references#5"}, "sk": {"S": "-"}})
    );
}

fn stored_checkpoint(number: u64) -> Value {
    json!({
        "pk": {"S": "checkpoints"}, "sk": {"S": "shardId-1"}, "sequence": {"S": number.to_string()},
        "arrival_ms": {"N": number.to_string()},
        "records": {"N": number.to_string()}, "samples": {"N": (number * 10).to_string()},
        "oldest_ms": {"N": "-5"}, "newest_ms": {"N": "5"},
    })
}

#[tokio::test]
async fn a_checkpoint_moves_only_from_where_the_caller_saw_it() {
    let shard = ShardId("shardId-1".into());
    let unmet = |number| {
        Reply::Error(
            400,
            "ConditionalCheckFailedException",
            json!({"Item": stored_checkpoint(number)}),
        )
    };
    let script = Script::new([Reply::Json(json!({})), unmet(3), unmet(2), Reply::Json(json!({}))]);
    let store = store(&script, Time::new(0.5).pace());
    let advance = async |from: Option<u64>| {
        store
            .advance_checkpoint(&shard, from.map(sequence), &checkpoint(2))
            .await
            .unwrap()
    };
    assert_eq!(advance(None).await, Advance::Moved);
    assert_eq!(advance(Some(1)).await, Advance::Elsewhere(checkpoint(3)));
    assert_eq!(
        advance(Some(1)).await,
        Advance::Moved,
        "its own write, whose answer was lost"
    );
    assert_eq!(advance(Some(1)).await, Advance::Moved);
    let calls = script.calls();
    assert_eq!(calls[0].body["ConditionExpression"], "attribute_not_exists(#pk)");
    assert_eq!(calls[1].body["ExpressionAttributeValues"][":from"]["S"], "1");
    assert_eq!(calls[1].body["Item"], stored_checkpoint(2));
}

#[tokio::test]
async fn checkpoints_are_read_back() {
    let shard = ShardId("shardId-1".into());
    let script = Script::new([
        Reply::Json(json!({"Item": stored_checkpoint(4)})),
        Reply::Json(json!({})),
        Reply::Json(json!({"Items": [stored_checkpoint(4)]})),
        Reply::Json(json!({"Item": {"pk": {"S": "checkpoints"}, "sk": {"S": "shardId-1"}, "sequence": {"S": "x"}}})),
    ]);
    let store = store(&script, Time::new(0.5).pace());
    assert_eq!(store.checkpoint(&shard).await.unwrap(), Some(checkpoint(4)));
    assert_eq!(store.checkpoint(&shard).await.unwrap(), None);
    assert_eq!(store.checkpoints().await.unwrap(), [(shard.clone(), checkpoint(4))]);
    let error = store.checkpoint(&shard).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "checkpoints / shardId-1 cannot be read: `sequence` is no sequence number"
    );
}
