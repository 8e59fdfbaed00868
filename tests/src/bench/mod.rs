//! The benchmarks' cast: [`workload`] makes the requests, [`ingest`] and [`consume`] run the functions' own code over them,
//! [`cold_start`] starts the functions' real binaries, [`codecs`] times the formats. [`fleet`] pushes for hours and [`storage`] stores, compacts and ([`queries`])
//! queries that, over a store that counts what DynamoDB would ([`meter`]); [`price`] makes a bill of it. [`rules`] ticks. [`report`] keeps and
//! prints the figures.
//!
//! Speeds are samples per second of CPU time, not of wall time: that is what Lambda bills, and other work on the machine
//! disturbs it less. Nothing here talks to a network, and the store costs nothing: these are the costs of Tidemark's own code.

mod codecs;
mod cold_start;
mod consume;
mod cpu;
mod fleet;
mod ingest;
mod meter;
mod price;
mod queries;
mod report;
mod rules;
mod storage;
mod workload;

use anyhow::Context as _;
use report::Report;
use std::path::Path;
use tidemark_model::{Buckets, DAY_MS, WindowLength};
use tidemark_tsdb::{Layout, Retention};
use workload::{Minute, Pushing};

/// The buckets and the window of the template's defaults.
pub(crate) const BUCKETS: u16 = 16;
pub(crate) const WINDOW_SECONDS: u32 = 7_200;
pub(crate) const RETENTION_MS: i64 = 7 * 86_400_000;

/// The layout of the template's defaults, with windows of some length.
pub(crate) fn layout(window_seconds: u32) -> anyhow::Result<Layout> {
    Ok(Layout {
        buckets: Buckets::new(BUCKETS).context("the number of buckets")?,
        window: WindowLength::from_seconds(window_seconds).context("the length of a window")?,
        retention: Retention {
            raw_ms: RETENTION_MS,
            minute_ms: 30 * DAY_MS,
            hour_ms: 365 * DAY_MS,
        },
        grace_ms: 3_600_000,
    })
}

/// Takes all measurements. `functions` is the folder of the release binaries.
pub(crate) fn run(functions: &Path) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let mut report = Report::default();
    report::print_machine();
    // Starts are wall time: they come first, before the other measurements warm the machine up.
    runtime.block_on(cold_start::measure(functions, &mut report))?;
    for pushing in [Pushing::Collector, Pushing::Hosts] {
        let minutes = workload::minutes(pushing);
        report.section(pushing.describe());
        let streams = ingest::measure(pushing, &minutes, &mut report)?;
        consume::measure(pushing, &streams, &runtime, &mut report)?;
    }
    codecs::measure(&mut report)?;
    rules::measure(&runtime, &mut report)?;
    let ingest_speed = report.get("ingest.json_samples_per_cpu_second")?;
    storage::measure(ingest_speed, &runtime, &mut report)?;
    Ok(report)
}

/// How many samples the minutes hold.
pub(crate) fn samples(minutes: &[Minute]) -> u64 {
    minutes
        .iter()
        .flat_map(|minute| &minute.requests)
        .map(|request| request.samples)
        .sum()
}
