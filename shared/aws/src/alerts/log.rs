//! The notification log. An entry that has expired and is not deleted yet is read like any other: it can only keep a page
//! from being sent a second time after a year.

use super::items::STATE;
use crate::database::{Attributes, Database, Item, Written, key, n, s};
use crate::keys::{AlertKey, EXPIRES_AT, PK};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValue;
use tidemark_model::Timestamp;
use tidemark_rules::store::{AttemptKey, Begun, Finished, LogEntry, LogState};
use tidemark_tsdb::StoreError;

const LEASE_UNTIL: &str = "lease_until";
const ATTEMPTS: &str = "attempts";
const REASON: &str = "reason";
const UPDATED_AT: &str = "updated_at";

const OPEN: &str = "open";
const SENT: &str = "sent";
const UNDELIVERABLE: &str = "undeliverable";
const GIVEN_UP: &str = "given_up";

/// How long an entry is kept after its last write, in seconds: a year, and a day for the deletion to be late.
const KEPT_S: i64 = 366 * 86_400;

/// No attempt is running.
const NO_LEASE: Timestamp = Timestamp(i64::MIN);

/// See [`tidemark_rules::AlertStore::begin_attempt`].
pub(super) async fn begin(
    database: &Database,
    table: &str,
    attempt: &AttemptKey,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<Begun, StoreError> {
    let call = update(database, table, attempt, now, (OPEN, lease_until, ""))
        .update_expression(
            "SET #state = :state, #lease = :lease, #reason = :reason, #updated = :now, #expires = :expires ADD #attempts :count",
        )
        .condition_expression(
            "attribute_not_exists(#pk) OR #state = :given_up OR (#state = :open AND #lease <= :now)",
        )
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":open", s(OPEN))
        .expression_attribute_values(":given_up", s(GIVEN_UP))
        .expression_attribute_values(":count", n(1))
        .return_values(ReturnValue::UpdatedNew);
    match database.written("UpdateItem (begin attempt)", table, call).await? {
        Written::Done(new) => Ok(Begun::Attempt(Attributes(&new).number(ATTEMPTS)?)),
        Written::Unmet(Some(stands)) => Ok(match read(&stands)?.state {
            LogState::Open { lease_until } => Begun::Running { until: lease_until },
            LogState::Sent { .. } | LogState::Undeliverable { .. } => Begun::Done,
            // It was given up between the check and its report; the next delivery begins.
            LogState::GivenUp { .. } => Begun::Running { until: now },
        }),
        // It expired between the check and its report; the next delivery begins.
        Written::Unmet(None) => Ok(Begun::Running { until: now }),
    }
}

/// See [`tidemark_rules::AlertStore::finish_attempt`].
pub(super) async fn finish(
    database: &Database,
    table: &str,
    attempt: &AttemptKey,
    outcome: &Finished,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (state, reason) = match outcome {
        Finished::Sent => (SENT, ""),
        Finished::Failed { reason } => (OPEN, reason.as_str()),
        Finished::Undeliverable { reason } => (UNDELIVERABLE, reason.as_str()),
        Finished::GivenUp { reason } => (GIVEN_UP, reason.as_str()),
    };
    let call = update(database, table, attempt, now, (state, NO_LEASE, reason))
        .update_expression(
            "SET #state = :state, #lease = :lease, #reason = :reason, #updated = :now, #expires = :expires, #attempts = if_not_exists(#attempts, :count)",
        )
        .condition_expression("attribute_not_exists(#pk) OR NOT #state IN (:sent, :undeliverable)")
        .expression_attribute_names("#pk", PK)
        .expression_attribute_values(":sent", s(SENT))
        .expression_attribute_values(":undeliverable", s(UNDELIVERABLE))
        .expression_attribute_values(":count", n(0));
    // A condition that is not met: the end of this notification is recorded already.
    database
        .written("UpdateItem (finish attempt)", table, call)
        .await
        .map(drop)
}

/// An update of an entry, with the names and values that every write of one has.
fn update(
    database: &Database,
    table: &str,
    attempt: &AttemptKey,
    now: Timestamp,
    (state, lease_until, reason): (&str, Timestamp, &str),
) -> UpdateItemFluentBuilder {
    let place = AlertKey::Notified(attempt.clone());
    database
        .update(table, key(place.pk(), place.sk()))
        .expression_attribute_names("#state", STATE)
        .expression_attribute_names("#lease", LEASE_UNTIL)
        .expression_attribute_names("#reason", REASON)
        .expression_attribute_names("#updated", UPDATED_AT)
        .expression_attribute_names("#expires", EXPIRES_AT)
        .expression_attribute_names("#attempts", ATTEMPTS)
        .expression_attribute_values(":state", s(state))
        .expression_attribute_values(":lease", n(lease_until.0))
        .expression_attribute_values(":reason", s(reason))
        .expression_attribute_values(":now", n(now.0))
        .expression_attribute_values(":expires", n(now.0.div_euclid(1_000).saturating_add(KEPT_S)))
}

/// An entry from its item.
pub(super) fn read(item: &Item) -> Result<LogEntry, StoreError> {
    let attributes = Attributes(item);
    let updated_at = Timestamp(attributes.number(UPDATED_AT)?);
    let reason = attributes.text(REASON)?.to_owned();
    let state = match attributes.text(STATE)? {
        OPEN => LogState::Open {
            lease_until: Timestamp(attributes.number(LEASE_UNTIL)?),
        },
        // Nothing is written after it.
        SENT => LogState::Sent { at: updated_at },
        UNDELIVERABLE => LogState::Undeliverable { reason },
        GIVEN_UP => LogState::GivenUp { reason },
        other => return Err(attributes.corrupt(format!("`{other}` is no state of a notification"))),
    };
    Ok(LogEntry {
        state,
        attempts: attributes.number(ATTEMPTS)?,
        updated_at,
    })
}
