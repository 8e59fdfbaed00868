//! The history. Each entry stands in three lists: of its period, of its rule, of its alert, so that each question is one range of
//! keys. The list of all is divided into periods, because one partition would take the writes of everything for ever.

use super::items::{self, BODY};
use super::table::{AlertsTable, cut, cut_page, keep};
use crate::database::{Item, Wanted, key, n, s};
use crate::keys::{AlertKey, EXPIRES_AT, HistoryList};
use std::collections::BTreeMap;
use tidemark_model::{DAY_MS, Period, Timestamp};
use tidemark_rules::history::{HistoryEntry, HistoryFilter};
use tidemark_rules::store::{Page, PageRequest};
use tidemark_tsdb::StoreError;

/// How long an entry is kept: a year, and a day.
const KEPT_MS: i64 = 366 * DAY_MS;

/// How far the clocks of two functions may be apart: what happened in the clock's future is listed as well.
const AHEAD_MS: i64 = DAY_MS;

/// The most bytes of a partition key.
const MAX_PARTITION_BYTES: usize = 2_048;

/// See [`tidemark_rules::AlertStore::append_history`].
pub(super) async fn append(table: &AlertsTable, entries: &[HistoryEntry]) -> Result<(), StoreError> {
    // One call may not name a key twice.
    let mut distinct = BTreeMap::new();
    for entry in entries {
        distinct.insert((entry.at, entry.id.as_str()), entry);
    }
    let mut items = Vec::with_capacity(distinct.len() * 3);
    for entry in distinct.into_values() {
        let body = items::body(entry)?;
        let expires_at = entry.at.0.saturating_add(KEPT_MS).div_euclid(1_000);
        let lists = [
            HistoryList::Period(Period::of(entry.at.0)),
            HistoryList::Rule(entry.rule_id.clone()),
            HistoryList::Alert(entry.fingerprint.clone()),
        ];
        for list in lists {
            let place = AlertKey::History {
                list,
                at: entry.at,
                id: entry.id.clone(),
            };
            let mut item = key(place.pk(), place.sk());
            item.insert(BODY.to_owned(), s(&body));
            item.insert(EXPIRES_AT.to_owned(), n(expires_at));
            items.push(item);
        }
    }
    table.database.put_all(&table.name, items).await
}

/// See [`tidemark_rules::AlertStore::list_history`].
pub(super) async fn list(
    table: &AlertsTable,
    filter: &HistoryFilter,
    now: Timestamp,
    page: &PageRequest,
) -> Result<Page<HistoryEntry>, StoreError> {
    let limit = page.limit.max(1);
    // What has expired may be deleted or not: it is not listed either way.
    let oldest = Timestamp(now.0.saturating_sub(KEPT_MS));
    let from = filter.start.map_or(oldest, |start| start.max(oldest));
    let newest = Timestamp(now.0.saturating_add(AHEAD_MS));
    let to = filter.end.map_or(newest, |end| end.min(newest));
    let low = AlertKey::history_from(from);
    let high = AlertKey::history_to(to);
    let high = page
        .after
        .as_deref()
        .map_or(high.as_str(), |after| cut(after).min(&high));
    let nothing = Page {
        items: Vec::new(),
        next: None,
    };
    if high < low.as_str() {
        return Ok(nothing);
    }
    let lists = lists(filter, from, AlertKey::history_time(high).map_or(to, |at| at.min(to)));
    // Nothing can be stored under a name that is longer than a key may be; DynamoDB would answer with an error.
    if lists.iter().any(|list| list.partition().len() > MAX_PARTITION_BYTES) {
        return Ok(nothing);
    }
    let mut found: Vec<Item> = Vec::new();
    for list in lists {
        if found.len() > limit {
            break;
        }
        let wanted = Wanted {
            sort: Some((
                "#sk BETWEEN :low AND :high",
                vec![(":low", s(&low)), (":high", s(high))],
            )),
            // One more than wanted tells whether there is a next page; another, because `high` itself may be `after`.
            at_least: Some(limit + 2 - found.len()),
            backwards: true,
            ..Wanted::all_of(s(list.partition()))
        };
        let older = keep(table.query(wanted).await?, |sk| {
            page.after.as_deref().is_none_or(|after| sk < after)
        })?;
        found.extend(older);
    }
    let next = cut_page(&mut found, limit)?;
    let mut items = found.iter().map(items::read_body).collect::<Result<Vec<_>, _>>()?;
    // An alert belongs to one rule: who names both and another rule gets nothing.
    items.retain(|entry| filter.matches(entry));
    Ok(Page { items, next })
}

/// The partitions that hold what is asked for, the newest first.
fn lists(filter: &HistoryFilter, from: Timestamp, to: Timestamp) -> Vec<HistoryList> {
    match (&filter.fingerprint, &filter.rule_id) {
        (Some(fingerprint), _) => vec![HistoryList::Alert(fingerprint.clone())],
        (None, Some(rule)) => vec![HistoryList::Rule(rule.clone())],
        (None, None) => {
            let mut periods: Vec<HistoryList> = Period::covering(from.0, to.0).map(HistoryList::Period).collect();
            periods.reverse();
            periods
        }
    }
}
