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

pub mod batch;
pub mod body;
pub mod envelope;
pub mod error;
mod intern;
pub mod json;

pub use batch::{Batch, BatchBuilder, BatchSample, BatchSeries, SampleError, TimeBounds};
pub use body::{BodyError, decode_body};
pub use error::{ApiError, ErrorId};
pub use json::decode_metrics;
