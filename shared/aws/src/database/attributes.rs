//! Building and reading items.

use super::Item;
use crate::keys::{EXPIRES_AT, PK, SK};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;
use tidemark_tsdb::StoreError;

/// About the bytes of an item, to divide batches by.
pub(super) fn item_bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) | AttributeValue::N(text) => text.len(),
        AttributeValue::B(bytes) => bytes.as_ref().len(),
        AttributeValue::M(map) => item_bytes(map),
        AttributeValue::L(list) => list.iter().map(value_bytes).sum(),
        _ => 1,
    }
}

/// Reads attributes of items, and says which item is wrong.
pub(crate) struct Attributes<'a>(pub(crate) &'a Item);

impl<'a> Attributes<'a> {
    pub(crate) fn corrupt(&self, reason: impl Into<String>) -> StoreError {
        let part = |name| match self.0.get(name) {
            Some(AttributeValue::S(text)) => text.clone(),
            Some(AttributeValue::B(bytes)) => bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => "?".to_owned(),
        };
        StoreError::Corrupt {
            item: format!("{} / {}", part(PK), part(SK)),
            reason: reason.into(),
        }
    }

    pub(crate) fn text(&self, name: &str) -> Result<&'a str, StoreError> {
        match self.0.get(name) {
            Some(AttributeValue::S(text)) => Ok(text),
            _ => Err(self.corrupt(format!("`{name}` is missing or no string"))),
        }
    }

    pub(crate) fn optional_text(&self, name: &str) -> Result<Option<&'a str>, StoreError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::S(text)) => Ok(Some(text)),
            Some(_) => Err(self.corrupt(format!("`{name}` is no string"))),
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> Result<&'a [u8], StoreError> {
        match self.0.get(name) {
            Some(AttributeValue::B(bytes)) => Ok(bytes.as_ref()),
            _ => Err(self.corrupt(format!("`{name}` is missing or no binary"))),
        }
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<T, StoreError> {
        self.optional_number(name)?
            .ok_or_else(|| self.corrupt(format!("`{name}` is missing")))
    }

    pub(crate) fn optional_number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, StoreError> {
        match self.0.get(name) {
            None => Ok(None),
            Some(AttributeValue::N(text)) => match text.parse() {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.corrupt(format!("`{name}` is out of range"))),
            },
            Some(_) => Err(self.corrupt(format!("`{name}` is no number"))),
        }
    }

    /// Whether the item has expired and only waits for its deletion.
    pub(crate) fn expired(&self, now_ms: i64) -> Result<bool, StoreError> {
        let expires_at: Option<i64> = self.optional_number(EXPIRES_AT)?;
        Ok(expires_at.is_some_and(|at| at <= now_ms.div_euclid(1_000)))
    }
}

/// A string attribute.
pub(crate) fn s(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// A binary attribute.
pub(crate) fn b(bytes: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

/// A number attribute.
pub(crate) fn n(number: impl ToString) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// A key of strings.
pub(crate) fn key(pk: String, sk: String) -> Item {
    HashMap::from([(PK.to_owned(), s(pk)), (SK.to_owned(), s(sk))])
}
