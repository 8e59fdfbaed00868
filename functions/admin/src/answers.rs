//! What calls have in common: pages, optional bodies, ids, and what went wrong.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use tidemark_http::{Answer, Call, json};
use tidemark_model::{Timestamp, limits};
use tidemark_notify::manage::ManageError as SettingsError;
use tidemark_rules::InvalidField;
use tidemark_rules::manage::ManageError;
use tidemark_rules::store::PageRequest;
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_tsdb::page;
use tidemark_wire::{ApiError, ErrorId};

/// When to try again what waits for the topic, in seconds: the next tick publishes what waits.
const UNTOLD_RETRY_S: u32 = 60;

/// A prefix and 60 random bits in base 32, without letters that read like digits.
pub(crate) fn random_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
    let mut random: u64 = rand::random();
    let mut id = format!("{prefix}-");
    for _ in 0..12 {
        // An index below 32.
        let _ = id.write_char(char::from(ALPHABET[(random % 32) as usize]));
        random /= 32;
    }
    id
}

/// The body, or an empty object where there is none.
pub(crate) fn optional_json(call: &Call) -> Result<Value, ApiError> {
    if call.body()?.is_empty() {
        return Ok(json!({}));
    }
    call.json()
}

/// A time among the parameters.
pub(crate) fn time(call: &Call, name: &str) -> Result<Option<Timestamp>, ApiError> {
    let read = call.parameter(name).map(Timestamp::parse).transpose();
    read.map_err(|wrong| invalid(name, wrong.to_string()))
}

/// Which page is asked for.
pub(crate) fn page_request(call: &Call) -> Result<PageRequest, ApiError> {
    let limit = page::limit(call.parameter("limit"), limits::MAX_PAGE_SIZE)?.unwrap_or(limits::DEFAULT_PAGE_SIZE);
    Ok(PageRequest {
        limit,
        after: call.parameter("next_token").map(page::open).transpose()?,
    })
}

/// A page of items, each with its id. One that would pass the size of an answer ends early.
pub(crate) fn list<T: Serialize>(
    field: &str,
    items: impl Iterator<Item = (String, T)>,
    next: Option<String>,
) -> Answer {
    let (mut page, mut bytes, mut next) = (Vec::new(), 0, next);
    let mut last: Option<String> = None;
    for (id, item) in items {
        let item = json!(item);
        bytes += size(&item);
        if last.is_some() && bytes > limits::MAX_RESPONSE_BYTES {
            next = last;
            break;
        }
        page.push(item);
        last = Some(id);
    }
    listed(field, page, next)
}

/// How many of these fit an answer, at least one.
pub(crate) fn fitting<T: Serialize>(items: &[T]) -> usize {
    let mut bytes = 0;
    let fits = items.iter().take_while(|item| {
        bytes += size(&json!(item));
        bytes <= limits::MAX_RESPONSE_BYTES
    });
    fits.count().max(1)
}

/// The bytes of an item and its comma.
fn size(item: &Value) -> usize {
    item.to_string().len() + 1
}

/// A page, and the token of the next.
pub(crate) fn listed(field: &str, page: Vec<Value>, next: Option<String>) -> Answer {
    let mut answer = Map::new();
    answer.insert(field.to_owned(), page.into());
    answer.insert(
        "next_token".to_owned(),
        next.map_or(Value::Null, |next| page::token(&next).into()),
    );
    json(200, &answer)
}

pub(crate) fn bad_field(field: &InvalidField) -> ApiError {
    if field.field.is_empty() {
        return ApiError::new(ErrorId::InvalidBody, format!("the body {}", field.reason));
    }
    invalid(&field.field, &field.reason)
}

/// Why a rule or an instance was not changed.
pub(crate) fn refused(error: ManageError) -> ApiError {
    let message = error.to_string();
    match error {
        ManageError::Invalid(field) => bad_field(&field),
        ManageError::NameTaken { .. } => ApiError::new(ErrorId::RuleNameTaken, message).with_field("name"),
        ManageError::TooManyRules { .. } => ApiError::new(ErrorId::LimitReached, message),
        ManageError::NoSuchRule | ManageError::NoSuchInstance => ApiError::new(ErrorId::NotFound, message),
        ManageError::NotActive { .. } => ApiError::new(ErrorId::InvalidState, message),
        ManageError::Untold => ApiError::new(ErrorId::TopicUnavailable, message).with_retry_after(UNTOLD_RETRY_S),
        ManageError::Conflict => ApiError::new(ErrorId::VersionConflict, message),
        ManageError::Store(failed) => store_failed(&failed),
    }
}

/// Why a channel, a silence, an inhibition or a mute time was not changed.
pub(crate) fn not_set(error: SettingsError) -> ApiError {
    let message = error.to_string();
    match error {
        SettingsError::Invalid(field) => bad_field(&field),
        SettingsError::Taken { .. } => ApiError::new(ErrorId::NameTaken, message).with_field("name"),
        SettingsError::TooMany { .. } => ApiError::new(ErrorId::LimitReached, message),
        SettingsError::NotFound { .. } => ApiError::new(ErrorId::NotFound, message),
        SettingsError::InUse { .. } => ApiError::new(ErrorId::InUse, message),
        SettingsError::Expired => ApiError::new(ErrorId::InvalidState, message),
        SettingsError::Conflict => ApiError::new(ErrorId::VersionConflict, message),
        SettingsError::Store(failed) => store_failed(&failed),
    }
}
