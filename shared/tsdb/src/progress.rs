//! How far the windows of a bucket are compacted: one small item per bucket, which writers, compactors and readers agree by.
//!
//! Correctness comes from two things, neither of which is a clock. A compactor declares a window closed *before* it reads the
//! segments, and a writer looks whether its window is closed *after* it has written: whichever comes later sees the other.
//! And every pass of a compactor takes a number, the epoch, without which it can change nothing here: of two passes that
//! overlap only the later one can declare anything done. The lease is a courtesy that saves double work.

use std::collections::BTreeMap;
use tidemark_model::Window;

/// See the module. All times in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the last pass that began; 0 before the first.
    pub epoch: u32,
    /// Windows that start before this are closed: whoever writes a segment into one must mark it dirty. `None` before the
    /// first compaction.
    pub closed_before_ms: Option<i64>,
    /// Windows that start before this have blocks in the raw and minute tiers.
    pub compacted_before_ms: Option<i64>,
    /// Days that start before this have blocks in the hour tier.
    pub rolled_before_ms: Option<i64>,
    /// Closed windows that were written to since they were compacted last, with the number of marks.
    pub dirty: BTreeMap<Window, u64>,
    /// Windows that were compacted again, with the epoch of the last time: what a cache keeps of them is as old as that.
    pub folded: BTreeMap<Window, u32>,
    /// How many marks were ever set.
    pub late_marks: u64,
    /// Until when the last pass meant to work.
    pub leased_until_ms: i64,
}

impl Progress {
    /// Whether a window is closed.
    #[must_use]
    pub fn is_closed(&self, window: Window) -> bool {
        self.closed_before_ms.is_some_and(|before| window.start_ms < before)
    }

    /// Whether the raw and minute blocks of a window hold all of its samples.
    #[must_use]
    pub fn is_compacted(&self, window: Window) -> bool {
        self.compacted_before_ms.is_some_and(|before| window.start_ms < before) && !self.dirty.contains_key(&window)
    }

    /// Whether the hour blocks of the day that starts then were written. Windows of it may be dirty.
    #[must_use]
    pub fn is_rolled(&self, day_start_ms: i64) -> bool {
        self.rolled_before_ms.is_some_and(|before| day_start_ms < before)
    }
}

/// What a pass declares done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Windows that start before are closed. Never moves back.
    Close {
        /// The start of the first window that is not.
        before_ms: i64,
    },
    /// Windows that start before have their blocks. Never moves back.
    Compacted {
        /// The start of the first window that has none.
        before_ms: i64,
    },
    /// Days that start before have their blocks. Never moves back.
    Rolled {
        /// The start of the first day that has none.
        before_ms: i64,
    },
    /// A dirty window was compacted again, with everything that this many marks stand for.
    Folded {
        /// The window.
        window: Window,
        /// The marks that the pass had seen before it read the segments.
        marks: u64,
    },
    /// The pass has ended: its lease is given back, and what is noted of windows that nobody reads any more is forgotten.
    Release {
        /// The start of the first window that is still kept.
        forget_before_ms: i64,
    },
}

impl Step {
    /// The progress after this step; `None` when the step is not allowed any more: another pass has begun, or a window was
    /// marked again.
    #[must_use]
    pub fn apply(self, epoch: u32, before: &Progress) -> Option<Progress> {
        if before.epoch != epoch {
            return None;
        }
        let mut after = before.clone();
        match self {
            Self::Close { before_ms } => after.closed_before_ms = after.closed_before_ms.max(Some(before_ms)),
            Self::Compacted { before_ms } => after.compacted_before_ms = after.compacted_before_ms.max(Some(before_ms)),
            Self::Rolled { before_ms } => after.rolled_before_ms = after.rolled_before_ms.max(Some(before_ms)),
            Self::Folded { window, marks } => {
                if after.dirty.get(&window) != Some(&marks) {
                    return None;
                }
                after.dirty.remove(&window);
                after.folded.insert(window, epoch);
            }
            Self::Release { forget_before_ms } => {
                after.leased_until_ms = 0;
                after.dirty.retain(|window, _| window.start_ms >= forget_before_ms);
                after.folded.retain(|window, _| window.start_ms >= forget_before_ms);
            }
        }
        Some(after)
    }
}
