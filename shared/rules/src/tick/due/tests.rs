use super::*;
use crate::fixtures::{at, rule};
use serde_json::json;

fn every(seconds: u64) -> Rule {
    rule("some-rule", &json!({ "interval_seconds": seconds }))
}

fn past(last_seconds: i64, owed: &[(&str, i64)], now_seconds: i64) -> Past {
    let state = TickState {
        at: at(last_seconds),
        owed: owed
            .iter()
            .map(|(id, seconds)| ((*id).to_owned(), at(*seconds)))
            .collect(),
    };
    Past::since(Some(state), 60_000, at(now_seconds))
}

/// On which minutes of ticks each minute a rule is due.
fn due_minutes(rule: &Rule, minutes: i64) -> Vec<i64> {
    (1..minutes)
        .filter(|minute| past((minute - 1) * 60, &[], minute * 60).is_due(rule))
        .collect()
}

#[test]
fn a_rule_is_due_once_in_each_interval_and_rules_are_spread_over_it() {
    assert_eq!(due_minutes(&every(60), 10), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    for interval in [2, 5, 60] {
        let mut phases = Vec::new();
        for number in 0..40 {
            let rule = rule(&format!("rule-{number}"), &json!({"interval_seconds": interval * 60}));
            let due = due_minutes(&rule, 10 * interval + 1);
            assert_eq!(due.len(), 10, "{due:?}");
            assert!(due.windows(2).all(|two| two[1] - two[0] == interval));
            phases.push(due[0]);
        }
        phases.sort_unstable();
        phases.dedup();
        assert!(phases.len() > 1, "all rules are due at once");
    }
}

#[test]
fn ticks_that_are_late_or_missed_skip_no_slot() {
    let rule = every(300);
    let slots = due_minutes(&rule, 61).len();
    // Ticks with all kinds of gaps, some of them twice.
    let ticks: Vec<i64> = (0..=3_600).step_by(47).flat_map(|second| [second, second]).collect();
    let due = ticks
        .windows(2)
        .filter(|two| past(two[0], &[], two[1]).is_due(&rule))
        .count();
    assert_eq!(due, slots);
    assert!(
        past(0, &[], 3_000).is_due(&rule),
        "a gap holds several slots and is one evaluation"
    );
}

#[test]
fn what_is_owed_new_or_changed_is_due() {
    let mut rule = every(86_400);
    let minute = (1..1_440)
        .find(|minute| !past(minute * 60, &[], minute * 60 + 60).is_due(&rule))
        .unwrap();
    let (last, now) = (minute * 60, minute * 60 + 60);
    assert!(past(last, &[("some-rule", 0)], now).is_due(&rule));
    assert!(!past(last, &[("another", 0)], now).is_due(&rule));
    rule.updated_at = at(last + 3);
    assert!(past(last, &[], now).is_due(&rule));
    assert!(Past::since(None, 60_000, at(0)).is_due(&every(86_400)));
    assert!(Past::all(at(0)).is_due(&every(86_400)));
}

#[test]
fn a_clock_that_was_far_ahead_is_not_believed() {
    let rule = every(86_400);
    assert!(past(301, &[], 0).is_due(&rule), "every tick, until that time comes");
    assert_eq!(past(301, &[], 0).unobserved_ms(&rule), 0);
    assert_eq!(past(10, &[], 0).unobserved_ms(&rule), 0, "a little ahead");
}

#[test]
fn a_gap_is_noticed_when_it_is_longer_than_usual() {
    let unobserved = |rule: &Rule, seconds| past(0, &[], seconds).unobserved_ms(rule);
    assert_eq!(unobserved(&every(60), 300), 0);
    assert_eq!(unobserved(&every(60), 301), 301_000);
    assert_eq!(unobserved(&every(600), 1_200), 0);
    assert_eq!(unobserved(&every(600), 1_201), 1_201_000);
    let rarely = Past {
        every_ms: Some(600_000),
        ..past(0, &[], 1_200)
    };
    assert_eq!(rarely.unobserved_ms(&every(60)), 0, "a schedule of ten minutes");
    assert_eq!(Past::since(None, 60_000, at(0)).unobserved_ms(&every(60)), 0);
}

#[test]
fn of_a_rule_that_is_owed_the_time_counts_since_it_was_evaluated() {
    let past = past(3_540, &[("some-rule", 0)], 3_600);
    assert_eq!(past.unobserved_ms(&every(60)), 3_600_000);
    let undone = ["some-rule".to_owned(), "another".to_owned()];
    let owed: Vec<_> = past.owed(&undone).into_iter().collect();
    assert_eq!(
        owed,
        [("another".to_owned(), at(3_540)), ("some-rule".to_owned(), at(0))]
    );
}

#[test]
fn everything_comes_first_on_some_tick_whatever_the_interval() {
    // The template takes intervals of up to ten minutes.
    for minutes in 1..=10_i64 {
        for count in 1..=60_usize {
            let mut begun: Vec<usize> = (0..count as i64 * 8)
                .map(|tick| first(at(tick * minutes * 60), count))
                .collect();
            begun.sort_unstable();
            begun.dedup();
            assert_eq!(begun.len(), count, "every {minutes} minutes");
        }
    }
    assert_eq!(first(at(0), 0), 0);
    assert_eq!(first(at(61), 9), first(at(119), 9), "a tick is not at the second");
}
