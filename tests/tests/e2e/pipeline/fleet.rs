//! The agents of the big run, and what was acknowledged to them.

use anyhow::{Context as _, ensure};
use futures::future::{try_join, try_join_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};
use tidemark_client::{Client, Metric};
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::expect::{Labels, Samples, labels, sample};
use tidemark_tests::harness::{now_ms, unique};

const METRICS: usize = 12;
const SERIES_PER_METRIC: usize = 90;
const SAMPLES_PER_SERIES: i64 = 100;
const STEP_MS: i64 = 15_000;
const AGENTS: usize = 6;

/// What was acknowledged, by metric.
pub(crate) type Acknowledged = BTreeMap<String, Samples>;

/// Six agents: half of them use the client library, half write HTTP by hand.
pub(crate) struct Fleet {
    metrics: Vec<String>,
    pub(crate) start_ms: i64,
    seed: u64,
}

struct Agent {
    /// Metric and labels.
    series: Vec<(String, Labels)>,
    random: StdRng,
}

impl Fleet {
    pub(crate) fn new(random: &mut StdRng) -> Self {
        Self {
            metrics: (0..METRICS).map(|_| unique("e2e_fleet")).collect(),
            start_ms: now_ms() - SAMPLES_PER_SERIES * STEP_MS,
            seed: random.random(),
        }
    }

    pub(crate) fn end_ms(&self) -> i64 {
        self.start_ms + SAMPLES_PER_SERIES * STEP_MS
    }

    fn agents(&self) -> Vec<Agent> {
        let mut agents: Vec<Agent> = (0..AGENTS as u64)
            .map(|number| Agent {
                series: Vec::new(),
                random: StdRng::seed_from_u64(self.seed.wrapping_add(number)),
            })
            .collect();
        for number in 0..METRICS * SERIES_PER_METRIC {
            let labels = labels([
                ("host", &format!("host-{}", number % 30)),
                ("series", &number.to_string()),
            ]);
            agents[number % AGENTS]
                .series
                .push((self.metrics[number % METRICS].clone(), labels));
        }
        agents
    }

    /// Pushes everything; returns what got a 202.
    pub(crate) async fn push(&self, api: &Api) -> anyhow::Result<Acknowledged> {
        let mut agents = self.agents();
        let by_hand = agents.split_off(AGENTS / 2);
        let with_client = agents.into_iter().map(|agent| self.with_client(api, agent));
        let by_hand = by_hand.into_iter().map(|agent| self.by_hand(api, agent));
        let (one, two) = try_join(try_join_all(with_client), try_join_all(by_hand)).await?;
        let mut all = Acknowledged::new();
        for (metric, samples) in one.into_iter().chain(two).flatten() {
            all.entry(metric).or_default().extend(samples);
        }
        Ok(all)
    }

    async fn with_client(&self, api: &Api, mut agent: Agent) -> anyhow::Result<Acknowledged> {
        let client = Client::builder(api.base())
            .batch_samples(900)
            .interval(Duration::from_millis(50))
            .backoff(Duration::from_millis(50), Duration::from_secs(1))
            .build()?;
        let mut acknowledged = Acknowledged::new();
        let mut pushed = 0;
        for step in 0..SAMPLES_PER_SERIES {
            let at = self.start_ms + step * STEP_MS;
            for (metric, labels) in &agent.series {
                let value = reading(&mut agent.random);
                let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(at)?);
                let mut sample = Metric::new(metric, value).at(time);
                sample.labels.clone_from(labels);
                client.push(sample);
                pushed += 1;
                keep(&mut acknowledged, metric, labels, at, value);
            }
            if step % 5 == 4 {
                client.flush().await?;
            }
        }
        let stats = client.close(Duration::from_secs(120)).await?;
        ensure!(
            stats.accepted == pushed && stats.rejected == 0 && stats.dropped == 0,
            "{pushed} were pushed: {stats:?}"
        );
        Ok(acknowledged)
    }

    /// Some samples are refused, some are pushed again with the same or with another value.
    async fn by_hand(&self, api: &Api, mut agent: Agent) -> anyhow::Result<Acknowledged> {
        let mut acknowledged = Acknowledged::new();
        for step in 0..SAMPLES_PER_SERIES / 4 {
            let mut requests = vec![Vec::new(), Vec::new()];
            for (metric, labels) in &agent.series {
                for at in (0..4).map(|one| self.start_ms + (step * 4 + one) * STEP_MS) {
                    let value = reading(&mut agent.random);
                    requests[0].push((metric, labels, at, value));
                    if agent.random.random_ratio(1, 20) {
                        // A correction, in a request of its own: the later one counts.
                        let corrected = reading(&mut agent.random);
                        requests[1].push((metric, labels, at, corrected));
                    }
                }
            }
            for samples in requests {
                let mut body: Vec<Value> = samples
                    .iter()
                    .map(|(metric, labels, at, value)| sample(metric, labels, *at, *value))
                    .collect();
                body.push(json!({"name": "e2e_refused", "value": "not a number"}));
                send(api, &body, samples.len()).await?;
                for (metric, labels, at, value) in samples {
                    keep(&mut acknowledged, metric, labels, at, value);
                }
            }
        }
        Ok(acknowledged)
    }
}

/// Sends until it is acknowledged, as an agent does that gets a 5xx.
async fn send(api: &Api, body: &[Value], accepted: usize) -> anyhow::Result<()> {
    let body = json!({ "metrics": body }).to_string();
    for _ in 0..20 {
        let answer = api.call("POST", "/api/v1/metrics", Request::json(body.clone())).await?;
        match answer.status {
            202 => {
                let json = answer.json;
                ensure!(json["accepted"] == accepted && json["rejected"] == 1, "{json}");
                return Ok(());
            }
            // Nothing but the refused sample.
            400 if accepted == 0 => return Ok(()),
            500.. => tokio::time::sleep(Duration::from_millis(200)).await,
            _ => drop(answer.expect(202).context("a push")?),
        }
    }
    anyhow::bail!("a request was not taken in 20 attempts")
}

fn keep(acknowledged: &mut Acknowledged, metric: &str, labels: &Labels, at: i64, value: f64) {
    if !acknowledged.contains_key(metric) {
        acknowledged.insert(metric.to_owned(), Samples::new());
    }
    if let Some(samples) = acknowledged.get_mut(metric) {
        samples.insert((labels.clone(), at), value.to_bits());
    }
}

/// Mostly what machines measure, now and then anything.
fn reading(random: &mut StdRng) -> f64 {
    match random.random_range(0..10) {
        0 => f64::from_bits(random.random::<u64>() & !(1 << 62)),
        1 | 2 => random.random(),
        3 | 4 => f64::from(random.random_range(0..100)),
        _ => f64::from(random.random_range(0..10_000)) / 100.0,
    }
}
