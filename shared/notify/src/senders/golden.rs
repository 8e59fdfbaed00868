//! What each receiver is sent, whole, beside this file in `golden/`: a change of a form is seen in a diff. To write the files anew:
//! `cargo test -p tidemark-notify -- --ignored write_the_golden_files`.

use super::*;
use crate::fixtures::{alert, at, notification};
use crate::notification::Cause;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use tidemark_rules::Severity;

/// A firing with awkward texts; a group of which one alert is over; all over; a digest; a repeat with many; a heartbeat.
fn notifications() -> Vec<(&'static str, Notification)> {
    let mut awkward = alert("<!channel> & *co*", None);
    awkward
        .annotations
        .insert("description".into(), "line one\nline [two](http://x) `three`".into());
    awkward
        .annotations
        .insert("runbook_url".into(), "https://runbooks.example.org/cpu".into());
    let mut mixed = vec![alert("web-01", Some(120)), alert("web-02", None)];
    mixed[1].rule.severity = Severity::Warning;
    let mut digest = notification(vec![alert("web-01", None), alert("db-01", None)]);
    digest.alerts[1].rule.name = "disk_full".into();
    digest.alerts[1].labels.insert("alertname".into(), "disk_full".into());
    (digest.is_digest, digest.group_key) = (true, "{}:{digest}".into());
    digest.group_labels.clear();
    let mut many = notification((0..462).map(|n| alert(&format!("web-{n:03}"), None)).collect());
    (many.cause, many.truncated_alerts) = (Cause::Repeat, 38);
    let mut beat = notification(vec![alert("web-01", None)]);
    beat.cause = Cause::Heartbeat;
    beat.alerts[0].rule.query = json!({"kind": "heartbeat"});
    vec![
        ("firing", notification(vec![awkward])),
        ("mixed", notification(mixed)),
        ("resolved", notification(vec![alert("web-01", Some(120))])),
        ("digest", digest),
        ("many", many),
        ("heartbeat", beat),
    ]
}

fn channel(escapes: Escapes, templated: bool, notification: &Notification) -> Texts {
    let mut spec = ChannelSpec::parse(&json!({"type": "slack", "webhook_url": "ssm:/slack"})).unwrap();
    if templated {
        spec.title = Some("{{ status|upper }} on {{ channel }}".into());
        spec.body =
            Some("{% for alert in alerts %}*{{ alert.labels.host }}* is at {{ alert.value }}\n{% endfor %}".into());
    }
    templates::render(&spec, notification, at(300), escapes)
}

/// Every receiver's form of a notification.
fn forms(notification: &Notification, templated: bool) -> Vec<(&'static str, Value)> {
    let now = at(300);
    let texts = |escapes| channel(escapes, templated, notification);
    let to = ["ops@example.org".to_owned()];
    let plain = texts(PLAIN);
    let mail = email::mail("alerts@example.org", &to, notification, &plain, now);
    let sns = sns::message(notification, &plain, now);
    let attributes: BTreeMap<&str, String> = sns.attributes.into_iter().collect();
    vec![
        (
            "webhook",
            serde_json::from_slice(&webhook::body(notification).unwrap()).unwrap(),
        ),
        (
            "pagerduty",
            pagerduty::body(notification, &plain, "the-routing-key", now),
        ),
        ("slack", slack::body(notification, &texts(SLACK), now)),
        ("teams", teams::body(notification, &texts(TEAMS), now)),
        (
            "email",
            json!({"from": mail.from, "to": mail.to, "subject": mail.subject, "text": mail.text}),
        ),
        (
            "sns",
            json!({"subject": sns.subject, "text": sns.text, "attributes": attributes}),
        ),
    ]
}

/// All files: their names and what stands in them.
fn files() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/senders/golden"));
    let mut files = Vec::new();
    let mut add = |name: String, form: &Value| {
        let text = serde_json::to_string_pretty(form).unwrap() + "\n";
        files.push((folder.join(name), text));
    };
    for (case, notification) in notifications() {
        // The long ones are checked by their size.
        if case != "many" {
            for (receiver, form) in forms(&notification, false) {
                add(format!("{receiver}-{case}.json"), &form);
            }
        }
    }
    let (_, firing) = notifications().remove(0);
    for (receiver, form) in forms(&firing, true) {
        if receiver != "webhook" {
            add(format!("{receiver}-templated.json"), &form);
        }
    }
    files
}

#[test]
fn every_receiver_is_sent_what_the_golden_files_say() {
    for (path, text) in files() {
        let golden = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(golden, text, "{}", path.display());
    }
}

#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_files() {
    for (path, text) in files() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[test]
fn many_alerts_and_long_texts_fit_every_receiver() {
    let (_, mut many) = notifications().remove(4);
    check_sizes(&many, false);
    check_sizes(&many, true);
    many.alerts.truncate(120);
    for alert in &mut many.alerts {
        alert.labels.insert("path".into(), "<\"\\é".repeat(400));
        for n in 0..40 {
            alert.labels.insert(format!("label_{n}"), "y".repeat(500));
        }
        alert.annotations.insert("summary".into(), "&<\u{1}\"\n".repeat(800));
        alert.annotations.insert("description".into(), "*é\n".repeat(1_300));
    }
    many.group_key = "x".repeat(5_000);
    check_sizes(&many, false);
    check_sizes(&many, true);
}

fn check_sizes(many: &Notification, templated: bool) {
    let forms: BTreeMap<&str, Value> = forms(many, templated).into_iter().collect();
    for (&receiver, form) in &forms {
        let bytes = form.to_string().len();
        let limit = match receiver {
            "webhook" => 1_048_576,
            "pagerduty" => 512 * 1_024,
            "slack" => 100_000,
            "teams" => 14_000,
            // The 256 KiB of SNS, and of a mail that nobody waits for.
            _ => 256 * 1_024,
        };
        assert!(bytes <= limit, "{receiver}: {bytes}");
        // A template says what it likes.
        assert!(
            templated || receiver == "webhook" || form.to_string().contains(" more"),
            "{receiver}"
        );
    }
    let pagerduty = &forms["pagerduty"];
    assert!(pagerduty["dedup_key"].as_str().unwrap().len() <= 255);
    assert!(pagerduty["payload"]["summary"].as_str().unwrap().chars().count() <= 1_024);
    let slack = &forms["slack"];
    let blocks = slack["attachments"][0]["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50);
    for block in blocks {
        let text = block["text"]["text"]
            .as_str()
            .or(block["elements"][0]["text"].as_str())
            .unwrap();
        assert!(!text.is_empty() && text.chars().count() <= 3_000);
    }
    let subject = forms["sns"]["subject"].as_str().unwrap();
    assert!((1..=100).contains(&subject.len()) && subject.bytes().all(|b| (b' '..=b'~').contains(&b)));
    assert!(
        !forms["email"]["subject"]
            .as_str()
            .unwrap()
            .chars()
            .any(char::is_control)
    );
}

#[test]
fn a_group_has_one_deduplication_key_from_its_firing_to_its_end() {
    let firing = notification(vec![alert("web-01", None)]);
    let mut resolved = notification(vec![alert("web-01", Some(60))]);
    resolved.id = "another".into();
    assert_eq!(pagerduty::dedup_key(&firing), pagerduty::dedup_key(&resolved));
    let mut other = firing.clone();
    other.channel = "dev".into();
    assert_ne!(pagerduty::dedup_key(&firing), pagerduty::dedup_key(&other));
    other = firing.clone();
    other.group_key.push('x');
    assert_ne!(pagerduty::dedup_key(&firing), pagerduty::dedup_key(&other));
}

#[test]
fn slack_is_never_cut_within_an_entity_or_made_to_call_the_channel() {
    let text = slack::escape(&"<&>".repeat(3_000));
    let texts = Texts {
        title: text.clone(),
        body: Some(text),
        note: Some("<!here>".repeat(1_000)),
    };
    let one = notification(vec![alert("<!channel>", None)]);
    for form in [
        slack::body(&one, &texts, at(0)),
        slack::body(&one, &channel(SLACK, true, &one), at(0)),
    ] {
        let mut all = vec![form["text"].as_str().unwrap()];
        for block in form["attachments"][0]["blocks"].as_array().unwrap() {
            all.push(
                block["text"]["text"]
                    .as_str()
                    .or(block["elements"][0]["text"].as_str())
                    .unwrap(),
            );
        }
        for text in all {
            let without = text.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "");
            assert!(!without.contains(['<', '>', '&']), "{without}");
        }
    }
}

#[test]
fn a_runbook_that_is_no_link_is_none() {
    let mut one = notification(vec![alert("web-01", None)]);
    one.alerts[0]
        .annotations
        .insert("runbook_url".into(), "javascript:alert(1)".into());
    let texts = channel(PLAIN, false, &one);
    assert!(pagerduty::body(&one, &texts, "k", at(0)).get("links").is_none());
}
