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

pub mod memory;
pub mod segment;
pub mod select;
pub mod sequence;
pub mod store;
pub mod stream;

pub use select::{Select, SelectError, SelectedSeries, Selector};
pub use sequence::{SequenceNumber, ShardId};
pub use store::{Store, StoreError};
