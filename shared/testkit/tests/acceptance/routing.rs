//! Who is told with what, how soon and how often: groups, intervals, repeats, channels with settings of their own.

use crate::language::*;
use serde_json::json;

fn story(channel: serde_json::Value, rule: serde_json::Value) -> Story {
    let mut story = Story::new();
    story.channel("ops", channel);
    story.rule("high_cpu", rule);
    story
}

#[test]
fn what_belongs_together_is_told_together() {
    let mut story = story(json!({}), json!({}));
    for name in ["a", "b"] {
        story.during(between(1, 20)).push("cpu", host(name), 95.0);
    }
    story.during(between(3, 20)).push("cpu", host("c"), 95.0);
    story.during(between(4, 20)).push("cpu", host("d"), 95.0);
    let two = page("ops").firing("high_cpu", host("a")).firing("high_cpu", host("b"));
    story.expect(between(1, 1.5), two.clone());
    // News of a group that was told wait for its interval, and come together.
    let four = two.firing("high_cpu", host("c")).firing("high_cpu", host("d"));
    story.expect(between(6, 6.5), four);
    story.expect_nothing_else();
}

#[test]
fn a_group_waits_for_others_before_it_is_told_first() {
    let mut story = story(json!({"group_wait_seconds": 180}), json!({}));
    for (name, from) in [("a", 1), ("b", 3)] {
        story.during(between(from, 20)).push("cpu", host(name), 95.0);
    }
    let both = page("ops").firing("high_cpu", host("a")).firing("high_cpu", host("b"));
    story.expect(between(4, 4.2), both);
    story.expect_nothing_else();
}

#[test]
fn groups_are_made_of_the_labels_that_the_channel_names() {
    let mut story = story(json!({"group_by": ["dc"]}), json!({}));
    story.rule(
        "low_disk",
        json!({"metric_name": "disk", "condition": "<", "threshold": 10}),
    );
    let machine = |host: &str, dc: &str| labels([("host", host), ("dc", dc)]);
    for (name, dc) in [("a", "1"), ("b", "1"), ("c", "2")] {
        story.during(between(1, 9)).push("cpu", machine(name, dc), 95.0);
    }
    story.during(between(1, 9)).push("disk", machine("c", "2"), 5.0);
    let first = page("ops").firing("high_cpu", machine("a", "1"));
    story.expect(between(1, 1.5), first.firing("high_cpu", machine("b", "1")));
    let second = page("ops").firing("high_cpu", machine("c", "2"));
    story.expect(between(1, 1.5), second.firing("low_disk", machine("c", "2")));
    story.expect_nothing_else();
}

#[test]
fn each_alert_may_be_told_by_itself_and_at_once() {
    let own = json!({"group_by": ["..."], "group_wait_seconds": 0, "group_interval_seconds": 0});
    let mut story = story(own, json!({}));
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.during(between(4, 9)).push("cpu", host("a"), 50.0);
    story.during(between(2, 9)).push("cpu", host("b"), 95.0);
    story.expect(between(1, 1), firing("high_cpu", "ops", host("a")));
    story.expect(between(2, 2), firing("high_cpu", "ops", host("b")));
    story.expect(between(4, 4), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn what_still_fires_is_told_again_after_the_repeat_interval() {
    let mut story = story(json!({}), json!({"repeat_interval_seconds": 1200}));
    story.during(between(1, 50)).push("cpu", host("a"), 95.0);
    story.during(between(51, 80)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(21, 21.5), firing("high_cpu", "ops", host("a")).repeated());
    story.expect(between(41, 41.5), firing("high_cpu", "ops", host("a")).repeated());
    story.expect(between(51, 51.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn it_is_told_again_four_hours_later_when_nobody_says_otherwise() {
    let mut story = story(json!({}), json!({}));
    story.during(between(1, 250)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(241, 241.5), firing("high_cpu", "ops", host("a")).repeated());
    story.expect_nothing_else();
}

#[test]
fn each_channel_of_a_rule_has_its_own_settings() {
    let uses = json!(["ops", {"channel": "dev", "send_resolved": false, "group_wait_seconds": 120}, "log"]);
    let mut story = story(json!({}), json!({"notification_channels": uses}));
    story.channel("dev", json!({"group_wait_seconds": 0}));
    story.channel(
        "log",
        json!({"repeat_interval_seconds": 300, "group_interval_seconds": 60}),
    );
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.during(between(10, 20)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(3, 3.2), firing("high_cpu", "dev", host("a")));
    story.expect(between(1, 1.5), firing("high_cpu", "log", host("a")));
    story.expect(between(6, 6.5), firing("high_cpu", "log", host("a")).repeated());
    story.expect(between(10, 10.5), resolved("high_cpu", "ops", host("a")));
    story.expect(between(10, 11.5), resolved("high_cpu", "log", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_channel_may_want_to_know_of_beginnings_only() {
    let mut story = story(json!({"send_resolved": false}), json!({}));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.during(between(10, 20)).push("cpu", host("a"), 50.0);
    story.during(between(21, 30)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(21, 21.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_channel_that_is_not_there_keeps_nobody_else_from_being_told() {
    let mut story = story(json!({}), json!({"notification_channels": ["nobody", "ops"]}));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    let nobody = suppressed("nobody", "not configured");
    story.expect_history(between(1, 1.5), "high_cpu", host("a"), nobody);
    story.expect_nothing_else();
}

#[test]
fn the_webhook_of_a_rule_needs_no_channel_and_waits_for_nothing() {
    let mut story = Story::new();
    story.rule("high_cpu", json!({"webhook_url": "https://example.org/own"}));
    for name in ["a", "b"] {
        story.during(between(1, 3)).push("cpu", host(name), 95.0);
        story.during(between(4, 9)).push("cpu", host(name), 50.0);
        story.expect(between(1, 1), firing("high_cpu", "webhook", host(name)));
        story.expect(between(4, 4), resolved("high_cpu", "webhook", host(name)));
    }
    story.expect_nothing_else();
}

#[test]
fn labels_of_the_rule_group_its_alerts_too() {
    let mut story = story(json!({"group_by": ["team"]}), json!({"alert_labels": {"team": "db"}}));
    let other = json!({"metric_name": "disk", "alert_labels": {"team": "db"}});
    story.rule("full_disk", other);
    story.during(between(1, 4)).push("cpu", host("a"), 95.0);
    story.during(between(1, 4)).push("disk", host("b"), 95.0);
    let both = page("ops").firing("high_cpu", host("a")).firing("full_disk", host("b"));
    story.expect(between(1, 1.5), both);
    story.expect_nothing_else();
}
