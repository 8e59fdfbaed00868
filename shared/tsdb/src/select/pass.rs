//! Many selections of one bucket at one time: what they share is read once ([`super::ground`]).
//!
//! They are handed over one by one, in the order in which they are asked for, so that the samples of a few are in memory and not
//! those of all. One that hits a limit fails alone.

use super::ground::{Catalogs, Ground};
use super::scan::Selection;
use super::{Reader, SelectError, SelectedSeries, Wanted, samples_range};
use crate::store::{Store, StoreError};
use futures::stream::{self, Stream, StreamExt};
use std::collections::HashMap;
use std::sync::Arc;

/// How many selections of a bucket run at the same time: each holds the samples of one selector in memory.
const SELECTIONS_AT_ONCE: usize = 2;

/// See the module.
pub(super) fn select_many<'a, S: Store>(
    reader: &'a Reader<S>,
    wanted: &'a [Wanted],
    end_ms: i64,
) -> impl Stream<Item = Result<Vec<SelectedSeries>, SelectError>> + Send + 'a {
    let begun = stream::iter(wanted.first()).then(move |first| ground(reader, first, wanted, end_ms));
    begun.flat_map(move |ground| {
        let catalogs = match &ground {
            Ok(ground) => catalogs(reader, ground, wanted, end_ms),
            Err(_) => Vec::new(),
        };
        let ground = ground.map_err(Arc::new);
        // Taken from the list, so that a metric's catalogs go with the last selection of it.
        let mut catalogs = catalogs.into_iter();
        let reads = wanted.iter().map(move |one| {
            let (ground, catalogs) = (ground.clone(), catalogs.next());
            async move {
                let ground = ground.map_err(|error| again(&error))?;
                match catalogs {
                    Some(catalogs) => select(reader, ground, &catalogs, one, end_ms).await,
                    None => reader.select_now(&one.selector, one.start_ms, end_ms).await,
                }
            }
        });
        stream::iter(reads).buffered(SELECTIONS_AT_ONCE)
    })
}

/// What all of the bucket of the first of them share.
async fn ground<S: Store>(
    reader: &Reader<S>,
    first: &Wanted,
    wanted: &[Wanted],
    end_ms: i64,
) -> Result<Arc<Ground>, SelectError> {
    reader.recall.forget_old(end_ms);
    let bucket = reader.bucket_of(&first.selector.metric);
    let start_ms = wanted
        .iter()
        .fold(first.start_ms, |start_ms, one| one.start_ms.min(start_ms));
    let range = samples_range(start_ms, end_ms);
    Ok(Arc::new(Ground::of_many(reader, bucket, &range).await?))
}

/// The catalogs of the metric of each selection.
fn catalogs<'a, S: Store>(
    reader: &Reader<S>,
    ground: &Ground,
    wanted: &'a [Wanted],
    end_ms: i64,
) -> Vec<Arc<Catalogs<'a>>> {
    let mut starts: HashMap<&str, i64> = HashMap::new();
    for one in wanted {
        let start_ms = starts.entry(&one.selector.metric).or_insert(one.start_ms);
        *start_ms = one.start_ms.min(*start_ms);
    }
    let mut shared: HashMap<&str, Arc<Catalogs<'a>>> = HashMap::new();
    let of = |one: &'a Wanted| {
        let metric = one.selector.metric.as_str();
        let of_metric = shared.entry(metric).or_insert_with(|| {
            let start_ms = starts.get(metric).copied().unwrap_or(one.start_ms);
            let range = samples_range(start_ms, end_ms);
            Arc::new(Catalogs::of_many(metric, ground, reader, &range))
        });
        Arc::clone(of_metric)
    };
    wanted.iter().map(of).collect()
}

async fn select<S: Store>(
    reader: &Reader<S>,
    ground: Arc<Ground>,
    catalogs: &Catalogs<'_>,
    wanted: &Wanted,
    end_ms: i64,
) -> Result<Vec<SelectedSeries>, SelectError> {
    if ground.bucket != reader.bucket_of(&wanted.selector.metric) {
        return reader.select_now(&wanted.selector, wanted.start_ms, end_ms).await;
    }
    let range = samples_range(wanted.start_ms, end_ms);
    let selection = Selection::on(reader, ground, catalogs, &wanted.selector, &range).await?;
    Ok(super::untiered(super::hold(&selection).await?))
}

/// An error of all, for one more of them.
fn again(error: &Arc<SelectError>) -> SelectError {
    const OPERATION: &str = "reading what the selections of a bucket share";
    let source = Arc::clone(error);
    SelectError::Store(match &**error {
        SelectError::Store(StoreError::Corrupt { item, reason }) => StoreError::Corrupt {
            item: item.clone(),
            reason: reason.clone(),
        },
        SelectError::Store(StoreError::Refused { .. }) => StoreError::Refused {
            operation: OPERATION,
            source: Box::new(source),
        },
        _ => StoreError::Unavailable {
            operation: OPERATION,
            source: Some(Box::new(source)),
        },
    })
}

#[cfg(test)]
mod tests;
