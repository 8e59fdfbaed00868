use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidemark_encoding::DecodeError;
use tidemark_model::STALE_NAN_BITS;
use tidemark_model::limits::{MAX_BLOCK_ITEM_BYTES, MAX_ROLLUP_POINTS};
use tidemark_testkit::mix::Mix;

const START: i64 = 1_767_225_600_000;
const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

fn stale() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Every 15 seconds one.
fn samples_from(start_ms: i64, values: &[f64]) -> Vec<Sample> {
    let sample = |(at, value): (i64, &f64)| Sample {
        timestamp_ms: start_ms + at * 15_000,
        value: *value,
    };
    (0..).zip(values).map(sample).collect()
}

fn samples(values: &[f64]) -> Vec<Sample> {
    samples_from(START, values)
}

fn minutes(values: &[f64]) -> Rollup {
    roll(&samples(values), MINUTE).unwrap()
}

fn increases(rollup: &Rollup) -> Vec<f64> {
    rollup.points.iter().map(|point| point.increase).collect()
}

fn bits(rollup: &Rollup) -> Vec<[u64; 7]> {
    let mut all = vec![[rollup.first.to_bits(); 7]];
    all.extend(rollup.points.iter().map(|point| {
        [
            point.start_ms as u64,
            u64::from(point.count),
            point.sum.to_bits(),
            point.min.to_bits(),
            point.max.to_bits(),
            point.last.to_bits(),
            point.increase.to_bits(),
        ]
    }));
    all
}

fn survives(rollup: &Rollup, resolution_ms: i64) -> Vec<u8> {
    let bytes = encode(rollup, resolution_ms);
    let decoded = decode(&bytes).unwrap();
    assert_eq!(decoded.resolution_ms, resolution_ms);
    assert_eq!(bits(&decoded.rollup), bits(rollup), "{rollup:?}");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mix(series: usize, samples: usize) -> Vec<Vec<Sample>> {
    let scrapes = Mix::new(series / 10, START).scrapes(samples);
    let sample = |(timestamp_ms, value)| Sample { timestamp_ms, value };
    scrapes
        .into_iter()
        .map(|samples| samples.into_iter().map(sample).collect())
        .collect()
}

/// These bytes are in tables: a change must not break reading them. `FORMAT.md` explains them.
#[test]
fn golden_vectors() {
    let integers = [0.5, 1.0, 1.5, 2.5, 2.5, 0.25, 0.5];
    let doubles = [1.0, 2.0, f64::NAN, 2.0, 2.0];
    for (values, golden) in [(&integers[..], GOLDEN_INTEGERS), (&doubles[..], GOLDEN_DOUBLES)] {
        let rollup = roll(&samples_from(0, values), MINUTE).unwrap();
        let golden: String = golden.split_whitespace().collect();
        assert_eq!(hex(&survives(&rollup, MINUTE)), golden);
    }
}

const GOLDEN_INTEGERS: &str = "
    01 02 c0a907 02
    00 00 05 e0d403 01 0201  08 01 01 81
    64 05 c801 01 0201
    9003 05 af01 01 81
    00 05 c801 01 0201
    63 05 25 01 81
    00 05 fa01 01 0201";
const GOLDEN_DOUBLES: &str = "
    01 80 c0a907 02
    00 00 05 e0d403 01 0201  08 05 03 01 81
    00 02 02 01 0201
    01 8100  00 02 00
    00
    01 8100  40 80808080808080f8ff01 00
    00";

#[test]
fn points_are_multiples_of_the_resolution_and_only_where_there_are_samples() {
    let at = |timestamp_ms| Sample {
        timestamp_ms,
        value: 1.0,
    };
    let rollup = roll(&[at(-1), at(0), at(59_999), at(60_000), at(600_001)], MINUTE).unwrap();
    let starts: Vec<(i64, u32)> = rollup
        .points
        .iter()
        .map(|point| (point.start_ms, point.count))
        .collect();
    assert_eq!(starts, [(-60_000, 1), (0, 2), (60_000, 1), (600_000, 1)]);
    assert!(rollup.condenses());
    assert!(!roll(&[at(0), at(60_000)], MINUTE).unwrap().condenses());
}

#[test]
fn a_point_has_what_its_samples_have() {
    let rollup = minutes(&[3.0, 1.0, 7.0, 2.0, 5.0]);
    assert_eq!(rollup.first, 3.0);
    let expected = Point {
        start_ms: START,
        count: 4,
        sum: 13.0,
        min: 1.0,
        max: 7.0,
        last: 2.0,
        // 3 to 1 is a reset: 1; then 6; 7 to 2 is a reset: 2.
        increase: 9.0,
    };
    assert_eq!(rollup.points[0], expected);
    assert_eq!((rollup.points[1].count, rollup.points[1].increase), (1, 3.0));
}

#[test]
fn staleness_markers_are_skipped() {
    assert_eq!(roll(&samples(&[stale(), stale()]), MINUTE), None);
    assert_eq!(roll(&[], MINUTE), None);
    let rollup = minutes(&[stale(), 5.0, stale(), 7.0, stale()]);
    assert_eq!((rollup.first, rollup.points.len()), (5.0, 1));
    assert_eq!((rollup.points[0].count, rollup.points[0].increase), (2, 2.0));
}

#[test]
fn nan_counts_but_is_smallest_only_where_there_is_nothing_else() {
    let rollup = minutes(&[f64::NAN, 5.0, 3.0, 4.0, f64::NAN]);
    let point = rollup.points[0];
    assert_eq!((point.count, point.min, point.max), (4, 3.0, 5.0));
    assert!(point.sum.is_nan());
    // From 5 to 3 (a reset) and from 3 to 4; nothing from NaN and to NaN.
    assert_eq!(increases(&rollup), [4.0, 0.0]);
    let point = rollup.points[1];
    assert!(point.min.is_nan() && point.max.is_nan() && point.last.is_nan());
}

#[test]
fn decimals_are_added_exactly() {
    let rollup = minutes(&[0.1, 0.2, 0.4, 0.1]);
    assert_eq!((rollup.points[0].sum, rollup.points[0].increase), (0.8, 0.4));
    let rollup = minutes(&[0.1, 0.3]);
    assert_eq!(rollup.points[0].increase, 0.2);
    // As integers these pass 2^53: they are doubles then.
    let large = 9_007_199_254_740_991.0;
    let rollup = minutes(&[large, large, 0.0, 1.0, 3.0]);
    assert_eq!(rollup.points[0].sum, 2.0 * large + 1.0);
    assert_eq!(increases(&rollup), [1.0, 2.0]);
    survives(&rollup, MINUTE);
}

#[test]
fn without_a_reset_the_increase_is_the_difference_of_the_ends() {
    let values: Vec<f64> = (0..40).map(|at| 1e6 / 3.0 + f64::from(at) / 7.0).collect();
    let rollup = minutes(&values);
    for (point, ends) in rollup.points.iter().skip(1).zip(values[3..].windows(5).step_by(4)) {
        assert_eq!(point.increase.to_bits(), (ends[4] - ends[0]).to_bits());
    }
}

#[test]
fn windows_put_together_count_the_step_between_them() {
    let values = [0.1, 0.3, 0.7, 1.1, 1.5, 1.7, 0.2, 0.4, 0.9];
    let all = samples(&values);
    let mut day = roll(&all[..4], MINUTE).unwrap();
    day.append(roll(&all[4..8], MINUTE).unwrap());
    day.append(roll(&all[8..], MINUTE).unwrap());
    assert_eq!(bits(&day), bits(&roll(&all, MINUTE).unwrap()));
    survives(&day, MINUTE);

    let mut nothing = Rollup {
        first: 0.0,
        points: Vec::new(),
    };
    nothing.append(day.clone());
    assert_eq!(nothing, day);
    day.append(Rollup {
        first: 9.0,
        points: Vec::new(),
    });
    assert_eq!(nothing, day);
}

#[test]
fn minutes_of_the_mix_take_less_than_two_write_units() {
    let (mut bytes, mut units) = (0, 0);
    for samples in mix(1_000, 480) {
        let length = survives(&roll(&samples, MINUTE).unwrap(), MINUTE).len();
        bytes += length;
        units += (length + 60).div_ceil(1_024);
    }
    assert!(units < 1_500, "{units} units, {bytes} bytes");
}

#[test]
fn the_largest_rollup_fits_an_item() {
    let mut bits = 1_u64;
    let mut noise = || {
        bits = bits
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bits
    };
    let points = (0..MAX_ROLLUP_POINTS).map(|_| Point {
        start_ms: noise() as i64,
        count: noise() as u32,
        sum: f64::from_bits(noise()),
        min: f64::from_bits(noise()),
        max: f64::from_bits(noise()),
        last: f64::from_bits(noise()),
        increase: f64::from_bits(noise()),
    });
    let rollup = Rollup {
        first: 0.5,
        points: points.collect(),
    };
    let length = survives(&rollup, MINUTE).len();
    assert!(length + 1_024 < MAX_BLOCK_ITEM_BYTES, "{length}");
}

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    assert_eq!(decode(&[]), Err(DecodeError::Truncated.into()));
    assert_eq!(decode(&[9]), Err(RollupError::Version(9)));
    let valid = encode(&minutes(&[1.0, 2.0]), MINUTE);
    for length in 0..valid.len() {
        assert!(decode(&valid[..length]).is_err());
    }
    assert_eq!(decode(&[&*valid, &[0]].concat()), Err(DecodeError::Trailing.into()));
    let mut kind = valid;
    for wrong in [23, 31, 0x81, 0xff] {
        kind[1] = wrong;
        assert_eq!(
            decode(&kind),
            Err(DecodeError::OutOfRange("the kind of the columns").into())
        );
    }
}

fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1_000_i64..100_000).prop_map(|m| m as f64 / 100.0),
        2 => any::<u64>().prop_map(f64::from_bits),
        1 => proptest::sample::select(vec![
            0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e308, -1e308, 5e-324, 9_007_199_254_740_991.0, stale(),
        ]),
    ]
}

fn any_samples() -> impl Strategy<Value = Vec<Sample>> {
    let values = prop_oneof![
        vec(any_value(), 0..80),
        vec((-1_000_i64..100_000).prop_map(|m| m as f64 / 10.0), 0..80),
        vec((0_i64..1_000).prop_map(|m| m as f64 / 3.0), 0..80),
    ];
    (values, vec(1_i64..100_000, 80)).prop_map(|(values, steps)| {
        let mut at = START;
        let sample = |(value, step): (f64, i64)| {
            at += step;
            Sample {
                timestamp_ms: at,
                value,
            }
        };
        values.into_iter().zip(steps).map(sample).collect()
    })
}

proptest! {
    #[test]
    fn rollups_survive_bit_for_bit(samples in any_samples(), cut in any::<proptest::sample::Index>()) {
        let Some(whole) = roll(&samples, MINUTE) else { return Ok(()) };
        survives(&whole, MINUTE);
        survives(&roll(&samples, HOUR).unwrap(), HOUR);
        let cut = cut.index(samples.len());
        if let (Some(mut front), Some(back)) = (roll(&samples[..cut], MINUTE), roll(&samples[cut..], MINUTE)) {
            front.append(back);
            survives(&front, MINUTE);
        }
    }

    #[test]
    fn any_points_survive(first in any_value(), points in vec((any::<i64>(), any::<u32>(), vec(any_value(), 5)), 0..30)) {
        let point = |(start_ms, count, values): (i64, u32, Vec<f64>)| Point {
            start_ms,
            count,
            sum: values[0],
            min: values[1],
            max: values[2],
            last: values[3],
            increase: values[4],
        };
        survives(&Rollup { first, points: points.into_iter().map(point).collect() }, -7);
    }

    /// Against what the documentation says, in the plainest words.
    #[test]
    fn increases_are_sums_of_steps(values in vec(-50_i64..1_000, 1..60), digits in 0_i32..3) {
        let power = 10_f64.powi(digits);
        let rollup = minutes(&values.iter().map(|value| *value as f64 / power).collect::<Vec<f64>>());
        for (at, point) in rollup.points.iter().enumerate() {
            let own = &values[4 * at..values.len().min(4 * at + 4)];
            let before = if at == 0 { own[0] } else { values[4 * at - 1] };
            let steps = std::iter::once(&before).chain(own).zip(own);
            let steps = steps.map(|(before, after)| if after < before { *after } else { after - before });
            prop_assert_eq!(point.increase, steps.sum::<i64>() as f64 / power);
            prop_assert_eq!(point.sum, own.iter().sum::<i64>() as f64 / power);
            prop_assert_eq!(point.min, *own.iter().min().unwrap() as f64 / power);
            prop_assert_eq!(point.max, *own.iter().max().unwrap() as f64 / power);
            prop_assert_eq!(point.last, *own.last().unwrap() as f64 / power);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        bytes.insert(0, 1);
        let _ = decode(&bytes);
    }
}
