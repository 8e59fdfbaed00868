#![doc = include_str!("../README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed test may panic")
)]

pub mod select;
pub mod store;

pub use select::{Select, SelectError, SelectedSeries, Selector};
pub use store::{Store, StoreError};
