use super::*;
use crate::testing::{Call, Reply, Script, Time};
use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_notify::dispatch::Queue as _;
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

#[tokio::test]
async fn a_wake_comes_when_it_is_due_or_as_late_as_a_message_can_wait() {
    let taken = Reply::Json(json!({"MessageId": "m", "MD5OfMessageBody": "x"}));
    let script = Script::new([taken.clone(), taken, Reply::error(400, "AccessDenied")]);
    let queue = notify_queue(&script);
    queue.wake("channel#ops", 30).await.unwrap();
    queue.wake("rule#r", 5_000).await.unwrap();
    assert!(queue.wake("rule#r", 1).await.is_err());
    assert_eq!(
        script.calls()[0].body,
        json!({
            "QueueUrl": "http://aws.invalid/1/notify", "DelaySeconds": 30,
            "MessageBody": "{\"type\":\"wake\",\"lane\":\"channel#ops\"}",
        })
    );
    assert_eq!(script.calls()[1].body["DelaySeconds"], 900);
}

#[tokio::test]
async fn shards_are_called_each_by_a_message_of_its_own() {
    let script = Script::new([
        answer(&["0"], &[("1", "InternalError", false)]),
        answer(&["1"], &[]),
        Reply::error(400, "AWS.SimpleQueueService.NonExistentQueue"),
    ]);
    let queue = EvaluateQueue::with(
        script.clients().sqs(),
        "http://aws.invalid/1/evaluate",
        Time::new(0.5).pace(),
    );
    queue.send(vec!["one".into(), "two".into()]).await.unwrap();
    let bodies: Vec<Vec<Value>> = script
        .calls()
        .iter()
        .map(|call| entries(call).iter().map(|entry| entry["MessageBody"].clone()).collect())
        .collect();
    assert_eq!(bodies, [vec![json!("one"), json!("two")], vec![json!("two")]]);
    queue.send(Vec::new()).await.unwrap();
    assert!(queue.send(vec!["three".into()]).await.is_err());
}

fn letters(numbers: std::ops::Range<usize>) -> Reply {
    let messages: Vec<Value> = numbers
        .map(|number| json!({"MessageId": "m", "ReceiptHandle": format!("h{number}"), "Body": format!("b{number}")}))
        .collect();
    Reply::Json(json!({ "Messages": messages }))
}

fn all_done(call: &Call) -> Reply {
    let ids: Vec<Value> = entries(call)
        .iter()
        .map(|entry| json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "x"}))
        .collect();
    Reply::Json(json!({"Successful": ids, "Failed": []}))
}

fn redriving(script: &Script, time: &Time) -> NotifyQueue {
    NotifyQueue::with(
        script.clients().sqs(),
        "http://aws.invalid/1/notify",
        "http://aws.invalid/1/notify-dead",
        time.pace(),
    )
}

#[tokio::test]
async fn letters_are_sent_back_before_they_are_deleted_until_there_are_none() {
    let mut received = 0;
    let script = Script::answering(move |call| match call.operation.as_str() {
        "ReceiveMessage" => {
            received += 1;
            match received {
                1 => letters(0..10),
                2 => letters(10..13),
                _ => Reply::Json(json!({})),
            }
        }
        _ => all_done(call),
    });
    let done = redriving(&script, &Time::new(0.5))
        .redrive(1_000, Duration::from_secs(20), Timestamp(1_000))
        .await
        .unwrap();
    assert_eq!(
        done,
        Redriven {
            messages: 13,
            more: false
        }
    );
    let calls = script.calls();
    let order: Vec<&str> = calls.iter().map(|call| call.operation.as_str()).collect();
    let round = ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"];
    assert_eq!(order, [&round[..], &round[..], &round[..1]].concat());
    assert_eq!(calls[0].body["QueueUrl"], "http://aws.invalid/1/notify-dead");
    assert_eq!(calls[1].body["QueueUrl"], "http://aws.invalid/1/notify");
    assert_eq!(entries(&calls[4])[0]["MessageBody"], "b10");
    assert_eq!(entries(&calls[5])[2]["ReceiptHandle"], "h12");
}

#[tokio::test]
async fn a_letter_that_was_not_sent_back_is_not_deleted() {
    let script = Script::answering(|call| match call.operation.as_str() {
        "ReceiveMessage" => letters(0..2),
        _ => answer(&["0"], &[("1", "InvalidMessageContents", true)]),
    });
    let failed = redriving(&script, &Time::new(0.5))
        .redrive(10, Duration::from_secs(20), Timestamp(1_000))
        .await;
    assert!(failed.is_err());
    assert!(script.calls().iter().all(|call| call.operation != "DeleteMessageBatch"));
}

#[tokio::test]
async fn a_redrive_ends_with_its_number_and_its_time() {
    let endless = || {
        Script::answering(|call| match call.operation.as_str() {
            "ReceiveMessage" => {
                let wanted = call.body["MaxNumberOfMessages"].as_u64().unwrap();
                letters(0..usize::try_from(wanted).unwrap())
            }
            _ => all_done(call),
        })
    };
    let time = Time::new(0.5);
    let by_number = redriving(&endless(), &time)
        .redrive(13, Duration::from_secs(20), Timestamp(1_000))
        .await;
    assert_eq!(
        by_number.unwrap(),
        Redriven {
            messages: 13,
            more: true
        }
    );
    let by_time = redriving(&endless(), &time)
        .redrive(13, Duration::ZERO, Timestamp(1_000))
        .await;
    assert_eq!(
        by_time.unwrap(),
        Redriven {
            messages: 0,
            more: true
        }
    );
}

#[tokio::test]
async fn a_letter_that_was_written_meanwhile_is_not_sent_back() {
    let mut received = 0;
    let script = Script::answering(move |call| match call.operation.as_str() {
        "ReceiveMessage" => {
            assert_eq!(call.body["MessageSystemAttributeNames"], json!(["SentTimestamp"]));
            received += 1;
            let message = |number: u32, at: &str| json!({"MessageId": "m", "ReceiptHandle": format!("h{number}"), "Body": format!("b{number}"), "Attributes": {"SentTimestamp": at}});
            match received {
                1 => Reply::Json(json!({"Messages": [message(0, "1001"), message(1, "1000")]})),
                2 => Reply::Json(json!({"Messages": [message(2, "1002")]})),
                3 => Reply::Json(json!({"Messages": [message(3, "999")]})),
                _ => Reply::Json(json!({})),
            }
        }
        _ => all_done(call),
    });
    let done = redriving(&script, &Time::new(0.5))
        .redrive(1_000, Duration::from_secs(20), Timestamp(1_000))
        .await
        .unwrap();
    assert_eq!((done.messages, done.more), (2, false));
    let calls = script.calls();
    let sent = calls.iter().filter(|call| call.operation == "SendMessageBatch");
    let bodies: Vec<Value> = sent.map(|call| entries(call)[0]["MessageBody"].clone()).collect();
    assert_eq!(bodies, ["b1", "b3"]);
}
