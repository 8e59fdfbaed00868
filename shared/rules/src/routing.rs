//! How the alerts of a rule reach one channel: grouped by what, how soon, how often. A channel has such settings for all rules
//! that name it; a rule may override each of them where it names the channel. The words are Alertmanager's.

use serde::{Deserialize, Serialize};

/// In `group_by`: each alert by itself.
pub const GROUP_BY_ALL: &str = "...";

/// Settings of a route. What is `None` is taken from the next: where the rule names the channel, the rule, the channel, the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routing {
    /// The labels by whose values alerts are told together; `["..."]`: each by itself; `[]`: all of a channel together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    /// How long the first notification of a group waits for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_wait_seconds: Option<u64>,
    /// How long after a notification a change of its group is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_interval_seconds: Option<u64>,
    /// After how long what still fires is told again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeat_interval_seconds: Option<u64>,
    /// Whether resolves are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_resolved: Option<bool>,
    /// The names of the mute times in which nothing is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute_times: Option<Vec<String>>,
}

/// A channel of a rule. In JSON the name alone, or an object with `channel` and settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct ChannelUse {
    /// The channel's name.
    pub channel: String,
    /// What is different for this rule.
    pub routing: Routing,
}

impl From<&str> for ChannelUse {
    fn from(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            routing: Routing::default(),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    Object {
        channel: String,
        #[serde(flatten)]
        routing: Routing,
    },
}

impl From<Written> for ChannelUse {
    fn from(written: Written) -> Self {
        match written {
            Written::Name(channel) => Self {
                channel,
                routing: Routing::default(),
            },
            Written::Object { channel, routing } => Self { channel, routing },
        }
    }
}

impl From<ChannelUse> for Written {
    fn from(used: ChannelUse) -> Self {
        if used.routing == Routing::default() {
            Self::Name(used.channel)
        } else {
            Self::Object {
                channel: used.channel,
                routing: used.routing,
            }
        }
    }
}
