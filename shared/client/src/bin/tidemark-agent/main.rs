//! `tidemark-agent`: pushes this machine's CPU, memory, disk and network metrics to Tidemark every few seconds.

mod args;
mod collect;

use anyhow::Context as _;
use args::{Args, Parsed};
use collect::Collector;
use std::process::ExitCode;
use std::time::Duration;
use tidemark_client::{Client, Stats};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How long the samples of one round wait for each other: a round is one request.
const GATHER: Duration = Duration::from_millis(50);

/// How long the end may take: service managers kill after 10 s at the earliest.
const CLOSE_DEADLINE: Duration = Duration::from_secs(8);

/// How long `--once` may take, retries included.
const ONCE_DEADLINE: Duration = Duration::from_secs(60);

/// A line about what was sent is written every so many rounds.
const ROUNDS_PER_REPORT: u64 = 360;

const EXIT_NOT_ACCEPTED: u8 = 1;
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os(), default_url()) {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Print(text)) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(reason) => {
            eprintln!("tidemark-agent: {reason}\nTry --help.");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_writer(std::io::stderr);
    let level = Targets::new().with_default(LevelFilter::INFO);
    tracing_subscriber::registry().with(level).with(lines).init();
    match run(*args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_NOT_ACCEPTED),
        Err(failure) => {
            error!("{failure:#}");
            ExitCode::from(EXIT_NOT_ACCEPTED)
        }
    }
}

/// Whether everything was accepted at the end.
#[tokio::main(flavor = "current_thread")]
async fn run(args: Args) -> anyhow::Result<bool> {
    let host = match args.host {
        Some(host) => host,
        None => sysinfo::System::host_name().context("this machine has no host name; give one with --host")?,
    };
    let mut builder = Client::builder(args.url.as_str())
        .interval(GATHER)
        .label("host", host.as_str());
    for (name, value) in args.labels {
        builder = builder.label(name, value);
    }
    if let Some(region) = args.sigv4 {
        builder = builder.sigv4(region);
    }
    let client = builder
        .on_refused(|r| {
            warn!(
                reason = r.reason,
                field = r.field,
                sample = r.sample,
                "a sample was refused"
            )
        })
        .build()?;
    let collector = Collector::new(args.per_core).context("this machine's metrics cannot be read")?;
    // CPU usage is the difference of two readings.
    tokio::time::sleep(sysinfo::MINIMUM_CPU_UPDATE_INTERVAL).await;
    if args.once {
        return once(&client, collector).await;
    }
    info!(
        host,
        url = args.url,
        interval_s = args.interval.as_secs_f64(),
        "the agent starts"
    );
    push_until_stopped(&client, collector, args.interval).await?;
    let stats = client.close(CLOSE_DEADLINE).await?;
    report(&stats, "the agent ends");
    Ok(true)
}

async fn once(client: &Client, collector: Collector) -> anyhow::Result<bool> {
    let (_, pushed) = collect(client, collector).await?;
    let stats = client.close(ONCE_DEADLINE).await?;
    report(&stats, "one round was sent");
    Ok(stats.accepted == pushed)
}

async fn push_until_stopped(client: &Client, mut collector: Collector, interval: Duration) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut ticks = tokio::time::interval(interval);
    // After a pause of the machine, one reading is enough: the rounds in between were not measured.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds: u64 = 0;
    let mut accepted_before = false;
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let pushed;
        (collector, pushed) = collect(client, collector).await?;
        rounds += 1;
        let stats = client.stats();
        if rounds.is_multiple_of(ROUNDS_PER_REPORT) {
            report(&stats, "the agent is at work");
        } else if !accepted_before && stats.accepted > 0 {
            accepted_before = true;
            info!(series = pushed, "the first samples were accepted");
        }
    }
}

/// Reads and pushes one round and returns its number of samples. A disk that hangs blocks a thread of its own, not the sending.
async fn collect(client: &Client, mut collector: Collector) -> anyhow::Result<(Collector, u64)> {
    let (collector, metrics) = tokio::task::spawn_blocking(move || {
        let metrics = collector.collect();
        (collector, metrics)
    })
    .await?;
    let pushed = metrics.len() as u64;
    for metric in metrics {
        client.push(metric);
    }
    Ok((collector, pushed))
}

fn report(stats: &Stats, message: &'static str) {
    let Stats {
        accepted,
        rejected,
        dropped,
        retried,
        requests,
        buffered,
    } = *stats;
    info!(accepted, rejected, dropped, retried, requests, buffered, "{message}");
}

#[expect(clippy::disallowed_methods, reason = "the edge: read once, at the start")]
fn default_url() -> Option<String> {
    std::env::var("TIDEMARK_URL").ok().filter(|url| !url.is_empty())
}
