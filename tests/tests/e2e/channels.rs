//! Channels over HTTP: create, read, replace, patch, delete, list, try; and that no secret is ever answered.

use crate::scene::{CHANNELS, RULES, changed};
use serde_json::{Value, json};
use tidemark_tests::harness::api::{Answer, Api, Request};
use tidemark_tests::harness::receiver::{Receiver, Reply};
use tidemark_tests::harness::unique;

async fn with_body(api: &Api, method: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
    api.call(method, path, Request::json(body.to_string())).await
}

async fn delete(api: &Api, path: &str) -> anyhow::Result<()> {
    let deleted = api.call("DELETE", path, Request::default()).await?;
    deleted.expect(204).map(drop)
}

#[tokio::test]
async fn a_channel_lives_from_create_to_delete() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let name = unique("e2e-channel");
    let written = json!({
        "name": name, "type": "webhook", "url": "https://example.org/hook",
        "signing_keys": [{"id": "k1", "secret": "ssm:/tidemark/k1"}],
        "headers": {"authorization": "secretsmanager:tidemark/hook#token"},
        "group_by": ["alertname", "region"], "group_wait_seconds": 5, "group_interval_seconds": 60,
        "repeat_interval_seconds": 3600, "send_resolved": false,
        "rate_limit": {"notifications": 5, "per_seconds": 60},
    });
    let created = api.post(CHANNELS, &written).await?.expect(201)?;
    for (field, value) in written.as_object().unwrap() {
        let field = if field == "name" { "id" } else { field };
        assert_eq!(&created[field], value, "{field}: {created}");
    }
    assert_eq!(created["version"], 1, "{created}");
    let path = format!("{CHANNELS}/{name}");
    assert_eq!(api.get(&path, &[]).await?.expect(200)?, created);
    api.post(CHANNELS, &written)
        .await?
        .is_error(409, "name-taken", "name")?;

    let patch = json!({"send_resolved": true, "group_by": null});
    let patched = with_body(&api, "PATCH", &path, &patch).await?.expect(200)?;
    assert_eq!(patched["send_resolved"], true, "{patched}");
    assert_eq!(patched.get("group_by"), None, "{patched}");
    assert_eq!(patched["url"], created["url"], "{patched}");
    assert_eq!(patched["version"], 2, "{patched}");
    // A replacement forgets what it does not name.
    let mail = json!({"type": "email", "from": "alerts@example.org", "to": ["ann@example.org"]});
    let replaced = with_body(&api, "PUT", &path, &mail).await?.expect(200)?;
    assert_eq!((&replaced["id"], &replaced["type"]), (&json!(name), &json!("email")));
    assert_eq!(replaced.get("url"), None, "{replaced}");

    let listed = api.all_pages(CHANNELS, "channels", &[("limit", "2")]).await?;
    let ours = listed.iter().filter(|channel| channel["id"] == name.as_str());
    assert_eq!(ours.collect::<Vec<_>>(), [&replaced]);
    delete(&api, &path).await?;
    api.get(&path, &[]).await?.is_error(404, "not-found", "")?;
    Ok(())
}

#[tokio::test]
async fn a_channel_that_a_rule_names_stays() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let name = unique("e2e-used");
    let channel = json!({"name": name, "type": "webhook", "url": "https://example.org/hook"});
    let rule = json!({
        "name": unique("e2e rule"), "metric_name": "m", "condition": ">", "threshold": 0, "enabled": false,
        "notification_channels": [{"channel": name, "group_wait_seconds": 0}],
    });
    // A rule may be there before its channel: its author is told.
    let created = api.post(RULES, &rule).await?.expect(201)?;
    let warnings = created["warnings"].as_array().unwrap();
    assert!(
        warnings.iter().any(|warning| warning.as_str().unwrap().contains(&name)),
        "{created}"
    );
    api.post(CHANNELS, &channel).await?.expect(201)?;
    let path = format!("{CHANNELS}/{name}");
    let refused = api.call("DELETE", &path, Request::default()).await?;
    let why = refused.is_error(409, "in-use", "")?;
    assert!(why.contains(rule["name"].as_str().unwrap()), "{why}");
    delete(&api, &format!("{RULES}/{}", created["id"].as_str().unwrap())).await?;
    delete(&api, &path).await
}

#[tokio::test]
async fn a_wrong_field_is_named_and_a_secret_in_clear_is_refused() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let name = unique("e2e-wrong");
    let webhook = json!({"name": name, "type": "webhook", "url": "https://example.org/"});
    for (field, wrong) in [
        ("name", json!({"name": "a/b"})),
        ("type", json!({"type": "pigeon"})),
        ("url", json!({"url": "ftp://example.org/"})),
        ("group_wait_seconds", json!({"group_wait_seconds": -1})),
        ("mute_times", json!({"mute_times": "night"})),
        (
            "title",
            json!({"type": "email", "from": "a@example.org", "to": ["b@example.org"], "title": "{{ status"}),
        ),
        ("body", json!({"body": "what webhooks post has one form"})),
    ] {
        let answer = api.post(CHANNELS, &changed(webhook.clone(), &wrong)?).await?;
        answer.is_error(400, "invalid-parameter", field)?;
    }
    let secret = "T0000/B0000/verysecret";
    for (field, clear) in [
        (
            "webhook_url",
            json!({"type": "slack", "webhook_url": format!("https://hooks.slack.com/{secret}")}),
        ),
        (
            "webhook_url",
            json!({"type": "teams", "webhook_url": format!("https://example.org/{secret}")}),
        ),
        ("routing_key", json!({"type": "pagerduty", "routing_key": secret})),
    ] {
        let answer = api.post(CHANNELS, &changed(json!({"name": name}), &clear)?).await?;
        let why = answer.is_error(400, "invalid-parameter", field)?;
        assert!(!why.contains("verysecret"), "{why}");
    }
    api.get(&format!("{CHANNELS}/{name}"), &[])
        .await?
        .is_error(404, "not-found", "")?;
    Ok(())
}

#[tokio::test]
async fn a_channel_can_be_tried() -> anyhow::Result<()> {
    let (api, receiver) = (Api::from_env()?, Receiver::start(&[]).await?);
    let name = unique("e2e-tried");
    let channel = json!({"name": name, "type": "webhook", "url": receiver.at("/tried")});
    api.post(CHANNELS, &channel).await?.expect(201)?;
    let path = format!("{CHANNELS}/{name}");
    let tried = api.post(&format!("{path}/test"), &json!({})).await?.expect(200)?;
    assert_eq!(tried, json!({"delivered": true}));
    // That it is over as well, so that nothing stays open at the receiver.
    let came = receiver.came_to("/tried");
    let told: Vec<&Value> = came.iter().map(|hook| &hook.body["status"]).collect();
    assert_eq!(told, ["firing", "resolved"]);
    assert_eq!(
        came[0].body["alerts"][0]["labels"]["alertname"], "test_notification",
        "{}",
        came[0].body
    );

    // A failure is an answer as well: this is what somebody wants to see who tries.
    receiver.next("/tried", [Reply::Status(404)]);
    let tried = api.post(&format!("{path}/test"), &json!({})).await?.expect(200)?;
    assert_eq!(tried["delivered"], false, "{tried}");
    assert!(tried["error"].as_str().unwrap().contains("404"), "{tried}");
    delete(&api, &path).await?;
    let gone = api.post(&format!("{path}/test"), &json!({})).await?;
    gone.is_error(404, "not-found", "")?;
    Ok(())
}

#[tokio::test]
async fn addresses_that_are_not_public_are_refused_in_every_spelling() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    // The local stack allows the loopback interface and nothing else.
    for url in [
        "http://169.254.169.254/latest/meta-data",
        "http://0xa9fea9fe/",
        "http://2852039166/",
        "http://[::ffff:169.254.169.254]/",
        "http://10.0.0.1/",
        "http://192.168.0x101/",
        "http://[fd00::1]/",
        "http://0.0.0.0/",
    ] {
        let name = unique("e2e-private");
        let channel = json!({"name": name, "type": "webhook", "url": url});
        let created = api.post(CHANNELS, &channel).await?;
        if created.status != 201 {
            // Refused when it is written is as good.
            created.is_error(400, "invalid-parameter", "url")?;
            continue;
        }
        let path = format!("{CHANNELS}/{name}");
        let tried = api.post(&format!("{path}/test"), &json!({})).await?.expect(200)?;
        assert_eq!(tried["delivered"], false, "{url}: {tried}");
        let error = tried["error"].as_str().unwrap();
        assert!(
            error.contains("not public") || error.contains("address"),
            "{url}: {tried}"
        );
        delete(&api, &path).await?;
    }
    Ok(())
}
