//! Rules and instances as items.

use crate::database::{Attributes, Filter, Item, key, n, refused, s};
use crate::keys::AlertKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemark_model::Timestamp;
use tidemark_rules::store::InstanceFilter;
use tidemark_rules::{Instance, Rule};
use tidemark_tsdb::StoreError;

pub(crate) const BODY: &str = "body";
pub(crate) const VERSION: &str = "version";
pub(crate) const RULE_ID: &str = "rule_id";
pub(crate) const STATE: &str = "state";
pub(crate) const UNSENT: &str = "unsent";
pub(crate) const NOTIFICATIONS_SENT: &str = "notifications_sent";
pub(crate) const LAST_NOTIFICATION_AT: &str = "last_notification_at";
pub(crate) const AT: &str = "at";

/// An empty outbox.
pub(crate) const NOTHING_UNSENT: &str = "[]";

pub(crate) fn rule_item(rule: &Rule) -> Result<Item, StoreError> {
    let place = AlertKey::Rule { id: rule.id.clone() };
    let mut item = key(place.pk(), place.sk());
    item.insert(BODY.to_owned(), s(body(rule)?));
    item.insert(VERSION.to_owned(), n(rule.version));
    Ok(item)
}

pub(crate) fn name_item(rule: &Rule) -> Item {
    let place = AlertKey::RuleName {
        name: rule.spec.name.clone(),
    };
    let mut item = key(place.pk(), place.sk());
    item.insert(RULE_ID.to_owned(), s(&rule.id));
    item
}

pub(crate) fn read_rule(item: &Item) -> Result<Rule, StoreError> {
    read_body(item)
}

/// The JSON of what is stored whole.
pub(crate) fn body<T: Serialize>(whole: &T) -> Result<String, StoreError> {
    serde_json::to_string(whole).map_err(|error| refused("item", error))
}

/// What is stored whole.
pub(crate) fn read_body<T: DeserializeOwned>(item: &Item) -> Result<T, StoreError> {
    read_json(item, BODY)
}

/// What is stored as JSON in an attribute.
pub(crate) fn read_json<T: DeserializeOwned>(item: &Item, attribute: &str) -> Result<T, StoreError> {
    let attributes = Attributes(item);
    serde_json::from_str(attributes.text(attribute)?)
        .map_err(|error| attributes.corrupt(format!("`{attribute}`: {error}")))
}

/// The JSON of an instance without what has attributes of its own.
pub(crate) fn instance_body(instance: &Instance) -> Result<String, StoreError> {
    let alone = Instance {
        unsent: Vec::new(),
        notifications_sent: 0,
        last_notification_at: None,
        ..instance.clone()
    };
    body(&alone)
}

/// The JSON of an instance's outbox.
pub(crate) fn unsent_text(instance: &Instance) -> Result<String, StoreError> {
    body(&instance.unsent)
}

pub(crate) fn read_instance(item: &Item) -> Result<Instance, StoreError> {
    let attributes = Attributes(item);
    let mut instance: Instance = read_body(item)?;
    instance.unsent = read_json(item, UNSENT)?;
    instance.notifications_sent = attributes.optional_number(NOTIFICATIONS_SENT)?.unwrap_or_default();
    instance.last_notification_at = attributes.optional_number(LAST_NOTIFICATION_AT)?.map(Timestamp);
    Ok(instance)
}

/// The part of a filter that is about states.
pub(crate) fn state_filter(filter: &InstanceFilter) -> Option<Filter> {
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
