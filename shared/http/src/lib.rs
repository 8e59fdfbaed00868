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

mod answer;
mod call;
mod deadline;
mod run;

pub use answer::{Answer, error, json, json_bytes, no_content};
pub use call::Call;
pub use deadline::in_time;
pub use run::run;
