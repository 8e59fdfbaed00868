//! What the end-to-end tests and the LocalStack tests share.
//!
//! | module | is |
//! |---|---|
//! | `api` | Tidemark's HTTP API as any client sees it: status, headers, JSON |
//! | `aws` | signed calls to the stack's AWS services, without the SDK: what a test does *to* the system from outside |
//! | `stream` | the records of the stream, and Kinesis events made of them, whole, twice or cut anew |
//! | `expect` | what was acknowledged, and the comparison of every sample with what a query gives |
//! | `receiver` | an HTTP server on the loopback interface whose paths answer as they are told: what channels lead to |
//! | `smtp` | a mail server on the loopback interface that keeps what it gets |
//!
//! Nothing here sleeps for an effect: [`eventually`] asks until it is there or its time is over.

pub mod api;
pub mod aws;
pub mod expect;
pub mod receiver;
pub mod smtp;
pub mod stream;
pub mod suites;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long an effect may take. A warm stack on an idle machine takes a second or two; tests share it with a compiler.
const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// A variable of the environment, which the check's script sets.
///
/// # Errors
/// When it is missing or empty.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: tests are told by their script where the stack is"
)]
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .with_context(|| format!("{name} is not set; run the tests with make test-e2e or make test-localstack"))
}

/// Milliseconds since the Unix epoch.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: samples are stamped by the tests' own clock"
)]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// A name that no other test and no other run has.
#[must_use]
pub fn unique(stem: &str) -> String {
    format!("{stem}_{:012x}", rand::random::<u64>() >> 16)
}

/// Random numbers that can be repeated: the seed is printed, and `TIDEMARK_SEED` sets it.
#[must_use]
pub fn random(test: &str) -> StdRng {
    let seed = variable("TIDEMARK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    println!("{test}: TIDEMARK_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Asks until there is an answer. An error of `look` is not the end: the last one is part of the failure.
///
/// # Errors
/// When there was none in time.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    within(PATIENCE, what, look).await
}

/// [`eventually`] with another limit.
///
/// # Errors
/// When there was no answer in time.
pub async fn within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        let last = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => anyhow::anyhow!("it was not there yet"),
            Err(error) => error,
        };
        if tokio::time::Instant::now() >= deadline {
            return Err(last.context(format!("{what}: not within {} s", limit.as_secs())));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
