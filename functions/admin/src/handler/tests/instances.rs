//! Instances.

use super::*;

fn path(instance: &Value, verb: &str) -> String {
    format!("/alerts/instances/{}/{verb}", instance["id"].as_str().unwrap())
}

#[test]
fn somebody_takes_care_of_an_instance() {
    let admin = admin();
    let fired = fire(&admin, &["web-01"]);
    let acknowledge = path(&fired[0], "acknowledge");
    let body = json!({"by": "ana", "comment": "on it"});
    let (status, noted) = ask(&admin, "POST", &acknowledge, &body);
    assert_eq!(status, 200, "{noted}");
    assert_eq!(
        (&noted["acknowledged"]["by"], &noted["acknowledged"]["comment"]),
        (&json!("ana"), &json!("on it"))
    );
    assert_eq!(ask(&admin, "POST", &acknowledge, &body).0, 200, "again");
    for (body, name) in [
        (json!({}), "by"),
        (json!({"by": ""}), "by"),
        (json!({"by": "ana", "comment": 1}), "comment"),
    ] {
        assert_eq!(field(&ask(&admin, "POST", &acknowledge, &body)), (400, name));
    }
    assert_eq!(
        error_id(&ask(&admin, "POST", &acknowledge, &Value::Null)),
        (400, "invalid-body")
    );
    let unknown = ask(
        &admin,
        "POST",
        "/alerts/instances/none/acknowledge",
        &json!({"by": "ana"}),
    );
    assert_eq!(error_id(&unknown), (404, "not-found"));
}

#[test]
fn a_resolve_by_hand_says_who_and_why() {
    let admin = admin();
    let fired = fire(&admin, &["web-01"]);
    let resolve = path(&fired[0], "resolve");
    assert_eq!(field(&ask(&admin, "POST", &resolve, &json!({"by": 1}))), (400, "by"));
    let (status, resolved) = ask(&admin, "POST", &resolve, &json!({"by": "ana", "comment": "replaced"}));
    assert_eq!((status, &resolved["state"]), (200, &json!("resolved")));
    let over = ask(&admin, "POST", &resolve, &Value::Null);
    assert_eq!(error_id(&over), (409, "invalid-state"));
    let over = ask(&admin, "POST", &path(&fired[0], "acknowledge"), &json!({"by": "ana"}));
    assert_eq!(error_id(&over), (409, "invalid-state"));
    let history = all(&admin, "/alerts/history", "history");
    assert_eq!(
        (&history[0]["state"], &history[0]["by"]),
        (&json!("resolved"), &json!("ana")),
        "{history:?}"
    );
    assert_eq!(history[0]["comment"], "replaced");
}
