//! The rules of the state machine, each as a story. See [`super::story`].

use super::story::play;
use serde_json::json;

#[test]
fn nothing_is_made_of_a_condition_that_does_not_hold() {
    play(
        "low",
        &json!({"duration_seconds": 60}),
        "0 10 none =\n 60 - none =\n 120 NaN none =",
    );
}

#[test]
fn with_duration_0_it_fires_at_once() {
    let story = "
        0    95   firing    condition_held
        60   95   firing    =
        120  10   resolved  condition_cleared
        180  10   resolved  =";
    play("at once", &json!({}), story);
}

#[test]
fn it_fires_when_it_has_held_for_the_duration() {
    let story = "
        0    95   pending   condition_met
        60   95   pending   =
        119  95   pending   =
        120  95   firing    condition_held
        180  95   firing    =
        240  10   resolved  condition_cleared";
    play("for", &json!({"duration_seconds": 120}), story);
}

#[test]
fn a_pause_begins_the_duration_anew() {
    let story = "
        0    95   pending   condition_met
        60   10   inactive  condition_cleared
        120  95   pending   condition_met
        200  95   pending   =
        240  95   firing    condition_held";
    play("pause", &json!({"duration_seconds": 120}), story);
}

#[test]
fn a_resolved_alert_becomes_pending_again_and_nobody_hears_when_it_stops() {
    let story = "
        0    95   pending   condition_met
        60   95   firing    condition_held
        120  10   resolved  condition_cleared
        180  95   pending   condition_met
        200  10   inactive  condition_cleared";
    play("again", &json!({"duration_seconds": 60}), story);
}

#[test]
fn a_series_that_vanishes_ends_its_alert() {
    let story = "
        0    95   pending   condition_met
        60   -    inactive  data_missing
        120  95   pending   condition_met
        240  95   firing    condition_held
        300  -    resolved  data_missing";
    play("gone", &json!({"duration_seconds": 120}), story);
}

#[test]
fn a_missed_tick_counts_as_time_and_a_doubled_one_as_nothing() {
    let story = "
        0    95   pending   condition_met
        180  95   firing    condition_held
        180  95   firing    =";
    play("missed", &json!({"duration_seconds": 120}), story);
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let story = "
        0     95          pending   condition_met
        60    95          pending   =
        3660  95 gap=3600 pending   =
        3719  95          pending   =
        3720  95          firing    condition_held
        7320  95 gap=3600 firing    =";
    play("outage while pending", &json!({"duration_seconds": 120}), story);
    let fresh = "
        0     10          none      =
        3600  95 gap=3600 pending   condition_met
        3720  95          firing    condition_held";
    play("outage before", &json!({"duration_seconds": 120}), fresh);
    let kept = "
        0     95          firing    condition_held
        60    10          firing    =
        3660  10 gap=3600 firing    =
        3899  10          firing    =
        3900  10          firing    =
        3959  10          firing    =
        3960  10          resolved  condition_cleared";
    play("outage while kept", &json!({"keep_firing_for_seconds": 300}), kept);
}

#[test]
fn a_gap_counts_for_an_alert_that_waits_to_be_told() {
    let story = "
        0     95          pending   condition_met
        30    down        pending   =
        60    10          inactive  =
        60    up          inactive  condition_cleared
        90    down        inactive  =
        120   95          pending   =
        3720  95 gap=3600 pending   =
        3730  up          pending   condition_met
        3780  95          pending   =
        3840  95          firing    condition_held";
    play("gap while waiting", &json!({"duration_seconds": 120}), story);
    let kept = "
        0     95          firing    condition_held
        60    10          firing    =
        90    down        firing    =
        100   ack         firing    =
        3660  10 gap=3600 firing    =
        3670  up          firing    acknowledged
        3959  10          firing    =
        3960  10          resolved  condition_cleared";
    play(
        "gap while kept and waiting",
        &json!({"keep_firing_for_seconds": 300}),
        kept,
    );
}

#[test]
fn what_has_not_been_told_waits() {
    let story = "
        0    down   none      =
        0    95     firing    =
        60   10     firing    =
        120  95     firing    =
        180  up     firing    condition_held
        240  10     resolved  condition_cleared
        300  down   resolved  =
        300  95     firing    =
        360  delete firing    =
        360  -      firing    =
        420  up     firing    condition_held
        420  -      resolved  rule_deleted";
    play("waits", &json!({}), story);
}

#[test]
fn keep_firing_for_bridges_what_flaps() {
    let story = "
        0    95   firing    condition_held
        60   10   firing    =
        120  95   firing    =
        180  -    firing    =
        240  10   firing    =
        479  10   firing    =
        480  10   resolved  condition_cleared";
    let world = play("flapping", &json!({"keep_firing_for_seconds": 300}), story);
    let [instance] = &world.instances[..] else { panic!() };
    assert_eq!((instance.keep_firing_since, instance.current_value), (None, 10.0));
}

#[test]
fn without_keep_firing_for_what_flaps_is_a_new_incident_each_time() {
    let story = "
        0    95   firing    condition_held
        60   10   resolved  condition_cleared
        120  95   firing    condition_held
        180  10   resolved  condition_cleared";
    let world = play("flapping", &json!({}), story);
    let incidents: std::collections::HashSet<_> = world.told.iter().map(|(_, one)| one.firing_since).collect();
    assert_eq!(incidents.len(), 2);
}

#[test]
fn a_duration_longer_than_its_peaks_never_fires_on_what_flaps() {
    let story = "
        0    95   pending   condition_met
        60   10   inactive  condition_cleared
        120  95   pending   condition_met
        180  10   inactive  condition_cleared";
    play("flapping", &json!({"duration_seconds": 90}), story);
}

#[test]
fn a_pending_alert_is_not_kept() {
    let story = "
        0    95   pending   condition_met
        60   10   inactive  condition_cleared";
    play(
        "pending",
        &json!({"duration_seconds": 90, "keep_firing_for_seconds": 300}),
        story,
    );
}

#[test]
fn a_clock_that_steps_back_neither_fires_early_nor_sticks() {
    let story = "
        100  95   pending   condition_met
        40   95   pending   =
        90   95   pending   =
        100  95   firing    condition_held
        20   10   resolved  condition_cleared";
    play("clock", &json!({"duration_seconds": 60}), story);
    let kept = "
        100  95   firing    condition_held
        200  10   firing    =
        50   10   firing    =
        109  10   firing    =
        110  10   resolved  condition_cleared";
    play("clock while kept", &json!({"keep_firing_for_seconds": 60}), kept);
}

#[test]
fn a_day_after_its_end_an_instance_is_removed() {
    let story = "
        0      95   firing    condition_held
        60     10   resolved  condition_cleared
        86460  10   resolved  =
        86461  10   none      =";
    play("removed", &json!({}), story);
    for no_data in ["ok", "keep"] {
        let gone = "
        0      95   firing    condition_held
        60     10   resolved  condition_cleared
        86461  -    none      =";
        play(no_data, &json!({"no_data": no_data}), gone);
    }
}

#[test]
fn a_rule_edited_while_firing_goes_on_while_its_condition_holds() {
    let story = r#"
        0    95                                   firing    condition_held
        30   edit {"duration_seconds":600}        firing    =
        60   95                                   firing    =
        90   edit {"threshold":94,"severity":"info"} firing =
        120  95                                   firing    =
        150  92                                   resolved  rule_changed"#;
    let world = play("edit", &json!({}), story);
    assert_eq!(
        world.instances[0].rule.severity,
        crate::Severity::Warning,
        "who was told"
    );
}

#[test]
fn an_edit_says_so_where_it_is_the_reason() {
    for (edit, value, reason) in [
        (r#"{"threshold":99}"#, "95", "rule_changed"),
        (r#"{"threshold":99}"#, "10", "condition_cleared"),
        (r#"{"condition":"<"}"#, "95", "rule_changed"),
        (r#"{"labels":{"env":"x"}}"#, "-", "rule_changed"),
        (r#"{"labels":{"host":"a"}}"#, "-", "data_missing"),
        (r#"{"metric_name":"mem"}"#, "-", "rule_changed"),
        (r#"{"aggregation":"max"}"#, "-", "rule_changed"),
        (r#"{"kind":"heartbeat"}"#, "-", "rule_changed"),
        (r#"{"severity":"info"}"#, "10", "condition_cleared"),
        (r#"{"severity":"info"}"#, "-", "data_missing"),
        (r#"{"enabled":false}"#, "95", "rule_disabled"),
    ] {
        let story = format!("0 95 firing condition_held\n 30 edit {edit} firing =\n 60 {value} resolved {reason}");
        play(edit, &json!({}), &story);
    }
}

#[test]
fn an_edit_that_ends_it_does_not_wait_for_keep_firing() {
    let story = r#"
        0    95                        firing    condition_held
        30   edit {"threshold":99}     firing    =
        60   95                        resolved  rule_changed"#;
    play("edit", &json!({"keep_firing_for_seconds": 300}), story);
}

#[test]
fn an_edit_while_pending_counts_at_once() {
    let story = r#"
        0    95                        pending   condition_met
        30   edit {"duration_seconds":60,"severity":"info"} pending =
        60   95                        firing    condition_held"#;
    let world = play("edit", &json!({"duration_seconds": 600}), story);
    assert_eq!(world.instances[0].rule.severity, crate::Severity::Info);
}

#[test]
fn a_rule_disabled_or_deleted_while_firing_resolves_at_once() {
    let disabled = r#"
        0    95                        firing    condition_held
        30   edit {"enabled":false}    firing    =
        60   95                        resolved  rule_disabled
        90   edit {"enabled":true}     resolved  =
        120  95                        firing    condition_held"#;
    play("disabled", &json!({"keep_firing_for_seconds": 300}), disabled);
    let deleted = "
        0      95       firing    condition_held
        30     delete   firing    =
        60     95       resolved  rule_deleted
        86461  -        none      =";
    play(
        "deleted",
        &json!({"keep_firing_for_seconds": 300}),
        &deleted.replace("86461", "86521"),
    );
    let pending = "
        0      95       pending   condition_met
        30     delete   pending   =
        60     95       inactive  rule_deleted";
    play("deleted while pending", &json!({"duration_seconds": 300}), pending);
}

#[test]
fn an_alert_resolved_by_hand_fires_again_while_its_condition_holds() {
    let story = "
        0    95        firing    condition_held
        60   resolve   resolved  resolved_by_hand
        61   resolve   resolved  =
        61   95        firing    condition_held
        120  10        resolved  condition_cleared";
    let world = play("by hand", &json!({}), story);
    let by_hand = &world.told[1].1;
    assert_eq!(
        (by_hand.by.as_deref(), by_hand.comment.as_deref()),
        (Some("jane"), Some("done"))
    );
    let pending = "
        0    95        pending   condition_met
        60   resolve   inactive  resolved_by_hand
        61   95        pending   condition_met
        180  95        pending   =
        181  95        firing    condition_held";
    play("by hand while pending", &json!({"duration_seconds": 120}), pending);
}

#[test]
fn an_acknowledgement_belongs_to_one_incident() {
    let story = "
        0    95     pending   condition_met
        30   ack    pending   acknowledged
        120  95     firing    condition_held
        150  ack    firing    acknowledged
        180  96     firing    =";
    let world = play("ack", &json!({"duration_seconds": 120}), story);
    let instance = &world.instances[0];
    assert_eq!(instance.acknowledged.as_ref().unwrap().by, "jane");
    assert_eq!(world.told[3].1.firing_since, instance.firing_since.unwrap());
    let over = format!("{story}\n 240 10 resolved condition_cleared\n 250 ack resolved =");
    let world = play("ack", &json!({"duration_seconds": 120}), &over);
    assert_eq!(world.instances[0].acknowledged, None);
    let inactive = "0 95 pending condition_met\n 30 ack pending acknowledged\n 60 10 inactive condition_cleared";
    let world = play("ack", &json!({"duration_seconds": 120}), inactive);
    assert_eq!(world.instances[0].acknowledged, None);
}

#[test]
fn what_never_fired_is_removed_by_the_next_evaluation() {
    let story = "
        0      95   pending   condition_met
        60     10   inactive  condition_cleared
        60     10   inactive  =
        120    10   none      =
        180    95   pending   condition_met
        240    -    inactive  data_missing
        300    down inactive  =
        360    up   inactive  =
        360    -    none      =";
    play("inactive", &json!({"duration_seconds": 300}), story);
    let after_an_incident = "
        0      95   pending   condition_met
        60     95   firing    condition_held
        120    10   resolved  condition_cleared
        180    95   pending   condition_met
        200    10   inactive  condition_cleared
        86520  10   inactive  =
        86521  10   none      =";
    play("incident before", &json!({"duration_seconds": 60}), after_an_incident);
    let known = "
        0      95   pending   condition_met
        60     10   inactive  condition_cleared
        86460  10   inactive  =
        86461  10   none      =";
    let alerting = json!({"duration_seconds": 300, "no_data": "alerting"});
    play("known", &alerting, known);
}

#[test]
fn a_gap_is_taken_off_once_however_often_a_tick_is_told_of_it() {
    let mut story = "0 95 pending condition_met\n 60 95 pending =".to_owned();
    for minute in 0..10 {
        let at = 420 + minute * 60;
        story += &format!("\n {at} 95 gap={} pending =", at - 60);
    }
    // 60 s before the gap, 540 s after it.
    story = story.replace("\n 960 95 gap=900 pending =", "\n 960 95 gap=900 firing condition_held");
    play("pending", &json!({"duration_seconds": 600}), &story);
    let begun = "
        420  95 gap=360 pending   condition_met
        480  95 gap=420 pending   =
        540  95 gap=480 firing    condition_held";
    play("begun after it", &json!({"duration_seconds": 120}), begun);
    let kept = "
        0    95         firing    condition_held
        420  10 gap=360 firing    =
        480  10 gap=420 firing    =
        540  10 gap=480 resolved  condition_cleared";
    play("kept", &json!({"keep_firing_for_seconds": 120}), kept);
}
