//! How storage is divided and how long each part of it lives: the same for all functions of an installation.

use crate::store::{Division, StoreError};
use crate::tier::Tier;
use std::fmt;
use tidemark_model::{Buckets, DAY_MS, Period, Window, WindowLength};

/// The longest that anything which reads segments takes, a hundred times over.
const LONGEST_PASS_MS: i64 = 3_600_000;

/// How long each tier is kept, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Raw samples: segments and chunks.
    pub raw_ms: i64,
    /// Aggregates of one minute.
    pub minute_ms: i64,
    /// Aggregates of one hour.
    pub hour_ms: i64,
}

impl Retention {
    /// How long a tier is kept.
    #[must_use]
    pub fn of(self, tier: Tier) -> i64 {
        match tier {
            Tier::Raw => self.raw_ms,
            Tier::Minute => self.minute_ms,
            Tier::Hour => self.hour_ms,
        }
    }

    /// The longest of them.
    #[must_use]
    pub fn longest_ms(self) -> i64 {
        self.raw_ms.max(self.minute_ms).max(self.hour_ms)
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many buckets there are.
    pub buckets: Buckets,
    /// The length of a window.
    pub window: WindowLength,
    /// How long the tiers are kept.
    pub retention: Retention,
    /// How long after its end a window is compacted, in milliseconds. The clocks of the functions must agree better than this.
    pub grace_ms: i64,
}

impl Layout {
    /// What of it may never change while the tables live.
    #[must_use]
    pub fn division(&self) -> Division {
        Division {
            buckets: self.buckets.count(),
            // At most a day.
            window_seconds: (self.window.ms() / 1_000) as u32,
            raw_retention_s: seconds(self.retention.raw_ms),
            minute_retention_s: seconds(self.retention.minute_ms),
        }
    }

    /// The end of a window: the first millisecond after it.
    #[must_use]
    pub fn window_end_ms(&self, window: Window) -> i64 {
        window.start_ms.saturating_add(self.window.ms())
    }

    /// Whether no process may have begun to compact a window yet.
    #[must_use]
    pub fn is_open(&self, window: Window, now_ms: i64) -> bool {
        now_ms < self.window_end_ms(window).saturating_add(self.grace_ms)
    }

    /// When the store may delete a segment of a window, in seconds since the Unix epoch: a day after the last sample of its
    /// day has passed the raw retention. Chunks and aggregates, those of a whole day too, are computed from segments for as
    /// long as late samples are taken; so those of one day go together.
    #[must_use]
    pub fn segment_expires_at_s(&self, window: Window) -> i64 {
        let day_ms = Tier::Hour.block_start_ms(self.window, window.start_ms);
        expiry(day_ms.saturating_add(DAY_MS), self.retention.raw_ms)
    }

    /// Whether everything of a window's day can be computed from its segments: none of them has expired, or will while a pass
    /// of the compactor works.
    #[must_use]
    pub fn has_segments(&self, window: Window, now_ms: i64) -> bool {
        now_ms.saturating_add(LONGEST_PASS_MS) / 1_000 < self.segment_expires_at_s(window)
    }

    /// The start of the first day whose windows all have their segments ([`Self::has_segments`]).
    #[must_use]
    pub fn oldest_day_ms(&self, now_ms: i64) -> i64 {
        let gone_ms = now_ms
            .saturating_add(LONGEST_PASS_MS)
            .saturating_sub(self.retention.raw_ms)
            .saturating_sub(2 * DAY_MS);
        Tier::Hour.block_start_ms(self.window, gone_ms).saturating_add(DAY_MS)
    }

    /// When the store may delete a block of a tier whose last millisecond comes before `end_ms`.
    #[must_use]
    pub fn block_expires_at_s(&self, tier: Tier, end_ms: i64) -> i64 {
        expiry(end_ms, self.retention.of(tier))
    }

    /// When the store may delete a catalog entry of a period: a day after the last block of its series.
    #[must_use]
    pub fn catalog_expires_at_s(&self, period: Period) -> i64 {
        expiry(period.end_ms().saturating_add(DAY_MS), self.retention.longest_ms())
    }
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

/// Why a process must not work on the tables: they hold data that lies elsewhere, or is gone earlier, than it takes for granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DividedOtherwise {
    /// It would look for samples where they are not.
    #[error(
        "the tables are divided into {} buckets and windows of {} s, this function is configured for {} buckets and windows of {} s: \
         neither can be changed while the tables live",
        stored.buckets, stored.window_seconds, configured.buckets, configured.window_seconds
    )]
    Elsewhere {
        /// What stands.
        stored: Division,
        /// What was wanted.
        configured: Division,
    },
    /// It would look for what has expired.
    #[error(
        "{parameter} is {configured}, but the tables hold data that was written to live for {stored}: it may be lowered, never \
         raised while the tables live; set it to {stored} or less"
    )]
    Shorter {
        /// The template's parameter.
        parameter: &'static str,
        /// The shortest that it ever was, in days.
        stored: Days,
        /// What was wanted, in days.
        configured: Days,
    },
}

impl DividedOtherwise {
    /// What is wrong with a configuration; `None` when it fits to what stands.
    #[must_use]
    pub fn of(stored: Division, configured: Division) -> Option<Self> {
        if stored.is_elsewhere(configured) {
            return Some(Self::Elsewhere { stored, configured });
        }
        let retentions = [
            ("RawRetentionDays", stored.raw_retention_s, configured.raw_retention_s),
            (
                "MinuteRetentionDays",
                stored.minute_retention_s,
                configured.minute_retention_s,
            ),
        ];
        let raised = retentions
            .into_iter()
            .find(|(_, stored, configured)| configured > stored);
        raised.map(|(parameter, stored, configured)| Self::Shorter {
            parameter,
            stored: Days(stored),
            configured: Days(configured),
        })
    }

    /// Refuses to work on tables that the configuration does not fit to.
    pub(crate) fn check(stored: Division, configured: Division) -> Result<(), StoreError> {
        Self::of(stored, configured).map_or(Ok(()), |unfit| {
            Err(StoreError::Refused {
                operation: "work on the tables",
                source: Box::new(unfit),
            })
        })
    }
}

/// Seconds that are written as days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days(u32);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 86_400.0)
    }
}

fn expiry(end_ms: i64, retention_ms: i64) -> i64 {
    end_ms.saturating_add(retention_ms).saturating_add(DAY_MS) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STORED: Division = Division {
        buckets: 16,
        window_seconds: 7_200,
        raw_retention_s: 7 * 86_400,
        minute_retention_s: 30 * 86_400,
    };

    #[test]
    fn retention_may_be_lowered_and_never_raised() {
        let raw = |days: u32| Division {
            raw_retention_s: days * 86_400,
            ..STORED
        };
        assert_eq!(DividedOtherwise::of(STORED, STORED), None);
        let lowered = STORED.lowered_to(raw(3));
        assert_eq!(lowered, raw(3));
        assert_eq!(DividedOtherwise::of(lowered, raw(3)), None);
        assert_eq!(lowered.lowered_to(STORED), lowered);
        let refused = DividedOtherwise::of(lowered, STORED).unwrap().to_string();
        assert_eq!(
            refused,
            "RawRetentionDays is 7, but the tables hold data that was written to live for 3: it may be lowered, never raised \
             while the tables live; set it to 3 or less"
        );
        let minute = Division {
            minute_retention_s: 31 * 86_400,
            ..STORED
        };
        let refused = DividedOtherwise::of(STORED, minute).unwrap().to_string();
        assert!(refused.starts_with("MinuteRetentionDays is 31, "), "{refused}");
    }

    #[test]
    fn who_divides_otherwise_is_refused_and_lowers_nothing() {
        let other = Division {
            buckets: 8,
            raw_retention_s: 1,
            ..STORED
        };
        assert_eq!(STORED.lowered_to(other), STORED);
        assert!(matches!(
            DividedOtherwise::of(STORED, other),
            Some(DividedOtherwise::Elsewhere { .. })
        ));
    }

    proptest! {
        #[test]
        fn the_oldest_day_is_the_first_that_has_segments(now_ms in 0..4_000_000_000_000_i64, raw_ms in 0..800_000_000_i64) {
            let layout = Layout {
                buckets: Buckets::new(1).unwrap(),
                window: WindowLength::from_seconds(7_200).unwrap(),
                retention: Retention { raw_ms, minute_ms: 0, hour_ms: 0 },
                grace_ms: 0,
            };
            let now_ms = now_ms / 1_000 * 1_000;
            let raw_ms = raw_ms / 1_000 * 1_000;
            let layout = Layout { retention: Retention { raw_ms, ..layout.retention }, ..layout };
            let day_ms = layout.oldest_day_ms(now_ms);
            prop_assert!(layout.has_segments(layout.window.of(day_ms), now_ms));
            prop_assert!(!layout.has_segments(layout.window.of(day_ms - 1), now_ms));
        }
    }
}
