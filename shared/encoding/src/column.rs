//! A column of unsigned integers of which most are small: dense in blocks, each block packed or Rice-coded as its values
//! ask for, or sparse where most are zero. How many there are is known from elsewhere. `shared/tsdb/FORMAT.md` draws it.
//!
//! Rice codes (R. Rice 1979; FLAC codes its residuals so) come within some tenths of a bit of the entropy of what is left
//! after a good prediction, where packing to the width of the largest spends more than a bit on each for the few far out.

use crate::DecodeError;
use crate::bits::{BitReader, BitWriter, MAX_WIDTH, width};
use crate::varint::{Reader, len_u64, put_len};

const ZEROS: u8 = 0;
const DENSE: u8 = 1;
const SPARSE: u8 = 2;

/// How many values share a block's parameter. 32 to 128 differ by less than a percent on the mix.
const BLOCK: usize = 64;
const PARAMETER_BITS: u32 = 7;
/// A block of zeros; 1 to 64 are widths.
const PARAMETER_ZEROS: u8 = 0;
/// The parameter of Rice codes without low bits; each one more has one low bit more.
const PARAMETER_RICE: u8 = 65;
/// As many zeros instead of a quotient announce a value of 64 bits.
const ESCAPE: u32 = 16;
const ESCAPED_BITS: u64 = ESCAPE as u64 + 64;

/// Encodes a column.
pub fn encode(values: &[u64], out: &mut Vec<u8>) {
    let filled = values.iter().filter(|value| **value != 0).count();
    if filled == 0 {
        out.push(ZEROS);
        return;
    }
    let dense = Plan::new(values);
    if filled * 2 < values.len() {
        let (gaps, others) = gather(values, filled);
        let (gap_plan, other_plan) = (Plan::new(&gaps), Plan::new(&others));
        let bytes = len_u64(filled as u64) + gap_plan.bytes() + other_plan.bytes();
        if bytes < dense.bytes() {
            out.push(SPARSE);
            put_len(out, filled);
            gap_plan.write(&gaps, out);
            other_plan.write(&others, out);
            return;
        }
    }
    out.push(DENSE);
    dense.write(values, out);
}

/// How many zeros lie before each other value, and the other values less 1.
fn gather(values: &[u64], filled: usize) -> (Vec<u64>, Vec<u64>) {
    let (mut gaps, mut others) = (Vec::with_capacity(filled), Vec::with_capacity(filled));
    let mut gap = 0;
    for value in values {
        if *value == 0 {
            gap += 1;
        } else {
            gaps.push(gap);
            others.push(value - 1);
            gap = 0;
        }
    }
    (gaps, others)
}

/// Each block's parameter, and the bits of all.
struct Plan {
    parameters: Vec<u8>,
    bits: u64,
}

impl Plan {
    fn new(values: &[u64]) -> Self {
        let mut plan = Self {
            parameters: Vec::with_capacity(values.len().div_ceil(BLOCK)),
            bits: 0,
        };
        for block in values.chunks(BLOCK) {
            let (parameter, bits) = choose(block);
            plan.parameters.push(parameter);
            plan.bits += bits + u64::from(PARAMETER_BITS);
        }
        plan
    }

    fn bytes(&self) -> usize {
        self.bits.div_ceil(8) as usize
    }

    fn write(&self, values: &[u64], out: &mut Vec<u8>) {
        let mut writer = BitWriter::default();
        for (block, parameter) in values.chunks(BLOCK).zip(&self.parameters) {
            writer.put(u64::from(*parameter), PARAMETER_BITS);
            match parameter.checked_sub(PARAMETER_RICE) {
                Some(low) => put_rice(&mut writer, block, u32::from(low)),
                None => block.iter().for_each(|value| writer.put(*value, u32::from(*parameter))),
            }
        }
        out.extend_from_slice(&writer.finish());
    }
}

fn put_rice(writer: &mut BitWriter, block: &[u64], low: u32) {
    for value in block {
        let quotient = value >> low;
        if quotient >= u64::from(ESCAPE) {
            writer.put(0, ESCAPE);
            writer.put(*value, 64);
            continue;
        }
        let (unary, rest) = (quotient as u32 + 1, value & ((1 << low) - 1));
        if unary + low <= 64 {
            writer.put((1 << quotient) | (rest << quotient) << 1, unary + low);
        } else {
            writer.put(1 << quotient, unary);
            writer.put(rest, low);
        }
    }
}

/// The parameter that makes a block smallest, and its bits.
fn choose(block: &[u64]) -> (u8, u64) {
    let (mut all, mut widths) = (0, 0);
    for value in block {
        all |= value;
        widths += width(*value);
    }
    if all == 0 {
        return (PARAMETER_ZEROS, 0);
    }
    let count = block.len() as u64;
    let widest = width(all);
    let mut best = (widest as u8, u64::from(widest) * count);
    // The best number of low bits is about the logarithm of the mean. The mean of the widths less a half is close, and one
    // value far out does not move it.
    let low = (10 * widths).saturating_sub(6 * block.len() as u32) / (10 * block.len() as u32);
    for low in low..=(low + 1).min(MAX_WIDTH) {
        let bits = block.iter().map(|value| {
            let quotient = value >> low;
            if quotient < u64::from(ESCAPE) {
                quotient + 1 + u64::from(low)
            } else {
                ESCAPED_BITS
            }
        });
        let bits = bits.sum();
        if bits < best.1 {
            best = (PARAMETER_RICE + low as u8, bits);
        }
    }
    best
}

/// Decodes a column of `count` values, which the caller has checked against a limit: few bytes can stand for many zeros.
///
/// # Errors
/// When anything is missing or out of range.
pub fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, DecodeError> {
    match reader.u8()? {
        ZEROS => Ok(vec![0; count]),
        DENSE => decode_dense(reader, count),
        SPARSE => {
            let filled = reader.count(count, "the number of filled values")?;
            let gaps = decode_dense(reader, filled)?;
            let others = decode_dense(reader, filled)?;
            let mut values = vec![0; count];
            let mut slots = values.iter_mut();
            for (gap, other) in gaps.into_iter().zip(others) {
                let gap = usize::try_from(gap).map_err(|_| DecodeError::OutOfRange("a gap"))?;
                let slot = slots.nth(gap).ok_or(DecodeError::OutOfRange("a gap"))?;
                *slot = other.wrapping_add(1);
            }
            Ok(values)
        }
        _ => Err(DecodeError::OutOfRange("a column's form")),
    }
}

fn decode_dense(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, DecodeError> {
    // Each block takes seven bits at least, so that memory is bounded by the input.
    let mut values = Vec::with_capacity(count.min(reader.rest().len().saturating_mul(BLOCK)));
    let mut bits = BitReader::new(reader.rest());
    while values.len() < count {
        let length = BLOCK.min(count - values.len());
        let parameter = bits.take(PARAMETER_BITS) as u8;
        match parameter.checked_sub(PARAMETER_RICE).map(u32::from) {
            None => values.extend((0..length).map(|_| bits.take(u32::from(parameter)))),
            Some(low) if low <= MAX_WIDTH => values.extend((0..length).map(|_| take_rice(&mut bits, low))),
            Some(_) => return Err(DecodeError::OutOfRange("a block's parameter")),
        }
        bits.check()?;
    }
    reader.take(bits.bytes_read())?;
    Ok(values)
}

#[inline]
fn take_rice(bits: &mut BitReader<'_>, low: u32) -> u64 {
    let next = bits.peek();
    let quotient = next.trailing_zeros();
    if quotient >= ESCAPE {
        bits.skip(ESCAPE);
        return bits.take(64);
    }
    let used = quotient + 1;
    if used + low <= MAX_WIDTH {
        bits.skip(used + low);
        return u64::from(quotient) << low | (next >> used) & ((1 << low) - 1);
    }
    bits.skip(used);
    u64::from(quotient) << low | bits.take(low)
}

#[cfg(test)]
mod tests;
