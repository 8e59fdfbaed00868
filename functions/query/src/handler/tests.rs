#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use super::*;
use lambda_http::Body;
use std::sync::Arc;
use std::time::Duration;
use tidemark_model::{Buckets, WindowLength};
use tidemark_tsdb::answers::MemoryAnswers;
use tidemark_tsdb::ingest::{Intake, RequestTimes, accept};
use tidemark_tsdb::memory::{MemoryStore, MemoryStream};
use tidemark_tsdb::{Consumer, Layout, Origin, Retention};

const NOW: i64 = 1_767_225_600_000;
const DAY_MS: i64 = 86_400_000;

fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 7 * DAY_MS,
            minute_ms: 30 * DAY_MS,
            hour_ms: 365 * DAY_MS,
        },
        grace_ms: 3_600_000,
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// The function over a store, and what fills the store.
struct House {
    query: Query<MemoryStore, MemoryAnswers>,
    store: Arc<MemoryStore>,
    stream: MemoryStream,
}

impl House {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let reader = Reader::new(Arc::clone(&store), layout(), 1_000_000);
        Self {
            query: Query::new(reader, MemoryAnswers::default()),
            store,
            stream: MemoryStream::new(layout().buckets, 1, NOW),
        }
    }

    fn push(&self, host: &str, value: f64) {
        let body = json!({"metrics": [{"name": "cpu", "value": value, "labels": {"host": host},
            "timestamp": NOW / 1_000 - 30}]});
        let intake = Intake {
            buckets: layout().buckets,
            retention_ms: layout().retention.raw_ms,
        };
        let times = RequestTimes {
            now_ms: NOW,
            within: Duration::from_secs(1),
        };
        block_on(accept(&self.stream, &intake, body.to_string().as_bytes(), times)).unwrap();
        let records = self.stream.records(0);
        let mut consumer = Consumer::new(Arc::clone(&self.store), layout(), Origin::Stream, Arc::new(|| NOW));
        let last = &records[records.len() - 1..];
        block_on(consumer.flush(&MemoryStream::shard_id(0), last, &*self.store)).unwrap();
    }

    /// The status, the header `X-Cache`, and the JSON.
    fn ask(&self, method: &str, target: &str, cache_control: &str) -> (u16, Option<String>, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": format!("/api/v1{path}"), "rawQueryString": query,
            "headers": {"host": "localhost", "cache-control": cache_control}, "isBase64Encoded": false,
            "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1"}, "stage": "$default"},
        });
        let call = Call::new(lambda_http::request::from_str(&event.to_string()).unwrap());
        let answer = block_on(self.query.handle(&call, NOW));
        let found = answer.headers().get("x-cache");
        let found = found.map(|value| value.to_str().unwrap().to_owned());
        let json = match answer.body() {
            Body::Text(text) => serde_json::from_str(text).unwrap(),
            other => panic!("{other:?}"),
        };
        (answer.status().as_u16(), found, json)
    }

    fn found(&self, target: &str, cache_control: &str) -> (String, usize) {
        let (status, found, json) = self.ask("GET", target, cache_control);
        assert_eq!(status, 200, "{json}");
        (found.unwrap(), json["results"].as_array().unwrap().len())
    }
}

#[test]
fn an_answer_says_whether_it_comes_from_the_cache() {
    let house = House::new();
    house.push("a", 1.0);
    let target = "/query?metric_name=cpu&step=60";
    let (hit, miss) = (|rows| ("hit".to_owned(), rows), |rows| ("miss".to_owned(), rows));
    assert_eq!(house.found(target, ""), miss(1));
    assert_eq!(house.found(target, ""), hit(1));
    assert_eq!(house.found(target, "no-cache"), miss(1));
    house.push("b", 2.0);
    assert_eq!(house.found(target, "max-age=0"), miss(2));
    assert_eq!(house.found(target, ""), hit(2));
}

#[test]
fn an_error_is_not_cached_and_names_its_field() {
    let house = House::new();
    for _ in 0..2 {
        let (status, found, json) = house.ask("GET", "/query?metric_name=cpu&step=often", "");
        assert_eq!((status, found), (400, None));
        assert_eq!(json["error"]["field"], "step");
    }
}

#[test]
fn names_labels_and_values_are_listed() {
    let house = House::new();
    house.push("a", 1.0);
    house.push("b", 1.0);
    let list = |target: &str, field: &str| house.ask("GET", target, "").2[field].clone();
    assert_eq!(list("/metrics/names", "names"), json!(["cpu"]));
    assert_eq!(list("/metrics/cpu/labels", "labels"), json!(["host"]));
    assert_eq!(list("/metrics/cpu/labels/host/values", "values"), json!(["a", "b"]));
    assert_eq!(house.ask("POST", "/query", "").0, 405);
    assert_eq!(house.ask("GET", "/nothing", "").0, 404);
}
