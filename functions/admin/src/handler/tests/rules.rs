//! Rules.

use super::*;

#[test]
fn a_rule_lives_from_its_creation_to_its_deletion() {
    let admin = admin();
    let (status, created) = ask(&admin, "POST", "/alerts/rules", &rule("hot"));
    assert_eq!(status, 201);
    let path = format!("/alerts/rules/{}", created["id"].as_str().unwrap());
    assert_eq!(ask(&admin, "GET", &path, &Value::Null).1["threshold"], json!(90.0));
    let (status, patched) = ask(&admin, "PATCH", &path, &json!({"threshold": 95.5}));
    assert_eq!(
        (status, &patched["threshold"], &patched["name"]),
        (200, &json!(95.5), &json!("hot"))
    );
    let (status, replaced) = ask(&admin, "PUT", &path, &rule("hotter"));
    assert_eq!(
        (status, &replaced["name"], &replaced["id"]),
        (200, &json!("hotter"), &created["id"])
    );
    assert_eq!(ask(&admin, "DELETE", &path, &Value::Null), (204, Value::Null));
    assert_eq!(ask(&admin, "GET", &path, &Value::Null).0, 404);
    assert_eq!(ask(&admin, "DELETE", &path, &Value::Null).0, 404);
}

#[test]
fn a_taken_name_and_a_bad_field_are_refused_by_name() {
    let admin = admin();
    ask(&admin, "POST", "/alerts/rules", &rule("hot"));
    let (status, taken) = ask(&admin, "POST", "/alerts/rules", &rule("hot"));
    assert_eq!((status, &taken["error"]["field"]), (409, &json!("name")));
    let mut wrong = rule("cold");
    wrong["condition"] = json!("=>");
    let (status, refused) = ask(&admin, "POST", "/alerts/rules", &wrong);
    assert_eq!((status, &refused["error"]["field"]), (400, &json!("condition")));
    assert_eq!(ask(&admin, "POST", "/alerts/rules", &Value::Null).0, 400);
}

#[test]
fn lists_of_rules_page_to_their_end() {
    let admin = admin();
    for at in 0..5 {
        ask(&admin, "POST", "/alerts/rules", &rule(&format!("rule {at}")));
    }
    let mut names = Vec::new();
    let mut target = "/alerts/rules?limit=2".to_owned();
    loop {
        let (_, page) = ask(&admin, "GET", &target, &Value::Null);
        names.extend(
            page["rules"]
                .as_array()
                .unwrap()
                .iter()
                .map(|rule| rule["name"].clone()),
        );
        match page["next_token"].as_str() {
            Some(token) => target = format!("/alerts/rules?limit=2&next_token={token}"),
            None => break,
        }
    }
    names.sort_by_key(Value::to_string);
    assert_eq!(names.len(), 5);
    names.dedup();
    assert_eq!(names.len(), 5);
}

#[test]
fn a_condition_can_be_tested() {
    let body = json!({"metric_name": "cpu", "condition": ">", "threshold": 90, "current_value": 92.5});
    let (status, answer) = ask(&admin(), "POST", "/alerts/rules/test", &body);
    assert_eq!((status, &answer["triggered"]), (200, &json!(true)));
    assert!(answer["reason"].as_str().unwrap().contains("92.5"));
}

#[test]
fn a_rule_says_which_of_its_channels_are_missing() {
    let admin = admin();
    let mut named = rule("hot");
    named["notification_channels"] = json!(["webhook", "oncall"]);
    let (status, created) = ask(&admin, "POST", "/alerts/rules", &named);
    assert_eq!(status, 201);
    let missing = json!(["the channel `oncall` is not configured: nobody is told there"]);
    assert_eq!(created["warnings"], missing);
    assert_eq!(all(&admin, "/alerts/rules", "rules")[0]["warnings"], missing);
    let channel = json!({"name": "oncall", "type": "webhook", "url": "https://hooks.example.com/x"});
    ask(&admin, "POST", "/channels", &channel);
    let path = format!("/alerts/rules/{}", created["id"].as_str().unwrap());
    assert_eq!(ask(&admin, "GET", &path, &Value::Null).1.get("warnings"), None);
}

#[test]
fn a_whole_rule_can_be_tested_over_stored_data() {
    let admin = admin();
    push(&admin, "web-02", 97.5);
    push(&admin, "web-01", 1.0);
    ask(&admin, "POST", "/ops/process-queue", &Value::Null);
    let second = NOW / 1_000;
    let body = json!({"rule": rule("hot"), "start_time": second - 120, "end_time": second});
    let (status, found) = ask(&admin, "POST", "/alerts/rules/test", &body);
    assert_eq!((status, &found["evaluations"]), (200, &json!(3)), "{found}");
    let incidents = found["incidents"].as_array().unwrap();
    assert_eq!(incidents.len(), 1, "{found}");
    assert_eq!(
        (&incidents[0]["labels"], &incidents[0]["value"]),
        (&json!({"host": "web-02"}), &json!(97.5))
    );
    assert_eq!(
        all(&admin, "/alerts/instances", "instances").len(),
        0,
        "nothing is kept"
    );
    for (name, bad, at) in [
        ("start_time", json!(null), "start_time"),
        ("start_time", json!(second + 1), "start_time"),
        ("end_time", json!(second + 60), "end_time"),
        ("step_seconds", json!(0), "step_seconds"),
        ("rule", json!({"name": "hot"}), "rule.metric_name"),
        ("rule", json!([]), "rule"),
    ] {
        let mut wrong = body.clone();
        wrong[name] = bad;
        assert_eq!(
            field(&ask(&admin, "POST", "/alerts/rules/test", &wrong)),
            (400, at),
            "{name}"
        );
    }
}
