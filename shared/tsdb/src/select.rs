//! Reading: which series a selector names, and their samples in a time range.

use crate::bounded;
use crate::layout::Layout;
use crate::segment;
use crate::store::{Store, StoreError};
use futures::StreamExt;
use std::collections::HashMap;
use std::sync::Arc;
use tidemark_model::series::hash_name;
use tidemark_model::{LabelFilter, Labels, Period, Sample, SeriesId, Window, limits};

/// The series of one metric whose labels pass a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// The metric name.
    pub metric: String,
    /// What the labels must match.
    pub filter: LabelFilter,
}

/// One selected series with its samples in ascending order of time, each time once.
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedSeries {
    /// The labels, without the metric name.
    pub labels: Labels,
    /// The samples inside the range. Staleness markers are among them. Never empty.
    pub samples: Vec<Sample>,
}

/// Why a selection has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The store did not answer.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    /// The selector names more series than a query may read.
    #[error("the query selects {found} series; at most {limit} are allowed")]
    TooManySeries {
        /// How many series match.
        found: usize,
        /// How many may match.
        limit: usize,
    },
    /// The range holds more samples than a query may read.
    #[error("the query reads more than {limit} samples")]
    TooManySamples {
        /// How many may be read.
        limit: usize,
    },
}

/// What rules and queries read samples through.
pub trait Select: Send + Sync {
    /// The series of the selector that have a sample in `start_ms..=end_ms`, in ascending order of their labels.
    fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> impl Future<Output = Result<Vec<SelectedSeries>, SelectError>> + Send;
}

/// Selects from a store: segments and the catalog that names their series.
#[derive(Clone, Debug)]
pub struct Reader<S> {
    store: Arc<S>,
    layout: Layout,
    cache_bytes: usize,
}

impl<S: Store> Reader<S> {
    /// A reader of a store with a layout, which keeps at most so many bytes of what it has read in memory.
    pub fn new(store: Arc<S>, layout: Layout, cache_bytes: usize) -> Self {
        Self {
            store,
            layout,
            cache_bytes,
        }
    }

    /// The most bytes that are kept in memory.
    #[must_use]
    pub fn cache_bytes(&self) -> usize {
        self.cache_bytes
    }

    /// The store underneath.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// How the store is divided.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The oldest time that is still kept.
    #[must_use]
    pub fn oldest_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.layout.retention.raw_ms)
    }

    /// The series of a selector that segments of the windows may name, and which of them each reference means, by period.
    async fn series(
        &self,
        selector: &Selector,
        windows: &[Window],
    ) -> Result<(Vec<Labels>, HashMap<(Period, u32), usize>), SelectError> {
        let mut periods: Vec<Period> = windows.iter().map(|window| Period::of(window.start_ms)).collect();
        periods.dedup();
        let mut labels = Vec::new();
        let mut by_id: HashMap<SeriesId, usize> = HashMap::new();
        let mut by_reference = HashMap::new();
        for period in periods {
            for entry in self.store.catalog(&selector.metric, period, None).await? {
                if !selector.filter.matches(&entry.labels) {
                    continue;
                }
                let series = *by_id.entry(entry.id).or_insert_with(|| {
                    labels.push(entry.labels);
                    labels.len() - 1
                });
                by_reference.insert((period, entry.reference), series);
            }
        }
        if labels.len() > limits::MAX_SERIES_PER_QUERY {
            return Err(SelectError::TooManySeries {
                found: labels.len(),
                limit: limits::MAX_SERIES_PER_QUERY,
            });
        }
        Ok((labels, by_reference))
    }
}

impl<S: Store> Select for Reader<S> {
    async fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        let bucket = self.layout.buckets.of_metric(hash_name(&selector.metric));
        let windows: Vec<Window> = self.layout.window.covering(start_ms, end_ms).collect();
        // The catalog first: a series is catalogued before the first segment that names it, so that whatever was stored
        // before this query began is found. What is stored while it runs may be missing.
        let (labels, by_reference) = self.series(selector, &windows).await?;
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); labels.len()];
        let mut read = 0;
        let reads = if labels.is_empty() { &[][..] } else { &windows };
        let reads: Vec<_> = reads
            .iter()
            .map(|window| self.store.segments(bucket, *window, None))
            .collect();
        // Window by window: the segments of a bucket hold other metrics too, and only a few windows fit into memory.
        let mut segments = bounded::stream(reads);
        let mut of = windows.iter();
        while let Some((segments, window)) = segments.next().await.zip(of.next()) {
            let period = Period::of(window.start_ms);
            for stored in segments? {
                let segment = segment::decode(&stored.data).map_err(|reason| StoreError::Corrupt {
                    item: format!("segment {bucket}#{window} of shard {}", stored.order.shard),
                    reason: reason.to_string(),
                })?;
                for reference in segment.references() {
                    let Some(series) = by_reference.get(&(period, *reference)) else {
                        continue;
                    };
                    let series = &mut samples[*series];
                    let before = series.len();
                    segment.read(*reference, series);
                    read += series.len() - before;
                }
                if read > limits::MAX_SAMPLES_PER_QUERY {
                    return Err(SelectError::TooManySamples {
                        limit: limits::MAX_SAMPLES_PER_QUERY,
                    });
                }
            }
        }
        let mut selected: Vec<SelectedSeries> = labels
            .into_iter()
            .zip(samples)
            .map(|(labels, samples)| SelectedSeries {
                labels,
                samples: merged(samples, start_ms, end_ms),
            })
            .filter(|series| !series.samples.is_empty())
            .collect();
        selected.sort_unstable_by(|a, b| a.labels.cmp(&b.labels));
        Ok(selected)
    }
}

/// The samples inside the range in order of time, each time once: of several, the last given.
fn merged(mut samples: Vec<Sample>, start_ms: i64, end_ms: i64) -> Vec<Sample> {
    samples.retain(|sample| (start_ms..=end_ms).contains(&sample.timestamp_ms));
    samples.sort_by_key(|sample| sample.timestamp_ms);
    // `dedup_by` drops its first argument, the later one, so the later value is moved to the one that stays.
    samples.dedup_by(|later, kept| {
        let same = later.timestamp_ms == kept.timestamp_ms;
        if same {
            *kept = *later;
        }
        same
    });
    samples
}

#[cfg(test)]
mod tests;
