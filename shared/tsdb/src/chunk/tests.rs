use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidemark_testkit::mix::Mix;

fn sample(timestamp_ms: i64, value: f64) -> Sample {
    Sample { timestamp_ms, value }
}

fn read(parts: &[Vec<u8>]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for part in parts {
        decode(part, &mut samples).unwrap();
    }
    samples
}

fn mix(series: usize, samples: usize) -> Vec<Vec<Sample>> {
    let scrapes = Mix::new(series / 10, 1_767_225_600_000).scrapes(samples);
    let series = scrapes
        .into_iter()
        .map(|samples| samples.into_iter().map(|(at, value)| sample(at, value)).collect());
    series.collect()
}

#[test]
fn a_window_of_the_mix_takes_less_than_one_and_a_half_bytes_per_sample() {
    for (count, most) in [(480, 1.5), (120, 1.7)] {
        let mut bytes = 0;
        for samples in mix(1_000, count) {
            let parts = split(&samples);
            assert_eq!(parts.len(), 1);
            bytes += parts[0].len();
            assert_eq!(read(&parts), samples);
        }
        let per_sample = bytes as f64 / (1_000 * count) as f64;
        assert!(per_sample < most, "{count}: {per_sample}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// These bytes are in tables: a change must not break reading them. `FORMAT.md` explains them.
#[test]
fn golden_vectors() {
    let stale = f64::from_bits(tidemark_model::STALE_NAN_BITS);
    let counter = [
        (1_000, 0.5),
        (2_000, 0.75),
        (3_007, 1.0),
        (4_000, 1.75),
        (6_000, 2.0),
        (7_000, 2.25),
        (8_000, 2.5),
        (9_000, stale),
    ];
    let doubles = [(1_000, 0.1 + 0.2), (1_500, 0.1 + 0.2), (7_000, f64::INFINITY)];
    for (samples, golden) in [(&counter[..], GOLDEN_COUNTER), (&doubles[..], GOLDEN_DOUBLES)] {
        let samples: Vec<Sample> = samples.iter().map(|(at, value)| sample(*at, *value)).collect();
        let golden: String = golden.split_whitespace().collect();
        assert_eq!(hex(&encode(&samples)), golden);
        let mut back = Vec::new();
        decode(&encode(&samples), &mut back).unwrap();
        assert!(same(&back, &samples));
    }
}

const GOLDEN_COUNTER: &str = "
    01 08
    01 d00f e807  01 c1e701  01 c101801f
    22 01 018303 84808080808080f0ff0100
    64 07 19 01418638";
const GOLDEN_DOUBLES: &str = "
    01 03
    00 d00f 05 f403 01 058101
    40 e8cc99b3e6cc99d37f 05 cc99b3e6cc99b38e40 01 0204";

fn same(a: &[Sample], b: &[Sample]) -> bool {
    let bits = |sample: &Sample| (sample.timestamp_ms, sample.value.to_bits());
    a.len() == b.len() && a.iter().map(bits).eq(b.iter().map(bits))
}

#[test]
fn no_samples_need_no_chunk() {
    assert_eq!(split(&[]), Vec::<Vec<u8>>::new());
    assert_eq!(read(&[encode(&[])]), []);
}

#[test]
fn one_sample_takes_a_few_bytes() {
    for value in [1.0, 0.5, 1.0 / 3.0] {
        let parts = split(&[sample(1_767_225_600_000, value)]);
        assert!(parts[0].len() <= 23);
        assert_eq!(read(&parts), [sample(1_767_225_600_000, value)]);
    }
}

#[test]
fn what_passes_the_limits_is_split_into_as_few_parts_as_fit() {
    let mut bits = 1_u64;
    let mut noise = |at: usize| {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        sample(at as i64 * 1_000, f64::from_bits(bits | 1 << 62))
    };
    let samples: Vec<Sample> = (0..100_000).map(&mut noise).collect();
    let parts = split(&samples);
    assert_eq!(parts.len(), 3);
    assert!(parts.iter().all(|part| part.len() + KEY_BYTES <= MAX_BLOCK_ITEM_BYTES));
    assert!(same(&read(&parts), &samples));
    assert_eq!(parts, split(&samples));

    let constant: Vec<Sample> = (0..=MAX_CHUNK_SAMPLES as i64).map(|at| sample(at, 1.0)).collect();
    let parts = split(&constant);
    assert_eq!(parts.len(), 2);
    assert_eq!(read(&parts), constant);
}

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    let decode = |bytes: &[u8]| decode(bytes, &mut Vec::new());
    assert_eq!(decode(&[]), Err(DecodeError::Truncated.into()));
    assert_eq!(decode(&[9]), Err(ChunkError::Version(9)));
    assert_eq!(
        decode(&[VERSION, 0xa1, 0x8d, 0x06]),
        Err(DecodeError::OutOfRange("the number of samples").into())
    );
    let valid = encode(&[sample(1, 1.0), sample(2, 2.0)]);
    for length in 0..valid.len() {
        assert!(decode(&valid[..length]).is_err());
    }
    assert_eq!(decode(&[&*valid, &[0]].concat()), Err(DecodeError::Trailing.into()));
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let value = prop_oneof![
        4 => (-1_000_i64..100_000).prop_map(|m| m as f64 / 100.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => proptest::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, 1e308]),
        1 => Just(f64::from_bits(tidemark_model::STALE_NAN_BITS)),
    ];
    let step = prop_oneof![4 => Just(15_000_i64), 1 => 14_990_i64..15_010, 1 => 1_i64..1_000_000];
    let steady = vec((step, value), 0..200).prop_map(|steps| {
        let mut at = 1_767_225_600_000;
        let next = |(step, value)| {
            at += step;
            sample(at, value)
        };
        steps.into_iter().map(next).collect()
    });
    let wild = vec((any::<i64>(), any::<u64>()), 0..20).prop_map(|all| {
        all.into_iter()
            .map(|(at, bits)| sample(at, f64::from_bits(bits)))
            .collect()
    });
    prop_oneof![4 => steady, 1 => wild]
}

proptest! {
    #[test]
    fn samples_survive_bit_for_bit(samples in any_samples()) {
        prop_assert!(same(&read(&split(&samples)), &samples));
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &mut Vec::new());
        bytes.insert(0, VERSION);
        let _ = decode(&bytes, &mut Vec::new());
    }
}
