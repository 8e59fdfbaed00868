//! Channels.

use super::*;
use tidemark_notify::Failure;
use tidemark_rules::TransitionKind;

fn channel(name: &str) -> Value {
    json!({"name": name, "type": "webhook", "url": "https://hooks.example.com/x"})
}

#[test]
fn a_channel_lives_from_its_creation_to_its_deletion() {
    let admin = admin();
    let (status, created) = ask(&admin, "POST", "/channels", &channel("oncall"));
    assert_eq!((status, &created["id"]), (201, &json!("oncall")), "{created}");
    assert_eq!((&created["type"], &created["version"]), (&json!("webhook"), &json!(1)));
    let path = "/channels/oncall";
    assert_eq!(ask(&admin, "GET", path, &Value::Null), (200, created));
    let (status, patched) = ask(&admin, "PATCH", path, &json!({"group_wait_seconds": 45}));
    assert_eq!((status, &patched["group_wait_seconds"]), (200, &json!(45)));
    let (status, replaced) = ask(&admin, "PUT", path, &channel("oncall"));
    assert_eq!((status, replaced.get("group_wait_seconds")), (200, None));
    assert_eq!(replaced["version"], 3);
    assert_eq!(ask(&admin, "DELETE", path, &Value::Null), (204, Value::Null));
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", channel("oncall")),
        ("PATCH", json!({})),
        ("DELETE", Value::Null),
    ] {
        let missing = ask(&admin, method, path, &body);
        assert_eq!(error_id(&missing), (404, "not-found"), "{method}");
    }
    let missing = ask(&admin, "POST", "/channels/oncall/test", &Value::Null);
    assert_eq!(error_id(&missing), (404, "not-found"));
}

#[test]
fn a_taken_name_and_a_bad_field_are_refused_by_name() {
    let admin = admin();
    let post = |body: &Value| ask(&admin, "POST", "/channels", body);
    post(&channel("oncall"));
    let taken = post(&channel("oncall"));
    assert_eq!(error_id(&taken), (409, "name-taken"));
    assert_eq!(field(&taken), (409, "name"));
    assert_eq!(
        field(&post(&json!({"type": "webhook", "url": "https://a.example/"}))),
        (400, "name")
    );
    assert_eq!(
        field(&post(&json!({"name": "x", "url": "https://a.example/"}))),
        (400, "type")
    );
    assert_eq!(field(&post(&json!({"name": "x", "type": "webhook"}))), (400, "url"));
    assert_eq!(error_id(&post(&json!([]))), (400, "invalid-body"));
    assert_eq!(error_id(&post(&Value::Null)), (400, "invalid-body"));
    let renamed = ask(&admin, "PUT", "/channels/oncall", &channel("other"));
    assert_eq!(field(&renamed), (400, "name"));
}

#[test]
fn lists_of_channels_page_to_their_end() {
    let admin = admin();
    for name in ["e", "a", "d", "b", "c"] {
        ask(&admin, "POST", "/channels", &channel(name));
    }
    let listed = all(&admin, "/channels", "channels");
    let ids: Vec<&str> = listed.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_channel_that_rules_name_stays() {
    let admin = admin();
    ask(&admin, "POST", "/channels", &channel("oncall"));
    let mut rule = rule("hot");
    rule["notification_channels"] = json!(["oncall"]);
    let (_, created) = ask(&admin, "POST", "/alerts/rules", &rule);
    assert_eq!(created.get("warnings"), None);
    let refused = ask(&admin, "DELETE", "/channels/oncall", &Value::Null);
    assert_eq!(error_id(&refused), (409, "in-use"));
    assert!(
        refused.1["error"]["message"].as_str().unwrap().contains("rule `hot`"),
        "{refused:?}"
    );
    ask(
        &admin,
        "DELETE",
        &format!("/alerts/rules/{}", created["id"].as_str().unwrap()),
        &Value::Null,
    );
    assert_eq!(ask(&admin, "DELETE", "/channels/oncall", &Value::Null).0, 204);
}

#[test]
fn a_channel_says_which_mute_times_are_missing() {
    let admin = admin();
    let mut muted = channel("oncall");
    muted["mute_times"] = json!(["nights"]);
    let (status, created) = ask(&admin, "POST", "/channels", &muted);
    assert_eq!(status, 201);
    assert!(created["warnings"][0].as_str().unwrap().contains("nights"), "{created}");
}

#[test]
fn a_test_tells_that_it_fires_and_that_it_is_over() {
    let admin = admin();
    ask(&admin, "POST", "/channels", &channel("oncall"));
    let delivered = ask(&admin, "POST", "/channels/oncall/test", &Value::Null);
    assert_eq!(delivered, (200, json!({"delivered": true})));
    let told = admin.sender.delivered_to("oncall");
    let kinds: Vec<TransitionKind> = told.iter().map(|one| one.status).collect();
    assert_eq!(kinds, [TransitionKind::Firing, TransitionKind::Resolved]);
    assert_ne!(told[0].id, told[1].id);

    ask(&admin, "PATCH", "/channels/oncall", &json!({"send_resolved": false}));
    ask(&admin, "POST", "/channels/oncall/test", &Value::Null);
    assert_eq!(admin.sender.delivered_to("oncall").len(), 3);
}

#[test]
fn a_test_that_fails_says_why() {
    let admin = admin();
    ask(&admin, "POST", "/channels", &channel("oncall"));
    admin.sender.fail_next([Failure::Server { status: 503 }]);
    let (status, answer) = ask(&admin, "POST", "/channels/oncall/test", &Value::Null);
    assert_eq!((status, &answer["delivered"]), (200, &json!(false)));
    assert!(answer["error"].as_str().unwrap().contains("503"), "{answer}");
}
