use super::*;
use serde_json::json;
use std::sync::Mutex;
use tidemark_model::{Bucket, Labels, Sample};
use tidemark_notify::MemoryNotifyStore;
use tidemark_rules::rule::RuleSpec;
use tidemark_rules::{MemoryAlertStore, MemoryTopic, Rule};
use tidemark_tsdb::{SelectError, SelectedSeries, Selector};

const NOW: Timestamp = Timestamp(1_767_268_800_000);
const NEVER: i64 = i64::MAX;

/// One series of each metric, above every threshold.
struct High;

impl Select for High {
    async fn select(&self, _: &Selector, _: i64, end_ms: i64) -> Result<Vec<SelectedSeries>, SelectError> {
        Ok(vec![SelectedSeries {
            labels: Labels::default(),
            samples: vec![Sample {
                timestamp_ms: end_ms,
                value: 100.0,
            }],
        }])
    }

    fn bucket(&self, metric: &str) -> Bucket {
        Bucket(metric.trim_start_matches('m').parse().unwrap())
    }
}

/// A queue that keeps what is sent to it, or takes nothing.
#[derive(Default)]
struct Sent {
    messages: Mutex<Vec<String>>,
    down: bool,
}

impl Queue for Sent {
    async fn send(&self, messages: Vec<String>) -> Result<(), StoreError> {
        if self.down {
            return Err(StoreError::Unavailable {
                operation: "SendMessageBatch",
                source: None,
            });
        }
        self.messages.lock().unwrap().extend(messages);
        Ok(())
    }
}

type House = Evaluate<MemoryAlertStore, MemoryNotifyStore, High, MemoryTopic, Sent>;

async fn house(rules: usize) -> House {
    let alerts = MemoryAlertStore::new();
    for number in 0..rules {
        let body = json!({"name": format!("r{number}"), "metric_name": format!("m{}", number % 8), "condition": ">",
            "threshold": 90});
        let rule = Rule {
            id: format!("r{number}"),
            spec: RuleSpec::parse(&body).unwrap(),
            version: 1,
            created_at: NOW,
            updated_at: NOW,
        };
        alerts.create_rule(&rule).await.unwrap();
    }
    Evaluate {
        alerts,
        lanes: MemoryNotifyStore::new(),
        data: High,
        topic: MemoryTopic::new(),
        queue: Sent::default(),
        buckets: Buckets::new(8).unwrap(),
        clock: || NOW,
    }
}

fn sqs(body: &str) -> Value {
    json!({"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": body}]})
}

fn shard(shard: u32, of: u32, at: i64) -> Value {
    sqs(&json!({"source": "shard", "shard": shard, "of": of, "at": at, "every_ms": 60_000}).to_string())
}

#[tokio::test]
async fn few_rules_are_evaluated_at_once_whoever_calls() {
    for event in [
        json!({"source": "schedule", "interval_minutes": 1}),
        json!({"source": "aws.events"}),
        json!(null),
    ] {
        let house = house(3).await;
        let summary = house.handle(&event, NEVER).await.unwrap();
        assert_eq!((summary.rules_evaluated, summary.alerts_triggered), (3, 3));
        assert!(house.queue.messages.lock().unwrap().is_empty());
        assert_eq!(house.alerts.load_tick(0).await.unwrap().unwrap().at, NOW);
    }
}

#[tokio::test]
async fn many_rules_are_shared_among_invocations() {
    let house = house(4_001).await;
    let event = json!({"source": "schedule", "interval_minutes": 5});
    // Nobody has evaluated the other shards yet, and that is said.
    let Failed::Incomplete(first) = house.handle(&event, NEVER).await.unwrap_err() else {
        panic!("the first tick of several shards is complete");
    };
    let first = first.0;
    assert_eq!((first.rules_failed, first.shards_behind), (0, 2));
    let messages = std::mem::take(&mut *house.queue.messages.lock().unwrap());
    assert_eq!(
        messages[0],
        r#"{"source":"shard","shard":1,"of":3,"at":1767268800000,"every_ms":300000}"#
    );
    let mut evaluated = first.rules_evaluated;
    for message in &messages {
        let summary = house.handle(&sqs(message), NEVER).await.unwrap();
        assert!(summary.rules_evaluated > 0);
        evaluated += summary.rules_evaluated;
    }
    assert_eq!((messages.len(), evaluated), (2, 4_001));
    assert_eq!(house.alerts.count_active_instances().await.unwrap(), 4_001);
}

#[tokio::test]
async fn there_are_no_more_shards_than_buckets() {
    let mut house = house(2_001).await;
    house.buckets = Buckets::new(1).unwrap();
    house.handle(&json!({"source": "schedule"}), NEVER).await.unwrap();
    assert!(house.queue.messages.lock().unwrap().is_empty());
}

#[tokio::test]
async fn when_the_others_cannot_be_called_the_first_shard_is_evaluated_and_the_tick_fails() {
    let mut house = house(2_001).await;
    house.queue.down = true;
    let failed = house.handle(&json!({"source": "schedule"}), NEVER).await.unwrap_err();
    assert_eq!(failed.to_string(), "1 shards could not be called");
    assert!(house.alerts.count_active_instances().await.unwrap() > 900);
}

#[tokio::test]
async fn a_shard_that_comes_late_is_left_to_the_next_tick() {
    let house = house(3).await;
    let late = house.handle(&shard(0, 1, NOW.0 - 60_001), NEVER).await.unwrap();
    assert_eq!(late, TickSummary::default());
    let in_time = house.handle(&shard(0, 1, NOW.0 - 60_000), NEVER).await.unwrap();
    assert_eq!(in_time.rules_evaluated, 3);
}

#[tokio::test]
async fn what_is_no_shard_fails() {
    let house = house(1).await;
    for body in [
        "",
        "{}",
        r#"{"source":"schedule"}"#,
        r#"{"source":"shard","shard":-1,"of":1,"at":0,"every_ms":0}"#,
    ] {
        let failed = house.handle(&sqs(body), NEVER).await.unwrap_err();
        assert!(matches!(failed, Failed::NoShard(_)), "{body}");
    }
}

#[tokio::test]
async fn a_tick_without_time_fails_and_says_what_it_left() {
    let house = house(3).await;
    let failed = house.handle(&json!({}), NOW.0 + RESERVE_MS).await.unwrap_err();
    assert!(failed.to_string().contains("3 rules were skipped"), "{failed}");
    assert_eq!(house.alerts.load_tick(0).await.unwrap().unwrap().owed.len(), 3);
}

#[tokio::test]
async fn lanes_that_nobody_came_to_are_woken_by_the_first_shard_alone() {
    let house = house(0).await;
    house.lanes.wake_by("mail", Timestamp(NOW.0 - 90_001)).await.unwrap();
    house.lanes.wake_by("pager", Timestamp(NOW.0 - 10)).await.unwrap();
    house.handle(&shard(1, 2, NOW.0), NEVER).await.unwrap();
    assert!(house.topic.take().is_empty());
    house.handle(&json!({"source": "schedule"}), NEVER).await.unwrap();
    let wake = tidemark_rules::Message::Wake {
        lane: "mail".to_owned(),
    };
    assert_eq!(house.topic.take(), [wake]);
}

#[test]
fn the_schedule_says_how_often_it_comes() {
    for (event, minutes) in [
        (json!({}), 1),
        (json!({"interval_minutes": 10}), 10),
        (json!({"interval_minutes": 0}), 1),
        (json!({"interval_minutes": "5"}), 1),
        (json!({"interval_minutes": 9_999_999_999_i64}), 1_440),
    ] {
        assert_eq!(every_ms(&event), minutes * MINUTE_MS, "{event}");
    }
}
