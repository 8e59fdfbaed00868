//! Receivers and processes that fail: nothing is lost, nothing comes after what follows it, and twice only where an answer was lost.

use crate::language::*;
use serde_json::json;
use tidemark_rules::history::AttemptOutcome;

fn story() -> Story {
    let mut story = Story::new();
    story.channel("ops", json!({}));
    story.rule("high_cpu", json!({}));
    story
}

#[test]
fn a_receiver_that_is_down_for_an_hour_is_told_when_it_is_back() {
    let mut story = story();
    story.during(between(0, 62)).receiver("ops", server_error());
    story.during(between(1, 90)).push("cpu", host("a"), 95.0);
    story.during(between(91, 95)).push("cpu", host("a"), 50.0);
    story.expect_history(
        between(1, 1.5),
        "high_cpu",
        host("a"),
        attempt("ops", AttemptOutcome::Failed),
    );
    // Growing pauses of at most a quarter of an hour, and never given up for that.
    story.expect_attempts(between(0, 62), "ops", 8, 14);
    story.expect(between(62, 77.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(91, 91.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn what_began_and_ended_while_the_receiver_was_down_is_told_as_over() {
    let mut story = story();
    story.during(between(0, 62)).receiver("ops", server_error());
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.during(between(21, 80)).push("cpu", host("a"), 50.0);
    story.expect(between(62, 77.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_receiver_that_asks_for_a_pause_gets_it() {
    let mut story = story();
    story.during(between(1, 2)).receiver("ops", slow_down(120));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.expect_attempts(between(0, 9), "ops", 2, 2);
    story.expect(between(3, 4), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn one_channel_that_fails_holds_up_no_other() {
    let mut story = Story::new();
    story.channel("ops", json!({}));
    story.channel("dev", json!({}));
    story.rule("high_cpu", json!({"notification_channels": ["ops", "dev"]}));
    story.during(between(0, 10)).receiver("ops", server_error());
    story.during(between(1, 30)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "dev", host("a")));
    story.expect(between(10, 21), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn what_is_refused_for_good_waits_among_the_dead_letters_until_it_is_sent_back() {
    let mut story = story();
    story.during(between(0, 20)).receiver("ops", gone());
    story.during(between(1, 40)).push("cpu", host("a"), 95.0);
    story.expect_attempts(between(0, 20), "ops", 1, 1);
    story.expect_history(
        between(1, 1.5),
        "high_cpu",
        host("a"),
        attempt("ops", AttemptOutcome::GivenUp),
    );
    story.expect_dead_letter(between(1, 1.5), "ops");
    story.at(30).redrive();
    story.expect(between(30, 30.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn news_are_tried_although_what_came_before_was_given_up() {
    let mut story = story();
    story.during(between(0, 9)).receiver("ops", gone());
    story.during(between(1, 14)).push("cpu", host("a"), 95.0);
    story.during(between(15, 20)).push("cpu", host("a"), 50.0);
    story.expect_dead_letter(between(1, 1.5), "ops");
    story.expect(between(15, 15.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn more_than_a_channel_takes_becomes_one_digest() {
    let mut story = Story::new();
    let limited = json!({"group_by": ["..."], "rate_limit": {"notifications": 3, "per_seconds": 600}});
    story.channel("ops", limited);
    story.rule("high_cpu", json!({}));
    let mut digest = page("ops").in_digest();
    let mut over = page("ops").in_digest();
    for number in 0..12 {
        let name = format!("host-{number:02}");
        story.during(between(1, 9)).push("cpu", host(&name), 95.0);
        story.during(between(10, 15)).push("cpu", host(&name), 50.0);
        digest = digest.firing("high_cpu", host(&name));
        over = over.resolved("high_cpu", host(&name));
    }
    story.expect(between(1, 1.5), digest);
    story.expect(between(10, 10.5), over);
    story.expect_nothing_else();
}

#[test]
fn up_to_its_rate_a_channel_is_told_each_by_itself() {
    let mut story = Story::new();
    let limited = json!({"group_by": ["..."], "rate_limit": {"notifications": 3, "per_seconds": 600}});
    story.channel("ops", limited);
    story.rule("high_cpu", json!({}));
    for name in ["a", "b", "c"] {
        story.during(between(1, 9)).push("cpu", host(name), 95.0);
        story.expect(between(1, 1.5), firing("high_cpu", "ops", host(name)));
    }
    story.expect_nothing_else();
}

#[test]
fn a_crash_between_saving_and_publishing_loses_nothing() {
    let mut story = story();
    story.at(1).evaluation_dies_before_publishing();
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.expect(between(2, 2.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_topic_that_is_down_delays_alerts_and_loses_none() {
    let mut story = story();
    story.during(between(0, 5.5)).topic_is_down();
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.during(between(4, 9)).push("cpu", host("a"), 50.0);
    story.during(between(1, 9)).push("cpu", host("b"), 95.0);
    let both = page("ops")
        .firing("high_cpu", host("b"))
        .resolved("high_cpu", host("a"));
    story.expect(between(6, 6.5), both);
    story.expect_nothing_else();
}

#[test]
fn messages_that_come_twice_tell_once() {
    let mut story = story();
    story.during(between(0, 30)).messages_come_twice();
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.during(between(10, 30)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(10, 10.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn an_answer_that_is_lost_tells_twice_and_says_so() {
    let mut story = story();
    story.during(between(0, 1.2)).receiver("ops", answer_lost());
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect_history(
        between(1, 1.5),
        "high_cpu",
        host("a"),
        attempt("ops", AttemptOutcome::Failed),
    );
    story.expect_nothing_else();
}

#[test]
fn a_crash_before_the_answer_is_recorded_tells_twice_and_says_so() {
    let mut story = story();
    story.at(1).notify_dies_before_recording();
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    // The next tick that finds the lane overdue sends somebody to look.
    story.expect(between(2, 5), firing("high_cpu", "ops", host("a")));
    story.expect_history(
        between(1, 1.5),
        "high_cpu",
        host("a"),
        attempt("ops", AttemptOutcome::Unknown),
    );
    story.expect_nothing_else();
}

#[test]
fn an_outage_of_everything_tells_afterwards_what_still_is_so() {
    let mut story = story();
    story.during(between(1, 40)).push("cpu", host("a"), 95.0);
    story.during(between(1.1, 30.5)).outage();
    story.expect(between(30.5, 31), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}
