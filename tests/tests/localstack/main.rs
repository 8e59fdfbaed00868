//! Tidemark on a second, independent emulator: LocalStack's Kinesis, DynamoDB (AWS's own local edition), SNS and SQS.
//!
//! LocalStack runs no functions without Docker. So they run as plain processes at the runtime API of `cargo lambda watch`, and
//! the tests do what AWS does between the services: read shards and invoke `consume`, drain the queue into `notify`, tick
//! `evaluate`. Each test has an installation of its own. `infra/checks/localstack` starts the emulator, or takes the endpoint
//! that AWS_ENDPOINT_URL names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

mod alerts;
mod cost;
mod installation;
mod pipeline;
mod template;

use serde_json::json;
use tidemark_tests::harness::aws::{Aws, DYNAMODB};
use tidemark_tests::harness::{eventually, suites};

#[tokio::test]
async fn the_stores_on_dynamodb_keep_every_promise() -> anyhow::Result<()> {
    let aws = Aws::from_env()?;
    suites::store(&aws).await?;
    suites::alert_store(&aws).await?;
    suites::notify_store(&aws).await
}

#[tokio::test]
async fn health_says_which_part_is_missing() -> anyhow::Result<()> {
    let installation = installation::Installation::new().await?;
    let admin = installation.api("admin")?;
    let healthy = admin.get("/api/v1/health", &[]).await?.expect(200)?;
    assert_eq!(healthy["status"], "healthy", "{healthy}");
    let cache = json!({"TableName": installation.value("CACHE_TABLE")});
    installation.aws.call(DYNAMODB, "DeleteTable", cache).await?;
    let sick = eventually("a health that sees it", async || {
        let answer = admin.get("/api/v1/health", &[]).await?;
        Ok(Some(answer).filter(|answer| answer.status == 503))
    })
    .await?;
    assert_eq!(sick.json["status"], "unhealthy", "{}", sick.json);
    assert_eq!(sick.json["database"], "ok", "{}", sick.json);
    assert_ne!(sick.json["cache"], "ok", "{}", sick.json);
    installation.remove().await
}
