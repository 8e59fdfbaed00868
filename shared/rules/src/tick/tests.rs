use super::*;
use crate::fixtures::{Data, at, rule};
use crate::instance::{InstanceState, TransitionReason};
use crate::memory::{MemoryAlertStore, MemoryTopic};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tidemark_tsdb::{SelectError, SelectedSeries};

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

    async fn tick(&self, seconds: i64) -> TickSummary {
        evaluate_all(&self.store, &self.data, &self.topic, at(seconds), &|| true)
            .await
            .unwrap()
    }

    fn told(&self) -> Vec<TransitionReason> {
        self.topic.take().iter().map(|event| event.reason).collect()
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
    let event = &house.topic.take()[0];
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

#[tokio::test]
async fn a_crash_after_the_save_is_made_up_for_under_the_same_id() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.tick(1).await;
    let published = house.topic.take().remove(0);
    // As if the process had died before the outbox was emptied.
    let mut instance = house.store.get_instance(&published.instance_id).await.unwrap().unwrap();
    instance.unsent.push(crate::Transition {
        kind: published.kind,
        reason: published.reason,
        at: published.at,
        firing_since: published.firing_since,
        value: published.value,
    });
    instance.version += 1;
    house
        .store
        .save_instance(&instance, Some(instance.version - 1))
        .await
        .unwrap();
    assert_eq!(house.tick(61).await.alerts_triggered, 0);
    assert_eq!(house.topic.take(), [published]);
    let after = house.store.load_instances().await.unwrap();
    assert!(after[0].unsent.is_empty());
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
    assert_eq!(summary.rules_evaluated, 5);
    assert_eq!(
        house.data.selections.lock().unwrap().len(),
        3,
        "five minutes, one minute, host x"
    );
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
    let event = &house.topic.take()[0];
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

#[test]
fn every_selection_comes_first_on_some_tick_whatever_the_interval() {
    // The template takes intervals of up to ten minutes.
    for minutes in 1..=10_i64 {
        for selections in 1..=60_usize {
            let mut begun: Vec<usize> = (0..selections as i64 * 8)
                .map(|tick| first_selection(at(tick * minutes * 60), selections))
                .collect();
            begun.sort_unstable();
            begun.dedup();
            assert_eq!(begun.len(), selections, "every {minutes} minutes");
        }
    }
    assert_eq!(first_selection(at(0), 0), 0);
    assert_eq!(
        first_selection(at(61), 9),
        first_selection(at(119), 9),
        "a tick is not at the second"
    );
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

#[test]
fn events_of_another_version_are_refused() {
    for (text, message) in [
        ("{}", "the message is not a transition event"),
        (
            "{\"schema_version\": 2}",
            "the event has schema version 2; this version reads 1",
        ),
        ("{\"schema_version\": 1}", "the message is not a transition event"),
    ] {
        assert_eq!(TransitionEvent::from_json(text).unwrap_err().to_string(), message);
    }
}
