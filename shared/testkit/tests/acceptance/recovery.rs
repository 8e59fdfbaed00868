//! Time that goes wrong: ticks that are missing or come twice, outages, data that cannot be read, values that flap, and the sign of life
//! that stops.

use crate::language::*;
use serde_json::json;
use tidemark_rules::TransitionKind;
use tidemark_rules::TransitionReason as Because;

fn story(rule: serde_json::Value) -> Story {
    let mut story = Story::new();
    story.channel("ops", json!({}));
    story.rule("high_cpu", rule);
    story
}

#[test]
fn a_few_ticks_that_are_missing_do_not_delay_an_alert() {
    let mut story = story(json!({"duration_seconds": 300}));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.during(between(2.5, 6.5)).no_ticks();
    story.expect(between(7, 7.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn ticks_that_come_twice_tell_once() {
    let mut story = story(json!({}));
    story.during(between(0, 20)).two_ticks();
    story.during(between(1, 10)).push("cpu", host("a"), 95.0);
    story.during(between(11, 20)).push("cpu", host("a"), 50.0);
    story.at(1.5).tick();
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(11, 11.5), resolved("high_cpu", "ops", host("a")));
    let fired = became(TransitionKind::Firing, Because::ConditionHeld);
    story.expect_history_times(1, between(0, 20), "high_cpu", host("a"), fired);
    story.expect_nothing_else();
}

#[test]
fn a_clock_that_is_wrong_tells_nothing_that_is_not_so() {
    let mut story = story(json!({}));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.during(between(21, 30)).push("cpu", host("a"), 50.0);
    story.during(between(1, 30)).push("cpu", host("b"), 50.0);
    story.during(between(5, 8)).evaluation_clock_is_off_by(-120);
    story.during(between(11, 14)).evaluation_clock_is_off_by(120);
    story.during(between(24, 25)).evaluation_clock_is_off_by(-30);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(21, 21.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn recovery_does_not_fire_on_what_was_stored_too_late() {
    let mut story = story(json!({}));
    story.during(between(10, 60)).outage();
    story.during(between(20, 30)).push("cpu", host("a"), 95.0);
    story.during(between(31, 70)).push("cpu", host("a"), 50.0);
    story.expect_history_times(
        0,
        between(0, 70),
        "high_cpu",
        host("a"),
        became(TransitionKind::Firing, Because::ConditionHeld),
    );
    story.expect_nothing_else();
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let mut story = story(json!({"duration_seconds": 600}));
    story.during(between(1, 90)).push("cpu", host("a"), 95.0);
    story.during(between(4.5, 60.5)).outage();
    // Three minutes before, and at most the five that may pass between two ticks.
    story.expect(between(63, 68.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn what_fires_is_neither_resolved_nor_told_again_by_an_outage() {
    let mut story = story(json!({}));
    story.during(between(1, 70)).push("cpu", host("a"), 95.0);
    story.during(between(71, 75)).push("cpu", host("a"), 50.0);
    story.during(between(5, 60)).outage();
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(71, 71.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn while_data_cannot_be_read_everything_stays_as_it_is() {
    let mut story = story(json!({}));
    story.rule("slow", json!({"metric_name": "slow", "duration_seconds": 1200}));
    story.during(between(1, 10)).push("cpu", host("a"), 95.0);
    story.during(between(11, 45)).push("cpu", host("a"), 50.0);
    story.during(between(1, 60)).push("slow", host("a"), 95.0);
    story.during(between(9.5, 29.5)).data_cannot_be_read();
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(30, 30.5), resolved("high_cpu", "ops", host("a")));
    // Eight minutes before and at most five of those in the dark.
    story.expect(between(37, 42.5), firing("slow", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_flapping_value_is_told_once_for_each_group_interval() {
    let mut story = story(json!({}));
    let flaps = |minute: i32| if minute % 2 == 0 { 95.0 } else { 50.0 };
    story.during(between(1, 20)).push_each("cpu", host("a"), flaps);
    // Fires at 1, 3, 5 …, is over at 2, 4, 6 …; when a group is told to be over, the next firing begins a new one.
    for begin in [1.0, 7.0, 13.0] {
        story.expect(between(begin, begin + 0.5), firing("high_cpu", "ops", host("a")));
        let three = page("ops")
            .resolved("high_cpu", host("a"))
            .resolved("high_cpu", host("a"));
        story.expect(between(begin + 5.0, begin + 5.5), three.resolved("high_cpu", host("a")));
    }
    story.expect(between(19, 19.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_flapping_value_that_is_kept_firing_is_one_page() {
    let mut story = story(json!({"keep_firing_for_seconds": 300}));
    let flaps = |minute: i32| if minute % 2 == 0 { 95.0 } else { 50.0 };
    story.during(between(1, 20)).push_each("cpu", host("a"), flaps);
    story.during(between(21, 30)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(25, 25.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

/// A story in which an outside service watches the heartbeat.
fn watched() -> Story {
    let mut story = Story::new();
    story.channel("watchdog", json!({}));
    story.rule(
        "alive",
        json!({"kind": "heartbeat", "notification_channels": ["watchdog"]}),
    );
    story
}

fn expect_beats(story: &mut Story, minutes: std::ops::RangeInclusive<i32>) {
    for minute in minutes {
        let minute = f64::from(minute);
        story.expect(between(minute, minute + 0.2), beat("alive", "watchdog"));
    }
}

#[test]
fn a_heartbeat_stops_with_the_evaluation_and_comes_back_with_it() {
    let mut story = watched();
    story.during(between(5.5, 10.5)).no_ticks();
    expect_beats(&mut story, 0..=5);
    expect_beats(&mut story, 11..=15);
    story.expect_nothing_else();
}

#[test]
fn a_heartbeat_stops_when_rules_cannot_be_evaluated() {
    let mut story = watched();
    story.rule("high_cpu", json!({}));
    story.channel("ops", json!({}));
    story.during(between(5.5, 10.5)).data_cannot_be_read();
    expect_beats(&mut story, 0..=5);
    expect_beats(&mut story, 11..=15);
    story.expect_nothing_else();
}

#[test]
fn a_heartbeat_stops_when_the_topic_does() {
    let mut story = watched();
    story.during(between(5.5, 10.5)).topic_is_down();
    expect_beats(&mut story, 0..=5);
    expect_beats(&mut story, 11..=15);
    story.expect_nothing_else();
}
