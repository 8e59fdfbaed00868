use super::*;
use crate::testing::{Call, Reply, Script, Time};
use serde_json::{Value, json};
use tidemark_model::Labels;
use tidemark_notify::settings::MuteTime;
use tidemark_rules::{RuleSnapshot, Severity, TransitionReason};

const LANE: &str = "channel#ops";

fn store(script: &Script) -> DynamoNotifyStore {
    DynamoNotifyStore::with(script.clients().dynamodb(), "alerts", Time::new(0.5).pace())
}

fn event(kind: TransitionKind, beat: Option<i64>) -> TransitionEvent {
    TransitionEvent {
        schema_version: TransitionEvent::SCHEMA_VERSION,
        id: "t".into(),
        instance_id: "rule-1.abc".into(),
        fingerprint: "abc".into(),
        kind,
        reason: TransitionReason::ConditionHeld,
        at: Timestamp(1_000),
        pending_since: None,
        firing_since: Timestamp(1_000),
        resolved_at: None,
        value: f64::NAN,
        labels: Labels::default(),
        annotations: Default::default(),
        rule: RuleSnapshot {
            id: "rule-1".into(),
            version: 1,
            name: "high".into(),
            query: json!({}),
            severity: Severity::Critical,
            alert_labels: Default::default(),
            notification_channels: Vec::new(),
            webhook_url: None,
            repeat_interval_seconds: None,
        },
        beat: beat.map(Timestamp),
        previous: None,
    }
}

fn mute_time(version: u64) -> MuteTime {
    MuteTime {
        id: "nights".into(),
        time_intervals: Vec::new(),
        version,
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    }
}

fn done() -> Reply {
    Reply::Json(json!({}))
}

fn unmet(item: Value) -> Reply {
    Reply::Error(400, "ConditionalCheckFailedException", json!({ "Item": item }))
}

fn canceled(codes: [&str; 2]) -> Reply {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code })).collect();
    Reply::Error(
        400,
        "TransactionCanceledException",
        json!({ "CancellationReasons": reasons }),
    )
}

fn expression(call: &Call, name: &str) -> String {
    call.body[name].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_event_is_enlisted_in_one_step_with_the_question_to_the_log() {
    const MET: &str = "None";
    const UNMET: &str = "ConditionalCheckFailed";
    let script = Script::new([
        done(),
        canceled([UNMET, MET]),
        canceled([MET, UNMET]),
        canceled([UNMET, UNMET]),
        canceled(["TransactionConflict", MET]),
        done(),
    ]);
    let store = store(&script);
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        let firing = event(TransitionKind::Firing, None);
        outcomes.push(store.enlist(LANE, &firing, Timestamp(5)).await.unwrap());
    }
    use Enlisted::{InLane, Settled};
    assert_eq!(outcomes, [InLane, Settled, InLane, Settled, InLane]);
    let writes = &script.calls()[0].body["TransactItems"];
    assert_eq!(
        writes[0]["ConditionCheck"]["Key"],
        json!({"pk": {"S": "settled#rule-1.abc.1000"}, "sk": {"S": LANE}})
    );
    assert_eq!(
        writes[1]["Update"]["Key"],
        json!({"pk": {"S": "lane#channel#ops"}, "sk": {"S": "m#rule-1.abc.1000"}})
    );
}

#[tokio::test]
async fn a_member_is_replaced_by_a_resolve_and_by_a_later_beat() {
    let script = Script::answering(|_| done());
    let store = store(&script);
    for (kind, beat) in [
        (TransitionKind::Firing, None),
        (TransitionKind::Resolved, None),
        (TransitionKind::Firing, Some(7)),
    ] {
        store.enlist(LANE, &event(kind, beat), Timestamp(5)).await.unwrap();
    }
    let updates: Vec<Value> = script
        .calls()
        .iter()
        .map(|call| call.body["TransactItems"][1]["Update"].clone())
        .collect();
    let conditions: Vec<&str> = updates
        .iter()
        .map(|update| update["ConditionExpression"].as_str().unwrap())
        .collect();
    assert_eq!(
        conditions,
        [
            "attribute_not_exists(#pk)",
            "attribute_not_exists(#pk) OR #kind <> :kind",
            "attribute_not_exists(#pk) OR (#kind = :kind AND (attribute_not_exists(#beat) OR #beat < :beat))",
        ]
    );
    assert_eq!(updates[2]["ExpressionAttributeValues"][":beat"]["N"], "7");
    // DynamoDB refuses names and values that no expression uses.
    for update in updates {
        assert_all_used(&update);
    }
}

/// DynamoDB refuses a request with names and values that no expression uses.
fn assert_all_used(request: &Value) {
    let expressions: String = request
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| name.ends_with("Expression"))
        .map(|(_, text)| format!("{} ", text.as_str().unwrap()))
        .collect();
    let words: Vec<&str> = expressions
        .split(|c: char| !(c.is_ascii_alphanumeric() || "#:_".contains(c)))
        .collect();
    for given in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
        for name in request[given].as_object().into_iter().flat_map(serde_json::Map::keys) {
            assert!(words.contains(&name.as_str()), "{name} is not in {expressions}");
        }
    }
    for word in words.iter().filter(|word| word.starts_with(['#', ':'])) {
        let given = if word.starts_with('#') {
            "ExpressionAttributeNames"
        } else {
            "ExpressionAttributeValues"
        };
        assert!(request[given][word] != Value::Null, "{word} is not given");
    }
}

#[tokio::test]
async fn a_lease_is_taken_held_or_known_as_ones_own() {
    let head = |write_id: &Value| json!({"pk": {"S": "lanes"}, "sk": {"S": LANE}, "leased_until": {"N": "700"}, "write_id": write_id});
    let mut lost = None;
    let mut calls = 0;
    let script = Script::answering(move |call| {
        calls += 1;
        let id = call.body["ExpressionAttributeValues"][":write_id"].clone();
        match calls {
            1 => done(),
            2 => unmet(head(&json!({"S": "another"}))),
            // Released between the check and its report.
            3 => unmet(json!({"pk": {"S": "lanes"}, "sk": {"S": LANE}})),
            4 => {
                lost = Some(id);
                Reply::Reset
            }
            _ => unmet(head(lost.as_ref().unwrap())),
        }
    });
    let store = store(&script);
    let mut leased = Vec::new();
    for _ in 0..4 {
        leased.push(store.lease(LANE, "me", Timestamp(100), Timestamp(900)).await.unwrap());
    }
    assert_eq!(
        leased,
        [
            Leased::Taken,
            Leased::Held { until: Timestamp(700) },
            Leased::Held { until: Timestamp(100) },
            Leased::Taken,
        ]
    );
    let call = &script.calls()[0];
    assert_all_used(&call.body);
    let values = &call.body["ExpressionAttributeValues"];
    assert_eq!(
        (&values[":until"]["N"], &values[":holder"]["S"]),
        (&json!("900"), &json!("me"))
    );
    assert_eq!(values[":expires_at"]["N"], (90 * 86_400).to_string());
}

#[tokio::test]
async fn a_release_writes_what_the_holder_knows_and_nothing_for_anybody_else() {
    let script = Script::new([
        done(),
        done(),
        unmet(json!({"pk": {"S": "lanes"}, "sk": {"S": LANE}, "write_id": {"S": "another"}})),
    ]);
    let store = store(&script);
    let full = Lane {
        wake_at: Some(Timestamp(5_000)),
        not_before: Some(Timestamp(3_000)),
        tokens: 1.5,
        tokens_at: Some(Timestamp(2_000)),
        ..Lane::new(LANE)
    };
    assert_eq!(store.release("me", &full).await.unwrap(), Saved::Saved);
    let empty = Lane {
        tokens: f64::NAN,
        ..Lane::new(LANE)
    };
    assert_eq!(store.release("me", &empty).await.unwrap(), Saved::Saved);
    assert_eq!(store.release("me", &empty).await.unwrap(), Saved::Conflict);
    let calls = script.calls();
    assert_eq!(
        [
            expression(&calls[0], "UpdateExpression"),
            expression(&calls[1], "UpdateExpression")
        ],
        [
            "SET #tokens = :tokens, #write_id = :write_id, #wake_at = :wake_at, #not_before = :not_before, #tokens_at = :tokens_at, \
             #expires_at = :expires_at REMOVE #leased_until, #holder",
            "SET #tokens = :tokens, #write_id = :write_id REMOVE #leased_until, #holder, #wake_at, #not_before, #tokens_at",
        ]
    );
    let tokens = |call: &Call| call.body["ExpressionAttributeValues"][":tokens"]["N"].clone();
    assert_eq!((tokens(&calls[0]), tokens(&calls[1])), (json!("1.5"), json!("0")));
    for call in &calls {
        assert_all_used(&call.body);
    }
}

#[tokio::test]
async fn a_wake_is_only_moved_forward() {
    let script = Script::new([done(), unmet(json!({"wake_at": {"N": "1"}}))]);
    let store = store(&script);
    store.wake_by(LANE, Timestamp(5_000)).await.unwrap();
    store.wake_by(LANE, Timestamp(5_000)).await.unwrap();
    let call = &script.calls()[0];
    assert_all_used(&call.body);
    assert_eq!(
        expression(call, "ConditionExpression"),
        "attribute_not_exists(#wake_at) OR :at < #wake_at"
    );
}

#[tokio::test]
async fn the_content_of_a_lane_is_its_head_its_groups_and_its_members() {
    let group = json!({
        "id": "g1", "key": "{}:{}", "labels": {}, "notified_at": null, "in_flight": null, "told": null, "failures": 0,
        "not_before": null, "given_up": null, "version": 4,
    });
    let member = serde_json::to_string(&event(TransitionKind::Firing, None)).unwrap();
    let mark = serde_json::to_string(&Mark::default()).unwrap();
    let group = json!({"pk": {"S": "lane#channel#ops"}, "sk": {"S": "g#g1"}, "body": {"S": group.to_string()}});
    let member = json!({
        "pk": {"S": "lane#channel#ops"}, "sk": {"S": "m#rule-1.abc.1000"}, "event": {"S": member}, "kind": {"S": "firing"},
        "enlisted_at": {"N": "77"}, "mark": {"S": mark},
    });
    let head = json!({"pk": {"S": "lanes"}, "sk": {"S": LANE}, "wake_at": {"N": "5"}, "tokens": {"N": "2.5"}});
    let answering = |head: Value, items: Value| {
        Script::answering(move |call| match call.operation.as_str() {
            "GetItem" => Reply::Json(if head.is_null() {
                json!({})
            } else {
                json!({ "Item": head })
            }),
            _ => Reply::Json(json!({ "Items": items })),
        })
    };
    let script = answering(head, json!([group, member]));
    let content = store(&script).content(LANE).await.unwrap().unwrap();
    assert_eq!(
        content.lane,
        Lane {
            wake_at: Some(Timestamp(5)),
            tokens: 2.5,
            ..Lane::new(LANE)
        }
    );
    assert_eq!((content.groups[0].id.as_str(), content.groups[0].version), ("g1", 4));
    let enlisted = &content.members[0];
    assert_eq!(
        (enlisted.incident.as_str(), enlisted.enlisted_at),
        ("rule-1.abc.1000", Timestamp(77))
    );
    assert!(enlisted.event.value.is_nan() && enlisted.mark == Mark::default());

    assert_eq!(
        store(&answering(Value::Null, json!([]))).content(LANE).await.unwrap(),
        None
    );
    let without_head = store(&answering(Value::Null, json!([group])))
        .content(LANE)
        .await
        .unwrap();
    assert_eq!(without_head.unwrap().lane, Lane::new(LANE));
    let stray = json!([{"pk": {"S": "lane#channel#ops"}, "sk": {"S": "x"}}]);
    let error = store(&answering(Value::Null, stray)).content(LANE).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn an_incident_is_settled_and_leaves_its_lane_in_one_step() {
    let script = Script::new([
        canceled(["None", "TransactionConflict"]),
        done(),
        Reply::Json(json!({"Item": {"body": {"S": "\"Told\""}}})),
        done(),
        Reply::Reset,
        Reply::Reset,
        Reply::Reset,
    ]);
    let store = store(&script);
    let now = Timestamp(1_795_000_000_000);
    store.settle(LANE, "i", &Settled::Told, now).await.unwrap();
    let writes = &script.calls()[1].body["TransactItems"];
    let expires_at = (now.0 / 1_000 + 30 * 86_400).to_string();
    assert_eq!(
        writes[0]["Put"]["Item"],
        json!({"pk": {"S": "settled#i"}, "sk": {"S": LANE}, "body": {"S": "\"Told\""}, "expires_at": {"N": expires_at}})
    );
    assert_eq!(
        writes[1]["Delete"]["Key"],
        json!({"pk": {"S": "lane#channel#ops"}, "sk": {"S": "m#i"}})
    );
    assert_eq!(store.settled(LANE, "i").await.unwrap(), Some(Settled::Told));
    assert_eq!(store.settled(LANE, "j").await.unwrap(), None);
    let error = store.settle(LANE, "i", &Settled::Told, now).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_mark_makes_no_member() {
    let script = Script::new([done(), Reply::error(400, "ConditionalCheckFailedException")]);
    let store = store(&script);
    for _ in 0..2 {
        store.mark(LANE, "i", &Mark::default()).await.unwrap();
    }
    assert_all_used(&script.calls()[0].body);
    assert_eq!(
        expression(&script.calls()[0], "ConditionExpression"),
        "attribute_exists(#pk)"
    );
}

#[tokio::test]
async fn lanes_that_nobody_came_to_are_asked_for() {
    let heads = json!([{"pk": {"S": "lanes"}, "sk": {"S": "rule#r"}, "wake_at": {"N": "1"}}]);
    let script = Script::new([Reply::Json(json!({ "Items": heads }))]);
    assert_eq!(store(&script).overdue(Timestamp(50)).await.unwrap(), ["rule#r"]);
    assert_eq!(expression(&script.calls()[0], "FilterExpression"), "#wake_at < :before");
}

#[tokio::test]
async fn documents_are_stored_by_version() {
    let script = Script::new([
        done(),
        unmet(json!({"pk": {"S": "mute-times"}, "sk": {"S": "nights"}, "version": {"N": "2"}})),
        Reply::Json(json!({"Item": {"body": {"S": serde_json::to_string(&mute_time(3)).unwrap()}}})),
        Reply::error(400, "ConditionalCheckFailedException"),
        done(),
    ]);
    let store = store(&script);
    assert_eq!(store.put(&mute_time(1), None).await.unwrap(), Saved::Saved);
    assert_eq!(store.put(&mute_time(2), Some(1)).await.unwrap(), Saved::Conflict);
    assert_eq!(store.get::<MuteTime>("nights").await.unwrap(), Some(mute_time(3)));
    assert_eq!(store.delete::<MuteTime>("nights", 2).await.unwrap(), Saved::Conflict);
    assert_eq!(store.delete::<MuteTime>("nights", 3).await.unwrap(), Saved::Saved);
    assert_eq!(store.get::<MuteTime>("").await.unwrap(), None);
    assert_eq!(store.get::<MuteTime>(&"x".repeat(1_025)).await.unwrap(), None);
    assert_eq!(store.delete::<MuteTime>("", 3).await.unwrap(), Saved::Conflict);
    let calls = script.calls();
    assert_eq!(calls.len(), 5);
    assert_eq!(
        calls[0].body["Key"],
        json!({"pk": {"S": "mute-times"}, "sk": {"S": "nights"}})
    );
    for call in &calls[..2] {
        assert_all_used(&call.body);
    }
}
