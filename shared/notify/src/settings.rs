//! What people set besides rules and channels: silences, inhibitions and mute times. The words and the meaning are Alertmanager's.

mod parse;
mod time_interval;

pub use parse::{SilenceEnd, SilenceSpec, chosen_id, matchers, same_id};
pub use time_interval::InvalidInterval;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tidemark_model::{LabelFilter, Timestamp};

/// Something that people configure and the store keeps whole, with a version.
pub trait Document: Clone + Serialize + DeserializeOwned + Send + Sync {
    /// The name of the kind, part of keys; never changes.
    const KIND: &'static str;
    /// The id, unique within the kind.
    fn id(&self) -> &str;
    /// The version: 1 at first, one more with each change.
    fn version(&self) -> u64;
    /// When the store may forget it, if ever.
    fn expires_at(&self) -> Option<Timestamp>;
}

/// Mutes the alerts that match, for a time: they are recorded and not told. A page that was sent before is still told to be over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Given by the edge.
    pub id: String,
    /// Which alerts: matched against [`tidemark_rules::RuleSnapshot::alert_labels`].
    pub matchers: LabelFilter,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when; exclusive.
    pub ends_at: Timestamp,
    /// Who.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// The version.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Silence {
    /// Whether it mutes at a time.
    #[must_use]
    pub fn is_active(&self, now: Timestamp) -> bool {
        self.starts_at <= now && now < self.ends_at
    }
}

/// Mutes an alert (the target) while another (the source) fires: who is told that a data centre is down need not be told of each host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Inhibition {
    /// Its name, chosen by its author.
    pub id: String,
    /// Which firing alerts mute others.
    pub source_matchers: LabelFilter,
    /// Which alerts are muted.
    pub target_matchers: LabelFilter,
    /// The labels that both must have alike; a missing one is like an empty one.
    pub equal: Vec<String>,
    /// The version.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A named set of times that recur, in which channels that name it send nothing. What fires then waits for its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MuteTime {
    /// Its name, chosen by its author.
    pub id: String,
    /// A time is muted when it is in any of these. Alertmanager's `time_intervals`.
    pub time_intervals: Vec<TimeInterval>,
    /// The version.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A recurring time: all that is given must hold; what is not given always does. The ranges are texts as Alertmanager takes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeInterval {
    /// Times of the day; the end is exclusive, `24:00` is the end of the day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub times: Vec<TimeRange>,
    /// `monday:friday`, `sunday`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weekdays: Vec<String>,
    /// `1:5`, `-3:-1` (from the month's end).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days_of_month: Vec<String>,
    /// `january:march`, `12`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub months: Vec<String>,
    /// `2026:2027`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub years: Vec<String>,
    /// An IANA time zone; UTC when it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

/// A range of times of the day, each `HH:MM`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeRange {
    /// From.
    pub start_time: String,
    /// Until; exclusive.
    pub end_time: String,
}

macro_rules! document {
    ($type:ty, $kind:literal, $expires:expr) => {
        impl Document for $type {
            const KIND: &'static str = $kind;

            fn id(&self) -> &str {
                &self.id
            }

            fn version(&self) -> u64 {
                self.version
            }

            fn expires_at(&self) -> Option<Timestamp> {
                let expires: fn(&Self) -> Option<Timestamp> = $expires;
                expires(self)
            }
        }
    };
}

/// How long a silence that is over stays to be looked at, in milliseconds: 30 days. All are read for each look at a lane; what they muted
/// stands in the history for a year.
const SILENCE_KEPT_MS: i64 = 30 * 86_400_000;

document!(crate::channel::Channel, "channels", |_| None);
document!(Silence, "silences", |silence| Some(Timestamp(
    silence.ends_at.0.saturating_add(SILENCE_KEPT_MS)
)));
document!(Inhibition, "inhibitions", |_| None);
document!(MuteTime, "mute-times", |_| None);
