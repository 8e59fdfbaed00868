//! What is left of a notification that was given up: a letter among the dead letters. Sent back into the queue, it has its group tried again.

use crate::store::News;
use serde::{Deserialize, Serialize};
use tidemark_model::Timestamp;

/// A notification that was given up. It holds no alert: what is to be told still lies in the lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "letter")]
pub struct Letter {
    /// The lane.
    pub lane: String,
    /// The channel's name, to be read by people.
    pub channel: String,
    /// The group.
    pub group_id: String,
    /// The group's key, to be read by people.
    pub group_key: String,
    /// What was not told.
    pub news: Vec<News>,
    /// The last failure.
    pub reason: String,
    /// When it was given up.
    pub at: Timestamp,
}
