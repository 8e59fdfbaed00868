//! The way of an alert over LocalStack's topic and queue.

use crate::installation::{Installation, Positions};
use anyhow::ensure;
use serde_json::{Value, json};
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::expect::{labels, sample};
use tidemark_tests::harness::receiver::{Receiver, Reply};
use tidemark_tests::harness::{eventually, now_ms};

#[tokio::test]
async fn an_alert_goes_from_tick_to_topic_to_queue_to_webhook_once() -> anyhow::Result<()> {
    let installation = Installation::new().await?;
    let receiver = Receiver::start(&[]).await?;
    let (ingest, admin) = (installation.api("ingest")?, installation.api("admin")?);
    let mut positions = Positions::default();
    let mut measure = async |value: f64| -> anyhow::Result<()> {
        let body = json!([sample("cpu", &labels([("host", "web-01")]), now_ms(), value)]);
        ingest.push(&body).await?;
        installation.consume(&mut positions).await?;
        Ok(())
    };
    let rule = json!({
        "name": "high cpu", "metric_name": "cpu", "condition": ">", "threshold": 90, "webhook_url": receiver.url(),
        "annotations": {"summary": "{{ host }} at {{ value }}"},
    });
    let rule = admin.post("/api/v1/alerts/rules", &rule).await?.expect(201)?;

    measure(99.5).await?;
    // Two ticks at the same time and one after: one page.
    let (one, two) = futures::future::try_join(installation.tick(), async {
        admin.post("/api/v1/ops/evaluate-alerts", &json!({})).await?.expect(200)
    })
    .await?;
    let triggered = |summary: &Value| summary["alerts_triggered"].as_u64().unwrap();
    assert_eq!(triggered(&one) + triggered(&two), 1, "{one} {two}");
    let later = installation.tick().await?;
    assert_eq!(
        (triggered(&later), &later["rules_evaluated"]),
        (0, &json!(1)),
        "{later}"
    );
    // Each message goes to the function twice.
    eventually("the page", async || {
        installation.notify(2).await?;
        Ok(Some(()).filter(|()| !receiver.taken("firing").is_empty()))
    })
    .await?;
    let page = &receiver.taken("firing")[0].body;
    assert_eq!(page["alerts"][0]["annotations"]["summary"], "web-01 at 99.5", "{page}");

    measure(5.0).await?;
    let resolved = installation.tick().await?;
    assert_eq!(resolved["alerts_resolved"], 1, "{resolved}");
    eventually("the resolve", async || {
        installation.notify(2).await?;
        Ok(Some(()).filter(|()| !receiver.taken("resolved").is_empty()))
    })
    .await?;
    let instances = admin.get("/api/v1/alerts/instances", &[]).await?.expect(200)?;
    let instance = &instances["instances"][0];
    assert_eq!(
        (&instance["rule_id"], &instance["state"]),
        (&rule["id"], &json!("resolved"))
    );
    assert_eq!(instance["notifications_sent"], 2, "{instance}");
    assert_eq!(installation.notify(1).await?, 0);
    assert_eq!(receiver.hooks().len(), 2, "{:?}", receiver.hooks());

    // All of it stands in the history, in each of its lists and in pages of any size.
    let fingerprint = instance["fingerprint"].as_str().unwrap();
    let id = rule["id"].as_str().unwrap();
    for filter in [None, Some(("rule", id)), Some(("fingerprint", fingerprint))] {
        for limit in ["2", "100"] {
            let entries = history(&admin, filter, limit).await?;
            let told = |state: &str| {
                let of = |entry: &&Value| entry["event"] == "notification" && entry["state"] == state;
                entries.iter().filter(of).count()
            };
            assert_eq!((told("firing"), told("resolved")), (1, 1), "{entries:?}");
            let began = |entry: &Value| entry["event"] == "transition" && entry["state"] == "firing";
            assert!(entries.iter().any(began), "{entries:?}");
        }
    }
    installation.remove().await
}

/// The history, read page by page.
async fn history(admin: &Api, filter: Option<(&str, &str)>, limit: &str) -> anyhow::Result<Vec<Value>> {
    let mut entries = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let mut parameters: Vec<(&str, &str)> = filter.into_iter().collect();
        parameters.push(("limit", limit));
        if let Some(next) = &next {
            parameters.push(("next_token", next));
        }
        let page = admin.get("/api/v1/alerts/history", &parameters).await?.expect(200)?;
        entries.extend(page["history"].as_array().cloned().unwrap_or_default());
        next = page["next_token"].as_str().map(str::to_owned);
        if next.is_none() {
            return Ok(entries);
        }
    }
}

#[tokio::test]
async fn a_webhook_that_fails_stays_in_the_queue_until_it_is_taken() -> anyhow::Result<()> {
    let installation = Installation::new().await?;
    let receiver = Receiver::start(&[(503, None)]).await?;
    let (ingest, admin) = (installation.api("ingest")?, installation.api("admin")?);
    let rule = json!({
        "name": "any", "metric_name": "cpu", "condition": ">", "threshold": 0, "webhook_url": receiver.url(),
    });
    admin.post("/api/v1/alerts/rules", &rule).await?.expect(201)?;
    ingest.push(&json!([sample("cpu", &labels([]), now_ms(), 1.0)])).await?;
    installation.consume(&mut Positions::default()).await?;
    installation.tick().await?;
    eventually("the first attempt", async || {
        let done = installation.notify(1).await?;
        ensure!(done == 0, "a failed message was reported as done");
        Ok(Some(()).filter(|()| receiver.hooks().len() == 1))
    })
    .await?;
    assert_eq!(receiver.hooks()[0].answered, 503);
    // The function has hidden the message for some seconds; then it comes again by itself.
    eventually("the second attempt", async || {
        installation.notify(1).await?;
        Ok(Some(()).filter(|()| receiver.taken("firing").len() == 1))
    })
    .await?;
    assert_eq!(receiver.hooks().len(), 2);
    installation.remove().await
}

#[tokio::test]
async fn what_is_given_up_lies_among_the_dead_letters_until_it_is_sent_back() -> anyhow::Result<()> {
    let installation = Installation::new().await?;
    let receiver = Receiver::start(&[]).await?;
    receiver.always("/hook", Reply::Status(404));
    let (ingest, admin) = (installation.api("ingest")?, installation.api("admin")?);
    let channel = json!({"name": "ops", "type": "webhook", "url": receiver.url(), "group_wait_seconds": 0});
    admin.post("/api/v1/channels", &channel).await?.expect(201)?;
    let rule = json!({
        "name": "any", "metric_name": "cpu", "condition": ">", "threshold": 0, "notification_channels": ["ops"],
    });
    admin.post("/api/v1/alerts/rules", &rule).await?.expect(201)?;
    ingest.push(&json!([sample("cpu", &labels([]), now_ms(), 1.0)])).await?;
    installation.consume(&mut Positions::default()).await?;
    installation.tick().await?;
    eventually("the refused page", async || {
        installation.notify(1).await?;
        Ok(Some(()).filter(|()| !receiver.hooks().is_empty()))
    })
    .await?;
    let redrive = "/api/v1/ops/redrive-notifications";
    receiver.always("/hook", Reply::Status(200));
    let redriven = admin.post(redrive, &json!({})).await?.expect(200)?;
    assert_eq!(redriven, json!({"redriven": 1, "remaining": false}));
    eventually("the page", async || {
        installation.notify(1).await?;
        Ok(Some(()).filter(|()| receiver.taken("firing").len() == 1))
    })
    .await?;
    let redriven = admin.post(redrive, &json!({})).await?.expect(200)?;
    assert_eq!(redriven, json!({"redriven": 0, "remaining": false}));
    installation.remove().await
}
