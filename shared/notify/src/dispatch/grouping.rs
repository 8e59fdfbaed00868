//! Which settings an alert has in a lane, and which group it belongs to. Pure.

use super::decide::Timing;
use crate::channel::Channel;
use crate::store::{Group, Member};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use tidemark_model::Timestamp;
use tidemark_rules::routing::GROUP_BY_ALL;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::{Routing, RuleSnapshot, TransitionEvent};

/// How long the first notification of a group waits: all rules are evaluated in one tick, so that what belongs together comes within seconds.
pub(crate) const DEFAULT_GROUP_WAIT_SECONDS: u64 = 10;

/// Alertmanager's default.
pub(crate) const DEFAULT_GROUP_INTERVAL_SECONDS: u64 = 300;

/// Alertmanager's default.
pub(crate) const DEFAULT_REPEAT_INTERVAL_SECONDS: u64 = 4 * 3_600;

/// The key of the digest.
pub(crate) const DIGEST_KEY: &str = "{}:{digest}";

/// Whom a lane tells.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Recipient {
    /// A configured channel; `None`: it is not there (any more).
    Channel {
        name: String,
        channel: Option<Box<Channel>>,
    },
    /// The `webhook_url` of a rule. Incidents of different versions of the rule may have different ones.
    Webhook,
}

impl Recipient {
    /// The channel's name as people know it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Channel { name, .. } => name,
            Self::Webhook => WEBHOOK_CHANNEL,
        }
    }

    /// The channel, if there is one.
    pub(crate) fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Channel { channel, .. } => channel.as_deref(),
            Self::Webhook => None,
        }
    }

    /// Where an alert goes when that is not the same for all of the lane.
    fn url<'a>(&self, rule: &'a RuleSnapshot) -> &'a str {
        match self {
            Self::Channel { .. } => "",
            Self::Webhook => rule.webhook_url.as_deref().unwrap_or(""),
        }
    }
}

/// The settings of an alert in a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) group_by: Vec<String>,
    pub(crate) timing: Timing,
    pub(crate) mute_times: Vec<String>,
}

/// What counts for an alert of a rule: what the rule says where it names the channel, what the rule says, what the channel says, what is
/// usual. An alert of a rule's own webhook, and a heartbeat whatever its channel says, is told by itself and at once.
pub(crate) fn settings(rule: &RuleSnapshot, recipient: &Recipient) -> Settings {
    let nothing = Routing::default();
    let used = rule
        .notification_channels
        .iter()
        .find(|used| used.channel == recipient.name());
    let used = used.map_or(&nothing, |used| &used.routing);
    let of_channel = recipient.channel().map_or(&nothing, |channel| &channel.spec.routing);
    let alone = rule.is_heartbeat() || *recipient == Recipient::Webhook;
    let grouped = if alone { &nothing } else { of_channel };
    let usual = |seconds: u64| if alone { 0 } else { seconds };
    let ms = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX / 2_000).saturating_mul(1_000);
    let group_by = used.group_by.clone().or_else(|| grouped.group_by.clone());
    let wait = used.group_wait_seconds.or(grouped.group_wait_seconds);
    let interval = used.group_interval_seconds.or(grouped.group_interval_seconds);
    let repeat = used
        .repeat_interval_seconds
        .or(rule.repeat_interval_seconds)
        .or(of_channel.repeat_interval_seconds)
        .unwrap_or(DEFAULT_REPEAT_INTERVAL_SECONDS);
    Settings {
        group_by: group_by.unwrap_or_else(|| {
            let label = if alone { GROUP_BY_ALL } else { "alertname" };
            vec![label.to_owned()]
        }),
        timing: Timing {
            wait_ms: ms(wait.unwrap_or(usual(DEFAULT_GROUP_WAIT_SECONDS))),
            interval_ms: ms(interval.unwrap_or(usual(DEFAULT_GROUP_INTERVAL_SECONDS))),
            // Without a pause between repetitions one would follow the other.
            repeat_ms: ms(repeat.max(1)),
            send_resolved: used.send_resolved.or(of_channel.send_resolved).unwrap_or(true),
        },
        mute_times: used
            .mute_times
            .clone()
            .or_else(|| of_channel.mute_times.clone())
            .unwrap_or_default(),
    }
}

/// The labels of an alert that make its group.
fn group_labels(labels: &BTreeMap<String, String>, group_by: &[String]) -> BTreeMap<String, String> {
    let all = group_by.iter().any(|name| name == GROUP_BY_ALL);
    let named = labels.iter().filter(|(name, _)| all || group_by.contains(name));
    named.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A group's key, in Alertmanager's form.
fn group_key(labels: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}={}", serde_json::Value::from(value.as_str())))
        .collect();
    format!("{{}}:{{{}}}", pairs.join(","))
}

/// The first 96 bits of a hash, in hexadecimal: no two groups of a lane will meet.
pub(crate) fn short_hash<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(12)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A group in which nothing has been told yet.
fn new_group(key: String, labels: BTreeMap<String, String>, url: &str, now: Timestamp) -> Group {
    Group {
        id: short_hash([key.as_str(), url]),
        key,
        labels,
        notified_at: None,
        in_flight: None,
        told: None,
        failures: 0,
        not_before: None,
        given_up: None,
        // A group that is removed and made again does not begin with a version that it had before.
        version: u64::try_from(now.0).unwrap_or(0),
    }
}

/// A group with the members that belong to it, in the order of the lane.
#[derive(Clone, Debug)]
pub(crate) struct Grouped<'a> {
    pub(crate) group: Group,
    /// The version that is stored; `None`: it is not.
    pub(crate) stored: Option<u64>,
    /// Each with its settings.
    pub(crate) members: Vec<(&'a Member, Settings)>,
    pub(crate) is_digest: bool,
}

/// Brings members and groups together. A member belongs to the group of its mark; without one, to that of an earlier incident of the same
/// instance, so that the end of that is told first; else to that of its labels.
pub(crate) fn assemble<'a>(
    groups: &[Group],
    members: &'a [Member],
    recipient: &Recipient,
    now: Timestamp,
) -> Vec<Grouped<'a>> {
    let mut all: BTreeMap<String, Grouped<'a>> = groups
        .iter()
        .map(|group| {
            let grouped = Grouped {
                group: group.clone(),
                stored: Some(group.version),
                members: Vec::new(),
                is_digest: group.key == DIGEST_KEY,
            };
            (group.id.clone(), grouped)
        })
        .collect();
    let mut in_order: Vec<&Member> = members.iter().collect();
    in_order.sort_by_key(|member| member.event.firing_since);
    let mut of_instance: HashMap<(&str, &str), String> = HashMap::new();
    for member in in_order {
        let settings = settings(&member.event.rule, recipient);
        let url = recipient.url(&member.event.rule);
        let digest = new_group(DIGEST_KEY.to_owned(), BTreeMap::new(), url, now);
        let marked = member
            .mark
            .group
            .as_ref()
            .or_else(|| of_instance.get(&(member.event.instance_id.as_str(), url)))
            .filter(|id| all.contains_key(*id) || **id == digest.id)
            .cloned();
        let group = match &marked {
            Some(id) if *id == digest.id => digest,
            _ => {
                let labels = group_labels(&member.event.alert_labels(), &settings.group_by);
                new_group(group_key(&labels), labels, url, now)
            }
        };
        let id = marked.unwrap_or_else(|| group.id.clone());
        of_instance.insert((&member.event.instance_id, url), id.clone());
        let grouped = all.entry(id).or_insert_with(|| Grouped {
            is_digest: group.key == DIGEST_KEY,
            group,
            stored: None,
            members: Vec::new(),
        });
        grouped.members.push((member, settings));
    }
    all.into_values().collect()
}

/// The id of the digest that an alert would join.
pub(crate) fn digest_id(event: &TransitionEvent, recipient: &Recipient) -> String {
    short_hash([DIGEST_KEY, recipient.url(&event.rule)])
}

#[cfg(test)]
mod tests;
