//! What the tick of the alert rules costs: 10,000 rules over 64 metrics of 100 hosts, and how often it reads.
//!
//! The rules are of all kinds that share: most watch one host, some a whole metric, with windows from a minute to an hour; a tenth of
//! them fires.

use super::cpu;
use super::fleet::FLUSH_MS;
use super::meter::{Meter, Part, Used};
use super::report::Report;
use super::{RETENTION_MS, WINDOW_SECONDS, layout};
use anyhow::{Context as _, ensure};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;
use tidemark_model::{Timestamp, limits};
use tidemark_rules::rule::RuleSpec;
use tidemark_rules::tick::{Shard, TickSummary, Which, World, evaluate};
use tidemark_rules::{AlertStore as _, MemoryAlertStore, MemoryTopic, Rule};
use tidemark_tsdb::flush::Origin;
use tidemark_tsdb::sequence::{SequenceNumber, ShardId};
use tidemark_tsdb::stream::StreamRecord;
use tidemark_tsdb::{Consumer, Layout, Reader, Select as _};
use tidemark_wire::batch::{BatchBuilder, TimeBounds};
use tidemark_wire::envelope;
use tokio::runtime::Runtime;

/// Ten past some whole hour: the last hour lies in one window of two hours.
const START_MS: i64 = 1_795_356_600_000;

const METRICS: usize = 64;

/// The longest look-back of a rule: for so long is pushed before the first tick, and a minute before each.
const MINUTES: i64 = 60;

const STEP_MS: i64 = 15_000;

/// A third of the evaluate function's memory, as it is configured.
const CACHE_BYTES: usize = 170_000_000;

/// What a clock shows that only the bench moves.
static NOW_MS: AtomicI64 = AtomicI64::new(START_MS);

fn now_ms() -> i64 {
    NOW_MS.load(Ordering::Relaxed)
}

/// Ticks over 10,000 rules, and over 1,000.
pub(crate) fn measure(runtime: &Runtime, report: &mut Report) -> anyhow::Result<()> {
    report.section("A tick of the alert rules over 64 metrics of 100 hosts: own CPU time, reads of DynamoDB");
    for rules in [1_000, 10_000] {
        let mut house = House::new(rules, 100, runtime)?;
        for state in ["cold", "warm"] {
            runtime.block_on(house.push())?;
            let tick = house.tick(runtime)?;
            ensure!(
                tick.summary.is_complete() && tick.summary.rules_evaluated == rules,
                "{:?}",
                tick.summary
            );
            let name = |figure: &str| format!("rules.{figure}.{rules}_{state}");
            let goal = if rules == 10_000 { "below 60,000" } else { "" };
            report.add(name("tick_ms"), tick.wall_ms, goal)?;
            report.add(name("tick_cpu_ms"), tick.cpu_ms, goal)?;
            report.add(
                name("read_passes_per_bucket"),
                tick.passes_per_bucket(&house),
                "at most 1",
            )?;
            report.add(name("selections"), tick.summary.selections as f64, "")?;
            report.add(name("samples_read"), tick.summary.samples_read as f64, "")?;
            let calls: u64 = tick.used.values().map(|used| used.read_calls).sum();
            let units: u64 = tick.used.values().map(|used| used.read_units).sum();
            report.add_exact(name("reads_per_rule"), calls as f64 / rules as f64, "")?;
            report.add(name("read_units"), units as f64, "")?;
        }
    }
    Ok(())
}

/// What a tick did and cost.
struct Tick {
    summary: TickSummary,
    used: BTreeMap<Part, Used>,
    wall_ms: f64,
    cpu_ms: f64,
}

impl Tick {
    /// How often the segments of a bucket's window were asked for: all samples lie in one window.
    fn passes_per_bucket(&self, house: &House) -> f64 {
        let calls = self.used.get(&Part::Segments).map_or(0, |used| used.read_calls);
        calls as f64 / house.buckets() as f64
    }
}

/// Rules, and the samples that they read.
struct House {
    hosts: usize,
    layout: Layout,
    store: Arc<Meter>,
    consumer: Consumer<Meter>,
    sequence: u64,
    reader: Reader<Meter>,
    alerts: MemoryAlertStore,
    topic: MemoryTopic,
}

impl House {
    /// An hour of samples.
    fn new(rules: usize, hosts: usize, runtime: &Runtime) -> anyhow::Result<Self> {
        NOW_MS.store(START_MS, Ordering::Relaxed);
        let layout = layout(WINDOW_SECONDS)?;
        let store = Arc::new(Meter::default());
        let mut house = Self {
            hosts,
            layout,
            consumer: Consumer::new(Arc::clone(&store), layout, Origin::Stream, Arc::new(now_ms)),
            sequence: 0,
            reader: Reader::new(Arc::clone(&store), layout, CACHE_BYTES),
            store,
            alerts: MemoryAlertStore::new(),
            topic: MemoryTopic::new(),
        };
        runtime.block_on(async {
            for number in 0..rules {
                house.alerts.create_rule(&rule(number, hosts)?).await?;
            }
            for _ in 0..MINUTES {
                house.push().await?;
            }
            anyhow::Ok(())
        })?;
        Ok(house)
    }

    /// A minute of samples of all metrics and hosts, stored at its end.
    async fn push(&mut self) -> anyhow::Result<()> {
        let from_ms = now_ms();
        NOW_MS.store(from_ms + FLUSH_MS, Ordering::Relaxed);
        let mut records = Vec::new();
        for data in minute(self.layout, self.hosts, from_ms)? {
            self.sequence += 1;
            records.push(StreamRecord {
                sequence: SequenceNumber::parse(&self.sequence.to_string()).context("a sequence number")?,
                arrival_ms: now_ms(),
                data,
            });
        }
        let shard = ShardId("shardId-000000000000".to_owned());
        let flushed = self
            .consumer
            .flush(&shard, &records, &*self.store)
            .await
            .context("storing")?;
        ensure!(
            flushed.undecodable == 0 && flushed.refused == 0,
            "not all was stored: {flushed:?}"
        );
        Ok(())
    }

    /// How many buckets the metrics lie in.
    fn buckets(&self) -> usize {
        let buckets: BTreeSet<_> = (0..METRICS).map(|number| self.reader.bucket(&metric(number))).collect();
        buckets.len()
    }

    fn tick(&self, runtime: &Runtime) -> anyhow::Result<Tick> {
        let world = World {
            alerts: &self.alerts,
            data: &self.reader,
            publisher: &self.topic,
            now: Timestamp(now_ms()),
            may_go_on: &|| true,
        };
        self.store.take();
        let (began, began_cpu) = (Instant::now(), cpu::used()?);
        let ticked = runtime.block_on(evaluate(&world, Shard::WHOLE, Which::Due { every_ms: FLUSH_MS }));
        Ok(Tick {
            wall_ms: began.elapsed().as_secs_f64() * 1_000.0,
            cpu_ms: cpu::used()?.saturating_sub(began_cpu).as_secs_f64() * 1_000.0,
            summary: ticked.context("the tick")?,
            used: self.store.take(),
        })
    }
}

fn metric(number: usize) -> String {
    format!("app_metric_{number:02}")
}

/// Nine of ten rules watch a host, the others all hosts of a metric.
fn rule(number: usize, hosts: usize) -> anyhow::Result<Rule> {
    let host = format!("host-{:03}", number / METRICS % hosts);
    let mut body = json!({"name": format!("rule {number}"), "metric_name": metric(number % METRICS), "condition": ">",
        "threshold": if number % 10 == 3 { -1.0 } else { 1e9 }, "severity": "warning", "duration_seconds": 0,
        "annotations": {"summary": "{{ host }} is at {{ value }}"}});
    match number % 10 {
        0 => {
            body["aggregation"] = json!("avg");
            body["group_by"] = json!(["host"]);
        }
        shape => {
            body["labels"] = json!({ "host": host });
            if shape % 2 == 0 {
                body["aggregation"] = json!("max");
                body["window_seconds"] = json!([60, 300, 900, 3_600][shape / 2 - 1]);
            }
        }
    }
    let spec = RuleSpec::parse(&body).map_err(|invalid| anyhow::anyhow!("rule {number}: {invalid}"))?;
    Ok(Rule {
        id: format!("{number:016x}"),
        spec,
        version: 1,
        created_at: Timestamp(START_MS),
        updated_at: Timestamp(START_MS),
    })
}

/// The records of a minute.
fn minute(layout: Layout, hosts: usize, from_ms: i64) -> anyhow::Result<Vec<Vec<u8>>> {
    let now_ms = from_ms + FLUSH_MS;
    let mut all = Vec::new();
    let hosts: Vec<String> = (0..hosts).map(|host| format!("host-{host:03}")).collect();
    for number in 0..METRICS {
        let mut builder = BatchBuilder::new(TimeBounds {
            now_ms,
            oldest_ms: now_ms - RETENTION_MS,
            newest_ms: now_ms + limits::MAX_FUTURE_MS,
        });
        let name = metric(number);
        for host in &hosts {
            for step in 0..FLUSH_MS / STEP_MS {
                let at_ms = from_ms + step * STEP_MS;
                let value = (at_ms / STEP_MS % 97) as f64;
                builder.push(&name, [("host", host.as_str()), ("region", "eu")], Some(at_ms), value);
            }
        }
        let batch = builder.finish();
        ensure!(batch.rejected() == 0, "samples were refused: {:?}", batch.errors());
        let records = envelope::encode_records(&batch, layout.buckets, &|_| 0, 1, now_ms);
        all.extend(records.into_iter().map(|record| record.data));
    }
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_tick_of_a_thousand_rules_over_64_metrics_reads_each_bucket_once() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut house = House::new(1_000, 5, &runtime).unwrap();
        runtime.block_on(house.push()).unwrap();
        let reads = |tick: &Tick, part: Part| tick.used.get(&part).map_or(0, |used| used.read_calls as usize);

        let cold = house.tick(&runtime).unwrap();
        assert_eq!(cold.summary.rules_evaluated, 1_000);
        assert_eq!(cold.summary.alerts_triggered, 100);
        assert_eq!(cold.summary.read_passes, house.buckets());
        assert!(house.buckets() <= usize::from(super::super::BUCKETS));
        assert_eq!(reads(&cold, Part::Segments), house.buckets());
        assert_eq!(reads(&cold, Part::Catalog), METRICS);

        runtime.block_on(house.push()).unwrap();
        let warm = house.tick(&runtime).unwrap();
        assert_eq!(
            (warm.summary.rules_evaluated, warm.summary.alerts_triggered),
            (1_000, 0)
        );
        assert_eq!(reads(&warm, Part::Segments), house.buckets());
        assert_eq!(reads(&warm, Part::Catalog), 0);
    }
}
