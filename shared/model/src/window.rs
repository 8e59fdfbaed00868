//! Aligned stretches of time that storage is partitioned by.

use std::fmt;

/// A day in milliseconds.
pub const DAY_MS: i64 = 86_400_000;

/// An hour in seconds.
const HOUR_SECONDS: u32 = 3_600;

/// The length of a storage window, in milliseconds: whole hours that divide a day, so that windows fit into the blocks of
/// every tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLength(i64);

/// One storage window, by its start in milliseconds since the Unix epoch: a multiple of the length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The first millisecond that belongs to the window.
    pub start_ms: i64,
}

impl WindowLength {
    /// The longest window: a day.
    pub const MAX_SECONDS: u32 = 86_400;

    /// `None` unless the length is a whole number of hours that divides a day.
    #[must_use]
    pub fn from_seconds(seconds: u32) -> Option<Self> {
        let fits = seconds > 0 && seconds.is_multiple_of(HOUR_SECONDS) && Self::MAX_SECONDS.is_multiple_of(seconds);
        fits.then_some(Self(i64::from(seconds) * 1_000))
    }

    /// The length in milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        self.0
    }

    /// The window that a time falls into. Floors, so that times before 1970 have windows of the same length.
    #[must_use]
    pub fn of(self, timestamp_ms: i64) -> Window {
        Window {
            start_ms: timestamp_ms.saturating_sub(timestamp_ms.rem_euclid(self.0)),
        }
    }

    /// The windows that touch the closed range, in order.
    pub fn covering(self, start_ms: i64, end_ms: i64) -> impl Iterator<Item = Window> {
        let last = self.of(end_ms).start_ms;
        let mut next = Some(self.of(start_ms).start_ms);
        std::iter::from_fn(move || {
            let start_ms = next.filter(|start| *start <= last)?;
            next = start_ms.checked_add(self.0);
            Some(Window { start_ms })
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.start_ms)
    }
}

/// A catalog period: 30 days, counted from the Unix epoch. Series are written to the catalog once in each, so that those
/// that have ended expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub i64);

impl Period {
    /// The length of a period in milliseconds.
    pub const LENGTH_MS: i64 = 30 * 86_400_000;

    /// The period that a time falls into.
    #[must_use]
    pub fn of(timestamp_ms: i64) -> Self {
        Self(timestamp_ms.div_euclid(Self::LENGTH_MS))
    }

    /// The periods that touch the closed range, in order.
    pub fn covering(start_ms: i64, end_ms: i64) -> impl Iterator<Item = Self> {
        (Self::of(start_ms).0..=Self::of(end_ms).0).map(Self)
    }

    /// The first millisecond after the period.
    #[must_use]
    pub fn end_ms(self) -> i64 {
        self.0.saturating_add(1).saturating_mul(Self::LENGTH_MS)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_range_inside_one_window_needs_one() {
        let length = WindowLength::from_seconds(7_200).unwrap();
        let starts: Vec<i64> = length.covering(7_200_000, 14_399_999).map(|w| w.start_ms).collect();
        assert_eq!(starts, [7_200_000]);
    }

    #[test]
    fn a_range_that_ends_on_a_boundary_needs_the_next_window_too() {
        let length = WindowLength::from_seconds(3_600).unwrap();
        assert_eq!(length.covering(0, 3_600_000).count(), 2);
        assert_eq!(length.covering(3_600_000, 0).count(), 0);
    }

    #[test]
    fn lengths_out_of_range_are_refused() {
        for seconds in [0, 60, 1_800, 5_400, 18_000, 86_401, 172_800] {
            assert_eq!(WindowLength::from_seconds(seconds), None, "{seconds}");
        }
    }

    proptest! {
        #[test]
        fn every_time_lies_in_its_window_and_period(at in -4_000_000_000_000_i64..4_000_000_000_000) {
            let length = WindowLength::from_seconds(7_200).unwrap();
            let window = length.of(at);
            prop_assert!(window.start_ms <= at && at < window.start_ms + length.ms());
            prop_assert_eq!(window.start_ms.rem_euclid(length.ms()), 0);
            let period = Period::of(at);
            prop_assert!(period.end_ms() - Period::LENGTH_MS <= at && at < period.end_ms());
        }
    }
}
