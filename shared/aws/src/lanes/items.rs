//! Heads of lanes and members as items.

use crate::alerts::items::read_json;
use crate::database::{Attributes, Item, n};
use crate::keys::SK;
use aws_sdk_dynamodb::types::AttributeValue;
use tidemark_model::Timestamp;
use tidemark_notify::store::{Lane, Member};
use tidemark_tsdb::StoreError;

pub(super) const WAKE_AT: &str = "wake_at";
pub(super) const LEASED_UNTIL: &str = "leased_until";
pub(super) const HOLDER: &str = "holder";
pub(super) const NOT_BEFORE: &str = "not_before";
pub(super) const TOKENS: &str = "tokens";
pub(super) const TOKENS_AT: &str = "tokens_at";
pub(super) const EVENT: &str = "event";
pub(super) const KIND: &str = "kind";
pub(super) const BEAT: &str = "beat";
pub(super) const ENLISTED_AT: &str = "enlisted_at";
pub(super) const MARK: &str = "mark";

/// Fewer tokens than this are none. DynamoDB knows no number below 1e-130.
const LEAST_TOKENS: f64 = 1e-9;

/// A time as DynamoDB's time to live takes it.
pub(super) fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1_000)
}

/// Tokens as a number that DynamoDB keeps exactly.
pub(super) fn tokens(tokens: f64) -> AttributeValue {
    // Not a number is less than nothing as well.
    n(if tokens >= LEAST_TOKENS && tokens.is_finite() {
        tokens
    } else {
        0.0
    })
}

/// A head from its item. One that only knows when somebody comes has no tokens yet.
pub(super) fn read_lane(item: &Item) -> Result<Lane, StoreError> {
    let attributes = Attributes(item);
    let time = |name| Ok::<_, StoreError>(attributes.optional_number(name)?.map(Timestamp));
    Ok(Lane {
        wake_at: time(WAKE_AT)?,
        leased_until: time(LEASED_UNTIL)?,
        not_before: time(NOT_BEFORE)?,
        tokens: attributes.optional_number(TOKENS)?.unwrap_or_default(),
        tokens_at: time(TOKENS_AT)?,
        ..Lane::new(attributes.text(SK)?)
    })
}

/// A member from its item.
pub(super) fn read_member(item: &Item, incident: String) -> Result<Member, StoreError> {
    Ok(Member {
        incident,
        event: read_json(item, EVENT)?,
        enlisted_at: Timestamp(Attributes(item).number(ENLISTED_AT)?),
        mark: read_json(item, MARK)?,
    })
}
