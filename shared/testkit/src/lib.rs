//! What only tests and benches use: the workload that things are measured on, and the checks that every store must pass.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a failed test may panic"
    )
)]

pub mod mix;
pub mod store_suite;
