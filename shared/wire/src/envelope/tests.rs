use super::*;
use crate::batch::{Batch, BatchBuilder, TimeBounds};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use tidemark_model::limits::{MAX_DECOMPRESSED_RECORD_BYTES, MAX_RECORD_BYTES};
use tidemark_model::{Bucket, Buckets, Labels, SeriesId};

const ALL_TIMES: TimeBounds = TimeBounds {
    now_ms: 0,
    oldest_ms: i64::MIN,
    newest_ms: i64::MAX,
};

/// A sample on its way in: name, labels, time, value.
type Input = (String, BTreeMap<String, String>, i64, f64);

/// For each series its samples in the order of arrival, as bits.
type Content = BTreeMap<(String, Labels), Vec<(i64, u64)>>;

fn batch(inputs: &[Input]) -> Batch<'_> {
    let mut builder = BatchBuilder::new(ALL_TIMES);
    for (name, labels, at, value) in inputs {
        let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        builder.push(name, labels, Some(*at), *value);
    }
    let batch = builder.finish();
    assert_eq!(batch.errors(), []);
    batch
}

fn content(inputs: &[Input]) -> Content {
    let mut content = Content::new();
    for (name, labels, at, value) in inputs {
        let labels = Labels::from_pairs(labels.clone()).unwrap();
        content
            .entry((name.clone(), labels))
            .or_default()
            .push((*at, value.to_bits()));
    }
    content
}

fn buckets() -> Buckets {
    Buckets::new(16).unwrap()
}

fn shard_of(shards: usize) -> impl Fn(Bucket) -> usize {
    move |bucket| usize::from(bucket.0) * shards / 16
}

fn read(records: &[Record]) -> Content {
    let mut content = Content::new();
    for record in records {
        assert_eq!(decode_header(&record.data).unwrap().samples, record.samples);
        for (series, samples) in read_data(&record.data) {
            content.entry(series).or_default().extend(samples);
        }
    }
    content
}

fn read_data(data: &[u8]) -> Content {
    let envelope = decode(data).unwrap();
    assert_eq!(envelope.arrival_ms(), 77);
    assert_eq!(decode_header(data).unwrap().samples, envelope.sample_count());
    let mut content = Content::new();
    for series in envelope.series() {
        let labels = series.to_labels();
        assert_eq!(labels.iter().collect::<Vec<_>>(), series.labels().collect::<Vec<_>>());
        assert_eq!(series.id(), SeriesId::new(series.name(), labels.iter()));
        assert_eq!(series.sample_count(), series.samples().len());
        let samples = series
            .samples()
            .map(|sample| (sample.timestamp_ms, sample.value.to_bits()));
        let key = (series.name().to_owned(), labels);
        assert_eq!(
            content.insert(key, samples.collect()),
            None,
            "a series stands in one place"
        );
    }
    content
}

fn encode(inputs: &[Input], shards: usize) -> Vec<Record> {
    encode_records(&batch(inputs), buckets(), &shard_of(shards), shards, 77)
}

fn input(name: &str, labels: &[(&str, &str)], at: i64, value: f64) -> Input {
    let labels = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    (name.to_owned(), labels.collect(), at, value)
}

fn any_inputs() -> impl Strategy<Value = Vec<Input>> {
    let value = prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1_000_i64..100_000).prop_map(|m| m as f64 / 100.0),
        proptest::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, 5e-324, 1e308]),
        Just(f64::from_bits(tidemark_model::STALE_NAN_BITS)),
    ];
    let time = prop_oneof![any::<i64>(), 1_767_225_600_000..1_767_225_700_000_i64];
    vec(
        (
            "[a-dé]{1,2}|.{1,20}",
            btree_map("[a-c]|.{1,5}", "[xy]|.{0,9}", 0..6),
            time,
            value,
        ),
        0..60,
    )
    .prop_map(|inputs| {
        let legal = |input: &Input| input.1.keys().all(|name| name != "__name__");
        inputs.into_iter().filter(legal).collect()
    })
}

/// These bytes are in streams: a change must not break reading them. `FORMAT.md` explains the second.
#[test]
fn golden_vectors() {
    let one = [input("up", &[], 0, 1.0)];
    let two_hosts = [
        input("up", &[("host", "a"), ("job", "x")], 1_000, 1.0),
        input("load", &[("host", "a"), ("job", "x")], 1_000, 0.25),
        input("up", &[("host", "b"), ("job", "x")], 1_005, 1.0),
        input("up", &[("host", "a"), ("job", "x")], 2_000, 0.0),
        input("load", &[("host", "b")], 1_005, f64::NAN),
    ];
    for (inputs, golden) in [(&one[..], GOLDEN_ONE), (&two_hosts[..], GOLDEN_TWO)] {
        let golden = unhex(golden);
        assert_eq!(hex(&unpacked(&encode(inputs, 1)[0].data)), hex(&golden));
        assert_eq!(read_data(&golden), content(inputs));
    }
    // What zstd makes of a body may differ from version to version, but each must be read.
    assert_eq!(read_data(&unhex(GOLDEN_TWO_ZSTD)), content(&two_hosts));
}

const GOLDEN_ONE: &str = "0100010000009a010001027570010001000100000101000000020001020000";
const GOLDEN_TWO: &str = "
    01 00 05000000
    9a01
    02 04 02 03 01  01 01 01  02 02 04
    686f7374 6a6f62 61 62 78 7570 6c6f6164
    02 02 00 00 01 00
    03 00 01 01 00 01 00 01 00
    02 02  00 00 03 02  00 02 02 01
    03 02 01 01 d00f 03 28 00 d00f 00
    03 02 12 01  01 01  03 02 02 32  01 7ff8000000000000  01 01";
const GOLDEN_TWO_ZSTD: &str = "
    01010500000028b52ffd20574d02007245111ca027e9ff0feafff7aae93831e510f38f35f07fdff90b18c6c9962905afaa8dc581adfe6365
    4902aaa45fbdb9d2cdddb75c37814105434271cc4104c4010dc8f65f239b1100";

/// A record with its body as it is.
fn unpacked(data: &[u8]) -> Vec<u8> {
    let body = match data[1] {
        ZSTD => tidemark_encoding::compress::unzstd(&data[HEADER_BYTES..], MAX_DECOMPRESSED_RECORD_BYTES).unwrap(),
        _ => data[HEADER_BYTES..].to_vec(),
    };
    [&[VERSION, PLAIN], &data[2..HEADER_BYTES], &body].concat()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|two| (two[0] * 16 + two[1]) as u8).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_batch_without_samples_needs_no_record() {
    assert_eq!(encode(&[], 4), []);
}

#[test]
fn a_request_costs_one_record_per_shard_at_most_and_a_metric_lies_in_one() {
    let inputs: Vec<Input> = (0..2_000)
        .map(|i| {
            input(
                &format!("metric{}", i % 100),
                &[("host", &format!("h{}", i / 100))],
                5,
                f64::from(i),
            )
        })
        .collect();
    let records = encode(&inputs, 4);
    let shards: Vec<usize> = records.iter().map(|record| record.shard).collect();
    assert_eq!(shards, [0, 1, 2, 3]);
    for record in &records {
        for series in decode(&record.data).unwrap().series() {
            assert_eq!(shard_of(4)(buckets().of(series.id())), record.shard);
        }
        let share = u128::MAX / 4;
        assert_eq!((record.explicit_hash_key / share) as usize, record.shard);
    }
    assert_eq!(read(&records), content(&inputs));
}

#[test]
fn a_shard_beyond_the_last_and_no_shards_at_all_lose_nothing() {
    let inputs = [input("a", &[], 0, 1.0), input("b", &[], 0, 1.0)];
    for shards in [0, 1, 3] {
        let records = encode_records(&batch(&inputs), buckets(), &|_| 99, shards, 77);
        assert_eq!(read(&records), content(&inputs));
        assert!(records.iter().all(|record| record.shard == shards.saturating_sub(1)));
    }
}

#[test]
fn what_passes_the_record_limit_is_split_even_inside_a_series() {
    // Random bits do not compress: 200,000 values take 1.6 MB.
    let mut bits = 1_u64;
    let inputs: Vec<Input> = (0..200_000)
        .map(|i| {
            bits = bits
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            input("one", &[("only", "series")], i, f64::from_bits(bits))
        })
        .collect();
    let records = encode(&inputs, 4);
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.data.len() <= MAX_RECORD_BYTES));
    assert_eq!(read(&records), content(&inputs));
}

#[test]
fn large_labels_are_split_too() {
    let mut seed = 1_u64;
    let mut text = |length: usize| -> String {
        let next = |_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (seed >> 40) as u8 % 90)
        };
        (0..length).map(next).collect()
    };
    let inputs: Vec<Input> = (0..100)
        .map(|_| {
            let labels: Vec<(String, String)> = (0..60).map(|i| (format!("l{i}"), text(500))).collect();
            ("m".to_owned(), labels.into_iter().collect(), 0, 1.0)
        })
        .collect();
    let records = encode(&inputs, 4);
    assert!((3..=4).contains(&records.len()), "{}", records.len());
    assert_eq!(read(&records), content(&inputs));
}

#[test]
fn a_header_is_checked_before_anything_else() {
    assert_eq!(decode_header(&[]), Err(DecodeError::Truncated.into()));
    assert_eq!(decode_header(&[2, 0, 0, 0, 0, 0]), Err(EnvelopeError::Version(2)));
    assert_eq!(decode_header(b"{\"metrics\":[]}"), Err(EnvelopeError::Version(b'{')));
    assert_eq!(decode_header(&[1, 9, 0, 0, 0, 0]), Err(EnvelopeError::Codec(9)));
    assert_eq!(decode_header(&[1, 0, 0, 0]), Err(DecodeError::Truncated.into()));
    assert!(decode_header(&[1, 0, 255, 255, 255, 255]).is_err());
}

/// A body as it must be, for the tests that break it: a metric `m` with labels `a="x"`, `b="y"` and one sample.
fn parts() -> Vec<Vec<u8>> {
    vec![
        vec![154, 1],           // arrival: 77
        vec![2, 1, 1, 1, 1],    // two label names of one byte, one value each
        vec![1, 1],             // the values' lengths
        vec![1, 1],             // one metric, its name's length
        b"abxym".to_vec(),      // the texts
        vec![1, 2, 0, 0],       // one shape: both names
        vec![1, 0, 1, 1],       // one set: that shape, new values
        vec![1, 0, 0],          // one series of the metric, its set, its row
        vec![1, 1, 0, 0, 0],    // one row of one timestamp: 0
        vec![2, 0, 1, 2, 0, 0], // one constant: 1
    ]
}

fn plain(parts: &[Vec<u8>]) -> Vec<u8> {
    [vec![1, 0, 1, 0, 0, 0], parts.concat()].concat()
}

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    assert!(decode(&plain(&parts())).is_ok());
    let cases: [(&str, usize, &[u8]); 16] = [
        ("label names do not ascend", 4, b"baxym"),
        ("a label name stands twice", 4, b"aaxym"),
        ("a text is not UTF-8", 4, b"ab\xffym"),
        ("a character is cut by the end of a text", 4, "abéx".as_bytes()),
        ("a label name is empty", 1, &[2, 0, 1, 1, 1]),
        ("a metric name is empty", 3, &[1, 0]),
        ("a shape names a label beyond the table", 5, &[1, 2, 0, 1]),
        ("a set has a shape that there is not", 6, &[1, 1, 1, 1]),
        ("a set has the last value before there is one", 6, &[1, 0, 0, 1]),
        ("a set has a value beyond the table", 6, &[1, 0, 3, 1]),
        ("more sets than samples", 6, &[2, 0, 1, 1, 0, 0, 0]),
        ("a series has a set that there is not", 7, &[1, 2, 0]),
        ("more series than samples", 7, &[2, 0, 1, 0, 0]),
        ("a series has a row that there is not", 7, &[1, 0, 2]),
        ("more timestamps than samples", 8, &[1, 2, 0, 0, 0, 0]),
        ("bytes are left over", 9, &[2, 0, 1, 2, 0, 0, 0]),
    ];
    for (what, at, bytes) in cases {
        let mut parts = parts();
        parts[at] = bytes.to_vec();
        assert!(decode(&plain(&parts)).is_err(), "{what}");
    }
    let mut wrong_count = plain(&parts());
    wrong_count[2] = 2;
    assert!(decode(&wrong_count).is_err());
}

#[test]
fn a_record_that_unpacks_to_too_much_is_refused() {
    let bomb = tidemark_encoding::compress::zstd(&vec![0; MAX_DECOMPRESSED_RECORD_BYTES + 1], 1).unwrap();
    let record = [vec![1, 1, 1, 0, 0, 0], bomb].concat();
    assert!(matches!(decode(&record), Err(EnvelopeError::Compression(_))));
}

proptest! {
    #[test]
    fn every_sample_survives_bit_for_bit(inputs in any_inputs(), shards in 1_usize..6) {
        let records = encode(&inputs, shards);
        prop_assert_eq!(read(&records), content(&inputs));
        let mut shards_used: Vec<usize> = records.iter().map(|record| record.shard).collect();
        shards_used.dedup();
        prop_assert_eq!(shards_used.len(), records.len());
    }

    #[test]
    fn the_same_batch_gives_the_same_bytes(inputs in any_inputs()) {
        prop_assert_eq!(encode(&inputs, 3), encode(&inputs, 3));
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200), samples in 0_u8..20) {
        let _ = decode(&bytes);
        bytes.splice(0..0, [1, 0, samples, 0, 0, 0]);
        let _ = decode(&bytes);
    }

    #[test]
    fn broken_records_never_panic(
        inputs in any_inputs(),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<proptest::sample::Index>(),
    ) {
        for record in encode(&inputs, 1) {
            // Both as it is and unpacked, where a change meets the format and not only zstd.
            let unpacked = unpacked(&record.data);
            prop_assert!(decode(&unpacked).is_ok());
            for mut bytes in [record.data, unpacked] {
                prop_assert!(decode(&bytes[..cut.index(bytes.len())]).is_err());
                for (at, byte) in &changes {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                if let Ok(envelope) = decode(&bytes) {
                    let samples: usize = envelope.series().map(|series| series.samples().len()).sum();
                    prop_assert_eq!(samples, envelope.sample_count() as usize);
                    prop_assert!(envelope.series().all(|series| !series.name().is_empty()));
                }
            }
        }
    }
}
