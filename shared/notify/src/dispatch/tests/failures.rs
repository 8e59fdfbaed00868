//! What happens when receivers fail, answers are lost and processes die.

use super::*;
use crate::store::{Group, InFlight, News, Told};

fn refuse(failure: Failure) -> Outcome {
    Outcome::Refuse(failure)
}

const DOWN: Failure = Failure::Server { status: 500 };

#[tokio::test]
async fn a_receiver_that_is_down_for_an_hour_is_told_when_it_is_back() {
    let world = World::new();
    world.ops().await;
    world.sender.always("ops", Some(refuse(DOWN)));
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(3_600).await;
    assert!(world.told("ops").is_empty());
    world.sender.always("ops", None);
    world.until(2 * 3_600).await;
    assert_eq!(world.told("ops").len(), 1);
    let attempts = world.sender.attempts();
    let ids: std::collections::BTreeSet<&str> = attempts.iter().map(|one| one.notification.id.as_str()).collect();
    assert_eq!(ids.len(), 1, "one idempotency key for all attempts");
    let numbers: Vec<u32> = world.outcomes().await.iter().map(|(number, _)| *number).collect();
    assert_eq!(
        numbers,
        (1..=u32::try_from(attempts.len()).unwrap()).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn what_is_given_up_becomes_a_letter_and_the_letter_sent_back_a_new_attempt() {
    let world = World::new();
    world.ops().await;
    let permanent = Failure::Permanent {
        reason: "status 404".into(),
    };
    world.sender.script("ops", [refuse(permanent)]);
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(1_000).await;
    assert_eq!(world.outcomes().await, [(1, AttemptOutcome::GivenUp)]);
    let letter = world.letters.lock().unwrap().remove(0);
    assert!(letter.reason.contains("status 404"), "{}", letter.reason);
    let read: Letter = serde_json::from_str(&letter.body).unwrap();
    assert_eq!((read.channel.as_str(), read.news.len()), ("ops", 1));
    assert_eq!(world.handle(&letter.body, 1).await, Next::Done);
    assert_eq!(world.told("ops"), ["1000 change +a"]);
    assert_eq!(world.handle(&letter.body, 1).await, Next::Done);
    assert_eq!(world.told("ops").len(), 1, "a letter that comes twice");
}

#[tokio::test]
async fn twenty_attempts_are_made_and_a_letter_is_written() {
    let world = World::new();
    world.ops().await;
    world.sender.always("ops", Some(refuse(DOWN)));
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(4 * 3_600).await;
    assert_eq!(world.sender.attempts().len(), 20);
    assert_eq!(world.letters.lock().unwrap().len(), 1);
    world.until(12 * 3_600).await;
    assert_eq!(world.sender.attempts().len(), 22, "one each repeat interval");
    assert_eq!(world.letters.lock().unwrap().len(), 1);
    world.sender.always("ops", None);
    world.publish(&ends("a", 0, 43_000, &["ops"])).await;
    world.until(13 * 3_600).await;
    assert_eq!(world.told("ops").len(), 1);
    assert!(world.is_empty("channel#ops").await);
}

#[tokio::test]
async fn a_receiver_that_takes_no_beat_gets_one_letter_and_each_beat_once() {
    let world = World::new();
    world.ops().await;
    let permanent = Failure::Permanent {
        reason: "status 404".into(),
    };
    world.sender.always("ops", Some(refuse(permanent)));
    for minute in 0..10 {
        world.until(minute * 60).await;
        let mut event = fires("x", 0, &["ops"]);
        event.rule.query = serde_json::json!({"kind": "heartbeat"});
        event.beat = Some(at(minute * 60));
        world.publish(&event).await;
    }
    world.until(3_600).await;
    assert_eq!(
        (world.sender.attempts().len(), world.letters.lock().unwrap().len()),
        (10, 1)
    );
}

#[tokio::test]
async fn who_asks_to_slow_down_is_left_alone_by_all_groups_of_the_lane() {
    let world = World::new();
    let each = Routing {
        group_by: Some(vec!["host".into()]),
        ..Routing::default()
    };
    world.channel("ops", each, RateLimit::default()).await;
    let throttled = Failure::Throttled {
        status: 429,
        after_seconds: Some(120),
    };
    world.sender.script("ops", [refuse(throttled)]);
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(60).await;
    world.publish(&fires("b", 60, &["ops"])).await;
    world.until(600).await;
    let mut told = world.told("ops");
    told.sort();
    assert_eq!(told, ["130 change +a", "130 change +b"]);
}

#[tokio::test]
async fn one_failing_channel_does_not_delay_another() {
    let world = World::new();
    for name in ["ops", "dev"] {
        world.channel(name, Routing::default(), RateLimit::default()).await;
    }
    world.sender.always("ops", Some(refuse(Failure::Timeout)));
    world.publish(&fires("a", 0, &["ops", "dev"])).await;
    world.until(30).await;
    assert_eq!(world.told("dev"), ["10 change +a"]);
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_is_told_to_be_over_in_spite_of_a_silence() {
    let world = World::new();
    world.ops().await;
    world.sender.script("ops", [Outcome::TakeAndLose(Failure::Timeout)]);
    world.publish(&fires("a", 0, &["ops"])).await;
    world.until(12).await;
    world.silence("{}", 11, 100_000).await;
    world.publish(&ends("a", 0, 13, &["ops"])).await;
    world.until(600).await;
    assert_eq!(world.told("ops"), ["10 change +a", "15 change -a"]);
}

/// The lane's only group, as a process leaves it that dies.
async fn left_behind(world: &World, change: impl FnOnce(&mut Group, News)) {
    let content = world.store.content("channel#ops").await.unwrap().unwrap();
    let member = &content.members[0];
    let news = News {
        incident: member.incident.clone(),
        kind: TransitionKind::Firing,
        beat: None,
    };
    let recipient = grouping::Recipient::Channel {
        name: "ops".into(),
        channel: None,
    };
    let mut group = grouping::assemble(&[], &content.members, &recipient, world.now())[0]
        .group
        .clone();
    change(&mut group, news);
    world.store.save_group("channel#ops", &group, None).await.unwrap();
}

#[tokio::test]
async fn what_was_under_way_when_a_process_died_goes_again_and_is_recorded_as_unknown() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    left_behind(&world, |group, news| {
        group.in_flight = Some(InFlight {
            notification_id: "n".into(),
            at: at(1),
            news: vec![news],
        });
    })
    .await;
    world.until(60).await;
    assert_eq!(world.told("ops"), ["10 change +a"]);
    assert_eq!(
        world.outcomes().await,
        [(1, AttemptOutcome::Unknown), (2, AttemptOutcome::Sent)]
    );
}

#[tokio::test]
async fn what_was_told_when_a_process_died_is_marked_and_not_told_again() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    left_behind(&world, |group, news| {
        group.notified_at = Some(at(1));
        group.told = Some(Told {
            notification_id: "n".into(),
            attempt: 1,
            at: at(1),
            news: vec![news],
        });
    })
    .await;
    world.publish(&ends("a", 0, 5, &["ops"])).await;
    world.until(1_000).await;
    assert_eq!(world.told("ops"), ["301 change -a"]);
    assert_eq!(world.outcomes().await.len(), 2);
}

#[tokio::test]
async fn who_finds_a_lane_held_comes_again_and_a_dead_holder_is_waited_for() {
    let world = World::new();
    world.ops().await;
    world.publish(&fires("a", 0, &["ops"])).await;
    world.store.lease("channel#ops", "dead", at(0), at(60)).await.unwrap();
    world.until(300).await;
    assert_eq!(world.told("ops"), ["60 change +a"]);
}

#[tokio::test]
async fn what_cannot_be_read_goes_to_the_dead_letters() {
    let world = World::new();
    for (body, says) in [
        ("", "cannot be read"),
        ("{}", "cannot be read"),
        (r#"{"type":"letter"}"#, "cannot be read"),
    ] {
        let Next::DeadLetter(reason) = world.handle(body, 1).await else {
            panic!("{body}")
        };
        assert!(reason.contains(says), "{reason}");
    }
    let mut event = fires("a", 0, &["ops"]);
    event.schema_version = 99;
    let Next::DeadLetter(reason) = world.publish(&event).await else {
        panic!()
    };
    assert_eq!(reason, "the event has schema version 99; this version reads 2");
    event.schema_version = TransitionEvent::SCHEMA_VERSION;
    event.kind = TransitionKind::Pending;
    assert!(matches!(world.publish(&event).await, Next::DeadLetter(_)));
}

#[tokio::test]
async fn a_wake_for_no_lane_is_done() {
    let world = World::new();
    for lane in ["", "nonsense", "channel#nobody"] {
        let body = serde_json::to_string(&Message::Wake { lane: lane.into() }).unwrap();
        assert_eq!(world.handle(&body, 1).await, Next::Done);
    }
}

#[tokio::test]
async fn who_finds_a_lane_held_comes_ever_later_and_is_followed_by_another() {
    let world = World::new();
    world.ops().await;
    let lane = lane_id("ops", None);
    world.store.lease(&lane, "another", at(0), at(10_000)).await.unwrap();
    let wake = serde_json::to_string(&Message::Wake { lane: lane.clone() }).unwrap();
    for (receive_count, seconds) in [(1, 5), (2, 10), (11, 55), (12, 60), (49, 60)] {
        assert_eq!(world.handle(&wake, receive_count).await, Next::RetryIn(seconds));
    }
    world.waiting.lock().unwrap().clear();
    assert_eq!(world.handle(&wake, 50).await, Next::Done);
    assert_eq!(*world.waiting.lock().unwrap(), [(at(60).0, wake, 1)]);
}

#[tokio::test]
async fn a_letter_that_finds_its_lane_held_too_often_stays_a_letter() {
    let world = World::new();
    world.ops().await;
    let lane = lane_id("ops", None);
    world.store.lease(&lane, "another", at(0), at(10_000)).await.unwrap();
    let letter = Letter {
        lane,
        channel: "ops".into(),
        group_id: "g".into(),
        group_key: "{}".into(),
        news: Vec::new(),
        reason: "status 404".into(),
        at: at(0),
    };
    let letter = serde_json::to_string(&letter).unwrap();
    assert_eq!(world.handle(&letter, 49).await, Next::RetryIn(60));
    world.waiting.lock().unwrap().clear();
    let Next::DeadLetter(reason) = world.handle(&letter, 50).await else {
        panic!("the letter is lost")
    };
    assert!(reason.contains("somebody else was at work"), "{reason}");
    assert!(world.waiting.lock().unwrap().is_empty());
}
