//! The bytes of a rollup: columns, each told from those before it where it can be.

use super::{Point, Rollup, step};
use tidemark_encoding::varint::{put_i64, put_len, zigzag};
use tidemark_encoding::{DecodeError, Reader, bits, clock, column, decimal, floats, series};
use tidemark_model::limits::MAX_ROLLUP_POINTS;

const VERSION: u8 = 1;

/// All values are decimals of one exponent, the low bits: the columns are integers.
const EXPONENT_MASK: u8 = 0b1_1111;
/// The smallest is told from the last one of the point before, not of its own.
const MIN_FROM_BEFORE: u8 = 0b10_0000;
/// What resets add to the increase is divided by the middle of the point's values, for gauges with their many resets.
const RESETS_DIVIDED: u8 = 0b100_0000;
/// The columns are doubles.
const DOUBLES: u8 = 0b1000_0000;

/// Why bytes are not a rollup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollupError {
    /// Written by a newer Tidemark, or no rollup.
    #[error("unknown rollup version {0}")]
    Version(u8),
    /// Bytes are missing, left over or out of range.
    #[error("the rollup is broken")]
    Broken(#[from] DecodeError),
}

/// A rollup, and the steps of time that it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// How long a step is, in milliseconds.
    pub resolution_ms: i64,
    /// The aggregates.
    pub rollup: Rollup,
}

/// Encodes a rollup, whatever is in it, bit for bit. A block has few enough points for an item, so that it is never split:
/// see [`MAX_ROLLUP_POINTS`], which more of them would pass.
#[must_use]
pub fn encode(rollup: &Rollup, resolution_ms: i64) -> Vec<u8> {
    let points = &rollup.points;
    let mut head = Vec::new();
    put_i64(&mut head, resolution_ms);
    put_len(&mut head, points.len());
    clock::encode(
        &points.iter().map(|point| point.start_ms).collect::<Vec<i64>>(),
        &mut head,
    );
    series::encode(
        &points.iter().map(|point| i64::from(point.count)).collect::<Vec<i64>>(),
        &mut head,
    );
    let (kind, columns) = match Integers::of(rollup) {
        Some(integers) => integers.encode(points),
        None => (DOUBLES, encode_doubles(rollup)),
    };
    [&[VERSION, kind], &*head, &columns].concat()
}

/// The columns as integers of one exponent.
struct Integers {
    exponent: u8,
    /// The block's first value and each point's last one.
    ends: Vec<i64>,
    min: Vec<i64>,
    max: Vec<i64>,
    sum: Vec<i64>,
    increase: Vec<i64>,
}

impl Integers {
    /// None when not all values are decimals of one exponent.
    fn of(rollup: &Rollup) -> Option<Self> {
        let points = &rollup.points;
        let mut values = Vec::with_capacity(1 + 5 * points.len());
        values.push(rollup.first);
        values.extend(points.iter().map(|point| point.last));
        for column in COLUMNS {
            values.extend(points.iter().map(column));
        }
        let mut integers = Vec::new();
        let exponent = decimal::scale(&values, 0, &mut integers)?.exponent;
        let mut from = 0;
        let mut next = |length: usize| {
            from += length;
            integers[from - length..from].to_vec()
        };
        Some(Self {
            exponent,
            ends: next(points.len() + 1),
            min: next(points.len()),
            max: next(points.len()),
            sum: next(points.len()),
            increase: next(points.len()),
        })
    }

    fn encode(&self, points: &[Point]) -> (u8, Vec<u8>) {
        let mut kind = self.exponent;
        let mut out = encoded(self.ends.iter().copied());
        let (before, last) = (&self.ends, &self.ends[1..]);
        let middles = || self.min.iter().zip(&self.max).map(|(min, max)| min + max);
        let steps = last.iter().zip(before).map(|(last, before)| last - before);
        let resets = self.increase.iter().zip(steps);
        let resets: Vec<i64> = resets.map(|(increase, step)| increase - step).collect();
        // A counter's smallest value is its first, one step after the last one of the point before.
        if resets.iter().all(|reset| *reset == 0) {
            kind |= MIN_FROM_BEFORE;
            out.extend(encoded(self.min.iter().zip(before).map(|(min, before)| min - before)));
        } else {
            out.extend(level(last.iter().zip(&self.min).map(|(last, min)| last - min)));
        }
        out.extend(level(self.max.iter().zip(last).map(|(max, last)| max - last)));
        let sums = self.sum.iter().zip(points).zip(middles());
        out.extend(level(sums.map(|((sum, point), twice)| {
            sum.wrapping_sub(expected_sum(point.count, twice))
        })));
        let divided = resets.iter().zip(middles());
        let (quotients, rests): (Vec<i64>, Vec<i64>) = divided.map(|(reset, twice)| divide(*reset, twice)).unzip();
        if width(&quotients) + width(&rests) < width(&resets) {
            kind |= RESETS_DIVIDED;
            out.extend(level(quotients.into_iter()));
            out.extend(level(rests.into_iter()));
        } else {
            out.extend(encoded(resets.into_iter()));
        }
        (kind, out)
    }
}

/// About how many bits integers take.
fn width(integers: &[i64]) -> u32 {
    integers.iter().map(|integer| bits::width(zigzag(*integer))).sum()
}

fn encoded(integers: impl Iterator<Item = i64>) -> Vec<u8> {
    let mut out = Vec::new();
    series::encode(&integers.collect::<Vec<i64>>(), &mut out);
    out
}

fn level(integers: impl Iterator<Item = i64>) -> Vec<u8> {
    let mut out = Vec::new();
    series::encode_level(&integers.collect::<Vec<i64>>(), &mut out);
    out
}

/// What as many values would give whose mean lies in the middle of the smallest and the largest.
fn expected_sum(count: u32, twice: i64) -> i64 {
    // Both may be anything in a broken block.
    twice.wrapping_mul(i64::from(count)) >> 1
}

/// The quotient by the middle, rounded, and the rest.
fn divide(reset: i64, twice: i64) -> (i64, i64) {
    let middle = twice >> 1;
    if middle == 0 {
        return (0, reset);
    }
    // Rounded by a double: which quotient it is matters to the size alone.
    let quotient = (reset as f64 / middle as f64).round() as i64;
    (quotient, reset.wrapping_sub(quotient.wrapping_mul(middle)))
}

fn encode_doubles(rollup: &Rollup) -> Vec<u8> {
    let mut out = Vec::new();
    let ends: Vec<f64> = std::iter::once(rollup.first)
        .chain(rollup.points.iter().map(|point| point.last))
        .collect();
    floats::encode(&ends, &mut out);
    for (which, column) in COLUMNS.iter().enumerate() {
        let differs = |(at, point): (usize, &Point)| {
            let value = column(point);
            let expected = expected(which, ends[at], point);
            (value.to_bits() != expected.to_bits()).then_some(value)
        };
        let values: Vec<Option<f64>> = rollup.points.iter().enumerate().map(differs).collect();
        column::encode(
            &values
                .iter()
                .map(|value| u64::from(value.is_some()))
                .collect::<Vec<u64>>(),
            &mut out,
        );
        floats::encode(&values.into_iter().flatten().collect::<Vec<f64>>(), &mut out);
    }
    out
}

/// The columns of doubles after the last values, in their order.
const COLUMNS: [fn(&Point) -> f64; 4] = [
    |point| point.min,
    |point| point.max,
    |point| point.sum,
    |point| point.increase,
];

/// What a column most likely holds, from the last value before and the point's own last value and count.
fn expected(which: usize, before: f64, point: &Point) -> f64 {
    match which {
        0 | 1 => point.last,
        2 => point.last * f64::from(point.count),
        _ => step(before, point.last),
    }
}

/// Decodes a rollup and checks all of it.
///
/// # Errors
/// When anything in it is not as the format says, or passes a limit.
pub fn decode(bytes: &[u8]) -> Result<Decoded, RollupError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        version => return Err(RollupError::Version(version)),
    }
    let kind = reader.u8()?;
    let resolution_ms = reader.i64()?;
    let length = reader.count(MAX_ROLLUP_POINTS, "the number of points")?;
    let starts = clock::decode(&mut reader, length)?;
    let counts = series::decode(&mut reader, length)?;
    let mut points = Vec::with_capacity(length);
    for (start_ms, count) in starts.into_iter().zip(counts) {
        points.push(Point {
            start_ms,
            count: u32::try_from(count).map_err(|_| DecodeError::OutOfRange("a count"))?,
            sum: 0.0,
            min: 0.0,
            max: 0.0,
            last: 0.0,
            increase: 0.0,
        });
    }
    let first = match kind {
        DOUBLES => decode_doubles(&mut reader, &mut points)?,
        kind if kind & DOUBLES == 0 && kind & EXPONENT_MASK <= decimal::MAX_EXPONENT => {
            decode_integers(&mut reader, kind, &mut points)?
        }
        _ => return Err(DecodeError::OutOfRange("the kind of the columns").into()),
    };
    reader.finish()?;
    Ok(Decoded {
        resolution_ms,
        rollup: Rollup { first, points },
    })
}

fn decode_integers(reader: &mut Reader<'_>, kind: u8, points: &mut [Point]) -> Result<f64, DecodeError> {
    let exponent = kind & EXPONENT_MASK;
    let length = points.len();
    let ends = series::decode(reader, length + 1)?;
    let min = series::decode(reader, length)?;
    let max = series::decode(reader, length)?;
    let sums = series::decode(reader, length)?;
    let (quotients, resets) = if kind & RESETS_DIVIDED == 0 {
        (None, series::decode(reader, length)?)
    } else {
        (Some(series::decode(reader, length)?), series::decode(reader, length)?)
    };
    for (at, point) in points.iter_mut().enumerate() {
        let (before, last) = (ends[at], ends[at + 1]);
        let min = if kind & MIN_FROM_BEFORE == 0 {
            last.wrapping_sub(min[at])
        } else {
            before.wrapping_add(min[at])
        };
        let max = last.wrapping_add(max[at]);
        let twice = min.wrapping_add(max);
        let reset = quotients
            .as_ref()
            .map_or(0, |quotients| quotients[at].wrapping_mul(twice >> 1));
        let increase = last.wrapping_sub(before).wrapping_add(reset).wrapping_add(resets[at]);
        point.last = decimal::to_double(last, exponent);
        point.min = decimal::to_double(min, exponent);
        point.max = decimal::to_double(max, exponent);
        point.sum = decimal::to_double(expected_sum(point.count, twice).wrapping_add(sums[at]), exponent);
        point.increase = decimal::to_double(increase, exponent);
    }
    Ok(decimal::to_double(ends[0], exponent))
}

fn decode_doubles(reader: &mut Reader<'_>, points: &mut [Point]) -> Result<f64, DecodeError> {
    let ends = floats::decode(reader, points.len() + 1)?;
    for (point, last) in points.iter_mut().zip(&ends[1..]) {
        point.last = *last;
    }
    for which in 0..COLUMNS.len() {
        let flags = column::decode(reader, points.len())?;
        if flags.iter().any(|flag| *flag > 1) {
            return Err(DecodeError::OutOfRange("a flag"));
        }
        let others = flags.iter().filter(|flag| **flag == 1).count();
        let mut others = floats::decode(reader, others)?.into_iter();
        for ((flag, point), before) in flags.iter().zip(points.iter_mut()).zip(&ends) {
            let value = match flag {
                0 => expected(which, *before, point),
                _ => others.next().ok_or(DecodeError::Truncated)?,
            };
            match which {
                0 => point.min = value,
                1 => point.max = value,
                2 => point.sum = value,
                _ => point.increase = value,
            }
        }
    }
    Ok(ends[0])
}
