//! The timestamps of one series. Agents sample by a clock: the times lie on a grid, some a few milliseconds off it, and now
//! and then one is missing. Stored are the grid, how many of its places were skipped before each time, and how far each time
//! is off its place; both are zero for most. A deviation is stored once, where differences of differences have it three times.
//! Times without a grid are stored as a [`series`]. How many there are is known from elsewhere.
//!
//! Any 64-bit timestamps in any order are taken; differences wrap around.

use crate::varint::{Reader, put_i64, put_u64, unzigzag, zigzag};
use crate::{DecodeError, column, series};

const SERIES: u8 = 0;
const GRID: u8 = 1;

/// Beyond this, in either direction, differences could overflow.
const MAX_ON_GRID: i64 = 1 << 60;

/// The usual step is the median of about so many.
const MEDIAN_OF: usize = 63;

/// Encodes timestamps; nothing when there are none.
pub fn encode(times: &[i64], out: &mut Vec<u8>) {
    let grid = Grid::of(times).map(|grid| grid.encode(times));
    match grid {
        // Most are on their place: nothing is smaller.
        Some((bytes, off)) if off * 4 <= times.len() => out.extend_from_slice(&bytes),
        grid => {
            let mut bytes = vec![SERIES];
            series::encode(times, &mut bytes);
            match grid {
                Some((on_grid, _)) if on_grid.len() <= bytes.len() => out.extend_from_slice(&on_grid),
                _ if times.is_empty() => {}
                _ => out.extend_from_slice(&bytes),
            }
        }
    }
}

/// Places at `base + n * step`.
#[derive(Clone, Copy, Debug)]
struct Grid {
    base: i64,
    step: i64,
}

impl Grid {
    /// The grid on which most of the times lie, if they lie on any.
    fn of(times: &[i64]) -> Option<Self> {
        let first = *times.first()?;
        let near = |time: &i64| (-MAX_ON_GRID..=MAX_ON_GRID).contains(time);
        if times.len() < 3 || !times.iter().all(near) {
            return None;
        }
        let every = (times.len() / MEDIAN_OF).max(1);
        let mut steps: Vec<i64> = times.windows(2).step_by(every).map(|pair| pair[1] - pair[0]).collect();
        let middle = steps.len() / 2;
        let step = *steps.select_nth_unstable(middle).1;
        if step < 1 {
            return None;
        }
        let from_first = Self { base: first, step };
        // The first may be off its place itself.
        let phase = majority(from_first.places(times).map(|(_, off)| off));
        Some(Self {
            base: first + phase,
            step,
        })
    }

    /// For each time how many places were skipped before it, and how far it is off its own.
    fn places(self, times: &[i64]) -> impl Iterator<Item = (i64, i64)> {
        let mut place = self.base - self.step;
        times.iter().map(move |time| {
            let off = time - place - self.step;
            let skipped = if off.abs() <= self.step / 2 {
                0
            } else {
                (off + self.step / 2).div_euclid(self.step)
            };
            let off = off - skipped * self.step;
            place = time - off;
            (skipped, off)
        })
    }

    /// The bytes, and how many times are off their place or not on the next.
    fn encode(self, times: &[i64]) -> (Vec<u8>, usize) {
        let mut bytes = vec![GRID];
        put_i64(&mut bytes, self.base);
        // Positive.
        put_u64(&mut bytes, self.step as u64);
        let (skipped, off): (Vec<u64>, Vec<u64>) = self
            .places(times)
            .map(|(skipped, off)| (zigzag(skipped), zigzag(off)))
            .unzip();
        column::encode(&skipped, &mut bytes);
        column::encode(&off, &mut bytes);
        let others = skipped.iter().zip(&off).filter(|both| *both != (&0, &0)).count();
        (bytes, others)
    }
}

/// What more than half of the integers are, if there is such a one (Boyer and Moore); otherwise one of them.
fn majority(integers: impl Iterator<Item = i64>) -> i64 {
    let (mut candidate, mut votes) = (0, 0_usize);
    for integer in integers {
        if integer == candidate {
            votes += 1;
        } else if votes == 0 {
            (candidate, votes) = (integer, 1);
        } else {
            votes -= 1;
        }
    }
    candidate
}

/// Decodes `count` timestamps, which the caller has checked against a limit: few bytes can stand for a long grid.
///
/// # Errors
/// When anything is missing or out of range.
pub fn decode(reader: &mut Reader<'_>, count: usize) -> Result<Vec<i64>, DecodeError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    match reader.u8()? {
        SERIES => series::decode(reader, count),
        GRID => {
            let base = reader.i64()?;
            let step = reader.u64()? as i64;
            let skipped = column::decode(reader, count)?;
            let off = column::decode(reader, count)?;
            let mut place = base.wrapping_sub(step);
            let time = |(skipped, off): (u64, u64)| {
                let places = unzigzag(skipped).wrapping_add(1);
                place = place.wrapping_add(step.wrapping_mul(places));
                place.wrapping_add(unzigzag(off))
            };
            Ok(skipped.into_iter().zip(off).map(time).collect())
        }
        _ => Err(DecodeError::OutOfRange("a scheme of timestamps")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const START: i64 = 1_767_225_600_000;

    fn survives(times: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(times, &mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(decode(&mut reader, times.len()).unwrap(), times);
        reader.finish().unwrap();
        bytes.len()
    }

    #[test]
    fn a_steady_clock_takes_its_grid_alone() {
        let times: Vec<i64> = (0..480).map(|at| START + at * 15_000).collect();
        assert!(survives(&times) <= 12);
    }

    #[test]
    fn missing_times_do_not_shift_the_grid() {
        let times: Vec<i64> = (0..480)
            .filter(|at| at % 100 != 3)
            .map(|at| START + at * 15_000)
            .collect();
        assert!(survives(&times) <= 12 + 3 * 5);
    }

    #[test]
    fn a_first_time_off_its_place_is_one_exception() {
        let mut times: Vec<i64> = (0..480).map(|at| START + at * 15_000).collect();
        times[0] += 7;
        assert!(survives(&times) <= 16);
    }

    #[test]
    fn a_clock_that_drifts_takes_its_steps() {
        let times: Vec<i64> = (0..480).map(|at| START + at * 15_000 + at * at / 300).collect();
        assert!(survives(&times) <= 130, "{}", survives(&times));
    }

    #[test]
    fn extremes_survive() {
        survives(&[]);
        survives(&[i64::MIN]);
        survives(&[i64::MIN, i64::MAX, 0, 5]);
        survives(&[MAX_ON_GRID, -MAX_ON_GRID, MAX_ON_GRID, -MAX_ON_GRID, -MAX_ON_GRID + 1]);
        survives(&[-MAX_ON_GRID, MAX_ON_GRID, MAX_ON_GRID, MAX_ON_GRID]);
        survives(&[3, 3, 3, 3, 2, 1]);
    }

    proptest! {
        #[test]
        fn times_survive(
            start in -MAX_ON_GRID..MAX_ON_GRID,
            step in prop_oneof![1_i64..100, Just(15_000), 1_i64..1 << 50],
            all in vec((0_i64..30, -20_i64..20, any::<i64>(), 0_u32..64), 0..100),
            wild in vec(any::<i64>(), 0..5),
        ) {
            let (mut at, mut times) = (start, Vec::new());
            for (skip, off, far, shift) in all {
                at = at.wrapping_add(step.wrapping_mul(if skip > 25 { skip } else { 1 }));
                times.push(at.wrapping_add(if skip == 0 { off } else { 0 }));
                if skip == 1 {
                    at = at.wrapping_add(far >> shift);
                }
            }
            survives(&times);
            survives(&[times, wild].concat());
        }

        #[test]
        fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..100), scheme in 0_u8..3, count in 0_usize..1_000) {
            let bytes = [&[scheme], &*bytes].concat();
            if let Ok(times) = decode(&mut Reader::new(&bytes), count) {
                prop_assert_eq!(times.len(), count);
            }
        }
    }
}
