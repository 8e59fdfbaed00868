use super::*;
use crate::testing::{Call, Reply, Script, Time};
use serde_json::{Value, json};
use tidemark_tsdb::{SequenceNumber, ShardId};

fn queue(script: &Script, time: &Time) -> DeadLetterQueue {
    DeadLetterQueue::with(script.clients().sqs(), "http://aws.invalid/1/dead", time.pace())
}

fn letter(number: u64, bytes: usize) -> DeadLetter {
    DeadLetter {
        shard: ShardId("shardId-000000000000".into()),
        sequence: SequenceNumber::parse(&number.to_string()).unwrap(),
        arrival_ms: 1_795_000_000_000,
        reason: "version 9 is not known".into(),
        data: vec![number as u8; bytes],
    }
}

fn entries(call: &Call) -> Vec<Value> {
    call.body["Entries"].as_array().unwrap().clone()
}

fn answer(sent: &[&str], failed: &[(&str, &str, bool)]) -> Reply {
    let sent: Vec<_> = sent
        .iter()
        .map(|id| json!({"Id": id, "MessageId": "m", "MD5OfMessageBody": "x"}))
        .collect();
    let failed: Vec<_> = failed
        .iter()
        .map(|(id, code, fault)| json!({"Id": id, "Code": code, "SenderFault": fault}))
        .collect();
    Reply::Json(json!({"Successful": sent, "Failed": failed}))
}

#[tokio::test]
async fn only_failed_letters_are_sent_again() {
    let script = Script::new([
        answer(&["0", "2"], &[("1", "InternalError", false)]),
        Reply::error(503, "ServiceUnavailable"),
        answer(&["1"], &[]),
    ]);
    queue(&script, &Time::new(0.5))
        .send((0..3).map(|number| letter(number, 4)).collect())
        .await
        .unwrap();
    let calls = script.calls();
    let ids = |call: &Call| {
        entries(call)
            .iter()
            .map(|entry| entry["Id"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&calls[0]), ["0", "1", "2"]);
    assert_eq!(ids(&calls[2]), ["1"]);
    let body: Value = serde_json::from_str(entries(&calls[2])[0]["MessageBody"].as_str().unwrap()).unwrap();
    assert_eq!(
        body,
        json!({
            "shard": "shardId-000000000000", "sequence": "1", "arrival_ms": 1_795_000_000_000_i64,
            "reason": "version 9 is not known", "data_bytes": 4, "data_truncated": false, "data": "AQEBAQ==",
        })
    );
}

#[tokio::test]
async fn a_letter_that_nobody_answers_for_is_not_taken_for_sent() {
    let script = Script::answering(|_| answer(&[], &[]));
    let error = queue(&script, &Time::new(1.0))
        .send(vec![letter(1, 4)])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn a_letter_that_the_queue_refuses_is_an_error_at_once() {
    let script = Script::new([answer(&[], &[("0", "InvalidMessageContents", true)])]);
    let error = queue(&script, &Time::new(1.0))
        .send(vec![letter(1, 4)])
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn calls_and_messages_keep_below_the_limits() {
    let script = Script::answering(|call| {
        let ids: Vec<String> = entries(call)
            .iter()
            .map(|entry| entry["Id"].as_str().unwrap().to_owned())
            .collect();
        answer(&ids.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    });
    let mut letters: Vec<DeadLetter> = (0..25).map(|number| letter(number, 10)).collect();
    letters.extend((0..3).map(|number| letter(number, 1_000_000)));
    letters[27].reason = "ж".repeat(9_000);
    queue(&script, &Time::new(0.5)).send(letters).await.unwrap();
    let mut truncated = 0;
    for call in script.calls() {
        let bodies: Vec<String> = entries(&call)
            .iter()
            .map(|entry| entry["MessageBody"].as_str().unwrap().to_owned())
            .collect();
        assert!(bodies.len() <= 10 && bodies.iter().map(String::len).sum::<usize>() <= 256 * 1_024);
        truncated += bodies
            .iter()
            .filter(|body| body.contains(r#""data_bytes":1000000,"data_truncated":true"#))
            .count();
    }
    assert_eq!(truncated, 3);
}

#[tokio::test]
async fn a_message_is_postponed_by_at_most_twelve_hours() {
    let script = Script::new([Reply::Json(json!({})), Reply::error(400, "ReceiptHandleIsInvalid")]);
    let queue = notify_queue(&script);
    queue.postpone("handle", 100_000).await.unwrap();
    assert_eq!(script.calls()[0].body["VisibilityTimeout"], 43_200);
    assert!(matches!(
        queue.postpone("handle", 5).await,
        Err(StoreError::Refused { .. })
    ));
}

fn notify_queue(script: &Script) -> NotifyQueue {
    let clients = script.clients();
    NotifyQueue::new(
        clients.sqs(),
        "http://aws.invalid/1/notify",
        "http://aws.invalid/1/notify-dead",
    )
}

#[tokio::test]
async fn what_is_given_up_goes_to_the_other_queue_with_its_reason() {
    let taken = Reply::Json(json!({"MessageId": "m", "MD5OfMessageBody": "x"}));
    let script = Script::new([taken.clone(), taken.clone(), taken]);
    let queue = notify_queue(&script);
    queue.dead_letter("{\"a\":1}", "webhook: status 404").await.unwrap();
    queue.dead_letter("b", "").await.unwrap();
    queue
        .dead_letter("c", &format!("\u{0}\u{ffff}ok\n{}", "ж".repeat(9_000)))
        .await
        .unwrap();
    let calls = script.calls();
    assert_eq!(calls[0].operation, "SendMessage");
    assert_eq!(
        calls[0].body,
        json!({
            "QueueUrl": "http://aws.invalid/1/notify-dead",
            "MessageBody": "{\"a\":1}",
            "MessageAttributes": {"reason": {"DataType": "String", "StringValue": "webhook: status 404"}},
        })
    );
    let reason = |call: &Call| {
        let value = &call.body["MessageAttributes"]["reason"]["StringValue"];
        value.as_str().unwrap().to_owned()
    };
    assert_eq!(reason(&calls[1]), "unknown");
    assert!(reason(&calls[2]).starts_with("\u{fffd}\u{fffd}ok\nж") && reason(&calls[2]).len() <= 2_002);
}

#[tokio::test]
async fn a_letter_that_was_not_acknowledged_is_an_error() {
    let script = Script::new([Reply::error(400, "AWS.SimpleQueueService.NonExistentQueue")]);
    assert!(notify_queue(&script).dead_letter("a", "b").await.is_err());
}
