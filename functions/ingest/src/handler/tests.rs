#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

use super::*;
use lambda_http::Body;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidemark_model::Buckets;
use tidemark_tsdb::ingest::{PutError, ShardMap};
use tidemark_wire::envelope::Record;

const NOW: i64 = 1_767_225_600_000;

/// A stream that counts what it takes, or refuses.
#[derive(Default)]
struct Stream {
    taken: AtomicUsize,
    refuses: bool,
}

impl Sink for Stream {
    async fn shard_map(&self) -> Arc<ShardMap> {
        Arc::new(ShardMap::unknown(Buckets::new(16).unwrap()))
    }

    async fn put(&self, records: Vec<Record>, _: Duration) -> Result<(), PutError> {
        if self.refuses {
            return Err(PutError::Throttled {
                retry_after_s: 2,
                source: "full".into(),
            });
        }
        self.taken.fetch_add(
            records.iter().map(|record| record.samples as usize).sum(),
            Ordering::Relaxed,
        );
        Ok(())
    }
}

fn ingest(stream: Stream) -> Ingest<Stream> {
    Ingest::new(
        stream,
        Intake {
            buckets: Buckets::new(16).unwrap(),
            retention_ms: 86_400_000,
        },
    )
}

fn call(method: &str, path: &str, body: &str) -> Call {
    let event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"host": "localhost", "content-type": "application/json"}, "isBase64Encoded": false, "body": body,
        "requestContext": {"http": {"method": method, "path": path, "protocol": "HTTP/1.1"}, "stage": "$default"},
    });
    Call::new(lambda_http::request::from_str(&event.to_string()).unwrap())
}

fn push(stream: Stream, body: &str) -> (u16, Value, usize) {
    let ingest = ingest(stream);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answer = runtime.block_on(ingest.handle(&call("POST", "/api/v1/metrics", body), NOW));
    let Body::Text(text) = answer.body() else {
        panic!("{answer:?}")
    };
    (
        answer.status().as_u16(),
        serde_json::from_str(text).unwrap(),
        ingest.sink.taken.into_inner(),
    )
}

#[test]
fn good_samples_are_taken_and_bad_ones_are_named() {
    let body = r#"{"metrics":[{"name":"cpu","value":1},{"name":"","value":2},{"name":"cpu","value":"x"}]}"#;
    let (status, answer, taken) = push(Stream::default(), body);
    assert_eq!((status, taken), (202, 1));
    assert_eq!(
        (&answer["status"], &answer["accepted"], &answer["rejected"]),
        (&json!("accepted"), &json!(1), &json!(2))
    );
    let named: Vec<_> = answer["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (&e["index"], &e["field"]))
        .collect();
    assert_eq!(named, [(&json!(1), &json!("name")), (&json!(2), &json!("value"))]);
}

#[test]
fn a_request_without_a_good_sample_is_a_bad_request_with_all_its_errors() {
    let (status, answer, taken) = push(Stream::default(), r#"{"name":"cpu"}"#);
    assert_eq!((status, taken), (400, 0));
    assert_eq!(answer["error"]["id"], "all-samples-rejected");
    assert_eq!(
        (&answer["error"]["field"], &answer["errors"][0]["field"]),
        (&json!("value"), &json!("value"))
    );
    assert_eq!((&answer["accepted"], &answer["rejected"]), (&json!(0), &json!(1)));
}

#[test]
fn what_is_not_json_is_a_bad_request() {
    for body in ["", "{", "[]", "null", "{\"metrics\":{}}"] {
        let (status, answer, _) = push(Stream::default(), body);
        assert_eq!(
            (status, &answer["error"]["id"]),
            (400, &json!("invalid-body")),
            "{body}"
        );
    }
}

#[test]
fn a_stream_that_takes_nothing_is_unavailable_for_a_while() {
    let ingest = ingest(Stream {
        refuses: true,
        ..Stream::default()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let call = call("POST", "/api/v1/metrics", r#"{"name":"cpu","value":1}"#);
    let answer = runtime.block_on(ingest.handle(&call, NOW));
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
}

#[test]
fn another_method_and_another_path_are_told_apart() {
    let ingest = ingest(Stream::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let status = |method, path| {
        runtime
            .block_on(ingest.handle(&call(method, path, ""), NOW))
            .status()
            .as_u16()
    };
    assert_eq!(status("GET", "/api/v1/metrics"), 405);
    assert_eq!(status("POST", "/api/v1/metric"), 404);
}

#[test]
fn a_body_beyond_the_limit_is_too_large() {
    let body = format!(
        "{{\"metrics\":[{}]}}",
        " ".repeat(tidemark_model::limits::MAX_BODY_BYTES)
    );
    let (status, answer, _) = push(Stream::default(), &body);
    assert_eq!((status, &answer["error"]["id"]), (413, &json!("body-too-large")));
}
