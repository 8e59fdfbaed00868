//! What both stores of alerting do with their one table.

use super::items::VERSION;
use crate::database::{Attributes, Database, Filter, Item, Wanted, Written, key, n, s};
use crate::keys::{AlertKey, MAX_SORT_KEY_BYTES, PK, SK};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, TransactWriteItem};
use tidemark_rules::store::{Page, PageRequest, Saved};
use tidemark_tsdb::StoreError;

/// Sorts after every id that begins with what stands before it: no id holds the last code point of Unicode.
const AFTER_ALL: char = char::MAX;

/// Which call wrote an item last. A conditional write whose answer is lost is asked again by the SDK and meets its own first write: by this
/// it is told from somebody else's.
pub(crate) const WRITE_ID: &str = "write_id";

/// The table of alerting.
#[derive(Debug)]
pub(crate) struct AlertsTable {
    pub(crate) database: Database,
    pub(crate) name: String,
}

impl AlertsTable {
    pub(crate) fn new(client: Client, name: String, pace: Pace) -> Self {
        Self {
            database: Database::new(client, pace),
            name,
        }
    }

    pub(crate) async fn find(&self, place: &AlertKey) -> Result<Option<Item>, StoreError> {
        self.database.get(&self.name, key(place.pk(), place.sk())).await
    }

    pub(crate) async fn query(&self, wanted: Wanted) -> Result<Vec<Item>, StoreError> {
        self.database.query(&self.name, wanted).await
    }

    pub(crate) async fn all<T>(
        &self,
        pk: String,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let found = self.query(Wanted::all_of(s(pk))).await?;
        found.iter().map(read).collect()
    }

    /// A page of a partition's items whose sort keys begin with `prefix`.
    pub(crate) async fn page<T>(
        &self,
        pk: String,
        prefix: &str,
        filter: Option<Filter>,
        page: &PageRequest,
        read: impl Fn(&Item) -> Result<T, StoreError>,
    ) -> Result<Page<T>, StoreError> {
        let limit = page.limit.max(1);
        let after = page.after.as_deref().unwrap_or_default();
        // What is cut off of a key that is too long can only be read twice, and is left out below.
        let low = cut(after.max(prefix));
        let high = format!(
            "{}{AFTER_ALL}",
            &prefix[..prefix.floor_char_boundary(MAX_SORT_KEY_BYTES - 4)]
        );
        if low > high.as_str() {
            return Ok(Page {
                items: Vec::new(),
                next: None,
            });
        }
        let sort = if prefix.is_empty() {
            // An empty value is no key.
            (!low.is_empty()).then(|| ("#sk >= :low", vec![(":low", s(low))]))
        } else {
            Some(("#sk BETWEEN :low AND :high", vec![(":low", s(low)), (":high", s(high))]))
        };
        // One more than wanted tells whether there is a next page; another, because `low` itself may be `after`.
        let wanted = Wanted {
            sort,
            filter,
            at_least: Some(limit + 2),
            ..Wanted::all_of(s(pk))
        };
        let mut found = keep(self.query(wanted).await?, |sk| {
            page.after.as_deref().is_none_or(|after| sk > after)
        })?;
        let next = cut_page(&mut found, limit)?;
        Ok(Page {
            items: found.iter().map(read).collect::<Result<_, _>>()?,
            next,
        })
    }

    /// How many items of a partition pass a filter.
    pub(crate) async fn count(&self, pk: String, filter: Option<Filter>) -> Result<u64, StoreError> {
        self.database.count(&self.name, pk, filter).await
    }

    /// Does all of some writes or none; see [`Database::transact`].
    pub(crate) async fn transact(&self, writes: Vec<TransactWriteItem>) -> Result<Vec<usize>, StoreError> {
        self.database.transact(&self.name, writes).await
    }

    /// An update that reports the item when its condition is not met.
    pub(crate) fn update(&self, place: &AlertKey) -> UpdateItemFluentBuilder {
        self.database.update(&self.name, key(place.pk(), place.sk()))
    }

    pub(crate) async fn written(
        &self,
        operation: &'static str,
        call: UpdateItemFluentBuilder,
    ) -> Result<Written, StoreError> {
        self.database.written(operation, &self.name, call).await
    }

    /// Stores attributes of an item, its version among them, if the stored version is `expected` (`None`: if there is no such item). Other
    /// attributes stay.
    pub(crate) async fn save(
        &self,
        operation: &'static str,
        place: &AlertKey,
        mut values: Vec<(&'static str, AttributeValue)>,
        expected: Option<u64>,
    ) -> Result<Saved, StoreError> {
        let id = write_id();
        values.push((WRITE_ID, s(&id)));
        let sets: Vec<String> = values.iter().map(|(name, _)| format!("#{name} = :{name}")).collect();
        let mut call = self.update(place).update_expression(format!("SET {}", sets.join(", ")));
        for (name, value) in values {
            call = call
                .expression_attribute_names(format!("#{name}"), name)
                .expression_attribute_values(format!(":{name}"), value);
        }
        call = match expected {
            None => call
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK),
            Some(expected) => call
                .condition_expression(format!("#{VERSION} = :expected"))
                .expression_attribute_values(":expected", n(expected)),
        };
        Ok(saved(is_mine(&self.written(operation, call).await?, &id)?))
    }

    /// Deletes an item if its stored version is `expected`.
    pub(crate) async fn remove(&self, place: &AlertKey, expected: u64) -> Result<Saved, StoreError> {
        let done = self
            .database
            .delete_if(&self.name, key(place.pk(), place.sk()), (VERSION, n(expected)))
            .await?;
        Ok(saved(done))
    }
}

/// A name for a write that no other has.
pub(crate) fn write_id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Whether a write with this name was done: by this very call, or by an earlier attempt of it whose answer was lost.
pub(crate) fn is_mine(written: &Written, id: &str) -> Result<bool, StoreError> {
    Ok(match written {
        Written::Done(_) => true,
        Written::Unmet(None) => false,
        Written::Unmet(Some(stands)) => Attributes(stands).optional_text(WRITE_ID)? == Some(id),
    })
}

/// The items whose sort keys pass.
pub(super) fn keep(mut found: Vec<Item>, passes: impl Fn(&str) -> bool) -> Result<Vec<Item>, StoreError> {
    let mut problem = None;
    found.retain(|item| match Attributes(item).text(SK) {
        Ok(sk) => passes(sk),
        Err(error) => {
            problem = Some(error);
            false
        }
    });
    problem.map_or(Ok(found), Err)
}

/// Cuts what is too much for a page, and says what the next one begins after.
pub(super) fn cut_page(found: &mut Vec<Item>, limit: usize) -> Result<Option<String>, StoreError> {
    let more = found.len() > limit;
    found.truncate(limit);
    match found.last() {
        Some(last) if more => Ok(Some(Attributes(last).text(SK)?.to_owned())),
        _ => Ok(None),
    }
}

/// As much of a text as can be a sort key.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_SORT_KEY_BYTES)]
}

/// Whether a text that a user gave can be a sort key at all; DynamoDB refuses others with an error.
pub(crate) fn is_key(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_SORT_KEY_BYTES
}

pub(crate) fn saved(done: bool) -> Saved {
    if done { Saved::Saved } else { Saved::Conflict }
}
