#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use serde_json::json;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tidemark_notify::dispatch::MemoryQueue;
use tidemark_notify::recording::RecordedTarget;
use tidemark_notify::{Failure, MemoryNotifyStore, Notification, RecordingSender, Target};
use tidemark_rules::MemoryAlertStore;

/// The dispatcher's queue in memory, whose messages can be put off and whose dead letters can be out of reach.
#[derive(Default)]
struct TestQueue {
    memory: MemoryQueue,
    postponed: Mutex<Vec<(String, u32)>>,
    broken: AtomicBool,
}

impl Queue for TestQueue {
    async fn wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        self.memory.wake(lane, delay_seconds).await
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                operation: "SendMessage",
                source: None,
            });
        }
        self.memory.dead_letter(body, reason).await
    }
}

impl Postpone for TestQueue {
    async fn postpone(&self, receipt_handle: &str, seconds: u32) -> Result<(), StoreError> {
        let mut postponed = self.postponed.lock().unwrap();
        postponed.push((receipt_handle.to_owned(), seconds));
        Ok(())
    }
}

type TestNotify<S> = Notify<MemoryAlertStore, MemoryNotifyStore, S, TestQueue>;

fn notify() -> TestNotify<RecordingSender> {
    with_sender(RecordingSender::new())
}

fn with_sender<S>(sender: S) -> TestNotify<S> {
    Notify {
        alerts: MemoryAlertStore::default(),
        store: MemoryNotifyStore::default(),
        sender,
        queue: TestQueue::default(),
        clock: || Timestamp(1_767_225_600_000),
        jitter: || 1.0,
        holder: || "holder".to_owned(),
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

/// The same of another rule, to another receiver.
fn firing_to(url: &str) -> String {
    let mut event: serde_json::Value = serde_json::from_str(&firing()).unwrap();
    event["rule"]["webhook_url"] = json!(url);
    event["rule"]["id"] = json!(url);
    event["instance_id"] = json!(format!("instance of {url}"));
    event["id"] = json!(format!("to {url}"));
    event.to_string()
}

fn handle<S: Deliver>(notify: &TestNotify<S>, event: SqsEvent) -> Vec<String> {
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
    assert!(handle(&notify, event(&[firing()])).is_empty());
    assert!(handle(&notify, event(&[firing()])).is_empty());
    let attempts = notify.sender.attempts();
    assert_eq!(attempts.len(), 1);
    let url = "https://hooks.example.com/oncall".to_owned();
    assert_eq!(attempts[0].target, RecordedTarget::Webhook { url });
}

#[test]
fn only_the_message_whose_attempt_failed_comes_again_after_a_pause() {
    let mut notify = notify();
    notify.sender.fail_next([Failure::Timeout]);
    assert!(handle(&notify, event(&[firing()])).is_empty(), "the lane has it");
    let wakes = notify.queue.memory.take_wakes();
    assert_eq!(wakes.len(), 1);
    // An hour later the lane is due again.
    notify.clock = || Timestamp(1_767_229_200_000);
    notify.sender.fail_next([Failure::Timeout]);
    let wake = |lane: &str| json!({"type": "wake", "lane": lane}).to_string();
    let failed = handle(&notify, event(&[wake("channel#empty"), wake(&wakes[0].lane)]));
    assert_eq!(failed, ["message-1"]);
    let postponed = notify.queue.postponed.lock().unwrap().clone();
    assert_eq!(postponed.len(), 1);
    assert_eq!(postponed[0].0, "receipt-1");
    assert!(postponed[0].1 > 0);
}

#[test]
fn what_is_given_up_and_what_cannot_be_read_goes_to_the_dead_letters_and_is_done() {
    let notify = notify();
    notify.sender.fail_next([Failure::Permanent {
        reason: "status 404".to_owned(),
    }]);
    let newer = firing().replace("\"schema_version\": 2", "\"schema_version\": 3");
    let bodies = [firing(), "not an event".to_owned(), newer.clone()];
    assert!(handle(&notify, event(&bodies)).is_empty());
    assert!(notify.queue.postponed.lock().unwrap().is_empty());
    let letters = notify.queue.memory.take_letters();
    assert_eq!(letters.len(), 3, "{letters:?}");
    let letter = |body: &str| letters.iter().find(|letter| letter.body == body).unwrap();
    assert!(letter("not an event").reason.contains("cannot be read"), "{letters:?}");
    assert!(letter(&newer).reason.contains("schema version 3"), "{letters:?}");
    let given_up = letters
        .iter()
        .find(|letter| letter.body.contains("\"type\":\"letter\""));
    assert!(
        given_up.is_some_and(|letter| letter.body.contains("status 404")),
        "{letters:?}"
    );
}

#[test]
fn a_message_that_does_not_reach_the_dead_letters_comes_again() {
    let notify = notify();
    notify.queue.broken.store(true, Ordering::SeqCst);
    assert_eq!(handle(&notify, event(&["not an event".to_owned()])), ["message-0"]);
}

/// Takes one message only after it has taken another.
#[derive(Default)]
struct Hanging(tokio::sync::Notify);

impl Deliver for Hanging {
    async fn deliver(&self, target: Target<'_>, _: &Notification, _: Timestamp) -> Result<(), Failure> {
        if matches!(target, Target::Webhook { url } if url.ends_with("/hangs")) {
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
