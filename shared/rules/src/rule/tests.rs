use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn least() -> Value {
    json!({"name": "high_cpu", "metric_name": "cpu_usage", "condition": ">", "threshold": 90})
}

fn with(field: &str, value: Value) -> Value {
    let mut body = least();
    body[field] = value;
    body
}

fn threshold(spec: &RuleSpec) -> &Threshold {
    match &spec.query {
        Query::Threshold(threshold) => threshold,
        Query::Heartbeat => panic!("a heartbeat"),
    }
}

fn error(body: &Value) -> (String, String) {
    let error = RuleSpec::parse(body).unwrap_err();
    (error.field, error.reason)
}

#[test]
fn four_fields_make_a_rule_and_the_others_have_defaults() {
    let spec = RuleSpec::parse(&least()).unwrap();
    let asked = threshold(&spec);
    assert_eq!(
        (asked.window_seconds, asked.aggregation, asked.group_by.len()),
        (300, None, 0)
    );
    assert_eq!(
        (
            spec.duration_seconds,
            spec.keep_firing_for_seconds,
            spec.interval_seconds
        ),
        (0, 0, 60)
    );
    assert_eq!(
        (spec.severity, spec.enabled, spec.no_data, spec.repeat_interval_seconds),
        (Severity::Warning, true, NoData::Ok, None)
    );
    assert!(spec.notification_channels.is_empty() && spec.alert_labels.is_empty() && spec.annotations.is_empty());
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
        "name": "high_cpu", "kind": "threshold", "metric_name": "cpu_usage", "labels": {"env": "prod"}, "aggregation": "avg",
        "group_by": ["host", "region"], "condition": ">=", "threshold": 92.5, "duration_seconds": 60,
        "window_seconds": 120, "keep_firing_for_seconds": 300, "interval_seconds": 120, "no_data": "keep", "severity": "critical",
        "alert_labels": {"team": "db"}, "notification_channels": ["webhook", {"channel": "email", "group_wait_seconds": 30}],
        "webhook_url": "https://hooks.example.org/x?y=z", "repeat_interval_seconds": 3_600,
        "annotations": {"summary": "{{ host }}: {{ value }}"}, "enabled": false,
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
    assert_eq!(spec.notification_channels, [WEBHOOK_CHANNEL.into()]);
    let mut silent = with("webhook_url", json!("http://127.0.0.1:8080/"));
    silent["notification_channels"] = json!([]);
    assert!(RuleSpec::parse(&silent).unwrap().notification_channels.is_empty());
}

#[test]
fn group_by_is_a_list_or_a_comma_separated_text() {
    let mut body = with("group_by", json!(" host, region,host "));
    body["aggregation"] = json!("max");
    assert_eq!(threshold(&RuleSpec::parse(&body).unwrap()).group_by, ["host", "region"]);
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
        (
            "notification_channels",
            json!(["email", {"channel": "ops", "group_wait_seconds": "1m"}]),
            "notification_channels[1].group_wait_seconds",
        ),
        ("kind", json!("query"), "kind"),
        ("kind", json!(1), "kind"),
        ("keep_firing_for_seconds", json!(604_801), "keep_firing_for_seconds"),
        ("interval_seconds", json!(30), "interval_seconds"),
        ("interval_seconds", json!(90), "interval_seconds"),
        ("interval_seconds", json!(86_460), "interval_seconds"),
        ("no_data", json!("alert"), "no_data"),
        ("repeat_interval_seconds", json!(59), "repeat_interval_seconds"),
        ("repeat_interval_seconds", json!(2_592_001), "repeat_interval_seconds"),
        ("alert_labels", json!(["team"]), "alert_labels"),
        ("alert_labels", json!({"team": 1}), "alert_labels.team"),
        ("alert_labels", json!({"team": ""}), "alert_labels.team"),
        ("alert_labels", json!({"": "db"}), "alert_labels."),
        ("alert_labels", json!({"alertname": "x"}), "alert_labels.alertname"),
        ("alert_labels", json!({"severity": "info"}), "alert_labels.severity"),
        ("alert_labels", json!({"__name__": "x"}), "alert_labels.__name__"),
        ("alert_labels", json!({"team": "x".repeat(2_049)}), "alert_labels.team"),
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
    let many: BTreeMap<String, &str> = (0..33).map(|n| (format!("l{n}"), "x")).collect();
    assert_eq!(error(&with("alert_labels", json!(many))).0, "alert_labels");
    let long = "x".repeat(2_000);
    let much: BTreeMap<String, &str> = (0..5).map(|n| (format!("l{n}"), long.as_str())).collect();
    assert_eq!(error(&with("alert_labels", json!(much))).0, "alert_labels");
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
    assert_eq!(
        (threshold(&patched).threshold, patched.severity),
        (95.0, Severity::Warning)
    );
    assert_eq!(
        serde_json::to_value(&patched.annotations).unwrap(),
        json!({"summary": "new"})
    );
    assert_eq!(threshold(&patched).labels, "{env='prod'}".parse().unwrap());
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
        let patched = spec.patched(&json!({"labels": patch})).unwrap();
        threshold(&patched).labels.to_string()
    };
    assert_eq!(patched(json!({"a": "1"}), json!({"b": "2"})), r#"{a="1",b="2"}"#);
    assert_eq!(patched(json!("{a!='1'}"), json!({"b": "2"})), r#"{b="2"}"#);
    assert_eq!(patched(json!({"a": "1"}), json!("{b!='2'}")), r#"{b!="2"}"#);
    assert_eq!(patched(json!("{a!='1'}"), Value::Null), "{}");
}

#[test]
fn a_patch_takes_back_and_replaces_what_is_new() {
    let body = json!({"name": "r", "metric_name": "m", "condition": ">", "threshold": 1, "no_data": "keep", "interval_seconds": 120,
        "keep_firing_for_seconds": 60, "repeat_interval_seconds": 60, "alert_labels": {"team": "db", "tier": "1"},
        "notification_channels": ["ops", {"channel": "dev", "send_resolved": false}]});
    let spec = RuleSpec::parse(&body).unwrap();
    let patch = json!({"no_data": null, "interval_seconds": null, "keep_firing_for_seconds": null, "repeat_interval_seconds": null,
        "alert_labels": {"tier": null, "zone": "a"}, "notification_channels": [{"channel": "dev", "mute_times": ["nights"]}]});
    let patched = spec.patched(&patch).unwrap();
    assert_eq!(
        (
            patched.no_data,
            patched.interval_seconds,
            patched.keep_firing_for_seconds
        ),
        (NoData::Ok, 60, 0)
    );
    assert_eq!(patched.repeat_interval_seconds, None);
    assert_eq!(
        serde_json::to_value(&patched.alert_labels).unwrap(),
        json!({"team": "db", "zone": "a"})
    );
    assert_eq!(
        serde_json::to_value(&patched.notification_channels).unwrap(),
        json!([{"channel": "dev", "mute_times": ["nights"]}]),
        "a list is replaced as a whole"
    );
    let none = spec.patched(&json!({"notification_channels": null})).unwrap();
    assert!(none.notification_channels.is_empty());
}

#[test]
fn a_heartbeat_needs_only_a_name() {
    let spec =
        RuleSpec::parse(&json!({"name": "alive", "kind": "heartbeat", "notification_channels": ["snitch"]})).unwrap();
    assert_eq!((&spec.query, spec.interval_seconds), (&Query::Heartbeat, 60));
    let json = serde_json::to_value(&spec).unwrap();
    assert_eq!((&json["kind"], json.get("metric_name")), (&json!("heartbeat"), None));
    let waits = json!({"name": "alive", "kind": "heartbeat", "duration_seconds": 60});
    assert_eq!(error(&waits).0, "duration_seconds");
    let turned = RuleSpec::parse(&least())
        .unwrap()
        .patched(&json!({"kind": "heartbeat"}));
    assert_eq!(turned.unwrap().query, Query::Heartbeat);
    let back = spec.patched(&json!({"kind": null})).unwrap_err();
    assert_eq!(back.field, "metric_name");
}

#[test]
fn the_labels_of_an_alert_are_those_of_its_series_and_what_the_rule_says_of_it() {
    let mut body = with("alert_labels", json!({"team": "db", "host": "all"}));
    body["severity"] = json!("critical");
    let rule = Rule {
        id: "rule-abc".into(),
        spec: RuleSpec::parse(&body).unwrap(),
        version: 1,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    };
    let series = [("host", "a"), ("zone", "eu"), ("severity", "x"), ("alertname", "y")];
    let labels = rule.snapshot().alert_labels(&Labels::from_pairs(series).unwrap());
    assert_eq!(
        serde_json::to_value(labels).unwrap(),
        json!({"alertname": "high_cpu", "host": "all", "severity": "critical", "team": "db", "zone": "eu"})
    );
}

#[test]
fn a_patch_is_checked_with_the_rest_of_the_rule() {
    let spec = RuleSpec::parse(&with("webhook_url", json!("http://example.org/"))).unwrap();
    assert_eq!(
        spec.patched(&json!({"webhook_url": "x"})).unwrap_err().field,
        "webhook_url"
    );
    assert_eq!(spec.patched(&json!({"name": null})).unwrap_err().field, "name");
    assert_eq!(spec.patched(&json!([1])).unwrap_err().field, "");
}

#[test]
fn warnings_tell_what_will_not_work() {
    let mut body = with("notification_channels", json!(["webhook"]));
    body["aggregation"] = json!("rate");
    body["group_by"] = json!(["host"]);
    body["alert_labels"] = json!({"team": "db"});
    body["annotations"] = json!({"summary": "{{ host }} {{ zone }} {{ team }} {{ value }}"});
    let warnings = RuleSpec::parse(&body).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("`webhook`") && warnings[1].contains("`zone`"));
    assert!(RuleSpec::parse(&least()).unwrap().warnings().is_empty());
}

fn channel() -> impl Strategy<Value = Value> {
    let names = || prop::collection::vec("[a-z]{1,3}", 0..3);
    let settings = (
        prop::option::of(names()),
        prop::option::of(0_u64..=900),
        prop::option::of(60_u64..=2_592_000),
        prop::option::of(any::<bool>()),
        prop::option::of(names()),
    );
    settings.prop_map(|(group_by, wait, repeat, send_resolved, mute_times)| {
        json!({"group_by": group_by, "group_wait_seconds": wait, "group_interval_seconds": wait, "repeat_interval_seconds": repeat,
            "send_resolved": send_resolved, "mute_times": mute_times})
    })
}

fn body() -> impl Strategy<Value = Value> {
    let texts = || prop::collection::btree_map("[a-f]{1,3}", "[^{}]{1,8}", 0..4);
    let query = (
        prop_oneof![Just(Value::Null), Just(json!("threshold")), Just(json!("heartbeat"))],
        prop_oneof![
            Just(Value::Null),
            Just(json!("avg")),
            Just(json!("increase")),
            Just(json!("last"))
        ],
        -1e9..1e9_f64,
        texts(),
    );
    let times = (0_u64..=604_800, 1_u64..=1_440, prop::option::of(60_u64..=2_592_000));
    let rest = (
        prop_oneof![Just("ok"), Just("alerting"), Just("keep")],
        texts(),
        prop::collection::vec(channel(), 0..4),
        any::<bool>(),
    );
    (query, times, rest).prop_map(
        |((kind, function, threshold, labels), (seconds, minutes, repeat), (no_data, own, channels, enabled))| {
            let mut body = least();
            let heartbeat = kind == "heartbeat";
            body["group_by"] = if function.is_null() { json!([]) } else { json!(["host"]) };
            for (field, value) in [
                ("kind", kind),
                ("aggregation", function),
                ("threshold", json!(threshold)),
                ("labels", json!(labels)),
                ("duration_seconds", json!(if heartbeat { 0 } else { seconds })),
                ("keep_firing_for_seconds", json!(seconds)),
                ("interval_seconds", json!(minutes * 60)),
                ("repeat_interval_seconds", json!(repeat)),
                ("no_data", json!(no_data)),
                ("alert_labels", json!(own)),
                ("annotations", json!(own)),
                ("enabled", json!(enabled)),
            ] {
                body[field] = value;
            }
            let channels = channels.into_iter().enumerate().map(|(number, mut channel)| {
                channel["channel"] = json!(format!("c{number}"));
                channel
            });
            body["notification_channels"] = channels.collect();
            body
        },
    )
}

proptest! {
    #[test]
    fn a_rule_reads_back_from_what_it_is_written_as(body in body()) {
        let spec = RuleSpec::parse(&body).unwrap();
        let written = serde_json::to_value(&spec).unwrap();
        prop_assert_eq!(&RuleSpec::parse(&written).unwrap(), &spec, "as a request");
        prop_assert_eq!(&spec.patched(&json!({})).unwrap(), &spec, "as a patch of nothing");
        let rule = Rule { id: "rule-abc".into(), spec, version: 3, created_at: Timestamp(1), updated_at: Timestamp(2) };
        let text = serde_json::to_string(&rule).unwrap();
        prop_assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule.clone(), "from a store");
        let snapshot = serde_json::to_string(&rule.snapshot()).unwrap();
        prop_assert_eq!(serde_json::from_str::<RuleSnapshot>(&snapshot).unwrap(), rule.snapshot());
    }

    #[test]
    fn no_body_makes_it_panic(field in "[a-z_]{0,12}", value in any::<i64>(), text in ".{0,20}") {
        for value in [json!(value), json!(text), json!([text]), json!({text.as_str(): [value]}), json!([{"channel": text, "group_by": [text]}])] {
            for name in [field.as_str(), "kind", "notification_channels", "alert_labels", "labels", "interval_seconds"] {
                let _ = RuleSpec::parse(&with(name, value.clone()));
            }
        }
    }
}
