//! Receivers that fail in every way that receivers do: what is tried again, what is given up, what the history says.

use crate::scene::Scene;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::cell::Cell;
use tidemark_tests::harness::aws::Aws;
use tidemark_tests::harness::expect::{Labels, labels};
use tidemark_tests::harness::receiver::{Receiver, Reply};
use tidemark_tests::harness::{eventually, variable};

fn a_host() -> Labels {
    labels([("host", "web-01")])
}

/// Fires once at a receiver that fails once, in a way of its own, and waits until it was told; returns what the failed attempt left in
/// the history.
async fn after_one_failure(reply: Reply) -> anyhow::Result<Value> {
    let receiver = Receiver::start(&[]).await?;
    receiver.next("/hook", [reply.clone()]);
    let scene = Scene::with_receiver(receiver, json!({}), json!({})).await?;
    scene.measure(&a_host(), 99.0).await?;
    scene.until(&a_host(), "firing").await?;
    scene.until_told("firing", 1).await?;
    let hooks = scene.receiver.hooks();
    ensure!(hooks.len() == 2, "{reply:?}: {hooks:?}");
    ensure!(
        hooks[0].header("idempotency-key") == hooks[1].header("idempotency-key"),
        "{reply:?}: {hooks:?}"
    );
    scene.until_recorded(&json!({"outcome": "sent", "attempt": 2})).await?;
    let failed = scene
        .until_recorded(&json!({"outcome": "failed", "attempt": 1}))
        .await?;
    scene.delete().await?;
    Ok(failed)
}

#[tokio::test]
async fn what_a_receiver_cannot_take_now_is_sent_again() -> anyhow::Result<()> {
    let cases = [
        (Reply::RetryAfter(429, 1), "slow down"),
        (Reply::Status(500), "status 500"),
        (Reply::Drip, "502"),
        (Reply::Reset, "could not be reached"),
        (Reply::Hang, "did not answer in time"),
    ];
    let told = futures::future::join_all(cases.map(async |(reply, why)| {
        let failed = after_one_failure(reply.clone())
            .await
            .with_context(|| format!("{reply:?}"))?;
        let error = failed["error"].as_str().unwrap_or_default();
        ensure!(error.contains(why), "{reply:?}: {failed}");
        Ok(())
    }))
    .await;
    told.into_iter().collect()
}

#[tokio::test]
async fn what_a_receiver_refuses_is_kept_until_an_operator_sends_it_again() -> anyhow::Result<()> {
    let (aws, receiver) = (Aws::from_env()?, Receiver::start(&[]).await?);
    receiver.always("/hook", Reply::Status(410));
    let scene = Scene::with_receiver(receiver, json!({}), json!({})).await?;
    scene.measure(&a_host(), 99.0).await?;
    scene.until(&a_host(), "firing").await?;
    let given_up = scene.until_recorded(&json!({"outcome": "given_up"})).await?;
    assert!(given_up["error"].as_str().unwrap().contains("410"), "{given_up}");
    assert_eq!(given_up["channel"], json!(scene.channel), "{given_up}");
    let letters = variable("NOTIFY_DEAD_LETTER_QUEUE_URL")?;
    let channel = scene.channel.clone().unwrap();
    let is_ours = |message: &Value| message["Body"].as_str().is_some_and(|body| body.contains(&channel));
    eventually("the letter", async || {
        let seen = Cell::new(false);
        let look = |message: &Value| {
            seen.set(seen.get() || is_ours(message));
            false
        };
        aws.messages(&letters, look).await?;
        Ok(Some(()).filter(|()| seen.get()))
    })
    .await?;

    scene.receiver.always("/hook", Reply::Status(200));
    eventually("the redriven page", async || {
        let path = "/api/v1/ops/redrive-notifications";
        scene.api.post(path, &json!({})).await?.expect(200)?;
        Ok(Some(()).filter(|()| !scene.receiver.taken("firing").is_empty()))
    })
    .await?;
    scene.until_counted(&a_host(), 1).await?;
    scene.delete().await
}

#[tokio::test]
async fn a_redirect_is_not_followed() -> anyhow::Result<()> {
    let receiver = Receiver::start(&[]).await?;
    receiver.always("/hook", Reply::Redirect(receiver.at("/elsewhere")));
    let scene = Scene::with_receiver(receiver, json!({}), json!({})).await?;
    scene.measure(&a_host(), 99.0).await?;
    scene.until(&a_host(), "firing").await?;
    let given_up = scene.until_recorded(&json!({"outcome": "given_up"})).await?;
    assert!(given_up["error"].as_str().unwrap().contains("307"), "{given_up}");
    assert_eq!(scene.receiver.came_to("/elsewhere").len(), 0);
    scene.delete().await
}
