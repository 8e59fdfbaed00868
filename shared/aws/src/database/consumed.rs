//! Counting what DynamoDB charges.

use aws_sdk_dynamodb::types::ConsumedCapacity;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What DynamoDB said it charged, for one table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Units {
    /// Write units.
    pub write: f64,
    /// Read units.
    pub read: f64,
    /// The calls.
    pub calls: u64,
    /// The items that writes were asked for, each attempt counted.
    pub items_written: u64,
}

/// What DynamoDB said it charged, table by table.
#[derive(Debug, Default)]
pub struct Consumed(Mutex<BTreeMap<String, Units>>);

impl Consumed {
    /// What was counted so far.
    #[must_use]
    pub fn by_table(&self) -> BTreeMap<String, Units> {
        self.tables().clone()
    }

    /// What was counted so far for one table.
    #[must_use]
    pub fn of(&self, table: &str) -> Units {
        self.tables().get(table).copied().unwrap_or_default()
    }

    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, Units>> {
        // Sums stay sums when a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, table: &str, count: impl FnOnce(&mut Units)) {
        let mut tables = self.tables();
        match tables.get_mut(table) {
            Some(units) => count(units),
            None => count(tables.entry(table.to_owned()).or_default()),
        }
    }

    pub(crate) fn wrote<'a>(
        &self,
        table: &str,
        items: usize,
        capacity: impl IntoIterator<Item = &'a ConsumedCapacity>,
    ) {
        let units: f64 = capacity.into_iter().filter_map(ConsumedCapacity::capacity_units).sum();
        self.add(table, |counted| {
            counted.calls += 1;
            counted.items_written += items as u64;
            counted.write += units;
        });
    }

    pub(crate) fn read(&self, table: &str, capacity: Option<&ConsumedCapacity>) {
        let units = capacity.and_then(ConsumedCapacity::capacity_units).unwrap_or_default();
        self.add(table, |counted| {
            counted.calls += 1;
            counted.read += units;
        });
    }
}
