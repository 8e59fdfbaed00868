//! Cold starts: the real binaries, each with a runtime API of its own on the loopback interface, from before the process
//! exists to its first request for an event. What AWS adds around it (placing and unpacking the code) is not in it.

use super::cpu::median;
use super::report::Report;
use super::{BUCKETS, RETENTION_MS, WINDOW_SECONDS};
use anyhow::{Context as _, ensure};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;

const FUNCTIONS: [&str; 6] = ["ingest", "consume", "query", "admin", "evaluate", "notify"];

/// An odd number, so that there is a median.
const STARTS: usize = 15;

/// A start that takes this long has failed.
const DEADLINE: Duration = Duration::from_secs(10);

/// Starts every function several times.
pub(crate) async fn measure(functions: &Path, report: &mut Report) -> anyhow::Result<()> {
    report.section("Starts of the release binaries, from exec to the first poll of the runtime API");
    for name in FUNCTIONS {
        let program = functions.join(name);
        let bytes = std::fs::metadata(&program)
            .with_context(|| format!("{} is missing; run `make build`", program.display()))?
            .len();
        // The first one brings the file from disk into memory.
        start(&program).await?;
        let mut times = Vec::with_capacity(STARTS);
        for _ in 0..STARTS {
            times.push(start(&program).await?.as_secs_f64() * 1_000.0);
        }
        report.add(format!("coldstart.ms.{name}"), median(&mut times), "tens of ms")?;
        report.add(format!("binary.bytes.{name}"), bytes as f64, "")?;
    }
    Ok(())
}

/// Starts a function and stops it when it asks for its first event.
async fn start(program: &Path) -> anyhow::Result<Duration> {
    let api = TcpListener::bind(("127.0.0.1", 0)).await.context("binding a port")?;
    let address = api.local_addr().context("the port")?;
    let mut command = Command::new(program);
    command
        .env_clear()
        .envs(environment())
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true);
    let began = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("starting {}", program.display()))?;
    let asked = async {
        let (connection, _) = api.accept().await.context("accepting a connection")?;
        let (mut connection, mut line) = (BufReader::new(connection), String::new());
        connection.read_line(&mut line).await.context("reading a request")?;
        // The connection stays open until the function is stopped, which otherwise would report that it was closed.
        anyhow::Ok((began.elapsed(), line, connection))
    };
    let name = program.display();
    let (took, line, _connection) = tokio::select! {
        asked = tokio::time::timeout(DEADLINE, asked) => asked.with_context(|| format!("{name} asked for nothing"))??,
        ended = child.wait() => anyhow::bail!("{name} ended before it asked for an event: {:?}", ended?),
    };
    ensure!(
        line.starts_with("GET /2018-06-01/runtime/invocation/next "),
        "{name} began with {line:?}"
    );
    child.kill().await.with_context(|| format!("stopping {name}"))?;
    Ok(took)
}

/// What Lambda and the template set, without an endpoint: as on AWS, the client gets the certificates that it trusts.
fn environment() -> Vec<(&'static str, String)> {
    let queue = "https://sqs.us-east-1.amazonaws.com/123456789012";
    let text = |value: &str| value.to_owned();
    vec![
        ("AWS_LAMBDA_FUNCTION_NAME", text("bench")),
        ("AWS_LAMBDA_FUNCTION_VERSION", text("$LATEST")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", text("512")),
        ("AWS_LAMBDA_LOG_GROUP_NAME", text("/aws/lambda/bench")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", text("bench")),
        ("AWS_REGION", text("us-east-1")),
        ("AWS_ACCESS_KEY_ID", text("bench")),
        ("AWS_SECRET_ACCESS_KEY", text("bench")),
        ("STREAM_NAME", text("bench")),
        ("SEGMENTS_TABLE", text("bench-segments")),
        ("CATALOG_TABLE", text("bench-catalog")),
        ("METRICS_TABLE", text("bench-metrics")),
        ("AGGREGATES_TABLE", text("bench-aggregates")),
        ("ALERTS_TABLE", text("bench-alerts")),
        ("CACHE_TABLE", text("bench-cache")),
        ("ALERTS_TOPIC_ARN", text("arn:aws:sns:us-east-1:123456789012:bench")),
        ("DEAD_LETTER_QUEUE_URL", format!("{queue}/bench-dead-letters")),
        ("NOTIFY_QUEUE_URL", format!("{queue}/bench-notify")),
        ("NOTIFY_DEAD_LETTER_QUEUE_URL", format!("{queue}/bench-notify-dead")),
        ("BUCKETS", BUCKETS.to_string()),
        ("WINDOW_SECONDS", WINDOW_SECONDS.to_string()),
        ("RAW_RETENTION_DAYS", (RETENTION_MS / 86_400_000).to_string()),
        ("MINUTE_RETENTION_DAYS", text("30")),
        ("HOUR_RETENTION_DAYS", text("365")),
        ("COMPACTION_GRACE_SECONDS", text("3600")),
        ("LOG_LEVEL", text("info")),
    ]
}
