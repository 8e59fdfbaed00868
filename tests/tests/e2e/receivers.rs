//! Every kind of channel on the deployed system, with secrets by reference: what its receiver gets; and that no secret shows anywhere.

use crate::scene::{CHANNELS, Scene};
use anyhow::{Context as _, ensure};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use tidemark_tests::harness::api::Request;
use tidemark_tests::harness::aws::{Aws, LOGS, SECRETS, SQS, SSM};
use tidemark_tests::harness::expect::{Labels, labels};
use tidemark_tests::harness::receiver::{Hook, Receiver, Reply};
use tidemark_tests::harness::smtp::MailSink;
use tidemark_tests::harness::{eventually, now_ms, unique, variable};

/// The functions that have to do with channels.
const LOG_GROUPS: [&str; 3] = ["admin", "evaluate", "notify"];

fn a_host() -> Labels {
    labels([("host", "web-01")])
}

/// A parameter under the installation's path, and the reference to it.
async fn parameter(aws: &Aws, value: &str) -> anyhow::Result<String> {
    let name = format!("/tidemark/{}", unique("e2e"));
    let request = json!({"Name": name, "Value": value, "Type": "SecureString"});
    aws.call(SSM, "PutParameter", request).await?;
    Ok(format!("ssm:{name}"))
}

/// A secret under the installation's path, and the reference to one of its fields.
async fn secret(aws: &Aws, key: &str, value: &str) -> anyhow::Result<String> {
    let name = format!("tidemark/{}", unique("e2e"));
    let text = json!({key: value, "other": "x"}).to_string();
    let request = json!({"Name": name, "SecretString": text});
    aws.call(SECRETS, "CreateSecret", request).await?;
    Ok(format!("secretsmanager:{name}#{key}"))
}

/// Fires and resolves, and waits until each was told.
async fn fire_and_resolve(scene: &Scene, told: impl Fn() -> usize) -> anyhow::Result<()> {
    for (value, state, count) in [(99.0, "firing", 1), (1.0, "resolved", 2)] {
        scene.measure(&a_host(), value).await?;
        scene.until(&a_host(), state).await?;
        eventually(&format!("what tells that it is {state}"), async || {
            ensure!(told() >= count, "{} of {count}", told());
            Ok(Some(()))
        })
        .await?;
    }
    ensure!(told() == 2, "told {} times", told());
    Ok(())
}

/// Checks that nothing that the API answers about a channel, and nothing that the functions have logged since, holds any of the texts.
async fn shows_none_of(scene: &Scene, aws: &Aws, since: i64, texts: &[&str]) -> anyhow::Result<()> {
    let channel = scene.channel.as_deref().context("no channel")?;
    let shown = scene
        .api
        .get(&format!("{CHANNELS}/{channel}"), &[])
        .await?
        .expect(200)?;
    let answers = [shown, json!(scene.history().await?), json!(scene.instances().await?)];
    for text in texts {
        ensure!(
            !answers.iter().any(|json| json.to_string().contains(text)),
            "an answer shows {text}"
        );
    }
    for function in LOG_GROUPS {
        let request = json!({"logGroupName": format!("/tidemark/tidemark/{function}"), "startTime": since});
        let found = aws.call(LOGS, "FilterLogEvents", request).await?;
        let lines = found["events"].as_array().context("no events")?;
        for line in lines.iter().filter_map(|line| line["message"].as_str()) {
            for text in texts {
                ensure!(!line.contains(text), "{function} has logged {text}: {line}");
            }
        }
    }
    Ok(())
}

fn hmac(key: &str, text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("keys of any length");
    mac.update(text);
    let code = mac.finalize().into_bytes();
    code.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks the signature as a receiver would: over the bytes that came.
fn signed(hook: &Hook, keys: &[(&str, &str)]) -> anyhow::Result<()> {
    let header = hook.header("x-tidemark-signature");
    let parts = header.split(',').filter_map(|part| part.split_once('='));
    let parts: BTreeMap<&str, &str> = parts.collect();
    let at = *parts.get("t").with_context(|| format!("no time in {header}"))?;
    ensure!(at == hook.header("x-tidemark-timestamp"), "{header}");
    let mut text = format!("{at}.").into_bytes();
    text.extend_from_slice(&hook.bytes);
    for (id, key) in keys {
        ensure!(
            parts.get(id) == Some(&hmac(key, &text).as_str()),
            "the key {id} has not made {header}"
        );
    }
    ensure!(parts.len() == keys.len() + 1, "{header}");
    Ok(())
}

#[tokio::test]
async fn a_webhook_is_signed_with_every_key_over_its_exact_bytes() -> anyhow::Result<()> {
    let (aws, since) = (Aws::from_env()?, now_ms());
    let keys = [unique("first-key"), unique("second-key"), unique("bearer")];
    let channel = json!({
        "signing_keys": [
            {"id": "k2", "secret": parameter(&aws, &keys[0]).await?},
            {"id": "k1", "secret": secret(&aws, "key", &keys[1]).await?},
        ],
        "headers": {"authorization": parameter(&aws, &format!("Bearer {}", keys[2])).await?},
    });
    let scene = Scene::with_channel(channel, json!({})).await?;
    fire_and_resolve(&scene, || scene.receiver.hooks().len()).await?;
    for hook in scene.receiver.hooks() {
        signed(&hook, &[("k2", &keys[0]), ("k1", &keys[1])])?;
        assert_eq!(hook.header("authorization"), format!("Bearer {}", keys[2]));
        assert_eq!(hook.body["version"], "4", "{}", hook.body);
    }
    shows_none_of(&scene, &aws, since, &keys.each_ref().map(String::as_str)).await?;
    scene.delete().await
}

#[tokio::test]
async fn slack_and_teams_are_told_at_their_secret_addresses() -> anyhow::Result<()> {
    let aws = Aws::from_env()?;
    for kind in ["slack", "teams"] {
        let (since, path) = (now_ms(), format!("/services/{}", unique("secret")));
        let receiver = Receiver::start(&[]).await?;
        receiver.next(&path, [Reply::Status(503)]);
        let address = parameter(&aws, &receiver.at(&path)).await?;
        let channel = json!({"type": kind, "url": null, "webhook_url": address});
        let scene = Scene::with_receiver(receiver, channel, json!({})).await?;
        let told = || {
            scene
                .receiver
                .came_to(&path)
                .iter()
                .filter(|hook| hook.answered == 200)
                .count()
        };
        fire_and_resolve(&scene, told).await?;
        let came = scene.receiver.came_to(&path);
        let card = &came[1].body;
        let attachment = &card["attachments"][0];
        if kind == "slack" {
            assert!(card["text"].as_str().unwrap().contains(&scene.rule_name), "{card}");
            assert!(
                attachment["color"].is_string() && attachment["blocks"].is_array(),
                "{card}"
            );
        } else {
            assert_eq!(card["type"], "message", "{card}");
            assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
            assert_eq!(attachment["content"]["type"], "AdaptiveCard", "{card}");
        }
        assert!(card.to_string().contains("web-01 is at 99"), "{card}");
        assert!(
            came[2].body.to_string().to_lowercase().contains("resolved"),
            "{}",
            came[2].body
        );
        shows_none_of(&scene, &aws, since, &[&path]).await?;
        scene.delete().await?;
    }
    Ok(())
}

#[tokio::test]
async fn pagerduty_is_triggered_and_resolved_under_one_key() -> anyhow::Result<()> {
    let (aws, since, routing_key) = (Aws::from_env()?, now_ms(), unique("routing"));
    let receiver = Receiver::start(&[]).await?;
    let taken = Reply::Body(
        202,
        json!({"status": "success", "message": "Event processed"}).to_string(),
    );
    receiver.always("/v2/enqueue", taken);
    let channel = json!({
        "type": "pagerduty", "url": null, "routing_key": secret(&aws, "key", &routing_key).await?,
        "api_url": receiver.at("/v2/enqueue"),
    });
    let scene = Scene::with_receiver(receiver, channel, json!({})).await?;
    fire_and_resolve(&scene, || scene.receiver.hooks().len()).await?;
    let events = scene.receiver.came_to("/v2/enqueue");
    let [trigger, resolve] = [&events[0].body, &events[1].body];
    assert_eq!(trigger["event_action"], "trigger", "{trigger}");
    assert_eq!(trigger["routing_key"], routing_key.as_str());
    assert_eq!(trigger["payload"]["severity"], "critical", "{trigger}");
    assert_eq!(trigger["payload"]["source"], "web-01", "{trigger}");
    assert!(
        trigger["payload"]["summary"]
            .as_str()
            .unwrap()
            .contains(&scene.rule_name),
        "{trigger}"
    );
    assert_eq!(resolve["event_action"], "resolve", "{resolve}");
    assert_eq!(resolve["dedup_key"], trigger["dedup_key"]);
    shows_none_of(&scene, &aws, since, &[&routing_key]).await?;
    scene.delete().await
}

#[tokio::test]
async fn mail_goes_out_through_ses() -> anyhow::Result<()> {
    // The one test that takes mail: the stack relays all of it to this port.
    let sink = MailSink::start(variable("TIDEMARK_SMTP_PORT")?.parse()?).await?;
    // SES sends for who has been verified only; the emulator believes everybody.
    let verify = [
        ("Action", "VerifyEmailIdentity"),
        ("EmailAddress", "tidemark@example.org"),
        ("Version", "2010-12-01"),
    ];
    Aws::from_env()?.form("ses", &verify).await?;
    let to = format!("{}@example.org", unique("ann"));
    let channel = json!({
        "type": "email", "url": null, "from": "tidemark@example.org", "to": [to],
        "title": "[{{ status }}] {{ common_labels.alertname }} – größer",
    });
    let scene = Scene::with_channel(channel, json!({})).await?;
    fire_and_resolve(&scene, || sink.mails_to(&to).len()).await?;
    let mails = sink.mails_to(&to);
    assert_eq!(mails[0].from, "tidemark@example.org");
    let ids = [0, 1].map(|number: usize| mails[number].header("x-tidemark-notification-id"));
    assert!(!ids[0].is_empty() && ids[0] != ids[1], "{ids:?}");
    let subject = mails[0].header("subject");
    assert!(
        subject.contains(&scene.rule_name) && subject.contains("größer"),
        "{subject}"
    );
    assert!(subject.to_lowercase().contains("firing"), "{subject}");
    let text = mails[0].text();
    assert!(text.contains("web-01 is at 99 (limit 90)"), "{text}");
    let subject = mails[1].header("subject");
    assert!(subject.to_lowercase().contains("resolved"), "{subject}");
    scene.delete().await
}

/// The text between two tags of an XML answer.
fn between<'a>(xml: &'a str, tag: &str) -> anyhow::Result<&'a str> {
    let (_, rest) = xml
        .split_once(&format!("<{tag}>"))
        .with_context(|| format!("no {tag} in {xml}"))?;
    let (text, _) = rest.split_once(&format!("</{tag}>")).context("no end")?;
    Ok(text)
}

#[tokio::test]
async fn an_sns_topic_gets_a_subject_a_text_and_attributes() -> anyhow::Result<()> {
    let (aws, name) = (Aws::from_env()?, unique("tidemark-e2e"));
    let version = ("Version", "2010-03-31");
    let made = aws
        .form("sns", &[("Action", "CreateTopic"), ("Name", &name), version])
        .await?;
    let topic = between(&made, "TopicArn")?;
    let queue = aws.call(SQS, "CreateQueue", json!({"QueueName": name})).await?;
    let queue = queue["QueueUrl"].as_str().context("no queue")?;
    let arn = json!({"QueueUrl": queue, "AttributeNames": ["QueueArn"]});
    let arn = aws.call(SQS, "GetQueueAttributes", arn).await?;
    let arn = arn["Attributes"]["QueueArn"].as_str().context("no ARN")?.to_owned();
    let policy = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": arn, "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
    }]});
    let policy = json!({"QueueUrl": queue, "Attributes": {"Policy": policy.to_string()}});
    aws.call(SQS, "SetQueueAttributes", policy).await?;
    let subscribe = [
        ("Action", "Subscribe"),
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", &arn),
        version,
    ];
    aws.form("sns", &subscribe).await?;

    let channel = json!({"type": "sns", "url": null, "topic_arn": topic});
    let scene = Scene::with_channel(channel, json!({})).await?;
    scene.measure(&a_host(), 99.0).await?;
    scene.until(&a_host(), "firing").await?;
    let message = eventually("the message of the topic", async || {
        let messages = aws.messages(queue, |_| true).await?;
        Ok(messages.first().cloned())
    })
    .await?;
    let envelope: Value = serde_json::from_str(message["Body"].as_str().context("no body")?)?;
    assert!(envelope["Subject"].as_str().unwrap().contains("web-01"), "{envelope}");
    assert!(
        envelope["Message"].as_str().unwrap().contains("web-01 is at 99"),
        "{envelope}"
    );
    let attributes = &envelope["MessageAttributes"];
    assert_eq!(attributes["status"]["Value"], "firing", "{envelope}");
    assert_eq!(attributes["severity"]["Value"], "critical", "{envelope}");
    scene.delete().await?;
    aws.call(SQS, "DeleteQueue", json!({"QueueUrl": queue})).await?;
    aws.form("sns", &[("Action", "DeleteTopic"), ("TopicArn", topic), version])
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_a_failure_that_names_it_and_not_its_value() -> anyhow::Result<()> {
    let scene = Scene::with_channel(
        json!({"type": "slack", "url": null, "webhook_url": "ssm:/tidemark/nowhere"}),
        json!({}),
    )
    .await?;
    let path = format!("{CHANNELS}/{}/test", scene.channel.as_deref().unwrap());
    let tried = scene.api.call("POST", &path, Request::json("{}")).await?.expect(200)?;
    assert_eq!(tried["delivered"], false, "{tried}");
    assert!(
        tried["error"].as_str().unwrap().contains("ssm:/tidemark/nowhere"),
        "{tried}"
    );
    scene.delete().await
}
