//! Aggregates of one series in one block: what a window's samples are in steps of a minute, or a day's in steps of an hour.
//! [`roll`] makes them, [`Rollup::append`] puts the windows of a day together, [`encode`] and [`decode`] are their bytes,
//! which `FORMAT.md` draws.
//!
//! The arithmetic is that of [`crate::aggregate`], with one difference: where all values of a block are decimals, sums and
//! increases are exact, computed with integers and divided once. So `0.1 + 0.2` is 0.3 here, and the integers can be stored.
//! An aggregate that is rolled again (of a day from its windows) need not have the same last bit as one of all samples.
//!
//! Staleness markers are no samples. NaN is one: it counts, makes its point's sum NaN, and is the smallest and largest only
//! where there is nothing else.
//!
//! The increase is that of a counter, as Prometheus has it: the sum of the steps from each sample to the next, where a drop
//! is a reset and the step is the new value itself. The step into a point belongs to it; a block's first sample has none. A
//! step from or to NaN or an infinity counts nothing, so that one bad sample does not take the day's increase with it.

use crate::aggregate::add;
use tidemark_encoding::decimal::{self, MAX_EXACT};
use tidemark_model::{Sample, is_stale_marker};

mod bytes;

pub use bytes::{Decoded, RollupError, decode, encode};

/// The samples of one step of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When the step starts: a multiple of the resolution.
    pub start_ms: i64,
    /// How many samples there are, at least 1.
    pub count: u32,
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The last.
    pub last: f64,
    /// How much a counter rose from the sample before the point to the point's last one.
    pub increase: f64,
}

/// A block's aggregates.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollup {
    /// The block's first value, from which the first increase counts.
    pub first: f64,
    /// The steps that have samples, ascending.
    pub points: Vec<Point>,
}

/// Aggregates samples, ascending by time, in steps of `resolution_ms` (at least 1). `None` when there are none but staleness
/// markers.
#[must_use]
pub fn roll(samples: &[Sample], resolution_ms: i64) -> Option<Rollup> {
    let samples = samples.iter().filter(|sample| !is_stale_marker(sample.value));
    let values: Vec<f64> = samples.clone().map(|sample| sample.value).collect();
    let first = *values.first()?;
    let ends = ends(samples.map(|sample| sample.timestamp_ms), resolution_ms.max(1));
    let mut integers = Vec::new();
    let scale = decimal::scale(&values, 0, &mut integers);
    let mut points = Vec::with_capacity(ends.len());
    let (mut counter, mut at) = (Counter::default(), 0_usize);
    for (start_ms, end) in ends {
        let exact = scale.as_ref().and_then(|scale| {
            let before = integers[at.saturating_sub(1)];
            aggregate_exactly(start_ms, before, &integers[at..end], scale.exponent)
        });
        points.push(match exact {
            Some(point) => {
                // In case that the next one is too large for it.
                counter.restart(values[end - 1]);
                point
            }
            None => aggregate(start_ms, &values[at..end], &mut counter),
        });
        at = end;
    }
    Some(Rollup { first, points })
}

/// Where the steps start, and the index of the first sample after each.
fn ends(times: impl Iterator<Item = i64>, resolution_ms: i64) -> Vec<(i64, usize)> {
    let mut ends: Vec<(i64, usize)> = Vec::new();
    for (at, time) in times.enumerate() {
        match ends.last_mut() {
            Some((start, end)) if (0..resolution_ms).contains(&time.wrapping_sub(*start)) => *end = at + 1,
            _ => ends.push((time.saturating_sub(time.rem_euclid(resolution_ms)), at + 1)),
        }
    }
    ends
}

/// The aggregates of at least one value.
fn aggregate(start_ms: i64, values: &[f64], counter: &mut Counter) -> Point {
    let first = values[0];
    let (mut sum, mut compensation, mut min, mut max) = (first, 0.0, first, first);
    for value in &values[1..] {
        (sum, compensation) = add(*value, sum, compensation);
        if min > *value || min.is_nan() {
            min = *value;
        }
        if max < *value || max.is_nan() {
            max = *value;
        }
    }
    Point {
        start_ms,
        count: u32::try_from(values.len()).unwrap_or(u32::MAX),
        // Adding 0.0 to a single -0.0 would make it 0.0.
        sum: if compensation == 0.0 { sum } else { sum + compensation },
        min,
        max,
        last: values[values.len() - 1],
        increase: counter.advance(values),
    }
}

/// The aggregates of at least one decimal, as the decimals they are; none when one has too many digits for a double.
fn aggregate_exactly(start_ms: i64, before: i64, integers: &[i64], exponent: u8) -> Option<Point> {
    let (mut sum, mut increase, mut before) = (0_i128, 0_i128, before);
    let (mut min, mut max) = (i64::MAX, i64::MIN);
    // Each is at most 2^53, so that 256 of them and their steps fit 64 bits.
    for some in integers.chunks(256) {
        let (mut some_sum, mut some_increase) = (0_i64, 0_i64);
        for integer in some {
            some_sum += integer;
            some_increase += counted(before, *integer);
            (min, max, before) = (min.min(*integer), max.max(*integer), *integer);
        }
        sum += i128::from(some_sum);
        increase += i128::from(some_increase);
    }
    Some(Point {
        start_ms,
        count: u32::try_from(integers.len()).unwrap_or(u32::MAX),
        sum: to_double(sum, exponent)?,
        min: decimal::to_double(min, exponent),
        max: decimal::to_double(max, exponent),
        last: decimal::to_double(before, exponent),
        increase: to_double(increase, exponent)?,
    })
}

/// The rise of a counter from one sample to the next.
fn counted(before: i64, after: i64) -> i64 {
    if after < before { after } else { after - before }
}

/// The double nearest to a decimal, where integers are doubles.
fn to_double(integer: i128, exponent: u8) -> Option<f64> {
    let integer = i64::try_from(integer)
        .ok()
        .filter(|integer| integer.unsigned_abs() <= MAX_EXACT as u64)?;
    Some(decimal::to_double(integer, exponent))
}

/// Sums the rises of a counter run by run, from reset to reset: one subtraction for each, so that without a reset the
/// increase is exactly the difference of the two ends.
#[derive(Debug, Default)]
struct Counter {
    /// Where the run started, and its last value.
    run: Option<(f64, f64)>,
}

impl Counter {
    /// Counts on from a value.
    fn restart(&mut self, value: f64) {
        self.run = value.is_finite().then_some((value, value));
    }

    /// The increase over these values, from the last one before.
    fn advance(&mut self, values: &[f64]) -> f64 {
        let mut sum = (0.0, 0.0);
        for value in values {
            self.run = match self.run {
                Some((start, last)) if *value < last || !value.is_finite() => {
                    sum = add(last - start, sum.0, sum.1);
                    value.is_finite().then_some((0.0, *value))
                }
                Some((start, _)) => Some((start, *value)),
                None => value.is_finite().then_some((*value, *value)),
            };
        }
        if let Some((start, last)) = self.run {
            sum = add(last - start, sum.0, sum.1);
            self.run = Some((last, last));
        }
        sum.0 + sum.1
    }
}

/// [`counted`] for doubles; nothing where one is not finite.
fn step(before: f64, after: f64) -> f64 {
    if !before.is_finite() || !after.is_finite() {
        0.0
    } else if after < before {
        after
    } else {
        after - before
    }
}

impl Rollup {
    /// Appends the aggregates of later samples in the same steps of time: the first of them now counts from our last value.
    /// The border between the two must lie between two steps.
    pub fn append(&mut self, later: Self) {
        let (Some(last), Some(first)) = (self.points.last(), later.points.first()) else {
            if self.points.is_empty() {
                *self = later;
            }
            return;
        };
        let increase = add_step(last.last, later.first, first.increase);
        let border = self.points.len();
        self.points.extend(later.points);
        self.points[border].increase = increase;
    }

    /// Whether any point stands for more than one sample. If none does, the samples themselves are as small, and say more.
    #[must_use]
    pub fn condenses(&self) -> bool {
        self.points.iter().any(|point| point.count > 1)
    }
}

/// An increase and one more step, exactly where decimals allow it.
fn add_step(before: f64, after: f64, increase: f64) -> f64 {
    let mut integers = Vec::new();
    let exact = decimal::scale(&[before, after, increase], 0, &mut integers).and_then(|scale| {
        let step = counted(integers[0], integers[1]);
        to_double(i128::from(step) + i128::from(integers[2]), scale.exponent)
    });
    exact.unwrap_or_else(|| {
        let (sum, compensation) = add(increase, step(before, after), 0.0);
        sum + compensation
    })
}

#[cfg(test)]
mod tests;
