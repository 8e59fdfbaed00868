//! The history.

use super::*;

#[test]
fn the_history_is_listed_newest_first_and_by_rule_fingerprint_and_time() {
    let admin = admin();
    let fired = fire(&admin, &["web-01", "web-02", "web-03"]);
    let whole = all(&admin, "/alerts/history", "history");
    assert!(whole.len() >= 3, "{whole:?}");
    assert!(
        whole
            .windows(2)
            .all(|pair| pair[0]["at"].as_str() >= pair[1]["at"].as_str())
    );
    let count = |query: &str| all(&admin, &format!("/alerts/history?{query}"), "history").len();
    let id = fired[0]["rule_id"].as_str().unwrap();
    assert_eq!(
        (count("rule=hot"), count(&format!("rule={id}")), count("rule=cold")),
        (whole.len(), whole.len(), 0)
    );
    let print = fired[0]["fingerprint"].as_str().unwrap();
    assert_eq!(count(&format!("fingerprint={print}")) * 3, whole.len());
    assert_eq!(count(&format!("end_time={}", NOW / 1_000 - 60)), 0);
    assert_eq!(count(&format!("start_time={}", NOW / 1_000 - 60)), whole.len());
}

#[test]
fn bad_parameters_are_refused_by_name() {
    let admin = admin();
    for (query, name) in [
        ("start_time=yesterday", "start_time"),
        ("end_time=1767225600000", "end_time"),
        ("start_time=20&end_time=10", "start_time"),
        ("limit=0", "limit"),
        ("next_token=%3F", "next_token"),
    ] {
        let refused = ask(&admin, "GET", &format!("/alerts/history?{query}"), &Value::Null);
        assert_eq!(field(&refused), (400, name), "{query}");
    }
}
