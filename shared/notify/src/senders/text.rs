//! What every receiver says when its channel has no templates, and how texts are made to fit.

use crate::notification::{Alert, Cause, Notification};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tidemark_model::{Timestamp, value};
use tidemark_rules::{Severity, TransitionKind};

/// The longest title, in bytes: what mail programs and phones show of it, and more.
pub(crate) const MAX_TITLE_BYTES: usize = 200;

/// The most alerts that a text lists; nobody reads more of them in a chat or a mail.
pub(crate) const MAX_LISTED: usize = 50;

/// The most bytes of one line: an annotation may have 4 KiB.
const MAX_LINE_BYTES: usize = 1_000;

/// How many alerts fire.
pub(crate) fn firing(notification: &Notification) -> usize {
    let alerts = notification.alerts.iter();
    alerts.filter(|alert| alert.status == TransitionKind::Firing).count()
}

/// The worst severity of what fires, or of all when nothing does.
pub(crate) fn worst(notification: &Notification) -> Severity {
    let fires = |alert: &&Alert| alert.status == TransitionKind::Firing;
    let all = || notification.alerts.iter();
    let worst_of = |severities: &mut dyn Iterator<Item = Severity>| severities.max_by_key(|one| rank(*one));
    worst_of(&mut all().filter(fires).map(|alert| alert.rule.severity))
        .or_else(|| worst_of(&mut all().map(|alert| alert.rule.severity)))
        .unwrap_or(Severity::Info)
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Critical => 2,
    }
}

/// The alerts in the order in which they are read: what fires first, the worst first, and then as they began.
pub(crate) fn ordered(notification: &Notification) -> Vec<&Alert> {
    let mut alerts: Vec<&Alert> = notification.alerts.iter().collect();
    alerts.sort_by_key(|alert| {
        (
            alert.status != TransitionKind::Firing,
            Reverse(rank(alert.rule.severity)),
        )
    });
    alerts
}

/// The title: `[FIRING:2] high_cpu (env=prod)`. One line.
pub(crate) fn title(notification: &Notification) -> String {
    let firing = firing(notification);
    let state = match (notification.cause, firing) {
        (Cause::Heartbeat, _) => "HEARTBEAT".to_owned(),
        (_, 0) => "RESOLVED".to_owned(),
        (Cause::Test, _) => "TEST".to_owned(),
        _ => format!("FIRING:{firing}"),
    };
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for alert in &notification.alerts {
        *names.entry(alert.rule.name.as_str()).or_default() += 1;
    }
    let mut title = format!("[{state}] ");
    if notification.is_digest {
        let _ = write!(title, "digest of {} alerts: ", notification.alerts.len());
    }
    if let ([name], false) = (names.keys().collect::<Vec<_>>().as_slice(), notification.is_digest) {
        title.push_str(name);
    } else {
        let each: Vec<String> = names.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        title.push_str(&each.join(", "));
    }
    let mut common = notification.common_labels();
    common.remove("alertname");
    if !common.is_empty() {
        let pairs: Vec<String> = common.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = write!(title, " ({})", pairs.join(", "));
    }
    cut(&one_line(&title), MAX_TITLE_BYTES)
}

/// The whole text, at most so many bytes.
pub(crate) fn body(notification: &Notification, now: Timestamp, max_bytes: usize) -> String {
    // Room for the last line.
    let room = max_bytes.saturating_sub(64);
    let mut text = String::new();
    let mut listed = 0;
    for alert in ordered(notification).into_iter().take(MAX_LISTED) {
        let mut block = String::from(if listed == 0 { "" } else { "\n" });
        let _ = writeln!(block, "{}: {}", state(alert), headline(alert));
        for line in details(alert, now) {
            let _ = writeln!(block, "  {line}");
        }
        if text.len() + block.len() > room {
            break;
        }
        text.push_str(&block);
        listed += 1;
    }
    if let Some(line) = omitted(notification, listed) {
        let _ = writeln!(text, "\n{line}");
    }
    text
}

/// `and 412 more`, when not all are listed.
pub(crate) fn omitted(notification: &Notification, listed: usize) -> Option<String> {
    let all = notification.alerts.len().saturating_add(notification.truncated_alerts);
    let count = all.saturating_sub(listed);
    (count > 0).then(|| format!("and {count} more"))
}

/// `Firing` or `Resolved`.
pub(crate) fn state(alert: &Alert) -> &'static str {
    match alert.status {
        TransitionKind::Firing => "Firing",
        _ => "Resolved",
    }
}

/// What an alert is about, in one line: its `summary`, or the name of its rule.
pub(crate) fn headline(alert: &Alert) -> String {
    let summary = alert.annotations.get("summary").filter(|text| !text.trim().is_empty());
    cut(&one_line(summary.unwrap_or(&alert.rule.name)), MAX_LINE_BYTES)
}

/// What else there is to know of an alert, a line for each: its name and labels, its value, its times, its other annotations.
pub(crate) fn details(alert: &Alert, now: Timestamp) -> Vec<String> {
    let labels = alert.labels.iter().filter(|(name, _)| *name != "alertname");
    let pairs: Vec<String> = labels.map(|(name, value)| format!("{name}={value:?}")).collect();
    let mut lines = vec![format!("{}{{{}}}", alert.rule.name, pairs.join(", "))];
    if !alert.rule.is_heartbeat() {
        lines.push(format!("value {} ({})", number(alert.value), reason(alert)));
    }
    let end = alert.ends_at.unwrap_or(now);
    let lasted = duration(end.0.saturating_sub(alert.starts_at.0) / 1_000);
    lines.push(match alert.ends_at {
        None => format!("since {}, for {lasted}", alert.starts_at.to_rfc3339()),
        Some(end) => format!(
            "from {} to {}, for {lasted}",
            alert.starts_at.to_rfc3339(),
            end.to_rfc3339()
        ),
    });
    let others = alert.annotations.iter().filter(|(name, _)| *name != "summary");
    lines.extend(others.map(|(name, text)| format!("{name}: {text}")));
    lines.iter().map(|line| cut(&one_line(line), MAX_LINE_BYTES)).collect()
}

/// A value as people write it.
pub(crate) fn number(number: f64) -> String {
    value::special_name(number).map_or_else(|| number.to_string(), str::to_owned)
}

/// `condition held`.
fn reason(alert: &Alert) -> String {
    let json = serde_json::to_value(alert.reason).unwrap_or_default();
    json.as_str().unwrap_or_default().replace('_', " ")
}

/// `1d 2h`, `5m 30s`: the two largest units.
pub(crate) fn duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
    ];
    let Some(first) = units.iter().position(|(count, _)| *count > 0) else {
        return "0s".to_owned();
    };
    let two = units.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    let words: Vec<String> = two.map(|(count, unit)| format!("{count}{unit}")).collect();
    words.join(" ")
}

/// A text without line breaks and other control characters, which have a meaning in the head of a mail.
pub(crate) fn one_line(text: &str) -> String {
    let is_break = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let line: String = text.chars().map(|c| if is_break(c) { ' ' } else { c }).collect();
    line.trim().to_owned()
}

/// A text of at most so many bytes; what is cut ends with an ellipsis.
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(max_bytes.saturating_sub(ELLIPSIS.len()));
    let mut short = text.get(..end).unwrap_or_default().to_owned();
    if max_bytes >= ELLIPSIS.len() {
        short.push_str(ELLIPSIS);
    }
    short
}

#[cfg(test)]
mod tests;
