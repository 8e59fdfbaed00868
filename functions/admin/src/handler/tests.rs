#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use super::*;
use crate::backends::{Redrive, Redriven};
use crate::replay::Kept;
use lambda_http::Body;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Buckets, WindowLength};
use tidemark_notify::{MemoryNotifyStore, RecordingSender};
use tidemark_rules::MemoryAlertStore;
use tidemark_rules::memory::MemoryTopic;
use tidemark_tsdb::ingest::{Intake, RequestTimes, accept};
use tidemark_tsdb::memory::{MemoryStore, MemoryStream};
use tidemark_tsdb::stream::DeadLetters;
use tidemark_tsdb::{Layout, Origin, Retention};

mod channels;
mod history;
mod instances;
mod operations;
mod rules;
mod settings;
mod silences;

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

/// Everything in memory.
struct Memory;

impl Backends for Memory {
    type Alerts = MemoryAlertStore;
    type Settings = MemoryNotifyStore;
    type Topic = MemoryTopic;
    type Sender = RecordingSender;
    type Letters = FewLetters;
    type Samples = MemoryStore;
    type Stream = MemoryStream;
    type DeadLetters = Letters;
}

/// Five letters of `notify`, and time for as many as are asked for.
struct FewLetters;

impl Redrive for FewLetters {
    async fn redrive(
        &self,
        at_most: usize,
        within: Duration,
        _began: Timestamp,
    ) -> Result<Redriven, tidemark_tsdb::StoreError> {
        let redriven = if within.is_zero() { 0 } else { at_most.min(5) };
        Ok(Redriven {
            redriven,
            remaining: redriven < 5,
        })
    }
}

type MemoryAdmin = Admin<Memory>;

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
    Admin {
        alerts: MemoryAlertStore::default(),
        settings: MemoryNotifyStore::default(),
        topic: MemoryTopic::default(),
        sender: RecordingSender::default(),
        letters: FewLetters,
        reader: Reader::new(Arc::clone(&store), layout(), 1_000_000),
        compactor: Compactor::new(Arc::clone(&store), layout(), 30_000),
        consumer: Mutex::new(Consumer::new(store, layout(), Origin::Operator, Arc::new(|| NOW))),
        stream: MemoryStream::new(layout().buckets, 2, NOW),
        dead_letters: Letters,
        clock: || NOW,
    }
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

/// The status, and the field that is at fault.
fn field(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["field"].as_str().unwrap_or_default())
}

/// The status, and the id of the error.
fn error_id(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["error"]["id"].as_str().unwrap_or_default())
}

/// Every entry of a list that is asked for two at a time.
fn all(admin: &MemoryAdmin, path: &str, noun: &str) -> Vec<Value> {
    let mut entries = Vec::new();
    let join = if path.contains('?') { '&' } else { '?' };
    let mut target = format!("{path}{join}limit=2");
    loop {
        let (status, page) = ask(admin, "GET", &target, &Value::Null);
        assert_eq!(status, 200, "{page}");
        entries.extend(page[noun].as_array().unwrap().iter().cloned());
        match page["next_token"].as_str() {
            Some(token) => target = format!("{path}{join}limit=2&next_token={token}"),
            None => return entries,
        }
    }
}

/// Some rules that fire, each on one host.
fn fire(admin: &MemoryAdmin, hosts: &[&str]) -> Vec<Value> {
    ask(admin, "POST", "/alerts/rules", &rule("hot"));
    for host in hosts {
        push(admin, host, 97.5);
    }
    ask(admin, "POST", "/ops/process-queue", &Value::Null);
    let (_, tick) = ask(admin, "POST", "/ops/evaluate-alerts", &Value::Null);
    assert_eq!(tick["alerts_triggered"], json!(hosts.len()), "{tick}");
    all(admin, "/alerts/instances/active", "instances")
}

fn rule(name: &str) -> Value {
    json!({"name": name, "metric_name": "cpu", "condition": ">", "threshold": 90, "duration_seconds": 0,
           "severity": "critical", "webhook_url": "https://hooks.example.com/x"})
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

#[test]
fn each_path_takes_the_methods_that_it_says() {
    let admin = admin();
    for path in [
        "/alerts/rules",
        "/alerts/rules/test",
        "/alerts/rules/x",
        "/alerts/instances",
        "/alerts/instances/active",
        "/alerts/instances/x/resolve",
        "/alerts/instances/x/acknowledge",
        "/alerts/history",
        "/alerts/silences",
        "/alerts/silences/preview",
        "/alerts/silences/x",
        "/alerts/inhibitions",
        "/alerts/inhibitions/x",
        "/alerts/mute-times",
        "/alerts/mute-times/x",
        "/channels",
        "/channels/x",
        "/channels/x/test",
        "/ops/process-queue",
        "/ops/compact",
        "/ops/evaluate-alerts",
        "/ops/redrive-notifications",
        "/stats/queue",
        "/stats/system",
    ] {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let known = methods(&segments);
        assert!(!known.is_empty(), "{path}");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            // Of what is named by a word where an id may stand, `GET /alerts/rules/test`, either answer is right.
            let id_of_a_word = known == ["POST"] && matches!(method, "GET" | "PUT" | "PATCH" | "DELETE");
            let answer = ask(&admin, method, path, &json!({}));
            let is_taken = error_id(&answer).1 != "method-not-allowed";
            assert!(
                is_taken == known.contains(&method) || id_of_a_word,
                "{method} {path}: {answer:?}"
            );
        }
    }
    assert_eq!(
        error_id(&ask(&admin, "GET", "/channels/x/y", &Value::Null)),
        (404, "not-found")
    );
}
