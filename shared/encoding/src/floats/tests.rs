use super::*;
use crate::values::tests::any_value;
use proptest::collection::vec;
use proptest::prelude::*;

fn encoded(values: &[f64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(values, &mut bytes);
    let mut reader = Reader::new(&bytes);
    let back = decode(&mut reader, values.len()).unwrap();
    assert!(
        back.iter()
            .map(|value| value.to_bits())
            .eq(values.iter().map(|value| value.to_bits())),
        "{values:?} {back:?}"
    );
    reader.finish().unwrap();
    bytes
}

#[test]
fn order_of_bits_is_order_of_values() {
    let values = [
        f64::NEG_INFINITY,
        -1e300,
        -1.0,
        -5e-324,
        -0.0,
        0.0,
        5e-324,
        1.0,
        1e300,
        f64::INFINITY,
    ];
    for pair in values.windows(2) {
        assert!(ordered(pair[0]) < ordered(pair[1]));
    }
    assert!(
        values
            .iter()
            .all(|value| unordered(ordered(*value)).to_bits() == value.to_bits())
    );
}

#[test]
fn a_staleness_marker_does_not_turn_decimals_into_bits() {
    let mut values: Vec<f64> = (0..480).map(|at| f64::from(at % 50) / 4.0).collect();
    let before = encoded(&values).len();
    values[479] = f64::from_bits(0x7ff0_0000_0000_0002);
    values[100] = -0.0;
    assert!(encoded(&values).len() < before + 30);
}

#[test]
fn markers_alone_and_other_constants_take_a_few_bytes() {
    assert!(encoded(&[f64::from_bits(0x7ff0_0000_0000_0002); 100]).len() <= 12);
    assert!(encoded(&[1.0 / 3.0; 100]).len() <= 12);
    assert_eq!(encoded(&[1.0; 100]).len(), 3);
}

#[test]
fn smooth_doubles_take_the_bits_that_differ() {
    let values: Vec<f64> = (0..480).map(|at| 40.0 + (f64::from(at) * 0.7).sin()).collect();
    assert!(encoded(&values).len() < 480 * 13 / 2, "{}", encoded(&values).len());
}

#[test]
fn doubles_that_repeat_take_planes() {
    let values: Vec<f64> = (0..480).map(|at| f64::from(at * at % 7) / 7.0).collect();
    let bytes = encoded(&values);
    assert_eq!(bytes[0], PLANES);
    assert!(bytes.len() < 480, "{}", bytes.len());
}

/// What zstd makes of planes may differ from version to version, but each must be read.
#[test]
fn golden_planes() {
    let digits: Vec<u8> = GOLDEN_PLANES
        .bytes()
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect();
    let values: Vec<f64> = (0..200).map(|at| f64::from(at * at % 7) / 7.0).collect();
    assert_eq!(decode(&mut Reader::new(&bytes), 200).unwrap(), values);
}

const GOLDEN_PLANES: &str = "604b28b52ffd6040050d0200c0003f003f00c2e2d2d2e2c2004900240092929292009292920f003e400164e0031440063e2a82021f20806bd10728e05af4010ab816fb0065371502a061016001";

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    let decode = |bytes: &[u8]| decode(&mut Reader::new(bytes), 2);
    assert_eq!(
        decode(&[DECIMALS | 23]),
        Err(DecodeError::OutOfRange("the kind of the values"))
    );
    assert_eq!(
        decode(&[BITS | 1]),
        Err(DecodeError::OutOfRange("the kind of the values"))
    );
    assert_eq!(decode(&[0x80]), Err(DecodeError::OutOfRange("the kind of the values")));
    assert!(decode(&[DECIMALS_AND_OTHERS, 2]).is_err(), "nothing but others");
    assert!(decode(&[PLANES, 1, 0]).is_err());
    for length in [8, 24] {
        let mut bytes = vec![PLANES];
        put_bytes(&mut bytes, &compress::zstd(&vec![0; length], 3).unwrap());
        assert!(decode(&bytes).is_err());
    }
}

proptest! {
    #[test]
    fn values_survive(values in vec(any_value(), 0..40)) {
        encoded(&values);
    }

    #[test]
    fn decimals_with_others_survive(
        decimals in vec(-1_000_i64..100_000, 16..200),
        others in vec((any::<proptest::sample::Index>(), any_value()), 0..12),
    ) {
        let mut values: Vec<f64> = decimals.into_iter().map(|m| m as f64 / 100.0).collect();
        for (at, value) in others {
            let at = at.index(values.len());
            values[at] = value;
        }
        encoded(&values);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), head in 0_u8..0x80, count in 0_usize..1_000) {
        let bytes = [&[head], &*bytes].concat();
        if let Ok(values) = decode(&mut Reader::new(&bytes), count) {
            prop_assert_eq!(values.len(), count);
        }
    }
}
