//! From a sample to a page and back: what a rule makes of its data.

use crate::language::*;
use serde_json::json;
use tidemark_rules::TransitionKind::{Firing, Inactive, Pending};
use tidemark_rules::TransitionReason as Because;

/// A story with the channel `ops` and the rule `high_cpu`.
fn story(rule: serde_json::Value) -> Story {
    let mut story = Story::new();
    story.channel("ops", json!({}));
    story.rule("high_cpu", rule);
    story
}

#[test]
fn a_condition_that_holds_for_its_duration_is_told_and_its_end_too() {
    let mut story = story(json!({"duration_seconds": 120}));
    story.during(between(1, 10)).push("cpu", host("a"), 95.0);
    story.during(between(1, 14)).push("cpu", host("b"), 50.0);
    story.during(between(11, 14)).push("cpu", host("a"), 50.0);
    story.expect_history(
        between(1, 1),
        "high_cpu",
        host("a"),
        became(Pending, Because::ConditionMet),
    );
    story.expect(
        between(3, 3.5),
        firing("high_cpu", "ops", host("a")).because(Because::ConditionHeld),
    );
    story.expect(
        between(11, 11.5),
        resolved("high_cpu", "ops", host("a")).because(Because::ConditionCleared),
    );
    story.expect_nothing_else();
}

#[test]
fn a_condition_that_stops_before_its_duration_is_told_to_nobody() {
    let mut story = story(json!({"duration_seconds": 180}));
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.during(between(4, 20)).push("cpu", host("a"), 50.0);
    story.expect_history(
        between(1, 1),
        "high_cpu",
        host("a"),
        became(Pending, Because::ConditionMet),
    );
    story.expect_history(
        between(4, 4),
        "high_cpu",
        host("a"),
        became(Inactive, Because::ConditionCleared),
    );
    story.expect_history_times(
        0,
        between(0, 20),
        "high_cpu",
        host("a"),
        became(Firing, Because::ConditionHeld),
    );
    story.expect_nothing_else();
}

#[test]
fn a_rule_may_keep_firing_for_a_while() {
    let mut story = story(json!({"keep_firing_for_seconds": 300}));
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.during(between(4, 5)).push("cpu", host("a"), 50.0);
    story.during(between(6, 7)).push("cpu", host("a"), 95.0);
    story.during(between(8, 20)).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(13, 13.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_series_that_vanishes_resolves_its_alert_and_leaves_the_others() {
    let mut story = story(json!({}));
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.during(between(1, 30)).push("cpu", host("b"), 95.0);
    story.expect(
        between(1, 1.5),
        page("ops").firing("high_cpu", host("a")).firing("high_cpu", host("b")),
    );
    // The last sample counts for five minutes.
    let gone = page("ops")
        .resolved("high_cpu", host("a"))
        .because(Because::DataMissing);
    story.expect(between(8, 8.5), gone.firing("high_cpu", host("b")));
    story.expect_nothing_else();
}

#[test]
fn without_data_a_rule_may_keep_what_it_says() {
    let mut story = story(json!({"no_data": "keep"}));
    story.during(between(1, 3)).push("cpu", host("a"), 95.0);
    story.at(40).push("cpu", host("a"), 50.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.expect(
        between(40, 40.5),
        resolved("high_cpu", "ops", host("a")).because(Because::ConditionCleared),
    );
    story.expect_nothing_else();
}

#[test]
fn missing_data_may_be_the_problem_itself() {
    let mut story = story(json!({"no_data": "alerting", "duration_seconds": 120}));
    story.during(between(0, 3)).push("cpu", host("a"), 50.0);
    // From minute 8 on there is nothing, and two minutes later that is told.
    story.expect(
        between(10, 10.5),
        firing("high_cpu", "ops", Series::new()).because(Because::DataMissing),
    );
    story.during(between(20, 22)).push("cpu", host("a"), 50.0);
    story.expect(between(20, 20.5), resolved("high_cpu", "ops", Series::new()));
    story.expect_nothing_else();
}

#[test]
fn what_fires_goes_on_firing_without_data_when_that_is_a_problem() {
    let mut story = story(json!({"no_data": "alerting"}));
    story.during(between(0, 3)).push("cpu", host("a"), 95.0);
    story.during(between(30, 31)).push("cpu", host("a"), 50.0);
    story.expect(between(0, 0.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(30, 30.5), resolved("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_rule_with_an_interval_is_evaluated_only_that_often() {
    let mut story = story(json!({"interval_seconds": 300}));
    story.during(between(2, 20)).push("cpu", host("a"), 95.0);
    story.during(between(21, 30)).push("cpu", host("a"), 50.0);
    story.expect(between(2, 7.5), firing("high_cpu", "ops", host("a")));
    story.expect(between(21, 26.5), resolved("high_cpu", "ops", host("a")));
    // Looked at every minute it would flap; its own minute of the five is another one.
    story.rule("flaps", json!({"metric_name": "flaps", "interval_seconds": 300}));
    let hot_in_one_of_five = |minute: i32| if minute % 5 == 3 { 95.0 } else { 50.0 };
    story
        .during(between(0, 30))
        .push_each("flaps", host("a"), hot_in_one_of_five);
    let fires = became(Firing, Because::ConditionHeld);
    story.expect_history_times(0, between(0, 30), "flaps", host("a"), fires);
    story.expect_nothing_else();
}

#[test]
fn a_counter_that_is_reset_has_not_risen_by_what_it_lost() {
    let mut story = story(json!({"aggregation": "increase", "group_by": ["host"], "threshold": 100}));
    let counter = |minute: i32| {
        f64::from(if minute < 10 {
            5_000 + minute * 10
        } else {
            (minute - 10) * 10
        })
    };
    story.during(between(0, 20)).push_each("cpu", host("a"), counter);
    let runs_away = |minute: i32| f64::from(if minute < 10 { minute } else { minute * 50 });
    story.during(between(0, 20)).push_each("cpu", host("b"), runs_away);
    story.expect(between(10, 10.5), firing("high_cpu", "ops", host("b")));
    story.expect_nothing_else();
}

#[test]
fn a_rule_that_is_changed_resolves_what_it_no_longer_says() {
    let mut story = story(json!({}));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.at(9.5).change_rule("high_cpu", json!({"threshold": 99}));
    story.expect(
        between(10, 10.5),
        resolved("high_cpu", "ops", host("a")).because(Because::RuleChanged),
    );
    story.expect_nothing_else();
}

#[test]
fn who_was_told_of_a_firing_is_told_of_its_end_whoever_the_rule_names_by_then() {
    let mut story = story(json!({}));
    story.channel("dev", json!({}));
    story.during(between(1, 9)).push("cpu", host("a"), 95.0);
    story.during(between(10, 12)).push("cpu", host("a"), 50.0);
    story.during(between(13, 20)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story
        .at(5)
        .change_rule("high_cpu", json!({"notification_channels": ["dev"]}));
    story.expect(between(10, 10.5), resolved("high_cpu", "ops", host("a")));
    story.expect(between(13, 13.5), firing("high_cpu", "dev", host("a")));
    story.expect_nothing_else();
}

#[test]
fn a_rule_that_is_disabled_or_deleted_resolves_what_it_fires() {
    for (disable, reason) in [(true, Because::RuleDisabled), (false, Because::RuleDeleted)] {
        let mut story = story(json!({}));
        story.during(between(1, 20)).push("cpu", host("a"), 95.0);
        story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
        if disable {
            story.at(9.5).disable_rule("high_cpu");
        } else {
            story.at(9.5).delete_rule("high_cpu");
        }
        let over = resolved("high_cpu", "ops", host("a")).because(reason);
        story.expect(between(10, 10.5), over);
        story.expect_nothing_else();
    }
}

#[test]
fn what_is_resolved_by_hand_is_told_and_fires_anew_while_its_condition_holds() {
    let mut story = story(json!({}));
    story.during(between(1, 20)).push("cpu", host("a"), 95.0);
    story.expect(between(1, 1.5), firing("high_cpu", "ops", host("a")));
    story.at(9.5).resolve("high_cpu", host("a"), "ann");
    story.expect(
        between(9.5, 9.8),
        resolved("high_cpu", "ops", host("a")).because(Because::ResolvedByHand),
    );
    let by_ann = by("ann", tidemark_rules::TransitionKind::Resolved, Because::ResolvedByHand);
    story.expect_history(between(9.5, 9.5), "high_cpu", host("a"), by_ann);
    story.expect(between(10, 10.5), firing("high_cpu", "ops", host("a")));
    story.expect_nothing_else();
}
