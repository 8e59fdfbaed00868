//! From a batch to records.

use super::{HEADER_BYTES, NEXT_VALUE, NUMBERED_VALUE, PLAIN, Record, SAME_VALUE, VERSION, ZSTD};
use crate::batch::{Batch, NameAndSet};
use crate::intern::{Interner, mix};
use tidemark_encoding::compress;
use tidemark_encoding::times::RowEncoder;
use tidemark_encoding::values::ValueEncoder;
use tidemark_encoding::varint::{put_i64, put_len, put_u64};
use tidemark_model::limits::{MAX_DECOMPRESSED_RECORD_BYTES, MAX_RECORD_BYTES, MAX_SAMPLES_PER_REQUEST};
use tidemark_model::{Bucket, Buckets, Sample};

const NONE: u32 = u32::MAX;

/// Samples of one series that go into one record: a range of [`Grouped::samples`].
#[derive(Clone, Copy)]
struct Part {
    at: NameAndSet,
    start: u32,
    end: u32,
}

/// Encodes a batch: at most one record per shard, more only where a record would pass [`MAX_RECORD_BYTES`]. `shard_of`
/// says which of the `shards` holds a bucket.
#[must_use]
pub fn encode_records(
    batch: &Batch<'_>,
    buckets: Buckets,
    shard_of: &dyn Fn(Bucket) -> usize,
    shards: usize,
    arrival_ms: i64,
) -> Vec<Record> {
    let grouped = Grouped::new(batch);
    let last_shard = shards.saturating_sub(1);
    let bucket_of = |part: &Part| buckets.of_metric(batch.names[part.at.name as usize].hash);
    let mut by_shard: Vec<Vec<Part>> = vec![Vec::new(); last_shard + 1];
    for parts in grouped.parts.chunk_by(|a, b| a.at.name == b.at.name) {
        // A shard beyond the last can only come from a shard map in the making; any shard will do.
        let shard = shard_of(bucket_of(&parts[0])).min(last_shard);
        by_shard[shard].extend_from_slice(parts);
    }
    let mut records = Vec::new();
    for (shard, parts) in by_shard.into_iter().enumerate() {
        let mut waiting = vec![parts];
        while let Some(parts) = waiting.pop() {
            let samples: u32 = parts.iter().map(|part| part.end - part.start).sum();
            let Some(first) = parts.first() else { continue };
            if let Some(data) = encode(batch, &grouped.samples, &parts, samples, arrival_ms) {
                records.push(Record {
                    shard,
                    explicit_hash_key: buckets.hash_key(bucket_of(first)),
                    data,
                    samples,
                });
            } else {
                let (front, back) = halve(&parts, samples);
                waiting.push(back);
                waiting.push(front);
            }
        }
    }
    records
}

/// The samples of a batch, sorted by series; the series, sorted by metric name. Both keep the order of arrival.
struct Grouped {
    samples: Vec<Sample>,
    parts: Vec<Part>,
}

impl Grouped {
    fn new(batch: &Batch<'_>) -> Self {
        let mut ends = counting_sort_starts(batch.samples().iter().map(|sample| sample.series), batch.series.len());
        let mut samples = vec![
            Sample {
                timestamp_ms: 0,
                value: 0.0
            };
            batch.samples().len()
        ];
        for sample in batch.samples() {
            let place = &mut ends[sample.series as usize];
            samples[*place as usize] = sample.sample;
            *place += 1;
        }
        // Each place has moved from its start to its end by now.
        let mut places = counting_sort_starts(batch.series.iter().map(|series| series.name), batch.names.len());
        let unplaced = Part {
            at: NameAndSet { name: 0, set: 0 },
            start: 0,
            end: 0,
        };
        let mut parts = vec![unplaced; batch.series.len()];
        let mut start = 0;
        for (at, end) in batch.series.iter().zip(ends) {
            let place = &mut places[at.name as usize];
            parts[*place as usize] = Part { at: *at, start, end };
            *place += 1;
            start = end;
        }
        Self { samples, parts }
    }
}

/// For each key the place of its first item, when items are sorted by key.
fn counting_sort_starts(keys: impl Iterator<Item = u32>, count: usize) -> Vec<u32> {
    let mut starts = vec![0; count];
    for key in keys {
        starts[key as usize] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum - *start;
    }
    starts
}

/// Cuts at the middle sample, if need be inside a series.
fn halve(parts: &[Part], samples: u32) -> (Vec<Part>, Vec<Part>) {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut room = samples / 2;
    for part in parts {
        let middle = part.start + room.min(part.end - part.start);
        room -= middle - part.start;
        for (side, start, end) in [(&mut front, part.start, middle), (&mut back, middle, part.end)] {
            if start < end {
                side.push(Part { start, end, ..*part });
            }
        }
    }
    (front, back)
}

/// One record, or `None` when it would pass a limit and can be halved.
fn encode(batch: &Batch<'_>, samples: &[Sample], parts: &[Part], count: u32, arrival_ms: i64) -> Option<Vec<u8>> {
    if count as usize > MAX_SAMPLES_PER_REQUEST {
        return None;
    }
    let mut body = Vec::with_capacity(16 * 1024 + parts.len() * 16);
    put_i64(&mut body, arrival_ms);
    let mut symbols = Symbols::new(batch);
    let mut sets = vec![NONE; batch.sets.len()];
    let mut set_codes = Vec::with_capacity(parts.len());
    for part in parts {
        let number = &mut sets[part.at.set as usize];
        if *number == NONE {
            *number = symbols.add_set(part.at.set);
        }
        set_codes.push(*number);
    }
    let label_bytes = symbols.label_bytes;
    symbols.finish(parts, &mut body);
    put_series(parts, &set_codes, samples, &mut body);
    let fits = body.len() <= MAX_DECOMPRESSED_RECORD_BYTES && label_bytes <= MAX_DECOMPRESSED_RECORD_BYTES;
    let data = if fits { pack(&body, count) } else { Vec::new() };
    (count <= 1 || fits && data.len() <= MAX_RECORD_BYTES).then_some(data)
}

/// The series, metric by metric: how many each metric has, their label sets, their rows of timestamps, their values.
fn put_series(parts: &[Part], set_codes: &[u32], samples: &[Sample], body: &mut Vec<u8>) {
    for metric in parts.chunk_by(|a, b| a.at.name == b.at.name) {
        put_len(body, metric.len());
    }
    // The series of a metric most often have the sets in the order in which the metric before had them.
    let mut expected = 0;
    for set in set_codes {
        put_i64(body, i64::from(*set) - expected);
        expected = i64::from(*set) + 1;
    }
    let (mut rows, mut values) = (RowEncoder::default(), ValueEncoder::default());
    let (mut previous, mut scratch) = (0, Vec::new());
    for part in parts {
        let samples = &samples[part.start as usize..part.end as usize];
        let row = i64::from(rows.row(samples.iter().map(|sample| sample.timestamp_ms)));
        put_i64(body, row - previous);
        previous = row;
        scratch.clear();
        scratch.extend(samples.iter().map(|sample| sample.value));
        values.push(&scratch);
    }
    rows.finish(body);
    values.finish(body);
}

fn pack(body: &[u8], samples: u32) -> Vec<u8> {
    // Without memory for zstd's tables the plain form still does.
    let packed = compress::zstd(body, compress::STREAM_LEVEL).ok();
    let (codec, bytes) = match &packed {
        Some(packed) if packed.len() < body.len() => (ZSTD, packed.as_slice()),
        _ => (PLAIN, body),
    };
    let mut data = Vec::with_capacity(HEADER_BYTES + bytes.len());
    data.extend_from_slice(&[VERSION, codec]);
    data.extend_from_slice(&samples.to_le_bytes());
    data.extend_from_slice(bytes);
    data
}

/// The symbol table and the label sets of one record.
struct Symbols<'b> {
    batch: &'b Batch<'b>,
    /// For each label name of the batch what this record knows of it.
    names: Vec<NameState>,
    /// For each pair of the batch the number of its value among those of its name.
    numbers: Vec<u32>,
    /// The pairs in the order of their numbers, those of all names mixed.
    pairs: Vec<u32>,
    /// The shapes (which label names a set has), as ranges of `shape_names`.
    shapes: Vec<(u32, u32)>,
    shape_names: Vec<u32>,
    known_shapes: Interner,
    last_shape: usize,
    sets: u32,
    set_rows: Vec<u8>,
    /// The canonical encodings of all sets: what a reader has to hash.
    label_bytes: usize,
}

#[derive(Clone, Copy)]
struct NameState {
    values: u32,
    last: u32,
}

impl<'b> Symbols<'b> {
    fn new<'a: 'b>(batch: &'b Batch<'a>) -> Self {
        Self {
            batch,
            names: vec![NameState { values: 0, last: NONE }; batch.label_names.len()],
            numbers: vec![NONE; batch.pairs.len()],
            pairs: Vec::new(),
            shapes: Vec::new(),
            shape_names: Vec::new(),
            known_shapes: Interner::default(),
            last_shape: 0,
            sets: 0,
            set_rows: Vec::with_capacity(8 * 1024),
            label_bytes: 0,
        }
    }

    /// Adds a set that the record does not have yet; returns its number.
    fn add_set(&mut self, set: u32) -> u32 {
        let pairs = self.batch.pairs_of(set);
        let shape = self.shape(pairs);
        put_u64(&mut self.set_rows, u64::from(shape));
        for pair in pairs {
            let name = &mut self.names[self.batch.pairs[*pair as usize].name as usize];
            let number = &mut self.numbers[*pair as usize];
            let code = if *number == NONE {
                *number = name.values;
                name.values += 1;
                self.pairs.push(*pair);
                NEXT_VALUE
            } else if *number == name.last {
                SAME_VALUE
            } else {
                u64::from(*number) + NUMBERED_VALUE
            };
            name.last = *number;
            put_u64(&mut self.set_rows, code);
        }
        self.label_bytes += self.batch.sets[set as usize].bytes as usize + 8 * pairs.len();
        self.sets += 1;
        self.sets - 1
    }

    fn shape(&mut self, pairs: &[u32]) -> u32 {
        if self.is_shape(self.last_shape, pairs) {
            return self.last_shape as u32;
        }
        let name = |pair: &u32| self.batch.pairs[*pair as usize].name;
        let hash = pairs.iter().fold(0, |hash, pair| mix(hash, name(pair)));
        let known = self
            .known_shapes
            .find(hash, |shape| self.is_shape(shape as usize, pairs));
        let shape = known.unwrap_or_else(|| {
            let start = self.shape_names.len() as u32;
            self.shape_names.extend(pairs.iter().map(name));
            self.shapes.push((start, self.shape_names.len() as u32));
            self.known_shapes.add(hash)
        });
        self.last_shape = shape as usize;
        shape
    }

    fn is_shape(&self, shape: usize, pairs: &[u32]) -> bool {
        let Some((start, end)) = self.shapes.get(shape) else {
            return false;
        };
        let names = self.shape_names[*start as usize..*end as usize].iter();
        names.eq(pairs.iter().map(|pair| &self.batch.pairs[*pair as usize].name))
    }

    /// Appends the lengths of all texts, the texts, the shapes and the sets.
    fn finish(self, parts: &[Part], body: &mut Vec<u8>) {
        let batch = self.batch;
        let mut used: Vec<u32> = (0..batch.label_names.len() as u32)
            .filter(|name| self.names[*name as usize].values > 0)
            .collect();
        used.sort_unstable_by(|a, b| batch.label_names[*a as usize].cmp(&batch.label_names[*b as usize]));
        let mut rank = vec![NONE; batch.label_names.len()];
        for (at, name) in used.iter().enumerate() {
            rank[*name as usize] = at as u32;
        }
        let pairs = self.pairs_by_rank(&rank, used.len());
        let metrics = || {
            parts
                .chunk_by(|a, b| a.at.name == b.at.name)
                .map(|series| series[0].at.name)
        };

        put_len(body, used.len());
        for name in &used {
            put_len(body, batch.label_names[*name as usize].len());
            put_u64(body, u64::from(self.names[*name as usize].values));
        }
        for pair in &pairs {
            put_len(body, batch.pairs[*pair as usize].value.len());
        }
        put_len(body, metrics().count());
        for name in metrics() {
            put_len(body, batch.names[name as usize].text.len());
        }
        for name in &used {
            body.extend_from_slice(batch.label_names[*name as usize].as_bytes());
        }
        for pair in &pairs {
            body.extend_from_slice(batch.pairs[*pair as usize].value.as_bytes());
        }
        for name in metrics() {
            body.extend_from_slice(batch.names[name as usize].text.as_bytes());
        }
        put_len(body, self.shapes.len());
        for (start, end) in &self.shapes {
            let names = &self.shape_names[*start as usize..*end as usize];
            put_len(body, names.len());
            let mut least = 0;
            for name in names {
                put_u64(body, u64::from(rank[*name as usize] - least));
                least = rank[*name as usize] + 1;
            }
        }
        put_u64(body, u64::from(self.sets));
        body.extend_from_slice(&self.set_rows);
    }

    /// The pairs sorted by their names' ranks, those of one name in the order of their numbers.
    fn pairs_by_rank(&self, rank: &[u32], names: usize) -> Vec<u32> {
        let rank_of = |pair: &u32| rank[self.batch.pairs[*pair as usize].name as usize];
        let mut places = counting_sort_starts(self.pairs.iter().map(rank_of), names);
        let mut sorted = vec![0; self.pairs.len()];
        for pair in &self.pairs {
            let place = &mut places[rank_of(pair) as usize];
            sorted[*place as usize] = *pair;
            *place += 1;
        }
        sorted
    }
}
