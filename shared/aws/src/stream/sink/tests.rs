use super::*;
use crate::testing::{Call, Reply, Script, Time};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn sink(script: &Script, pace: Pace) -> KinesisSink {
    KinesisSink::with(script.clients().kinesis(), "stream", Buckets::new(4).unwrap(), pace)
}

fn record(number: u32) -> Record {
    Record {
        shard: 0,
        explicit_hash_key: u128::from(number),
        data: number.to_be_bytes().to_vec(),
        samples: 1,
    }
}

fn records(call: &Call) -> Vec<Value> {
    call.body["Records"].as_array().unwrap().clone()
}

fn answer(codes: impl IntoIterator<Item = Option<&'static str>>) -> Reply {
    let results: Vec<Value> = codes
        .into_iter()
        .map(|code| match code {
            None => json!({"SequenceNumber": "1", "ShardId": "shardId-0"}),
            Some(code) => json!({"ErrorCode": code, "ErrorMessage": "scripted"}),
        })
        .collect();
    Reply::Json(json!({ "Records": results }))
}

#[tokio::test]
async fn only_failed_records_are_put_again_and_none_is_lost() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&taken);
    let mut state = 3_u64;
    let script = Script::answering(move |call| {
        let codes: Vec<Option<&'static str>> = records(call)
            .iter()
            .map(|record| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                match (state >> 33) % 3 {
                    0 => Some("ProvisionedThroughputExceededException"),
                    1 => Some("InternalFailure"),
                    _ => {
                        kept.lock()
                            .unwrap()
                            .push(record["ExplicitHashKey"].as_str().unwrap().to_owned());
                        None
                    }
                }
            })
            .collect();
        answer(codes)
    });
    let time = Time::new(0.1);
    let within = Duration::from_secs(30);
    sink(&script, time.pace())
        .put((0..1_200).map(record).collect(), within)
        .await
        .unwrap();
    let taken = taken.lock().unwrap().clone();
    assert_eq!(taken.len(), 1_200);
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 1_200, "every record once");
    assert!(script.calls().iter().all(|call| records(call).len() <= 500));
}

#[tokio::test]
async fn calls_keep_below_five_megabytes() {
    let script = Script::answering(|call| answer(records(call).iter().map(|_| None)));
    let large = |number| Record {
        data: vec![1; 900_000],
        ..record(number)
    };
    let time = Time::new(0.5);
    sink(&script, time.pace())
        .put((0..7).map(large).collect(), Duration::from_secs(1))
        .await
        .unwrap();
    let sizes: Vec<usize> = script.calls().iter().map(|call| records(call).len()).collect();
    assert_eq!(sizes, [5, 2]);
}

#[tokio::test]
async fn a_stream_that_stays_full_is_throttled_at_the_deadline() {
    let script = Script::answering(|call| {
        answer(
            records(call)
                .iter()
                .map(|_| Some("ProvisionedThroughputExceededException")),
        )
    });
    let time = Time::new(1.0);
    let within = Duration::from_secs(5);
    let error = sink(&script, time.pace())
        .put(vec![record(1)], within)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            PutError::Throttled {
                retry_after_s: 1..=10,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(time.pauses().iter().sum::<Duration>() < within);
}

#[tokio::test]
async fn a_fault_of_the_stream_is_not_called_throttling() {
    let script = Script::answering(|call| {
        answer(records(call).iter().enumerate().map(|(place, _)| match place {
            0 => Some("InternalFailure"),
            _ => Some("ProvisionedThroughputExceededException"),
        }))
    });
    let time = Time::new(1.0);
    let within = Duration::from_secs(2);
    let error = sink(&script, time.pace())
        .put(vec![record(1), record(2)], within)
        .await
        .unwrap_err();
    assert!(matches!(error, PutError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn failed_calls_are_repeated_whole() {
    let script = Script::new([
        Reply::error(400, "ProvisionedThroughputExceededException"),
        Reply::Reset,
        Reply::error(503, "ServiceUnavailable"),
        Reply::error(400, "KMSThrottlingException"),
        answer([None, None]),
    ]);
    let time = Time::new(0.5);
    let within = Duration::from_secs(5);
    sink(&script, time.pace())
        .put(vec![record(1), record(2)], within)
        .await
        .unwrap();
    assert!(script.calls().iter().all(|call| records(call).len() == 2));
}

#[tokio::test]
async fn what_the_stream_refuses_is_not_repeated() {
    let script = Script::new([Reply::error(400, "ResourceNotFoundException")]);
    let time = Time::new(0.5);
    let within = Duration::from_secs(5);
    let error = sink(&script, time.pace())
        .put(vec![record(1)], within)
        .await
        .unwrap_err();
    assert!(matches!(error, PutError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_tell_of_every_record_is_no_acknowledgement() {
    let script = Script::new([answer([None])]);
    let time = Time::new(0.5);
    let within = Duration::from_secs(5);
    let error = sink(&script, time.pace())
        .put(vec![record(1), record(2)], within)
        .await
        .unwrap_err();
    assert!(matches!(error, PutError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_stream_that_hangs_ends_with_the_deadline() {
    let script = Script::answering(|_| Reply::Hang);
    let time = Time::new(0.5);
    let within = Duration::from_millis(30);
    let error = sink(&script, time.pace())
        .put(vec![record(1)], within)
        .await
        .unwrap_err();
    // Without a cause: no call has ended, neither by an answer nor by the limit of an attempt.
    assert!(matches!(error, PutError::Unavailable { source: None }), "{error:?}");
    assert!(time.pauses().is_empty(), "and there was no second one");
}

#[tokio::test]
async fn too_large_a_record_is_refused_before_anything_is_put() {
    let script = Script::new([]);
    let large = Record {
        data: vec![0; MAX_RECORD_BYTES + 1],
        ..record(2)
    };
    let time = Time::new(0.5);
    let within = Duration::from_secs(5);
    let error = sink(&script, time.pace())
        .put(vec![record(1), large], within)
        .await
        .unwrap_err();
    assert!(
        matches!(error, PutError::TooLarge { bytes: 1_000_001, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn after_an_error_the_shards_are_listed_again() {
    let script = Script::answering(|call| match call.operation.as_str() {
        "ListShards" => Reply::Json(json!({"Shards": []})),
        _ => Reply::error(400, "ResourceNotFoundException"),
    });
    let time = Time::new(0.5);
    let sink = sink(&script, time.pace());
    let listed = || {
        script
            .calls()
            .iter()
            .filter(|call| call.operation == "ListShards")
            .count()
    };
    sink.shard_map().await;
    sink.shard_map().await;
    assert_eq!(listed(), 1);
    sink.put(vec![record(1)], Duration::from_secs(1)).await.unwrap_err();
    sink.shard_map().await;
    assert_eq!(listed(), 2);
}
