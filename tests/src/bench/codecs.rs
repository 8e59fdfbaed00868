//! What it takes to encode and to decode the formats of the tables, in CPU nanoseconds per sample. The merge between them is
//! what is left of a compaction's time without them ([`super::storage`]).

use super::cpu;
use super::report::Report;
use anyhow::{Context as _, ensure};
use std::hint::black_box;
use tidemark_model::Sample;
use tidemark_testkit::mix::Mix;
use tidemark_tsdb::segment::{self, Entry};
use tidemark_tsdb::{chunk, rollup};

const HOSTS: usize = 100;

/// Two hours at 15 s.
const SAMPLES_PER_CHUNK: usize = 480;

/// A flush of a minute at 15 s.
const SAMPLES_PER_FLUSH: usize = 4;

/// Midnight.
const START_MS: i64 = 1_795_305_600_000;

/// Measures every format over the mix.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    report.section("CPU nanoseconds per sample, 1,000 series of the mix");
    let series: Vec<Vec<Sample>> = Mix::new(HOSTS, START_MS)
        .scrapes(SAMPLES_PER_CHUNK)
        .into_iter()
        .map(|samples| {
            let sample = |(timestamp_ms, value)| Sample { timestamp_ms, value };
            samples.into_iter().map(sample).collect()
        })
        .collect();
    let all = (series.len() * SAMPLES_PER_CHUNK) as u64;

    let entries: Vec<Entry<'_>> = (0..)
        .zip(&series)
        .map(|(reference, samples)| Entry {
            reference,
            samples: &samples[..SAMPLES_PER_FLUSH],
        })
        .collect();
    let of_flush = (series.len() * SAMPLES_PER_FLUSH) as u64;
    let segment = segment::encode(&entries);
    let mut read = Vec::new();
    add(report, "segment.ns_per_sample.encode", || {
        black_box(segment::encode(black_box(&entries)));
        Ok(of_flush)
    })?;
    add(report, "segment.ns_per_sample.decode", || {
        read.clear();
        let decoded = segment::decode(black_box(&segment)).context("a segment")?;
        for index in 0..decoded.references().len() {
            decoded.read_entry(index, &mut read);
        }
        Ok(read.len() as u64)
    })?;

    let chunks: Vec<Vec<u8>> = series.iter().map(|samples| chunk::encode(samples)).collect();
    add(report, "chunk.ns_per_sample.encode", || {
        for samples in &series {
            black_box(chunk::encode(black_box(samples)));
        }
        Ok(all)
    })?;
    add(report, "chunk.ns_per_sample.decode", || {
        for chunk in &chunks {
            read.clear();
            chunk::decode(black_box(chunk), &mut read).context("a chunk")?;
        }
        Ok(all)
    })?;

    let minute = |samples: &[Sample]| {
        let rolled = rollup::roll(samples, 60_000).context("a rollup")?;
        anyhow::Ok(rollup::encode(&rolled, 60_000))
    };
    let minutes: Vec<Vec<u8>> = series.iter().map(|samples| minute(samples)).collect::<Result<_, _>>()?;
    add(report, "aggregate_1m.ns_per_sample.encode", || {
        for samples in &series {
            black_box(minute(black_box(samples))?);
        }
        Ok(all)
    })?;
    add(report, "aggregate_1m.ns_per_sample.decode", || {
        for block in &minutes {
            let decoded = rollup::decode(black_box(block)).context("a block of minutes")?;
            ensure!(!decoded.rollup.points.is_empty(), "a block without points");
        }
        Ok(all)
    })
}

fn add(report: &mut Report, name: &str, work: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<()> {
    report.add(name, 1e9 / cpu::samples_per_second(work)?, "")
}
