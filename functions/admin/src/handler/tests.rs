#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use super::*;
use lambda_http::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Buckets, WindowLength};
use tidemark_rules::MemoryAlertStore;
use tidemark_rules::memory::MemoryTopic;
use tidemark_tsdb::ingest::{Intake, RequestTimes, accept};
use tidemark_tsdb::memory::{MemoryStore, MemoryStream};
use tidemark_tsdb::{Layout, Origin, Retention};

const NOW: i64 = 1_767_225_600_000;

struct Letters;

impl DeadLetters for Letters {
    async fn send(&self, _: Vec<tidemark_tsdb::stream::DeadLetter>) -> Result<(), tidemark_tsdb::StoreError> {
        Ok(())
    }
}

impl Kept for MemoryStream {
    async fn keeps_ms(&self) -> Result<i64, tidemark_tsdb::StoreError> {
        Ok(86_400_000)
    }
}

type MemoryAdmin = Admin<MemoryAlertStore, MemoryTopic, MemoryStore, MemoryStream, Letters>;

fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 86_400_000,
            minute_ms: 86_400_000,
            hour_ms: 86_400_000,
        },
        grace_ms: 3_600_000,
    }
}

fn admin() -> MemoryAdmin {
    let store = Arc::new(MemoryStore::default());
    Admin::new(Parts {
        alerts: MemoryAlertStore::default(),
        topic: MemoryTopic::default(),
        reader: Reader::new(Arc::clone(&store), layout(), 1_000_000),
        compactor: Compactor::new(Arc::clone(&store), layout(), 30_000),
        consumer: Consumer::new(store, layout(), Origin::Operator, Arc::new(|| NOW)),
        stream: MemoryStream::new(layout().buckets, 2, NOW),
        dead_letters: Letters,
        clock: || NOW,
    })
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A call as API Gateway hands it over; the answer's status and JSON.
fn ask(admin: &MemoryAdmin, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": format!("/api/v1{path}"), "rawQueryString": query,
        "headers": {"host": "localhost"}, "isBase64Encoded": false,
        "body": if body.is_null() { Value::Null } else { body.to_string().into() },
        "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1"}, "stage": "$default"},
    });
    let call = Call::new(lambda_http::request::from_str(&event.to_string()).unwrap());
    let answer = block_on(admin.handle(&call));
    let json = match answer.body() {
        Body::Text(text) => serde_json::from_str(text).unwrap(),
        Body::Empty => Value::Null,
        other => panic!("{other:?}"),
    };
    (answer.status().as_u16(), json)
}

fn push(admin: &MemoryAdmin, host: &str, value: f64) {
    let body = json!({"name": "cpu", "value": value, "labels": {"host": host}}).to_string();
    let intake = Intake {
        buckets: layout().buckets,
        retention_ms: layout().retention.raw_ms,
    };
    let times = RequestTimes {
        now_ms: NOW,
        within: Duration::from_secs(1),
    };
    block_on(accept(&admin.stream, &intake, body.as_bytes(), times)).unwrap();
}

fn rule(name: &str) -> Value {
    json!({"name": name, "metric_name": "cpu", "condition": ">", "threshold": 90, "duration_seconds": 0,
           "severity": "critical", "webhook_url": "https://hooks.example.com/x"})
}

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
    let told: Vec<&str> = admin.topic.take().iter().map(|event| event.kind.as_str()).collect();
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
fn a_condition_can_be_tested() {
    let body = json!({"metric_name": "cpu", "condition": ">", "threshold": 90, "current_value": 92.5});
    let (status, answer) = ask(&admin(), "POST", "/alerts/rules/test", &body);
    assert_eq!((status, &answer["triggered"]), (200, &json!(true)));
    assert!(answer["reason"].as_str().unwrap().contains("92.5"));
}

#[test]
fn a_preflight_is_answered_without_a_word() {
    assert_eq!(
        ask(&admin(), "OPTIONS", "/alerts/rules", &Value::Null),
        (204, Value::Null)
    );
}

#[test]
fn bad_parameters_unknown_paths_and_wrong_methods_are_told_apart() {
    let admin = admin();
    let status = |method, target| {
        let (status, answer) = ask(&admin, method, target, &Value::Null);
        (status, answer["error"]["id"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(
        status("GET", "/alerts/instances?state=broken"),
        (400, "invalid-parameter".into())
    );
    assert_eq!(
        status("GET", "/alerts/rules?limit=0"),
        (400, "invalid-parameter".into())
    );
    assert_eq!(
        status("GET", "/alerts/rules?next_token=%3F"),
        (400, "invalid-parameter".into())
    );
    assert_eq!(
        status("POST", "/alerts/instances/none/resolve"),
        (404, "not-found".into())
    );
    assert_eq!(status("GET", "/nothing"), (404, "not-found".into()));
    assert_eq!(status("GET", "/ops/compact"), (405, "method-not-allowed".into()));
    assert_eq!(status("DELETE", "/stats/queue"), (405, "method-not-allowed".into()));
    assert_eq!(status("GET", "/ops/process-queue"), (405, "method-not-allowed".into()));
    // The gateway sends what matches none of its routes here, also what other functions would answer with another method.
    for (method, path) in [
        ("GET", "/metrics"),
        ("POST", "/query"),
        ("PUT", "/metrics/names"),
        ("DELETE", "/metrics/cpu/labels"),
        ("POST", "/metrics/cpu/labels/host/values"),
    ] {
        assert_eq!(
            status(method, path),
            (405, "method-not-allowed".into()),
            "{method} {path}"
        );
    }
}
