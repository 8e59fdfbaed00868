use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn encode(rows: &[Vec<i64>]) -> (Vec<u32>, Vec<u8>) {
    let mut encoder = RowEncoder::default();
    let numbers = rows.iter().map(|row| encoder.row(row.iter().copied())).collect();
    let mut out = Vec::new();
    encoder.finish(&mut out);
    (numbers, out)
}

fn decode(bytes: &[u8]) -> Result<Rows, DecodeError> {
    let mut reader = Reader::new(bytes);
    let rows = Rows::decode(&mut reader, 1_000)?;
    reader.finish()?;
    Ok(rows)
}

#[test]
fn equal_rows_are_stored_once() {
    let (a, b) = (vec![0, 15_000, 30_000], vec![7, 15_007]);
    let (numbers, bytes) = encode(&[a.clone(), a.clone(), b.clone(), a.clone(), b]);
    assert_eq!(numbers, [0, 0, 1, 0, 1]);
    assert_eq!(decode(&bytes).unwrap().len(), 2);
}

#[test]
fn a_steady_row_takes_a_byte_per_timestamp() {
    let row: Vec<i64> = (0..100).map(|i| 1_767_225_600_000 + i * 15_000).collect();
    assert!(encode(&[row]).1.len() < 120);
}

#[test]
fn targets_that_are_scraped_within_fifteen_seconds_take_fourteen_bits_each() {
    let rows: Vec<Vec<i64>> = (0..1_000)
        .map(|host| vec![1_767_225_600_000 + host * 7_919 % 15_000])
        .collect();
    // A byte says how long each row is; a compressor takes those for nothing.
    assert!(encode(&rows).1.len() < 1_000 + 1_750 + 20);
}

#[test]
fn an_empty_row_is_an_error_and_no_rows_are_none() {
    assert!(decode(&[1, 0, 0, 0, 0]).is_err());
    // A width of 65 bits.
    assert!(decode(&[1, 1, 0, 65, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).is_err());
    assert!(decode(&encode(&[]).1).unwrap().is_empty());
    assert_eq!(decode(&encode(&[]).1).unwrap().get(0), [] as [i64; 0]);
}

#[test]
fn more_timestamps_than_the_limit_or_than_bytes_are_an_error() {
    let row: Vec<i64> = (0..1_001).collect();
    assert!(decode(&encode(&[row]).1).is_err());
    assert!(decode(&[0xff, 0xff, 0xff, 0x7f]).is_err());
}

proptest! {
    #[test]
    fn any_timestamps_survive(rows in vec(vec(prop_oneof![any::<i64>(), 0_i64..100_000], 1..10), 0..20)) {
        let (numbers, bytes) = encode(&rows);
        let decoded = decode(&bytes).unwrap();
        for (row, number) in rows.iter().zip(numbers) {
            prop_assert_eq!(decoded.get(number as usize), &row[..]);
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100)) {
        if let Ok(rows) = decode(&bytes) {
            prop_assert!((0..rows.len()).map(|row| rows.get(row).len()).sum::<usize>() <= bytes.len());
        }
    }
}
