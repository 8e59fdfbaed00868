use super::*;
use serde_json::{Value, json};

fn least() -> Value {
    json!({"name": "high_cpu", "metric_name": "cpu_usage", "condition": ">", "threshold": 90})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = least();
    body[field] = value;
    body
}

fn error(body: &Value) -> (String, String) {
    let error = RuleSpec::parse(body).unwrap_err();
    (error.field, error.reason)
}

#[test]
fn four_fields_make_a_rule_and_the_others_have_defaults() {
    let spec = RuleSpec::parse(&least()).unwrap();
    assert_eq!((spec.duration_seconds, spec.window_seconds), (0, 300));
    assert_eq!(
        (spec.severity, spec.enabled, spec.aggregation),
        (Severity::Warning, true, None)
    );
    assert!(spec.notification_channels.is_empty() && spec.group_by.is_empty() && spec.annotations.is_empty());
    for field in ["name", "metric_name", "condition", "threshold"] {
        let mut body = least();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(error(&body), (field.to_owned(), "is required".to_owned()));
        assert_eq!(
            error(&with(field, Value::Null)),
            (field.to_owned(), "is required".to_owned())
        );
    }
}

#[test]
fn a_whole_rule_is_read_and_written_with_the_fields_of_the_api() {
    let body = json!({
        "name": "high_cpu", "metric_name": "cpu_usage", "labels": {"env": "prod"}, "aggregation": "avg",
        "group_by": ["host", "region"], "condition": ">=", "threshold": 92.5, "duration_seconds": 60,
        "window_seconds": 120, "severity": "critical", "notification_channels": ["webhook", "email"],
        "webhook_url": "https://hooks.example.org/x?y=z", "annotations": {"summary": "{{ host }}: {{ value }}"},
        "enabled": false,
    });
    let spec = RuleSpec::parse(&body).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), body);
    let stored = Rule {
        id: "rule-abc".into(),
        spec,
        version: 3,
        created_at: Timestamp(1_000),
        updated_at: Timestamp(2_000),
    };
    let json = serde_json::to_value(&stored).unwrap();
    assert_eq!(
        (&json["id"], &json["threshold"], &json["version"]),
        (&json!("rule-abc"), &json!(92.5), &json!(3))
    );
    assert_eq!(json["created_at"], "1970-01-01T00:00:01.000Z");
    assert_eq!(serde_json::from_value::<Rule>(json).unwrap(), stored);
}

#[test]
fn a_rule_with_a_webhook_and_no_channels_uses_the_webhook() {
    let spec = RuleSpec::parse(&with("webhook_url", json!("http://127.0.0.1:8080/"))).unwrap();
    assert_eq!(spec.notification_channels, [WEBHOOK_CHANNEL]);
    let mut silent = with("webhook_url", json!("http://127.0.0.1:8080/"));
    silent["notification_channels"] = json!([]);
    assert!(RuleSpec::parse(&silent).unwrap().notification_channels.is_empty());
}

#[test]
fn group_by_is_a_list_or_a_comma_separated_text() {
    let mut body = with("group_by", json!(" host, region,host "));
    body["aggregation"] = json!("max");
    assert_eq!(RuleSpec::parse(&body).unwrap().group_by, ["host", "region"]);
}

#[test]
fn unknown_fields_and_those_of_the_server_are_ignored() {
    let mut body = least();
    for field in ["id", "version", "created_at", "colour"] {
        body[field] = json!("anything");
    }
    assert_eq!(RuleSpec::parse(&body), RuleSpec::parse(&least()));
}

#[test]
fn every_error_names_its_field() {
    for (field, value, names) in [
        ("name", json!(""), "name"),
        ("name", json!(7), "name"),
        ("name", json!("x".repeat(201)), "name"),
        ("name", json!(" x"), "name"),
        ("name", json!("a\nb"), "name"),
        ("metric_name", json!("x".repeat(513)), "metric_name"),
        ("labels", json!(["host"]), "labels"),
        ("labels", json!({"host": 1}), "labels.host"),
        ("labels", json!({"": "a"}), "labels"),
        ("labels", json!("host"), "labels"),
        ("labels", json!("{host=web}"), "labels"),
        ("labels", json!("{host=~'('}"), "labels.host"),
        ("labels", json!({"__name__": "cpu"}), "labels.__name__"),
        ("labels", json!({"host": "x".repeat(2_049)}), "labels.host"),
        ("aggregation", json!("median"), "aggregation"),
        ("group_by", json!(["host"]), "group_by"),
        ("group_by", json!(["host", 1]), "group_by[1]"),
        ("group_by", json!({"host": true}), "group_by"),
        ("condition", json!("=>"), "condition"),
        ("condition", json!(1), "condition"),
        ("threshold", json!("NaN"), "threshold"),
        ("threshold", json!("90"), "threshold"),
        ("duration_seconds", json!(-1), "duration_seconds"),
        ("duration_seconds", json!(1.5), "duration_seconds"),
        ("duration_seconds", json!(604_801), "duration_seconds"),
        ("duration_seconds", json!("5m"), "duration_seconds"),
        ("window_seconds", json!(0), "window_seconds"),
        ("severity", json!("fatal"), "severity"),
        ("notification_channels", json!("webhook"), "notification_channels"),
        ("notification_channels", json!([1]), "notification_channels[0]"),
        (
            "notification_channels",
            json!(["email", ""]),
            "notification_channels[1]",
        ),
        ("notification_channels", json!(["webhook"]), "webhook_url"),
        ("webhook_url", json!("hooks.example.org"), "webhook_url"),
        ("webhook_url", json!("ftp://example.org/"), "webhook_url"),
        ("webhook_url", json!("https://user:secret@example.org/"), "webhook_url"),
        ("webhook_url", json!("https://"), "webhook_url"),
        (
            "webhook_url",
            json!(format!("https://example.org/{}", "x".repeat(2_048))),
            "webhook_url",
        ),
        ("annotations", json!({"summary": 1}), "annotations.summary"),
        ("annotations", json!({"summary": "{{ host"}), "annotations.summary"),
        (
            "annotations",
            json!({"summary": "x".repeat(4_097)}),
            "annotations.summary",
        ),
        ("annotations", json!("text"), "annotations"),
        ("enabled", json!("yes"), "enabled"),
    ] {
        assert_eq!(error(&with(field, value.clone())).0, names, "{field}: {value}");
    }
    assert_eq!(error(&json!("a rule")).0, "");
}

#[test]
fn lists_and_texts_have_limits() {
    let channels: Vec<String> = (0..17).map(|n| format!("c{n}")).collect();
    assert_eq!(
        error(&with("notification_channels", json!(channels))).0,
        "notification_channels"
    );
    let many: BTreeMap<String, &str> = (0..33).map(|n| (format!("a{n}"), "x")).collect();
    assert_eq!(error(&with("annotations", json!(many))).0, "annotations");
    let long = "x".repeat(4_000);
    let much: BTreeMap<String, &str> = (0..5).map(|n| (format!("a{n}"), long.as_str())).collect();
    assert_eq!(error(&with("annotations", json!(much))).0, "annotations");
    let labels: BTreeMap<String, &str> = (0..65).map(|n| (format!("l{n}"), "x")).collect();
    assert_eq!(error(&with("labels", json!(labels))).0, "labels");
}

#[test]
fn seconds_may_be_written_as_a_float() {
    assert_eq!(
        RuleSpec::parse(&with("duration_seconds", json!(60.0)))
            .unwrap()
            .duration_seconds,
        60
    );
}

#[test]
fn a_merge_patch_replaces_merges_and_takes_back() {
    let mut body = with("annotations", json!({"summary": "old", "runbook": "r"}));
    body["severity"] = json!("critical");
    let spec = RuleSpec::parse(&body).unwrap();
    let patch = json!({"threshold": 95, "severity": null, "annotations": {"summary": "new", "runbook": null},
        "labels": {"env": "prod"}, "id": "other", "version": 99});
    let patched = spec.patched(&patch).unwrap();
    assert_eq!((patched.threshold, patched.severity), (95.0, Severity::Warning));
    assert_eq!(
        serde_json::to_value(&patched.annotations).unwrap(),
        json!({"summary": "new"})
    );
    assert_eq!(patched.labels, "{env='prod'}".parse().unwrap());
    assert_eq!(patched.name, spec.name);
    assert_eq!(spec.patched(&json!({})).unwrap(), spec);
}

#[test]
fn labels_are_an_object_or_a_selector_and_are_stored_as_they_are_said_best() {
    let spec = |labels: Value| RuleSpec::parse(&with("labels", labels)).unwrap();
    let stored = |labels: Value| serde_json::to_value(spec(labels)).unwrap()["labels"].take();
    assert_eq!(stored(json!({"env": "prod"})), json!({"env": "prod"}));
    assert_eq!(stored(json!("{env='prod'}")), json!({"env": "prod"}));
    let text = r#"{env!="test",host=~"web-.*"}"#;
    assert_eq!(stored(json!("{host=~'web-.*', env!='test'}")), json!(text));
    let rule = Rule {
        id: "rule-abc".into(),
        spec: spec(json!(text)),
        version: 1,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    };
    let json = serde_json::to_string(&rule).unwrap();
    assert_eq!(serde_json::from_str::<Rule>(&json).unwrap(), rule);
    let snapshot = serde_json::to_string(&rule.snapshot()).unwrap();
    assert_eq!(
        serde_json::from_str::<RuleSnapshot>(&snapshot).unwrap(),
        rule.snapshot()
    );
}

#[test]
fn a_patch_of_labels_merges_objects_and_replaces_selectors() {
    let patched = |before: Value, patch: Value| {
        let spec = RuleSpec::parse(&with("labels", before)).unwrap();
        spec.patched(&json!({"labels": patch})).unwrap().labels.to_string()
    };
    assert_eq!(patched(json!({"a": "1"}), json!({"b": "2"})), r#"{a="1",b="2"}"#);
    assert_eq!(patched(json!("{a!='1'}"), json!({"b": "2"})), r#"{b="2"}"#);
    assert_eq!(patched(json!({"a": "1"}), json!("{b!='2'}")), r#"{b!="2"}"#);
    assert_eq!(patched(json!("{a!='1'}"), Value::Null), "{}");
}

#[test]
fn a_patch_is_checked_with_the_rest_of_the_rule() {
    let spec = RuleSpec::parse(&with("webhook_url", json!("http://example.org/"))).unwrap();
    assert_eq!(
        spec.patched(&json!({"webhook_url": null})).unwrap_err().field,
        "webhook_url"
    );
    assert_eq!(spec.patched(&json!({"name": null})).unwrap_err().field, "name");
    assert_eq!(spec.patched(&json!([1])).unwrap_err().field, "");
}

#[test]
fn warnings_tell_what_will_not_work() {
    let mut body = with("notification_channels", json!(["email"]));
    body["aggregation"] = json!("avg");
    body["group_by"] = json!(["host"]);
    body["annotations"] = json!({"summary": "{{ host }} {{ zone }} {{ value }}"});
    let warnings = RuleSpec::parse(&body).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`email`") && warnings[1].contains("`zone`"));
    assert!(RuleSpec::parse(&least()).unwrap().warnings().is_empty());
}
