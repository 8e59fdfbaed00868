//! [`DocumentStore`] and [`LaneStore`] on the table of alerting.
//!
//! | item | key | attributes |
//! |---|---|---|
//! | channel, silence, inhibition, mute time | its kind / id | `body` (the document's JSON), `version`, `write_id`, `expires_at` when the store may forget it |
//! | lane | `lanes` / lane | `wake_at`, `leased_until`, `not_before`, `tokens_at` (ms), `holder`, `tokens`, `write_id`, `expires_at` |
//! | group | `lane#<lane>` / `g#<group id>` | `body` (JSON), `version`, `write_id` |
//! | member | `lane#<lane>` / `m#<incident>` | `event` (JSON), `kind`, `beat` (ms), `enlisted_at` (ms), `mark` (JSON) |
//! | settled incident | `settled#<incident>` / lane | `body` (JSON), `expires_at` |
//!
//! An item that has expired and is not deleted yet is read like any other: a silence that is over says so itself, and an entry of the log can
//! only keep a page from being sent a second time.

mod items;

use crate::alerts::items::{BODY, VERSION, body, read_body};
use crate::alerts::table::{AlertsTable, WRITE_ID, is_key, is_mine, saved, write_id};
use crate::database::{Attributes, Consumed, Filter, Item, Wanted, key, n, refused, s};
use crate::keys::{AlertKey, EXPIRES_AT, PK, SK};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, TransactWriteItem, Update};
use items::{
    BEAT, ENLISTED_AT, EVENT, HOLDER, KIND, LEASED_UNTIL, MARK, NOT_BEFORE, TOKENS, TOKENS_AT, WAKE_AT, seconds,
};
use tidemark_model::{DAY_MS, Timestamp};
use tidemark_notify::settings::Document;
use tidemark_notify::store::{DocumentStore, Enlisted, Group, Lane, LaneContent, LaneStore, Leased, Mark, Settled};
use tidemark_rules::store::{Page, PageRequest, Saved};
use tidemark_rules::{TransitionEvent, TransitionKind};
use tidemark_tsdb::StoreError;

const TRANSACTION: &str = "TransactWriteItems";

/// How long a settled incident stays in the log: longer than any message lives.
const SETTLED_KEPT_MS: i64 = 30 * DAY_MS;

/// How long a lane is kept in which nothing happens any more: nothing is lost with it but how full its bucket of tokens was.
const LANE_KEPT_MS: i64 = 90 * DAY_MS;

/// Documents and lanes on DynamoDB. Share one per process.
#[derive(Debug)]
pub struct DynamoNotifyStore {
    table: AlertsTable,
}

impl DynamoNotifyStore {
    /// A store on a table.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self::with(client, table, Pace::real())
    }

    /// A store that waits in another way.
    #[must_use]
    pub fn with(client: Client, table: impl Into<String>, pace: Pace) -> Self {
        Self {
            table: AlertsTable::new(client, table.into(), pace),
        }
    }

    /// What DynamoDB charged for the calls of this store.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.table.database.consumed
    }

    /// An update of a lane's head that says when somebody comes.
    fn update_head(&self, lane: &str) -> UpdateItemFluentBuilder {
        self.table
            .update(&AlertKey::Lane { lane: lane.to_owned() })
            .expression_attribute_names("#wake_at", WAKE_AT)
    }

    /// Takes an event into its member. The condition is not met when the member stays as it is.
    fn put_event(&self, lane: &str, event: &TransitionEvent, now: Timestamp) -> Result<TransactWriteItem, StoreError> {
        let place = AlertKey::Member {
            lane: lane.to_owned(),
            incident: event.incident_id(),
        };
        let mut set = "SET #event = :event, #kind = :kind, #enlisted_at = if_not_exists(#enlisted_at, :now), \
                       #mark = if_not_exists(#mark, :unmarked)"
            .to_owned();
        // As `Member::is_replaced_by` says.
        let condition = match (event.kind, event.beat) {
            (TransitionKind::Resolved, _) => "attribute_not_exists(#pk) OR #kind <> :kind",
            (_, Some(_)) => {
                "attribute_not_exists(#pk) OR (#kind = :kind AND (attribute_not_exists(#beat) OR #beat < :beat))"
            }
            (_, None) => "attribute_not_exists(#pk)",
        };
        let mut update = Update::builder()
            .table_name(&self.table.name)
            .set_key(Some(key(place.pk(), place.sk())))
            .condition_expression(condition)
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#event", EVENT)
            .expression_attribute_names("#kind", KIND)
            .expression_attribute_names("#enlisted_at", ENLISTED_AT)
            .expression_attribute_names("#mark", MARK)
            .expression_attribute_values(":event", s(body(event)?))
            .expression_attribute_values(":kind", s(event.kind.as_str()))
            .expression_attribute_values(":now", n(now.0))
            .expression_attribute_values(":unmarked", s(body(&Mark::default())?));
        if let (TransitionKind::Firing, Some(beat)) = (event.kind, event.beat) {
            set.push_str(", #beat = :beat");
            update = update
                .expression_attribute_names("#beat", BEAT)
                .expression_attribute_values(":beat", n(beat.0));
        }
        let update = update
            .update_expression(set)
            .build()
            .map_err(|error| refused(TRANSACTION, error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

impl DocumentStore for DynamoNotifyStore {
    async fn get<T: Document>(&self, id: &str) -> Result<Option<T>, StoreError> {
        if !is_key(id) {
            return Ok(None);
        }
        let item = self.table.find(&document::<T>(id)).await?;
        item.as_ref().map(read_body).transpose()
    }

    async fn list<T: Document>(&self, page: &PageRequest) -> Result<Page<T>, StoreError> {
        self.table.page(document::<T>("").pk(), "", None, page, read_body).await
    }

    async fn load<T: Document>(&self) -> Result<Vec<T>, StoreError> {
        self.table.all(document::<T>("").pk(), read_body).await
    }

    async fn put<T: Document>(&self, stored: &T, expected: Option<u64>) -> Result<Saved, StoreError> {
        let mut values = vec![(BODY, s(body(stored)?)), (VERSION, n(stored.version()))];
        if let Some(at) = stored.expires_at() {
            values.push((EXPIRES_AT, n(seconds(at))));
        }
        let place = document::<T>(stored.id());
        self.table.save("UpdateItem (document)", &place, values, expected).await
    }

    async fn delete<T: Document>(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        if !is_key(id) {
            return Ok(Saved::Conflict);
        }
        self.table.remove(&document::<T>(id), expected).await
    }
}

/// The key of a document.
fn document<T: Document>(id: &str) -> AlertKey {
    AlertKey::Document {
        kind: T::KIND,
        id: id.to_owned(),
    }
}

impl LaneStore for DynamoNotifyStore {
    async fn enlist(&self, lane: &str, event: &TransitionEvent, now: Timestamp) -> Result<Enlisted, StoreError> {
        let log = AlertKey::Settled {
            incident: event.incident_id(),
            lane: lane.to_owned(),
        };
        let unsettled = ConditionCheck::builder()
            .table_name(&self.table.name)
            .set_key(Some(key(log.pk(), log.sk())))
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .build()
            .map_err(|error| refused(TRANSACTION, error))?;
        let writes = vec![
            TransactWriteItem::builder().condition_check(unsettled).build(),
            self.put_event(lane, event, now)?,
        ];
        let unmet = self.table.transact(writes).await?;
        Ok(if unmet.contains(&0) {
            Enlisted::Settled
        } else {
            // The second condition is not met when the event brings nothing new.
            Enlisted::InLane
        })
    }

    async fn lane(&self, lane: &str) -> Result<Option<Lane>, StoreError> {
        let item = self.table.find(&AlertKey::Lane { lane: lane.to_owned() }).await?;
        item.as_ref().map(items::read_lane).transpose()
    }

    async fn wake_by(&self, lane: &str, at: Timestamp) -> Result<(), StoreError> {
        let call = self
            .update_head(lane)
            .update_expression("SET #wake_at = :at, #expires_at = :expires_at")
            .condition_expression("attribute_not_exists(#wake_at) OR :at < #wake_at")
            .expression_attribute_names("#expires_at", EXPIRES_AT)
            .expression_attribute_values(":at", n(at.0))
            .expression_attribute_values(":expires_at", n(lane_expires(at)));
        // A condition that is not met: somebody comes earlier.
        self.table.written("UpdateItem (wake)", call).await.map(drop)
    }

    async fn lease(&self, lane: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<Leased, StoreError> {
        let id = write_id();
        let call = self
            .update_head(lane)
            .update_expression(
                "SET #leased_until = :until, #wake_at = :until, #holder = :holder, #write_id = :write_id, #expires_at = :expires_at",
            )
            .condition_expression("attribute_not_exists(#leased_until) OR #leased_until <= :now")
            .expression_attribute_names("#leased_until", LEASED_UNTIL)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#write_id", WRITE_ID)
            .expression_attribute_names("#expires_at", EXPIRES_AT)
            .expression_attribute_values(":until", n(until.0))
            .expression_attribute_values(":now", n(now.0))
            .expression_attribute_values(":holder", s(holder))
            .expression_attribute_values(":write_id", s(&id))
            .expression_attribute_values(":expires_at", n(lane_expires(until)));
        let written = self.table.written("UpdateItem (lease)", call).await?;
        if is_mine(&written, &id)? {
            return Ok(Leased::Taken);
        }
        let until = match written.stands() {
            Some(stands) => Attributes(stands).optional_number(LEASED_UNTIL)?.map(Timestamp),
            None => None,
        };
        // It was released between the check and its report; the next try takes it.
        Ok(Leased::Held {
            until: until.unwrap_or(now),
        })
    }

    async fn content(&self, lane: &str) -> Result<Option<LaneContent>, StoreError> {
        let partition = Wanted::all_of(s(AlertKey::lane_partition(lane)));
        let (head, found) = futures::try_join!(self.lane(lane), self.table.query(partition))?;
        if head.is_none() && found.is_empty() {
            return Ok(None);
        }
        let mut content = LaneContent {
            lane: head.unwrap_or_else(|| Lane::new(lane)),
            groups: Vec::new(),
            members: Vec::new(),
        };
        // In the order of their keys: the groups by their ids, then the members by their incidents.
        for item in &found {
            match place_of(item)? {
                AlertKey::Group { .. } => content.groups.push(read_body::<Group>(item)?),
                AlertKey::Member { incident, .. } => content.members.push(items::read_member(item, incident)?),
                _ => return Err(Attributes(item).corrupt("it is neither group nor member")),
            }
        }
        Ok(Some(content))
    }

    async fn release(&self, holder: &str, head: &Lane) -> Result<Saved, StoreError> {
        let id = write_id();
        let mut set = vec!["#tokens = :tokens".to_owned(), "#write_id = :write_id".to_owned()];
        let mut remove = vec!["#leased_until".to_owned(), "#holder".to_owned()];
        let mut call = self
            .update_head(&head.id)
            .condition_expression("#holder = :holder")
            .expression_attribute_names("#tokens", TOKENS)
            .expression_attribute_names("#write_id", WRITE_ID)
            .expression_attribute_names("#leased_until", LEASED_UNTIL)
            .expression_attribute_names("#holder", HOLDER)
            .expression_attribute_names("#not_before", NOT_BEFORE)
            .expression_attribute_names("#tokens_at", TOKENS_AT)
            .expression_attribute_values(":tokens", items::tokens(head.tokens))
            .expression_attribute_values(":write_id", s(&id))
            .expression_attribute_values(":holder", s(holder));
        let times = [
            (WAKE_AT, head.wake_at),
            (NOT_BEFORE, head.not_before),
            (TOKENS_AT, head.tokens_at),
        ];
        for (name, time) in times {
            match time {
                Some(at) => {
                    set.push(format!("#{name} = :{name}"));
                    call = call.expression_attribute_values(format!(":{name}"), n(at.0));
                }
                None => remove.push(format!("#{name}")),
            }
        }
        // A lane that waits is kept until long after that; else as long as its lease said.
        if let Some(at) = head.wake_at {
            set.push("#expires_at = :expires_at".to_owned());
            call = call
                .expression_attribute_names("#expires_at", EXPIRES_AT)
                .expression_attribute_values(":expires_at", n(lane_expires(at)));
        }
        let call = call.update_expression(format!("SET {} REMOVE {}", set.join(", "), remove.join(", ")));
        let written = self.table.written("UpdateItem (release)", call).await?;
        Ok(saved(is_mine(&written, &id)?))
    }

    async fn save_group(&self, lane: &str, group: &Group, expected: Option<u64>) -> Result<Saved, StoreError> {
        let place = AlertKey::Group {
            lane: lane.to_owned(),
            id: group.id.clone(),
        };
        let values = vec![(BODY, s(body(group)?)), (VERSION, n(group.version))];
        self.table.save("UpdateItem (group)", &place, values, expected).await
    }

    async fn remove_group(&self, lane: &str, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let place = AlertKey::Group {
            lane: lane.to_owned(),
            id: id.to_owned(),
        };
        self.table.remove(&place, expected).await
    }

    async fn mark(&self, lane: &str, incident: &str, mark: &Mark) -> Result<(), StoreError> {
        let place = AlertKey::Member {
            lane: lane.to_owned(),
            incident: incident.to_owned(),
        };
        let call = self
            .table
            .update(&place)
            .update_expression("SET #mark = :mark")
            .condition_expression("attribute_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#mark", MARK)
            .expression_attribute_values(":mark", s(body(mark)?));
        // A condition that is not met: there is no such member any more.
        self.table.written("UpdateItem (mark)", call).await.map(drop)
    }

    async fn settle(&self, lane: &str, incident: &str, settled: &Settled, now: Timestamp) -> Result<(), StoreError> {
        let log = AlertKey::Settled {
            incident: incident.to_owned(),
            lane: lane.to_owned(),
        };
        let member = AlertKey::Member {
            lane: lane.to_owned(),
            incident: incident.to_owned(),
        };
        let mut entry = key(log.pk(), log.sk());
        entry.insert(BODY.to_owned(), s(body(settled)?));
        let expires_at = seconds(Timestamp(now.0.saturating_add(SETTLED_KEPT_MS)));
        entry.insert(EXPIRES_AT.to_owned(), n(expires_at));
        let put = Put::builder()
            .table_name(&self.table.name)
            .set_item(Some(entry))
            .build()
            .map_err(|error| refused(TRANSACTION, error))?;
        let delete = Delete::builder()
            .table_name(&self.table.name)
            .set_key(Some(key(member.pk(), member.sk())))
            .build()
            .map_err(|error| refused(TRANSACTION, error))?;
        let writes = vec![
            TransactWriteItem::builder().put(put).build(),
            TransactWriteItem::builder().delete(delete).build(),
        ];
        self.table.transact(writes).await.map(drop)
    }

    async fn settled(&self, lane: &str, incident: &str) -> Result<Option<Settled>, StoreError> {
        let log = AlertKey::Settled {
            incident: incident.to_owned(),
            lane: lane.to_owned(),
        };
        let item = self.table.find(&log).await?;
        item.as_ref().map(read_body).transpose()
    }

    async fn overdue(&self, before: Timestamp) -> Result<Vec<String>, StoreError> {
        let wanted = Wanted {
            filter: Some(Filter {
                expression: "#wake_at < :before".to_owned(),
                names: vec![("#wake_at", WAKE_AT)],
                values: vec![(":before".to_owned(), n(before.0))],
            }),
            ..Wanted::all_of(s(AlertKey::lanes_partition()))
        };
        let found = self.table.query(wanted).await?;
        found
            .iter()
            .map(|item| Ok(Attributes(item).text(SK)?.to_owned()))
            .collect()
    }
}

/// When a lane may be deleted of which nobody hears after a time, in seconds.
fn lane_expires(after: Timestamp) -> i64 {
    seconds(Timestamp(after.0.saturating_add(LANE_KEPT_MS)))
}

/// The key of an item that was read.
fn place_of(item: &Item) -> Result<AlertKey, StoreError> {
    let attributes = Attributes(item);
    AlertKey::parse(attributes.text(PK)?, attributes.text(SK)?).map_err(|error| attributes.corrupt(error.to_string()))
}

#[cfg(test)]
mod tests;
