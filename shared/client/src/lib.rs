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

mod buffer;
mod client;
mod error;
mod metric;
mod retry;
mod sender;
#[cfg(feature = "sigv4")]
mod sign;
mod stats;
mod transport;

pub use client::{Builder, Client};
pub use error::Error;
pub use metric::Metric;
pub use stats::{Refusal, Stats};
