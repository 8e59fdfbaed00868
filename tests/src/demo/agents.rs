//! The simulated hosts: values as such machines have them, pushed through the client library.

use rand::Rng as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tidemark_client::{Client, Metric, Stats};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The metric that the simulated hosts share with the real agent, and that the rule watches.
pub(crate) const CPU: &str = "cpu_usage_percent";

/// All metrics of a simulated host.
pub(crate) const METRICS: [&str; 4] = [CPU, "memory_usage_percent", "load_average_1m", "http_requests_total"];

/// Between two samples of a series: often, so that a short demo has something to show.
const PERIOD: Duration = Duration::from_millis(250);

/// What makes a host what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) host: &'static str,
    pub(crate) region: &'static str,
    /// Around these the values move.
    cpu: f64,
    memory: f64,
    requests_per_second: f64,
}

/// `web-02` to `web-05`.
pub(crate) const PROFILES: [Profile; 4] = [
    Profile {
        host: "web-02",
        region: "eu-west-1",
        cpu: 34.0,
        memory: 61.0,
        requests_per_second: 220.0,
    },
    Profile {
        host: "web-03",
        region: "eu-west-1",
        cpu: 41.0,
        memory: 58.0,
        requests_per_second: 260.0,
    },
    Profile {
        host: "web-04",
        region: "us-east-1",
        cpu: 47.0,
        memory: 72.0,
        requests_per_second: 310.0,
    },
    Profile {
        host: "web-05",
        region: "us-east-1",
        cpu: 22.0,
        memory: 49.0,
        requests_per_second: 140.0,
    },
];

/// A simulated host at work.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) profile: Profile,
    client: Client,
    hot: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Host {
    pub(crate) fn start(profile: Profile, url: &str) -> Result<Self, tidemark_client::Error> {
        let client = Client::builder(url)
            .label("host", profile.host)
            .label("region", profile.region)
            .label("job", "web")
            .interval(Duration::from_millis(500))
            .build()?;
        let (hot, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(live(
            profile,
            client.clone(),
            Arc::clone(&hot),
            Arc::clone(&rounds),
            stopped,
        ));
        Ok(Self {
            profile,
            client,
            hot,
            rounds,
            stop,
            task,
        })
    }

    /// Starts or ends a CPU load of about 97 %.
    pub(crate) fn heat(&self, hot: bool) {
        self.hot.store(hot, Ordering::Relaxed);
    }

    /// How many samples of each series were pushed.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// Ends it, sends what is left, and returns the client's counters.
    pub(crate) async fn stop(self, deadline: Duration) -> anyhow::Result<Stats> {
        self.stop.send_replace(true);
        self.task.await?;
        Ok(self.client.close(deadline).await?)
    }
}

async fn live(
    profile: Profile,
    client: Client,
    hot: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut ticks = tokio::time::interval(PERIOD);
    let (mut cpu, mut memory, mut load, mut requests) = (profile.cpu, profile.memory, profile.cpu / 25.0, 0.0);
    loop {
        tokio::select! {
            _ = stopped.changed() => return,
            _ = ticks.tick() => {}
        }
        if hot.load(Ordering::Relaxed) {
            cpu = rand::rng().random_range(95.5..98.5);
        } else {
            cpu = wander(cpu, profile.cpu, 4.0).clamp(1.0, 80.0);
        }
        memory = wander(memory, profile.memory, 0.4).clamp(5.0, 95.0);
        load += (cpu / 25.0 - load) * 0.05;
        requests += (profile.requests_per_second * PERIOD.as_secs_f64() * rand::rng().random_range(0.8..1.2)).round();
        for (name, value) in METRICS.into_iter().zip([cpu, memory, load, requests]) {
            client.push(Metric::new(name, hundredths(value)));
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// The next value of a series that returns to its usual level.
fn wander(value: f64, usual: f64, noise: f64) -> f64 {
    value + (usual - value) * 0.3 + rand::rng().random_range(-noise..noise)
}

fn hundredths(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
