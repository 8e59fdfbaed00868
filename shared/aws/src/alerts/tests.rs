use super::*;
use crate::testing::{Reply, Script, Time};
use serde_json::{Value, json};
use tidemark_model::{LabelFilter, Labels};
use tidemark_rules::rule::RuleSpec;
use tidemark_rules::store::LogState;
use tidemark_rules::{Condition, InstanceState, Severity, Transition, TransitionKind, TransitionReason};

fn store(script: &Script) -> DynamoAlertStore {
    DynamoAlertStore::with(script.clients().dynamodb(), "alerts", Time::new(0.5).pace())
}

fn rule(name: &str) -> Rule {
    Rule {
        id: "rule-1".into(),
        spec: RuleSpec {
            name: name.into(),
            metric_name: "cpu".into(),
            labels: LabelFilter::default(),
            aggregation: None,
            group_by: Vec::new(),
            condition: Condition::Greater,
            threshold: 90.5,
            duration_seconds: 0,
            window_seconds: 300,
            severity: Severity::Warning,
            notification_channels: Vec::new(),
            webhook_url: None,
            annotations: Default::default(),
            enabled: true,
        },
        version: 3,
        created_at: Timestamp(1_000),
        updated_at: Timestamp(2_000),
    }
}

fn instance(unsent: bool) -> Instance {
    let transition = Transition {
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: Timestamp(5_000),
        firing_since: Timestamp(5_000),
        value: f64::INFINITY,
    };
    Instance {
        id: "rule-1.abc".into(),
        rule: rule("high").snapshot(),
        fingerprint: "abc".into(),
        labels: Labels::from_pairs([("host", "")]).unwrap(),
        state: InstanceState::Firing,
        current_value: f64::INFINITY,
        annotations: Default::default(),
        pending_since: Some(Timestamp(1_000)),
        firing_since: Some(Timestamp(5_000)),
        resolved_at: None,
        updated_at: Timestamp(5_000),
        version: 8,
        unsent: if unsent { vec![transition] } else { Vec::new() },
        notifications_sent: 99,
        last_notification_at: Some(Timestamp(99)),
    }
}

fn canceled(codes: &[&str]) -> Reply {
    let reasons: Vec<Value> = codes.iter().map(|code| json!({ "Code": code })).collect();
    Reply::Error(
        400,
        "TransactionCanceledException",
        json!({ "CancellationReasons": reasons }),
    )
}

const DONE: &str = "None";
const UNMET: &str = "ConditionalCheckFailed";

#[tokio::test]
async fn a_rule_and_its_name_are_created_together_or_not_at_all() {
    let script = Script::new([
        Reply::Json(json!({})),
        canceled(&[UNMET, DONE]),
        canceled(&[DONE, UNMET]),
        canceled(&[UNMET, UNMET]),
    ]);
    let store = store(&script);
    let mut outcomes = Vec::new();
    for _ in 0..4 {
        outcomes.push(store.create_rule(&rule("high")).await.unwrap());
    }
    assert_eq!(
        outcomes,
        [
            RuleCreated::Created,
            RuleCreated::IdTaken,
            RuleCreated::NameTaken,
            RuleCreated::IdTaken
        ]
    );
    let writes = &script.calls()[0].body["TransactItems"];
    assert_eq!(writes[0]["Put"]["Item"]["sk"]["S"], "rule-1");
    assert_eq!(writes[1]["Put"]["Item"]["sk"]["S"], "high");
    assert!(
        script.calls()[0].body["ClientRequestToken"].is_string(),
        "a repeat by the SDK is the same transaction"
    );
}

#[tokio::test]
async fn replacing_a_rule_moves_its_name_only_when_it_changed() {
    let script = Script::new([
        Reply::Json(json!({})),
        Reply::Json(json!({})),
        canceled(&[UNMET]),
        canceled(&[DONE, UNMET, DONE]),
        canceled(&[UNMET, UNMET, DONE]),
    ]);
    let store = store(&script);
    let mut outcomes = Vec::new();
    for name in ["high", "higher", "high", "higher", "higher"] {
        outcomes.push(store.replace_rule(&rule("high"), &rule(name)).await.unwrap());
    }
    use RuleReplaced::{Conflict, NameTaken, Replaced};
    assert_eq!(outcomes, [Replaced, Replaced, Conflict, NameTaken, Conflict]);
    let writes = |call: usize| script.calls()[call].body["TransactItems"].as_array().unwrap().len();
    assert_eq!((writes(0), writes(1)), (1, 3));
}

#[tokio::test]
async fn a_transaction_that_meets_another_is_repeated() {
    let script = Script::new([
        canceled(&["TransactionConflict", DONE]),
        canceled(&[DONE, "ThrottlingError"]),
        Reply::Json(json!({})),
    ]);
    assert_eq!(store(&script).delete_rule(&rule("high")).await.unwrap(), Saved::Saved);

    let script = Script::answering(|_| canceled(&["TransactionConflict", DONE]));
    let error = store(&script).delete_rule(&rule("high")).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");

    let script = Script::new([canceled(&["ItemCollectionSizeLimitExceeded", DONE])]);
    let error = store(&script).delete_rule(&rule("high")).await.unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn rules_are_read_page_by_page() {
    let items: Vec<Value> = ["a", "b", "c"]
        .iter()
        .map(|id| {
            let rule = Rule { id: (*id).into(), ..rule(id) };
            json!({"pk": {"S": "rules"}, "sk": {"S": id}, "body": {"S": serde_json::to_string(&rule).unwrap()}, "version": {"N": "3"}})
        })
        .collect();
    let script = Script::new([
        Reply::Json(json!({ "Items": items })),
        Reply::Json(json!({ "Items": items[1..] })),
    ]);
    let store = store(&script);
    let request = |after: Option<&str>| PageRequest {
        limit: 2,
        after: after.map(str::to_owned),
    };
    let first = store.list_rules(&request(None)).await.unwrap();
    assert_eq!(
        first.items[0],
        Rule {
            id: "a".into(),
            ..rule("a")
        }
    );
    assert_eq!((first.items.len(), first.next.as_deref()), (2, Some("b")));
    let second = store.list_rules(&request(Some("b"))).await.unwrap();
    assert_eq!((second.items.len(), second.next), (1, None));
    assert_eq!(script.calls()[0].body["KeyConditionExpression"], "#pk = :pk");
    assert_eq!(
        script.calls()[1].body["KeyConditionExpression"],
        "#pk = :pk AND #sk >= :low"
    );
}

#[tokio::test]
async fn a_list_after_any_text_asks_only_for_what_can_be_a_key() {
    let script = Script::answering(|_| Reply::Json(json!({"Items": []})));
    let store = store(&script);
    let filter = InstanceFilter {
        states: vec![InstanceState::Firing],
        rule_id: Some("rule-1".into()),
    };
    for after in ["", "a", "rule-1.abc", &"я".repeat(2_000)] {
        let page = PageRequest {
            limit: 1,
            after: Some(after.into()),
        };
        assert_eq!(store.list_instances(&filter, &page).await.unwrap().items, []);
    }
    let calls = script.calls();
    let lows: Vec<&str> = calls
        .iter()
        .map(|call| call.body["ExpressionAttributeValues"][":low"]["S"].as_str().unwrap())
        .collect();
    assert_eq!(
        lows,
        ["rule-1.", "rule-1.", "rule-1.abc"],
        "beyond the rule's instances nothing is asked for"
    );
    assert_eq!(calls[0].body["FilterExpression"], "#state IN (:state0)");
    let page = PageRequest {
        limit: 1,
        after: Some("я".repeat(2_000)),
    };
    store.list_rules(&page).await.unwrap();
    let low = script.calls().last().unwrap().body["ExpressionAttributeValues"][":low"]["S"].clone();
    assert!(low.as_str().unwrap().len() <= 1_024);
    assert_eq!(store.get_rule("").await.unwrap(), None);
    assert_eq!(store.get_instance(&"x".repeat(1_025)).await.unwrap(), None);
}

/// The item that a save leaves behind.
fn item_of(call: &crate::testing::Call) -> Value {
    let values = &call.body["ExpressionAttributeValues"];
    json!({
        "pk": call.body["Key"]["pk"], "sk": call.body["Key"]["sk"], "body": values[":body"], "version": values[":version"],
        "state": values[":state"], "unsent": values[":unsent"],
        "notifications_sent": {"N": "4"}, "last_notification_at": {"N": "7000"},
    })
}

#[tokio::test]
async fn an_instance_is_saved_without_its_counters_and_read_with_them() {
    let script = Script::new([Reply::Json(json!({}))]);
    assert_eq!(
        store(&script).save_instance(&instance(true), Some(7)).await.unwrap(),
        Saved::Saved
    );
    let call = &script.calls()[0];
    assert_eq!(call.body["ConditionExpression"], "#version = :expected");
    assert_eq!(call.body["ExpressionAttributeValues"][":expected"]["N"], "7");
    assert!(!call.text.contains("99"), "{}", call.text);
    let script = Script::new([Reply::Json(json!({ "Item": item_of(call) }))]);
    let read = store(&script).get_instance("rule-1.abc").await.unwrap().unwrap();
    let expected = Instance {
        notifications_sent: 4,
        last_notification_at: Some(Timestamp(7_000)),
        ..instance(true)
    };
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_write_whose_condition_is_not_met_is_a_conflict() {
    let unmet = || Reply::error(400, "ConditionalCheckFailedException");
    let script = Script::new([unmet(), unmet(), unmet()]);
    let store = store(&script);
    let outcomes = [
        store.save_instance(&instance(true), Some(7)).await.unwrap(),
        store.clear_unsent("rule-1.abc", 7).await.unwrap(),
        store.remove_instance("rule-1.abc", 7).await.unwrap(),
    ];
    assert_eq!(outcomes, [Saved::Conflict; 3]);
}

#[tokio::test]
async fn a_notification_counts_even_when_a_later_one_was_counted_before() {
    let stands = json!({"Item": {"pk": {"S": "instances"}, "sk": {"S": "rule-1.abc"}}});
    let script = Script::new([
        Reply::Error(400, "ConditionalCheckFailedException", stands),
        Reply::Json(json!({})),
        Reply::error(400, "ConditionalCheckFailedException"),
    ]);
    let store = store(&script);
    store.record_notification("rule-1.abc", Timestamp(5)).await.unwrap();
    store.record_notification("rule-1.gone", Timestamp(5)).await.unwrap();
    let calls = script.calls();
    assert_eq!(calls.len(), 3, "an instance that is gone is not made anew");
    assert_eq!(calls[1].body["UpdateExpression"], "ADD #sent :one");
    assert_eq!(calls[1].body["ConditionExpression"], "attribute_exists(#pk)");
}

fn entry(state: &str, lease_until: i64) -> Value {
    json!({
        "pk": {"S": "notified#t"}, "sk": {"S": "webhook"}, "state": {"S": state}, "lease_until": {"N": lease_until.to_string()},
        "attempts": {"N": "2"}, "reason": {"S": "why"}, "updated_at": {"N": "50"}, "expires_at": {"N": "1"},
    })
}

#[tokio::test]
async fn an_attempt_begins_unless_one_runs_or_has_ended_it() {
    let unmet = |state, lease| {
        Reply::Error(
            400,
            "ConditionalCheckFailedException",
            json!({"Item": entry(state, lease)}),
        )
    };
    let script = Script::new([
        Reply::Json(json!({"Attributes": {"attempts": {"N": "3"}}})),
        unmet("open", 700),
        unmet("sent", i64::MIN),
        unmet("undeliverable", i64::MIN),
    ]);
    let store = store(&script);
    let key = AttemptKey {
        transition_id: "t".into(),
        channel: "webhook".into(),
    };
    let mut begun = Vec::new();
    for _ in 0..4 {
        begun.push(store.begin_attempt(&key, Timestamp(100), Timestamp(700)).await.unwrap());
    }
    assert_eq!(
        begun,
        [
            Begun::Attempt(3),
            Begun::Running { until: Timestamp(700) },
            Begun::Done,
            Begun::Done
        ]
    );
}

#[tokio::test]
async fn an_entry_of_the_log_is_read_in_every_state() {
    let states = ["open", "sent", "undeliverable", "given_up", "else"];
    let script = Script::new(states.map(|state| Reply::Json(json!({"Item": entry(state, i64::MIN)}))));
    let store = store(&script);
    let key = AttemptKey {
        transition_id: "t".into(),
        channel: "webhook".into(),
    };
    let mut read = Vec::new();
    for _ in 0..4 {
        read.push(store.log_entry(&key).await.unwrap().unwrap().state);
    }
    let reason = "why".to_owned();
    assert_eq!(
        read,
        [
            LogState::Open {
                lease_until: Timestamp(i64::MIN)
            },
            LogState::Sent { at: Timestamp(50) },
            LogState::Undeliverable { reason: reason.clone() },
            LogState::GivenUp { reason },
        ]
    );
    assert!(matches!(store.log_entry(&key).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn counts_add_up_over_pages() {
    let key = json!({"pk": {"S": "rule-names"}, "sk": {"S": "x"}});
    let script = Script::new([
        Reply::Json(json!({"Count": 7, "LastEvaluatedKey": key})),
        Reply::Json(json!({"Count": 5})),
        Reply::Json(json!({"Count": 2})),
    ]);
    let store = store(&script);
    assert_eq!(store.count_rules().await.unwrap(), 12);
    assert_eq!(store.count_active_instances().await.unwrap(), 2);
    assert_eq!(
        script.calls()[2].body["FilterExpression"],
        "#state IN (:state0, :state1)"
    );
    assert_eq!(script.calls()[2].body["Select"], "COUNT");
}
