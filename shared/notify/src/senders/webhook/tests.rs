use super::*;
use crate::fixtures::{alert, notification};
use serde_json::json;

fn json_of(notification: &Notification) -> Value {
    serde_json::from_slice(&body(notification).unwrap()).unwrap()
}

#[test]
fn a_firing_looks_as_alertmanagers_receivers_expect() {
    let labels = json!({"alertname": "high_cpu", "host": "web-01", "severity": "critical"});
    let annotations = json!({"summary": "CPU of web-01 is 92.5"});
    let firing = alert("web-01", None);
    let mut query = firing.rule.query.clone();
    let rule = query.as_object_mut().unwrap();
    for (name, value) in [
        ("id", json!("rule-1")),
        ("name", json!("high_cpu")),
        ("version", json!(3)),
        ("severity", json!("critical")),
    ] {
        rule.insert(name.to_owned(), value);
    }
    let wanted = json!({
        "version": "4",
        "groupKey": "{}:{alertname=\"high_cpu\"}",
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "ops",
        "groupLabels": {"alertname": "high_cpu"},
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
            "fingerprint": firing.fingerprint,
            "instance_id": firing.instance_id,
            "reason": "condition_held",
            "value": 92.5,
            "threshold": 90.0,
            "rule": query,
        }],
    });
    let written = json_of(&notification(vec![firing]));
    assert_eq!(written, wanted);
    let rule = &written["alerts"][0]["rule"];
    assert_eq!(
        (
            &rule["metric_name"],
            &rule["condition"],
            &rule["aggregation"],
            &rule["group_by"]
        ),
        (&json!("cpu_usage"), &json!(">"), &json!("avg"), &json!(["host"]))
    );
}

/// The fields of Alertmanager's `webhook.Message` and `template.Alert`, with the types that a Go program reads.
#[test]
fn every_field_of_alertmanager_is_there_with_its_type() {
    let message = json_of(&notification(vec![alert("web-01", None), alert("web-02", Some(60))]));
    for field in ["version", "groupKey", "status", "receiver", "externalURL"] {
        assert!(message[field].is_string(), "{field}");
    }
    for field in ["groupLabels", "commonLabels", "commonAnnotations"] {
        let map = message[field].as_object().unwrap();
        assert!(map.values().all(Value::is_string), "{field}");
    }
    assert!(message["truncatedAlerts"].is_u64());
    for alert in message["alerts"].as_array().unwrap() {
        for field in ["status", "generatorURL", "fingerprint"] {
            assert!(alert[field].is_string(), "{field}");
        }
        for field in ["startsAt", "endsAt"] {
            let text = alert[field].as_str().unwrap();
            assert!(chrono::DateTime::parse_from_rfc3339(text).is_ok(), "{field}: {text}");
        }
        for field in ["labels", "annotations"] {
            assert!(
                alert[field].as_object().unwrap().values().all(Value::is_string),
                "{field}"
            );
        }
    }
}

#[test]
fn a_group_shares_what_all_of_its_alerts_have() {
    let message = json_of(&notification(vec![alert("web-01", None), alert("web-02", Some(60))]));
    assert_eq!(message["status"], "firing");
    assert_eq!(
        message["commonLabels"],
        json!({"alertname": "high_cpu", "severity": "critical"})
    );
    assert_eq!(message["commonAnnotations"], json!({}));
    assert_eq!(message["alerts"][1]["status"], "resolved");
    assert_eq!(message["alerts"][1]["endsAt"], "2026-01-01T12:01:00.000Z");
}

#[test]
fn values_without_a_json_number_are_strings_and_a_heartbeat_has_no_threshold() {
    let mut one = alert("web-01", None);
    one.value = f64::NAN;
    one.rule.query = json!({"kind": "heartbeat"});
    let message = json_of(&notification(vec![one]));
    assert_eq!(message["alerts"][0]["value"], "NaN");
    assert!(message["alerts"][0].get("threshold").is_none());
    assert_eq!(message["alerts"][0]["rule"]["kind"], "heartbeat");
}

#[test]
fn a_body_stays_below_a_mebibyte_and_counts_what_it_leaves_out() {
    let mut alerts: Vec<Alert> = (0..500).map(|n| alert(&format!("web-{n}"), None)).collect();
    for alert in &mut alerts {
        alert.annotations.insert("description".into(), "\"x\n".repeat(1_300));
    }
    let mut many = notification(alerts);
    many.truncated_alerts = 12;
    let bytes = body(&many).unwrap();
    assert!(bytes.len() < 1_048_576, "{}", bytes.len());
    let message: Value = serde_json::from_slice(&bytes).unwrap();
    let told = message["alerts"].as_array().unwrap().len();
    assert!(told > 100, "{told}");
    assert_eq!(message["truncatedAlerts"], 512 - told);
}

#[test]
fn a_signature_is_the_hmac_of_the_time_and_the_exact_bytes() {
    // Computed with Python's hmac module.
    let keys = [("2026", "s3cret-one".into()), ("2025", "s3cret-two".into())];
    assert_eq!(
        signature(&keys, 1_767_268_800, b"{\"a\":1}"),
        "t=1767268800,\
         2026=6da215f14b2ec337d8a4153541f7dd56de60a4a7f642e8334fc73c782c77b7f7,\
         2025=4e319095e04879138b4eb6ecd91f7f33469e4f1dd6a277c90eefb9eae6e4e3f9"
    );
    assert_ne!(
        signature(&keys, 1_767_268_800, b"{\"a\":1}"),
        signature(&keys, 1_767_268_800, b"{\"a\": 1}")
    );
}
