//! Operations by hand, and what the statistics say of them.

use super::*;
use tidemark_rules::Message;

#[test]
fn what_waits_is_stored_evaluated_told_and_resolved() {
    let admin = admin();
    ask(&admin, "POST", "/alerts/rules", &rule("hot"));
    push(&admin, "web-02", 97.5);
    let (_, queue) = ask(&admin, "GET", "/stats/queue", &Value::Null);
    assert_eq!(
        (
            &queue["total_events"],
            &queue["unconsumed_events"],
            &queue["partitions"]
        ),
        (&json!(1), &json!(1), &json!(2))
    );
    let (status, drained) = ask(&admin, "POST", "/ops/process-queue", &Value::Null);
    assert_eq!(
        (status, drained),
        (200, json!({"fetched": 1, "written": 1, "errors": 0, "remaining": 0}))
    );
    let (_, tick) = ask(&admin, "POST", "/ops/evaluate-alerts", &Value::Null);
    assert_eq!(
        (
            &tick["rules_evaluated"],
            &tick["alerts_triggered"],
            &tick["alerts_resolved"]
        ),
        (&json!(1), &json!(1), &json!(0))
    );

    let (_, active) = ask(&admin, "GET", "/alerts/instances/active", &Value::Null);
    let instance = &active["instances"][0];
    assert_eq!(
        (&instance["state"], &instance["labels"], &instance["current_value"]),
        (&json!("firing"), &json!({"host": "web-02"}), &json!(97.5))
    );
    assert_eq!(
        ask(&admin, "GET", "/alerts/instances?state=resolved", &Value::Null).1["instances"],
        json!([])
    );
    let (_, system) = ask(&admin, "GET", "/stats/system", &Value::Null);
    assert_eq!(
        (
            &system["total_metrics"],
            &system["total_alerts"],
            &system["active_alerts"]
        ),
        (&json!(1), &json!(1), &json!(1))
    );
    assert_eq!(
        (&system["metric_names_count"], &system["time_range_end"]),
        (&json!(1), &json!("2026-01-01T00:00:00.000Z"))
    );

    let of = |rule: &str| {
        let (_, found) = ask(&admin, "GET", &format!("/alerts/instances?rule={rule}"), &Value::Null);
        found["instances"].as_array().unwrap().len()
    };
    assert_eq!(
        (of("hot"), of(instance["rule_id"].as_str().unwrap()), of("cold")),
        (1, 1, 0)
    );

    let resolve = format!("/alerts/instances/{}/resolve", instance["id"].as_str().unwrap());
    assert_eq!(ask(&admin, "POST", &resolve, &Value::Null).1["state"], "resolved");
    let (status, again) = ask(&admin, "POST", &resolve, &Value::Null);
    assert_eq!((status, &again["error"]["id"]), (409, &json!("invalid-state")));
    let published = admin.topic.take();
    let told: Vec<&str> = published
        .iter()
        .filter_map(|message| match message {
            Message::Event(event) => Some(event.kind.as_str()),
            Message::Wake { .. } => None,
        })
        .collect();
    assert_eq!(told, ["firing", "resolved"]);
}

#[test]
fn the_queue_can_be_processed_again_from_a_time_that_the_stream_keeps() {
    let admin = admin();
    push(&admin, "web-01", 1.0);
    let process = |body: Value| ask(&admin, "POST", "/ops/process-queue", &body);
    let count = |(status, drained): (u16, Value)| {
        assert_eq!(status, 200, "{drained}");
        (
            drained["fetched"].as_u64().unwrap(),
            drained["written"].as_u64().unwrap(),
        )
    };
    assert_eq!(count(process(json!({}))), (1, 1));
    assert_eq!(count(process(json!({"from": null}))), (0, 0), "it is stored already");
    let second = NOW / 1_000;
    for from in [
        json!(second),
        json!(second - 86_400),
        json!((second - 60).to_string()),
        json!("2026-01-01T00:00:00Z"),
        json!("2026-01-01T01:30:00+02:00"),
    ] {
        assert_eq!(count(process(json!({ "from": from }))), (1, 1), "{from}");
    }
    // It was counted once.
    let (_, queue) = ask(&admin, "GET", "/stats/queue", &Value::Null);
    assert_eq!(queue["total_events"], 1, "{queue}");
    for (from, reason) in [
        (json!(second + 1), "is in the future"),
        (
            json!(second - 86_401),
            "is longer ago than the stream keeps records, which is 24 hours",
        ),
        (json!("yesterday"), "must be RFC 3339"),
        (json!(NOW), "milliseconds"),
        (json!(true), "is no time"),
    ] {
        let (status, refused) = process(json!({ "from": from }));
        let error = &refused["error"];
        assert_eq!((status, &error["field"]), (400, &json!("from")), "{refused}");
        assert!(error["message"].as_str().unwrap().contains(reason), "{refused}");
    }
    let (status, refused) = process(json!({"form": 1}));
    assert_eq!((status, &refused["error"]["field"]), (400, &json!("form")));
    assert_eq!(process(json!([1])).0, 400);
}

#[test]
fn what_is_due_is_compacted_by_hand_and_seen_in_the_statistics() {
    let admin = admin();
    let tiers = || ask(&admin, "GET", "/stats/system", &Value::Null).1;
    let before = tiers();
    assert_eq!(
        before["tiers"][0],
        json!({"tier": "raw", "retention_seconds": 86_400, "compacted_before": null})
    );
    let (status, report) = ask(&admin, "POST", "/ops/compact", &Value::Null);
    assert_eq!(
        (status, &report["buckets"], &report["failed"]),
        (200, &json!(4), &json!(0))
    );
    assert_eq!(report["remaining"], json!(false));
    let after = tiers();
    // The window before the grace, and the day that is over by then.
    let through: Vec<&Value> = after["tiers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tier| &tier["compacted_before"])
        .collect();
    let before_grace = json!("2025-12-31T22:00:00.000Z");
    assert_eq!(
        through,
        [&before_grace, &before_grace, &json!("2025-12-31T00:00:00.000Z")]
    );
    assert_eq!(after["dirty_windows"], 0);
    assert_eq!(ask(&admin, "POST", "/ops/compact", &Value::Null).1["buckets"], 0);
}

#[test]
fn what_notify_gave_up_is_sent_back() {
    let (status, answer) = ask(&admin(), "POST", "/ops/redrive-notifications", &Value::Null);
    assert_eq!((status, answer), (200, json!({"redriven": 5, "remaining": false})));
}
