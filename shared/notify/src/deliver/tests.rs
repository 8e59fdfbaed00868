use super::*;
use crate::fixtures::{at, event};
use crate::recording::RecordingSender;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidemark_rules::instance::{Instance, InstanceState};
use tidemark_rules::store::LogEntry;
use tidemark_rules::{MemoryAlertStore, TransitionKind};
use tokio::sync::Notify;

const URL: &str = "https://example.org/hook";

fn arrival(receive_count: u32, seconds: i64) -> Arrival {
    Arrival {
        receive_count,
        now: at(seconds),
        jitter: 1.0,
    }
}

fn failing() -> Failure {
    Failure::Server { status: 500 }
}

fn firing() -> TransitionEvent {
    event(TransitionKind::Firing, URL, &["webhook"])
}

fn resolve() -> TransitionEvent {
    event(TransitionKind::Resolved, URL, &["webhook"])
}

async fn entry(log: &MemoryAlertStore, event: &TransitionEvent, channel: &str) -> Option<LogEntry> {
    let key = AttemptKey {
        transition_id: event.id.clone(),
        channel: channel.into(),
    };
    log.log_entry(&key).await.unwrap()
}

/// The one outcome of a rule with one channel.
async fn once(
    event: &TransitionEvent,
    log: &MemoryAlertStore,
    sender: &RecordingSender,
    arrival: Arrival,
) -> ChannelOutcome {
    let mut delivery = deliver(event, log, sender, arrival).await;
    assert_eq!(delivery.channels.len(), 1);
    delivery.channels.remove(0).1
}

async fn save_instance(log: &MemoryAlertStore, event: &TransitionEvent) {
    let instance = Instance {
        id: event.instance_id.clone(),
        rule: event.rule.clone(),
        fingerprint: event.fingerprint.clone(),
        labels: event.labels.clone(),
        state: InstanceState::Firing,
        current_value: event.value,
        annotations: event.annotations.clone(),
        pending_since: event.pending_since,
        firing_since: Some(event.firing_since),
        resolved_at: None,
        updated_at: event.at,
        version: 1,
        unsent: Vec::new(),
        notifications_sent: 0,
        last_notification_at: None,
    };
    log.save_instance(&instance, None).await.unwrap();
}

#[tokio::test]
async fn a_firing_and_its_resolve_are_sent_and_counted() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    save_instance(&log, &firing()).await;
    assert_eq!(
        once(&firing(), &log, &sender, arrival(1, 1)).await,
        ChannelOutcome::Sent
    );
    assert_eq!(
        once(&resolve(), &log, &sender, arrival(1, 121)).await,
        ChannelOutcome::Sent
    );
    let posted = sender.posted();
    let statuses: Vec<_> = posted.iter().map(|one| one.body["status"].clone()).collect();
    assert_eq!(statuses, [json!("firing"), json!("resolved")]);
    assert_eq!(
        (posted[0].url.as_str(), &posted[0].idempotency_key),
        (URL, &format!("{}:webhook", firing().id))
    );
    let instance = log.get_instance(&firing().instance_id).await.unwrap().unwrap();
    assert_eq!(
        (instance.notifications_sent, instance.last_notification_at),
        (2, Some(at(121)))
    );
}

#[tokio::test]
async fn a_duplicate_does_nothing() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    once(&firing(), &log, &sender, arrival(1, 1)).await;
    for count in 1..4 {
        let delivery = deliver(&firing(), &log, &sender, arrival(count, 2)).await;
        assert_eq!(
            (delivery.channels[0].1.clone(), delivery.next()),
            (ChannelOutcome::Done, Next::Done)
        );
    }
    assert_eq!(sender.posted().len(), 1);
}

#[tokio::test]
async fn a_duplicate_beside_a_running_attempt_waits_for_it() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    let key = AttemptKey {
        transition_id: firing().id,
        channel: "webhook".into(),
    };
    // A process that began an attempt and died before it could log the end.
    log.begin_attempt(&key, at(0), Timestamp(at(0).0 + LEASE_MS))
        .await
        .unwrap();
    let beside = once(&firing(), &log, &sender, arrival(1, 10)).await;
    assert_eq!(
        beside,
        ChannelOutcome::RetryIn {
            seconds: 20,
            reason: "another attempt is running".into()
        }
    );
    assert_eq!(
        once(&firing(), &log, &sender, arrival(2, 30)).await,
        ChannelOutcome::Sent
    );
    assert_eq!(entry(&log, &firing(), "webhook").await.unwrap().attempts, 2);
}

#[tokio::test]
async fn failures_are_tried_again_with_growing_delays_under_one_key() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    sender.fail_next([
        failing(),
        Failure::Timeout,
        Failure::Throttled {
            status: 429,
            after_seconds: Some(300),
        },
    ]);
    let mut delays = Vec::new();
    let mut seconds = 0;
    for count in 1..=4 {
        let delivery = deliver(&firing(), &log, &sender, arrival(count, seconds)).await;
        if let Next::RetryIn(delay) = delivery.next() {
            delays.push(delay);
            seconds += i64::try_from(delay).unwrap();
        }
    }
    assert_eq!(delays, [5, 10, 300]);
    assert_eq!(sender.posted().len(), 1);
    assert_eq!(entry(&log, &firing(), "webhook").await.unwrap().attempts, 4);
}

#[tokio::test]
async fn after_the_last_attempt_the_message_goes_to_the_dead_letter_queue() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    sender.fail_next(std::iter::repeat_n(failing(), 21));
    let mut seconds = 0;
    for count in 1..=retry::MAX_ATTEMPTS {
        let next = deliver(&firing(), &log, &sender, arrival(count, seconds)).await.next();
        match next {
            Next::RetryIn(delay) => seconds += i64::try_from(delay).unwrap(),
            Next::DeadLetter(reason) => {
                assert_eq!(count, retry::MAX_ATTEMPTS);
                assert_eq!(
                    reason,
                    "webhook: 20 attempts failed: the receiver failed with status 500"
                );
            }
            Next::Done => panic!(),
        }
    }
    let attempts = |entry: Option<LogEntry>| entry.unwrap().attempts;
    let again = deliver(&firing(), &log, &sender, arrival(21, seconds)).await.next();
    assert!(matches!(again, Next::DeadLetter(_)));
    assert_eq!(
        attempts(entry(&log, &firing(), "webhook").await),
        20,
        "the rest of the way costs no attempt"
    );
    // An operator sends it back as a new message: one attempt, which fails, and another, which does not.
    assert!(matches!(
        deliver(&firing(), &log, &sender, arrival(1, seconds)).await.next(),
        Next::DeadLetter(_)
    ));
    assert_eq!(
        deliver(&firing(), &log, &sender, arrival(1, seconds)).await.next(),
        Next::Done
    );
}

#[tokio::test]
async fn a_permanent_failure_is_given_up_at_once() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    sender.fail_next([Failure::Permanent {
        reason: "status 404".into(),
    }]);
    let outcome = once(&firing(), &log, &sender, arrival(1, 0)).await;
    assert_eq!(
        outcome,
        ChannelOutcome::GaveUp("the failure is permanent: status 404".into())
    );
    assert_eq!(
        once(&resolve(), &log, &sender, arrival(1, 1)).await,
        ChannelOutcome::Sent,
        "the resolve goes its own way"
    );
}

#[tokio::test]
async fn a_resolve_waits_for_its_firing() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    sender.fail_next([failing()]);
    let waits = |outcome| matches!(outcome, ChannelOutcome::RetryIn { reason, .. } if reason.contains("its firing"));
    assert!(
        waits(once(&resolve(), &log, &sender, arrival(1, 121)).await),
        "the firing has not come yet"
    );
    assert!(matches!(
        once(&firing(), &log, &sender, arrival(1, 122)).await,
        ChannelOutcome::RetryIn { .. }
    ));
    assert!(
        waits(once(&resolve(), &log, &sender, arrival(2, 123)).await),
        "the firing is tried again"
    );
    assert_eq!(
        once(&firing(), &log, &sender, arrival(2, 130)).await,
        ChannelOutcome::Sent
    );
    assert_eq!(
        once(&resolve(), &log, &sender, arrival(3, 131)).await,
        ChannelOutcome::Sent
    );
}

#[tokio::test]
async fn a_resolve_does_not_wait_for_ever_and_no_firing_follows_it() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    let late = FIRING_WAIT_MS / 1_000;
    assert_eq!(
        once(&resolve(), &log, &sender, arrival(9, late)).await,
        ChannelOutcome::Sent
    );
    let firing_outcome = once(&firing(), &log, &sender, arrival(1, late + 1)).await;
    assert_eq!(
        firing_outcome,
        ChannelOutcome::Undeliverable("the incident was already told to be over".into())
    );
    assert_eq!(sender.posted().len(), 1);
}

#[tokio::test]
async fn the_wait_for_a_firing_outlasts_its_retries() {
    let longest: u64 = (1..retry::MAX_ATTEMPTS)
        .map(|attempt| retry::delay_seconds(attempt, 1.0))
        .sum();
    assert!(i64::try_from(longest).unwrap() * 1_000 + LEASE_MS < FIRING_WAIT_MS);
}

#[tokio::test]
async fn channels_are_settled_one_by_one() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    let event = event(TransitionKind::Firing, URL, &["email", "webhook"]);
    sender.fail_next([failing()]);
    let delivery = deliver(&event, &log, &sender, arrival(1, 0)).await;
    let undeliverable = ChannelOutcome::Undeliverable("the channel is not configured".into());
    assert_eq!(delivery.channels[0], ("email".to_owned(), undeliverable));
    assert_eq!(delivery.next(), Next::RetryIn(5));
    let delivery = deliver(&event, &log, &sender, arrival(2, 5)).await;
    assert_eq!(delivery.channels[0].1, ChannelOutcome::Done);
    assert_eq!(
        (delivery.channels[1].1.clone(), delivery.next()),
        (ChannelOutcome::Sent, Next::Done)
    );
    let state = entry(&log, &event, "email").await.unwrap().state;
    assert!(matches!(state, LogState::Undeliverable { .. }));
}

#[tokio::test]
async fn a_rule_without_channels_tells_nobody() {
    let (log, sender) = (MemoryAlertStore::new(), RecordingSender::new());
    let delivery = deliver(&event(TransitionKind::Firing, URL, &[]), &log, &sender, arrival(1, 0)).await;
    assert_eq!((delivery.channels.len(), delivery.next()), (0, Next::Done));
}

/// The first attempt takes until another delivery of the message has ended.
#[derive(Default)]
struct Held {
    attempts: AtomicUsize,
    other_ended: Notify,
}

impl Held {
    async fn deliver(&self, log: &MemoryAlertStore, event: &TransitionEvent) -> Next {
        let next = deliver(event, log, self, arrival(1, 0)).await.next();
        self.other_ended.notify_one();
        next
    }
}

impl PostWebhook for Held {
    async fn post(&self, _: &str, _: Vec<u8>, _: &str, _: Timestamp) -> Result<(), Failure> {
        if self.attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            self.other_ended.notified().await;
        }
        Ok(())
    }
}

#[tokio::test]
async fn of_two_deliveries_at_once_one_sends() {
    let (log, sender) = (MemoryAlertStore::new(), Held::default());
    let event = firing();
    let (one, two) = tokio::join!(sender.deliver(&log, &event), sender.deliver(&log, &event));
    assert_eq!(sender.attempts.load(Ordering::SeqCst), 1);
    assert_eq!((one, two), (Next::Done, Next::RetryIn(30)));
    assert_eq!(deliver(&event, &log, &sender, arrival(2, 30)).await.next(), Next::Done);
    assert_eq!(sender.attempts.load(Ordering::SeqCst), 1);
}
