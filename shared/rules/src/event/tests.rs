use super::*;
use crate::decide::{Change, decide};
use crate::fixtures::{at, row, rule};
use crate::instance::Instance;
use serde_json::{Value, json};

fn firing(value: f64) -> (Instance, TransitionEvent) {
    let extra = json!({"condition": ">=", "alert_labels": {"team": "db"},
        "notification_channels": ["webhook", {"channel": "ops", "group_by": ["..."]}]});
    let decision = decide(&rule("r", &extra), &[], &[row("a", value)], at(0), 0);
    let Some(Change::Save { instance, .. }) = decision.changes.into_iter().next() else {
        panic!("nothing fires")
    };
    let event = instance.event(&instance.unsent[0]);
    (*instance, event)
}

fn written(message: &Message) -> Value {
    serde_json::to_value(message).unwrap()
}

#[test]
fn a_message_reads_back_from_what_it_is_written_as() {
    for value in [95.5, f64::INFINITY, 1e300] {
        let mut event = firing(value).1;
        let mut messages = vec![Message::Event(Box::new(event.clone()))];
        event.beat = Some(at(60));
        messages.push(Message::Event(Box::new(event)));
        messages.push(Message::Wake { lane: "ops".to_owned() });
        for message in messages {
            let text = written(&message).to_string();
            assert_eq!(Message::from_json(&text).unwrap(), message, "{text}");
        }
    }
}

#[test]
fn an_event_without_a_value_reads_back() {
    let mut event = firing(95.0).1;
    event.value = f64::NAN;
    let text = written(&Message::Event(Box::new(event))).to_string();
    assert!(matches!(Message::from_json(&text), Ok(Message::Event(event)) if event.value.is_nan()));
}

#[test]
fn an_event_of_another_version_is_told_from_what_is_none() {
    let mut json = written(&Message::Event(Box::new(firing(95.0).1)));
    assert_eq!((&json["type"], &json["schema_version"]), (&json!("event"), &json!(2)));
    json["schema_version"] = json!(3);
    let error = Message::from_json(&json.to_string()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the event has schema version 3; this version reads 2"
    );
    for text in [
        "",
        "hello",
        "[]",
        "{}",
        r#"{"type": "event"}"#,
        r#"{"type": "event", "schema_version": 2}"#,
        r#"{"type": "letter", "lane": "ops"}"#,
        r#"{"type": "wake"}"#,
    ] {
        assert!(
            matches!(Message::from_json(text), Err(EventError::NotAnEvent(_))),
            "{text}"
        );
    }
}

#[test]
fn an_event_tells_all_that_is_needed_to_deliver_it() {
    let (instance, event) = firing(95.0);
    assert_eq!(event.id, format!("{}.{}.firing", instance.id, at(0).0));
    assert_eq!(event.incident_id(), format!("{}.{}", instance.id, at(0).0));
    assert_eq!(
        serde_json::to_value(event.alert_labels()).unwrap(),
        json!({"alertname": "r", "host": "a", "severity": "warning", "team": "db"})
    );
    assert_eq!(event.annotations["summary"], "a is at 95");
}

#[test]
fn an_event_that_is_too_large_is_cut_until_the_topic_takes_it() {
    let (mut instance, usual) = firing(95.0);
    let transition = instance.unsent[0].clone();
    instance.annotations = (0..32).map(|n| (format!("a{n:02}"), "\u{1}".repeat(4_096))).collect();
    let event = instance.event(&transition);
    assert!(serde_json::to_vec(&event).unwrap().len() <= MAX_EVENT_BYTES);
    assert_eq!(event.labels, usual.labels, "that was enough");
    assert!(event.annotations["a31"] == "…" && event.annotations["a00"].len() == 4_096);
    let pairs = (0..64).map(|n| (format!("{n:02}{}", "l".repeat(200)), "\u{1}".repeat(2_048)));
    instance.labels = tidemark_model::Labels::from_pairs(pairs).unwrap();
    let event = instance.event(&transition);
    assert!(serde_json::to_vec(&event).unwrap().len() <= MAX_EVENT_BYTES);
    assert_eq!((&event.id, &event.fingerprint), (&usual.id, &usual.fingerprint));
    assert!(
        event
            .labels
            .iter()
            .all(|(_, value)| value.len() > 100 && value.ends_with('…'))
    );
    assert_eq!(usual.clone().fitting(), {
        let mut same = usual;
        same.previous = None;
        same
    });
}
