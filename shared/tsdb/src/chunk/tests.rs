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

proptest! {
    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes, &mut Vec::new());
        bytes.insert(0, VERSION);
        let _ = decode(&bytes, &mut Vec::new());
    }
}
