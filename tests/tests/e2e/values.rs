//! Values come back bit for bit through the deployed system.

use rand::Rng as _;
use serde_json::Value;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::expect::{Samples, labels, sample, until_same};
use tidemark_tests::harness::{now_ms, random, unique};

/// What encodings, parsers and printers get wrong.
fn awkward() -> Vec<f64> {
    let exact = 9_007_199_254_740_992.0_f64;
    let mut values = vec![
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.0,
        -0.0,
        5e-324,
        -5e-324,
        f64::from_bits(0x000f_ffff_ffff_ffff),
        f64::MIN_POSITIVE,
        1e308,
        f64::MAX,
        f64::MIN,
        0.1,
        0.1 + 0.2,
        1.0 / 3.0,
        -1e-7,
        1e21,
        123_456_789.012_345_67,
        exact,
        4_611_686_018_427_387_904.0,
        18_446_744_073_709_551_615.0,
    ];
    for neighbour in [-2_i64, -1, 1, 2] {
        values.push(f64::from_bits(exact.to_bits().wrapping_add_signed(neighbour)));
    }
    values
}

/// A canonical NaN is the one that JSON can name.
fn bits(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        value.to_bits()
    }
}

async fn round_trip(series: &[Vec<f64>]) -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, start) = (unique("e2e_values"), now_ms() - 1_800_000);
    let (mut body, mut wanted) = (Vec::new(), Samples::new());
    for (number, values) in series.iter().enumerate() {
        let labels = labels([("series", &number.to_string())]);
        for (at, value) in values.iter().enumerate() {
            let ms = start + at as i64 * 1_000;
            body.push(sample(&metric, &labels, ms, *value));
            wanted.insert((labels.clone(), ms), bits(*value));
        }
    }
    for chunk in body.chunks(20_000) {
        api.push(&Value::from(chunk)).await?;
    }
    until_same(&api, &metric, &wanted, start, now_ms()).await
}

#[tokio::test]
async fn awkward_values_round_trip_in_one_series() -> anyhow::Result<()> {
    round_trip(&[awkward()]).await
}

#[tokio::test]
async fn awkward_values_round_trip_alone_and_as_constants() -> anyhow::Result<()> {
    let alone = awkward().into_iter().map(|value| vec![value]);
    let constant = awkward().into_iter().map(|value| vec![value; 5]);
    // Between ordinary values, where an encoding is tempted.
    let between = awkward().into_iter().map(|value| vec![1.25, 1.5, value, 1.75, 2.0]);
    let series: Vec<Vec<f64>> = alone.chain(constant).chain(between).collect();
    round_trip(&series).await
}

#[tokio::test]
async fn random_bit_patterns_round_trip() -> anyhow::Result<()> {
    let mut random = random("random_bit_patterns_round_trip");
    let mut finite = || loop {
        let value = f64::from_bits(random.random());
        if value.is_finite() {
            return value;
        }
    };
    let series: Vec<Vec<f64>> = (0..20).map(|_| (0..100).map(|_| finite()).collect()).collect();
    round_trip(&series).await
}

#[tokio::test]
async fn random_decimals_round_trip() -> anyhow::Result<()> {
    let mut random = random("random_decimals_round_trip");
    // Of every magnitude and number of digits: what is stored as scaled integers where that is exact.
    let mut decimal = || {
        let digits: i64 = random.random_range(-99_999_999_999_999_999..=99_999_999_999_999_999);
        let digits = digits / 10_i64.pow(random.random_range(0..17));
        format!("{digits}e{}", random.random_range(-12..=3))
            .parse::<f64>()
            .unwrap()
    };
    let series: Vec<Vec<f64>> = (0..40).map(|_| (0..25).map(|_| decimal()).collect()).collect();
    round_trip(&series).await
}

#[tokio::test]
async fn long_spellings_are_read_as_the_nearest_double() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, at) = (unique("e2e_spelling"), now_ms());
    let mut wanted = Samples::new();
    let spellings = [
        "0.1000000000000000055511151231257827021181583404541015625",
        "179769313486231570000000000000000000000000000000000000000e252",
        "2.4703282292062327208e-324",
        "9007199254740993",
        "1E-400",
        "-0",
        "100000000000000000000000000000000000000000000000",
    ];
    let body: Vec<String> = spellings
        .iter()
        .enumerate()
        .map(|(number, spelling)| {
            let number = number.to_string();
            let value: f64 = spelling.parse().unwrap();
            wanted.insert((labels([("n", &number)]), at), value.to_bits());
            let seconds = format!("{}.{:03}", at / 1_000, at % 1_000);
            format!(r#"{{"name":"{metric}","labels":{{"n":"{number}"}},"timestamp":{seconds},"value":{spelling}}}"#)
        })
        .collect();
    let body = format!("{{\"metrics\":[{}]}}", body.join(","));
    let answer = api
        .call("POST", "/api/v1/metrics", Request::json(body))
        .await?
        .expect(202)?;
    assert_eq!(answer["accepted"], spellings.len(), "{answer}");
    until_same(&api, &metric, &wanted, at - 1_000, at + 1_000).await
}
