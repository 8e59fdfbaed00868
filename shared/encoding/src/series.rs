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

/// A prediction is chosen by about so many of the residuals: more change the size by less than a percent.
const LOOKED_AT: usize = 32;

/// Encodes the integers of one series; nothing when there are none.
pub fn encode(integers: &[i64], out: &mut Vec<u8>) {
    encode_with(&[ORDER_STEP, ORDER_FIRST, ORDER_LINE], integers, out);
}

/// As [`encode`], for integers that are known not to follow each other, such as what an earlier prediction left: in less time.
pub fn encode_level(integers: &[i64], out: &mut Vec<u8>) {
    encode_with(&[ORDER_FIRST], integers, out);
}

fn encode_with(orders: &[u8], integers: &[i64], out: &mut Vec<u8>) {
    let Some((first, rest)) = integers.split_first() else {
        return;
    };
    put_i64(out, *first);
    if rest.iter().all(|integer| integer == first) {
        out.push(CONSTANT);
        return;
    }
    let (distances, factor) = distances(*first, rest);
    let (order, centre) = choose(orders, &distances);
    let mut residuals = distances;
    if order != ORDER_FIRST {
        difference(&mut residuals);
    }
    if order == ORDER_LINE {
        difference(&mut residuals);
    }
    residuals
        .iter_mut()
        .for_each(|residual| *residual = residual.wrapping_sub(centre));
    let floor = floor(&residuals);
    let mut head = order;
    head |= if factor > 1 { HAS_FACTOR } else { 0 };
    head |= if centre != 0 { HAS_CENTRE } else { 0 };
    head |= if floor.is_some() { HAS_FLOOR } else { 0 };
    out.push(head);
    if factor > 1 {
        put_u64(out, factor);
    }
    if centre != 0 {
        put_i64(out, centre);
    }
    let folded: Vec<u64> = match floor {
        None => residuals.iter().map(|residual| zigzag(*residual)).collect(),
        Some(floor) => {
            put_u64(out, floor);
            residuals.iter().map(|residual| fold(*residual, floor)).collect()
        }
    };
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

/// The order that leaves the fewest bits, and the centre of what it leaves.
fn choose(orders: &[u8], distances: &[i64]) -> (u8, i64) {
    let every = distances.len().div_ceil(LOOKED_AT);
    let at = |at: usize, back: usize| at.checked_sub(back).map_or(0, |at| distances[at]);
    let looked_at = (0..distances.len()).step_by(every);
    let mut some = Vec::with_capacity(LOOKED_AT);
    let mut best = (u64::MAX, ORDER_STEP, 0);
    for order in orders {
        some.clear();
        some.extend(looked_at.clone().map(|index| {
            let step = at(index, 0).wrapping_sub(at(index, 1));
            match *order {
                ORDER_FIRST => at(index, 0),
                ORDER_STEP => step,
                _ => step.wrapping_sub(at(index, 1).wrapping_sub(at(index, 2))),
            }
        }));
        let plain = bits_of(&some, 0);
        let middle = some.len() / 2;
        let centre = *some.select_nth_unstable(middle).1;
        let centred = bits_of(&some, centre) + (8 * len_u64(zigzag(centre)) as u64).div_ceil(every as u64);
        best = best.min((plain, *order, 0)).min((centred, *order, centre));
    }
    (best.1, best.2)
}

/// Each minus the one before; the first minus 0.
fn difference(integers: &mut [i64]) {
    let mut before = 0;
    for integer in integers {
        *integer = integer.wrapping_sub(std::mem::replace(&mut before, *integer));
    }
}

fn bits_of(residuals: &[i64], centre: i64) -> u64 {
    let bits = residuals
        .iter()
        .map(|residual| bits::width(zigzag(residual.wrapping_sub(centre))));
    bits.map(u64::from).sum()
}

/// How far below the centre the lowest residual is, when so many more are above what is as far above that it pays to say so.
fn floor(residuals: &[i64]) -> Option<u64> {
    let below = u64::try_from(residuals.iter().min()?.checked_neg()?).ok()?;
    if below >= 1 << 62 {
        return None;
    }
    let saved_bits = residuals.iter().filter(|residual| **residual > below as i64).count();
    (saved_bits > 8 * len_u64(below)).then_some(below)
}

/// 0, -1, 1, -2, … become 0, 1, 2, 3, …; beyond the floor only those above are left, and follow each other.
#[inline]
fn fold(residual: i64, floor: u64) -> u64 {
    if residual.unsigned_abs() > floor {
        (residual as u64).wrapping_add(floor)
    } else {
        zigzag(residual)
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
        for floor in [0, 1, 5] {
            let mut all: Vec<u64> = (-floor..=20).map(|residual| fold(residual, floor as u64)).collect();
            for (residual, folded) in (-floor..=20).zip(&all) {
                assert_eq!(unfold(*folded, floor as u64), residual);
            }
            all.sort_unstable();
            assert!(all.iter().copied().eq(0..all.len() as u64), "{all:?}");
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
