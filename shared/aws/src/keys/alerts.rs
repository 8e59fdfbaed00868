//! The keys of the alerts table.

use super::KeyError;
use tidemark_model::{Period, Timestamp};
use tidemark_notify::Channel;
use tidemark_notify::settings::{Document, Inhibition, MuteTime, Silence};

const RULES: &str = "rules";
const RULE_NAMES: &str = "rule-names";
const INSTANCES: &str = "instances";
const LANES: &str = "lanes";
const TICKS: &str = "ticks";
const LANE: &str = "lane#";
const SETTLED: &str = "settled#";
const HISTORY: &str = "history#";
const HISTORY_OF_RULE: &str = "history-rule#";
const HISTORY_OF_ALERT: &str = "history-alert#";

/// What the sort keys of a lane's groups and members begin with.
const GROUP: &str = "g#";
const MEMBER: &str = "m#";

/// The kinds of documents; each is a partition.
const KINDS: [&str; 4] = [Channel::KIND, Silence::KIND, Inhibition::KIND, MuteTime::KIND];

/// One of the lists of the history that an entry stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryList {
    /// Everything that happened in a period.
    Period(Period),
    /// Everything of the rule with this id.
    Rule(String),
    /// Everything of the alert with this fingerprint.
    Alert(String),
}

impl HistoryList {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> String {
        match self {
            Self::Period(period) => format!("{HISTORY}{period}"),
            Self::Rule(id) => format!("{HISTORY_OF_RULE}{id}"),
            Self::Alert(fingerprint) => format!("{HISTORY_OF_ALERT}{fingerprint}"),
        }
    }
}

/// An item of the alerts table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertKey {
    /// A rule: `rules` / `<rule id>`.
    Rule {
        /// The rule's id.
        id: String,
    },
    /// The name of a rule, so that no other takes it: `rule-names` / `<name>`.
    RuleName {
        /// The rule's name.
        name: String,
    },
    /// An instance: `instances` / `<instance id>`. All are in one partition, because each tick reads all of them.
    Instance {
        /// The instance's id.
        id: String,
    },
    /// How far a shard of the evaluation has come: `ticks` / `<shard>`.
    Tick {
        /// The shard.
        shard: u32,
    },
    /// An entry of the history: `history#<period>`, `history-rule#<rule id>` or `history-alert#<fingerprint>` / `<ms, 13 digits>#<id>`.
    History {
        /// The list.
        list: HistoryList,
        /// When it happened.
        at: Timestamp,
        /// The entry's id.
        id: String,
    },
    /// A channel, a silence, an inhibition or a mute time: `<kind>` / `<id>`.
    Document {
        /// The kind: [`Document::KIND`].
        kind: &'static str,
        /// The document's id.
        id: String,
    },
    /// The head of a lane: `lanes` / `<lane>`. All are in one partition, because each tick asks which are overdue.
    Lane {
        /// The lane's id.
        lane: String,
    },
    /// A group of a lane: `lane#<lane>` / `g#<group id>`.
    Group {
        /// The lane's id.
        lane: String,
        /// The group's id.
        id: String,
    },
    /// A member of a lane: `lane#<lane>` / `m#<incident>`.
    Member {
        /// The lane's id.
        lane: String,
        /// The incident.
        incident: String,
    },
    /// The notification log's entry of an incident that is settled in a lane: `settled#<incident>` / `<lane>`.
    Settled {
        /// The incident.
        incident: String,
        /// The lane's id.
        lane: String,
    },
}

impl AlertKey {
    /// The partition of all rules.
    #[must_use]
    pub fn rules_partition() -> String {
        RULES.to_owned()
    }

    /// The partition of the names of all rules.
    #[must_use]
    pub fn rule_names_partition() -> String {
        RULE_NAMES.to_owned()
    }

    /// The partition of all instances.
    #[must_use]
    pub fn instances_partition() -> String {
        INSTANCES.to_owned()
    }

    /// What the sort keys of a rule's instances begin with.
    #[must_use]
    pub fn instances_of(rule_id: &str) -> String {
        tidemark_rules::instance::instance_id(rule_id, "")
    }

    /// The partition of the heads of all lanes.
    #[must_use]
    pub fn lanes_partition() -> String {
        LANES.to_owned()
    }

    /// The partition of a lane's groups and members.
    #[must_use]
    pub fn lane_partition(lane: &str) -> String {
        format!("{LANE}{lane}")
    }

    /// What the sort keys of everything sort after that happened before a time, and before that of everything else.
    #[must_use]
    pub fn history_from(at: Timestamp) -> String {
        format!("{:013}", at.0)
    }

    /// What the sort keys of everything sort before that happened after a time, and after that of everything else.
    #[must_use]
    pub fn history_to(at: Timestamp) -> String {
        // The character after the `#` that ends the time.
        format!("{:013}$", at.0)
    }

    /// The time in the sort key of an entry of the history; `None` when the text is no such key.
    #[must_use]
    pub fn history_time(sk: &str) -> Option<Timestamp> {
        let (at, _) = sk.split_once('#')?;
        at.parse().ok().map(Timestamp)
    }

    /// The partition key.
    #[must_use]
    pub fn pk(&self) -> String {
        match self {
            Self::Rule { .. } => Self::rules_partition(),
            Self::RuleName { .. } => Self::rule_names_partition(),
            Self::Instance { .. } => Self::instances_partition(),
            Self::Tick { .. } => TICKS.to_owned(),
            Self::History { list, .. } => list.partition(),
            Self::Document { kind, .. } => (*kind).to_owned(),
            Self::Lane { .. } => Self::lanes_partition(),
            Self::Group { lane, .. } | Self::Member { lane, .. } => Self::lane_partition(lane),
            Self::Settled { incident, .. } => format!("{SETTLED}{incident}"),
        }
    }

    /// The sort key.
    #[must_use]
    pub fn sk(&self) -> String {
        match self {
            Self::Rule { id } | Self::Instance { id } | Self::Document { id, .. } => id.clone(),
            Self::RuleName { name } => name.clone(),
            Self::Tick { shard } => shard.to_string(),
            Self::History { at, id, .. } => format!("{}#{id}", Self::history_from(*at)),
            Self::Lane { lane } | Self::Settled { lane, .. } => lane.clone(),
            Self::Group { id, .. } => format!("{GROUP}{id}"),
            Self::Member { incident, .. } => format!("{MEMBER}{incident}"),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the parts are not those of an alerting item.
    pub fn parse(pk: &str, sk: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError(format!("{pk} / {sk}"));
        let owned = sk.to_owned();
        match pk {
            RULES => return Ok(Self::Rule { id: owned }),
            RULE_NAMES => return Ok(Self::RuleName { name: owned }),
            INSTANCES => return Ok(Self::Instance { id: owned }),
            LANES => return Ok(Self::Lane { lane: owned }),
            TICKS => return sk.parse().map(|shard| Self::Tick { shard }).map_err(|_| wrong()),
            _ => {}
        }
        if let Some(kind) = KINDS.into_iter().find(|kind| *kind == pk) {
            return Ok(Self::Document { kind, id: owned });
        }
        if let Some(lane) = pk.strip_prefix(LANE).map(str::to_owned) {
            return if let Some(id) = sk.strip_prefix(GROUP).map(str::to_owned) {
                Ok(Self::Group { lane, id })
            } else if let Some(incident) = sk.strip_prefix(MEMBER).map(str::to_owned) {
                Ok(Self::Member { lane, incident })
            } else {
                Err(wrong())
            };
        }
        if let Some(incident) = pk.strip_prefix(SETTLED).map(str::to_owned) {
            return Ok(Self::Settled { incident, lane: owned });
        }
        let list = if let Some(rule) = pk.strip_prefix(HISTORY_OF_RULE) {
            HistoryList::Rule(rule.to_owned())
        } else if let Some(fingerprint) = pk.strip_prefix(HISTORY_OF_ALERT) {
            HistoryList::Alert(fingerprint.to_owned())
        } else if let Some(period) = pk.strip_prefix(HISTORY) {
            HistoryList::Period(Period(period.parse().map_err(|_| wrong())?))
        } else {
            return Err(wrong());
        };
        let at = Self::history_time(sk).ok_or_else(wrong)?;
        let (_, id) = sk.split_once('#').ok_or_else(wrong)?;
        Ok(Self::History {
            list,
            at,
            id: id.to_owned(),
        })
    }
}
