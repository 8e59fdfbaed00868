use super::*;
use crate::fixtures::{Data, at};
use crate::instance::{InstanceState, TransitionReason};
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
    body["notification_channels"] = json!(["email"]);
    let json = serde_json::to_value(create(&store, "rule-1", &body).await.unwrap()).unwrap();
    assert_eq!(
        (&json["id"], &json["name"], &json["version"]),
        (&json!("rule-1"), &json!("a"), &json!(1))
    );
    assert!(json["warnings"][0].as_str().unwrap().contains("email"));
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
    assert_eq!(
        (patched.spec.threshold, patched.spec.severity.as_str()),
        (95.0, "critical")
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
    let resolved = resolve_instance(&store, &MemoryTopic::new(), "x", at(0)).await;
    assert!(matches!(resolved, Err(ManageError::NoSuchInstance)));
}

#[tokio::test]
async fn a_resolve_by_hand_is_told_at_once_and_only_once() {
    let (store, topic, data) = (MemoryAlertStore::new(), MemoryTopic::new(), Data::default());
    create(&store, "rule-1", &body("a")).await.unwrap();
    data.push("cpu", "web-01", 0, 95.0);
    tick::evaluate_all(&store, &data, &topic, at(1), &|| true)
        .await
        .unwrap();
    let id = topic.take()[0].instance_id.clone();

    let instance = resolve_instance(&store, &topic, &id, at(2)).await.unwrap();
    assert_eq!(
        (instance.state, instance.resolved_at),
        (InstanceState::Resolved, Some(at(2)))
    );
    let told = topic.take();
    assert_eq!((told.len(), told[0].reason), (1, TransitionReason::ResolvedByHand));
    assert!(store.get_instance(&id).await.unwrap().unwrap().unsent.is_empty());
    let again = resolve_instance(&store, &topic, &id, at(3)).await.unwrap_err();
    assert_eq!(
        again.to_string(),
        "the alert instance is resolved, not pending or firing"
    );
}

#[tokio::test]
async fn a_resolve_that_cannot_be_told_is_told_by_the_next_tick() {
    let (store, topic, data) = (MemoryAlertStore::new(), MemoryTopic::new(), Data::default());
    create(&store, "rule-1", &body("a")).await.unwrap();
    data.push("cpu", "web-01", 0, 95.0);
    tick::evaluate_all(&store, &data, &topic, at(1), &|| true)
        .await
        .unwrap();
    let id = topic.take()[0].instance_id.clone();
    topic.set_down(true);
    resolve_instance(&store, &topic, &id, at(2)).await.unwrap();
    topic.set_down(false);
    data.push("cpu", "web-01", 3, 5.0);
    tick::evaluate_all(&store, &data, &topic, at(4), &|| true)
        .await
        .unwrap();
    assert_eq!(topic.take()[0].reason, TransitionReason::ResolvedByHand);
}

#[tokio::test]
async fn a_deleted_rule_is_resolved_by_the_next_tick() {
    let (store, topic, data) = (MemoryAlertStore::new(), MemoryTopic::new(), Data::default());
    create(&store, "rule-1", &body("a")).await.unwrap();
    data.push("cpu", "web-01", 0, 95.0);
    tick::evaluate_all(&store, &data, &topic, at(1), &|| true)
        .await
        .unwrap();
    delete_rule(&store, "rule-1").await.unwrap();
    let summary = tick::evaluate_all(&store, &data, &topic, at(2), &|| true)
        .await
        .unwrap();
    assert_eq!((summary.rules_evaluated, summary.alerts_resolved), (0, 1));
    assert_eq!(topic.take()[1].reason, TransitionReason::RuleDeleted);
}
