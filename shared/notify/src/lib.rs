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
pub mod channel;
pub mod conformance;
pub mod dispatch;
#[cfg(test)]
mod fixtures;
pub mod http;
pub mod manage;
pub mod memory;
pub mod notification;
pub mod recording;
pub mod retry;
pub mod secret;
pub mod sender;
pub mod senders;
pub mod settings;
pub mod store;
pub mod suppress;
pub mod templates;

pub use address::AddressGuard;
pub use channel::{Channel, ChannelSpec, Receiver};
pub use dispatch::{Arrival, Dispatcher, Letter, MemoryQueue, Next, Queue, rescue};
pub use http::Poster;
pub use memory::MemoryNotifyStore;
pub use notification::{Alert, Cause, Notification};
pub use recording::RecordingSender;
pub use retry::Failure;
pub use secret::{MemorySecrets, SecretRef, Secrets};
pub use sender::{Deliver, Target};
pub use senders::Senders;
pub use store::{DocumentStore, LaneStore};
