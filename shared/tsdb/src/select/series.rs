//! Reading the catalog: only what may have changed.
//!
//! A series is in the catalog before the first segment that names it, and before the mark of a late one. So a catalog that
//! was read after some segments names all that is in them. It stays good while segments name no reference that none of those
//! named; for blocks, until the bucket's progress says that there was late data or that more windows are compacted.
//!
//! When it has to be read again: a bucket's batches are stored one after the other, each with its new series first. Once a
//! segment of a later arrival is there, no series can appear before it any more, and what is written out of order is given each
//! time. But a series may get *another* reference by a batch that is delivered again to a process that has not heard of the
//! first one, and that entry stands where the batch stood. So when a new reference is still unknown after what is new
//! was read, it belongs to another metric or is such a one, and all of the catalog is read.

use crate::recall::{HeldCatalog, Recall, Settled};
use crate::store::{CatalogEntry, Store, StoreError};
use std::collections::HashSet;
use std::sync::Arc;
use tidemark_model::{Bucket, Period};

/// Where a catalog is looked for.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) metric: &'a str,
    pub(super) bucket: Bucket,
    /// The bucket's progress, when windows are read that may be closed.
    pub(super) settled: Option<Settled>,
    /// Whether all segments that the selection needs were read before. Others may name any references.
    pub(super) is_told: bool,
}

/// The series of a metric in a period, as of now. To be called after the segments were read whose series are looked for.
pub(super) async fn read(
    store: &impl Store,
    recall: &Recall,
    place: Place<'_>,
    period: Period,
) -> Result<Arc<HeldCatalog>, StoreError> {
    // Before the store is asked: what is seen while it answers may not be in the answer.
    let seen = recall.seen(place.bucket);
    let before = recall.catalog(place.metric, period).filter(|_| place.is_told);
    let named = match &before {
        Some(before) if before.news == seen.news => Some(Vec::new()),
        Some(before) => recall.named_since(place.bucket, period, before.news),
        None => None,
    };
    if let Some(before) = &before
        && (place.settled.is_none() || before.settled == place.settled)
        && named.as_ref().is_some_and(Vec::is_empty)
    {
        return Ok(Arc::clone(before));
    }
    let new = match before.as_ref().zip(named) {
        Some((before, named)) if before.complete_ms.is_some() => {
            let found = store.catalog(place.metric, period, before.complete_ms).await?;
            let entries = joined(&before.entries, found);
            let known: HashSet<u32> = entries.iter().map(|entry| entry.reference).collect();
            named.iter().all(|named| known.contains(named)).then_some(entries)
        }
        _ => None,
    };
    let entries = match new {
        Some(entries) => entries,
        None => joined(&[], store.catalog(place.metric, period, None).await?),
    };
    let read = Arc::new(HeldCatalog {
        entries,
        // Another batch with the same arrival may still be on its way.
        complete_ms: seen
            .newest_arrival
            .and_then(|arrival| i64::try_from(arrival).ok())
            .map(|arrival| arrival - 1),
        news: seen.news,
        settled: place.settled.or(before.as_ref().and_then(|before| before.settled)),
    });
    recall.keep_catalog(place.metric, period, Arc::clone(&read));
    Ok(read)
}

/// What was known and what was found, without what was known to be late: all of that was found again.
fn joined(before: &[Arc<CatalogEntry>], found: Vec<CatalogEntry>) -> Vec<Arc<CatalogEntry>> {
    let again: HashSet<u32> = found.iter().map(|entry| entry.reference).collect();
    let kept = before
        .iter()
        .filter(|entry| !entry.late && !again.contains(&entry.reference));
    kept.cloned().chain(found.into_iter().map(Arc::new)).collect()
}
