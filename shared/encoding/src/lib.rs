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

pub mod bits;
pub mod clock;
pub mod column;
pub mod compress;
pub mod decimal;
pub mod floats;
pub mod series;
pub mod times;
pub mod values;
pub mod varint;

pub use compress::CompressError;
pub use varint::Reader;

/// Why bytes cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// An integer takes more bytes than its type can.
    #[error("an integer is too long")]
    Overlong,
    /// Something is not in its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// Bytes are left over.
    #[error("bytes are left over at the end")]
    Trailing,
}
