//! What people are told, when nothing fails.

use super::*;

#[tokio::test]
async fn one_problem_is_one_page_and_one_all_clear() {
    let world = World::new();
    world.ops().await;
    assert_eq!(world.publish(&fires("a", 0, &["ops"])).await, Next::Done);
    world.until(60).await;
    assert_eq!(world.told("ops"), ["10 change +a"]);
    world.publish(&ends("a", 0, 60, &["ops"])).await;
    world.until(600).await;
    assert_eq!(world.told("ops"), ["10 change +a", "310 change -a"]);
    assert!(world.is_empty("channel#ops").await);
    let settled = world
        .store
        .settled("channel#ops", &fires("a", 0, &[]).incident_id())
        .await
        .unwrap();
    assert_eq!(settled, Some(Settled::Told));
    assert_eq!(
        world.outcomes().await,
        [(1, AttemptOutcome::Sent), (1, AttemptOutcome::Sent)]
    );
}

#[tokio::test]
async fn what_fires_together_is_told_together() {
    let world = World::new();
    world.ops().await;
    for host in ["a", "b", "c"] {
        world.publish(&fires(host, 0, &["ops"])).await;
    }
    world.until(400).await;
    assert_eq!(world.told("ops"), ["10 change +a +b +c"]);
    assert_eq!(
        world.store.lane("channel#ops").await.unwrap().unwrap().leased_until,
        None
    );
}

#[tokio::test]
async fn a_duplicate_is_told_once_also_after_it_was_settled() {
    let world = World::new();
    world.ops().await;
    let (firing, resolve) = (fires("a", 0, &["ops"]), ends("a", 0, 60, &["ops"]));
    for event in [&firing, &firing, &resolve, &firing, &resolve] {
        world.publish(event).await;
        world.until(at_seconds(&world) + 400).await;
    }
    assert_eq!(world.told("ops"), ["10 change +a", "810 change -a"]);
}

fn at_seconds(world: &World) -> i64 {
    (world.now().0 - at(0).0) / 1_000
}

#[tokio::test]
async fn a_resolve_that_arrives_first_tells_both_and_its_firing_nothing_more() {
    let world = World::new();
    world.ops().await;
    world.publish(&ends("a", -60, 0, &["ops"])).await;
    world.until(20).await;
    world.publish(&fires("a", -60, &["ops"])).await;
    world.until(900).await;
    assert_eq!(world.told("ops"), ["10 change -a"]);
    let alert = &world.sender.delivered_to("ops")[0].alerts[0];
    assert_eq!((alert.starts_at, alert.ends_at), (at(-60), Some(at(0))));
}

#[tokio::test]
async fn the_end_of_what_has_begun_again_is_told_before_even_when_its_message_is_late() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(20).await;
    world.publish(&fires("a", 200, &["ops"])).await;
    world.until(400).await;
    world.publish(&ends("a", 0, 100, &["ops"])).await;
    world.until(900).await;
    assert_eq!(world.told("ops"), ["10 change +a", "310 change -a +a"]);
    let ended = &world.sender.delivered_to("ops")[1].alerts[0];
    assert_eq!(ended.ends_at, Some(at(195)), "no later than what came next began");
}

#[tokio::test]
async fn a_rules_own_webhook_is_told_at_once_and_each_alert_by_itself() {
    let world = World::new();
    for host in ["a", "b"] {
        world.publish(&fires(host, 0, &["webhook"])).await;
    }
    world.publish(&ends("a", 0, 1, &["webhook"])).await;
    assert_eq!(world.told("webhook"), ["0 change +a", "0 change +b", "0 change -a"]);
    assert!(matches!(
        &world.sender.delivered()[0].target,
        crate::recording::RecordedTarget::Webhook { url } if url == "https://example.org/hook"
    ));
}

#[tokio::test]
async fn a_channel_that_is_configured_as_webhook_comes_before_a_rules_own_address() {
    let world = World::new();
    world.channel("webhook", Routing::default(), RateLimit::default()).await;
    world.publish(&fires("a", 0, &["webhook"])).await;
    world.until(60).await;
    assert_eq!(world.told("webhook"), ["10 change +a"]);
    assert!(matches!(
        &world.sender.delivered()[0].target,
        crate::recording::RecordedTarget::Channel(_)
    ));
}

#[tokio::test]
async fn each_channel_of_a_rule_is_told_by_its_own_settings() {
    let world = World::new();
    world.ops().await;
    let at_once = Routing {
        group_wait_seconds: Some(0),
        send_resolved: Some(false),
        ..Routing::default()
    };
    world.channel("pager", at_once, RateLimit::default()).await;
    world.publish(&fires("a", 0, &["ops", "pager"])).await;
    world.publish(&ends("a", 0, 5, &["ops", "pager"])).await;
    world.until(900).await;
    assert_eq!(world.told("pager"), ["0 change +a"]);
    assert_eq!(world.told("ops"), ["10 change -a"]);
    assert!(world.is_empty("channel#pager").await);
}

#[tokio::test]
async fn what_still_fires_is_repeated_until_somebody_takes_care_of_it() {
    let world = World::new();
    world.ops().await;
    let firing = fires("a", 0, &["ops"]);
    let mut stored = instance(&firing);
    world.alerts.save_instance(&stored, None).await.unwrap();
    world.publish(&firing).await;
    world.until(5 * 3_600).await;
    assert_eq!(world.told("ops"), ["10 change +a", "14410 repeat +a"]);
    stored.acknowledged = serde_json::from_value(serde_json::json!({"at": at(5), "by": "ana"})).unwrap();
    stored.version = 2;
    world.alerts.save_instance(&stored, Some(1)).await.unwrap();
    world.until(14 * 3_600).await;
    assert_eq!(world.told("ops").len(), 2);
    assert_eq!(world.suppressed().await, ["acknowledged"]);
    let counted = world.alerts.get_instance(&stored.id).await.unwrap().unwrap();
    assert_eq!(counted.notifications_sent, 2);
}

#[tokio::test]
async fn a_silence_holds_a_page_back_until_it_ends_and_is_recorded_once() {
    let world = World::new();
    world.ops().await;
    world.silence(r#"{host="a"}"#, 0, 1_000).await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.publish(&fires("b", 0, &["ops"])).await;
    world.until(999).await;
    assert_eq!(world.told("ops"), ["10 change +b"]);
    assert_eq!(world.suppressed().await, ["silenced by s1"]);
    world.until(1_100).await;
    assert_eq!(world.told("ops"), ["10 change +b", "1000 change +a +b"]);
}

#[tokio::test]
async fn what_was_silenced_from_first_to_last_is_recorded_and_never_told() {
    let world = World::new();
    world.ops().await;
    world.silence("{}", 0, 1_000).await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(60).await;
    world.publish(&ends("a", 0, 60, &["ops"])).await;
    world.until(2_000).await;
    assert!(world.told("ops").is_empty());
    assert_eq!(world.suppressed().await, ["silenced by s1"]);
    let settled = world
        .store
        .settled("channel#ops", &fires("a", 0, &[]).incident_id())
        .await
        .unwrap();
    assert_eq!(
        settled,
        Some(Settled::Untold {
            reason: "silenced by s1".into()
        })
    );
}

#[tokio::test]
async fn a_silence_that_begins_after_the_page_lets_the_all_clear_through() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(60).await;
    world.silence("{}", 60, 10_000).await;
    world.publish(&ends("a", 0, 70, &["ops"])).await;
    world.until(400).await;
    assert_eq!(world.told("ops"), ["10 change +a", "310 change -a"]);
}

#[tokio::test]
async fn an_alert_is_not_told_while_another_that_explains_it_fires() {
    let world = World::new();
    world.ops().await;
    let inhibition = Inhibition {
        id: "host-down".into(),
        source_matchers: r#"{host="a"}"#.parse().unwrap(),
        target_matchers: r#"{host=~"b|c"}"#.parse().unwrap(),
        equal: vec!["alertname".into()],
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    };
    world.store.put(&inhibition, None).await.unwrap();
    let source = fires("a", 0, &["ops"]);
    let mut stored = instance(&source);
    world.alerts.save_instance(&stored, None).await.unwrap();
    for host in ["b", "c"] {
        world.publish(&fires(host, 0, &["ops"])).await;
    }
    world.until(100).await;
    assert!(world.told("ops").is_empty());
    // The source ends, and with it one of the targets.
    stored.state = InstanceState::Resolved;
    stored.version = 2;
    world.alerts.save_instance(&stored, Some(1)).await.unwrap();
    world.publish(&ends("b", 0, 100, &["ops"])).await;
    world.until(400).await;
    assert_eq!(world.told("ops").len(), 1, "{:?}", world.told("ops"));
    assert!(world.told("ops")[0].ends_with("change +c"));
}

#[tokio::test]
async fn what_fires_at_night_is_told_in_the_morning_when_it_still_fires() {
    let world = World::new();
    let mute_time: MuteTime = serde_json::from_value(serde_json::json!({"id": "lunch", "version": 1,
        "time_intervals": [{"times": [{"start_time": "12:00", "end_time": "12:40"}]}],
        "created_at": at(0), "updated_at": at(0)}))
    .unwrap();
    world.store.put(&mute_time, None).await.unwrap();
    let quiet = Routing {
        mute_times: Some(vec!["lunch".into()]),
        ..Routing::default()
    };
    world.channel("ops", quiet, RateLimit::default()).await;
    for host in ["a", "b"] {
        world.publish(&fires(host, 0, &["ops"])).await;
    }
    world.until(60).await;
    world.publish(&ends("b", 0, 60, &["ops"])).await;
    world.until(3_600).await;
    assert_eq!(world.told("ops"), ["2400 change +a"]);
    assert_eq!(world.suppressed().await, ["muted by lunch", "muted by lunch"]);
}

#[tokio::test]
async fn a_channel_that_comes_later_is_told_what_still_fires() {
    let world = World::new();
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(100).await;
    assert_eq!(world.suppressed().await, ["the channel is not configured"]);
    world.ops().await;
    world.until(1_000).await;
    assert_eq!(world.told("ops").len(), 1);
}

#[tokio::test]
async fn a_channel_that_is_deleted_settles_what_was_told() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(100).await;
    world.store.delete::<Channel>("ops", 1).await.unwrap();
    world.publish(&ends("a", 0, 100, &["ops"])).await;
    world.until(1_000).await;
    assert!(world.is_empty("channel#ops").await);
    assert_eq!(world.suppressed().await, ["the channel is not configured"]);
}

#[tokio::test]
async fn beats_are_told_as_they_come_and_never_repeated() {
    let world = World::new();
    world.ops().await;
    let beat = |seconds: i64| {
        let mut event = fires("x", 0, &["ops"]);
        event.rule.query = serde_json::json!({"kind": "heartbeat"});
        event.beat = (seconds > 0).then(|| at(seconds));
        event
    };
    for seconds in [0, 60, 120] {
        world.until(seconds).await;
        world.publish(&beat(seconds)).await;
        world.publish(&beat(seconds)).await;
    }
    world.publish(&beat(60)).await;
    world.until(20 * 3_600).await;
    assert_eq!(world.told("ops"), ["0 beat +x", "60 beat +x", "120 beat +x"]);
}

#[tokio::test]
async fn over_the_rate_limit_a_digest_tells_the_rest_and_its_end() {
    let world = World::new();
    let each = Routing {
        group_by: Some(vec!["host".into()]),
        ..Routing::default()
    };
    let limit = RateLimit {
        notifications: 2,
        per_seconds: 600,
    };
    world.channel("ops", each, limit).await;
    for host in ["a", "b", "c"] {
        world.publish(&fires(host, 0, &["ops"])).await;
    }
    world.until(20).await;
    assert_eq!(world.told("ops"), ["10 digest +a +b +c"]);
    world.publish(&fires("d", 20, &["ops"])).await;
    world.until(100).await;
    assert_eq!(world.told("ops")[1], "30 change +d", "one more was allowed");
    for host in ["a", "b", "c"] {
        world.publish(&ends(host, 0, 100, &["ops"])).await;
    }
    world.publish(&ends("d", 20, 100, &["ops"])).await;
    world.until(2_000).await;
    let told = world.told("ops");
    assert_eq!(told[2], "310 digest -a -b -c");
    assert!(told[3].ends_with("change -d") && told.len() == 4, "{told:?}");
    assert!(world.is_empty("channel#ops").await);
}

#[tokio::test]
async fn a_thousand_alerts_of_a_group_are_told_in_three_notifications_at_once() {
    let world = World::new();
    world.ops().await;
    for host in 0..1_201 {
        world.publish(&fires(&format!("h{host:04}"), 0, &["ops"])).await;
    }
    world.until(300).await;
    let told = world.sender.delivered_to("ops");
    let counts: Vec<usize> = told.iter().map(|one| one.alerts.len()).collect();
    assert_eq!(counts, [500, 500, 500], "the last one repeats some to show the group");
    assert_eq!(world.outcomes().await.len(), 1_000, "one page of the history");
    let all: std::collections::BTreeSet<String> = told
        .iter()
        .flat_map(|one| &one.alerts)
        .map(|alert| alert.instance_id.clone())
        .collect();
    assert_eq!(all.len(), 1_201);
}

#[tokio::test]
async fn wakes_do_not_multiply() {
    let world = World::new();
    world.ops().await;
    for minute in 0..60 {
        world.until(minute * 60).await;
        world
            .publish(&fires(&format!("h{minute}"), minute * 60, &["ops"]))
            .await;
    }
    world.until(3 * 3_600).await;
    assert!(world.waiting.lock().unwrap().len() <= 2);
}

#[tokio::test]
async fn a_lane_whose_wake_was_lost_is_rescued() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.waiting.lock().unwrap().clear();
    let topic = tidemark_rules::MemoryTopic::new();
    assert_eq!(rescue(&world.store, &topic, at(100)).await.unwrap(), 0);
    assert_eq!(rescue(&world.store, &topic, at(101)).await.unwrap(), 1);
    let lane = lane_id("ops", None);
    world.until(101).await;
    let wake = serde_json::to_string(&Message::Wake { lane }).unwrap();
    assert_eq!(world.handle(&wake, 1).await, Next::Done);
    assert_eq!(world.told("ops"), ["101 change +a"]);
}

#[tokio::test]
async fn a_firing_that_comes_hours_late_is_told_as_what_it_is_by_now() {
    let world = World::new();
    world.ops().await;
    let late = fires("a", -7_200, &["ops"]);
    let mut stored = instance(&late);
    stored.state = InstanceState::Resolved;
    stored.resolved_at = Some(at(-3_600));
    world.alerts.save_instance(&stored, None).await.unwrap();
    world.publish(&late).await;
    world.until(60).await;
    world.publish(&ends("a", -7_200, -3_600, &["ops"])).await;
    world.until(900).await;
    assert_eq!(world.told("ops"), ["10 change -a"]);
    let again = fires("b", -7_200, &["ops"]);
    let mut stored = instance(&again);
    stored.firing_since = Some(at(-60));
    world.alerts.save_instance(&stored, None).await.unwrap();
    world.publish(&again).await;
    world.until(1_800).await;
    assert_eq!(world.told("ops")[1], "910 change -b", "a later incident of it is known");
}

#[tokio::test]
async fn the_end_of_somebody_elses_lease_is_not_taken_for_a_wake() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.store.lease("channel#ops", "dead", at(0), at(60)).await.unwrap();
    let head = world.store.lane("channel#ops").await.unwrap().unwrap();
    assert_eq!(enlist::sent_wake(&head), None);
    world.store.wake_by("channel#ops", at(30)).await.unwrap();
    let head = world.store.lane("channel#ops").await.unwrap().unwrap();
    assert_eq!(enlist::sent_wake(&head), Some(at(30)));
}
