//! The demo's cast: one real machine (`tidemark-agent` as a process of its own) and four simulated hosts (the client library)
//! push; the demo asks the API as any user would, and a listener on the loopback interface receives the webhooks.
//!
//! Its flow is `run`: each step prints a headline, does one thing, waits for its effect with a deadline, and shows the answer.

mod agents;
mod alert;
mod api;
mod data;
mod fleet;
mod listener;
mod screen;
mod silence;

pub(crate) use screen::Screen;

use anyhow::{Context as _, bail};
use api::Api;
use fleet::Fleet;
use listener::Listener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a step may take on a stack that has just started. A warm one needs about a second.
pub(crate) const STEP_DEADLINE: Duration = Duration::from_secs(30);

/// Runs all steps.
pub(crate) async fn run(screen: &mut Screen) -> anyhow::Result<()> {
    let base = base_url()?;
    let api = Api::new(&base)?;
    let listener = Listener::start().await?;

    screen.step("The stack is healthy");
    screen.line(&format!("API: {base}"));
    data::health(screen, &api).await?;

    screen.step("Five agents start");
    let began = unix_seconds();
    let fleet = Fleet::start(screen, &base)?;

    screen.step("Their samples become readable");
    data::wait_until_readable(screen, &api, &fleet, began).await?;

    screen.step("Queue statistics");
    data::queue_statistics(screen, &api).await?;

    screen.step("Queries with aggregation and group_by");
    data::queries(screen, &api, &fleet, began).await?;

    screen.step("A channel is configured and tried");
    silence::end_leftovers(screen, &api).await?;
    alert::create_channel(screen, &api, &listener).await?;

    screen.step(&format!("The rule {} is created", alert::RULE_NAME));
    let watch = alert::create_rule(screen, &api, fleet.troubled_host()).await?;

    screen.step(&format!("{} runs hot: the alert is pending", watch.host));
    fleet.heat(true);
    watch.until_pending(screen, &api).await?;

    screen.step("The condition lasts: the alert fires");
    watch.until_state(screen, &api, "firing").await?;

    screen.step("The webhook arrives");
    watch.until_webhook(screen, &listener, "firing").await?;

    screen.step(&format!("{} calms down: the alert is resolved", watch.host));
    fleet.heat(false);
    watch.until_state(screen, &api, "resolved").await?;
    watch.until_webhook(screen, &listener, "resolved").await?;

    screen.step("A silence: it runs hot again, and nobody is told");
    let silence = silence::create(screen, &api, &watch).await?;
    fleet.heat(true);
    watch.until_state(screen, &api, "firing").await?;
    silence::until_suppressed(screen, &api, &watch, &listener).await?;
    fleet.heat(false);
    watch.until_state(screen, &api, "resolved").await?;
    silence::end(screen, &api, &silence).await?;

    screen.step("The history has all of it");
    silence::history(screen, &api, &watch).await?;

    screen.step("System statistics");
    data::system_statistics(screen, &api).await?;

    screen.step("The agents stop; every accepted sample is there, exactly once");
    let accepted = fleet.stop(screen).await?;
    data::count_exactly(screen, &api, &accepted, began).await?;

    screen.done(&format!(
        "All steps happened. The stack keeps running: curl \"{base}/api/v1/query?metric_name=cpu_usage_percent&aggregation=avg&group_by=host\""
    ));
    Ok(())
}

/// The API's address: from the environment, else from the file that `make up` writes.
#[expect(clippy::disallowed_methods, reason = "the edge: read once, at the start")]
fn base_url() -> anyhow::Result<String> {
    if let Ok(url) = std::env::var("TIDEMARK_URL")
        && !url.is_empty()
    {
        return Ok(url);
    }
    let folder = std::env::var("TIDEMARK_LOCAL_DIR").unwrap_or_else(|_| ".local".to_owned());
    let path = format!("{folder}/env");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("TIDEMARK_URL is not set and {path} is missing; run `make up`"))?;
    match variable(&text, "TIDEMARK_URL") {
        Some(url) => Ok(url),
        None => bail!("{path} does not set TIDEMARK_URL"),
    }
}

/// The value of a variable in lines of KEY=VALUE, as a shell would read the simple ones.
fn variable(text: &str, name: &str) -> Option<String> {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['\'', '"']).to_owned())
}

/// Now, for the API's `start_time`.
#[expect(clippy::disallowed_methods, reason = "the edge: the demo's own clock")]
fn unix_seconds() -> f64 {
    // A clock before 1970 would be refused by the API with a better message than this program has.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |now| (now.as_secs_f64() * 1_000.0).floor() / 1_000.0)
}

/// Tries until `attempt` gives something or the deadline is over. What went wrong last is part of the error.
async fn poll<T>(
    what: &str,
    pause: Duration,
    mut attempt: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = tokio::time::Instant::now() + STEP_DEADLINE;
    let mut last_error = None;
    loop {
        match tokio::time::timeout_at(deadline, attempt()).await {
            Ok(Ok(Some(found))) => return Ok(found),
            Ok(Ok(None)) => last_error = None,
            Ok(Err(error)) => last_error = Some(error),
            // The deadline came in the middle of an attempt; an earlier one may have said more.
            Err(_) => last_error = last_error.or_else(|| Some(anyhow::anyhow!("no answer in time"))),
        }
        if tokio::time::Instant::now() + pause >= deadline {
            let expected = format!("{what} did not happen within {} s", STEP_DEADLINE.as_secs());
            return Err(match last_error {
                Some(error) => error.context(expected),
                None => anyhow::anyhow!(expected),
            });
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_environment_file_is_read_as_a_shell_reads_it() {
        let text =
            "AWS_REGION=us-east-1\nTIDEMARK_URL='http://localhost:4566/_aws/execute-api/a0000001'\nTIDEMARK_URLS=x\n";
        assert_eq!(
            variable(text, "TIDEMARK_URL").unwrap(),
            "http://localhost:4566/_aws/execute-api/a0000001"
        );
        assert_eq!(variable(text, "AWS_REGION").unwrap(), "us-east-1");
        assert_eq!(variable(text, "TIDEMARK"), None);
    }
}
