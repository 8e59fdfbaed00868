//! Inhibitions and mute times.

use super::*;

fn inhibition(name: &str) -> Value {
    json!({"name": name, "source_matchers": {"alertname": "dc_down"}, "target_matchers": "{severity=~\"warning|info\"}",
        "equal": ["dc"]})
}

fn mute_time(name: &str) -> Value {
    json!({"name": name, "time_intervals": [{"weekdays": ["saturday", "sunday"], "location": "Europe/Berlin"}]})
}

#[test]
fn both_live_from_their_creation_to_their_deletion() {
    let admin = admin();
    for (path, noun, body) in [
        ("/alerts/inhibitions", "inhibitions", inhibition as fn(&str) -> Value),
        ("/alerts/mute-times", "mute_times", mute_time),
    ] {
        for name in ["c", "a", "b"] {
            let (status, created) = ask(&admin, "POST", path, &body(name));
            assert_eq!((status, &created["id"]), (201, &json!(name)), "{created}");
        }
        let ids: Vec<Value> = all(&admin, path, noun).iter().map(|one| one["id"].clone()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let one = format!("{path}/a");
        let (_, stored) = ask(&admin, "GET", &one, &Value::Null);
        assert_eq!(ask(&admin, "PUT", &one, &body("a")), (200, stored), "nothing changed");
        assert_eq!(error_id(&ask(&admin, "POST", path, &body("a"))), (409, "name-taken"));
        assert_eq!(field(&ask(&admin, "PUT", &one, &body("b"))), (400, "name"));
        assert_eq!(ask(&admin, "DELETE", &one, &Value::Null), (204, Value::Null));
        for (method, body) in [("GET", Value::Null), ("PUT", body("a")), ("DELETE", Value::Null)] {
            assert_eq!(error_id(&ask(&admin, method, &one, &body)), (404, "not-found"));
        }
    }
}

#[test]
fn a_change_makes_a_new_version() {
    let admin = admin();
    ask(&admin, "POST", "/alerts/inhibitions", &inhibition("dc"));
    let mut other = inhibition("dc");
    other["equal"] = json!(["dc", "region"]);
    let (status, changed) = ask(&admin, "PUT", "/alerts/inhibitions/dc", &other);
    assert_eq!(
        (status, &changed["version"], &changed["equal"]),
        (200, &json!(2), &json!(["dc", "region"]))
    );
}

#[test]
fn a_bad_field_is_refused_by_name() {
    let admin = admin();
    for (path, mut body, name, bad, at) in [
        (
            "/alerts/inhibitions",
            inhibition("x"),
            "source_matchers",
            json!({}),
            "source_matchers",
        ),
        (
            "/alerts/inhibitions",
            inhibition("x"),
            "target_matchers",
            json!(null),
            "target_matchers",
        ),
        ("/alerts/inhibitions", inhibition("x"), "equal", json!("dc"), "equal"),
        ("/alerts/inhibitions", inhibition("x"), "name", json!("a/b"), "name"),
        (
            "/alerts/mute-times",
            mute_time("x"),
            "time_intervals",
            json!([]),
            "time_intervals",
        ),
        (
            "/alerts/mute-times",
            mute_time("x"),
            "time_intervals",
            json!([{"weekdays": ["caturday"]}]),
            "time_intervals[0].weekdays[0]",
        ),
    ] {
        body[name] = bad;
        assert_eq!(field(&ask(&admin, "POST", path, &body)), (400, at), "{body}");
    }
}

#[test]
fn a_mute_time_that_is_named_stays() {
    let admin = admin();
    ask(&admin, "POST", "/alerts/mute-times", &mute_time("weekends"));
    let channel = json!({"name": "by day", "type": "webhook", "url": "https://hooks.example.com/x",
        "mute_times": ["weekends"]});
    let (status, created) = ask(&admin, "POST", "/channels", &channel);
    assert_eq!((status, created.get("warnings")), (201, None));
    let refused = ask(&admin, "DELETE", "/alerts/mute-times/weekends", &Value::Null);
    assert_eq!(error_id(&refused), (409, "in-use"));
    assert!(
        refused.1["error"]["message"]
            .as_str()
            .unwrap()
            .contains("channel `by day`")
    );
    assert_eq!(ask(&admin, "DELETE", "/channels/by%20day", &Value::Null).0, 204);
    assert_eq!(
        ask(&admin, "DELETE", "/alerts/mute-times/weekends", &Value::Null).0,
        204
    );
}
