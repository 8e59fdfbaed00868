//! Ingest's own work: from the bytes of a request to the records for the stream.

use super::report::Report;
use super::workload::{Minute, Pushing, Request};
use super::{BUCKETS, RETENTION_MS, cpu, samples};
use anyhow::{Context as _, anyhow, ensure};
use std::hint::black_box;
use tidemark_model::Buckets;
use tidemark_tsdb::ingest::{Intake, ShardMap, prepare};
use tidemark_tsdb::sequence::SequenceNumber;
use tidemark_tsdb::stream::StreamRecord;
use tidemark_wire::envelope::Record;

/// The records of one flush.
pub(crate) struct Batch {
    pub(crate) records: Vec<StreamRecord>,
    pub(crate) samples: u64,
}

/// Measures, and returns what a stream of one shard holds afterwards: a batch for each minute.
pub(crate) fn measure(pushing: Pushing, minutes: &[Minute], report: &mut Report) -> anyhow::Result<Vec<Batch>> {
    let buckets = Buckets::new(BUCKETS).context("the number of buckets")?;
    let intake = Intake {
        buckets,
        retention_ms: RETENTION_MS,
    };
    let one = even_shards(buckets, 1);
    let mut requests = minutes.iter().flat_map(|minute| &minute.requests).cycle();
    let speed = cpu::samples_per_second(|| {
        // As many as make up a minute, so that the clock is not read too often.
        let mut samples = 0;
        while samples < 4_000 {
            let request = requests.next().context("there are no requests")?;
            black_box(records(black_box(request), &intake, &one)?);
            samples += request.samples;
        }
        Ok(samples)
    })?;
    let suffix = pushing.suffix();
    let goal = if suffix.is_empty() { "1 M" } else { "" };
    report.add(format!("ingest.json_samples_per_cpu_second{suffix}"), speed, goal)?;

    for (shards, name) in [(&one, ""), (&even_shards(buckets, 4), "_4_shards")] {
        let mut most = 0;
        for request in minutes.iter().flat_map(|minute| &minute.requests) {
            most = most.max(records(request, &intake, shards)?.len());
        }
        let goal = format!("at most {}", shards.shards());
        report.add(
            format!("stream.max_records_per_request{name}{suffix}"),
            most as f64,
            &goal,
        )?;
    }

    let streams = streams(minutes, &intake, &one)?;
    let bytes: usize = streams
        .iter()
        .flat_map(|batch| &batch.records)
        .map(|record| record.data.len())
        .sum();
    report.add(
        format!("stream.bytes_per_sample{suffix}"),
        bytes as f64 / samples(minutes) as f64,
        "",
    )?;
    Ok(streams)
}

fn records(request: &Request, intake: &Intake, shards: &ShardMap) -> anyhow::Result<Vec<Record>> {
    let (records, accepted) =
        prepare(&request.body, intake, shards, request.now_ms).map_err(|refused| anyhow!("{refused:?}"))?;
    ensure!(
        accepted.accepted as u64 == request.samples,
        "samples were refused: {:?}",
        accepted.errors
    );
    Ok(records)
}

/// What the minutes leave in a stream.
fn streams(minutes: &[Minute], intake: &Intake, shards: &ShardMap) -> anyhow::Result<Vec<Batch>> {
    let mut sequence = 0_u64;
    let mut batches = Vec::with_capacity(minutes.len());
    for minute in minutes {
        let mut batch = Batch {
            records: Vec::new(),
            samples: 0,
        };
        for request in &minute.requests {
            for record in records(request, intake, shards)? {
                sequence += 1;
                batch.records.push(StreamRecord {
                    sequence: SequenceNumber::parse(&sequence.to_string()).context("a sequence number")?,
                    arrival_ms: request.now_ms,
                    data: record.data,
                });
            }
            batch.samples += request.samples;
        }
        batches.push(batch);
    }
    Ok(batches)
}

/// Shards that divide the key space evenly, as a new stream has them.
fn even_shards(buckets: Buckets, count: u128) -> ShardMap {
    let share = u128::MAX / count;
    let ranges: Vec<(u128, u128)> = (0..count)
        .map(|shard| {
            let last = if shard + 1 == count {
                u128::MAX
            } else {
                share * (shard + 1) - 1
            };
            (share * shard, last)
        })
        .collect();
    ShardMap::new(buckets, &ranges)
}
