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

pub mod address;
pub mod deliver;
#[cfg(test)]
mod fixtures;
pub mod recording;
pub mod retry;
pub mod sender;
pub mod webhook;

pub use address::AddressGuard;
pub use deliver::{ChannelOutcome, Delivery, Next, deliver};
pub use recording::RecordingSender;
pub use retry::Failure;
pub use sender::{PostWebhook, WebhookSender};
