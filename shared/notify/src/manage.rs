//! What people do with channels, silences, inhibitions and mute times: create, replace, patch, delete, try. Every change is made under the
//! version that was read, and begun anew when somebody else was faster.

mod names;
mod silences;

pub use names::Names;
pub use silences::{
    MAX_SILENCES, SilenceState, UnknownSilenceState, create_silence, expire_silence, get_silence, replace_silence,
};

use crate::channel::{Channel, ChannelSpec};
use crate::settings::{Document, Inhibition, MuteTime, chosen_id, same_id};
use crate::store::DocumentStore;
use serde_json::Value;
use tidemark_model::Timestamp;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::store::{Saved, StoreError};
use tidemark_rules::{AlertStore, InvalidField, Routing, Rule};

/// How often a change is begun anew when somebody else changed the same document in between.
const MAX_TRIES: usize = 4;

/// The most channels: all of them are read when one rule is written, and there are fewer teams than that.
pub const MAX_CHANNELS: usize = 1_000;

/// The most inhibitions: each is looked at for each notification and each firing alert.
pub const MAX_INHIBITIONS: usize = 200;

/// The most mute times.
pub const MAX_MUTE_TIMES: usize = 200;

/// How many users of a document are named when it cannot be deleted.
pub const USERS_NAMED: usize = 10;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The request cannot be taken.
    #[error("{0}")]
    Invalid(InvalidField),
    /// Another of the kind has this name.
    #[error("{noun} `{id}` exists")]
    Taken {
        /// The kind, with its article.
        noun: &'static str,
        /// The name.
        id: String,
    },
    /// There are as many of the kind as are allowed.
    #[error("there are {limit} of this kind, which is the most")]
    TooMany {
        /// The limit.
        limit: usize,
    },
    /// There is none.
    #[error("{noun} `{id}` does not exist")]
    NotFound {
        /// The kind, with its article.
        noun: &'static str,
        /// The id that was asked for.
        id: String,
    },
    /// Others name it.
    #[error("{noun} `{id}` is named by {}", users(.by, *.more))]
    InUse {
        /// The kind, with its article.
        noun: &'static str,
        /// Its id.
        id: String,
        /// The first who name it, as `rule x` or `channel y`.
        by: Vec<String>,
        /// How many more do.
        more: usize,
    },
    /// The silence is over.
    #[error("the silence is over; make a new one")]
    Expired,
    /// Others kept changing the same document.
    #[error("it was changed by others at the same time")]
    Conflict,
    /// The store did not answer.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

impl From<InvalidField> for ManageError {
    fn from(field: InvalidField) -> Self {
        Self::Invalid(field)
    }
}

fn users(by: &[String], more: usize) -> String {
    let mut text = by.join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

/// A document whose name its author chooses and that is written whole.
pub trait Named: Document + PartialEq {
    /// The kind, with its article.
    const NOUN: &'static str;
    /// The most that there may be.
    const MAX: usize;
    /// Whether rules or channels name it.
    const IS_NAMED: bool;

    /// Reads what people write. It has version 1, and both its times are `now`.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    fn read(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField>;

    /// As a new version of another, written now. Equal to the other when nothing is different.
    #[must_use]
    fn following(self, previous: &Self) -> Self;

    /// Whether a rule needs the document of this id.
    fn is_named_by_rule(_id: &str, _rule: &Rule) -> bool {
        false
    }

    /// Whether a channel needs the document of this id.
    fn is_named_by_channel(_id: &str, _channel: &Channel) -> bool {
        false
    }
}

macro_rules! following {
    () => {
        fn following(self, previous: &Self) -> Self {
            let same = Self {
                version: previous.version,
                created_at: previous.created_at,
                updated_at: previous.updated_at,
                ..self.clone()
            };
            if same == *previous {
                return same;
            }
            Self {
                version: previous.version.saturating_add(1),
                created_at: previous.created_at,
                ..self
            }
        }
    };
}

impl Named for Channel {
    const NOUN: &'static str = "the channel";
    const MAX: usize = MAX_CHANNELS;
    const IS_NAMED: bool = true;

    fn read(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        Ok(Self {
            id,
            spec: ChannelSpec::parse(body)?,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }

    following!();

    fn is_named_by_rule(id: &str, rule: &Rule) -> bool {
        // Without the channel `webhook` such a rule goes to its own address.
        let has_own = id == WEBHOOK_CHANNEL && rule.spec.webhook_url.is_some();
        !has_own && rule.spec.notification_channels.iter().any(|used| used.channel == id)
    }
}

impl Named for Inhibition {
    const NOUN: &'static str = "the inhibition";
    const MAX: usize = MAX_INHIBITIONS;
    const IS_NAMED: bool = false;

    fn read(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        Self::parse(id, body, now)
    }

    following!();
}

impl Named for MuteTime {
    const NOUN: &'static str = "the mute time";
    const MAX: usize = MAX_MUTE_TIMES;
    const IS_NAMED: bool = true;

    fn read(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        Self::parse(id, body, now)
    }

    following!();

    fn is_named_by_rule(id: &str, rule: &Rule) -> bool {
        let mut routings = rule.spec.notification_channels.iter().map(|used| &used.routing);
        routings.any(|routing| mutes_at(routing, id))
    }

    fn is_named_by_channel(id: &str, channel: &Channel) -> bool {
        mutes_at(&channel.spec.routing, id)
    }
}

fn mutes_at(routing: &Routing, id: &str) -> bool {
    routing.mute_times.iter().flatten().any(|name| name == id)
}

/// The document of this id.
///
/// # Errors
/// When there is none or the store fails.
pub async fn get<T: Named>(store: &impl DocumentStore, id: &str) -> Result<T, ManageError> {
    store.get(id).await?.ok_or_else(|| not_found::<T>(id))
}

fn not_found<T: Named>(id: &str) -> ManageError {
    ManageError::NotFound {
        noun: T::NOUN,
        id: id.to_owned(),
    }
}

/// Creates a document from the body of a request, under the name that it gives.
///
/// # Errors
/// When the body is not valid, the name is taken, there are too many, or the store fails.
pub async fn create<T: Named>(store: &impl DocumentStore, body: &Value, now: Timestamp) -> Result<T, ManageError> {
    let document = T::read(chosen_id(body)?, body, now)?;
    // Two requests at once may pass the limit by one, which harms nobody.
    if store.load::<T>().await?.len() >= T::MAX {
        return Err(ManageError::TooMany { limit: T::MAX });
    }
    match store.put(&document, None).await? {
        Saved::Saved => Ok(document),
        Saved::Conflict => Err(ManageError::Taken {
            noun: T::NOUN,
            id: document.id().to_owned(),
        }),
    }
}

/// Replaces a document by the body of a request (PUT).
///
/// # Errors
/// When the body is not valid, there is no such document, or the store fails.
pub async fn replace<T: Named>(
    store: &impl DocumentStore,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<T, ManageError> {
    same_id(body, id)?;
    let next = T::read(id.to_owned(), body, now)?;
    change(store, id, |_: &T| Ok(next.clone())).await
}

/// Applies a merge patch to a channel (PATCH).
///
/// # Errors
/// When the result is no valid channel, there is no such channel, or the store fails.
pub async fn patch_channel(
    store: &impl DocumentStore,
    id: &str,
    patch: &Value,
    now: Timestamp,
) -> Result<Channel, ManageError> {
    same_id(patch, id)?;
    change(store, id, |previous: &Channel| {
        Ok(Channel {
            spec: previous.spec.patched(patch)?,
            updated_at: now,
            ..previous.clone()
        })
    })
    .await
}

async fn change<T: Named>(
    store: &impl DocumentStore,
    id: &str,
    change: impl Fn(&T) -> Result<T, ManageError> + Send,
) -> Result<T, ManageError> {
    for _ in 0..MAX_TRIES {
        let previous: T = get(store, id).await?;
        let next = change(&previous)?.following(&previous);
        if next == previous || store.put(&next, Some(previous.version())).await? == Saved::Saved {
            return Ok(next);
        }
    }
    Err(ManageError::Conflict)
}

/// Deletes a document that no rule and no channel names. A rule that is written at the same moment may still name it: then its alerts are
/// recorded as not told, with the reason, as those of any rule that names what does not exist.
///
/// # Errors
/// When there is no such document, somebody names it, or the store fails.
pub async fn delete<T: Named>(
    store: &impl DocumentStore,
    alerts: &impl AlertStore,
    id: &str,
) -> Result<(), ManageError> {
    for _ in 0..MAX_TRIES {
        let document: T = get(store, id).await?;
        if T::IS_NAMED {
            unused::<T>(store, alerts, id).await?;
        }
        if store.delete::<T>(id, document.version()).await? == Saved::Saved {
            return Ok(());
        }
    }
    Err(ManageError::Conflict)
}

async fn unused<T: Named>(store: &impl DocumentStore, alerts: &impl AlertStore, id: &str) -> Result<(), ManageError> {
    let (rules, channels) = futures::try_join!(alerts.load_rules(), store.load::<Channel>())?;
    let channels = channels
        .iter()
        .filter(|channel| T::is_named_by_channel(id, channel))
        .map(|channel| format!("channel `{}`", channel.id));
    let rules = rules
        .iter()
        .filter(|rule| T::is_named_by_rule(id, rule))
        .map(|rule| format!("rule `{}`", rule.spec.name));
    let mut by: Vec<String> = channels.chain(rules).collect();
    if by.is_empty() {
        return Ok(());
    }
    let more = by.len().saturating_sub(USERS_NAMED);
    by.truncate(USERS_NAMED);
    Err(ManageError::InUse {
        noun: T::NOUN,
        id: id.to_owned(),
        by,
        more,
    })
}

#[cfg(test)]
mod tests;
