//! The tiers of compacted data: raw samples, and aggregates of a minute and of an hour, each in blocks of one series.

use std::fmt;
use tidemark_model::{DAY_MS, SeriesId, Window, WindowLength};

/// How finely a block resolves time. Ordered from fine to coarse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// The samples themselves, in blocks of one window: chunks.
    Raw,
    /// Aggregates of one minute, in blocks of one window.
    Minute,
    /// Aggregates of one hour, in blocks of one UTC day.
    Hour,
}

impl Tier {
    /// Every tier, from fine to coarse.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Minute, Self::Hour];

    /// The time between two points, in milliseconds; 0 for the samples themselves.
    #[must_use]
    pub fn resolution_ms(self) -> i64 {
        match self {
            Self::Raw => 0,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The start of the block that holds a time, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn block_start_ms(self, window: WindowLength, timestamp_ms: i64) -> i64 {
        match self {
            Self::Raw | Self::Minute => window.of(timestamp_ms).start_ms,
            Self::Hour => timestamp_ms.saturating_sub(timestamp_ms.rem_euclid(DAY_MS)),
        }
    }

    /// The length of a block, in milliseconds.
    #[must_use]
    pub fn block_ms(self, window: WindowLength) -> i64 {
        match self {
            Self::Raw | Self::Minute => window.ms(),
            Self::Hour => DAY_MS,
        }
    }

    /// The name, as answers write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Minute => "1m",
            Self::Hour => "1h",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a block stands. Blocks are written once and never changed: a later compaction writes a greater epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// The tier.
    pub tier: Tier,
    /// The series.
    pub id: SeriesId,
    /// The first millisecond of the block.
    pub start_ms: i64,
    /// The compaction pass that wrote it. Of several the greatest holds.
    pub epoch: u32,
    /// Which part of the block, where one item could not hold it.
    pub part: u8,
}

/// A part of a block, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBlock {
    /// Where it stands.
    pub key: BlockKey,
    /// What [`crate::chunk`] (raw) or [`crate::rollup`] encoded.
    pub data: Vec<u8>,
    /// When the store may delete it, in seconds since the Unix epoch.
    pub expires_at_s: i64,
}

/// The windows of the block of one day.
pub fn windows_of_day(window: WindowLength, day_start_ms: i64) -> impl Iterator<Item = Window> {
    window.covering(day_start_ms, day_start_ms.saturating_add(DAY_MS - 1))
}
