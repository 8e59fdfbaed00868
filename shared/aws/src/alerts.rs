//! [`AlertStore`] on one DynamoDB table.
//!
//! | item | key | attributes |
//! |---|---|---|
//! | rule | `rules` / rule id | `body` (the rule's JSON), `version` |
//! | name of a rule | `rule-names` / name | `rule_id` |
//! | instance | `instances` / instance id | `body` (its JSON without what follows), `version`, `state`, `unsent` (JSON), `notifications_sent`, `last_notification_at` (ms) |
//! | notification | `notified#<transition id>` / channel | `state`, `lease_until` (ms), `attempts`, `reason`, `updated_at` (ms), `expires_at` |
//!
//! What is written apart stands in attributes of its own: a delivery counts and an evaluation saves without a conflict.
//!
//! A conditional write whose answer is lost is asked again by the SDK and meets its own first write: a save then answers
//! `Conflict`, and the next tick goes on from what is stored; a lease is waited out. Rules are written with a client token
//! that DynamoDB remembers.

mod items;
mod log;

use crate::database::{Attributes, Consumed, Database, Filter, Item, Wanted, Written, key, n, s};
use crate::keys::{AlertKey, MAX_SORT_KEY_BYTES, PK, SK};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use items::{BODY, LAST_NOTIFICATION_AT, NOTIFICATIONS_SENT, RULE_ID, STATE, UNSENT, VERSION};
use tidemark_model::Timestamp;
use tidemark_rules::store::{
    AlertStore, AttemptKey, Begun, Finished, InstanceFilter, LogEntry, Page, PageRequest, RuleCreated, RuleReplaced,
    Saved,
};
use tidemark_rules::{Instance, Rule};
use tidemark_tsdb::StoreError;

/// Sorts after every id that begins with what stands before it: no id holds the last code point of Unicode.
const AFTER_ALL: char = char::MAX;

/// The alert store on DynamoDB. Share one per process.
#[derive(Debug)]
pub struct DynamoAlertStore {
    database: Database,
    table: String,
}

impl DynamoAlertStore {
    /// A store on a table.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>) -> Self {
        Self::with(client, table, Pace::real())
    }

    /// A store that waits in another way.
    #[must_use]
    pub fn with(client: Client, table: impl Into<String>, pace: Pace) -> Self {
        Self {
            database: Database::new(client, pace),
            table: table.into(),
        }
    }

    /// What DynamoDB charged for the calls of this store.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.database.consumed
    }

    async fn find(&self, place: &AlertKey) -> Result<Option<Item>, StoreError> {
        self.database.get(&self.table, key(place.pk(), place.sk())).await
    }

    /// A page of a partition's items whose sort keys begin with `prefix`.
    async fn page<T>(
        &self,
        pk: String,
        prefix: &str,
        filter: Option<Filter>,
        page: &PageRequest,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let limit = page.limit.max(1);
        let after = page.after.as_deref().unwrap_or_default();
        let low = after.max(prefix);
        // Longer than any key: what is cut off can only be read twice, and is left out below.
        let low = &low[..low.floor_char_boundary(MAX_SORT_KEY_BYTES)];
        let high = format!(
            "{}{AFTER_ALL}",
            &prefix[..prefix.floor_char_boundary(MAX_SORT_KEY_BYTES - 4)]
        );
        if low > high.as_str() {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
        let sort = if prefix.is_empty() {
            // An empty value is no key.
            (!low.is_empty()).then(|| ("#sk >= :low", vec![(":low", s(low))]))
        } else {
            Some(("#sk BETWEEN :low AND :high", vec![(":low", s(low)), (":high", s(high))]))
        };
        // One more than wanted tells whether there is a next page; another, because `low` itself may be `after`.
        let wanted = Wanted {
            pk: s(pk),
            sort,
            filter,
            at_least: Some(limit + 2),
        };
        let mut found = self.database.query(&self.table, wanted).await?;
        let mut problem = None;
        found.retain(|item| match Attributes(item).text(SK) {
            Ok(sk) => page.after.as_deref().is_none_or(|after| sk > after),
            Err(error) => {
                problem = Some(error);
                false
            }
        });
        if let Some(problem) = problem {
            return Err(problem);
        }
        let more = found.len() > limit;
        found.truncate(limit);
        let next = match found.last() {
            Some(last) if more => Some(Attributes(last).text(SK)?.to_owned()),
            _ => None,
        };
        Ok(Page {
            items: found.iter().map(read).collect::<Result<_, _>>()?,
            next,
        })
    }

    async fn all<T>(&self, pk: String, read: impl Fn(&Item) -> Result<T, StoreError>) -> Result<Vec<T>, StoreError> {
        let found = self.database.query(&self.table, Wanted::all_of(s(pk))).await?;
        found.iter().map(read).collect()
    }

    /// Puts a rule, if the stored version is this one (`None`: if there is none).
    fn put_rule(&self, rule: &Rule, expected: Option<u64>) -> Result<TransactWriteItem, StoreError> {
        let mut put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(items::rule_item(rule)?));
        put = match expected {
            None => put
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(version) => put
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":version", n(version)),
        };
        let put = put
            .build()
            .map_err(|error| crate::database::refused("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Takes a name for a rule, if it is free or the rule's already.
    fn put_name(&self, rule: &Rule) -> Result<TransactWriteItem, StoreError> {
        let put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(items::name_item(rule)))
            .condition_expression("attribute_not_exists(#pk) OR #rule_id = :rule_id")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#rule_id", RULE_ID)
            .expression_attribute_values(":rule_id", s(&rule.id))
            .build()
            .map_err(|error| crate::database::refused("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Deletes an item on a condition: `(expression, attribute's placeholder, attribute, value's placeholder, value)`.
    fn delete(
        &self,
        place: &AlertKey,
        (expression, name, attribute, placeholder, value): (&str, &str, &str, &str, AttributeValue),
    ) -> Result<TransactWriteItem, StoreError> {
        let mut delete = Delete::builder()
            .table_name(&self.table)
            .set_key(Some(key(place.pk(), place.sk())))
            .condition_expression(expression)
            .expression_attribute_names(name, attribute)
            .expression_attribute_values(placeholder, value);
        if expression.contains("#pk") {
            delete = delete.expression_attribute_names("#pk", PK);
        }
        let delete = delete
            .build()
            .map_err(|error| crate::database::refused("TransactWriteItems", error))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// Frees the name of a rule, if it is the rule's.
    fn delete_name(&self, rule: &Rule) -> Result<TransactWriteItem, StoreError> {
        let place = AlertKey::RuleName {
            name: rule.spec.name.clone(),
        };
        self.delete(
            &place,
            (
                "attribute_not_exists(#pk) OR #rule_id = :rule_id",
                "#rule_id",
                RULE_ID,
                ":rule_id",
                s(&rule.id),
            ),
        )
    }
}

impl AlertStore for DynamoAlertStore {
    async fn create_rule(&self, rule: &Rule) -> Result<RuleCreated, StoreError> {
        let writes = vec![self.put_rule(rule, None)?, self.put_name(rule)?];
        let unmet = self.database.transact(&self.table, writes).await?;
        Ok(match unmet.first() {
            None => RuleCreated::Created,
            Some(0) => RuleCreated::IdTaken,
            Some(_) => RuleCreated::NameTaken,
        })
    }

    async fn get_rule(&self, id: &str) -> Result<Option<Rule>, StoreError> {
        if !is_key(id) {
            return Ok(None);
        }
        let item = self.find(&AlertKey::Rule { id: id.to_owned() }).await?;
        item.as_ref().map(items::read_rule).transpose()
    }

    async fn list_rules(&self, page: &PageRequest) -> Result<Page<Rule>, StoreError> {
        self.page(AlertKey::rules_partition(), "", None, page, items::read_rule)
            .await
    }

    async fn load_rules(&self) -> Result<Vec<Rule>, StoreError> {
        self.all(AlertKey::rules_partition(), items::read_rule).await
    }

    async fn replace_rule(&self, previous: &Rule, next: &Rule) -> Result<RuleReplaced, StoreError> {
        let mut writes = vec![self.put_rule(next, Some(previous.version))?];
        if previous.spec.name != next.spec.name {
            writes.push(self.put_name(next)?);
            writes.push(self.delete_name(previous)?);
        }
        let unmet = self.database.transact(&self.table, writes).await?;
        Ok(match unmet.first() {
            None => RuleReplaced::Replaced,
            Some(1) => RuleReplaced::NameTaken,
            Some(_) => RuleReplaced::Conflict,
        })
    }

    async fn delete_rule(&self, rule: &Rule) -> Result<Saved, StoreError> {
        let place = AlertKey::Rule { id: rule.id.clone() };
        let condition = ("#version = :version", "#version", VERSION, ":version", n(rule.version));
        let writes = vec![self.delete(&place, condition)?, self.delete_name(rule)?];
        let unmet = self.database.transact(&self.table, writes).await?;
        Ok(saved(unmet.is_empty()))
    }

    async fn count_rules(&self) -> Result<u64, StoreError> {
        // The names are as many as the rules, and smaller.
        self.database
            .count(&self.table, AlertKey::rule_names_partition(), None)
            .await
    }

    async fn count_instances(&self) -> Result<u64, StoreError> {
        self.database
            .count(&self.table, AlertKey::instances_partition(), None)
            .await
    }

    async fn count_active_instances(&self) -> Result<u64, StoreError> {
        let filter = items::state_filter(&InstanceFilter::active());
        self.database
            .count(&self.table, AlertKey::instances_partition(), filter)
            .await
    }

    async fn load_instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.all(AlertKey::instances_partition(), items::read_instance).await
    }

    async fn list_instances(&self, filter: &InstanceFilter, page: &PageRequest) -> Result<Page<Instance>, StoreError> {
        let prefix = filter
            .rule_id
            .as_deref()
            .map(AlertKey::instances_of)
            .unwrap_or_default();
        let states = items::state_filter(filter);
        self.page(
            AlertKey::instances_partition(),
            &prefix,
            states,
            page,
            items::read_instance,
        )
        .await
    }

    async fn get_instance(&self, id: &str) -> Result<Option<Instance>, StoreError> {
        if !is_key(id) {
            return Ok(None);
        }
        let item = self.find(&AlertKey::Instance { id: id.to_owned() }).await?;
        item.as_ref().map(items::read_instance).transpose()
    }

    async fn save_instance(&self, instance: &Instance, expected: Option<u64>) -> Result<Saved, StoreError> {
        let body = items::instance_body(instance)?;
        let unsent = items::unsent_text(instance)?;
        let place = AlertKey::Instance {
            id: instance.id.clone(),
        };
        let mut call = self
            .database
            .update(&self.table, key(place.pk(), place.sk()))
            .update_expression("SET #body = :body, #version = :version, #state = :state, #unsent = :unsent")
            .expression_attribute_names("#body", BODY)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_names("#state", STATE)
            .expression_attribute_names("#unsent", UNSENT)
            .expression_attribute_values(":body", s(&body))
            .expression_attribute_values(":version", n(instance.version))
            .expression_attribute_values(":state", s(instance.state.as_str()))
            .expression_attribute_values(":unsent", s(&unsent));
        call = match expected {
            None => call
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(expected) => call
                .condition_expression("#version = :expected")
                .expression_attribute_values(":expected", n(expected)),
        };
        let written = self
            .database
            .written("UpdateItem (instance)", &self.table, call)
            .await?;
        Ok(saved(matches!(written, Written::Done(_))))
    }

    async fn remove_instance(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let place = AlertKey::Instance { id: id.to_owned() };
        let done = self
            .database
            .delete_if(&self.table, key(place.pk(), place.sk()), (VERSION, n(expected)))
            .await?;
        Ok(saved(done))
    }

    async fn clear_unsent(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let place = AlertKey::Instance { id: id.to_owned() };
        let call = self
            .database
            .update(&self.table, key(place.pk(), place.sk()))
            .update_expression("SET #unsent = :none")
            .condition_expression("#version = :expected")
            .expression_attribute_names("#unsent", UNSENT)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":none", s(items::NOTHING_UNSENT))
            .expression_attribute_values(":expected", n(expected));
        let written = self.database.written("UpdateItem (outbox)", &self.table, call).await?;
        Ok(saved(matches!(written, Written::Done(_))))
    }

    async fn record_notification(&self, instance_id: &str, at: Timestamp) -> Result<(), StoreError> {
        const OPERATION: &str = "UpdateItem (notifications)";
        let place = AlertKey::Instance {
            id: instance_id.to_owned(),
        };
        let call = || {
            self.database
                .update(&self.table, key(place.pk(), place.sk()))
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#sent", NOTIFICATIONS_SENT)
                .expression_attribute_values(":one", n(1))
        };
        let forward = call()
            .update_expression("ADD #sent :one SET #last = :at")
            .condition_expression("attribute_exists(#pk) AND (attribute_not_exists(#last) OR #last < :at)")
            .expression_attribute_names("#last", LAST_NOTIFICATION_AT)
            .expression_attribute_values(":at", n(at.0));
        match self.database.written(OPERATION, &self.table, forward).await? {
            Written::Done(_) | Written::Unmet(None) => Ok(()),
            // A later one was counted before: only the number changes.
            Written::Unmet(Some(_)) => {
                let count = call()
                    .update_expression("ADD #sent :one")
                    .condition_expression("attribute_exists(#pk)");
                self.database.written(OPERATION, &self.table, count).await.map(drop)
            }
        }
    }

    async fn begin_attempt(
        &self,
        key: &AttemptKey,
        now: Timestamp,
        lease_until: Timestamp,
    ) -> Result<Begun, StoreError> {
        log::begin(&self.database, &self.table, key, now, lease_until).await
    }

    async fn finish_attempt(&self, key: &AttemptKey, outcome: &Finished, now: Timestamp) -> Result<(), StoreError> {
        log::finish(&self.database, &self.table, key, outcome, now).await
    }

    async fn log_entry(&self, key: &AttemptKey) -> Result<Option<LogEntry>, StoreError> {
        let item = self.find(&AlertKey::Notified(key.clone())).await?;
        item.as_ref().map(log::read).transpose()
    }
}

/// Whether a text that a user gave can be a sort key at all; DynamoDB refuses others with an error.
fn is_key(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_SORT_KEY_BYTES
}

fn saved(done: bool) -> Saved {
    if done { Saved::Saved } else { Saved::Conflict }
}

#[cfg(test)]
mod tests;
