//! Rules and instances.

use crate::handler::Admin;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use tidemark_http::{Answer, Call, json, no_content};
use tidemark_model::{Timestamp, limits};
use tidemark_rules::manage::{self, ManageError, StoredRule};
use tidemark_rules::store::{InstanceFilter, PageRequest};
use tidemark_rules::{AlertStore, InvalidField, Publish, condition};
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_tsdb::page;
use tidemark_wire::{ApiError, ErrorId};

pub(crate) async fn list_rules<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let rules = admin
        .alerts
        .list_rules(&page_request(call)?)
        .await
        .map_err(|failed| store_failed(&failed))?;
    let shown = rules
        .items
        .into_iter()
        .map(|rule| (rule.id.clone(), StoredRule::from(rule)));
    Ok(list("rules", shown, rules.next))
}

pub(crate) async fn create_rule<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let created = manage::create_rule(&admin.alerts, &call.json()?, new_rule_id, now(admin)).await;
    Ok(json(201, &created.map_err(refused)?))
}

pub(crate) fn test_rule(call: &Call) -> Result<Answer, ApiError> {
    Ok(json(
        200,
        &condition::test_rule(&call.json()?).map_err(|field| bad_field(&field))?,
    ))
}

pub(crate) async fn get_rule<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    id: &str,
) -> Result<Answer, ApiError> {
    let rule = admin
        .alerts
        .get_rule(id)
        .await
        .map_err(|failed| store_failed(&failed))?;
    let rule = rule.ok_or_else(|| refused(ManageError::NoSuchRule))?;
    Ok(json(200, &StoredRule::from(rule)))
}

pub(crate) async fn replace_rule<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
    id: &str,
) -> Result<Answer, ApiError> {
    let replaced = manage::replace_rule(&admin.alerts, id, &call.json()?, now(admin)).await;
    Ok(json(200, &replaced.map_err(refused)?))
}

pub(crate) async fn patch_rule<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
    id: &str,
) -> Result<Answer, ApiError> {
    let patched = manage::patch_rule(&admin.alerts, id, &call.json()?, now(admin)).await;
    Ok(json(200, &patched.map_err(refused)?))
}

pub(crate) async fn delete_rule<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    id: &str,
) -> Result<Answer, ApiError> {
    manage::delete_rule(&admin.alerts, id).await.map_err(refused)?;
    Ok(no_content())
}

pub(crate) async fn list_instances<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let state = call
        .parameter("state")
        .map(|state| state.parse().map_err(|e| invalid("state", format!("{e}"))));
    let filter = InstanceFilter {
        states: state.transpose()?.into_iter().collect(),
        rule_id: match call.parameter("rule") {
            Some(rule) => Some(rule_id(&admin.alerts, rule).await?),
            None => None,
        },
    };
    instances(admin, call, filter).await
}

/// The id of the rule that has this id or, since people know rules by their names, this name.
async fn rule_id(alerts: &impl AlertStore, rule: &str) -> Result<String, ApiError> {
    let failed = |failed| store_failed(&failed);
    if alerts.get_rule(rule).await.map_err(failed)?.is_some() {
        return Ok(rule.to_owned());
    }
    let rules = alerts.load_rules().await.map_err(failed)?;
    let named = rules.into_iter().find(|known| known.spec.name == rule);
    // The instances of a rule that was deleted are still found by its id.
    Ok(named.map_or_else(|| rule.to_owned(), |rule| rule.id))
}

pub(crate) async fn active_instances<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    instances(admin, call, InstanceFilter::active()).await
}

async fn instances<A: AlertStore, P, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
    filter: InstanceFilter,
) -> Result<Answer, ApiError> {
    let found = admin.alerts.list_instances(&filter, &page_request(call)?).await;
    let found = found.map_err(|failed| store_failed(&failed))?;
    let shown = found
        .items
        .iter()
        .map(|instance| (instance.id.clone(), instance.view()));
    Ok(list("instances", shown, found.next))
}

pub(crate) async fn resolve_instance<A: AlertStore, P: Publish, S, K, D>(
    admin: &Admin<A, P, S, K, D>,
    id: &str,
) -> Result<Answer, ApiError> {
    let resolved = manage::resolve_instance(&admin.alerts, &admin.topic, id, None, None, now(admin)).await;
    Ok(json(200, &resolved.map_err(refused)?.view()))
}

fn now<A, P, S, K, D>(admin: &Admin<A, P, S, K, D>) -> Timestamp {
    Timestamp((admin.clock)())
}

/// `rule-` and 60 random bits in base 32, without letters that read like digits.
fn new_rule_id() -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let mut random: u64 = rand::random();
    let mut id = String::from("rule-");
    for _ in 0..12 {
        // An index below 32.
        let _ = id.write_char(char::from(ALPHABET[(random % 32) as usize]));
        random /= 32;
    }
    id
}

fn page_request(call: &Call) -> Result<PageRequest, ApiError> {
    let limit = page::limit(call.parameter("limit"), limits::MAX_PAGE_SIZE)?.unwrap_or(limits::DEFAULT_PAGE_SIZE);
    Ok(PageRequest {
        limit,
        after: call.parameter("next_token").map(page::open).transpose()?,
    })
}

/// A page of items, each with its id. One that would pass the size of an answer ends early.
fn list<T: Serialize>(field: &str, items: impl Iterator<Item = (String, T)>, next: Option<String>) -> Answer {
    let (mut page, mut bytes, mut next) = (Vec::new(), 0, next);
    let mut last: Option<String> = None;
    for (id, item) in items {
        let item = json!(item);
        bytes += item.to_string().len() + 1;
        if last.is_some() && bytes > limits::MAX_RESPONSE_BYTES {
            next = last;
            break;
        }
        page.push(item);
        last = Some(id);
    }
    let mut answer = Map::new();
    answer.insert(field.to_owned(), page.into());
    answer.insert(
        "next_token".to_owned(),
        next.map_or(Value::Null, |next| page::token(&next).into()),
    );
    json(200, &answer)
}

fn bad_field(field: &InvalidField) -> ApiError {
    if field.field.is_empty() {
        return ApiError::new(ErrorId::InvalidBody, format!("the body {}", field.reason));
    }
    invalid(&field.field, &field.reason)
}

fn refused(error: ManageError) -> ApiError {
    let message = error.to_string();
    match error {
        ManageError::Invalid(field) => bad_field(&field),
        ManageError::NameTaken { .. } => ApiError::new(ErrorId::RuleNameTaken, message).with_field("name"),
        ManageError::TooManyRules { .. } => ApiError::new(ErrorId::LimitReached, message),
        ManageError::NoSuchRule | ManageError::NoSuchInstance => ApiError::new(ErrorId::NotFound, message),
        ManageError::NotActive { .. } => ApiError::new(ErrorId::InvalidState, message),
        ManageError::Conflict | ManageError::Untold => ApiError::new(ErrorId::VersionConflict, message),
        ManageError::Store(failed) => store_failed(&failed),
    }
}
