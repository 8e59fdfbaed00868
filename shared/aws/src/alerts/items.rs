//! Rules and instances as items.

use crate::database::{Attributes, Filter, Item, key, n, refused, s};
use crate::keys::AlertKey;
use tidemark_model::Timestamp;
use tidemark_rules::store::InstanceFilter;
use tidemark_rules::{Instance, Rule};
use tidemark_tsdb::StoreError;

pub(super) const BODY: &str = "body";
pub(super) const VERSION: &str = "version";
pub(super) const RULE_ID: &str = "rule_id";
pub(super) const STATE: &str = "state";
pub(super) const UNSENT: &str = "unsent";
pub(super) const NOTIFICATIONS_SENT: &str = "notifications_sent";
pub(super) const LAST_NOTIFICATION_AT: &str = "last_notification_at";

/// An empty outbox.
pub(super) const NOTHING_UNSENT: &str = "[]";

pub(super) fn rule_item(rule: &Rule) -> Result<Item, StoreError> {
    let place = AlertKey::Rule { id: rule.id.clone() };
    let body = serde_json::to_string(rule).map_err(|error| refused("rule", error))?;
    let mut item = key(place.pk(), place.sk());
    item.insert(BODY.to_owned(), s(body));
    item.insert(VERSION.to_owned(), n(rule.version));
    Ok(item)
}

pub(super) fn name_item(rule: &Rule) -> Item {
    let place = AlertKey::RuleName {
        name: rule.spec.name.clone(),
    };
    let mut item = key(place.pk(), place.sk());
    item.insert(RULE_ID.to_owned(), s(&rule.id));
    item
}

pub(super) fn read_rule(item: &Item) -> Result<Rule, StoreError> {
    let attributes = Attributes(item);
    serde_json::from_str(attributes.text(BODY)?).map_err(|error| attributes.corrupt(error.to_string()))
}

/// The JSON of an instance without what has attributes of its own.
pub(super) fn instance_body(instance: &Instance) -> Result<String, StoreError> {
    let alone = Instance {
        unsent: Vec::new(),
        notifications_sent: 0,
        last_notification_at: None,
        ..instance.clone()
    };
    serde_json::to_string(&alone).map_err(|error| refused("instance", error))
}

/// The JSON of an instance's outbox.
pub(super) fn unsent_text(instance: &Instance) -> Result<String, StoreError> {
    serde_json::to_string(&instance.unsent).map_err(|error| refused("instance", error))
}

pub(super) fn read_instance(item: &Item) -> Result<Instance, StoreError> {
    let attributes = Attributes(item);
    let corrupt = |error: serde_json::Error| attributes.corrupt(error.to_string());
    let mut instance: Instance = serde_json::from_str(attributes.text(BODY)?).map_err(corrupt)?;
    instance.unsent = serde_json::from_str(attributes.text(UNSENT)?).map_err(corrupt)?;
    instance.notifications_sent = attributes.optional_number(NOTIFICATIONS_SENT)?.unwrap_or_default();
    instance.last_notification_at = attributes.optional_number(LAST_NOTIFICATION_AT)?.map(Timestamp);
    Ok(instance)
}

/// The part of a filter that is about states.
pub(super) fn state_filter(filter: &InstanceFilter) -> Option<Filter> {
    if filter.states.is_empty() {
        return None;
    }
    let values: Vec<_> = filter
        .states
        .iter()
        .enumerate()
        .map(|(number, state)| (format!(":state{number}"), s(state.as_str())))
        .collect();
    let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    Some(Filter {
        expression: format!("#state IN ({})", names.join(", ")),
        names: vec![("#state", STATE)],
        values,
    })
}
