use super::*;
use crate::fixtures::event;
use serde_json::{Value, json};

fn body(kind: TransitionKind) -> Value {
    serde_json::to_value(message(&event(kind, "https://example.org/", &["webhook"]), "webhook")).unwrap()
}

#[test]
fn a_firing_looks_as_alertmanagers_receivers_expect() {
    let labels = json!({"alertname": "high_cpu", "host": "web-01", "severity": "critical"});
    let annotations = json!({"summary": "CPU of web-01 is 92.5"});
    let event = event(TransitionKind::Firing, "https://example.org/", &["webhook"]);
    let wanted = json!({
        "version": "4",
        "groupKey": "{}:{alertname=\"high_cpu\", host=\"web-01\"}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "webhook",
        "groupLabels": {"alertname": "high_cpu", "host": "web-01"},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [{
            "status": "firing",
            "labels": labels,
            "annotations": annotations,
            "startsAt": "2026-01-01T12:00:00.000Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "",
            "fingerprint": event.fingerprint,
            "instance_id": event.instance_id,
            "reason": "condition_held",
            "value": 92.5,
            "threshold": 90.0,
            "rule": {"id": "rule-1", "name": "high_cpu", "metric_name": "cpu_usage", "labels": {}, "aggregation": "avg",
                "group_by": ["host"], "condition": ">", "threshold": 90.0, "severity": "critical"},
        }],
    });
    assert_eq!(body(TransitionKind::Firing), wanted);
}

#[test]
fn a_resolve_has_an_end_and_the_same_group() {
    let (firing, resolved) = (body(TransitionKind::Firing), body(TransitionKind::Resolved));
    assert_eq!(
        (&resolved["status"], &resolved["alerts"][0]["status"]),
        (&json!("resolved"), &json!("resolved"))
    );
    assert_eq!(resolved["alerts"][0]["endsAt"], "2026-01-01T12:02:00.000Z");
    assert_eq!(resolved["alerts"][0]["reason"], "condition_cleared");
    for field in ["groupKey", "groupLabels", "commonLabels"] {
        assert_eq!(firing[field], resolved[field]);
    }
    assert_eq!(firing["alerts"][0]["startsAt"], resolved["alerts"][0]["startsAt"]);
}

#[test]
fn values_without_a_json_number_are_strings() {
    let mut event = event(TransitionKind::Firing, "https://example.org/", &["webhook"]);
    event.value = f64::NAN;
    assert_eq!(
        serde_json::to_value(message(&event, "webhook")).unwrap()["alerts"][0]["value"],
        "NaN"
    );
}

#[test]
fn group_keys_are_quoted() {
    let labels: Texts<'_> = [("host", "a\"b\\"), ("zone", "")].into();
    assert_eq!(group_key(&labels), r#"{}:{host="a\"b\\", zone=""}"#);
}
