//! The storage engine as a whole: fleets push for a day, or for a window where they are large; the real consumer and the real
//! compactor work over a store that meters them. Sizes, capacity units and the price come from here.

use super::fleet::{FLUSH_MS, Fleet};
use super::meter::{Meter, Part, Used};
use super::price::{self, Counted};
use super::report::Report;
use super::{WINDOW_SECONDS, cpu, layout, queries};
use anyhow::{Context as _, ensure};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tidemark_model::DAY_MS;
use tidemark_tsdb::Consumer;
use tidemark_tsdb::compact::Compactor;
use tidemark_tsdb::flush::Origin;
use tidemark_tsdb::sequence::ShardId;
use tokio::runtime::Runtime;

/// Midnight, somewhere in a catalog period.
const START_MS: i64 = 1_795_305_600_000;

/// The compactor's tick: the template's default.
const TICK_MS: i64 = 300_000;

/// One kind of fleet, and for how long it pushes: a day, or a window when a day would take minutes to compute. What an hour
/// block costs does not depend on how many other series there are: a large fleet takes that from the smaller one.
struct Kind {
    name: &'static str,
    series: usize,
    interval_s: u32,
    window_s: u32,
    hours_like: Option<&'static str>,
}

const fn kind(
    name: &'static str,
    series: usize,
    interval_s: u32,
    window_s: u32,
    hours_like: Option<&'static str>,
) -> Kind {
    Kind {
        name,
        series,
        interval_s,
        window_s,
        hours_like,
    }
}

/// The windows that `infra/SIZING.md` asks for where most series have a sample a minute.
const SLOW_WINDOW_SECONDS: u32 = 14_400;

const KINDS: [Kind; 7] = [
    kind("15s_1k", 1_000, 15, WINDOW_SECONDS, None),
    kind("15s_10k", 10_000, 15, WINDOW_SECONDS, None),
    kind("15s_100k", 100_000, 15, WINDOW_SECONDS, Some("15s_10k")),
    kind("60s_1k", 1_000, 60, SLOW_WINDOW_SECONDS, None),
    kind("60s_10k", 10_000, 60, SLOW_WINDOW_SECONDS, None),
    kind("60s_100k", 100_000, 60, SLOW_WINDOW_SECONDS, Some("60s_10k")),
    // The same in the windows of the template's default.
    kind("60s_100k_2h", 100_000, 60, WINDOW_SECONDS, Some("60s_10k")),
];

/// Pushes, stores, compacts and queries.
pub(crate) fn measure(ingest_speed: f64, runtime: &Runtime, report: &mut Report) -> anyhow::Result<()> {
    let mut fleets: Vec<(&str, Counted)> = Vec::new();
    for kind in &KINDS {
        println!("  … {}", kind.name);
        let mut counted = run(kind, ingest_speed, runtime, report)?;
        if let Some(like) = kind.hours_like {
            let (_, other) = fleets.iter().find(|(name, _)| *name == like).context("no such fleet")?;
            counted.take_hours_of(other);
        }
        fleets.push((kind.name, counted));
    }
    price::report(&fleets, report)
}

/// What a clock shows that only the bench moves: the consumer and the compactor ask for the time by a plain function.
static NOW_MS: AtomicI64 = AtomicI64::new(START_MS);

fn now_ms() -> i64 {
    NOW_MS.load(Ordering::Relaxed)
}

fn run(kind: &Kind, ingest_speed: f64, runtime: &Runtime, report: &mut Report) -> anyhow::Result<Counted> {
    let layout = layout(kind.window_s)?;
    let store = Arc::new(Meter::default());
    let mut consumer = Consumer::new(Arc::clone(&store), layout, Origin::Stream, Arc::new(now_ms));
    let mut fleet = Fleet::new(
        kind.series,
        i64::from(kind.interval_s) * 1_000,
        START_MS,
        layout.buckets,
    );
    let length_ms = if kind.hours_like.is_some() {
        layout.window.ms()
    } else {
        DAY_MS
    };
    let shard = ShardId("shardId-000000000000".to_owned());
    let mut consume_cpu = Duration::ZERO;
    let flushes = length_ms / FLUSH_MS;
    for flush in 1..=flushes {
        NOW_MS.store(START_MS + flush * FLUSH_MS, Ordering::Relaxed);
        let records = fleet.next_flush()?;
        let began = cpu::used()?;
        let flushed = runtime.block_on(consumer.flush(&shard, &records, &*store))?;
        consume_cpu += cpu::used()?.saturating_sub(began);
        ensure!(
            flushed.undecodable == 0 && flushed.refused == 0,
            "not all was stored: {flushed:?}"
        );
    }
    let consume = store.take();

    NOW_MS.store(START_MS + length_ms + layout.grace_ms, Ordering::Relaxed);
    let began = cpu::used()?;
    let compactor = Compactor::new(Arc::clone(&store), layout, 0);
    let compacted = runtime.block_on(compactor.run(now_ms, 0, || false))?;
    let compact_cpu = cpu::used()?.saturating_sub(began);
    let pushed = fleet.pushed;
    ensure!(
        compacted.samples >= pushed.samples,
        "of {} samples these were compacted: {compacted:?}",
        pushed.samples
    );
    let mut compact = store.take();
    // The ticks that find nothing to do look at each bucket's progress.
    let ticks = (length_ms / TICK_MS) as u64;
    let marks = compact.entry(Part::Marks).or_default();
    let looks = ticks * u64::from(layout.buckets.count());
    marks.read_calls += looks;
    marks.pages += looks;
    marks.read_units += looks;

    let counted = Counted {
        series: kind.series,
        interval_s: kind.interval_s,
        samples: pushed.samples,
        requests: pushed.requests,
        put_units: pushed.put_units,
        flushes: flushes as u64,
        ticks,
        consume,
        compact,
        ingest_cpu_s: pushed.samples as f64 / ingest_speed,
        consume_cpu_s: consume_cpu.as_secs_f64(),
        compact_cpu_s: compact_cpu.as_secs_f64(),
        chunk_days: if kind.interval_s < 60 { 8.0 } else { 31.0 },
    };
    if kind.name == "15s_10k" {
        report_sizes(&counted, report)?;
        queries::measure(&store, layout, START_MS + length_ms, runtime, report)?;
    }
    Ok(counted)
}

/// Sizes and units of the fleet that the goals are about.
fn report_sizes(counted: &Counted, report: &mut Report) -> anyhow::Result<()> {
    report.section("10,000 series at 15 s for a day, in requests of 2,000 samples, a flush every 60 s");
    let samples = counted.samples as f64;
    let used = |from: &BTreeMap<Part, Used>, part| from.get(&part).copied().unwrap_or_default();
    let segments = used(&counted.consume, Part::Segments);
    let chunks = used(&counted.compact, Part::Chunks);
    let minute = used(&counted.compact, Part::Minute);
    let hour = used(&counted.compact, Part::Hour);
    report.add("segment.bytes_per_sample.10k", segments.item_bytes as f64 / samples, "")?;
    report.add(
        "chunk.bytes_per_sample",
        chunks.data_bytes as f64 / samples,
        "at most 1.8",
    )?;
    report.add(
        "chunk.write_units_per_item",
        chunks.write_units as f64 / chunks.items as f64,
        "",
    )?;
    report.add(
        "aggregate_1m.bytes_per_point",
        minute.data_bytes as f64 / (samples / 4.0),
        "",
    )?;
    report.add(
        "aggregate_1m.write_units_per_series_and_window",
        minute.write_units as f64 / minute.items as f64,
        "at most 2",
    )?;
    report.add(
        "aggregate_1h.bytes_per_point",
        hour.data_bytes as f64 / (samples / 240.0),
        "",
    )?;
    report.add(
        "compact.samples_per_cpu_second",
        samples / counted.compact_cpu_s,
        "at least 5 M",
    )?;
    let compact_ns = 1e9 * counted.compact_cpu_s / samples;
    report.add("compact.ns_per_sample", compact_ns, "")?;
    // Segments are decoded twice, for the window and for its day. What is left is finding each series' samples, bringing them into
    // order, the hours, and the store's own time.
    let known_ns = 2.0 * report.get("segment.ns_per_sample.decode")?
        + report.get("chunk.ns_per_sample.encode")?
        + report.get("aggregate_1m.ns_per_sample.encode")?;
    report.add("compact.ns_per_sample.merge_at_most", compact_ns - known_ns, "")?;
    for part in Part::ALL {
        let both = used(&counted.consume, part).write_units + used(&counted.compact, part).write_units;
        report.add(
            format!("write_units_per_million_samples.{}", part.name()),
            both as f64 / samples * 1e6,
            "",
        )?;
        let reads = used(&counted.consume, part).read_units + used(&counted.compact, part).read_units;
        report.add(
            format!("read_units_per_million_samples.{}", part.name()),
            reads as f64 / samples * 1e6,
            "",
        )?;
    }
    Ok(())
}
