//! Measures the formats on the mix: CPU time per sample of ingest's path (JSON to records), of consume's (records to
//! segments), of segments, of chunks and of rollups alone, and the bytes of all, those of blocks for each class of series.
//! `cargo run --release -p tidemark-tsdb --example formats`; with `-- blocks` chunks and rollups alone.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::hint::black_box;
use tidemark_model::{Buckets, Sample, SeriesId};
use tidemark_testkit::mix::{Mix, STEP_MS};
use tidemark_tsdb::segment::{self, Entry};
use tidemark_tsdb::{chunk, rollup};
use tidemark_wire::envelope::{Envelope, Record, decode, encode_records};
use tidemark_wire::{TimeBounds, decode_metrics};

type Outcome<T> = Result<T, Box<dyn Error>>;

const START_MS: i64 = 1_767_225_600_000;
const SAMPLES_PER_REQUEST: usize = 2_000;
const REQUESTS: usize = 20;
const SHARDS: usize = 4;
const BOUNDS: TimeBounds = TimeBounds {
    now_ms: START_MS,
    oldest_ms: START_MS,
    newest_ms: START_MS + 1_000 * STEP_MS,
};

/// The CPU time that this thread has taken, in nanoseconds.
fn cpu_ns() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(text
        .split_ascii_whitespace()
        .next()
        .ok_or("an empty schedstat")?
        .parse()?)
}

/// Nanoseconds of CPU per run: the best of five stretches. The kernel's count moves in steps of some milliseconds, so that
/// a stretch has to be long.
fn measure(mut run: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    const STRETCH_NS: u64 = 300_000_000;
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = cpu_ns()?;
        let mut runs = 0.0;
        loop {
            run()?;
            runs += 1.0;
            let spent = cpu_ns()? - start;
            if spent >= STRETCH_NS {
                best = best.min(spent as f64 / runs);
                break;
            }
        }
    }
    Ok(best)
}

fn report(what: &str, ns_per_sample: f64) {
    println!(
        "  {what:34} {ns_per_sample:6.0} ns/sample {:6.2} M samples/CPU s",
        1e3 / ns_per_sample
    );
}

fn ingest(body: &[u8], buckets: Buckets) -> Outcome<Vec<Record>> {
    let batch = decode_metrics(body, BOUNDS)?;
    let shard_of = |bucket: tidemark_model::Bucket| usize::from(bucket.0) * SHARDS / usize::from(buckets.count());
    Ok(encode_records(&batch, buckets, &shard_of, SHARDS, START_MS))
}

/// All records of one shard to one segment per bucket, as one flush.
fn consume(records: &[&Record], buckets: Buckets) -> Outcome<usize> {
    let envelopes = records
        .iter()
        .map(|record| decode(&record.data))
        .collect::<Result<Vec<Envelope>, _>>()?;
    let mut known: HashMap<SeriesId, u32> = HashMap::new();
    let mut ids = Vec::new();
    let mut rows: Vec<(u32, Sample)> = Vec::new();
    for series in envelopes.iter().flat_map(Envelope::series) {
        let id = series.id();
        let reference = *known.entry(id).or_insert_with(|| {
            ids.push(id);
            ids.len() as u32 - 1
        });
        rows.extend(series.samples().map(|sample| (reference, sample)));
    }
    rows.sort_by_key(|(reference, sample)| (*reference, sample.timestamp_ms));
    let samples: Vec<Sample> = rows.iter().map(|(_, sample)| *sample).collect();
    let mut by_bucket: Vec<Vec<Entry<'_>>> = vec![Vec::new(); usize::from(buckets.count())];
    let mut start = 0;
    for run in rows.chunk_by(|a, b| a.0 == b.0) {
        let bucket = buckets.of(ids[run[0].0 as usize]);
        by_bucket[usize::from(bucket.0)].push(Entry {
            reference: run[0].0,
            samples: &samples[start..start + run.len()],
        });
        start += run.len();
    }
    Ok(by_bucket
        .iter()
        .flat_map(|entries| segment::split(entries))
        .map(|part| part.len())
        .sum())
}

fn measure_pipeline(hosts: usize, scrapes: usize, buckets: Buckets) -> Outcome<()> {
    let mut mix = Mix::new(hosts, START_MS);
    let bodies: Vec<Vec<u8>> = (0..REQUESTS)
        .flat_map(|_| mix.json_bodies(scrapes, SAMPLES_PER_REQUEST))
        .collect();
    let samples = (bodies.len() * SAMPLES_PER_REQUEST) as f64;
    let json_bytes: usize = bodies.iter().map(Vec::len).sum();
    println!(
        "{} series x {scrapes} samples per request, {:.0} bytes of JSON per sample",
        hosts * 10,
        json_bytes as f64 / samples
    );

    let mut records = Vec::new();
    for body in &bodies {
        records.extend(ingest(body, buckets)?);
    }
    let ns = measure(|| {
        for body in &bodies {
            black_box(ingest(body, buckets)?);
        }
        Ok(())
    })?;
    report("ingest: JSON to records", ns / samples);
    let ns = measure(|| {
        for shard in 0..SHARDS {
            let records: Vec<&Record> = records.iter().filter(|record| record.shard == shard).collect();
            black_box(consume(&records, buckets)?);
        }
        Ok(())
    })?;
    report("consume: records to segments", ns / samples);
    let stream_bytes: usize = records.iter().map(|record| record.data.len()).sum();
    println!(
        "  stream: {:.2} bytes/sample in {} records per request",
        stream_bytes as f64 / samples,
        records.len() / bodies.len()
    );
    Ok(())
}

/// The samples of each series of the mix.
fn mix_samples(hosts: usize, scrapes: usize) -> Vec<Vec<Sample>> {
    let sample = |(timestamp_ms, value)| Sample { timestamp_ms, value };
    let series = Mix::new(hosts, START_MS).scrapes(scrapes).into_iter();
    series
        .map(|samples| samples.into_iter().map(sample).collect())
        .collect()
}

fn measure_segment(hosts: usize, scrapes: usize) -> Outcome<()> {
    let all = mix_samples(hosts, scrapes);
    let entries: Vec<Entry<'_>> = (0..)
        .zip(&all)
        .map(|(reference, samples)| Entry { reference, samples })
        .collect();
    let count = (all.len() * scrapes) as f64;
    let bytes = segment::encode(&entries);
    println!(
        "segment of {} series x {scrapes} samples: {:.3} bytes/sample",
        all.len(),
        bytes.len() as f64 / count
    );
    let ns = measure(|| {
        black_box(segment::encode(&entries));
        Ok(())
    })?;
    report("encode", ns / count);
    let ns = measure(|| {
        let segment = segment::decode(&bytes)?;
        let mut out = Vec::with_capacity(all.len() * scrapes);
        for index in 0..segment.references().len() {
            segment.read_entry(index, &mut out);
        }
        black_box(out);
        Ok(())
    })?;
    report("decode and read all", ns / count);
    Ok(())
}

/// What the blocks of one class took.
#[derive(Default)]
struct Taken {
    blocks: usize,
    /// Samples of a chunk, points of a rollup.
    items: usize,
    bytes: usize,
    /// Write units of 1 KiB, with some 60 bytes of keys in each item.
    units: usize,
}

impl Taken {
    fn add(&mut self, items: usize, bytes: usize) {
        self.blocks += 1;
        self.items += items;
        self.bytes += bytes;
        self.units += (bytes + 60).div_ceil(1_024);
    }

    fn report(&self, what: &str, item: &str) {
        println!(
            "  {what:34} {:6.3} bytes/{item} {:6.0} bytes/block {:5.2} write units/block",
            self.bytes as f64 / self.items as f64,
            self.bytes as f64 / self.blocks as f64,
            self.units as f64 / self.blocks as f64
        );
    }
}

/// The bytes of each class's blocks.
fn report_blocks(hosts: usize, item: &str, blocks: &[(usize, Vec<u8>)]) {
    let mut classes: BTreeMap<String, Taken> = BTreeMap::new();
    let mut all = Taken::default();
    for (series, (items, bytes)) in Mix::new(hosts, START_MS).series().iter().zip(blocks) {
        let class = format!("{:?}", series.class);
        classes.entry(class).or_default().add(*items, bytes.len());
        all.add(*items, bytes.len());
    }
    for (class, taken) in &classes {
        taken.report(class, item);
    }
    all.report("all", item);
}

fn measure_chunks(hosts: usize, scrapes: usize) -> Outcome<()> {
    let all = mix_samples(hosts, scrapes);
    let count = (all.len() * scrapes) as f64;
    println!("chunks of {} series x {scrapes} samples", all.len());
    let chunks: Vec<(usize, Vec<u8>)> = all
        .iter()
        .map(|samples| (samples.len(), chunk::encode(samples)))
        .collect();
    report_blocks(hosts, "sample", &chunks);
    let ns = measure(|| {
        all.iter().for_each(|samples| {
            black_box(chunk::encode(samples));
        });
        Ok(())
    })?;
    report("encode", ns / count);
    let mut out = Vec::with_capacity(scrapes);
    let ns = measure(|| {
        for (_, bytes) in &chunks {
            out.clear();
            chunk::decode(bytes, &mut out)?;
            black_box(&out);
        }
        Ok(())
    })?;
    report("decode", ns / count);
    Ok(())
}

fn measure_rollups(hosts: usize, scrapes: usize, resolution_ms: i64) -> Outcome<()> {
    let all = mix_samples(hosts, scrapes);
    let count = (all.len() * scrapes) as f64;
    let rolled = |samples: &[Sample]| -> Outcome<(usize, Vec<u8>)> {
        let rollup = rollup::roll(samples, resolution_ms).ok_or("no samples")?;
        Ok((rollup.points.len(), rollup::encode(&rollup, resolution_ms)))
    };
    let rollups = all.iter().map(|samples| rolled(samples)).collect::<Outcome<Vec<_>>>()?;
    println!(
        "rollups of {} series x {scrapes} samples in steps of {} s",
        all.len(),
        resolution_ms / 1_000
    );
    report_blocks(hosts, "point", &rollups);
    let ns = measure(|| {
        for samples in &all {
            black_box(rolled(samples)?);
        }
        Ok(())
    })?;
    report("roll and encode", ns / count);
    let ns = measure(|| {
        for (_, bytes) in &rollups {
            black_box(rollup::decode(bytes)?);
        }
        Ok(())
    })?;
    let points: usize = rollups.iter().map(|(points, _)| points).sum();
    println!("  {:34} {:6.0} ns/point", "decode", ns / points as f64);
    Ok(())
}

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() != Some("blocks") {
        let buckets = Buckets::new(16).ok_or("16 buckets are allowed")?;
        measure_pipeline(200, 1, buckets)?;
        measure_pipeline(50, 4, buckets)?;
        measure_segment(100, 4)?;
        measure_segment(100, 20)?;
    }
    measure_chunks(100, 480)?;
    measure_chunks(100, 120)?;
    measure_rollups(100, 480, 60_000)?;
    measure_rollups(50, 5_760, 3_600_000)
}
