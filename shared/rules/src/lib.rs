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

pub mod backtest;
pub mod condition;
pub mod conformance;
pub mod decide;
pub mod event;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod instance;
pub mod manage;
pub mod memory;
pub mod routing;
pub mod rule;
pub mod store;
pub mod template;
pub mod tick;
pub mod vector;

pub use condition::Condition;
pub use event::{Message, Publish, PublishError, TransitionEvent};
pub use history::{HistoryEntry, HistoryEvent};
pub use instance::{Instance, InstanceState, Transition, TransitionKind, TransitionReason};
pub use memory::{MemoryAlertStore, MemoryTopic};
pub use routing::{ChannelUse, Routing};
pub use rule::{InvalidField, Query, Rule, RuleSnapshot, Severity, Threshold};
pub use store::AlertStore;
