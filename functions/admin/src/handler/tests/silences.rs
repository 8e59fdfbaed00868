//! Silences.

use super::*;
use tidemark_model::Timestamp;

fn at(seconds: i64) -> String {
    Timestamp(NOW + seconds * 1_000).to_rfc3339()
}

fn silence(extra: &Value) -> Value {
    let mut body = json!({"matchers": "{host=~\"web.*\"}", "duration_seconds": 3_600, "created_by": "ana",
        "comment": "disks are being changed"});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn create(admin: &MemoryAdmin, extra: &Value) -> Value {
    let (status, created) = ask(admin, "POST", "/alerts/silences", &silence(extra));
    assert_eq!(status, 201, "{created}");
    created
}

fn path(silence: &Value) -> String {
    format!("/alerts/silences/{}", silence["id"].as_str().unwrap())
}

#[test]
fn a_silence_is_created_read_changed_and_ended() {
    let admin = admin();
    let created = create(&admin, &json!({}));
    assert_eq!(created["state"], "active");
    assert_eq!(
        (&created["starts_at"], &created["ends_at"]),
        (&json!(at(0)), &json!(at(3_600)))
    );
    let path = path(&created);
    assert_eq!(ask(&admin, "GET", &path, &Value::Null), (200, created));
    let (status, changed) = ask(&admin, "PUT", &path, &silence(&json!({"duration_seconds": 60})));
    assert_eq!(
        (status, &changed["ends_at"], &changed["version"]),
        (200, &json!(at(60)), &json!(2))
    );
    let (status, ended) = ask(&admin, "DELETE", &path, &Value::Null);
    assert_eq!(
        (status, &ended["state"], &ended["ends_at"]),
        (200, &json!("expired"), &json!(at(0)))
    );
    assert_eq!(ask(&admin, "GET", &path, &Value::Null).1["state"], "expired");
    let over = ask(&admin, "PUT", &path, &silence(&json!({})));
    assert_eq!(error_id(&over), (409, "invalid-state"));
    for method in ["GET", "DELETE"] {
        let missing = ask(&admin, method, "/alerts/silences/none", &Value::Null);
        assert_eq!(error_id(&missing), (404, "not-found"));
    }
    let missing = ask(&admin, "PUT", "/alerts/silences/none", &silence(&json!({})));
    assert_eq!(error_id(&missing), (404, "not-found"));
}

#[test]
fn silences_are_listed_by_state() {
    let admin = admin();
    for _ in 0..3 {
        create(&admin, &json!({}));
    }
    for _ in 0..3 {
        create(&admin, &json!({"starts_at": at(60)}));
    }
    let over = create(&admin, &json!({}));
    ask(&admin, "DELETE", &path(&over), &Value::Null);
    let count = |state: &str| {
        let listed = all(&admin, &format!("/alerts/silences?state={state}"), "silences");
        assert!(listed.iter().all(|one| one["state"] == state));
        listed.len()
    };
    assert_eq!((count("active"), count("pending"), count("expired")), (3, 3, 1));
    assert_eq!(all(&admin, "/alerts/silences", "silences").len(), 7);
    let wrong = ask(&admin, "GET", "/alerts/silences?state=firing", &Value::Null);
    assert_eq!(field(&wrong), (400, "state"));
}

#[test]
fn a_bad_field_is_refused_by_name() {
    let admin = admin();
    for (extra, name) in [
        (json!({"matchers": {}}), "matchers"),
        (json!({"matchers": "{host=~\"(\"}"}), "matchers.host"),
        (json!({"matchers": [{"name": "a"}]}), "matchers[0].value"),
        (json!({"created_by": null}), "created_by"),
        (json!({"comment": null}), "comment"),
        (json!({"ends_at": at(-5), "duration_seconds": null}), "ends_at"),
        (json!({"starts_at": "tomorrow"}), "starts_at"),
    ] {
        let refused = ask(&admin, "POST", "/alerts/silences", &silence(&extra));
        assert_eq!(field(&refused), (400, name), "{extra}");
    }
}

#[test]
fn a_preview_shows_what_would_be_muted() {
    let admin = admin();
    fire(&admin, &["web-01", "web-02", "db-01"]);
    let preview = |body: Value| ask(&admin, "POST", "/alerts/silences/preview", &body);
    let (status, shown) = preview(json!({"matchers": "{host=~\"web.*\"}"}));
    assert_eq!(
        (status, &shown["active"], &shown["firing"]),
        (200, &json!(2), &json!(2))
    );
    let hosts: Vec<&Value> = shown["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["labels"]["host"])
        .collect();
    assert_eq!(hosts.len(), 2);
    assert!(!hosts.contains(&&json!("db-01")));
    assert_eq!(shown["truncated"], json!(false));
    // The rule's own labels count as well.
    assert_eq!(
        preview(json!({"matchers": {"alertname": "hot", "severity": "critical"}})).1["active"],
        3
    );
    assert_eq!(preview(json!({"matchers": {"alertname": "cold"}})).1["active"], 0);
    assert_eq!(field(&preview(json!({"matchers": "{}"}))), (400, "matchers"));
    assert_eq!(field(&preview(json!({}))), (400, "matchers"));
    assert_eq!(error_id(&preview(json!([]))), (400, "invalid-body"));
}

#[test]
fn instances_say_which_silences_mute_them() {
    let admin = admin();
    fire(&admin, &["web-01", "db-01"]);
    let active = create(&admin, &json!({}));
    create(&admin, &json!({"starts_at": at(60)}));
    for instance in all(&admin, "/alerts/instances", "instances") {
        let expected = if instance["labels"]["host"] == "web-01" {
            json!([active["id"]])
        } else {
            json!([])
        };
        assert_eq!(instance["silenced_by"], expected, "{instance}");
    }
}
