use super::*;
use crate::fixtures::{alert, at, notification};

#[test]
fn a_title_says_how_many_fire_of_what_and_where() {
    let two = notification(vec![alert("web-01", None), alert("web-02", None)]);
    assert_eq!(title(&two), "[FIRING:2] high_cpu (severity=critical)");
    let over = notification(vec![alert("web-01", Some(60))]);
    assert_eq!(title(&over), "[RESOLVED] high_cpu (host=web-01, severity=critical)");
    let mut mixed = notification(vec![alert("web-01", None), alert("web-02", Some(60))]);
    mixed.alerts[1].rule.name = "disk_full".into();
    mixed.alerts[1].labels.insert("alertname".into(), "disk_full".into());
    assert_eq!(
        title(&mixed),
        "[FIRING:1] disk_full (1), high_cpu (1) (severity=critical)"
    );
    mixed.is_digest = true;
    assert_eq!(
        title(&mixed),
        "[FIRING:1] digest of 2 alerts: disk_full (1), high_cpu (1) (severity=critical)"
    );
    let mut beat = notification(vec![alert("web-01", None)]);
    beat.cause = Cause::Heartbeat;
    assert!(title(&beat).starts_with("[HEARTBEAT] high_cpu"));
    let test = Notification::test("ops", "id", TransitionKind::Firing, at(0));
    assert_eq!(title(&test), "[TEST] test_notification (severity=info)");
}

#[test]
fn a_title_is_one_short_line_whatever_labels_hold() {
    let mut one = notification(vec![alert("web-01", None)]);
    let value = format!("a\r\nBcc: x@example.org\u{2028}{}", "é".repeat(500));
    one.alerts[0].labels.insert("host".into(), value);
    let title = title(&one);
    assert!(!title.chars().any(|c| c.is_control() || c == '\u{2028}'), "{title}");
    assert!(title.len() <= MAX_TITLE_BYTES && title.ends_with('…'), "{title}");
}

#[test]
fn the_worst_that_fires_counts() {
    let mut two = notification(vec![alert("web-01", None), alert("web-02", Some(60))]);
    two.alerts[0].rule.severity = Severity::Warning;
    assert_eq!(worst(&two), Severity::Warning);
    two.alerts.remove(0);
    assert_eq!(worst(&two), Severity::Critical);
}

#[test]
fn what_fires_comes_first_and_of_that_the_worst() {
    let mut all = notification(vec![
        alert("a", Some(60)),
        alert("b", None),
        alert("c", None),
        alert("d", None),
    ]);
    all.alerts[1].rule.severity = Severity::Info;
    let hosts: Vec<&str> = ordered(&all)
        .iter()
        .map(|alert| alert.labels["host"].as_str())
        .collect();
    assert_eq!(hosts, ["c", "d", "b", "a"]);
}

#[test]
fn a_body_lists_what_there_is_room_for_and_counts_the_rest() {
    let mut many = notification((0..462).map(|n| alert(&format!("web-{n}"), None)).collect());
    let text = body(&many, at(90), 65_536);
    assert!(text.ends_with("and 412 more\n"), "{text}");
    many.truncated_alerts = 38;
    let text = body(&many, at(90), 1_000);
    assert!(text.len() <= 1_000, "{text}");
    let listed = text.matches("Firing: ").count();
    assert!(
        listed > 2 && text.ends_with(&format!("and {} more\n", 500 - listed)),
        "{text}"
    );
}

#[test]
fn durations_have_two_units() {
    for (seconds, text) in [
        (-5, "0s"),
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3_599, "59m 59s"),
        (3_601, "1h"),
        (93_600, "1d 2h"),
        (i64::MAX, "106751991167300d 15h"),
    ] {
        assert_eq!(duration(seconds), text);
    }
}

#[test]
fn texts_are_cut_between_characters() {
    assert_eq!(cut("abc", 3), "abc");
    assert_eq!(cut("abcd", 3), "…");
    assert_eq!(cut("abcdé", 5), "ab…");
    assert_eq!(cut("éé", 3), "…");
    assert_eq!(cut("éé", 2), "");
}
