//! The values of one series, lossless bit for bit: as decimals where all or nearly all are decimals, as their bits where they
//! are not, as compressed planes of bytes where the bits repeat. How many there are is known from elsewhere.
//! `shared/tsdb/FORMAT.md` draws it.
//!
//! Taken as integers, the bits of doubles ascend with the doubles. Between two powers of two they are fixed-point numbers,
//! so that the difference of two values of a smooth series needs only the bits that differ.

use crate::varint::{Reader, put_bytes, put_len};
use crate::{CompressError, DecodeError, column, compress, decimal, series};
use decimal::MAX_EXPONENT;

/// Decimals; the low bits are the exponent of ten.
const DECIMALS: u8 = 0;
/// Decimals, and some values that are none.
const DECIMALS_AND_OTHERS: u8 = 0b10_0000;
const EXPONENT_MASK: u8 = 0b1_1111;
/// The bits as a series of integers.
const BITS: u8 = 0b100_0000;
/// The bytes in planes, compressed.
const PLANES: u8 = 0b110_0000;

/// One in so many may be no decimal.
const ONE_OTHER_IN: usize = 16;

/// Of about so many values it is looked at how many repeat.
const REPEATS_OF: usize = 64;

/// Encodes the values of one series; nothing when there are none.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut integers = Vec::new();
    match decimal::scale(values, values.len() / ONE_OTHER_IN + 1, &mut integers) {
        Some(scale) if !integers.is_empty() => {
            if scale.others.is_empty() {
                out.push(DECIMALS | scale.exponent);
            } else {
                out.push(DECIMALS_AND_OTHERS | scale.exponent);
                put_others(values, &scale.others, out);
            }
            series::encode(&integers, out);
        }
        _ if values.is_empty() => {}
        _ => encode_bits(values, out),
    }
}

fn put_others(values: &[f64], others: &[usize], out: &mut Vec<u8>) {
    put_len(out, others.len());
    let mut next = 0;
    let gaps = others
        .iter()
        .map(|at| (at - std::mem::replace(&mut next, at + 1)) as u64);
    column::encode(&gaps.collect::<Vec<u64>>(), out);
    series::encode(&others.iter().map(|at| ordered(values[*at])).collect::<Vec<i64>>(), out);
}

fn encode_bits(values: &[f64], out: &mut Vec<u8>) {
    let mut bytes = vec![BITS];
    series::encode(
        &values.iter().map(|value| ordered(*value)).collect::<Vec<i64>>(),
        &mut bytes,
    );
    if repeat(values)
        && let Ok(packed) = compress::zstd(&planes(values), compress::STORED_LEVEL)
        && packed.len() + 4 < bytes.len()
    {
        bytes.clear();
        bytes.push(PLANES);
        put_bytes(&mut bytes, &packed);
    }
    out.extend_from_slice(&bytes);
}

/// Whether so many values are there more than once that looking for repetitions is worth the time.
fn repeat(values: &[f64]) -> bool {
    let mut some: Vec<u64> = values.iter().take(REPEATS_OF).map(|value| value.to_bits()).collect();
    let looked_at = some.len();
    some.sort_unstable();
    some.dedup();
    some.len() * 4 < looked_at * 3
}

/// The bits as an integer that ascends with the value.
#[inline]
fn ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline]
fn unordered(integer: i64) -> f64 {
    f64::from_bits((integer ^ ((integer >> 63) as u64 >> 1) as i64) as u64)
}

/// All first bytes, then all second ones, …: those of sign and exponent are alike.
fn planes(values: &[f64]) -> Vec<u8> {
    let plane = |which: usize| values.iter().map(move |value| value.to_be_bytes()[which]);
    (0..8).flat_map(plane).collect()
}

/// Decodes `count` values, which the caller has checked against a limit: few bytes can stand for many equal values.
///
/// # Errors
/// When anything is missing, left over within the planes, or out of range.
pub fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, DecodeError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let head = reader.u8()?;
    let exponent = head & EXPONENT_MASK;
    match head & !EXPONENT_MASK {
        DECIMALS if exponent <= MAX_EXPONENT => decode_decimals(reader, count, exponent),
        DECIMALS_AND_OTHERS if exponent <= MAX_EXPONENT => {
            let others = reader.count(count - 1, "the number of values that are no decimals")?;
            let gaps = column::decode(reader, others)?;
            let others = series::decode(reader, others)?;
            let decimals = decode_decimals(reader, count - others.len(), exponent)?;
            merge(decimals, &gaps, others)
        }
        BITS if exponent == 0 => Ok(series::decode(reader, count)?.into_iter().map(unordered).collect()),
        PLANES if exponent == 0 => decode_planes(reader.bytes()?, count),
        _ => Err(DecodeError::OutOfRange("the kind of the values")),
    }
}

fn decode_decimals(reader: &mut Reader<'_>, count: usize, exponent: u8) -> Result<Vec<f64>, DecodeError> {
    let integers = series::decode(reader, count)?.into_iter();
    Ok(if exponent == 0 {
        integers.map(|integer| integer as f64).collect()
    } else {
        let power = decimal::POWERS[usize::from(exponent)];
        integers.map(|integer| integer as f64 / power).collect()
    })
}

/// Puts the others between the decimals, each after as many decimals as its gap says.
fn merge(decimals: Vec<f64>, gaps: &[u64], others: Vec<i64>) -> Result<Vec<f64>, DecodeError> {
    let mut values = Vec::with_capacity(decimals.len() + others.len());
    let mut rest = decimals.as_slice();
    for (gap, other) in gaps.iter().zip(others) {
        let before = usize::try_from(*gap).ok().and_then(|gap| rest.split_at_checked(gap));
        let (before, after) = before.ok_or(DecodeError::OutOfRange("a gap"))?;
        values.extend_from_slice(before);
        values.push(unordered(other));
        rest = after;
    }
    values.extend_from_slice(rest);
    Ok(values)
}

fn decode_planes(packed: &[u8], count: usize) -> Result<Vec<f64>, DecodeError> {
    let planes = compress::unzstd(packed, count.saturating_mul(8)).map_err(|error| match error {
        CompressError::Broken => DecodeError::OutOfRange("the compressed planes"),
        CompressError::TooLarge { .. } => DecodeError::Trailing,
    })?;
    if planes.len() != count * 8 {
        return Err(DecodeError::Truncated);
    }
    let mut bits = vec![0_u64; count];
    for plane in planes.chunks_exact(count) {
        for (value, byte) in bits.iter_mut().zip(plane) {
            *value = *value << 8 | u64::from(*byte);
        }
    }
    Ok(bits.into_iter().map(f64::from_bits).collect())
}

#[cfg(test)]
mod tests;
