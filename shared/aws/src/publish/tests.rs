use super::*;
use crate::testing::{Call, Reply, Script, Time};
use tidemark_model::{Labels, Timestamp};
use tidemark_rules::{Condition, RuleSnapshot, Severity, TransitionKind, TransitionReason};

fn event(number: usize, annotation_bytes: usize) -> TransitionEvent {
    let rule = RuleSnapshot {
        id: "rule-1".into(),
        version: 1,
        name: "high".into(),
        metric_name: "cpu".into(),
        labels: serde_json::json!({}),
        aggregation: None,
        group_by: Vec::new(),
        condition: Condition::Greater,
        threshold: 90.0,
        severity: Severity::Critical,
        notification_channels: vec!["webhook".into()],
        webhook_url: None,
    };
    TransitionEvent {
        schema_version: TransitionEvent::SCHEMA_VERSION,
        id: format!("rule-1.{number}.1.firing"),
        instance_id: format!("rule-1.{number}"),
        fingerprint: number.to_string(),
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: Timestamp(1_000),
        pending_since: None,
        firing_since: Timestamp(1_000),
        resolved_at: None,
        value: f64::NAN,
        labels: Labels::default(),
        annotations: [("summary".to_owned(), "x".repeat(annotation_bytes))].into(),
        rule,
    }
}

fn topic(script: &Script, time: &Time) -> AlertTopic {
    AlertTopic::with(script.clients().sns(), "arn:aws:sns:us-east-1:1:alerts", time.pace())
}

fn answer(sent: &[usize], failed: &[(usize, &str, bool)]) -> Reply {
    let sent: String = sent
        .iter()
        .map(|id| format!("<member><Id>{id}</Id><MessageId>m</MessageId></member>"))
        .collect();
    let failed: String = failed
        .iter()
        .map(|(id, code, fault)| {
            format!("<member><Id>{id}</Id><Code>{code}</Code><SenderFault>{fault}</SenderFault></member>")
        })
        .collect();
    Reply::Xml(format!(
        "<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishBatchResult>\
         <Successful>{sent}</Successful><Failed>{failed}</Failed></PublishBatchResult></PublishBatchResponse>"
    ))
}

/// The ids of the entries of a call.
fn ids(call: &Call) -> Vec<usize> {
    call.text
        .split('&')
        .filter(|pair| pair.starts_with("PublishBatchRequestEntries.member.") && pair.contains(".Id="))
        .filter_map(|pair| pair.split_once('=')?.1.parse().ok())
        .collect()
}

fn published(results: &[Result<(), PublishError>]) -> Vec<bool> {
    results.iter().map(Result::is_ok).collect()
}

#[tokio::test]
async fn only_failed_events_are_published_again() {
    let script = Script::new([
        answer(&[0], &[(1, "InternalError", false), (2, "InvalidParameter", true)]),
        answer(&[1], &[]),
    ]);
    let events: Vec<_> = (0..3).map(|number| event(number, 1)).collect();
    let results = topic(&script, &Time::new(0.5)).publish(&events).await;
    assert_eq!(published(&results), [true, true, false]);
    assert_eq!(results[2].as_ref().unwrap_err().reason, "InvalidParameter");
    assert_eq!(
        script.calls().iter().map(ids).collect::<Vec<_>>(),
        [vec![0, 1, 2], vec![1]]
    );
}

#[tokio::test]
async fn batches_have_at_most_ten_events_and_256_kib() {
    let script = Script::answering(|call| answer(&ids(call), &[]));
    let mut events: Vec<_> = (0..12).map(|number| event(number, 1)).collect();
    events.extend((12..15).map(|number| event(number, 120_000)));
    events.push(event(15, 300_000));
    let results = topic(&script, &Time::new(0.5)).publish(&events).await;
    let expected: Vec<bool> = (0..16).map(|number| number < 15).collect();
    assert_eq!(published(&results), expected);
    let batches: Vec<Vec<usize>> = script.calls().iter().map(ids).collect();
    assert_eq!(batches, [(0..10).collect::<Vec<_>>(), vec![10, 11, 12, 13], vec![14]]);
}

#[tokio::test]
async fn an_event_without_an_answer_is_not_published() {
    let script = Script::answering(|_| answer(&[], &[]));
    let results = topic(&script, &Time::new(1.0)).publish(&[event(0, 1)]).await;
    assert_eq!(published(&results), [false]);

    let script = Script::answering(|_| Reply::Reset);
    let results = topic(&script, &Time::new(1.0)).publish(&[event(0, 1)]).await;
    assert!(results[0].as_ref().unwrap_err().reason.contains("connection reset"));
}

#[tokio::test]
async fn nothing_to_publish_is_no_call() {
    let script = Script::new([]);
    assert!(topic(&script, &Time::new(0.5)).publish(&[]).await.is_empty());
}
