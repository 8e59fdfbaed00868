//! Reading the segments of a window: only those that are not remembered.
//!
//! Why that is exact: the keys of a bucket's normal segments only grow, batch by batch. When a batch is there as a whole, all
//! batches before it are; what is written afterwards comes after it in order, or is a batch that was cut again, whose samples
//! the complete one holds too and whose place in the merge is before it. A batch that is there in parts is no such mark: it
//! is read again, with all that comes after, and so are late segments, which may appear anywhere.
//!
//! A query of the last minutes does not read the hours before them: no sample is taken that lies further in the future than
//! [`limits::MAX_FUTURE_MS`], so that what arrived longer before the range holds nothing of it.

use crate::recall::{HeldSegment, HeldWindow, Recall};
use crate::segment;
use crate::sequence::SequenceNumber;
use crate::store::{SegmentOrder, Store, StoreError, StoredSegment};
use std::collections::HashMap;
use std::sync::Arc;
use tidemark_model::{Bucket, Period, Window, limits};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How far ingest's clock may be ahead of the stream's.
const MAX_SKEW_MS: i64 = 120_000;

/// The segments of a window that may hold samples of `from_ms` and later, with what is new since the last time.
pub(super) async fn read(
    store: &impl Store,
    recall: &Recall,
    bucket: Bucket,
    window: Window,
    from_ms: i64,
) -> Result<Arc<HeldWindow>, StoreError> {
    let after = (from_ms > window.start_ms).then(|| arrived_before(from_ms));
    let before = recall.window(bucket, window).filter(|held| held.covers(after));
    let before = before.unwrap_or_else(|| {
        Arc::new(HeldWindow {
            after,
            ..HeldWindow::default()
        })
    });
    let stored = store.segments(bucket, window, before.newest()).await?;
    let newest_arrival = stored
        .iter()
        .filter(|stored| !stored.late)
        .map(|stored| stored.order.arrival_ms)
        .max();
    // Decoded before: what has one key never changes.
    let again: HashMap<SegmentOrder, &HeldSegment> = before.rest.iter().map(|held| (held.order, held)).collect();
    let (mut normal, mut late) = (Vec::new(), Vec::new());
    for stored in stored {
        let place = if stored.late { &mut late } else { &mut normal };
        place.push(match again.get(&stored.order) {
            Some(known) => (*known).clone(),
            None => decoded(&stored)?,
        });
    }
    let unfinished = normal.split_off(complete(&normal));
    let rest_hash = hash_of(unfinished.iter().chain(&late).map(|held| held.order));
    if normal.is_empty() && rest_hash == before.rest_hash {
        return Ok(before);
    }
    // One that is there again names nothing new.
    let segments = normal.iter().chain(&unfinished).chain(&late);
    recall.note(bucket, Period::of(window.start_ms), newest_arrival, segments);
    let read = Arc::new(HeldWindow {
        after: before.after,
        known: before.known.iter().cloned().chain(normal).collect(),
        rest: unfinished.into_iter().chain(late).collect(),
        rest_hash,
    });
    recall.keep_window(bucket, window, Arc::clone(&read));
    Ok(read)
}

/// A place that everything comes before that arrived too early to hold a sample of that time.
fn arrived_before(timestamp_ms: i64) -> SegmentOrder {
    let arrival_ms = timestamp_ms.saturating_sub(limits::MAX_FUTURE_MS + MAX_SKEW_MS);
    SegmentOrder {
        arrival_ms: u64::try_from(arrival_ms).unwrap_or(0),
        last: SequenceNumber::BEFORE_ALL,
        shard: 0,
        first_hash: 0,
        part: 0,
        last_part: 0,
    }
}

fn decoded(stored: &StoredSegment) -> Result<HeldSegment, StoreError> {
    let segment = segment::decode(&stored.data).map_err(|reason| StoreError::Corrupt {
        item: format!(
            "segment {}#{} of shard {}",
            stored.bucket, stored.window, stored.order.shard
        ),
        reason: reason.to_string(),
    })?;
    Ok(HeldSegment {
        order: stored.order,
        bytes: segment.memory_bytes(),
        segment: Arc::new(segment),
    })
}

/// How many segments, in order, end with a batch of which all parts are there.
fn complete(normal: &[HeldSegment]) -> usize {
    let batch = |order: &SegmentOrder| SegmentOrder { part: 0, ..*order };
    let mut end = normal.len();
    while let Some(last) = end.checked_sub(1).map(|at| normal[at].order) {
        let start = normal[..end].partition_point(|held| batch(&held.order) < batch(&last));
        if end - start == usize::from(last.last_part) + 1 {
            return end;
        }
        end = start;
    }
    0
}

/// A hash of keys in order; that of none is 0.
pub(crate) fn hash_of(orders: impl Iterator<Item = SegmentOrder>) -> u64 {
    orders.fold(0, |hash, order| xxh3_64_with_seed(&order.to_bytes(), hash))
}

/// All segments in the order in which they are merged: of two samples with one time, that of the later one holds.
pub(super) fn in_order(window: &HeldWindow) -> Vec<&HeldSegment> {
    let mut all: Vec<&HeldSegment> = window.known.iter().chain(&window.rest).collect();
    // Sorted for the greater part.
    all.sort_by_key(|held| held.order);
    all
}
