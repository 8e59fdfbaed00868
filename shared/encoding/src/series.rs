//! One series of integers, of which each is close to those before it: a first integer, a common factor of the distances from
//! it, a prediction, and the residuals as a [`column`]. How many there are is known from elsewhere. `shared/tsdb/FORMAT.md`
//! draws it.
//!
//! The predictions are those of FLAC (and of Shorten before it): the first integer itself, the one before, or the line through
//! the two before. The residuals lie around a centre (a counter's usual step) and often above a floor (a counter's 0); folding
//! gives the likely ones the small numbers. Any 64-bit integers are taken; where they are too far apart, sums wrap around.

use crate::varint::{Reader, len_u64, put_i64, put_u64, unzigzag, zigzag};
use crate::{DecodeError, bits, column};

/// All are equal.
const CONSTANT: u8 = 0;
/// 1: minus the first, 2: minus the one before, 3: minus the line through the two before.
const ORDER_MASK: u8 = 0b11;
const ORDER_FIRST: u8 = 1;
const ORDER_STEP: u8 = 2;
const ORDER_LINE: u8 = 3;
const HAS_FACTOR: u8 = 0b100;
const HAS_CENTRE: u8 = 0b1000;
const HAS_FLOOR: u8 = 0b1_0000;

/// A centre is the median of about so many of the residuals: off by a sixth of their spread, which costs some hundredths of
/// a bit.
const MEDIAN_OF: usize = 63;

/// Encodes the integers of one series; nothing when there are none.
pub fn encode(integers: &[i64], out: &mut Vec<u8>) {
    let Some((first, rest)) = integers.split_first() else {
        return;
    };
    put_i64(out, *first);
    if rest.iter().all(|integer| integer == first) {
        out.push(CONSTANT);
        return;
    }
    let (distances, factor) = distances(*first, rest);
    let prediction = Prediction::choose(distances);
    let mut head = prediction.order;
    head |= if factor > 1 { HAS_FACTOR } else { 0 };
    head |= if prediction.centre != 0 { HAS_CENTRE } else { 0 };
    head |= if prediction.floor.is_some() { HAS_FLOOR } else { 0 };
    out.push(head);
    if factor > 1 {
        put_u64(out, factor);
    }
    if prediction.centre != 0 {
        put_i64(out, prediction.centre);
    }
    if let Some(floor) = prediction.floor {
        put_u64(out, floor);
    }
    let folded: Vec<u64> = prediction
        .residuals
        .iter()
        .map(|residual| fold(residual.wrapping_sub(prediction.centre), prediction.floor))
        .collect();
    column::encode(&folded, out);
}

/// How far the others are from the first, in units of the greatest common factor.
fn distances(first: i64, rest: &[i64]) -> (Vec<i64>, u64) {
    let mut distances: Vec<i64> = rest.iter().map(|integer| integer.wrapping_sub(first)).collect();
    let factor = if rest.iter().all(|integer| integer.checked_sub(first).is_some()) {
        common_factor(&distances)
    } else {
        1
    };
    // The factor divides a distance, so that it is at most 2^63; that one leaves 0 and -1.
    match i64::try_from(factor) {
        Ok(1) | Err(_) => (distances, 1),
        Ok(divisor) if factor.is_power_of_two() => {
            let shift = divisor.trailing_zeros();
            distances.iter_mut().for_each(|distance| *distance >>= shift);
            (distances, factor)
        }
        Ok(divisor) => {
            distances.iter_mut().for_each(|distance| *distance /= divisor);
            (distances, factor)
        }
    }
}

fn common_factor(distances: &[i64]) -> u64 {
    let mut factor = 0_u64;
    for distance in distances {
        let distance = distance.unsigned_abs();
        let divides = if factor.is_power_of_two() {
            distance & (factor - 1) == 0
        } else {
            factor != 0 && distance % factor == 0
        };
        if !divides {
            factor = gcd(distance, factor);
        }
        if factor == 1 {
            break;
        }
    }
    factor.max(1)
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

struct Prediction {
    order: u8,
    residuals: Vec<i64>,
    centre: i64,
    floor: Option<u64>,
}

impl Prediction {
    /// The one that leaves the fewest bits.
    fn choose(distances: Vec<i64>) -> Self {
        let steps = differences(&distances);
        let turns = differences(&steps);
        let (mut order, mut residuals, mut centre) = (ORDER_STEP, steps, 0);
        let mut least = u64::MAX;
        for (candidate_order, candidate) in [
            (ORDER_STEP, None),
            (ORDER_FIRST, Some(distances)),
            (ORDER_LINE, Some(turns)),
        ] {
            let candidate_residuals = candidate.as_ref().unwrap_or(&residuals);
            let candidate_centre = median(candidate_residuals);
            let bits = bits_of(candidate_residuals, candidate_centre);
            if bits < least {
                (least, order, centre) = (bits, candidate_order, candidate_centre);
                residuals = candidate.unwrap_or(residuals);
            }
        }
        let plain = bits_of(&residuals, 0);
        let centre = if plain <= least + 8 * len_u64(zigzag(centre)) as u64 {
            0
        } else {
            centre
        };
        let floor = floor(&residuals, centre);
        Self {
            order,
            residuals,
            centre,
            floor,
        }
    }
}

/// Each minus the one before; the first minus 0.
fn differences(integers: &[i64]) -> Vec<i64> {
    let mut before = 0;
    let difference = |integer: &i64| integer.wrapping_sub(std::mem::replace(&mut before, *integer));
    integers.iter().map(difference).collect()
}

fn median(integers: &[i64]) -> i64 {
    let every = (integers.len() / MEDIAN_OF).max(1);
    let mut some: Vec<i64> = integers.iter().copied().step_by(every).collect();
    let middle = some.len() / 2;
    *some.select_nth_unstable(middle).1
}

fn bits_of(residuals: &[i64], centre: i64) -> u64 {
    let bits = residuals
        .iter()
        .map(|residual| bits::width(zigzag(residual.wrapping_sub(centre))));
    bits.map(u64::from).sum()
}

/// How far below the centre the lowest residual is, when there are so many more than as far above it that it pays to say so.
fn floor(residuals: &[i64], centre: i64) -> Option<u64> {
    let lowest = residuals.iter().min()?;
    let below = u64::try_from(centre.checked_sub(*lowest)?).ok()?;
    let above = |residual: &&i64| {
        residual
            .checked_sub(centre)
            .is_none_or(|above| above > 0 && above as u64 > below)
    };
    let saved_bits = residuals.iter().filter(above).count();
    (below < 1 << 62 && saved_bits > 8 * len_u64(below)).then_some(below)
}

/// 0, -1, 1, -2, … become 0, 1, 2, 3, …; beyond the floor only those above are left, and follow each other.
#[inline]
fn fold(residual: i64, floor: Option<u64>) -> u64 {
    match floor {
        Some(floor) if residual.unsigned_abs() > floor => (residual as u64).wrapping_add(floor),
        _ => zigzag(residual),
    }
}

#[inline]
fn unfold(folded: u64, floor: u64) -> i64 {
    if folded > floor.saturating_mul(2) {
        folded.wrapping_sub(floor) as i64
    } else {
        unzigzag(folded)
    }
}

/// Decodes `count` integers, which the caller has checked against a limit: few bytes can stand for many equal integers.
///
/// # Errors
/// When anything is missing or out of range.
pub fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    let first = reader.i64()?;
    let head = reader.u8()?;
    if head == CONSTANT {
        return Ok(vec![first; count]);
    }
    let order = head & ORDER_MASK;
    if order == 0 || head > (ORDER_MASK | HAS_FACTOR | HAS_CENTRE | HAS_FLOOR) {
        return Err(DecodeError::OutOfRange("a prediction"));
    }
    let factor = if head & HAS_FACTOR == 0 { 1 } else { reader.u64()? } as i64;
    let centre = if head & HAS_CENTRE == 0 { 0 } else { reader.i64()? };
    let floor = if head & HAS_FLOOR == 0 { u64::MAX } else { reader.u64()? };
    let folded = column::decode(reader, count - 1)?;
    let mut integers = Vec::with_capacity(count);
    integers.push(first);
    let residuals = folded
        .into_iter()
        .map(|folded| unfold(folded, floor).wrapping_add(centre));
    let (mut distance, mut step) = (0_i64, 0_i64);
    let mut push = |distance: i64| integers.push(first.wrapping_add(distance.wrapping_mul(factor)));
    match order {
        ORDER_FIRST => residuals.for_each(push),
        ORDER_STEP => residuals.for_each(|residual| {
            distance = distance.wrapping_add(residual);
            push(distance);
        }),
        _ => residuals.for_each(|residual| {
            step = step.wrapping_add(residual);
            distance = distance.wrapping_add(step);
            push(distance);
        }),
    }
    Ok(integers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn survives(integers: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(integers, &mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(decode(&mut reader, integers.len()).unwrap(), integers);
        reader.finish().unwrap();
        bytes.len()
    }

    #[test]
    fn straight_lines_take_a_few_bytes() {
        assert_eq!(survives(&[5; 480]), 2);
        assert!(survives(&(0..480).collect::<Vec<i64>>()) <= 4);
        assert!(survives(&(0..480).map(|at| 7_000_000 - at * 4_096).collect::<Vec<i64>>()) <= 10);
        assert!(survives(&(0..480).map(|at| at * at).collect::<Vec<i64>>()) <= 8);
    }

    #[test]
    fn a_common_factor_costs_nothing_per_integer() {
        let noise = |at: i64| (at * 7_919 % 101) - 50;
        let plain = survives(&(0..480).map(noise).collect::<Vec<i64>>());
        for factor in [10, 4_096, 15_000, 1 << 40] {
            let scaled = survives(&(0..480).map(|at| 3 + factor * noise(at)).collect::<Vec<i64>>());
            assert!(scaled <= plain + 16, "{scaled} {plain}");
        }
    }

    #[test]
    fn noise_around_a_level_is_not_differenced() {
        let levels: Vec<i64> = (0..480).map(|at: i64| 1_000_000 + at * 7_919 % 127).collect();
        assert!(survives(&levels) <= 480 * 7 / 8 + 20);
    }

    #[test]
    fn extremes_wrap_around() {
        for integers in [
            vec![i64::MIN, i64::MAX],
            vec![i64::MAX, i64::MIN],
            vec![0, i64::MIN],
            vec![0, i64::MIN, 0],
            vec![i64::MIN, 0, i64::MIN, i64::MAX],
            vec![-1, i64::MAX, -1, i64::MAX, 0],
        ] {
            survives(&integers);
        }
    }

    #[test]
    fn folding_leaves_no_number_out() {
        for floor in [None, Some(0), Some(1), Some(5)] {
            let lowest = floor.map_or(-20, |floor| -(floor as i64));
            let mut all: Vec<u64> = (lowest..=20).map(|residual| fold(residual, floor)).collect();
            for (residual, folded) in (lowest..=20).zip(&all) {
                assert_eq!(unfold(*folded, floor.unwrap_or(u64::MAX)), residual);
            }
            all.sort_unstable();
            if floor.is_some() {
                assert!(all.iter().copied().eq(0..all.len() as u64), "{all:?}");
            }
        }
    }

    fn any_series() -> impl Strategy<Value = Vec<i64>> {
        let steps = vec((any::<i64>(), 0_u32..64), 0..200);
        (any::<i64>(), 1_i64..5_000, 40_u32..64, steps, any::<bool>()).prop_map(
            |(start, factor, least, steps, sums)| {
                let mut at = start >> 8;
                let next = |(step, shift): (i64, u32)| {
                    let step = (step >> shift.max(least)).wrapping_mul(factor);
                    at = if sums {
                        at.wrapping_add(step)
                    } else {
                        start.wrapping_add(step)
                    };
                    at
                };
                steps.into_iter().map(next).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn series_survive(series in any_series(), wild in vec(any::<i64>(), 0..20)) {
            survives(&series);
            survives(&wild);
            survives(&[series, wild].concat());
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), count in 0_usize..1_000) {
            if let Ok(integers) = decode(&mut Reader::new(&bytes), count) {
                prop_assert_eq!(integers.len(), count);
            }
        }
    }
}
