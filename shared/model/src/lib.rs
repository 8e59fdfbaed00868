#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a failed test may panic"
    )
)]

pub mod labels;
pub mod limits;
pub mod matcher;
pub mod sample;
pub mod series;
pub mod time;
pub mod value;
pub mod window;

pub use labels::{Label, Labels, LabelsError};
pub use matcher::LabelFilter;
pub use sample::{STALE_NAN_BITS, Sample, is_stale_marker};
pub use series::{Bucket, Buckets, SeriesId};
pub use time::Timestamp;
pub use window::{DAY_MS, Period, Window, WindowLength};
