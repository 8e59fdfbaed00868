//! What happens when nobody looked for a while, when data comes late, and when rules change under what they fire.

use super::*;

const TEN_MINUTES: u64 = 600;

#[tokio::test]
async fn time_in_which_nobody_looked_does_not_count_towards_a_duration() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": TEN_MINUTES}))]).await;
    for minute in 0..200 {
        house.data.push("cpu", "a", minute * 60, 95.0);
    }
    for minute in 0..5 {
        house.scheduled(minute * 60 + 1).await;
    }
    // Nobody looks for an hour. Four of the ten minutes were seen before; the hour is none of them.
    for minute in 65..71 {
        assert_eq!(
            house.scheduled(minute * 60 + 1).await.alerts_triggered,
            0,
            "minute {minute}"
        );
    }
    assert_eq!(house.scheduled(71 * 60 + 1).await.alerts_triggered, 1);
}

#[tokio::test]
async fn a_few_missed_ticks_count_as_if_they_had_been_there() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": TEN_MINUTES}))]).await;
    for minute in 0..20 {
        house.data.push("cpu", "a", minute * 60, 95.0);
    }
    for minute in [0, 4, 8] {
        assert_eq!(house.scheduled(minute * 60 + 1).await.alerts_triggered, 0);
    }
    assert_eq!(house.scheduled(601).await.alerts_triggered, 1);
}

#[tokio::test]
async fn time_in_which_its_data_could_not_be_read_does_not_count_either() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": TEN_MINUTES}))]).await;
    for minute in 0..200 {
        house.data.push("cpu", "a", minute * 60, 95.0);
    }
    for minute in 0..5 {
        house.scheduled(minute * 60 + 1).await;
    }
    house.data.broken.lock().unwrap().push("cpu".to_owned());
    for minute in 5..65 {
        assert_eq!(house.scheduled(minute * 60 + 1).await.rules_failed, 1);
    }
    house.data.broken.lock().unwrap().clear();
    for minute in 65..71 {
        assert_eq!(
            house.scheduled(minute * 60 + 1).await.alerts_triggered,
            0,
            "minute {minute}"
        );
    }
    assert_eq!(house.scheduled(71 * 60 + 1).await.alerts_triggered, 1);
}

#[tokio::test]
async fn after_an_outage_nothing_fires_on_what_was_there_before() {
    let house = House::with_rules(&[
        ("latest", json!({})),
        ("held", json!({"duration_seconds": TEN_MINUTES})),
        ("summed", json!({"aggregation": "max", "window_seconds": 300})),
    ])
    .await;
    house.scheduled(0).await;
    house.data.push("cpu", "a", 30, 95.0);
    // Everything is down for an hour, and comes back before any data does.
    let summary = house.scheduled(3_660).await;
    assert_eq!((summary.alerts_triggered, summary.rules_evaluated), (0, 3));
    assert!(house.instance_states().await.is_empty());
}

#[tokio::test]
async fn a_backlog_of_old_samples_fires_nothing() {
    let house = House::with_rules(&[
        ("r", json!({})),
        ("s", json!({"aggregation": "sum", "window_seconds": 600})),
    ])
    .await;
    house.scheduled(3_600).await;
    // The consumer was an hour behind and stores it now.
    for minute in 0..49 {
        house.data.push("cpu", "a", minute * 60, 95.0);
    }
    assert_eq!(house.scheduled(3_660).await.alerts_triggered, 0);
    assert!(house.told().is_empty());
}

#[tokio::test]
async fn what_fires_stays_firing_through_an_outage_of_its_data_store() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.scheduled(1).await;
    house.data.broken.lock().unwrap().push("cpu".to_owned());
    for minute in 1..30 {
        assert_eq!(house.scheduled(minute * 60).await.alerts_resolved, 0);
    }
    house.data.broken.lock().unwrap().clear();
    house.data.push("cpu", "a", 1_790, 96.0);
    let summary = house.scheduled(1_800).await;
    assert_eq!((summary.alerts_triggered, summary.alerts_resolved), (0, 0));
    assert_eq!(house.told(), [HELD]);
}

#[tokio::test]
async fn a_rule_that_is_deleted_while_it_fires_resolves() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.scheduled(1).await;
    crate::manage::delete_rule(&house.store, "r").await.unwrap();
    assert_eq!(house.scheduled(61).await.alerts_resolved, 1);
    let events = house.events();
    assert_eq!(events[1].reason, TransitionReason::RuleDeleted);
    assert_eq!(
        events[1].rule, events[0].rule,
        "who was told of the firing is told of the end"
    );
    assert_eq!(house.scheduled(121).await.alerts_resolved, 0);
    assert_eq!(house.instance_states().await, [InstanceState::Resolved]);
    house.scheduled(61 + 86_400 + 1).await;
    assert!(house.instance_states().await.is_empty(), "a day later it is forgotten");
}

#[tokio::test]
async fn what_a_deleted_rule_could_not_tell_is_told_before_its_end() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    house.topic.set_down(true);
    house.scheduled(1).await;
    crate::manage::delete_rule(&house.store, "r").await.unwrap();
    assert_eq!(house.scheduled(61).await.alerts_resolved, 0);
    house.topic.set_down(false);
    assert_eq!(house.scheduled(121).await.alerts_resolved, 1);
    assert_eq!(house.told(), [HELD, TransitionReason::RuleDeleted]);
}

#[tokio::test]
async fn a_clock_that_steps_back_ends_nothing_and_fires_nothing_early() {
    let house = House::with_rules(&[("r", json!({"duration_seconds": 120}))]).await;
    for minute in -10..10 {
        house.data.push("cpu", "a", minute * 60, 95.0);
    }
    house.scheduled(60).await;
    assert_eq!(house.scheduled(0).await.alerts_triggered, 0);
    assert_eq!(
        house.scheduled(61).await.alerts_triggered,
        0,
        "pending since it stepped back"
    );
    assert_eq!(house.scheduled(120).await.alerts_triggered, 1);
    assert_eq!(house.scheduled(90).await.alerts_resolved, 0);
}
