use super::*;
use crate::event::{Message, TransitionEvent};
use crate::fixtures::{at, row, rule};
use crate::instance::{InstanceState, TransitionKind, TransitionReason};
use crate::memory::{MemoryAlertStore, MemoryTopic};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};

fn body(name: &str) -> Value {
    json!({"name": name, "metric_name": "cpu", "condition": ">", "threshold": 90})
}

async fn create(store: &MemoryAlertStore, id: &str, body: &Value) -> Result<StoredRule, ManageError> {
    create_rule(store, body, || id.to_owned(), at(0)).await
}

#[tokio::test]
async fn a_created_rule_is_answered_whole() {
    let store = MemoryAlertStore::new();
    let mut body = body("a");
    body["notification_channels"] = json!(["webhook"]);
    let json = serde_json::to_value(create(&store, "rule-1", &body).await.unwrap()).unwrap();
    assert_eq!(
        (&json["id"], &json["name"], &json["version"]),
        (&json!("rule-1"), &json!("a"), &json!(1))
    );
    assert!(json["warnings"][0].as_str().unwrap().contains("webhook_url"));
    assert_eq!(store.get_rule("rule-1").await.unwrap().unwrap().created_at, at(0));
}

#[tokio::test]
async fn names_are_unique_and_bodies_are_checked() {
    let store = MemoryAlertStore::new();
    create(&store, "rule-1", &body("a")).await.unwrap();
    let taken = create(&store, "rule-2", &body("a")).await.unwrap_err();
    assert!(
        matches!(&taken, ManageError::NameTaken { name } if name == "a"),
        "{taken}"
    );
    create(&store, "rule-2", &body("b")).await.unwrap();
    let taken = patch_rule(&store, "rule-2", &json!({"name": "a"}), at(1))
        .await
        .unwrap_err();
    assert!(matches!(taken, ManageError::NameTaken { .. }));
    let invalid = create(&store, "rule-3", &json!({"name": "c"})).await.unwrap_err();
    assert!(
        matches!(&invalid, ManageError::Invalid(field) if field.field == "metric_name"),
        "{invalid}"
    );
}

#[tokio::test]
async fn an_id_that_is_taken_is_drawn_again() {
    let store = MemoryAlertStore::new();
    create(&store, "rule-0", &body("a")).await.unwrap();
    let next = AtomicUsize::new(0);
    let draw = || format!("rule-{}", next.fetch_add(1, Ordering::SeqCst));
    assert_eq!(
        create_rule(&store, &body("b"), draw, at(0)).await.unwrap().rule.id,
        "rule-1"
    );
    let stuck = create_rule(&store, &body("c"), || "rule-0".to_owned(), at(0))
        .await
        .unwrap_err();
    assert!(matches!(stuck, ManageError::Conflict));
}

#[tokio::test]
async fn put_replaces_everything_and_patch_what_it_names() {
    let store = MemoryAlertStore::new();
    let mut first = body("a");
    first["severity"] = json!("critical");
    create(&store, "rule-1", &first).await.unwrap();
    let patched = patch_rule(&store, "rule-1", &json!({"threshold": 95, "name": "b"}), at(5))
        .await
        .unwrap()
        .rule;
    let json = serde_json::to_value(&patched).unwrap();
    assert_eq!(
        (&json["threshold"], &json["severity"]),
        (&json!(95.0), &json!("critical"))
    );
    assert_eq!(
        (patched.version, patched.created_at, patched.updated_at),
        (2, at(0), at(5))
    );
    let replaced = replace_rule(&store, "rule-1", &body("c"), at(6)).await.unwrap().rule;
    assert_eq!((replaced.spec.severity.as_str(), replaced.version), ("warning", 3));
    let unchanged = replace_rule(&store, "rule-1", &body("c"), at(7)).await.unwrap().rule;
    assert_eq!((unchanged.version, unchanged.updated_at), (3, at(6)));
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let store = MemoryAlertStore::new();
    assert!(matches!(
        replace_rule(&store, "x", &body("a"), at(0)).await,
        Err(ManageError::NoSuchRule)
    ));
    assert!(matches!(
        patch_rule(&store, "x", &json!({}), at(0)).await,
        Err(ManageError::NoSuchRule)
    ));
    assert!(matches!(delete_rule(&store, "x").await, Err(ManageError::NoSuchRule)));
    let topic = MemoryTopic::new();
    let resolved = resolve_instance(&store, &topic, "x", None, None, at(0)).await;
    assert!(matches!(resolved, Err(ManageError::NoSuchInstance)));
    let acknowledged = acknowledge_instance(&store, &topic, "x", "jane", None, at(0)).await;
    assert!(matches!(acknowledged, Err(ManageError::NoSuchInstance)));
}

/// A store with one alert of host a, firing or pending, of which everything was told.
async fn an_alert(extra: &Value) -> (MemoryAlertStore, MemoryTopic, String) {
    let (store, topic) = (MemoryAlertStore::new(), MemoryTopic::new());
    let decision = decide::decide(&rule("rule-1", extra), &[], &[row("a", 95.0)], at(0), 0);
    let Some(Change::Save { instance, expected, .. }) = decision.changes.into_iter().next() else {
        panic!("no alert")
    };
    store.save_instance(&instance, expected).await.unwrap();
    store.clear_unsent(&instance.id, instance.version).await.unwrap();
    (store, topic, instance.id)
}

fn told(topic: &MemoryTopic) -> Vec<TransitionEvent> {
    let events = topic.take().into_iter().map(|message| match message {
        Message::Event(event) => *event,
        Message::Wake { lane } => panic!("a wake of {lane}"),
    });
    events.collect()
}

async fn history(store: &MemoryAlertStore) -> Vec<Value> {
    let page = crate::store::PageRequest {
        limit: 100,
        after: None,
    };
    let page = store.list_history(&Default::default(), at(0), &page).await.unwrap();
    page.items
        .iter()
        .map(|entry| serde_json::to_value(entry).unwrap())
        .collect()
}

#[tokio::test]
async fn a_resolve_by_hand_is_told_at_once_and_only_once() {
    let (store, topic, id) = an_alert(&json!({})).await;
    let instance = resolve_instance(&store, &topic, &id, Some("jane".into()), Some("done".into()), at(2))
        .await
        .unwrap();
    assert_eq!(
        (instance.state, instance.resolved_at),
        (InstanceState::Resolved, Some(at(2)))
    );
    let told = told(&topic);
    assert_eq!((told.len(), told[0].reason), (1, TransitionReason::ResolvedByHand));
    assert!(store.get_instance(&id).await.unwrap().unwrap().unsent.is_empty());
    let again = resolve_instance(&store, &topic, &id, None, None, at(3))
        .await
        .unwrap_err();
    assert_eq!(
        again.to_string(),
        "the alert instance is resolved, not pending or firing"
    );
}

#[tokio::test]
async fn a_resolve_that_cannot_be_told_waits_in_the_outbox() {
    let (store, topic, id) = an_alert(&json!({})).await;
    topic.set_down(true);
    let instance = resolve_instance(&store, &topic, &id, None, None, at(2)).await.unwrap();
    assert_eq!(instance.unsent.len(), 1);
    let stored = store.get_instance(&id).await.unwrap().unwrap();
    assert_eq!(stored.unsent[0].by.as_deref(), Some(OPERATOR));
    topic.set_down(false);
    assert_eq!(tick::publish_outboxes(&store, &topic, &mut [stored]).await, 0);
    assert_eq!(told(&topic)[0].reason, TransitionReason::ResolvedByHand);
    assert!(store.get_instance(&id).await.unwrap().unwrap().unsent.is_empty());
}

#[tokio::test]
async fn who_did_what_by_hand_and_why_stands_in_the_history() {
    let (store, topic, id) = an_alert(&json!({})).await;
    acknowledge_instance(&store, &topic, &id, "jane", Some("mine"), at(1))
        .await
        .unwrap();
    resolve_instance(&store, &topic, &id, Some("john".into()), None, at(2))
        .await
        .unwrap();
    let entries = history(&store).await;
    assert_eq!(entries.len(), 2, "{entries:?}");
    assert_eq!(
        (&entries[0]["state"], &entries[0]["by"], &entries[0]["reason"]),
        (&json!("resolved"), &json!("john"), &json!("resolved_by_hand"))
    );
    assert_eq!(
        (&entries[1]["state"], &entries[1]["by"], &entries[1]["comment"]),
        (&json!("acknowledged"), &json!("jane"), &json!("mine"))
    );
}

#[tokio::test]
async fn an_acknowledgement_is_kept_and_not_published() {
    for extra in [json!({}), json!({"duration_seconds": 60})] {
        let (store, topic, id) = an_alert(&extra).await;
        let instance = acknowledge_instance(&store, &topic, &id, "jane", None, at(5))
            .await
            .unwrap();
        let kept = instance.acknowledged.clone().unwrap();
        assert_eq!((kept.by.as_str(), kept.at, kept.comment), ("jane", at(5), None));
        assert_eq!(
            serde_json::to_value(instance.view()).unwrap()["acknowledged"]["by"],
            "jane"
        );
        assert!(told(&topic).is_empty());
        assert!(store.get_instance(&id).await.unwrap().unwrap().unsent.is_empty());
    }
}

#[tokio::test]
async fn a_second_acknowledgement_replaces_the_first_and_the_same_again_changes_nothing() {
    let (store, topic, id) = an_alert(&json!({})).await;
    let first = acknowledge_instance(&store, &topic, &id, "jane", Some("mine"), at(5))
        .await
        .unwrap();
    let same = acknowledge_instance(&store, &topic, &id, "jane", Some("mine"), at(6))
        .await
        .unwrap();
    assert_eq!((same.version, same.acknowledged), (first.version, first.acknowledged));
    let second = acknowledge_instance(&store, &topic, &id, "john", None, at(7))
        .await
        .unwrap();
    assert_eq!(second.acknowledged.unwrap().by, "john");
    resolve_instance(&store, &topic, &id, None, None, at(8)).await.unwrap();
    let over = acknowledge_instance(&store, &topic, &id, "john", None, at(9))
        .await
        .unwrap_err();
    assert!(matches!(
        over,
        ManageError::NotActive {
            state: InstanceState::Resolved
        }
    ));
    assert_eq!(store.get_instance(&id).await.unwrap().unwrap().acknowledged, None);
}

#[tokio::test]
async fn while_nothing_can_be_told_an_outbox_does_not_grow_without_end() {
    let (store, topic, id) = an_alert(&json!({})).await;
    topic.set_down(true);
    let mut firing = store.get_instance(&id).await.unwrap().unwrap();
    firing.unsent = vec![crate::Transition {
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: at(0),
        firing_since: at(0),
        value: 95.0,
        by: None,
        comment: None,
    }];
    firing.version += 1;
    store.save_instance(&firing, Some(firing.version - 1)).await.unwrap();
    let mut refused = 0;
    for n in 1..20 {
        let by = format!("p{n}");
        match acknowledge_instance(&store, &topic, &id, &by, None, at(n)).await {
            Ok(instance) => assert!(refused == 0 && instance.unsent.len() <= MAX_UNSENT),
            Err(ManageError::Untold) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(refused, 20 - MAX_UNSENT);
    topic.set_down(false);
    let mut stored = [store.get_instance(&id).await.unwrap().unwrap()];
    tick::publish_outboxes(&store, &topic, &mut stored).await;
    assert_eq!((history(&store).await.len(), told(&topic).len()), (MAX_UNSENT, 1));
}

#[test]
fn a_note_says_who_and_why() {
    let note = Note::parse(&json!({"by": "jane", "comment": "mine", "colour": 1})).unwrap();
    assert_eq!(
        (note.author().unwrap(), note.comment.as_deref()),
        ("jane", Some("mine"))
    );
    assert_eq!(Note::parse(&json!({})).unwrap().author().unwrap_err().field, "by");
    for (body, field) in [
        (json!([]), ""),
        (json!({"by": ""}), "by"),
        (json!({"by": 1}), "by"),
        (json!({"by": "x".repeat(255)}), "by"),
        (json!({"comment": "x".repeat(2_049)}), "comment"),
    ] {
        assert_eq!(Note::parse(&body).unwrap_err().field, field);
    }
}

#[tokio::test]
async fn a_deleted_rule_leaves_its_alerts_to_the_next_tick() {
    let (store, _, id) = an_alert(&json!({})).await;
    create(&store, "rule-1", &body("a")).await.unwrap();
    delete_rule(&store, "rule-1").await.unwrap();
    let stored = store.get_instance(&id).await.unwrap().unwrap();
    assert_eq!(stored.state, InstanceState::Firing);
    let decision = decide::decide_orphans(&[stored], at(60));
    let [
        Change::Save {
            transition: Some(transition),
            ..
        },
    ] = &decision.changes[..]
    else {
        panic!("{decision:?}")
    };
    assert_eq!(
        (transition.kind, transition.reason),
        (TransitionKind::Resolved, TransitionReason::RuleDeleted)
    );
}
