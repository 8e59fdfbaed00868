#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidemark_notify::{Failure, RecordingSender};
use tidemark_rules::MemoryAlertStore;

#[derive(Default)]
struct MemoryQueue {
    postponed: Mutex<Vec<(String, u32)>>,
    letters: Mutex<Vec<(String, String)>>,
    broken: AtomicBool,
}

impl Queue for MemoryQueue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        let mut postponed = self.postponed.lock().unwrap();
        postponed.push((receipt_handle.to_owned(), seconds));
        Ok(())
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                operation: "SendMessage",
                source: None,
            });
        }
        let mut letters = self.letters.lock().unwrap();
        letters.push((body.to_owned(), reason.to_owned()));
        Ok(())
    }
}

fn notify() -> Notify<MemoryAlertStore, RecordingSender, MemoryQueue> {
    with_sender(RecordingSender::new())
}

fn with_sender<S>(sender: S) -> Notify<MemoryAlertStore, S, MemoryQueue> {
    Notify {
        log: MemoryAlertStore::default(),
        sender,
        queue: MemoryQueue::default(),
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

/// The same to another receiver.
fn firing_to(url: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(&firing()).unwrap();
    event["rule"]["webhook_url"] = json!(url);
    event["id"] = json!(format!("to {url}"));
    event.to_string()
}

fn handle<S: PostWebhook>(notify: &Notify<MemoryAlertStore, S, MemoryQueue>, event: SqsEvent) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // Nothing here takes time: what does not end would never end.
    let handled = async { tokio::time::timeout(Duration::from_secs(60), notify.handle(event)).await };
    let response = runtime.block_on(handled).unwrap();
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
    let failed = handle(
        &notify,
        event(&[firing(), firing_to("https://hooks.example.com/other")]),
    );
    assert_eq!(failed, ["message-0"]);
    let postponed = notify.queue.postponed.lock().unwrap().clone();
    assert_eq!(postponed.len(), 1);
    assert_eq!(postponed[0].0, "receipt-0");
    assert!(postponed[0].1 > 0);
}

#[test]
fn what_is_given_up_goes_to_the_dead_letters_and_is_done() {
    let notify = notify();
    notify.sender.fail_next([Failure::Permanent {
        reason: "status 404".to_owned(),
    }]);
    assert!(handle(&notify, event(&[firing(), "not an event".to_owned()])).is_empty());
    assert!(notify.queue.postponed.lock().unwrap().is_empty());
    let letters = notify.queue.letters.lock().unwrap().clone();
    let reason = "webhook: the failure is permanent: status 404";
    assert_eq!(letters[0], (firing(), reason.to_owned()));
    assert_eq!(letters[1].0, "not an event");
    assert!(letters[1].1.contains("not a transition event"), "{}", letters[1].1);
}

#[test]
fn a_message_that_does_not_reach_the_dead_letters_comes_again() {
    let notify = notify();
    notify.queue.broken.store(true, Ordering::SeqCst);
    notify.sender.fail_next([Failure::Permanent {
        reason: "status 404".to_owned(),
    }]);
    let failed = handle(&notify, event(&[firing(), "not an event".to_owned()]));
    assert_eq!(failed, ["message-0", "message-1"]);
}

/// Takes one message only after it has taken another.
#[derive(Default)]
struct Hanging(tokio::sync::Notify);

impl PostWebhook for Hanging {
    async fn post(&self, url: &str, _: Vec<u8>, _: &str, _: Timestamp) -> Result<(), Failure> {
        if url.ends_with("/hangs") {
            self.0.notified().await;
        } else {
            self.0.notify_one();
        }
        Ok(())
    }
}

#[test]
fn a_receiver_that_hangs_does_not_delay_the_others() {
    let notify = with_sender(Hanging::default());
    let bodies = ["https://one.example/hangs", "https://two.example/hook"].map(firing_to);
    assert!(handle(&notify, event(&bodies)).is_empty());
}
