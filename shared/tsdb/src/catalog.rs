//! Discovery: which metrics there are, and which labels their series have.

use crate::bounded;
use crate::store::{CatalogEntry, Store, StoreError};
use futures::stream::{self, StreamExt};
use std::collections::BTreeSet;
use tidemark_model::Period;

/// How many periods' series are held at once.
const PERIODS_AT_ONCE: usize = 3;

/// The names of the metrics with series in the periods that touch the range, in ascending order.
///
/// # Errors
/// When the store does not answer.
pub async fn metric_names(store: &impl Store, start_ms: i64, end_ms: i64) -> Result<Vec<String>, StoreError> {
    let mut names = BTreeSet::new();
    let reads = Period::covering(start_ms, end_ms).map(|period| store.metric_names(period));
    for found in bounded::all(reads.collect()).await {
        names.extend(found?);
    }
    Ok(names.into_iter().collect())
}

/// The names of the labels of a metric's series, in ascending order.
///
/// # Errors
/// When the store does not answer.
pub async fn label_names(
    store: &impl Store,
    metric: &str,
    start_ms: i64,
    end_ms: i64,
) -> Result<Vec<String>, StoreError> {
    distinct(store, metric, (start_ms, end_ms), |entry, found| {
        found.extend(entry.labels.iter().map(|(name, _)| name.to_owned()));
    })
    .await
}

/// The values of one label of a metric's series, in ascending order.
///
/// # Errors
/// When the store does not answer.
pub async fn label_values(
    store: &impl Store,
    metric: &str,
    label: &str,
    start_ms: i64,
    end_ms: i64,
) -> Result<Vec<String>, StoreError> {
    distinct(store, metric, (start_ms, end_ms), |entry, found| {
        found.extend(entry.labels.get(label).map(str::to_owned));
    })
    .await
}

async fn distinct(
    store: &impl Store,
    metric: &str,
    (start_ms, end_ms): (i64, i64),
    collect: impl Fn(&CatalogEntry, &mut BTreeSet<String>),
) -> Result<Vec<String>, StoreError> {
    let mut found = BTreeSet::new();
    let reads = Period::covering(start_ms, end_ms).map(|period| store.catalog(metric, period, None));
    // Each is let go before others are asked for: all periods of a large metric together may be larger than the function.
    let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffered(PERIODS_AT_ONCE);
    while let Some(entries) = reads.next().await {
        for entry in entries? {
            collect(&entry, &mut found);
        }
    }
    Ok(found.into_iter().collect())
}
