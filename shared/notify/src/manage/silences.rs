//! Silences: who creates them gives no name, and who deletes them ends them.

use super::{MAX_TRIES, ManageError};
use crate::settings::{Silence, SilenceSpec, same_id};
use crate::store::DocumentStore;
use serde::Serialize;
use serde_json::Value;
use std::str::FromStr;
use tidemark_model::Timestamp;
use tidemark_rules::store::Saved;

/// The most silences that are not over: each is looked at for each notification.
pub const MAX_SILENCES: usize = 2_000;

/// Where a silence is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SilenceState {
    /// It has not begun.
    Pending,
    /// It mutes.
    Active,
    /// It is over.
    Expired,
}

impl SilenceState {
    /// The state of a silence at a time.
    #[must_use]
    pub fn of(silence: &Silence, now: Timestamp) -> Self {
        if silence.ends_at <= now {
            Self::Expired
        } else if silence.starts_at <= now {
            Self::Active
        } else {
            Self::Pending
        }
    }
}

/// A text is no state of a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of pending, active, expired")]
pub struct UnknownSilenceState;

impl FromStr for SilenceState {
    type Err = UnknownSilenceState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pending" => Ok(Self::Pending),
            "active" => Ok(Self::Active),
            "expired" => Ok(Self::Expired),
            _ => Err(UnknownSilenceState),
        }
    }
}

/// The silence of this id.
///
/// # Errors
/// When there is none or the store fails.
pub async fn get_silence(store: &impl DocumentStore, id: &str) -> Result<Silence, ManageError> {
    store.get(id).await?.ok_or_else(|| ManageError::NotFound {
        noun: "the silence",
        id: id.to_owned(),
    })
}

/// Creates a silence from the body of a request. `id` makes a new random id each time it is called.
///
/// # Errors
/// When the body is no valid silence, there are too many, or the store fails.
pub async fn create_silence(
    store: &impl DocumentStore,
    body: &Value,
    id: impl Fn() -> String + Send,
    now: Timestamp,
) -> Result<Silence, ManageError> {
    let mut silence = Silence::parse(id(), body, now)?;
    let stored = store.load::<Silence>().await?;
    if stored.iter().filter(|stored| stored.ends_at > now).count() >= MAX_SILENCES {
        return Err(ManageError::TooMany { limit: MAX_SILENCES });
    }
    for _ in 0..MAX_TRIES {
        if store.put(&silence, None).await? == Saved::Saved {
            return Ok(silence);
        }
        silence.id = id();
    }
    Err(ManageError::Conflict)
}

/// Replaces a silence that is not over by the body of a request (PUT).
///
/// # Errors
/// When the body is no valid silence, there is no such silence, it is over, or the store fails.
pub async fn replace_silence(
    store: &impl DocumentStore,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<Silence, ManageError> {
    same_id(body, id)?;
    let spec = SilenceSpec::parse(body)?;
    change_silence(store, id, |previous| {
        if previous.ends_at <= now {
            return Err(ManageError::Expired);
        }
        let (starts_at, ends_at) = spec.times(Some(previous.starts_at), now)?;
        Ok(Silence {
            matchers: spec.matchers.clone(),
            starts_at,
            ends_at,
            created_by: spec.created_by.clone(),
            comment: spec.comment.clone(),
            updated_at: now,
            ..previous.clone()
        })
    })
    .await
}

/// Ends a silence now: one that is active ends, one that is pending never begins. It stays listed as expired; one that is over
/// already stays as it is.
///
/// # Errors
/// When there is no such silence or the store fails.
pub async fn expire_silence(store: &impl DocumentStore, id: &str, now: Timestamp) -> Result<Silence, ManageError> {
    change_silence(store, id, |previous| {
        if previous.ends_at <= now {
            return Ok(previous.clone());
        }
        Ok(Silence {
            starts_at: previous.starts_at.min(now),
            ends_at: now,
            updated_at: now,
            ..previous.clone()
        })
    })
    .await
}

async fn change_silence(
    store: &impl DocumentStore,
    id: &str,
    change: impl Fn(&Silence) -> Result<Silence, ManageError> + Send,
) -> Result<Silence, ManageError> {
    for _ in 0..MAX_TRIES {
        let previous = get_silence(store, id).await?;
        let mut next = change(&previous)?;
        if next == previous {
            return Ok(next);
        }
        next.version = previous.version.saturating_add(1);
        if store.put(&next, Some(previous.version)).await? == Saved::Saved {
            return Ok(next);
        }
    }
    Err(ManageError::Conflict)
}
