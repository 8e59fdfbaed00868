//! Which rules a tick of the schedule evaluates, and what becomes of those that it could not.

use super::*;

const HOURLY: u64 = 3_600;

/// A rule of an hour, and one of a minute on the same metric; both were evaluated in the minute 0.
async fn house() -> House {
    let house = House::with_rules(&[
        ("hourly", json!({"interval_seconds": HOURLY})),
        ("minutely", json!({"metric_name": "mem"})),
    ])
    .await;
    house.scheduled(0).await;
    house
}

/// The minute after 0 in which the rule of an hour is due.
async fn slot(house: &House) -> i64 {
    for minute in 1..=60 {
        if house.scheduled(minute * 60).await.rules_evaluated == 2 {
            return minute;
        }
    }
    panic!("it is never due");
}

#[tokio::test]
async fn a_rule_is_evaluated_as_often_as_it_says() {
    let house = house().await;
    let slot = slot(&house).await;
    for minute in slot + 1..slot + 60 {
        assert_eq!(house.scheduled(minute * 60).await.rules_evaluated, 1, "minute {minute}");
    }
    assert_eq!(house.scheduled((slot + 60) * 60).await.rules_evaluated, 2);
    assert_eq!(
        house.tick((slot + 61) * 60).await.rules_evaluated,
        2,
        "when somebody asks, all are"
    );
    assert_eq!(house.scheduled((slot + 61) * 60).await.rules_evaluated, 1);
}

#[tokio::test]
async fn a_missed_tick_is_made_up_for_by_the_next() {
    let house = house().await;
    let slot = slot(&house).await;
    // The tick of the next slot is missed.
    house.scheduled((slot + 59) * 60).await;
    assert_eq!(house.scheduled((slot + 62) * 60).await.rules_evaluated, 2);
    assert_eq!(house.scheduled((slot + 63) * 60).await.rules_evaluated, 1);
}

#[tokio::test]
async fn a_doubled_tick_changes_nothing() {
    let house = house().await;
    let slot = slot(&house).await;
    house.data.push("cpu", "a", (slot + 60) * 60, 95.0);
    let first = house.scheduled((slot + 60) * 60).await;
    assert_eq!((first.rules_evaluated, first.alerts_triggered), (2, 1));
    assert_eq!(house.told(), [HELD]);
    let before = house.store.load_instances().await.unwrap();
    for seconds in [0, 7] {
        let again = house.scheduled((slot + 60) * 60 + seconds).await;
        assert_eq!(
            (again.rules_evaluated, again.alerts_triggered, again.conflicts),
            (1, 0, 0)
        );
    }
    assert!(house.told().is_empty());
    assert_eq!(house.store.load_instances().await.unwrap(), before);
}

#[tokio::test]
async fn what_there_was_no_time_for_is_owed_however_long_its_interval() {
    let house = house().await;
    let slot = slot(&house).await;
    house.data.push("cpu", "a", (slot + 60) * 60, 95.0);
    let never = || false;
    let summary = house.scheduled_while((slot + 60) * 60, &never).await;
    assert_eq!(
        (summary.rules_skipped, summary.rules_evaluated, summary.read_passes),
        (2, 0, 0)
    );
    assert_eq!(house.owed().await, ["hourly", "minutely"]);
    // Nor on the next one.
    house.scheduled_while((slot + 61) * 60, &never).await;
    assert_eq!(house.owed().await, ["hourly", "minutely"]);
    let summary = house.scheduled((slot + 62) * 60).await;
    assert_eq!((summary.rules_evaluated, summary.alerts_triggered), (2, 1));
    assert!(house.owed().await.is_empty());
    assert_eq!(house.scheduled((slot + 63) * 60).await.rules_evaluated, 1);
}

#[tokio::test]
async fn what_could_not_be_read_is_owed() {
    let house = house().await;
    let slot = slot(&house).await;
    house.data.broken.lock().unwrap().push("cpu".to_owned());
    let summary = house.scheduled((slot + 60) * 60).await;
    assert_eq!((summary.rules_failed, summary.rules_evaluated), (1, 1));
    assert_eq!(house.owed().await, ["hourly"]);
    house.data.broken.lock().unwrap().clear();
    assert_eq!(house.scheduled((slot + 61) * 60).await.rules_evaluated, 2);
    assert!(house.owed().await.is_empty());
}

#[tokio::test]
async fn a_new_rule_is_evaluated_on_the_next_tick() {
    let house = house().await;
    let mut new = rule("new", &json!({"interval_seconds": 86_400, "metric_name": "disk"}));
    new.updated_at = at(10);
    house.store.create_rule(&new).await.unwrap();
    let evaluated = house.scheduled(61).await.rules_evaluated;
    let without = usize::from(evaluated == 3) + 1;
    assert!(evaluated == without + 1, "{evaluated}");
}

#[tokio::test]
async fn of_overlapping_ticks_the_later_one_is_remembered() {
    let house = house().await;
    house.scheduled(120).await;
    let earlier = house.scheduled(60).await;
    assert_eq!(earlier.rules_failed, 0);
    assert_eq!(house.store.load_tick(0).await.unwrap().unwrap().at, at(120));
}

#[tokio::test]
async fn a_heart_beats_on_every_due_tick_that_left_nothing_undone() {
    let house = House::with_rules(&[
        ("heart", json!({"kind": "heartbeat", "alert_labels": {"team": "ops"}})),
        ("r", json!({})),
    ])
    .await;
    let first = house.scheduled(0).await;
    assert_eq!((first.alerts_triggered, first.beats, first.rules_evaluated), (1, 0, 2));
    let began = house.events();
    assert_eq!(
        (began.len(), began[0].beat, began[0].kind),
        (1, None, TransitionKind::Firing)
    );
    let before = house.store.load_instances().await.unwrap();
    assert_eq!(house.scheduled(60).await.beats, 1);
    let beat = &house.events()[0];
    assert_eq!(beat.beat, Some(at(60)));
    assert_eq!(beat.id, format!("{}.beat.{}", began[0].incident_id(), at(60).0));
    assert_eq!(
        (beat.kind, beat.firing_since),
        (TransitionKind::Firing, began[0].firing_since)
    );
    assert_eq!(
        house.store.load_instances().await.unwrap(),
        before,
        "a beat writes nothing"
    );
    assert_eq!(house.history().await.len(), 1);

    // A rule cannot be read: no sign of life until it can.
    house.data.broken.lock().unwrap().push("cpu".to_owned());
    assert_eq!(house.scheduled(120).await.beats, 0);
    assert_eq!(house.scheduled_while(180, &|| false).await.beats, 0);
    house.data.broken.lock().unwrap().clear();
    assert!(house.told().is_empty());
    assert_eq!(house.scheduled(240).await.beats, 1);
    assert_eq!(house.events()[0].beat, Some(at(240)));
    // That somebody asks is no sign that the schedule lives.
    assert_eq!(house.tick(250).await.beats, 0);
}

#[tokio::test]
async fn a_heart_whose_tick_left_something_undone_beats_on_the_next_good_one() {
    let house = House::with_rules(&[
        ("heart", json!({"kind": "heartbeat", "interval_seconds": 3_600})),
        ("r", json!({})),
    ])
    .await;
    house.scheduled(0).await;
    house.events();
    let mut beats = Vec::new();
    for minute in 1..=180 {
        // The first slot falls into the first hour, in which nothing can be read.
        let broken = if minute <= 61 {
            vec!["cpu".to_owned()]
        } else {
            Vec::new()
        };
        *house.data.broken.lock().unwrap() = broken;
        house.scheduled(minute * 60).await;
        beats.extend(house.events().iter().filter_map(|event| event.beat));
    }
    assert_eq!(beats[0], at(62 * 60));
    assert!((2..=3).contains(&beats.len()), "{beats:?}");
}

#[tokio::test]
async fn a_beat_that_cannot_be_published_is_owed() {
    let house = House::with_rules(&[("heart", json!({"kind": "heartbeat"}))]).await;
    house.scheduled(0).await;
    house.events();
    house.topic.set_down(true);
    let summary = house.scheduled(60).await;
    assert_eq!((summary.beats, summary.unpublished), (0, 1));
    assert_eq!(house.owed().await, ["heart"]);
    house.topic.set_down(false);
    assert_eq!(house.scheduled(120).await.beats, 1);
}

#[tokio::test]
async fn a_heart_beats_only_while_every_shard_ticks() {
    let house = House::with_rules(&[("heart", json!({"kind": "heartbeat"}))]).await;
    let tick = async |seconds: i64, index: u32| {
        let world = World {
            alerts: &house.store,
            data: &house.data,
            publisher: &house.topic,
            now: at(seconds),
            may_go_on: &|| true,
        };
        let summary = evaluate(&world, Shard { index, of: 2 }, EVERY_MINUTE).await.unwrap();
        (summary.shards_behind, summary.beats, summary.is_complete())
    };
    tick(0, 0).await;
    assert_eq!(tick(60, 0).await, (1, 0, false), "nobody has evaluated the other shard");
    assert_eq!(tick(60, 1).await, (0, 0, true));
    assert_eq!(tick(120, 0).await, (0, 1, true));
    assert_eq!(tick(300, 0).await, (0, 1, true), "a few late messages are no outage");
    assert_eq!(tick(360, 0).await, (1, 0, false));
    tick(361, 1).await;
    assert_eq!(tick(420, 0).await, (0, 1, true));
}

#[tokio::test]
async fn what_an_outage_left_is_told_piece_by_piece() {
    let house = House::with_rules(&[("r", json!({}))]).await;
    for host in 0..600 {
        house.data.push("cpu", &format!("host-{host}"), 0, 95.0);
    }
    house.topic.set_down(true);
    assert_eq!(house.scheduled(0).await.unpublished, 600);
    house.topic.set_down(false);
    let summary = house.scheduled(60).await;
    assert_eq!((summary.unpublished, house.events().len()), (0, 600));
    assert_eq!(house.history().await.len(), 600);
}
