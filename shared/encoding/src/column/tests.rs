use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn survives(values: &[u64]) -> usize {
    let mut bytes = Vec::new();
    encode(values, &mut bytes);
    let mut reader = Reader::new(&bytes);
    assert_eq!(decode(&mut reader, values.len()).unwrap(), values);
    reader.finish().unwrap();
    bytes.len()
}

#[test]
fn zeros_take_one_byte() {
    assert_eq!(survives(&[0; 10_000]), 1);
    assert_eq!(survives(&[]), 1);
}

#[test]
fn few_others_among_zeros_are_stored_with_their_gaps() {
    let mut values = vec![0; 480];
    values[3] = 7;
    values[400] = u64::MAX;
    assert!(survives(&values) < 24);
    assert_eq!(survives(&[0, 0, 0, 0, 0, 0, 1]), 3);
}

#[test]
fn one_value_far_out_costs_its_own_bits_alone() {
    let mut values: Vec<u64> = (0..64).map(|at| at % 7).collect();
    let before = survives(&values);
    values[10] = u64::MAX;
    assert!(survives(&values) <= before + 16);
}

#[test]
fn equally_likely_values_are_packed() {
    let values: Vec<u64> = (0..640).map(|at| at * 37 % 64).collect();
    assert!(survives(&values) <= 1 + (640 * 6 + 10 * 7_usize).div_ceil(8));
}

#[test]
fn values_of_any_width_survive() {
    for shift in 0..64 {
        survives(&[u64::MAX >> shift; 65]);
        let spread: Vec<u64> = (0..100).map(|at| (1 << 63 >> shift) / (at + 1)).collect();
        survives(&spread);
    }
}

#[test]
fn what_the_format_does_not_allow_is_an_error() {
    let decode = |bytes: &[u8], count| decode(&mut Reader::new(bytes), count);
    assert_eq!(decode(&[], 1), Err(DecodeError::Truncated));
    assert_eq!(decode(&[3], 1), Err(DecodeError::OutOfRange("a column's form")));
    assert_eq!(
        decode(&[DENSE, 127], 1),
        Err(DecodeError::OutOfRange("a block's parameter"))
    );
    assert_eq!(decode(&[DENSE], 1), Err(DecodeError::Truncated));
    assert_eq!(decode(&[DENSE, 64], 1), Err(DecodeError::Truncated));
    assert_eq!(
        decode(&[SPARSE, 2], 1),
        Err(DecodeError::OutOfRange("the number of filled values"))
    );
    // A gap of 1 before the only value: packed in one bit.
    assert_eq!(
        decode(&[SPARSE, 1, 0x81, 0, 0], 1),
        Err(DecodeError::OutOfRange("a gap"))
    );
    assert_eq!(decode(&[SPARSE, 1, 0x81, 0, 0], 2), Ok(vec![0, 1]));
}

proptest! {
    #[test]
    fn columns_survive(
        values in vec((any::<u64>(), 0_u32..64, 0..3), 0..300),
        zeros in 0..3,
    ) {
        let values: Vec<u64> = values
            .into_iter()
            .map(|(value, shift, which)| if which < zeros { 0 } else { value >> shift })
            .collect();
        survives(&values);
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), form in 0_u8..4, count in 0_usize..1_000) {
        let _ = decode(&mut Reader::new(&bytes), count);
        let bytes = [&[form], &*bytes].concat();
        if let Ok(values) = decode(&mut Reader::new(&bytes), count) {
            prop_assert_eq!(values.len(), count);
        }
    }
}
