//! What the history keeps of notifying.

use super::grouping::short_hash;
use crate::store::{Group, Member, News};
use tidemark_model::Timestamp;
use tidemark_rules::history::AttemptOutcome;
use tidemark_rules::{HistoryEntry, HistoryEvent};

/// An attempt. Its entries are the same whoever writes them, and however often.
pub(crate) struct Attempt<'a> {
    pub(crate) channel: &'a str,
    pub(crate) group: &'a Group,
    pub(crate) notification_id: &'a str,
    /// Counted from 1.
    pub(crate) number: u32,
    /// When it was begun.
    pub(crate) at: Timestamp,
}

fn entry(member: &Member, id: String, at: Timestamp, event: HistoryEvent) -> HistoryEntry {
    let told = &member.event;
    HistoryEntry {
        id,
        at,
        rule_id: told.rule.id.clone(),
        rule_name: told.rule.name.clone(),
        severity: told.rule.severity,
        instance_id: told.instance_id.clone(),
        fingerprint: told.fingerprint.clone(),
        labels: told.labels.clone(),
        event,
    }
}

impl Attempt<'_> {
    /// The entries of how it ended, one for each alert.
    pub(crate) fn entries<'a>(
        &self,
        told: impl IntoIterator<Item = (&'a Member, &'a News)>,
        outcome: AttemptOutcome,
        error: Option<&str>,
    ) -> Vec<HistoryEntry> {
        let one = |(member, news): (&'a Member, &'a News)| {
            let id = format!("{}.{}.{}", self.notification_id, self.number, news.incident);
            let event = HistoryEvent::Notification {
                channel: self.channel.to_owned(),
                group_key: self.group.key.clone(),
                state: news.kind,
                notification_id: self.notification_id.to_owned(),
                attempt: self.number,
                outcome,
                error: error.map(str::to_owned),
            };
            entry(member, id, self.at, event)
        };
        told.into_iter().map(one).collect()
    }
}

/// The entry of a member that is not told, now or for good.
pub(crate) fn suppressed(member: &Member, lane: &str, channel: &str, reason: &str, at: Timestamp) -> HistoryEntry {
    let id = format!("{}.{}.suppressed", member.incident, short_hash([lane, reason]));
    let event = HistoryEvent::Suppressed {
        channel: channel.to_owned(),
        reason: reason.to_owned(),
    };
    entry(member, id, at, event)
}
