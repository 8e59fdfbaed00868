//! What a rule makes of data that is not there.

use super::story::{World, play};
use super::*;

#[test]
fn no_data_keep_leaves_everything_as_it_is() {
    let story = "
        0    95   pending   condition_met
        60   -    pending   =
        120  95   firing    condition_held
        180  -    firing    =
        999  -    firing    =
        1000 10   resolved  condition_cleared
        1060 -    resolved  =";
    play("keep", &json!({"no_data": "keep", "duration_seconds": 120}), story);
}

#[test]
fn no_data_keep_does_not_count_time_in_which_nobody_looked() {
    let story = "
        0     95         pending   condition_met
        3600  - gap=3600 pending   =
        3660  -          pending   =
        3719  95         pending   =
        3720  95         firing    condition_held";
    play("keep", &json!({"no_data": "keep", "duration_seconds": 120}), story);
}

#[test]
fn no_data_keep_ends_what_an_edit_no_longer_asks_about() {
    let story = r#"
        0    95                          firing    condition_held
        30   edit {"metric_name":"mem"}  firing    =
        60   -                           resolved  rule_changed"#;
    play("keep", &json!({"no_data": "keep"}), story);
    let groups = r#"
        0    95                          firing    condition_held
        30   edit {"group_by":["zone"]}  firing    =
        60   -                           resolved  rule_changed"#;
    let grouped = json!({"no_data": "keep", "aggregation": "max", "group_by": ["host"]});
    play("keep groups", &grouped, groups);
    let same = r#"
        0    95                          firing    condition_held
        30   edit {"threshold":80}       firing    =
        60   -                           firing    ="#;
    play("keep", &json!({"no_data": "keep"}), same);
}

#[test]
fn no_data_alerting_goes_on_with_what_is_known() {
    let story = "
        0    95   pending   condition_met
        60   -    pending   =
        120  -    firing    data_missing
        180  95   firing    =
        240  10   resolved  condition_cleared
        300  -    pending   data_missing
        360  -    pending   =
        420  -    firing    data_missing
        480  10   resolved  condition_cleared";
    let world = play(
        "alerting",
        &json!({"no_data": "alerting", "duration_seconds": 120}),
        story,
    );
    assert_eq!((world.instances.len(), world.instances[0].missing_since), (1, None));
}

#[test]
fn no_data_alerting_has_an_alert_without_labels_when_nothing_is_known() {
    let mut world = World::new(&json!({"no_data": "alerting", "duration_seconds": 60}));
    let nothing = Labels::default();
    let state = |world: &World| world.of(&nothing).map(|instance| instance.state);
    world.tick(&[], at(0), 0);
    assert_eq!(state(&world), Some(InstanceState::Pending));
    world.tick(&[], at(60), 0);
    assert_eq!(state(&world), Some(InstanceState::Firing));
    let (_, firing) = world.told.last().unwrap();
    assert_eq!(
        (firing.reason, firing.value.is_nan()),
        (TransitionReason::DataMissing, true)
    );
    world.tick(&[row("a", 5.0)], at(120), 0);
    assert_eq!(state(&world), Some(InstanceState::Resolved));
    assert_eq!(world.told.last().unwrap().1.reason, TransitionReason::ConditionCleared);
    assert_eq!(world.instances.len(), 1);
    // Nothing is known of host a: it had no alert.
    world.tick(&[], at(180), 0);
    assert_eq!(state(&world), Some(InstanceState::Pending));
}

#[test]
fn what_is_known_is_missed_by_its_labels_and_not_once_more_without() {
    let mut world = World::new(&json!({"no_data": "alerting"}));
    world.tick(&[row("a", 95.0), row("b", 95.0)], at(0), 0);
    world.tick(&[], at(60), 0);
    assert_eq!(world.instances.len(), 2);
    assert!(
        world
            .instances
            .iter()
            .all(|instance| instance.missing_since == Some(at(60)))
    );
    // The vector is not empty, and b alone is missing.
    world.tick(&[row("a", 5.0)], at(120), 0);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(InstanceState::Resolved), Some(InstanceState::Firing))
    );
    assert_eq!(world.told.len(), 3);
}

#[test]
fn what_is_resolved_by_hand_is_not_missed_again_before_it_was_back() {
    let story = "
        0    95        firing    condition_held
        60   -         firing    =
        120  resolve   resolved  resolved_by_hand
        180  -         resolved  =
        240  10        resolved  =
        300  -         firing    data_missing";
    play("decommissioned", &json!({"no_data": "alerting"}), story);
    let mut world = World::new(&json!({"no_data": "alerting"}));
    world.tick(&[], at(0), 0);
    let change = resolve_by_hand(&world.instances[0], "jane", None, at(30));
    world.apply(change.into_iter().collect());
    world.tick(&[], at(60), 0);
    assert_eq!(world.instances[0].state, InstanceState::Resolved);
    world.tick(&[row("a", 5.0)], at(120), 0);
    world.tick(&[], at(180), 0);
    assert_eq!(world.instances[0].state, InstanceState::Firing);
}

#[test]
fn a_group_of_everything_is_the_alert_without_labels() {
    let mut world = World::new(&json!({"no_data": "alerting", "aggregation": "max"}));
    let all = |value: f64| {
        [Row {
            labels: Labels::default(),
            value,
            holds: value > 90.0,
        }]
    };
    world.tick(&all(95.0), at(0), 0);
    world.tick(&[], at(60), 0);
    assert_eq!(world.instances[0].missing_since, Some(at(60)));
    world.tick(&all(95.0), at(120), 0);
    assert_eq!(world.instances[0].missing_since, None);
    world.tick(&all(5.0), at(180), 0);
    let reasons: Vec<_> = world.told.iter().map(|(_, one)| one.reason).collect();
    assert_eq!(
        reasons,
        [TransitionReason::ConditionHeld, TransitionReason::ConditionCleared]
    );
}

#[test]
fn a_rule_that_turns_to_a_metric_without_data_misses_it() {
    let mut world = World::new(&json!({"no_data": "alerting"}));
    world.tick(&[row("a", 95.0)], at(0), 0);
    let spec = &mut world.rule.as_mut().unwrap().spec;
    *spec = spec.patched(&json!({"metric_name": "mem"})).unwrap();
    world.tick(&[], at(60), 0);
    let nothing = world.of(&Labels::default()).unwrap();
    assert_eq!(
        (world.state("a"), nothing.state),
        (Some(InstanceState::Resolved), InstanceState::Firing)
    );
    let spec = &mut world.rule.as_mut().unwrap().spec;
    *spec = spec.patched(&json!({"metric_name": "swap"})).unwrap();
    world.tick(&[], at(120), 0);
    let nothing = world.of(&Labels::default()).unwrap();
    assert_eq!(
        (nothing.state, nothing.firing_since),
        (InstanceState::Firing, Some(at(60)))
    );
    assert_eq!(world.told.len(), 3);
    // Resolved by hand it is not missed again, until the rule misses something else.
    world.by_hand(|instance| resolve_by_hand(instance, "jane", None, at(150)));
    let state = |world: &World| world.of(&Labels::default()).unwrap().state;
    world.tick(&[], at(180), 0);
    assert_eq!(
        state(&world),
        InstanceState::Firing,
        "it was resolved when the rule asked for another metric"
    );
    world.by_hand(|instance| resolve_by_hand(instance, "jane", None, at(210)));
    world.tick(&[], at(240), 0);
    assert_eq!(state(&world), InstanceState::Resolved);
    world.edit(&json!({"metric_name": "load"}));
    world.tick(&[], at(300), 0);
    assert_eq!(state(&world), InstanceState::Firing);
}

#[test]
fn a_heartbeat_fires_at_once_and_never_misses_anything() {
    let mut world = World::new(&json!({"kind": "heartbeat", "no_data": "alerting"}));
    let rows = crate::vector::vector(&crate::Query::Heartbeat, &[]);
    for minute in 0..3 {
        world.tick(&rows, at(minute * 60), 0);
    }
    assert_eq!((world.instances.len(), world.told.len()), (1, 1));
    assert_eq!(world.instances[0].state, InstanceState::Firing);
    assert!(world.instances[0].rule.is_heartbeat());
}

#[test]
fn what_is_gone_for_good_is_not_missed_again_after_a_day() {
    let story = r#"
        0       95        firing    condition_held
        60      -         firing    =
        120     resolve   resolved  resolved_by_hand
        86521   -         resolved  =
        200000  -         resolved  =
        200060  edit {"no_data":"ok"} resolved =
        200120  -         none      ="#;
    play("gone", &json!({"no_data": "alerting"}), story);
}
