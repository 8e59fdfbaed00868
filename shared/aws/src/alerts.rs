//! [`AlertStore`] on one DynamoDB table.
//!
//! | item | key | attributes |
//! |---|---|---|
//! | rule | `rules` / rule id | `body` (the rule's JSON), `version` |
//! | name of a rule | `rule-names` / name | `rule_id` |
//! | instance | `instances` / instance id | `body` (its JSON without what follows), `version`, `state`, `unsent` (JSON), `notifications_sent`, `last_notification_at` (ms), `write_id` |
//! | history | `history#<period>`, `history-rule#<rule id>` and `history-alert#<fingerprint>` / time and id | `body` (the entry's JSON), `expires_at` |
//! | shard of the evaluation | `ticks` / shard | `body` (JSON), `at` (ms) |
//!
//! What is written apart stands in attributes of its own: a delivery counts and an evaluation saves without a conflict. The table's
//! other items are those of [`crate::DynamoNotifyStore`].
//!
//! A conditional write whose answer is lost is asked again by the SDK and meets its own first write. A save knows it by its `write_id`; rules
//! are written with a client token that DynamoDB remembers; a removal answers `Conflict`, and the next tick goes on from what is stored.

mod history;
pub(crate) mod items;
pub(crate) mod table;

use crate::database::{Consumed, Written, key, n, s};
use crate::keys::{AlertKey, PK};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, Delete, Put, TransactWriteItem};
use items::{AT, BODY, LAST_NOTIFICATION_AT, NOTIFICATIONS_SENT, RULE_ID, STATE, UNSENT, VERSION};
use table::{AlertsTable, is_key, saved};
use tidemark_model::Timestamp;
use tidemark_rules::history::{HistoryEntry, HistoryFilter};
use tidemark_rules::store::{
    AlertStore, InstanceFilter, Page, PageRequest, RuleCreated, RuleReplaced, Saved, TickState,
};
use tidemark_rules::{Instance, Rule};
use tidemark_tsdb::StoreError;

/// The alert store on DynamoDB. Share one per process.
#[derive(Debug)]
pub struct DynamoAlertStore {
    table: AlertsTable,
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
            table: AlertsTable::new(client, table.into(), pace),
        }
    }

    /// What DynamoDB charged for the calls of this store.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.table.database.consumed
    }

    /// Puts a rule, if the stored version is this one (`None`: if there is none).
    fn put_rule(&self, rule: &Rule, expected: Option<u64>) -> Result<TransactWriteItem, StoreError> {
        let mut put = Put::builder()
            .table_name(&self.table.name)
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
            .table_name(&self.table.name)
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
            .table_name(&self.table.name)
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
        let unmet = self.table.transact(writes).await?;
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
        let item = self.table.find(&AlertKey::Rule { id: id.to_owned() }).await?;
        item.as_ref().map(items::read_rule).transpose()
    }

    async fn list_rules(&self, page: &PageRequest) -> Result<Page<Rule>, StoreError> {
        self.table
            .page(AlertKey::rules_partition(), "", None, page, items::read_rule)
            .await
    }

    async fn load_rules(&self) -> Result<Vec<Rule>, StoreError> {
        self.table.all(AlertKey::rules_partition(), items::read_rule).await
    }

    async fn replace_rule(&self, previous: &Rule, next: &Rule) -> Result<RuleReplaced, StoreError> {
        let mut writes = vec![self.put_rule(next, Some(previous.version))?];
        if previous.spec.name != next.spec.name {
            writes.push(self.put_name(next)?);
            writes.push(self.delete_name(previous)?);
        }
        let unmet = self.table.transact(writes).await?;
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
        let unmet = self.table.transact(writes).await?;
        Ok(saved(unmet.is_empty()))
    }

    async fn count_rules(&self) -> Result<u64, StoreError> {
        // The names are as many as the rules, and smaller.
        self.table.count(AlertKey::rule_names_partition(), None).await
    }

    async fn count_instances(&self) -> Result<u64, StoreError> {
        self.table.count(AlertKey::instances_partition(), None).await
    }

    async fn count_active_instances(&self) -> Result<u64, StoreError> {
        let filter = items::state_filter(&InstanceFilter::active());
        self.table.count(AlertKey::instances_partition(), filter).await
    }

    async fn load_instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.table
            .all(AlertKey::instances_partition(), items::read_instance)
            .await
    }

    async fn list_instances(&self, filter: &InstanceFilter, page: &PageRequest) -> Result<Page<Instance>, StoreError> {
        let prefix = filter
            .rule_id
            .as_deref()
            .map(AlertKey::instances_of)
            .unwrap_or_default();
        let states = items::state_filter(filter);
        self.table
            .page(
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
        let item = self.table.find(&AlertKey::Instance { id: id.to_owned() }).await?;
        item.as_ref().map(items::read_instance).transpose()
    }

    async fn save_instance(&self, instance: &Instance, expected: Option<u64>) -> Result<Saved, StoreError> {
        let body = items::instance_body(instance)?;
        let unsent = items::unsent_text(instance)?;
        let place = AlertKey::Instance {
            id: instance.id.clone(),
        };
        let values = vec![
            (BODY, s(&body)),
            (VERSION, n(instance.version)),
            (STATE, s(instance.state.as_str())),
            (UNSENT, s(&unsent)),
        ];
        self.table.save("UpdateItem (instance)", &place, values, expected).await
    }

    async fn remove_instance(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let place = AlertKey::Instance { id: id.to_owned() };
        self.table.remove(&place, expected).await
    }

    async fn clear_unsent(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        let place = AlertKey::Instance { id: id.to_owned() };
        let call = self
            .table
            .update(&place)
            .update_expression("SET #unsent = :none")
            .condition_expression("#version = :expected")
            .expression_attribute_names("#unsent", UNSENT)
            .expression_attribute_names("#version", VERSION)
            .expression_attribute_values(":none", s(items::NOTHING_UNSENT))
            .expression_attribute_values(":expected", n(expected));
        let written = self.table.written("UpdateItem (outbox)", call).await?;
        Ok(saved(matches!(written, Written::Done(_))))
    }

    async fn record_notification(&self, instance_id: &str, at: Timestamp) -> Result<(), StoreError> {
        const OPERATION: &str = "UpdateItem (notifications)";
        let place = AlertKey::Instance {
            id: instance_id.to_owned(),
        };
        let call = || {
            self.table
                .update(&place)
                .expression_attribute_names("#pk", PK)
                .expression_attribute_names("#sent", NOTIFICATIONS_SENT)
                .expression_attribute_values(":one", n(1))
        };
        let forward = call()
            .update_expression("ADD #sent :one SET #last = :at")
            .condition_expression("attribute_exists(#pk) AND (attribute_not_exists(#last) OR #last < :at)")
            .expression_attribute_names("#last", LAST_NOTIFICATION_AT)
            .expression_attribute_values(":at", n(at.0));
        match self.table.written(OPERATION, forward).await? {
            Written::Done(_) | Written::Unmet(None) => Ok(()),
            // A later one was counted before: only the number changes.
            Written::Unmet(Some(_)) => {
                let count = call()
                    .update_expression("ADD #sent :one")
                    .condition_expression("attribute_exists(#pk)");
                self.table.written(OPERATION, count).await.map(drop)
            }
        }
    }

    async fn append_history(&self, entries: &[HistoryEntry]) -> Result<(), StoreError> {
        history::append(&self.table, entries).await
    }

    async fn list_history(
        &self,
        filter: &HistoryFilter,
        now: Timestamp,
        page: &PageRequest,
    ) -> Result<Page<HistoryEntry>, StoreError> {
        history::list(&self.table, filter, now, page).await
    }

    async fn load_tick(&self, shard: u32) -> Result<Option<TickState>, StoreError> {
        let item = self.table.find(&AlertKey::Tick { shard }).await?;
        item.as_ref().map(items::read_body).transpose()
    }

    async fn save_tick(&self, shard: u32, state: &TickState) -> Result<Saved, StoreError> {
        let call = self
            .table
            .update(&AlertKey::Tick { shard })
            .update_expression("SET #body = :body, #at = :at")
            .condition_expression("attribute_not_exists(#pk) OR #at <= :at")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#body", BODY)
            .expression_attribute_names("#at", AT)
            .expression_attribute_values(":body", s(items::body(state)?))
            .expression_attribute_values(":at", n(state.at.0));
        let written = self.table.written("UpdateItem (tick)", call).await?;
        Ok(saved(matches!(written, Written::Done(_))))
    }
}

#[cfg(test)]
mod tests;
