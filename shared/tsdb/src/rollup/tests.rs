use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use tidemark_model::STALE_NAN_BITS;
use tidemark_testkit::mix::Mix;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 3_600_000;

fn samples(values: &[f64]) -> Vec<Sample> {
    let sample = |(at, value): (i64, &f64)| Sample {
        timestamp_ms: 1_767_225_600_000 + at * 15_000,
        value: *value,
    };
    (0..).zip(values).map(sample).collect()
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

fn mix(series: usize, samples: usize) -> Vec<Vec<Sample>> {
    let scrapes = Mix::new(series / 10, 1_767_225_600_000).scrapes(samples);
    let sample = |(timestamp_ms, value)| Sample { timestamp_ms, value };
    scrapes
        .into_iter()
        .map(|samples| samples.into_iter().map(sample).collect())
        .collect()
}

#[test]
fn minutes_of_the_mix_take_less_than_two_write_units() {
    let (mut bytes, mut units) = (0, 0);
    for samples in mix(1_000, 480) {
        let rollup = roll(&samples, MINUTE).unwrap();
        let length = survives(&rollup, MINUTE).len();
        bytes += length;
        units += (length + 60).div_ceil(1_024);
    }
    assert!(units < 1_600, "{units} units, {bytes} bytes");
}
