use super::*;
use crate::settings::TimeRange;

fn interval(fields: &serde_json::Value) -> TimeInterval {
    serde_json::from_value(fields.clone()).unwrap()
}

fn contains(fields: &serde_json::Value, time: &str) -> bool {
    let interval = interval(fields);
    interval.check().unwrap();
    interval.contains(Timestamp::parse(time).unwrap())
}

fn fault(fields: &serde_json::Value) -> String {
    interval(fields).check().unwrap_err().to_string()
}

fn mute_time(fields: &serde_json::Value) -> MuteTime {
    MuteTime {
        id: "nights".into(),
        time_intervals: vec![interval(fields)],
        version: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

use serde_json::json;

#[test]
fn an_interval_without_fields_is_always() {
    assert!(contains(&json!({}), "2026-11-22T18:00:00Z"));
}

#[test]
fn times_of_the_day_include_their_start_and_not_their_end() {
    let office = json!({"times": [{"start_time": "09:00", "end_time": "17:30"}]});
    assert!(!contains(&office, "2026-11-22T08:59:59.999Z"));
    assert!(contains(&office, "2026-11-22T09:00:00Z"));
    assert!(contains(&office, "2026-11-22T17:29:59.999Z"));
    assert!(!contains(&office, "2026-11-22T17:30:00Z"));
}

#[test]
fn a_day_ends_at_twenty_four_hours() {
    let late = json!({"times": [{"start_time": "23:00", "end_time": "24:00"}]});
    assert!(contains(&late, "2026-11-22T23:59:59.999Z"));
    assert!(!contains(&late, "2026-11-23T00:00:00Z"));
}

#[test]
fn weekdays_include_both_ends_in_any_case() {
    let week = json!({"weekdays": ["Monday:friday"]});
    assert!(contains(&week, "2026-11-20T23:00:00Z"), "a Friday");
    assert!(!contains(&week, "2026-11-21T00:00:00Z"), "a Saturday");
    assert!(contains(&json!({"weekdays": ["sunday"]}), "2026-11-22T12:00:00Z"));
}

#[test]
fn negative_days_count_from_the_end_of_the_month() {
    let last = json!({"days_of_month": ["-3:-1"]});
    assert!(contains(&last, "2026-02-26T00:00:00Z"));
    assert!(!contains(&last, "2026-02-25T00:00:00Z"));
    assert!(contains(&last, "2024-02-29T00:00:00Z"), "a leap year");
    assert!(!contains(&last, "2024-02-26T00:00:00Z"));
    assert!(contains(&json!({"days_of_month": ["1:-1"]}), "2026-12-31T00:00:00Z"));
    assert!(!contains(&json!({"days_of_month": ["31"]}), "2026-11-30T00:00:00Z"));
}

#[test]
fn months_are_numbers_or_names_and_years_numbers() {
    assert!(contains(&json!({"months": ["november:12"]}), "2026-11-22T00:00:00Z"));
    assert!(!contains(&json!({"months": ["1:10"]}), "2026-11-22T00:00:00Z"));
    assert!(contains(&json!({"years": ["2025:2026"]}), "2026-11-22T00:00:00Z"));
    assert!(!contains(&json!({"years": ["2027"]}), "2026-11-22T00:00:00Z"));
}

#[test]
fn all_fields_must_hold_and_of_each_one_range() {
    let both = json!({"weekdays": ["monday", "sunday"], "times": [{"start_time": "18:00", "end_time": "19:00"}]});
    assert!(contains(&both, "2026-11-22T18:30:00Z"));
    assert!(!contains(&both, "2026-11-22T19:30:00Z"));
    assert!(!contains(&both, "2026-11-24T18:30:00Z"));
}

#[test]
fn a_location_moves_days_and_hours_also_over_daylight_saving() {
    let morning = json!({"times": [{"start_time": "08:00", "end_time": "09:00"}], "location": "Europe/Berlin"});
    assert!(contains(&morning, "2026-01-15T07:30:00Z"), "an hour ahead in winter");
    assert!(contains(&morning, "2026-07-15T06:30:00Z"), "two in summer");
    let sunday = json!({"weekdays": ["sunday"], "location": "Pacific/Auckland"});
    assert!(contains(&sunday, "2026-11-21T12:00:00Z"), "it is Sunday there already");
}

#[test]
fn what_cannot_be_read_is_named() {
    let times = |start: &str, end: &str| json!({"times": [{"start_time": start, "end_time": end}]});
    assert_eq!(
        fault(&times("9:00", "17:00")),
        "times[0].start_time must be a time of the day from 00:00 to 24:00, written HH:MM"
    );
    for bad in ["24:01", "12:60", "-1:00", "1200", "+1:00", ""] {
        assert!(
            fault(&times("00:00", bad)).starts_with("times[0].end_time must be"),
            "{bad}"
        );
    }
    assert_eq!(
        fault(&times("22:00", "06:00")),
        "times[0] must end after it starts: a range does not wrap around midnight"
    );
    assert!(fault(&json!({"weekdays": ["monday", "fri"]})).starts_with("weekdays[1] must be a weekday"));
    assert!(fault(&json!({"weekdays": ["friday:monday"]})).starts_with("weekdays[0] must not end before"));
    for bad in ["0", "32", "-32", "1:", "x", "99999999999999999999"] {
        assert!(fault(&json!({"days_of_month": [bad]})).starts_with("days_of_month[0] must be a day"));
    }
    assert!(fault(&json!({"days_of_month": ["-3:5"]})).starts_with("days_of_month[0] must end with a negative"));
    assert!(fault(&json!({"days_of_month": ["-1:-3"]})).starts_with("days_of_month[0] must not end before"));
    assert!(fault(&json!({"months": ["13"]})).starts_with("months[0] must be a month"));
    assert!(fault(&json!({"years": ["0"]})).starts_with("years[0] must be a year"));
    assert!(fault(&json!({"location": "Europe/Nowhere"})).starts_with("location must be an IANA time zone"));
}

#[test]
fn an_interval_that_cannot_be_read_mutes_nothing() {
    let bad = TimeInterval {
        times: vec![TimeRange {
            start_time: "x".into(),
            end_time: "y".into(),
        }],
        ..TimeInterval::default()
    };
    assert!(!bad.contains(Timestamp(0)));
    assert!(
        !TimeInterval::default().contains(Timestamp(i64::MAX)),
        "beyond the calendar"
    );
}

#[test]
fn a_mute_time_says_when_to_look_again() {
    let night = mute_time(&json!({"times": [{"start_time": "00:00", "end_time": "06:00"}]}));
    let at = |time: &str| Timestamp::parse(time).unwrap();
    assert_eq!(night.muted_until(at("2026-11-22T06:00:00Z")), None);
    assert_eq!(
        night.muted_until(at("2026-11-22T05:50:30Z")),
        Some(at("2026-11-22T06:00:00Z"))
    );
    assert_eq!(
        night.muted_until(at("2026-11-22T03:00:10Z")),
        Some(at("2026-11-22T03:15:00Z")),
        "far from its end: a quarter of an hour later"
    );
}
