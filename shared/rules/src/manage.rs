//! What people do with rules and instances: create, replace, patch, delete, acknowledge, resolve.

use crate::decide::{self, Change};
use crate::event::Publish;
use crate::instance::{Acknowledgement, Instance};
use crate::rule::{InvalidField, Rule, RuleSpec, fields};
use crate::store::{AlertStore, RuleCreated, RuleReplaced, Saved, StoreError};
use crate::tick;
use serde::Serialize;
use serde_json::Value;
use tidemark_model::{Timestamp, limits};

/// How often a change is begun anew when somebody else changed the same item in between. Two people at once are rare, a
/// tick saves an instance once a minute.
const MAX_TRIES: usize = 4;

/// Who resolved an alert by hand when nobody is named.
pub const OPERATOR: &str = "operator";

/// The most transitions in an outbox that people may add to: a topic that is down must not fill an item.
const MAX_UNSENT: usize = 16;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The request cannot be taken.
    #[error("{0}")]
    Invalid(InvalidField),
    /// Another rule has this name.
    #[error("a rule named `{name}` exists")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// There are as many rules as are allowed.
    #[error("there are {limit} rules, which is the most")]
    TooManyRules {
        /// The limit.
        limit: usize,
    },
    /// There is no such rule.
    #[error("no rule has this id")]
    NoSuchRule,
    /// There is no such instance.
    #[error("no alert instance has this id")]
    NoSuchInstance,
    /// The instance is not active, so that there is nothing to resolve or to acknowledge.
    #[error("the alert instance is {state}, not pending or firing")]
    NotActive {
        /// Its state.
        state: crate::InstanceState,
    },
    /// Others kept changing the same item.
    #[error("it was changed by others at the same time")]
    Conflict,
    /// Nothing can be published, and what happened to the instance before is to be told first.
    #[error("what happened to it before could not be told yet")]
    Untold,
    /// The store did not answer.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
}

impl From<InvalidField> for ManageError {
    fn from(field: InvalidField) -> Self {
        Self::Invalid(field)
    }
}

/// A rule as it is answered: flat, with what its author should know.
#[derive(Debug, Serialize)]
pub struct StoredRule {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// Sentences; left out when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl From<Rule> for StoredRule {
    fn from(rule: Rule) -> Self {
        let warnings = rule.spec.warnings();
        Self { rule, warnings }
    }
}

/// Creates a rule from the body of a request. `id` makes a new random id each time it is called.
///
/// # Errors
/// When the body is no valid rule, the name is taken, there are too many rules, or the store fails.
pub async fn create_rule(
    store: &impl AlertStore,
    body: &Value,
    id: impl Fn() -> String + Send,
    now: Timestamp,
) -> Result<StoredRule, ManageError> {
    let spec = RuleSpec::parse(body)?;
    // Two requests at once may pass the limit by one; it protects the tick, and a tick can stand that.
    if store.count_rules().await? >= limits::MAX_RULES as u64 {
        return Err(ManageError::TooManyRules {
            limit: limits::MAX_RULES,
        });
    }
    for _ in 0..MAX_TRIES {
        let rule = Rule {
            id: id(),
            spec: spec.clone(),
            version: 1,
            created_at: now,
            updated_at: now,
        };
        match store.create_rule(&rule).await? {
            RuleCreated::Created => return Ok(rule.into()),
            RuleCreated::NameTaken => return Err(ManageError::NameTaken { name: spec.name }),
            RuleCreated::IdTaken => {}
        }
    }
    Err(ManageError::Conflict)
}

/// Replaces a rule by the body of a request (PUT).
///
/// # Errors
/// When the body is no valid rule, there is no such rule, the name is taken, or the store fails.
pub async fn replace_rule(
    store: &impl AlertStore,
    id: &str,
    body: &Value,
    now: Timestamp,
) -> Result<StoredRule, ManageError> {
    let spec = RuleSpec::parse(body)?;
    change_rule(store, id, now, |_| Ok(spec.clone())).await
}

/// Applies a merge patch to a rule (PATCH).
///
/// # Errors
/// When the result is no valid rule, there is no such rule, the name is taken, or the store fails.
pub async fn patch_rule(
    store: &impl AlertStore,
    id: &str,
    patch: &Value,
    now: Timestamp,
) -> Result<StoredRule, ManageError> {
    change_rule(store, id, now, |spec| spec.patched(patch)).await
}

async fn change_rule(
    store: &impl AlertStore,
    id: &str,
    now: Timestamp,
    change: impl Fn(&RuleSpec) -> Result<RuleSpec, InvalidField> + Send,
) -> Result<StoredRule, ManageError> {
    for _ in 0..MAX_TRIES {
        let previous = store.get_rule(id).await?.ok_or(ManageError::NoSuchRule)?;
        let spec = change(&previous.spec)?;
        if spec == previous.spec {
            return Ok(previous.into());
        }
        let next = Rule {
            id: previous.id.clone(),
            spec,
            version: previous.version.saturating_add(1),
            created_at: previous.created_at,
            updated_at: now,
        };
        match store.replace_rule(&previous, &next).await? {
            RuleReplaced::Replaced => return Ok(next.into()),
            RuleReplaced::NameTaken => return Err(ManageError::NameTaken { name: next.spec.name }),
            RuleReplaced::Conflict => {}
        }
    }
    Err(ManageError::Conflict)
}

/// Deletes a rule. What it fires is resolved, and told, on the next tick.
///
/// # Errors
/// When there is no such rule or the store fails.
pub async fn delete_rule(store: &impl AlertStore, id: &str) -> Result<(), ManageError> {
    for _ in 0..MAX_TRIES {
        let rule = store.get_rule(id).await?.ok_or(ManageError::NoSuchRule)?;
        if store.delete_rule(&rule).await? == Saved::Saved {
            return Ok(());
        }
    }
    Err(ManageError::Conflict)
}

/// Resolves an instance by hand and tells it; `by` is [`OPERATOR`] where nobody is named. When telling fails, the next tick does it. If the
/// condition still holds on the next tick, a new incident begins.
///
/// # Errors
/// When there is no such instance, it is not active, or the store fails.
pub async fn resolve_instance(
    store: &impl AlertStore,
    publisher: &impl Publish,
    id: &str,
    by: Option<String>,
    comment: Option<String>,
    now: Timestamp,
) -> Result<Instance, ManageError> {
    let by = by.as_deref().unwrap_or(OPERATOR);
    change_instance(store, publisher, id, |before| {
        decide::resolve_by_hand(before, by, comment.as_deref(), now)
    })
    .await
}

/// Notes that somebody takes care of an incident: what still fires is not told again. The next incident begins without it. An
/// acknowledgement by another person, or with another comment, takes the place of the one before; the same again changes nothing.
///
/// # Errors
/// When there is no such instance, it is not active, or the store fails.
pub async fn acknowledge_instance(
    store: &impl AlertStore,
    publisher: &impl Publish,
    id: &str,
    by: &str,
    comment: Option<&str>,
    now: Timestamp,
) -> Result<Instance, ManageError> {
    let before = store.get_instance(id).await?.ok_or(ManageError::NoSuchInstance)?;
    let same = |one: &&Acknowledgement| one.by == by && one.comment.as_deref() == comment;
    if before.state.is_active() && before.acknowledged.as_ref().filter(same).is_some() {
        return Ok(before);
    }
    change_instance(store, publisher, id, |before| {
        decide::acknowledge(before, by, comment, now)
    })
    .await
}

/// Saves what `change` makes of an instance, and tells it; `None` when it is not active.
async fn change_instance(
    store: &impl AlertStore,
    publisher: &impl Publish,
    id: &str,
    change: impl Fn(&Instance) -> Option<Change> + Send,
) -> Result<Instance, ManageError> {
    for _ in 0..MAX_TRIES {
        let before = store.get_instance(id).await?.ok_or(ManageError::NoSuchInstance)?;
        let Some(Change::Save { instance, expected, .. }) = change(&before) else {
            return Err(ManageError::NotActive { state: before.state });
        };
        if before.unsent.len() >= MAX_UNSENT {
            return Err(ManageError::Untold);
        }
        if store.save_instance(&instance, expected).await? == Saved::Saved {
            let mut saved = [*instance];
            tick::publish_outboxes(store, publisher, &mut saved).await;
            let [instance] = saved;
            return Ok(instance);
        }
    }
    Err(ManageError::Conflict)
}

/// Who did something to an alert by hand, and why: `{"by", "comment"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Who.
    pub by: Option<String>,
    /// What they said.
    pub comment: Option<String>,
}

impl Note {
    /// Reads a note; unknown fields are ignored.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(body: &Value) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let text = |name, most| {
            fields::optional(object, name)
                .map(|field| fields::text(field, most))
                .transpose()
        };
        Ok(Self {
            by: text("by", limits::MAX_AUTHOR_BYTES)?,
            comment: text("comment", limits::MAX_COMMENT_BYTES)?,
        })
    }

    /// Who it was, where they must be named.
    ///
    /// # Errors
    /// When they are not.
    pub fn author(&self) -> Result<&str, InvalidField> {
        self.by.as_deref().ok_or_else(|| fields::invalid("by", "is required"))
    }
}

#[cfg(test)]
mod tests;
