//! The decoders of the byte formats under mutations of valid bytes: bits flipped, ends cut off, parts of one put into
//! another, the largest integers put anywhere. The same mutations each time. The fuzz targets ask the same of other bytes.

#[expect(unreachable_pub, reason = "public for the fuzz targets")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use tidemark_encoding::compress;
use tidemark_model::{Buckets, Sample};
use tidemark_testkit::mix::Mix;
use tidemark_tsdb::segment::{self, Entry};
use tidemark_tsdb::{chunk, rollup};
use tidemark_wire::envelope::encode_records;
use tidemark_wire::{TimeBounds, decode_metrics};

const START_MS: i64 = 1_767_225_600_000;
const MUTATIONS: usize = 40_000;

/// Integers at the edges of what decoders take: of 64 bits, of 32, overlong, zero, a long count.
const EXTREMES: [&[u8]; 8] = [
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x00],
    &[0xa0, 0x8d, 0x06],
    &[0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    }
}

fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len());
                let length = random.below(other.len() - from);
                let end = bytes.len().min(at + random.below(length + 1));
                bytes.splice(at..end, other[from..from + length].iter().copied());
            }
            4 => {
                bytes.splice(at..at, EXTREMES[random.below(EXTREMES.len())].iter().copied());
            }
            _ if !bytes.is_empty() => bytes[at] = random.below(256) as u8,
            _ => bytes.push(0),
        }
    }
    bytes
}

/// Valid bytes first, then their mutations.
fn run(target: impl Fn(&[u8]), corpus: &[Vec<u8>], seed: u64) {
    let mut random = Random(seed);
    corpus.iter().for_each(|bytes| target(bytes));
    for _ in 0..MUTATIONS {
        target(&mutate(corpus, &mut random));
    }
}

/// Series of every class, and what the mix does not have.
fn series() -> Vec<Vec<Sample>> {
    let sample = |(timestamp_ms, value)| Sample { timestamp_ms, value };
    let mut all: Vec<Vec<Sample>> = Vec::new();
    for count in [1, 5, 70] {
        let scrapes = Mix::new(1, START_MS).scrapes(count);
        all.extend(
            scrapes
                .into_iter()
                .map(|samples| samples.into_iter().map(sample).collect()),
        );
    }
    let odd = [
        0.5,
        f64::NAN,
        -0.0,
        f64::INFINITY,
        1e300,
        f64::from_bits(tidemark_model::STALE_NAN_BITS),
        1.0 / 3.0,
    ];
    let few = |at: i64| odd[at as usize % odd.len()];
    all.push((0..40).map(|at| sample((START_MS + at * at * 977, few(at)))).collect());
    all.push(
        (0..200)
            .map(|at| sample((START_MS + at * 1_000, few(at % 2 * 6))))
            .collect(),
    );
    let rarely = |at: i64| if at % 60 == 7 { few(at) } else { at as f64 / 4.0 };
    all.push(
        (0..200)
            .map(|at| sample((START_MS + at * 15_000 + at / 30 * 60_000, rarely(at))))
            .collect(),
    );
    all.push([i64::MIN, i64::MAX, 0].map(|at| sample((at, f64::MAX))).to_vec());
    all
}

/// The same bytes with their body as it is, where it is a zstd frame after so many bytes of header.
fn unpacked(bytes: &[u8], header: usize) -> Option<Vec<u8>> {
    let mut plain = bytes.get(..header)?.to_vec();
    if plain[1] == 0 {
        return None;
    }
    plain[1] = 0;
    plain.extend(compress::unzstd(&bytes[header..], 1_000_000).ok()?);
    Some(plain)
}

#[test]
fn chunks() {
    let corpus: Vec<Vec<u8>> = series().iter().flat_map(|samples| chunk::split(samples)).collect();
    run(targets::chunk, &corpus, 1);
}

#[test]
fn rollups() {
    let rolled = |resolution_ms: i64| {
        let all = series().into_iter();
        all.filter_map(move |samples| Some(rollup::encode(&rollup::roll(&samples, resolution_ms)?, resolution_ms)))
    };
    let corpus: Vec<Vec<u8>> = [1, 15_000, 60_000, 3_600_000].into_iter().flat_map(rolled).collect();
    run(targets::rollup, &corpus, 2);
}

#[test]
fn segments() {
    let all = series();
    let mut corpus = Vec::new();
    for some in all.chunks(6) {
        let entry = |(reference, samples): (u32, &Vec<Sample>)| (reference * 3, samples.clone());
        let content: Vec<(u32, Vec<Sample>)> = (0..).zip(some).map(entry).collect();
        let entries: Vec<Entry<'_>> = content
            .iter()
            .map(|(reference, samples)| Entry {
                reference: *reference,
                samples,
            })
            .collect();
        corpus.extend(segment::split(&entries));
    }
    let plain: Vec<Vec<u8>> = corpus.iter().filter_map(|bytes| unpacked(bytes, 2)).collect();
    corpus.extend(plain);
    run(targets::segment, &corpus, 3);
}

#[test]
fn envelopes() {
    let bounds = TimeBounds {
        now_ms: START_MS,
        oldest_ms: i64::MIN,
        newest_ms: i64::MAX,
    };
    let mut corpus = Vec::new();
    for (hosts, scrapes) in [(1, 1), (2, 3), (1, 8)] {
        for body in Mix::new(hosts, START_MS).json_bodies(scrapes, 100) {
            let batch = decode_metrics(&body, bounds).expect("the mix is valid");
            let buckets = Buckets::new(16).expect("16 buckets are allowed");
            let records = encode_records(&batch, buckets, &|bucket| usize::from(bucket.0) / 8, 2, START_MS);
            corpus.extend(records.into_iter().map(|record| record.data));
        }
    }
    let plain: Vec<Vec<u8>> = corpus.iter().filter_map(|bytes| unpacked(bytes, 6)).collect();
    assert!(!plain.is_empty());
    corpus.extend(plain);
    run(targets::envelope, &corpus, 4);
}
