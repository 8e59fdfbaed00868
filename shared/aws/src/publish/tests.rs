use super::*;
use crate::testing::{Call, Reply, Script, Time};
use tidemark_rules::PublishError;

fn message(number: usize, bytes: usize) -> Message {
    Message::Wake {
        lane: format!("channel#{number}{}", "x".repeat(bytes)),
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
async fn only_failed_messages_are_published_again() {
    let script = Script::new([
        answer(&[0], &[(1, "InternalError", false), (2, "InvalidParameter", true)]),
        answer(&[1], &[]),
    ]);
    let messages: Vec<_> = (0..3).map(|number| message(number, 1)).collect();
    let results = topic(&script, &Time::new(0.5)).publish(&messages).await;
    assert_eq!(published(&results), [true, true, false]);
    assert_eq!(results[2].as_ref().unwrap_err().reason, "InvalidParameter");
    assert_eq!(
        script.calls().iter().map(ids).collect::<Vec<_>>(),
        [vec![0, 1, 2], vec![1]]
    );
    let text = "Message=%7B%22type%22%3A%22wake%22%2C%22lane%22%3A%22channel%230x%22%7D";
    assert!(script.calls()[0].text.contains(text), "{}", script.calls()[0].text);
}

#[tokio::test]
async fn batches_have_at_most_ten_messages_and_256_kib() {
    let script = Script::answering(|call| answer(&ids(call), &[]));
    let mut messages: Vec<_> = (0..12).map(|number| message(number, 1)).collect();
    messages.extend((12..15).map(|number| message(number, 120_000)));
    messages.push(message(15, 300_000));
    let results = topic(&script, &Time::new(0.5)).publish(&messages).await;
    let expected: Vec<bool> = (0..16).map(|number| number < 15).collect();
    assert_eq!(published(&results), expected);
    let batches: Vec<Vec<usize>> = script.calls().iter().map(ids).collect();
    assert_eq!(batches, [(0..10).collect::<Vec<_>>(), vec![10, 11, 12, 13], vec![14]]);
}

#[tokio::test]
async fn a_message_without_an_answer_is_not_published() {
    let script = Script::answering(|_| answer(&[], &[]));
    let results = topic(&script, &Time::new(1.0)).publish(&[message(0, 1)]).await;
    assert_eq!(published(&results), [false]);

    let script = Script::answering(|_| Reply::Reset);
    let results = topic(&script, &Time::new(1.0)).publish(&[message(0, 1)]).await;
    assert!(results[0].as_ref().unwrap_err().reason.contains("connection reset"));
}

#[tokio::test]
async fn nothing_to_publish_is_no_call() {
    let script = Script::new([]);
    assert!(topic(&script, &Time::new(0.5)).publish(&[]).await.is_empty());
}
