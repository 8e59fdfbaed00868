use super::*;
use crate::testing::{Reply, Script, Time};
use serde_json::{Value, json};
use tidemark_model::{DAY_MS, LabelFilter, Labels};
use tidemark_rules::rule::{NoData, RuleSpec};
use tidemark_rules::{
    Condition, InstanceState, Query, Severity, Threshold, Transition, TransitionKind, TransitionReason,
};

fn store(script: &Script) -> DynamoAlertStore {
    DynamoAlertStore::with(script.clients().dynamodb(), "alerts", Time::new(0.5).pace())
}

fn rule(name: &str) -> Rule {
    Rule {
        id: "rule-1".into(),
        spec: RuleSpec {
            name: name.into(),
            query: Query::Threshold(Threshold {
                metric_name: "cpu".into(),
                labels: LabelFilter::default(),
                aggregation: None,
                group_by: Vec::new(),
                condition: Condition::Greater,
                threshold: 90.5,
                window_seconds: 300,
            }),
            duration_seconds: 0,
            keep_firing_for_seconds: 0,
            interval_seconds: 60,
            no_data: NoData::Ok,
            severity: Severity::Warning,
            alert_labels: Default::default(),
            notification_channels: Vec::new(),
            webhook_url: None,
            repeat_interval_seconds: None,
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
        by: None,
        comment: None,
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
        keep_firing_since: Some(Timestamp(6_000)),
        observed_until: None,
        acknowledged: None,
        missing_since: None,
        previous_resolved_at: None,
        previous: None,
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
    let names: Vec<&String> = call.body["ExpressionAttributeNames"]
        .as_object()
        .unwrap()
        .keys()
        .collect();
    assert_eq!(names, ["#body", "#state", "#unsent", "#version", "#write_id"]);
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

#[tokio::test]
async fn a_save_whose_answer_was_lost_knows_its_own_write() {
    let mut first = None;
    let script = Script::answering(move |call| {
        let id = call.body["ExpressionAttributeValues"][":write_id"].clone();
        match first.replace(id.clone()) {
            // It is done, and nobody hears of it: the SDK asks again, and the version is no longer the expected one.
            None => Reply::Reset,
            Some(known) => Reply::Error(
                400,
                "ConditionalCheckFailedException",
                json!({"Item": {"pk": {"S": "instances"}, "sk": {"S": "rule-1.abc"}, "write_id": known}}),
            ),
        }
    });
    let store = store(&script);
    assert_eq!(
        store.save_instance(&instance(true), Some(7)).await.unwrap(),
        Saved::Saved
    );
    // Another save meets what that one wrote.
    assert_eq!(
        store.save_instance(&instance(true), Some(7)).await.unwrap(),
        Saved::Conflict
    );
}

#[tokio::test]
async fn a_save_that_meets_a_transaction_is_repeated() {
    let script = Script::new([
        Reply::error(400, "TransactionConflictException"),
        Reply::Json(json!({})),
    ]);
    assert_eq!(
        store(&script).save_instance(&instance(true), None).await.unwrap(),
        Saved::Saved
    );
    let script = Script::answering(|_| Reply::error(400, "TransactionConflictException"));
    let error = store(&script).save_instance(&instance(true), None).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

fn entry(id: &str, at: i64) -> HistoryEntry {
    let instance = instance(true);
    HistoryEntry {
        id: id.into(),
        at: Timestamp(at),
        ..HistoryEntry::of_transition(&instance, &instance.unsent[0])
    }
}

/// The keys that a batch puts.
fn put_keys(call: &crate::testing::Call) -> Vec<(String, String)> {
    let mut keys: Vec<(String, String)> = call.body["RequestItems"]["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|request| {
            let item = &request["PutRequest"]["Item"];
            let text = |name: &str| item[name]["S"].as_str().unwrap().to_owned();
            (text("pk"), text("sk"))
        })
        .collect();
    keys.sort();
    keys
}

#[tokio::test]
async fn an_entry_stands_in_three_lists_and_what_was_not_taken_is_put_again() {
    let left = json!([{"PutRequest": {"Item": {"pk": {"S": "history-rule#rule-1"}, "sk": {"S": "left"}}}}]);
    let script = Script::new([
        Reply::Json(json!({"UnprocessedItems": {"alerts": left}})),
        Reply::error(400, "ProvisionedThroughputExceededException"),
        Reply::Json(json!({})),
    ]);
    let at = 1_795_000_000_000;
    // The same twice is one item: a call may not name a key twice.
    let entries = [entry("a", at), entry("a", at)];
    let store = store(&script);
    store.append_history(&entries).await.unwrap();
    let calls = script.calls();
    let sk = format!("{at}#a");
    let lists = ["history#692", "history-alert#abc", "history-rule#rule-1"];
    assert_eq!(put_keys(&calls[0]), lists.map(|pk| (pk.to_owned(), sk.clone())));
    assert_eq!(
        put_keys(&calls[2]),
        [("history-rule#rule-1".to_owned(), "left".to_owned())]
    );
    let item = &calls[0].body["RequestItems"]["alerts"][0]["PutRequest"]["Item"];
    assert_eq!(item["expires_at"]["N"], (at / 1_000 + 366 * 86_400).to_string());
    store.append_history(&[]).await.unwrap();

    let script = Script::answering(|_| Reply::error(400, "ProvisionedThroughputExceededException"));
    let error = self::store(&script).append_history(&entries).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

/// A table that holds entries, and answers as DynamoDB does.
fn history_of(entries: Vec<HistoryEntry>) -> Script {
    Script::answering(move |call| {
        let values = &call.body["ExpressionAttributeValues"];
        let text = |name: &str| values[name]["S"].as_str().unwrap().to_owned();
        let (pk, low, high) = (text(":pk"), text(":low"), text(":high"));
        assert_eq!(call.body["ScanIndexForward"], false);
        assert!(low <= high, "DynamoDB refuses {low} to {high}");
        let mut found: Vec<(String, Value)> = entries
            .iter()
            .filter(|entry| {
                pk == format!("history#{}", entry.at.0.div_euclid(30 * DAY_MS)) || pk.starts_with("history-")
            })
            .map(|entry| {
                let sk = format!("{:013}#{}", entry.at.0, entry.id);
                let body = serde_json::to_string(entry).unwrap();
                (
                    sk.clone(),
                    json!({"pk": {"S": pk}, "sk": {"S": sk}, "body": {"S": body}}),
                )
            })
            .filter(|(sk, _)| low <= *sk && *sk <= high)
            .collect();
        found.sort_by(|a, b| b.0.cmp(&a.0));
        found.truncate(usize::try_from(call.body["Limit"].as_u64().unwrap()).unwrap());
        let items: Vec<Value> = found.into_iter().map(|(_, item)| item).collect();
        Reply::Json(json!({ "Items": items }))
    })
}

const NOW: Timestamp = Timestamp(1_795_000_000_000);

/// The ids of a list, page by page.
async fn listed(script: &Script, filter: &HistoryFilter, limit: usize) -> Vec<String> {
    let store = store(script);
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .list_history(filter, NOW, &PageRequest { limit, after })
            .await
            .unwrap();
        assert!(page.items.len() <= limit);
        ids.extend(page.items.into_iter().map(|entry| entry.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return ids,
        }
    }
}

#[tokio::test]
async fn the_history_goes_on_over_the_borders_of_periods_and_ends_after_a_year() {
    let border = 692 * 30 * DAY_MS;
    let entries = vec![
        entry("ahead", NOW.0 + 1_000),
        entry("b2", border + 1),
        entry("b1", border),
        entry("b0-y", border - 1),
        entry("b0-x", border - 1),
        entry("half", NOW.0 - 180 * DAY_MS),
        entry("year", NOW.0 - 365 * DAY_MS),
        entry("expired", NOW.0 - 367 * DAY_MS),
    ];
    let all = ["ahead", "b2", "b1", "b0-y", "b0-x", "half", "year"];
    for limit in [1, 2, 3, 100] {
        let script = history_of(entries.clone());
        assert_eq!(listed(&script, &HistoryFilter::default(), limit).await, all, "{limit}");
    }
    let script = history_of(entries.clone());
    let range = HistoryFilter {
        start: Some(Timestamp(border - 1)),
        end: Some(Timestamp(border)),
        ..HistoryFilter::default()
    };
    assert_eq!(listed(&script, &range, 2).await, ["b1", "b0-y", "b0-x"]);
    let asked: Vec<String> = script
        .calls()
        .iter()
        .map(|call| {
            call.body["ExpressionAttributeValues"][":pk"]["S"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(asked, ["history#692", "history#691", "history#691"]);
    let of_rule = HistoryFilter {
        rule_id: Some("rule-1".into()),
        ..HistoryFilter::default()
    };
    let script = history_of(entries.clone());
    assert_eq!(listed(&script, &of_rule, 3).await, all);
    let another = HistoryFilter {
        fingerprint: Some("abc".into()),
        rule_id: Some("rule-2".into()),
        ..HistoryFilter::default()
    };
    assert!(listed(&history_of(entries), &another, 3).await.is_empty());
}

#[tokio::test]
async fn a_name_that_can_be_no_key_has_no_history() {
    let long = "x".repeat(2_048);
    let of_rule = HistoryFilter {
        rule_id: Some(long.clone()),
        ..HistoryFilter::default()
    };
    let of_alert = HistoryFilter {
        fingerprint: Some(long),
        ..HistoryFilter::default()
    };
    for filter in [of_rule, of_alert] {
        let script = history_of(vec![entry("a", NOW.0)]);
        assert!(listed(&script, &filter, 3).await.is_empty());
        assert!(script.calls().is_empty());
    }
}

#[tokio::test]
async fn a_history_after_any_text_asks_only_for_what_can_be_a_key() {
    let script = history_of(vec![entry("a", NOW.0)]);
    let store = store(&script);
    for after in [
        "",
        "0",
        "zzz",
        "1795000000000#a",
        "9999999999999999999999#",
        &"я".repeat(2_000),
    ] {
        let page = PageRequest {
            limit: 1,
            after: Some(after.into()),
        };
        let filter = HistoryFilter {
            end: Some(Timestamp(i64::MAX)),
            ..HistoryFilter::default()
        };
        let listed = store.list_history(&filter, NOW, &page).await.unwrap();
        assert_eq!(listed.items.is_empty(), after <= "1795000000000#a", "{after}");
    }
    let upside_down = HistoryFilter {
        start: Some(Timestamp(i64::MAX)),
        end: Some(Timestamp(i64::MIN)),
        ..HistoryFilter::default()
    };
    let page = PageRequest { limit: 1, after: None };
    assert_eq!(store.list_history(&upside_down, NOW, &page).await.unwrap().items, []);
}

#[tokio::test]
async fn a_tick_is_stored_unless_a_later_one_is() {
    let state = TickState {
        at: Timestamp(60_000),
        owed: [("rule-1".to_owned(), Timestamp(1_000))].into(),
    };
    let script = Script::new([
        Reply::Json(json!({})),
        Reply::error(400, "ConditionalCheckFailedException"),
    ]);
    let alerts = store(&script);
    assert_eq!(alerts.save_tick(3, &state).await.unwrap(), Saved::Saved);
    assert_eq!(alerts.save_tick(3, &state).await.unwrap(), Saved::Conflict);
    let call = &script.calls()[0];
    assert_eq!(call.body["Key"], json!({"pk": {"S": "ticks"}, "sk": {"S": "3"}}));
    let body = call.body["ExpressionAttributeValues"][":body"].clone();
    let script = Script::new([Reply::Json(json!({"Item": {"body": body}})), Reply::Json(json!({}))]);
    let alerts = store(&script);
    assert_eq!(alerts.load_tick(3).await.unwrap(), Some(state));
    assert_eq!(alerts.load_tick(4).await.unwrap(), None);
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
