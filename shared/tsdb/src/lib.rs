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

pub mod aggregate;
pub mod answer;
pub mod answers;
mod bounded;
pub mod catalog;
pub mod chunk;
pub mod compact;
pub mod drain;
pub mod evidence;
pub mod flush;
pub mod ingest;
mod known;
pub mod layout;
pub mod memory;
pub mod page;
pub mod plan;
pub mod progress;
pub mod query;
mod recall;
pub mod rollup;
pub mod segment;
pub mod select;
pub mod sequence;
pub mod store;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod tier;

pub use compact::{CompactError, CompactReport, Compactor};
pub use flush::{Clock, Consumer, FlushReport, Origin};
pub use layout::{Layout, Retention};
pub use select::{Reader, Select, SelectError, SelectedSeries, Selector, Wanted};
pub use sequence::{SequenceNumber, ShardId};
pub use store::{Store, StoreError};
pub use tier::Tier;
