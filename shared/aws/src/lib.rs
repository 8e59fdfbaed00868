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

pub mod alerts;
pub mod answers;
pub mod clients;
pub mod clock;
pub mod config;
mod database;
mod error;
pub mod health;
pub mod keys;
pub mod lanes;
pub mod logging;
pub mod mail;
pub mod pace;
pub mod publish;
pub mod queue;
pub mod secrets;
pub mod store;
pub mod stream;
#[cfg(test)]
mod testing;

pub use alerts::DynamoAlertStore;
pub use answers::DynamoAnswers;
pub use clients::Clients;
pub use config::ConfigError;
pub use database::{Consumed, Units};
pub use lanes::DynamoNotifyStore;
pub use mail::Mailer;
pub use pace::Pace;
pub use publish::{AlertTopic, TopicPublisher};
pub use queue::{DeadLetterQueue, NotifyQueue};
pub use secrets::SecretReader;
pub use store::{DynamoStore, Tables};
pub use stream::{KinesisSink, KinesisStream};
