//! End to end: the real template, deployed to a local stack, as its users see it.
//!
//! All tests share one installation and run beside each other, so each uses metric names and rules of its own and asserts
//! nothing about totals that others change. What must be true of the whole (queue, checkpoints, dead letters) is asserted as
//! a bound. `infra/checks/e2e` sets the stack up and takes it down.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

mod aggregation;
mod alerts;
mod channels;
mod compaction;
mod discovery;
mod failures;
mod health;
mod limits;
mod notifying;
mod pipeline;
mod privileges;
mod push;
mod query;
mod receivers;
mod rules;
mod scene;
mod values;
