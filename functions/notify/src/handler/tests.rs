#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use serde_json::json;
use std::sync::Mutex;
use tidemark_notify::{Failure, RecordingSender};
use tidemark_rules::MemoryAlertStore;

#[derive(Default)]
struct Queue(Mutex<Vec<(String, u32)>>);

impl Postpone for Queue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        self.0.lock().unwrap().push((receipt_handle.to_owned(), seconds));
        Ok(())
    }
}

fn notify() -> Notify<MemoryAlertStore, RecordingSender, Queue> {
    Notify {
        log: MemoryAlertStore::default(),
        sender: RecordingSender::new(),
        queue: Queue::default(),
        clock: || Timestamp(1_767_225_600_000),
        jitter: || 1.0,
    }
}

/// An event of the queue with one message for each body.
fn event(bodies: &[String]) -> SqsEvent {
    let records: Vec<_> = bodies
        .iter()
        .enumerate()
        .map(|(at, body)| {
            json!({
                "messageId": format!("message-{at}"),
                "receiptHandle": format!("receipt-{at}"),
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1767225600000"},
                "messageAttributes": {},
                "md5OfBody": "7b270e59b47ff90a553787216d55d91d",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:tidemark-notify",
                "awsRegion": "us-east-1",
            })
        })
        .collect();
    serde_json::from_value(json!({ "Records": records })).unwrap()
}

fn firing() -> String {
    include_str!("firing_event.json").to_owned()
}

fn handle(notify: &Notify<MemoryAlertStore, RecordingSender, Queue>, event: SqsEvent) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let response = runtime.block_on(notify.handle(event));
    response
        .batch_item_failures
        .into_iter()
        .map(|failure| failure.item_identifier)
        .collect()
}

#[test]
fn a_delivered_message_is_done_and_a_repetition_sends_nothing() {
    let notify = notify();
    assert!(handle(&notify, event(&[firing(), firing()])).is_empty());
    assert_eq!(notify.sender.posted().len(), 1);
    assert_eq!(notify.sender.posted()[0].url, "https://hooks.example.com/oncall");
}

#[test]
fn only_the_message_that_failed_comes_again_after_a_pause() {
    let notify = notify();
    notify.sender.fail_next([Failure::Timeout]);
    let failed = handle(&notify, event(&[firing(), "not an event".to_owned()]));
    assert_eq!(failed, ["message-0", "message-1"]);
    let postponed = notify.queue.0.lock().unwrap().clone();
    assert_eq!(postponed.len(), 1);
    assert_eq!(postponed[0].0, "receipt-0");
    assert!(postponed[0].1 > 0);
}
