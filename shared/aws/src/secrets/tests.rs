use super::*;
use crate::testing::{Reply, Script, Time};
use serde_json::json;

fn reader(script: &Script, time: &Time) -> SecretReader {
    let clients = script.clients();
    SecretReader::with(clients.ssm(), clients.secretsmanager(), time.pace())
}

fn reference(text: &str) -> SecretRef {
    text.parse().unwrap()
}

fn parameter(value: &str) -> Reply {
    Reply::Json(json!({"Parameter": {"Name": "/tidemark/slack", "Type": "SecureString", "Value": value}}))
}

async fn read(reader: &SecretReader, text: &str) -> Result<String, SecretError> {
    let value = reader.read(&reference(text)).await?;
    Ok(value.expose_secret().to_owned())
}

#[tokio::test]
async fn parameters_are_read_decrypted_and_remembered_for_some_minutes() {
    let script = Script::new([parameter("one"), parameter("two")]);
    let time = Time::new(0.5);
    let reader = reader(&script, &time);
    for _ in 0..3 {
        assert_eq!(read(&reader, "ssm:/tidemark/slack").await.unwrap(), "one");
    }
    assert_eq!(script.calls()[0].operation, "GetParameter");
    assert_eq!(
        script.calls()[0].body,
        json!({"Name": "/tidemark/slack", "WithDecryption": true})
    );
    time.advance(Duration::from_secs(301));
    assert_eq!(read(&reader, "ssm:/tidemark/slack").await.unwrap(), "two");
    assert_eq!(script.calls().len(), 2);
}

#[tokio::test]
async fn a_secret_or_a_field_of_it_is_read() {
    let secret = |text: &str| Reply::Json(json!({"ARN": "a", "Name": "n", "SecretString": text}));
    let script = Script::new([
        secret("plain"),
        secret("{\"key\":\"of the field\",\"number\":1}"),
        secret("{\"key\":1}"),
        secret("{}"),
        secret("[hunter2]"),
        secret(""),
        Reply::Json(json!({"ARN": "a", "Name": "n", "SecretBinary": "aHVudGVyMg=="})),
    ]);
    let reader = reader(&script, &Time::new(0.5));
    assert_eq!(read(&reader, "secretsmanager:a").await.unwrap(), "plain");
    assert_eq!(script.calls()[0].body, json!({"SecretId": "a"}));
    assert_eq!(read(&reader, "secretsmanager:b#key").await.unwrap(), "of the field");
    for (text, reason) in [
        ("secretsmanager:c#key", "its field is no text"),
        ("secretsmanager:d#key", "it has no such field"),
        ("secretsmanager:e#key", "it is no JSON object"),
        ("secretsmanager:f", "it is empty"),
        ("secretsmanager:g", "it is no text"),
    ] {
        let error = read(&reader, text).await.unwrap_err();
        assert_eq!(error, unusable(&reference(text), reason));
        assert!(!error.to_string().contains("hunter2"));
    }
}

#[tokio::test]
async fn what_lasts_is_told_from_what_passes() {
    let outcome = async |reply: Reply, text: &str| {
        let script = Script::answering(move |_| reply.clone());
        read(&reader(&script, &Time::new(0.5)), text).await.unwrap_err()
    };
    for (code, text) in [
        ("ParameterNotFound", "ssm:a"),
        ("AccessDeniedException", "ssm:a"),
        ("ResourceNotFoundException", "secretsmanager:a"),
        ("AccessDeniedException", "secretsmanager:a"),
    ] {
        let error = outcome(Reply::error(400, code), text).await;
        assert!(matches!(error, SecretError::Unusable { .. }), "{error:?}");
        assert!(!error.to_string().contains("scripted"), "{error}");
    }
    for reply in [
        Reply::error(400, "ThrottlingException"),
        Reply::error(500, "InternalServerError"),
        Reply::error(400, "ExpiredTokenException"),
        Reply::Reset,
    ] {
        for text in ["ssm:a", "secretsmanager:a"] {
            let error = outcome(reply.clone(), text).await;
            assert!(matches!(error, SecretError::Unavailable { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn the_last_known_secret_serves_while_the_service_is_down_and_not_after_it_was_taken_away() {
    let mut replies = vec![parameter("one")];
    // The SDK itself asks three times.
    replies.extend(std::iter::repeat_n(Reply::error(500, "InternalServerError"), 3));
    replies.push(Reply::error(400, "ParameterNotFound"));
    replies.extend(std::iter::repeat_n(Reply::error(500, "InternalServerError"), 3));
    let script = Script::new(replies);
    let time = Time::new(0.5);
    let reader = reader(&script, &time);
    assert_eq!(read(&reader, "ssm:a").await.unwrap(), "one");
    time.advance(Duration::from_secs(600));
    assert_eq!(read(&reader, "ssm:a").await.unwrap(), "one");
    let gone = read(&reader, "ssm:a").await.unwrap_err();
    assert!(matches!(gone, SecretError::Unusable { .. }), "{gone:?}");
    let down = read(&reader, "ssm:a").await.unwrap_err();
    assert!(matches!(down, SecretError::Unavailable { .. }), "{down:?}");
}

#[tokio::test]
async fn no_secret_shows() {
    let script = Script::new([parameter("hunter2")]);
    let reader = reader(&script, &Time::new(0.5));
    let value = reader.read(&reference("ssm:a")).await.unwrap();
    assert!(!format!("{reader:?} {value:?}").contains("hunter2"));
}
