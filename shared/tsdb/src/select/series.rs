//! Reading the catalog: only what may have changed.
//!
//! A series is in the catalog before the first segment that names it, and before the mark of a late one. So a catalog that
//! was read after some segments names all that is in them, and stays good until a segment is seen that was not seen then;
//! for blocks, until the bucket's progress says that there was late data or that more windows are compacted.
//!
//! When it has to be read again: a bucket's batches are stored one after the other, each with its new series first. Once a
//! segment of a later arrival is there, nothing can appear before it any more; what is written out of order is given each time.

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
    /// Whether whatever is new in the windows shows by the segments that were read or by the progress.
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
    let before = recall.catalog(place.metric, period);
    if let Some(before) = &before
        && place.is_told
        && before.news == seen.news
        && (place.settled.is_none() || before.settled == place.settled)
    {
        return Ok(Arc::clone(before));
    }
    let after = before.as_ref().and_then(|before| before.complete_ms);
    let found = store.catalog(place.metric, period, after).await?;
    let entries = before.as_ref().map_or(&[][..], |before| before.entries.as_slice());
    let read = Arc::new(HeldCatalog {
        entries: joined(entries, found),
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
