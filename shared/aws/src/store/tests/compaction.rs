//! Blocks and progress, on a database that loses answers and leaves items undone.

use super::*;
use tidemark_tsdb::progress::Step;
use tidemark_tsdb::tier::BlockKey;

const BUCKET: Bucket = Bucket(3);

fn quick(script: &Script) -> DynamoStore {
    store(script, Time::new(0.5).pace())
}

fn block(tier: Tier, number: u64) -> StoredBlock {
    StoredBlock {
        key: BlockKey {
            tier,
            id: SeriesId {
                name: 1,
                labels: number,
            },
            start_ms: -7_200_000,
            epoch: 2,
            part: 3,
        },
        data: vec![1, 2, 3],
        expires_at_s: NOW_MS / 1_000 + 60,
    }
}

/// Takes the first item of each call and leaves the others undone.
fn one_by_one() -> Script {
    Script::answering(|call| {
        let mut left = call.body["RequestItems"].clone();
        for requests in left.as_object_mut().unwrap().values_mut() {
            requests.as_array_mut().unwrap().remove(0);
        }
        left.as_object_mut()
            .unwrap()
            .retain(|_, requests| requests != &json!([]));
        Reply::Json(json!({"UnprocessedItems": left}))
    })
}

#[tokio::test]
async fn a_block_is_a_small_item_in_the_table_of_its_tier() {
    let script = Script::answering(|_| Reply::Json(json!({})));
    quick(&script)
        .put_blocks(Tier::ALL.map(|tier| block(tier, 9)).to_vec())
        .await
        .unwrap();
    let mut written = Vec::new();
    for call in script.calls() {
        for (table, requests) in call.body["RequestItems"].as_object().unwrap() {
            for request in requests.as_array().unwrap() {
                written.push((table.clone(), request["PutRequest"]["Item"].clone()));
            }
        }
    }
    let bytes = |item: &Value, name: &str| aws_smithy_types::base64::decode(item[name]["B"].as_str().unwrap()).unwrap();
    let seen: Vec<(&str, usize, usize)> = written
        .iter()
        .map(|(table, item)| (table.as_str(), bytes(item, "pk").len(), bytes(item, "sk").len()))
        .collect();
    assert_eq!(
        seen,
        [("aggregates", 17, 13), ("aggregates", 17, 13), ("metrics", 16, 13)]
    );
    let names: BTreeSet<&String> = written[0].1.as_object().unwrap().keys().collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["data", "expires_at", "pk", "sk"]
    );
    // A write's item is what a read gives back.
    let script = Script::new([Reply::Json(json!({"Items": [written[2].1]}))]);
    let found = quick(&script)
        .blocks(Tier::Raw, block(Tier::Raw, 9).key.id, -7_200_000, 0)
        .await;
    assert_eq!(found.unwrap(), [block(Tier::Raw, 9)]);
    let body = &script.calls()[0].body;
    assert_eq!(body["TableName"], "metrics");
    assert_eq!(body["ConsistentRead"], true);
    assert_eq!(
        body["KeyConditionExpression"],
        "#pk = :pk AND #sk BETWEEN :least AND :greatest"
    );
}

#[tokio::test]
async fn blocks_that_were_not_processed_are_written_and_deleted_again() {
    let blocks: Vec<StoredBlock> = (0..60).map(|number| block(Tier::Raw, number)).collect();
    let keys: Vec<BlockKey> = blocks.iter().map(|block| block.key).collect();
    for deleting in [false, true] {
        let script = one_by_one();
        let store = store(&script, Time::new(0.1).pace());
        if deleting {
            store.delete_blocks([&keys[..], &keys].concat()).await.unwrap();
        } else {
            store.put_blocks([&blocks[..], &blocks].concat()).await.unwrap();
        }
        // 60 calls take the 60 items, one each.
        assert_eq!(script.calls().len(), 60);
        assert_eq!(store.consumed().of("metrics").calls, 60);
        assert_eq!(store.consumed().of("aggregates"), crate::Units::default());
    }
}

#[tokio::test]
async fn each_two_thousand_blocks_have_their_own_time() {
    let time = Time::new(0.5);
    let clock = time.clone();
    // The database takes its time for each call: together more than one write may take.
    let script = Script::answering(move |_| {
        clock.advance(Duration::from_millis(150));
        Reply::Json(json!({}))
    });
    let blocks = (0..4_000).map(|number| block(Tier::Raw, number)).collect();
    store(&script, time.pace()).put_blocks(blocks).await.unwrap();
    assert_eq!(script.calls().len(), 160);
}

#[tokio::test]
async fn a_block_that_has_expired_is_not_read() {
    let mut expired = block(Tier::Minute, 1);
    expired.expires_at_s = NOW_MS / 1_000;
    let items = items_of(async |store| {
        store.put_blocks(vec![expired, block(Tier::Minute, 2)]).await.unwrap();
    })
    .await;
    let script = Script::new([Reply::Json(json!({ "Items": items }))]);
    let found = quick(&script)
        .blocks(Tier::Minute, SeriesId { name: 1, labels: 1 }, 0, 1)
        .await;
    assert_eq!(found.unwrap(), [block(Tier::Minute, 2)]);
}

#[tokio::test]
async fn an_item_that_is_no_block_is_reported() {
    let item = json!({"pk": {"B": "AAAA"}, "sk": {"B": "AAAA"}, "data": {"B": ""}, "expires_at": {"N": "1795000100"}});
    let script = Script::new([Reply::Json(json!({"Items": [item]}))]);
    let error = quick(&script)
        .blocks(Tier::Raw, SeriesId { name: 1, labels: 1 }, 0, 1)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "000000 / 000000 cannot be read: `3 bytes / 3 bytes` is no key that Tidemark writes"
    );
}

#[tokio::test]
async fn a_range_that_ends_before_it_begins_is_no_call() {
    let script = Script::new([]);
    let found = quick(&script)
        .blocks(Tier::Raw, SeriesId { name: 1, labels: 1 }, 1, 0)
        .await;
    assert_eq!(found.unwrap(), []);
}

/// The progress item after the update of a call, as far as these tests need it.
fn item(attributes: &[(&str, i64)]) -> Value {
    let mut item = json!({"pk": {"S": "progress#3"}, "sk": {"S": "-"}});
    for (name, value) in attributes {
        item[*name] = json!({"N": value.to_string()});
    }
    item
}

fn unmet(item: Value) -> Reply {
    Reply::Error(400, "ConditionalCheckFailedException", json!({ "Item": item }))
}

/// Does the first update but loses its answer, and answers its repetition with the item as it was left.
fn losing(left: impl Fn(&Call) -> Value + Send + 'static) -> Script {
    let mut calls = 0;
    Script::answering(move |call| {
        calls += 1;
        if calls == 1 { Reply::Reset } else { unmet(left(call)) }
    })
}

#[tokio::test]
async fn a_pass_whose_beginning_was_not_answered_has_begun() {
    let script = losing(|call| {
        let mut item = item(&[("epoch", 5), ("leased_until_ms", 70), ("dirty_0", 2)]);
        item["pass"] = call.body["ExpressionAttributeValues"][":pass"].clone();
        item
    });
    let began = quick(&script).begin_pass(BUCKET, 4, 70).await.unwrap().unwrap();
    assert_eq!((began.epoch, began.leased_until_ms), (5, 70));
    assert_eq!(began.dirty, [(Window { start_ms: 0 }, 2)].into());
    let calls = script.calls();
    assert_eq!(calls.len(), 2, "the SDK asks again");
    assert_eq!(calls[0].body["ConditionExpression"], "#epoch = :epoch");
}

#[tokio::test]
async fn a_pass_of_somebody_else_with_the_same_number_and_lease_is_not_taken_for_ones_own() {
    let script = losing(|_| item(&[("epoch", 5), ("leased_until_ms", 70), ("pass", 1)]));
    assert_eq!(quick(&script).begin_pass(BUCKET, 4, 70).await.unwrap(), None);
}

#[tokio::test]
async fn the_first_pass_needs_no_item() {
    let script = Script::new([
        Reply::Json(json!({"Attributes": item(&[("epoch", 1), ("leased_until_ms", 70)])})),
        unmet(item(&[("epoch", 1)])),
    ]);
    let store = quick(&script);
    assert_eq!(store.begin_pass(BUCKET, 0, 70).await.unwrap().unwrap().epoch, 1);
    assert_eq!(store.begin_pass(BUCKET, 0, 70).await.unwrap(), None);
    assert_eq!(
        script.calls()[0].body["ConditionExpression"],
        "attribute_not_exists(#epoch) OR #epoch = :epoch"
    );
}

#[tokio::test]
async fn a_boundary_that_stands_there_or_further_is_reached_in_the_same_pass_only() {
    for (stands, reached) in [
        (item(&[("epoch", 4), ("closed_before_ms", 7)]), true),
        (item(&[("epoch", 4), ("closed_before_ms", 8)]), true),
        (item(&[("epoch", 5), ("closed_before_ms", 7)]), false),
        (item(&[("epoch", 5)]), false),
    ] {
        let script = losing(move |_| stands.clone());
        let step = Step::Close { before_ms: 7 };
        assert_eq!(quick(&script).advance_progress(BUCKET, 4, step).await.unwrap(), reached);
    }
}

#[tokio::test]
async fn a_fold_whose_answer_was_lost_takes_no_newer_mark_away() {
    // The fold was done, then the window was marked anew, once, as often as before.
    let script = losing(|call| {
        let condition = call.body["ConditionExpression"].as_str().unwrap();
        assert!(
            condition.contains("attribute_not_exists(#folded) OR #folded < :epoch"),
            "{condition}"
        );
        item(&[("epoch", 4), ("folded_7200000", 4), ("dirty_7200000", 1)])
    });
    let step = Step::Folded {
        window: Window { start_ms: 7_200_000 },
        marks: 1,
    };
    assert!(quick(&script).advance_progress(BUCKET, 4, step).await.unwrap());
    // Marked before it was folded: nothing is folded.
    let script = Script::new([unmet(item(&[
        ("epoch", 4),
        ("folded_7200000", 3),
        ("dirty_7200000", 2),
    ]))]);
    assert!(!quick(&script).advance_progress(BUCKET, 4, step).await.unwrap());
    let names = &script.calls()[0].body["ExpressionAttributeNames"];
    assert_eq!(names["#dirty"], "dirty_7200000");
}

#[tokio::test]
async fn a_pass_that_ends_forgets_old_windows_in_a_second_call() {
    let full = item(&[
        ("epoch", 4),
        ("dirty_-7200000", 1),
        ("folded_0", 2),
        ("dirty_7200000", 1),
    ]);
    let script = Script::new([Reply::Json(json!({ "Attributes": full })), Reply::Json(json!({}))]);
    let step = Step::Release {
        forget_before_ms: 7_200_000,
    };
    assert!(quick(&script).advance_progress(BUCKET, 4, step).await.unwrap());
    let second = &script.calls()[1].body;
    let names: BTreeSet<&str> = second["ExpressionAttributeNames"]
        .as_object()
        .unwrap()
        .values()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(names, BTreeSet::from(["dirty_-7200000", "epoch", "folded_0"]));
    assert_eq!(second["ConditionExpression"], "#epoch = :epoch");
    // Nothing to forget is no second call.
    let script = Script::new([Reply::Json(json!({"Attributes": item(&[("epoch", 4)])}))]);
    assert!(quick(&script).advance_progress(BUCKET, 4, step).await.unwrap());
}

#[tokio::test]
async fn marks_of_one_window_are_added_once() {
    let script = Script::new([Reply::Json(json!({}))]);
    let windows = [7, 5, 7].map(|start_ms| Window { start_ms });
    quick(&script).mark_dirty(BUCKET, &windows).await.unwrap();
    let body = &script.calls()[0].body;
    assert_eq!(body["UpdateExpression"], "ADD #all :all, #w0 :w0, #w1 :w1");
    let values = &body["ExpressionAttributeValues"];
    let marks = [":all", ":w0", ":w1"].map(|name| values[name]["N"].as_str().unwrap());
    assert_eq!(marks, ["3", "1", "2"]);
    assert_eq!(body["ExpressionAttributeNames"]["#w1"], "dirty_7");
}

#[tokio::test]
async fn a_progress_that_cannot_be_read_is_reported() {
    let script = Script::new([Reply::Json(json!({"Item": item(&[("epoch", -1)])}))]);
    let error = quick(&script).progress(BUCKET).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "progress#3 / - cannot be read: `epoch` is out of range"
    );
}

#[tokio::test]
async fn a_division_that_somebody_else_stored_meanwhile_holds() {
    let stored =
        json!({"pk": {"S": "division"}, "sk": {"S": "-"}, "buckets": {"N": "8"}, "window_seconds": {"N": "3600"}});
    let script = Script::new([Reply::Json(json!({})), unmet(stored)]);
    let stands = quick(&script).pin_division(OURS).await.unwrap();
    assert_eq!((stands.buckets, stands.window_seconds), (8, 3_600));
}

const OURS: Division = Division {
    buckets: 16,
    window_seconds: 7_200,
    raw_retention_s: 700,
    minute_retention_s: 3_000,
};

fn stored_division(retentions: Option<(u32, u32)>) -> Value {
    let mut item =
        json!({"pk": {"S": "division"}, "sk": {"S": "-"}, "buckets": {"N": "16"}, "window_seconds": {"N": "7200"}});
    if let Some((raw, minute)) = retentions {
        item["raw_retention_s"] = json!({"N": raw.to_string()});
        item["minute_retention_s"] = json!({"N": minute.to_string()});
    }
    item
}

#[tokio::test]
async fn an_item_that_pins_no_retention_takes_the_configured_one() {
    let script = Script::new([
        Reply::Json(json!({"Item": stored_division(None)})),
        Reply::Json(json!({})),
    ]);
    assert_eq!(quick(&script).pin_division(OURS).await.unwrap(), OURS);
    let body = &script.calls()[1].body;
    let condition = "attribute_not_exists(#raw) AND attribute_not_exists(#minute)";
    assert_eq!(body["ConditionExpression"], condition);
    assert_eq!(body["ExpressionAttributeValues"][":raw"]["N"], "700");
}

#[tokio::test]
async fn retentions_are_lowered_each_by_itself_also_when_somebody_else_lowers_them() {
    let script = Script::new([
        Reply::Json(json!({"Item": stored_division(Some((900, 2_000)))})),
        unmet(stored_division(Some((800, 1_000)))),
        Reply::Json(json!({})),
    ]);
    let stands = quick(&script).pin_division(OURS).await.unwrap();
    assert_eq!((stands.raw_retention_s, stands.minute_retention_s), (700, 1_000));
    let body = &script.calls()[2].body;
    assert_eq!(
        body["ConditionExpression"],
        "#raw = :raw_before AND #minute = :minute_before"
    );
    let values = &body["ExpressionAttributeValues"];
    let numbers = [":raw", ":minute", ":raw_before", ":minute_before"].map(|name| values[name]["N"].as_str().unwrap());
    assert_eq!(numbers, ["700", "1000", "800", "1000"]);
}

#[tokio::test]
async fn retentions_that_are_shorter_already_are_left_alone() {
    let script = Script::new([Reply::Json(json!({"Item": stored_division(Some((300, 3_000)))}))]);
    let stands = quick(&script).pin_division(OURS).await.unwrap();
    assert_eq!((stands.raw_retention_s, stands.minute_retention_s), (300, 3_000));
}
