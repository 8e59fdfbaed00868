use super::*;
use crate::event::TransitionEvent;
use crate::fixtures::{Data, at, rule};
use crate::history::{HistoryEntry, HistoryEvent, HistoryFilter};
use crate::memory::{MemoryAlertStore, MemoryTopic};
use crate::store::PageRequest;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tidemark_tsdb::{SelectError, SelectedSeries, Selector};

mod faults;
mod outages;
mod schedule;

/// A tick every minute.
const EVERY_MINUTE: Which = Which::Due { every_ms: 60_000 };

#[derive(Default)]
struct House {
    store: MemoryAlertStore,
    topic: MemoryTopic,
    data: Data,
}

impl House {
    async fn with_rules(rules: &[(&str, Value)]) -> Self {
        let house = Self::default();
        for (id, extra) in rules {
            house.store.create_rule(&rule(id, extra)).await.unwrap();
        }
        house
    }

    /// Evaluates everything.
    async fn tick(&self, seconds: i64) -> TickSummary {
        evaluate_all(&self.store, &self.data, &self.topic, at(seconds), &|| true)
            .await
            .unwrap()
    }

    /// A tick of the schedule.
    async fn scheduled(&self, seconds: i64) -> TickSummary {
        self.scheduled_while(seconds, &|| true).await
    }

    async fn scheduled_while(&self, seconds: i64, may_go_on: &(dyn Fn() -> bool + Sync)) -> TickSummary {
        let world = World {
            alerts: &self.store,
            data: &self.data,
            publisher: &self.topic,
            now: at(seconds),
            may_go_on,
        };
        evaluate(&world, Shard::WHOLE, EVERY_MINUTE).await.unwrap()
    }

    /// What was published since the last time.
    fn events(&self) -> Vec<TransitionEvent> {
        let event = |message| match message {
            Message::Event(event) => *event,
            Message::Wake { lane } => panic!("a wake of {lane}"),
        };
        self.topic.take().into_iter().map(event).collect()
    }

    fn told(&self) -> Vec<TransitionReason> {
        self.events().iter().map(|event| event.reason).collect()
    }

    /// The whole history, the oldest first.
    async fn history(&self) -> Vec<HistoryEntry> {
        let all = PageRequest {
            limit: 10_000,
            after: None,
        };
        let page = self.store.list_history(&HistoryFilter::default(), at(0), &all).await;
        page.unwrap().items.into_iter().rev().collect()
    }

    /// The states in the history, the oldest first.
    async fn states(&self) -> Vec<TransitionKind> {
        let state = |entry: HistoryEntry| match entry.event {
            HistoryEvent::Transition { state, .. } => state,
            other => panic!("{other:?}"),
        };
        self.history().await.into_iter().map(state).collect()
    }

    async fn instance_states(&self) -> Vec<InstanceState> {
        let all = self.store.load_instances().await.unwrap();
        all.iter().map(|instance| instance.state).collect()
    }

    async fn owed(&self) -> Vec<String> {
        let state = self.store.load_tick(0).await.unwrap().unwrap();
        state.owed.into_keys().collect()
    }
}

const HELD: TransitionReason = TransitionReason::ConditionHeld;
const CLEARED: TransitionReason = TransitionReason::ConditionCleared;

#[tokio::test]
async fn an_alert_fires_and_resolves_and_each_is_published_once() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": 60}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    let first = house.tick(1).await;
    assert_eq!((first.rules_evaluated, first.alerts_triggered), (1, 0));
    house.data.push("cpu", "a", 60, 96.0);
    let second = house.tick(61).await;
    assert_eq!(
        (second.alerts_triggered, second.unpublished, second.conflicts),
        (1, 0, 0)
    );
    let event = &house.events()[0];
    assert_eq!(
        (event.kind, event.value, event.rule.name.as_str()),
        (TransitionKind::Firing, 96.0, "r")
    );
    assert_eq!(event.annotations["summary"], "a is at 96");
    let text = serde_json::to_string(event).unwrap();
    assert_eq!(TransitionEvent::from_json(&text).unwrap(), *event);
    house.data.push("cpu", "a", 100, 5.0);
    assert_eq!(house.tick(121).await.alerts_resolved, 1);
    assert_eq!(house.told(), [CLEARED]);
    assert_eq!(house.tick(122).await.alerts_resolved, 0);
    assert!(house.told().is_empty());
    let [pending, firing, resolved] = house.states().await[..] else {
        panic!("{:?}", house.history().await);
    };
    assert_eq!(
        (pending, firing, resolved),
        (
            TransitionKind::Pending,
            TransitionKind::Firing,
            TransitionKind::Resolved
        )
    );
    assert!(
        house.store.load_tick(0).await.unwrap().is_none(),
        "that is the schedule's"
    );
}

#[tokio::test]
async fn what_nobody_is_told_of_stands_in_the_history_all_the_same() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": 600}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.tick(1).await;
    house.data.push("cpu", "a", 60, 5.0);
    assert_eq!(house.tick(61).await.unpublished, 0);
    assert!(house.told().is_empty());
    assert_eq!(
        house.states().await,
        [TransitionKind::Pending, TransitionKind::Inactive]
    );
    let instances = house.store.load_instances().await.unwrap();
    assert!(instances[0].unsent.is_empty());
}

#[tokio::test]
async fn a_series_that_stops_resolves_after_the_look_back() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.tick(1).await;
    assert_eq!(house.tick(299).await.alerts_resolved, 0);
    assert_eq!(house.tick(301).await.alerts_resolved, 1);
    assert_eq!(house.told(), [HELD, TransitionReason::DataMissing]);
}

#[tokio::test]
async fn while_the_topic_is_down_nothing_is_lost_or_reordered() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.topic.set_down(true);
    let summary = house.tick(1).await;
    assert_eq!((summary.alerts_triggered, summary.unpublished), (1, 1));
    house.data.push("cpu", "a", 30, 5.0);
    let waiting = house.tick(61).await;
    assert_eq!(
        (waiting.alerts_resolved, waiting.unpublished),
        (0, 1),
        "it waits until the firing is told"
    );
    house.topic.set_down(false);
    assert_eq!(house.tick(121).await.alerts_resolved, 1);
    assert_eq!(house.told(), [HELD, CLEARED]);
}

/// Lets another tick run in the middle of the first selection.
struct Interrupted<'a> {
    house: &'a House,
    done: AtomicBool,
}

impl Select for Interrupted<'_> {
    async fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        if !self.done.swap(true, Ordering::SeqCst) {
            let House { store, topic, data } = self.house;
            evaluate_all(store, data, topic, at(1), &|| true).await.unwrap();
        }
        self.house.data.select(selector, start_ms, end_ms).await
    }
}

#[tokio::test]
async fn of_two_ticks_at_once_one_wins_each_instance() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    let data = Interrupted {
        house: &house,
        done: AtomicBool::new(false),
    };
    let summary = evaluate_all(&house.store, &data, &house.topic, at(2), &|| true)
        .await
        .unwrap();
    assert_eq!(
        (summary.conflicts, summary.alerts_triggered, summary.rules_failed),
        (1, 0, 0)
    );
    assert_eq!(house.told(), [HELD]);
}

#[tokio::test]
async fn rules_that_read_the_same_share_one_selection() {
    let house = House::with_rules(&[
        ("a", json!({})),
        ("b", json!({"threshold": 50})),
        ("c", json!({"aggregation": "avg"})),
        ("d", json!({"aggregation": "avg", "window_seconds": 60})),
        ("e", json!({"labels": {"host": "x"}})),
        ("f", json!({"enabled": false})),
    ])
    .await;
    let summary = house.tick(1).await;
    assert_eq!(
        (summary.rules_evaluated, summary.selections, summary.read_passes),
        (5, 2, 1)
    );
    assert_eq!(
        house.data.selections.lock().unwrap().len(),
        2,
        "the longest of them all, and host x"
    );
}

#[tokio::test]
async fn each_rule_sees_its_own_window_of_what_is_read_for_all() {
    let house = House::with_rules(&[
        ("latest", json!({"condition": "==", "threshold": 3})),
        (
            "minute",
            json!({"aggregation": "count", "window_seconds": 60, "condition": "==", "threshold": 1}),
        ),
        (
            "hour",
            json!({"aggregation": "count", "window_seconds": 3_600, "condition": "==", "threshold": 3}),
        ),
        (
            "gone",
            json!({"aggregation": "count", "window_seconds": 10, "condition": ">=", "threshold": 0}),
        ),
    ])
    .await;
    for (seconds, value) in [(0, 1.0), (1_000, 2.0), (3_550, 3.0)] {
        house.data.push("cpu", "a", seconds, value);
    }
    let summary = house.tick(3_599).await;
    assert_eq!(
        (summary.alerts_triggered, summary.selections, summary.samples_read),
        (3, 1, 3)
    );
    let mut names: Vec<String> = house.events().into_iter().map(|event| event.rule.name).collect();
    names.sort();
    assert_eq!(names, ["hour", "latest", "minute"]);
}

#[tokio::test]
async fn a_window_that_is_too_long_is_not_paid_for_by_rules_with_a_shorter_one() {
    let house = House::with_rules(&[
        ("short", json!({"aggregation": "max", "window_seconds": 60})),
        ("latest", json!({})),
        ("long", json!({"aggregation": "max", "window_seconds": 86_400})),
    ])
    .await;
    for second in 0..10 {
        house.data.push("cpu", "a", second * 60, 95.0);
    }
    house.data.most_samples.store(5, Ordering::SeqCst);
    let summary = house.tick(541).await;
    assert_eq!(
        (summary.rules_evaluated, summary.rules_failed, summary.alerts_triggered),
        (2, 1, 2)
    );
    assert_eq!((summary.selections, summary.samples_read), (3, 5 + 1));
}

#[tokio::test]
async fn shards_share_the_rules_by_bucket() {
    let metrics: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
    let mut rules: Vec<(&str, Value)> = metrics
        .iter()
        .map(|id| (id.as_str(), json!({"metric_name": id})))
        .collect();
    rules.push(("heart", json!({"kind": "heartbeat"})));
    let house = House::with_rules(&rules).await;
    house.data.buckets.store(8, Ordering::SeqCst);
    for metric in &metrics {
        house.data.push(metric, "a", 0, 95.0);
    }
    let mut evaluated = 0;
    for index in 0..3 {
        let world = World {
            alerts: &house.store,
            data: &house.data,
            publisher: &house.topic,
            now: at(1),
            may_go_on: &|| true,
        };
        let summary = evaluate(&world, Shard { index, of: 3 }, EVERY_MINUTE).await.unwrap();
        assert_eq!((summary.conflicts, summary.alerts_resolved), (0, 0));
        assert!(summary.read_passes <= 3, "8 buckets over 3 shards");
        evaluated += summary.rules_evaluated;
        assert_eq!(house.store.load_tick(index).await.unwrap().unwrap().at, at(1));
    }
    assert_eq!(evaluated, 13);
    assert_eq!(house.store.count_active_instances().await.unwrap(), 13);
    // What a deleted rule leaves belongs to shard 0.
    let rule = house.store.get_rule("m3").await.unwrap().unwrap();
    house.store.delete_rule(&rule).await.unwrap();
    let resolved = async |index| {
        let world = World {
            alerts: &house.store,
            data: &house.data,
            publisher: &house.topic,
            now: at(61),
            may_go_on: &|| true,
        };
        let summary = evaluate(&world, Shard { index, of: 3 }, EVERY_MINUTE).await.unwrap();
        summary.alerts_resolved
    };
    assert_eq!((resolved(1).await, resolved(2).await, resolved(0).await), (0, 0, 1));
}

#[test]
fn two_thousand_rules_make_a_shard() {
    let counts = [0, 1, 2_000, 2_001, 10_000].map(Shard::count_for);
    assert_eq!(counts, [1, 1, 1, 2, 5]);
}

#[tokio::test]
async fn an_aggregate_is_compared_per_group() {
    let house = House::with_rules(&[(
        "r",
        json!({"aggregation": "avg", "group_by": ["host"], "window_seconds": 60}),
    )])
    .await;
    for (seconds, value) in [(0, 1_000.0), (10, 80.0), (20, 120.0)] {
        house.data.push("cpu", "a", seconds, value);
        house.data.push("cpu", "b", seconds, 1.0);
    }
    assert_eq!(house.tick(60).await.alerts_triggered, 1);
    let event = &house.events()[0];
    assert_eq!(
        (event.labels.get("host"), event.value),
        (Some("a"), 100.0),
        "the sample at 0 s is outside the window"
    );
}

#[tokio::test]
async fn a_rule_that_cannot_be_read_keeps_its_state_and_stops_no_other() {
    let house = House::with_rules(&[("r", json!({})), ("s", json!({"metric_name": "memory"}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.tick(1).await;
    house.data.broken.lock().unwrap().push("cpu".to_owned());
    house.data.push("memory", "a", 500, 95.0);
    let summary = house.tick(600).await;
    assert_eq!(
        (summary.rules_failed, summary.rules_evaluated, summary.alerts_resolved),
        (1, 1, 0)
    );
    let instances = house.store.load_instances().await.unwrap();
    assert!(instances.iter().all(|instance| instance.state == InstanceState::Firing));
}

#[tokio::test]
async fn rules_that_there_is_no_time_for_are_skipped() {
    let house = House::with_rules(&[("r", json!({})), ("s", json!({"metric_name": "memory"}))]).await;
    let asked = AtomicUsize::new(0);
    let once = || asked.fetch_add(1, Ordering::SeqCst) == 0;
    let summary = evaluate_all(&house.store, &house.data, &house.topic, at(0), &once)
        .await
        .unwrap();
    assert_eq!((summary.rules_evaluated, summary.rules_skipped), (1, 1));
}

#[tokio::test]
async fn ticks_that_run_out_of_time_get_to_every_rule() {
    let ids: Vec<String> = (0..7).map(|number| format!("r{number}")).collect();
    let rules: Vec<_> = ids.iter().map(|id| (id.as_str(), json!({"metric_name": id}))).collect();
    let house = House::with_rules(&rules).await;
    for id in &ids {
        house.data.push(id, "a", 0, 95.0);
    }
    let mut triggered = 0;
    for minute in 0..4 {
        let asked = AtomicUsize::new(0);
        let thrice = || asked.fetch_add(1, Ordering::SeqCst) < 3;
        let summary = evaluate_all(&house.store, &house.data, &house.topic, at(minute * 60), &thrice)
            .await
            .unwrap();
        assert_eq!((summary.rules_evaluated, summary.rules_skipped), (3, 4));
        triggered += summary.alerts_triggered;
    }
    assert_eq!(triggered, 7);
}

#[tokio::test]
async fn a_disabled_rule_resolves_on_the_next_tick() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.tick(1).await;
    crate::manage::patch_rule(&house.store, "r", &json!({"enabled": false}), at(2))
        .await
        .unwrap();
    assert_eq!(house.tick(61).await.alerts_resolved, 1);
    assert_eq!(house.told(), [HELD, TransitionReason::RuleDisabled]);
}

#[tokio::test]
async fn many_series_fire_at_once() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    for host in 0..300 {
        house.data.push("cpu", &format!("host-{host:03}"), 0, 95.0);
    }
    assert_eq!(house.tick(1).await.alerts_triggered, 300);
    assert_eq!(house.topic.take().len(), 300);
    assert_eq!(house.store.count_active_instances().await.unwrap(), 300);
    assert_eq!(house.tick(2).await.alerts_triggered, 0);
}

#[tokio::test]
async fn a_tick_can_run_on_any_thread() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    let summary = tokio::spawn(async move { house.tick(1).await }).await.unwrap();
    assert_eq!(summary.rules_evaluated, 1);
}
