use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const MAX_EXACT: f64 = decimal::MAX_EXACT as f64;

fn encode(series: &[Vec<f64>]) -> Vec<u8> {
    let mut encoder = ValueEncoder::default();
    for values in series {
        encoder.push(values);
    }
    let mut out = Vec::new();
    encoder.finish(&mut out);
    out
}

fn decode(bytes: &[u8], counts: &[u32]) -> Result<Vec<Vec<f64>>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let column = ValueColumn::decode(&mut reader, counts)?;
    reader.finish()?;
    Ok((0..counts.len())
        .map(|index| {
            let mut values = Vec::new();
            column.read(index, &mut values);
            values
        })
        .collect())
}

fn counts(series: &[Vec<f64>]) -> Vec<u32> {
    series.iter().map(|values| values.len() as u32).collect()
}

fn bits(series: &[Vec<f64>]) -> Vec<Vec<u64>> {
    series
        .iter()
        .map(|values| values.iter().map(|value| value.to_bits()).collect())
        .collect()
}

fn assert_survives(series: &[Vec<f64>]) {
    let back = decode(&encode(series), &counts(series)).unwrap();
    assert_eq!(bits(&back), bits(series), "{series:?}");
}

fn kinds(series: &[Vec<f64>]) -> Vec<u8> {
    encode(series)[..series.len()]
        .iter()
        .map(|mode| mode & KIND_MASK)
        .collect()
}

/// Values of every sort, nasty ones among them.
pub(crate) fn any_value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<f64>(),
        (-1_000_000_i64..1_000_000, 0..6).prop_map(|(m, e)| m as f64 / 10_f64.powi(e)),
        any::<i64>().prop_map(|m| m as f64),
        proptest::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            -f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::from_bits(0xffff_ffff_ffff_ffff),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE,
            5e-324,
            -5e-324,
            1e308,
            f64::MAX,
            f64::MIN,
            MAX_EXACT,
            -MAX_EXACT,
            MAX_EXACT + 2.0,
            1e15,
            1e22,
            1e-22,
            0.1,
            0.3,
            123_456.789,
        ]),
    ]
}

/// One series: of a kind that decimals suit, or of any values.
fn any_series() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        vec(any_value(), 1..20),
        (
            vec(-1_000_i64..100_000, 1..20),
            -4_000_000_000_i64..4_000_000_000,
            0..5,
            0..14
        )
            .prop_map(|(deltas, start, exponent, shift)| {
                let mut integer = start;
                let mut values = Vec::new();
                for delta in deltas {
                    integer += delta;
                    values.push((integer << shift) as f64 / 10_f64.powi(exponent));
                }
                values
            }),
        (any_value(), 1..20_usize).prop_map(|(value, count)| vec![value; count]),
    ]
}

#[test]
fn integers_and_decimals_are_packed_and_the_rest_is_raw() {
    let series = [
        vec![1.0, 1.0],
        vec![0.25, 0.5],
        vec![-0.0, -0.0],
        vec![0.0, -0.0],
        vec![1.0, f64::NAN],
    ];
    assert_eq!(
        kinds(&series),
        [KIND_CONSTANT, KIND_DELTAS, KIND_RAW_CONSTANT, KIND_RAW, KIND_RAW]
    );
    assert_survives(&series);
}

#[test]
fn each_scheme_of_differences_is_used_and_survives() {
    let zigzag = vec![5.0, 3.0, 9.0];
    let rising = vec![1.0, 2.0, 5.0, 5.0];
    let frame: Vec<f64> = (0..50).map(|i| f64::from(i * 1_000_000 + i % 3)).collect();
    let schemes: Vec<u8> = [&zigzag, &rising, &frame]
        .iter()
        .map(|values| encode(&[values.to_vec()])[2] >> SCHEME_SHIFT)
        .collect();
    assert_eq!(schemes, [SCHEME_ZIGZAG, SCHEME_RISING, SCHEME_FRAME]);
    assert_survives(&[zigzag, rising, frame]);
}

#[test]
fn multiples_of_a_page_drop_their_low_bits() {
    let pages: Vec<f64> = (0..10).map(|i| f64::from(1_000_000 + i * i) * 4096.0).collect();
    let bytes: Vec<f64> = pages.iter().map(|value| value + 1.0).collect();
    assert!(encode(std::slice::from_ref(&pages)).len() < encode(&[bytes]).len());
    assert_survives(&[pages]);
}

#[test]
fn a_value_exact_with_few_digits_next_to_one_that_needs_many_survives() {
    assert_survives(&[
        vec![9_007_199_254_740_992.0, 0.1],
        vec![0.000_000_1, 4_503_599_627_370_496.0],
    ]);
}

#[test]
fn the_widest_differences_survive() {
    assert_survives(&[
        vec![MAX_EXACT, -MAX_EXACT, MAX_EXACT],
        vec![-MAX_EXACT, MAX_EXACT - 1.0],
    ]);
}

#[test]
fn no_series_take_three_empty_columns() {
    assert_eq!(encode(&[]), [0, 0, 0, 0]);
    assert_eq!(decode(&[0, 0, 0, 0], &[]), Ok(vec![]));
}

#[test]
fn a_count_of_zero_never_unpacks_values() {
    let bytes = encode(&[vec![1.0, 2.0]]);
    assert!(decode(&bytes, &[0]).is_err());
}

#[test]
fn a_large_count_costs_nothing_until_it_is_read() {
    let bytes = encode(&[vec![3.0]]);
    let column = ValueColumn::decode(&mut Reader::new(&bytes), &[u32::MAX]).unwrap();
    assert_eq!(column.series.len(), 1);
    assert!(decode(&encode(&[vec![0.1, 0.7]]), &[u32::MAX]).is_err());
}

proptest! {
    #[test]
    fn values_survive_bit_for_bit(series in vec(any_series(), 0..20)) {
        let back = decode(&encode(&series), &counts(&series)).unwrap();
        prop_assert_eq!(bits(&back), bits(&series));
    }

    #[test]
    fn broken_bytes_are_an_error_or_values_of_the_stated_count(
        series in vec(any_series(), 1..10),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut bytes = encode(&series);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let counts = counts(&series);
        for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
            if let Ok(back) = decode(bytes, &counts) {
                prop_assert!(back.iter().zip(&counts).all(|(values, count)| values.len() == *count as usize));
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), counts in vec(0_u32..50, 0..10)) {
        let _ = decode(&bytes, &counts);
    }
}
