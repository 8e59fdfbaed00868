//! How the alerts of a rule reach one channel: grouped by what, how soon, how often. A channel has such settings for all rules
//! that name it; a rule may override each of them where it names the channel. The words are Alertmanager's.

use crate::rule::fields::{self, Field, invalid};
use crate::rule::{InvalidField, MAX_CHANNEL_BYTES};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemark_model::limits;

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

impl Routing {
    /// Reads the settings of an object; other fields are ignored. `path` leads to the object, and is empty for the body as a whole.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(object: &Map<String, Value>, path: &str) -> Result<Self, InvalidField> {
        let field = |name| fields::optional_in(object, path, name);
        let seconds = |name, min, max| field(name).map(|field| fields::seconds(field, min, max)).transpose();
        Ok(Self {
            group_by: field("group_by").map(group_by).transpose()?,
            group_wait_seconds: seconds("group_wait_seconds", 0, limits::MAX_GROUP_WAIT_SECONDS)?,
            group_interval_seconds: seconds("group_interval_seconds", 0, limits::MAX_GROUP_INTERVAL_SECONDS)?,
            repeat_interval_seconds: field("repeat_interval_seconds").map(repeat_interval).transpose()?,
            send_resolved: field("send_resolved").map(fields::boolean).transpose()?,
            mute_times: field("mute_times").map(mute_times).transpose()?,
        })
    }
}

/// `repeat_interval_seconds`, wherever it stands.
pub(crate) fn repeat_interval(field: Field<'_>) -> Result<u64, InvalidField> {
    fields::seconds(
        field,
        limits::MIN_REPEAT_INTERVAL_SECONDS,
        limits::MAX_REPEAT_INTERVAL_SECONDS,
    )
}

fn group_by(field: Field<'_>) -> Result<Vec<String>, InvalidField> {
    let path = field.path.clone();
    let names = fields::texts(field, limits::MAX_LABELS_PER_SERIES, limits::MAX_LABEL_NAME_BYTES, true)?;
    if names.len() > 1 && names.iter().any(|name| name == GROUP_BY_ALL) {
        let reason = format!("must hold `{GROUP_BY_ALL}` alone: it stands for all labels");
        return Err(invalid(path, reason));
    }
    Ok(names)
}

fn mute_times(field: Field<'_>) -> Result<Vec<String>, InvalidField> {
    fields::texts(field, limits::MAX_MUTE_TIMES_PER_ROUTE, MAX_CHANNEL_BYTES, false)
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

impl ChannelUse {
    /// Reads one entry of a rule's list.
    fn parse(field: Field<'_>) -> Result<Self, InvalidField> {
        match field.value {
            Value::String(_) => Ok(Self {
                channel: fields::text(field, MAX_CHANNEL_BYTES)?,
                routing: Routing::default(),
            }),
            Value::Object(object) => {
                let name = fields::optional_in(object, &field.path, "channel");
                let name = name.ok_or_else(|| invalid(format!("{}.channel", field.path), "is required"))?;
                Ok(Self {
                    channel: fields::text(name, MAX_CHANNEL_BYTES)?,
                    routing: Routing::parse(object, &field.path)?,
                })
            }
            _ => Err(field.invalid("must be the name of a channel, or an object with `channel`")),
        }
    }

    /// Reads a rule's list. An entry that stands twice is taken once.
    pub(crate) fn parse_list(field: &Field<'_>) -> Result<Vec<Self>, InvalidField> {
        let values = field
            .value
            .as_array()
            .ok_or_else(|| field.invalid("must be a list of names or objects"))?;
        let mut list: Vec<Self> = Vec::new();
        for (index, value) in values.iter().enumerate() {
            let path = format!("{}[{index}]", field.path);
            let next = Self::parse(Field {
                path: path.clone(),
                value,
            })?;
            match list.iter().find(|one| one.channel == next.channel) {
                None => list.push(next),
                Some(same) if *same == next => {}
                Some(_) => {
                    return Err(invalid(path, format!("names the channel `{}` again", next.channel)));
                }
            }
        }
        let (most, count) = (limits::MAX_CHANNELS_PER_RULE, list.len());
        if count > most {
            return Err(field.invalid(format!("has {count} entries; at most {most} are allowed")));
        }
        // Names and numbers always have a JSON.
        let bytes = serde_json::to_string(&list).unwrap_or_default().len();
        if bytes > limits::MAX_CHANNELS_BYTES {
            let most = limits::MAX_CHANNELS_BYTES;
            return Err(field.invalid(format!("has {bytes} bytes of JSON; at most {most} are allowed")));
        }
        Ok(list)
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

#[cfg(test)]
mod tests;
