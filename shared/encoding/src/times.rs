//! Rows of timestamps. The series of one scrape target share their timestamps, so that a row is stored once and each series
//! names its row. A row is its first timestamp and, for each further one, how much the step differs from the usual step:
//! for a steady agent zeros, for a jittery one small numbers.
//!
//! Any 64-bit timestamps in any order are taken; differences wrap around.

use crate::DecodeError;
use crate::bits::{self, BitReader, BitWriter};
use crate::varint::{Reader, put_i64, put_len};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Collects rows, each distinct one once.
#[derive(Debug, Default)]
pub struct RowEncoder {
    timestamps: Vec<i64>,
    ends: Vec<u32>,
    last: usize,
    known: HashMap<u64, u32, BuildHasherDefault<Mixed>>,
}

impl RowEncoder {
    /// The number of the row with these timestamps, which becomes a new one when it is not known yet.
    pub fn row(&mut self, timestamps: impl ExactSizeIterator<Item = i64> + Clone) -> u32 {
        // Series of one target most often come one after the other.
        if self.is(self.last, timestamps.clone()) {
            return self.last as u32;
        }
        let mut hash = timestamps.len() as u64;
        for timestamp in timestamps.clone() {
            hash = (hash.rotate_left(5) ^ timestamp as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        if let Some(row) = self.known.get(&hash).map(|row| *row as usize)
            && self.is(row, timestamps.clone())
        {
            self.last = row;
            return row as u32;
        }
        // Of two rows with one hash only the later is found again; the other is stored twice, which costs bytes alone.
        self.last = self.ends.len();
        self.known.insert(hash, self.last as u32);
        self.timestamps.extend(timestamps);
        self.ends.push(self.timestamps.len() as u32);
        self.last as u32
    }

    fn is(&self, row: usize, timestamps: impl ExactSizeIterator<Item = i64>) -> bool {
        row < self.ends.len() && timestamps.eq(self.get(row).iter().copied())
    }

    fn get(&self, row: usize) -> &[i64] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.timestamps[start..self.ends[row] as usize]
    }

    /// Appends the rows: how many, their lengths, their first timestamps, the usual step, the other timestamps.
    pub fn finish(self, out: &mut Vec<u8>) {
        let rows = || (0..self.ends.len()).map(|row| self.get(row));
        put_len(out, self.ends.len());
        for row in rows() {
            put_len(out, row.len());
        }
        let base = rows().filter_map(|row| row.first().copied()).min().unwrap_or(0);
        put_i64(out, base);
        // Targets are scraped at their own moments of the interval: numbers of one size without any order.
        let firsts = || {
            rows()
                .filter_map(|row| row.first())
                .map(|first| first.wrapping_sub(base) as u64)
        };
        let width = bits::width(firsts().fold(0, |all, first| all | first));
        let mut packed = BitWriter::default();
        for first in firsts() {
            packed.put(first, width);
        }
        out.push(width as u8);
        out.extend_from_slice(&packed.finish());
        let step = usual_step(rows());
        put_i64(out, step);
        for pair in rows().flat_map(|row| row.windows(2)) {
            put_i64(out, pair[1].wrapping_sub(pair[0]).wrapping_sub(step));
        }
    }
}

/// The step that more than half of the pairs have, if any has (Boyer and Moore's majority vote); otherwise one of them.
fn usual_step<'a>(rows: impl Iterator<Item = &'a [i64]>) -> i64 {
    let (mut candidate, mut votes) = (0, 0_usize);
    for pair in rows.flat_map(|row| row.windows(2)) {
        let step = pair[1].wrapping_sub(pair[0]);
        if step == candidate {
            votes += 1;
        } else if votes == 0 {
            (candidate, votes) = (step, 1);
        } else {
            votes -= 1;
        }
    }
    candidate
}

/// The keys are mixed already.
#[derive(Debug, Default)]
struct Mixed(u64);

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, value: u64) {
        self.0 = value ^ value >> 32;
    }
}

/// Decoded rows.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    timestamps: Vec<i64>,
    ends: Vec<u32>,
}

impl Rows {
    /// Reads at most `limit` timestamps in all. A row takes a byte of input at least, and so does each of its timestamps after
    /// the first: memory is bounded by the input as well.
    ///
    /// # Errors
    /// When anything is missing or out of range. A row has at least one timestamp.
    pub fn decode(reader: &mut Reader<'_>, limit: usize) -> Result<Self, DecodeError> {
        let limit = limit.min(reader.rest().len());
        let count = reader.count(limit, "the number of timestamp rows")?;
        let mut ends = Vec::with_capacity(count);
        let mut total = 0;
        for _ in 0..count {
            let length = reader.count(limit - total, "the length of a timestamp row")?;
            if length == 0 {
                return Err(DecodeError::OutOfRange("the length of a timestamp row"));
            }
            total += length;
            ends.push(u32::try_from(total).map_err(|_| DecodeError::OutOfRange("the length of a timestamp row"))?);
        }
        let base = reader.i64()?;
        let width = u32::from(reader.u8()?);
        if width > u64::BITS {
            return Err(DecodeError::OutOfRange("the width of the first timestamps"));
        }
        let mut firsts = BitReader::new(reader.take((count * width as usize).div_ceil(8))?);
        let mut timestamps = vec![0; total];
        let mut start = 0;
        for end in &ends {
            timestamps[start] = base.wrapping_add_unsigned(firsts.take(width));
            start = *end as usize;
        }
        let step = reader.i64()?;
        let mut start = 0;
        for end in &ends {
            let mut timestamp = timestamps[start];
            for next in &mut timestamps[start + 1..*end as usize] {
                timestamp = timestamp.wrapping_add(step).wrapping_add(reader.i64()?);
                *next = timestamp;
            }
            start = *end as usize;
        }
        Ok(Self { timestamps, ends })
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One row; empty when there is none of that number.
    #[must_use]
    pub fn get(&self, row: usize) -> &[i64] {
        let Some(end) = self.ends.get(row) else { return &[] };
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.timestamps[start..*end as usize]
    }
}

#[cfg(test)]
mod tests;
