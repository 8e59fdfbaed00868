//! What is kept from people, and that it is recorded: silences, inhibition, mute times, acknowledgement.

use crate::language::*;
use serde_json::json;
use tidemark_rules::TransitionKind;
use tidemark_rules::TransitionReason as Because;

fn story() -> Story {
    let mut story = Story::new();
    story.channel("ops", json!({}));
    story.rule("high_cpu", json!({}));
    story
}

#[test]
fn what_is_silenced_is_told_when_the_silence_is_over() {
    let mut story = story();
    story.at(0).silence("deploy", "{host='a'}", between(0, 9));
    for name in ["a", "b"] {
        story.during(between(1, 20)).push("cpu", host(name), 95.0);
    }
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("b")));
    let silenced = suppressed("ops", "silenced by deploy");
    story.expect_history_times(1, between(1, 1.5), "high_cpu", host("a"), silenced);
    let both = page("ops").firing("high_cpu", host("a")).firing("high_cpu", host("b"));
    story.expect(between(9, 9.5), both);
    story.expect_nothing_else();
}

#[test]
fn what_begins_and_ends_in_a_silence_is_recorded_and_told_to_nobody() {
    let mut story = story();
    story.at(0).silence("deploy", "{alertname='high_cpu'}", between(0, 30));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.during(between(10, 40)).push("cpu", host("a"), 50.0);
    let silenced = suppressed("ops", "silenced by deploy");
    story.expect_history(between(1, 1.5), "high_cpu", host("a"), silenced);
    let over = became(TransitionKind::Resolved, Because::ConditionCleared);
    story.expect_history(between(10, 10), "high_cpu", host("a"), over);
    story.expect_nothing_else();
}

#[test]
fn a_silence_never_leaves_a_page_open() {
    let mut story = story();
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.at(5).silence("known", "{host='a'}", between(5, 60));
    story.during(between(10, 20)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(10, 10.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_silence_stops_repeats() {
    let mut story = Story::new();
    story.channel("ops", json!({"repeat_interval_seconds": 600}));
    story.rule("high_cpu", json!({}));
    story.during(between(1, 60)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(11, 11.5), firing("high_cpu", "ops", host("a")).repeated());
    story.at(15).silence("known", "{host='a'}", between(15, 45));
    story.expect(between(45, 50.5), firing("high_cpu", "ops", host("a")).repeated());
    story.expect(between(55, 60), firing("high_cpu", "ops", host("a")).repeated());
    story.expect_nothing_else();
}

#[test]
fn a_silence_that_is_ended_early_lets_alerts_through() {
    let mut story = story();
    story.at(0).silence("deploy", "{host='a'}", between(0, 60));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.at(4).end_silence("deploy");
    // It is looked at again after a group interval.
    story.expect(between(4, 6.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_silence_that_begins_later_does_not_mute_before() {
    let mut story = story();
    story.at(0).silence("deploy", "{host=~'a|b'}", between(5, 15));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.during(between(6, 20)).push("cpu", host("b"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    let both = page("ops").firing("high_cpu", host("a")).firing("high_cpu", host("b"));
    story.expect(between(15, 15.5), both);
    story.expect_nothing_else();
}

#[test]
fn who_is_told_of_the_cause_is_not_told_of_what_follows_from_it() {
    let mut story = story();
    story.rule(
        "dc_down",
        json!({"metric_name": "dc_down", "threshold": 0, "severity": "critical"}),
    );
    story.inhibition(json!({
        "name": "dc", "source_matchers": "{alertname='dc_down'}", "target_matchers": "{alertname='high_cpu'}", "equal": ["dc"],
    }));
    let dc = |name: &str| labels([("dc", name)]);
    let machine = |host: &str, dc: &str| labels([("host", host), ("dc", dc)]);
    story.during(between(1, 9)).push("dc_down", dc("1"), 1.0);
    story.during(between(10, 20)).push("dc_down", dc("1"), 0.0);
    story.during(between(2, 20)).push("cpu", machine("a", "1"), 95.0);
    story.during(between(2, 20)).push("cpu", machine("b", "2"), 95.0);
    story.expect(between(1, 1.5), firing("dc_down", "ops", dc("1")));
    story.expect(between(2, 2.5), firing("high_cpu", "ops", machine("b", "2")));
    let inhibited = suppressed("ops", "inhibited by");
    story.expect_history_times(1, between(2, 2.5), "high_cpu", machine("a", "1"), inhibited);
    story.expect(between(10, 10.5), resolved("dc_down", "ops", dc("1")));
    // What still fires when its cause is over is told after all.
    let both = page("ops")
        .firing("high_cpu", machine("a", "1"))
        .firing("high_cpu", machine("b", "2"));
    story.expect(between(10, 15.5), both);
    story.expect_nothing_else();
}

#[test]
fn in_a_mute_time_everything_waits() {
    let mut story = Story::new();
    story.mute_time(json!({
        "name": "lunch", "time_intervals": [{"times": [{"start_time": "12:05", "end_time": "12:20"}], "weekdays": ["monday"]}],
    }));
    story.channel("ops", json!({"mute_times": ["lunch"]}));
    story.rule("high_cpu", json!({"notification_channels": ["ops", "dev"]}));
    story.channel("dev", json!({}));
    for (name, from, to) in [("a", 1, 10), ("b", 6, 30)] {
        story.during(between(from, to)).push("cpu", host(name), 95.0);
        story.during(between(to + 1, 31)).push("cpu", host(name), 50.0);
    }
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect_history(
        between(6, 7),
        "high_cpu",
        host("b"),
        suppressed("ops", "muted by lunch"),
    );
    let later = page("ops")
        .resolved("high_cpu", host("a"))
        .firing("high_cpu", host("b"));
    story.expect(between(20, 20.5), later);
    story.expect(between(31, 31.5), resolved("high_cpu", "ops", host("b")));
    // Another channel of the same rule has no such time.
    story.expect(between(1, 1.5), firing("high_cpu", "dev", host("a")));
    let both = page("dev").firing("high_cpu", host("a")).firing("high_cpu", host("b"));
    story.expect(between(6, 6.5), both);
    let over = page("dev")
        .resolved("high_cpu", host("a"))
        .firing("high_cpu", host("b"));
    story.expect(between(11, 11.5), over);
    story.expect(between(31, 31.5), resolved("high_cpu", "dev", host("b")));
    story.expect_nothing_else();
}

#[test]
fn what_somebody_takes_care_of_is_not_told_again() {
    let mut story = Story::new();
    story.channel("ops", json!({"repeat_interval_seconds": 600}));
    story.rule("high_cpu", json!({}));
    story.during(between(1, 50)).push("cpu", host("a"), 95.0);
    story.during(between(51, 60)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(11, 11.5), firing("high_cpu", "ops", host("a")).repeated());
    story.at(15).acknowledge("high_cpu", host("a"), "ann");
    let by_ann = by("ann", TransitionKind::Acknowledged, Because::Acknowledged);
    story.expect_history(between(15, 16), "high_cpu", host("a"), by_ann);
    story.expect(between(51, 51.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn an_acknowledgement_is_for_one_incident() {
    let mut story = Story::new();
    story.channel("ops", json!({"repeat_interval_seconds": 600}));
    story.rule("high_cpu", json!({}));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.at(5).acknowledge("high_cpu", host("a"), "ann");
    story.during(between(10, 15)).push("cpu", host("a"), 50.0);
    story.during(between(16, 29)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(10, 10.5), resolved("high_cpu", "ops", host("a")));
    story.expect(between(16, 16.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(26, 26.5), firing("high_cpu", "ops", host("a")).repeated());
    story.expect_nothing_else();
}
