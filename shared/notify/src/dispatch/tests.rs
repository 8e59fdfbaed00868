use super::*;
use crate::MemoryNotifyStore;
use crate::channel::{Channel, ChannelSpec, RateLimit, Receiver};
use crate::fixtures::{at, event};
use crate::notification::{Cause, Notification};
use crate::recording::{Outcome, RecordingSender};
use crate::retry::Failure;
use crate::settings::{Inhibition, MuteTime, Silence};
use crate::store::{Settled, lane_id};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tidemark_model::Labels;
use tidemark_rules::history::{AttemptOutcome, HistoryFilter};
use tidemark_rules::instance::{fingerprint, instance_id};
use tidemark_rules::store::{PageRequest, Saved};
use tidemark_rules::{HistoryEvent, Instance, InstanceState, MemoryAlertStore, Routing, TransitionKind};

mod failures;
mod scenes;

/// A lane's whole surroundings, on a clock that stands until it is moved.
struct World {
    alerts: MemoryAlertStore,
    store: MemoryNotifyStore,
    sender: RecordingSender,
    queue: MemoryQueue,
    now: AtomicI64,
    arrivals: AtomicU64,
    /// Bodies and when they come, in milliseconds, with how often they came.
    waiting: std::sync::Mutex<Vec<(i64, String, u32)>>,
    letters: std::sync::Mutex<Vec<DeadLetter>>,
}

impl World {
    fn new() -> Self {
        Self {
            alerts: MemoryAlertStore::new(),
            store: MemoryNotifyStore::new(),
            sender: RecordingSender::new(),
            queue: MemoryQueue::new(),
            now: AtomicI64::new(at(0).0),
            arrivals: AtomicU64::new(0),
            waiting: std::sync::Mutex::default(),
            letters: std::sync::Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    async fn handle(&self, body: &str, receive_count: u32) -> Next {
        let clock = || self.now();
        let jitter = || 1.0;
        let dispatcher = Dispatcher {
            alerts: &self.alerts,
            store: &self.store,
            sender: &self.sender,
            queue: &self.queue,
            clock: &clock,
            jitter: &jitter,
        };
        let arrival = Arrival {
            receive_count,
            holder: format!("holder {}", self.arrivals.fetch_add(1, Ordering::Relaxed)),
        };
        let next = dispatcher.handle(body, &arrival).await;
        let mut waiting = self.waiting.lock().unwrap();
        for wake in self.queue.take_wakes() {
            let body = serde_json::to_string(&Message::Wake { lane: wake.lane }).unwrap();
            waiting.push((self.now().0 + i64::from(wake.delay_seconds) * 1_000, body, 1));
        }
        if let Next::RetryIn(seconds) = next {
            let seconds = i64::try_from(seconds).unwrap();
            waiting.push((self.now().0 + seconds * 1_000, body.to_owned(), receive_count + 1));
        }
        self.letters.lock().unwrap().extend(self.queue.take_letters());
        next
    }

    async fn publish(&self, event: &TransitionEvent) -> Next {
        let body = serde_json::to_string(&Message::Event(Box::new(event.clone()))).unwrap();
        self.handle(&body, 1).await
    }

    /// Lets time pass: messages arrive when they are due.
    async fn until(&self, seconds: i64) {
        for _ in 0..10_000 {
            let next = {
                let mut waiting = self.waiting.lock().unwrap();
                waiting.sort();
                match waiting.first() {
                    Some((due, ..)) if *due <= at(seconds).0 => Some(waiting.remove(0)),
                    _ => None,
                }
            };
            let Some((due, body, receive_count)) = next else {
                self.now.store(at(seconds).0, Ordering::Relaxed);
                return;
            };
            self.now.fetch_max(due, Ordering::Relaxed);
            self.handle(&body, receive_count).await;
        }
        panic!("messages without end");
    }

    async fn channel(&self, name: &str, routing: Routing, rate_limit: RateLimit) {
        let spec = ChannelSpec {
            receiver: Receiver::Sns {
                topic_arn: "arn:aws:sns:eu-central-1:123456789012:ops".into(),
            },
            routing,
            rate_limit,
            title: None,
            body: None,
        };
        let channel = Channel {
            id: name.into(),
            spec,
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        };
        assert_eq!(self.store.put(&channel, None).await.unwrap(), Saved::Saved);
    }

    async fn ops(&self) {
        self.channel("ops", Routing::default(), RateLimit::default()).await;
    }

    async fn silence(&self, matchers: &str, from: i64, to: i64) {
        let silence = Silence {
            id: "s1".into(),
            matchers: matchers.parse().unwrap(),
            starts_at: at(from),
            ends_at: at(to),
            created_by: "ana".into(),
            comment: String::new(),
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        };
        self.store.put(&silence, None).await.unwrap();
    }

    /// What a channel was told, each as `time cause +firing -resolved`.
    fn told(&self, channel: &str) -> Vec<String> {
        let delivered = self.sender.delivered();
        delivered
            .iter()
            .filter(|one| one.notification.channel == channel)
            .map(|one| {
                let seconds = (one.at.0 - at(0).0) / 1_000;
                format!("{seconds} {}", line(&one.notification))
            })
            .collect()
    }

    async fn history(&self) -> Vec<HistoryEvent> {
        let page = PageRequest {
            limit: 1_000,
            after: None,
        };
        let filter = HistoryFilter::default();
        let mut found = self
            .alerts
            .list_history(&filter, at(400 * 86_400), &page)
            .await
            .unwrap()
            .items;
        found.reverse();
        found.into_iter().map(|entry| entry.event).collect()
    }

    async fn outcomes(&self) -> Vec<(u32, AttemptOutcome)> {
        let all = self.history().await.into_iter();
        all.filter_map(|event| match event {
            HistoryEvent::Notification { attempt, outcome, .. } => Some((attempt, outcome)),
            _ => None,
        })
        .collect()
    }

    async fn suppressed(&self) -> Vec<String> {
        let all = self.history().await.into_iter();
        all.filter_map(|event| match event {
            HistoryEvent::Suppressed { reason, .. } => Some(reason),
            _ => None,
        })
        .collect()
    }

    async fn is_empty(&self, lane: &str) -> bool {
        let content = self.store.content(lane).await.unwrap().unwrap();
        content.members.is_empty() && content.groups.is_empty()
    }
}

fn line(notification: &Notification) -> String {
    let cause = match notification.cause {
        Cause::Change if notification.is_digest => "digest",
        Cause::Change => "change",
        Cause::Repeat => "repeat",
        Cause::Heartbeat => "beat",
        Cause::Test => "test",
    };
    let alerts = notification.alerts.iter().map(|alert| {
        let sign = if alert.status == TransitionKind::Firing {
            '+'
        } else {
            '-'
        };
        let host = alert.labels.get("host").map_or("", String::as_str);
        format!(" {sign}{host}")
    });
    format!("{cause}{}", alerts.collect::<String>())
}

/// The firing of an incident on a host, told to channels.
fn fires(host: &str, since: i64, channels: &[&str]) -> TransitionEvent {
    let mut told = event(TransitionKind::Firing, "https://example.org/hook", channels);
    told.labels = Labels::from_pairs([("host", host)]).unwrap();
    told.fingerprint = fingerprint(&told.rule.id, &told.labels);
    told.instance_id = instance_id(&told.rule.id, &told.fingerprint);
    told.firing_since = at(since);
    told.pending_since = Some(at(since - 5));
    told.at = at(since);
    told
}

/// Its resolve.
fn ends(host: &str, since: i64, ended: i64, channels: &[&str]) -> TransitionEvent {
    TransitionEvent {
        kind: TransitionKind::Resolved,
        resolved_at: Some(at(ended)),
        at: at(ended),
        ..fires(host, since, channels)
    }
}

/// The instance of an incident that fires.
fn instance(event: &TransitionEvent) -> Instance {
    let json = serde_json::json!({"id": event.instance_id, "rule": event.rule, "fingerprint": event.fingerprint,
        "labels": event.labels, "state": InstanceState::Firing, "current_value": 91.0, "annotations": {},
        "pending_since": null, "firing_since": event.firing_since, "resolved_at": null, "updated_at": at(0), "version": 1});
    serde_json::from_value(json).unwrap()
}
