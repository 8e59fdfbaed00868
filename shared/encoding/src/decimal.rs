//! Doubles that are decimals: `m / 10^e` *exactly*, which means that the division gives the same bits back. Most values that
//! people measure are, and the integers `m` compress far better than the bits do. -0.0, NaN and the infinities are none.

/// The powers of ten that a double holds exactly.
pub(crate) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// The largest integer of which every smaller one is a double: 2^53.
pub const MAX_EXACT: i64 = 1 << 53;
const MAX_EXACT_F64: f64 = MAX_EXACT as f64;

/// The largest exponent of ten.
pub const MAX_EXPONENT: u8 = 22;

/// The exponent up to which [`scale`] lets single values be no decimals: nanoseconds of seconds. A noisy double is now and
/// then a decimal of fourteen or fifteen digits; its exponent would blow all the other integers up.
const PLAIN_EXPONENT: usize = 9;

/// Adding and taking away 1.5 * 2^52 rounds to an integer, ties to even, below 2^51.
const ROUND: f64 = 6_755_399_441_055_744.0;

/// The integer `m` with `m / 10^exponent == value`, bit for bit; none above [`MAX_EXACT`] or [`MAX_EXPONENT`].
#[must_use]
#[inline]
pub fn to_integer(value: f64, exponent: u8) -> Option<i64> {
    if exponent == 0 {
        let integer = value as i64;
        let exact = integer.unsigned_abs() <= MAX_EXACT as u64 && (integer as f64).to_bits() == value.to_bits();
        return exact.then_some(integer);
    }
    let power = *POWERS.get(usize::from(exponent))?;
    let scaled = value * power;
    let rounded = if scaled.abs() < 2_251_799_813_685_248.0 {
        (scaled + ROUND) - ROUND
    } else {
        scaled.round_ties_even()
    };
    // NaN fails the comparison. -0.0 becomes the integer 0, which does not give its bits back.
    let fits = rounded.abs() <= MAX_EXACT_F64;
    let integer = rounded as i64;
    (fits && (integer as f64 / power).to_bits() == value.to_bits()).then_some(integer)
}

/// The double that an integer stands for; an exponent above [`MAX_EXPONENT`] gives NaN.
#[must_use]
#[inline]
pub fn to_double(integer: i64, exponent: u8) -> f64 {
    integer as f64 / POWERS.get(usize::from(exponent)).copied().unwrap_or(f64::NAN)
}

/// How values are integers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// The common exponent of ten, the smallest that does.
    pub exponent: u8,
    /// The indices of the values that are no decimals, ascending.
    pub others: Vec<usize>,
}

/// Makes integers of one exponent of the values, in their order. At most `others` of them may be no decimals (of up to nine
/// digits after the point); when there are more, up to 22 digits are tried for all. What `integers` held before is lost.
#[must_use]
pub fn scale(values: &[f64], others: usize, integers: &mut Vec<i64>) -> Option<Scale> {
    scale_up_to(PLAIN_EXPONENT, values, others, integers)
        .or_else(|| scale_up_to(usize::from(MAX_EXPONENT), values, 0, integers))
}

fn scale_up_to(limit: usize, values: &[f64], allowed: usize, integers: &mut Vec<i64>) -> Option<Scale> {
    integers.clear();
    integers.reserve(values.len());
    let mut others = Vec::new();
    let mut exponent = 0;
    for (at, value) in values.iter().enumerate() {
        // The exponent that suited the values before is most often right.
        if let Some(integer) = to_integer(*value, exponent as u8) {
            integers.push(integer);
            continue;
        }
        let found = (exponent + 1..=limit)
            // NaN is beyond every limit.
            .take_while(|more| (*value * POWERS[*more]).abs() <= MAX_EXACT_F64)
            .find_map(|more| Some((more, to_integer(*value, more as u8)?)));
        match found {
            Some((more, integer)) if rescale(integers, more - exponent) => {
                exponent = more;
                integers.push(integer);
            }
            _ if others.len() < allowed => others.push(at),
            _ => return None,
        }
    }
    Some(Scale {
        exponent: exponent as u8,
        others,
    })
}

/// Gives all the same decimals more digits: the same quotients, so the same doubles. Not when one becomes too large.
fn rescale(integers: &mut [i64], digits: usize) -> bool {
    // At most 22 digits: more than 18 leave nothing but 0 in range.
    let factor = u32::try_from(digits)
        .ok()
        .and_then(|digits| 10_i64.checked_pow(digits))
        .unwrap_or(i64::MAX);
    let room = MAX_EXACT / factor;
    if integers.iter().any(|integer| integer.abs() > room) {
        return false;
    }
    // What was in range is 0 when the factor is not.
    integers.iter_mut().for_each(|integer| *integer *= factor);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::tests::any_value;
    use proptest::prelude::*;

    #[test]
    fn the_smallest_common_exponent_is_found() {
        let mut integers = vec![7];
        let scale = scale(&[5.0, 0.25, 100.0, 1.5], 0, &mut integers).unwrap();
        assert_eq!((scale.exponent, integers), (2, vec![500, 25, 10_000, 150]));
    }

    #[test]
    fn few_values_may_be_no_decimals() {
        let values = [1.5, f64::NAN, -0.0, 2.0, 0.1 + 0.2];
        let mut integers = Vec::new();
        assert_eq!(scale(&values, 2, &mut integers), None);
        let scale = scale(&values, 3, &mut integers).unwrap();
        assert_eq!((integers, scale.others), (vec![15, 20], vec![1, 2, 4]));
    }

    #[test]
    fn one_value_of_many_digits_does_not_take_the_others_with_it() {
        let exponent_and_others = |values: &[f64], others| {
            let scale = scale(values, others, &mut Vec::new()).unwrap();
            (scale.exponent, scale.others)
        };
        assert_eq!(exponent_and_others(&[1.5, 53.123_456_789_012_3, 2.5], 1), (1, vec![1]));
        assert_eq!(exponent_and_others(&[0.0, 1e-20, 3e-20], 0), (20, vec![]));
    }

    proptest! {
        #[test]
        fn integers_give_the_values_back(values in proptest::collection::vec(any_value(), 0..20)) {
            let mut integers = Vec::new();
            let Some(scaled) = scale(&values, values.len(), &mut integers) else { return Ok(()) };
            prop_assert_eq!(integers.len() + scaled.others.len(), values.len());
            let mut integers = integers.into_iter();
            for (at, value) in values.iter().enumerate() {
                if !scaled.others.contains(&at) {
                    let integer = integers.next().unwrap();
                    prop_assert_eq!(to_double(integer, scaled.exponent).to_bits(), value.to_bits());
                }
            }
        }

        #[test]
        fn rounding_is_to_even_everywhere(m in -MAX_EXACT..=MAX_EXACT, e in 0_u8..=22) {
            let value = to_double(m, e);
            let scaled = (value * POWERS[usize::from(e)]).round_ties_even() as i64;
            let fits = scaled.abs() <= MAX_EXACT && to_double(scaled, e).to_bits() == value.to_bits();
            prop_assert_eq!(to_integer(value, e), fits.then_some(scaled));
        }
    }
}
