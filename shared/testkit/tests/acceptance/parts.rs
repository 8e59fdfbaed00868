//! What the parts of the installation share: the clock, the topic, the queue, and who receives. Here the story's faults happen.

use crate::language::{Answer, Moment, Page, Said, Span, State};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use tidemark_model::Timestamp;
use tidemark_notify::dispatch::{self, Letter, Queue};
use tidemark_notify::{Deliver, Failure, Notification, Target};
use tidemark_rules::event::{Message, Publish, PublishError};
use tidemark_rules::history::HistoryEntry;
use tidemark_rules::store::StoreError;
use tokio::sync::Notify;

/// What a story came to.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// What receivers have taken.
    pub(crate) told: Vec<(Moment, Page)>,
    /// The channel of each attempt.
    pub(crate) attempts: Vec<(Moment, String)>,
    /// The channel of each notification that was given up.
    pub(crate) dead_letters: Vec<(Moment, String)>,
    pub(crate) history: Vec<HistoryEntry>,
    pub(crate) timeline: Vec<String>,
}

/// A message of the queue.
pub(crate) struct Queued {
    pub(crate) body: String,
    pub(crate) visible: Moment,
    pub(crate) receives: u32,
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) now: AtomicI64,
    pub(crate) states: Vec<(Span, State)>,
    pub(crate) queue: Mutex<Vec<Queued>>,
    /// The bodies of the dead letters.
    pub(crate) dead: Mutex<Vec<String>>,
    pub(crate) played: Mutex<Played>,
    /// The next publishing, or the next answer of a receiver, is the death of the process that asks.
    pub(crate) publishing_kills: AtomicBool,
    pub(crate) answering_kills: AtomicBool,
    pub(crate) death: Notify,
}

impl Shared {
    pub(crate) fn new(states: Vec<(Span, State)>) -> Self {
        Self {
            now: AtomicI64::new(0),
            states,
            queue: Mutex::default(),
            dead: Mutex::default(),
            played: Mutex::default(),
            publishing_kills: AtomicBool::default(),
            answering_kills: AtomicBool::default(),
            death: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        Moment(self.now.load(Ordering::Relaxed))
    }

    pub(crate) fn log(&self, line: &str) {
        let line = format!("{}  {line}", self.now());
        self.played.lock().unwrap().timeline.push(line);
    }

    pub(crate) fn is(&self, state: impl Fn(&State) -> bool) -> bool {
        let now = self.now();
        self.states.iter().any(|(span, one)| span.holds(now) && state(one))
    }

    /// The time as the evaluation sees it.
    pub(crate) fn evaluation_time(&self) -> Timestamp {
        let now = self.now();
        let skews = self.states.iter().filter(|(span, _)| span.holds(now));
        let skew_s: i64 = skews
            .map(|(_, state)| match state {
                State::Skew(seconds) => *seconds,
                _ => 0,
            })
            .sum();
        Moment(now.0 + skew_s * 1_000).time()
    }

    pub(crate) fn send(&self, body: String, delay_ms: i64) {
        let copies = if self.is(|state| matches!(state, State::Twice)) {
            2
        } else {
            1
        };
        let visible = Moment(self.now().0 + delay_ms);
        let mut queue = self.queue.lock().unwrap();
        queue.extend((0..copies).map(|_| Queued {
            body: body.clone(),
            visible,
            receives: 0,
        }));
    }

    /// The process that calls this is gone, when it was to die here.
    async fn may_die(&self, here: &AtomicBool) {
        if here.swap(false, Ordering::Relaxed) {
            self.death.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The topic, which brings everything to the queue.
impl Publish for Shared {
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        if !messages.is_empty() {
            self.may_die(&self.publishing_kills).await;
        }
        let down = self.is(|state| matches!(state, State::TopicDown));
        let take = |message: &Message| {
            if down {
                let reason = "the topic is down".to_owned();
                return Err(PublishError { reason });
            }
            self.send(serde_json::to_string(message).unwrap(), 0);
            Ok(())
        };
        messages.iter().map(take).collect()
    }
}

impl Queue for Shared {
    async fn wake(&self, lane: &str, delay_seconds: u32) -> Result<(), StoreError> {
        assert!(
            delay_seconds <= dispatch::MAX_DELAY_SECONDS,
            "a delay of {delay_seconds} s"
        );
        let lane = lane.to_owned();
        let body = serde_json::to_string(&Message::Wake { lane }).unwrap();
        self.send(body, i64::from(delay_seconds) * 1_000);
        Ok(())
    }

    async fn dead_letter(&self, body: &str, reason: &str) -> Result<(), StoreError> {
        let letter: Result<Letter, _> = serde_json::from_str(body);
        let channel = letter.map_or_else(|_| body.to_owned(), |letter| letter.channel);
        self.log(&format!("a dead letter of {channel}: {reason}"));
        let now = self.now();
        self.played.lock().unwrap().dead_letters.push((now, channel));
        self.dead.lock().unwrap().push(body.to_owned());
        Ok(())
    }
}

/// Everybody who receives.
impl Deliver for Shared {
    async fn deliver(&self, _: Target<'_>, notification: &Notification, at: Timestamp) -> Result<(), Failure> {
        let now = self.now();
        assert_eq!(at, now.time(), "an attempt at another time than now");
        let channel = &notification.channel;
        let page = page_of(notification);
        self.played.lock().unwrap().attempts.push((now, channel.clone()));
        let answer = self.states.iter().rev().find_map(|(span, state)| match state {
            State::Receiver { channel: on, answer } if on == channel && span.holds(now) => Some(answer),
            _ => None,
        });
        if let Some(Answer::Fails(failure)) = answer {
            self.log(&format!("refused by {page}: {failure}"));
            return Err(failure.clone());
        }
        self.log(&format!("told {page}"));
        self.played.lock().unwrap().told.push((now, page));
        self.may_die(&self.answering_kills).await;
        match answer {
            Some(Answer::Lost) => Err(Failure::Timeout),
            _ => Ok(()),
        }
    }
}

fn page_of(notification: &Notification) -> Page {
    let said = |alert: &tidemark_notify::Alert| {
        let mut series = alert.labels.clone();
        series
            .retain(|name, _| name != "alertname" && name != "severity" && !alert.rule.alert_labels.contains_key(name));
        Said {
            kind: alert.status,
            rule: alert.rule.name.clone(),
            series,
            reason: Some(alert.reason),
        }
    };
    Page {
        channel: notification.channel.clone(),
        cause: notification.cause,
        digest: notification.is_digest,
        alerts: notification.alerts.iter().map(said).collect(),
    }
}
