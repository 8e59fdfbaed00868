//! Reading: which series a selector names, and what there is of them in a time range.
//!
//! A [`Reader`] plans a query ([`crate::plan`]), opens a [`Selection`] and reads it to a [`Visit`]. Everything that it reads
//! is immutable and is remembered (`recall`), so that a process that has read before asks only for what is new. What
//! was stored before a query began is in its answer; what is stored while it runs may be.

use crate::layout::Layout;
use crate::plan::{Part, Range, Want};
use crate::recall::Recall;
use crate::rollup::Point;
use crate::store::{Store, StoreError};
use crate::tier::Tier;
use futures::stream::{self, Stream, StreamExt};
use std::sync::Arc;
use tidemark_model::series::hash_name;
use tidemark_model::{Bucket, LabelFilter, Labels, Sample, limits};

mod blocks;
mod gather;
mod ground;
mod pass;
mod scan;
mod series;
mod windows;

pub use scan::{Points, Selection, Visit};
pub(crate) use windows::hash_of;

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

/// One selected series with its samples and its aggregates, each in ascending order of time. What comes from which tier
/// does not overlap.
#[derive(Clone, Debug, PartialEq)]
pub struct TieredSeries {
    /// The labels, without the metric name.
    pub labels: Labels,
    /// The samples. Staleness markers are among them.
    pub samples: Vec<Sample>,
    /// The aggregates, with the tier whose resolution they have.
    pub points: Vec<(Tier, Point)>,
}

/// Series, and which tier served which part of the range.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiered {
    /// The series that have anything in the range, in ascending order of their labels.
    pub series: Vec<TieredSeries>,
    /// The parts in order of time.
    pub parts: Vec<Part>,
}

/// One of several selections that are read together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which series.
    pub selector: Selector,
    /// The first millisecond.
    pub start_ms: i64,
}

/// What rules read samples through.
pub trait Select: Send + Sync {
    /// The series of the selector that have a sample in `start_ms..=end_ms`, in ascending order of their labels. The end is
    /// taken for the present: what raw samples are kept is counted from it.
    fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> impl Future<Output = Result<Vec<SelectedSeries>, SelectError>> + Send;

    /// The answers of [`Self::select`] to several selections with one end, in the order given, each by itself: one that hits a limit
    /// fails alone. They are read as they are asked for, a few at once. An implementation may read what selections of one
    /// [`Self::bucket`] share once for all; so it is asked for those of one bucket at a time.
    fn select_many<'a>(
        &'a self,
        wanted: &'a [Wanted],
        end_ms: i64,
    ) -> impl Stream<Item = Result<Vec<SelectedSeries>, SelectError>> + Send + 'a {
        stream::iter(wanted).then(move |one| self.select(&one.selector, one.start_ms, end_ms))
    }

    /// Where the series of a metric lie.
    fn bucket(&self, _metric: &str) -> Bucket {
        Bucket(0)
    }

    /// The oldest time of which samples are kept.
    fn oldest_sample_ms(&self, _now_ms: i64) -> i64 {
        i64::MIN
    }
}

/// Selects from a store. Cheap to clone; the clones remember together.
#[derive(Debug)]
pub struct Reader<S> {
    store: Arc<S>,
    layout: Layout,
    recall: Arc<Recall>,
}

impl<S> Clone for Reader<S> {
    fn clone(&self) -> Self {
        Self {
            store: Arc::clone(&self.store),
            layout: self.layout,
            recall: Arc::clone(&self.recall),
        }
    }
}

impl<S: Store> Reader<S> {
    /// A reader of a store with a layout, which keeps at most so many bytes of what it has read in memory.
    pub fn new(store: Arc<S>, layout: Layout, cache_bytes: usize) -> Self {
        Self {
            store,
            layout,
            recall: Arc::new(Recall::new(cache_bytes)),
        }
    }

    /// The store underneath.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// How the store is divided.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How many bytes are kept in memory.
    #[must_use]
    pub fn remembered_bytes(&self) -> usize {
        self.recall.bytes()
    }

    /// The oldest time of which anything is still kept.
    #[must_use]
    pub fn oldest_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.layout.retention.longest_ms())
    }

    /// Opens a selection: finds its series, and which part of the range is read from where.
    ///
    /// # Errors
    /// When it has too many series, or the store does not answer.
    pub async fn open(&self, selector: &Selector, range: &Range) -> Result<Selection<'_, S>, SelectError> {
        self.recall.forget_old(range.now_ms);
        Selection::open(self, selector, range).await
    }

    /// Everything that a selection has, held in memory.
    ///
    /// # Errors
    /// When a limit is hit, or the store does not answer.
    pub async fn select_tiers(&self, selector: &Selector, range: &Range) -> Result<Tiered, SelectError> {
        hold(&self.open(selector, range).await?).await
    }

    /// The bucket of a metric.
    fn bucket_of(&self, metric: &str) -> Bucket {
        self.layout.buckets.of_metric(hash_name(metric))
    }

    /// See [`Select::select`].
    async fn select_now(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        let range = samples_range(start_ms, end_ms);
        Ok(untiered(self.select_tiers(selector, &range).await?))
    }
}

/// The range of a selection of samples whose end is the present.
fn samples_range(start_ms: i64, end_ms: i64) -> Range {
    Range {
        start_ms,
        end_ms,
        want: Want::Samples,
        counter: false,
        now_ms: end_ms,
    }
}

/// Everything that a selection has.
async fn hold<S: Store>(selection: &Selection<'_, S>) -> Result<Tiered, SelectError> {
    let nothing = |labels: &Labels| TieredSeries {
        labels: labels.clone(),
        samples: Vec::new(),
        points: Vec::new(),
    };
    let mut held = Held {
        series: selection.labels().map(nothing).collect(),
        count: 0,
    };
    selection.read(&mut held).await?;
    if held.count > limits::MAX_SELECTED_SAMPLES {
        return Err(SelectError::TooManySamples {
            limit: limits::MAX_SELECTED_SAMPLES,
        });
    }
    held.series
        .retain(|one| !one.samples.is_empty() || !one.points.is_empty());
    Ok(Tiered {
        series: held.series,
        parts: selection.parts().to_vec(),
    })
}

/// The samples alone.
fn untiered(tiered: Tiered) -> Vec<SelectedSeries> {
    let samples_of = |one: TieredSeries| SelectedSeries {
        labels: one.labels,
        samples: one.samples,
    };
    tiered.series.into_iter().map(samples_of).collect()
}

impl<S: Store> Select for Reader<S> {
    async fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        self.select_now(selector, start_ms, end_ms).await
    }

    fn select_many<'a>(
        &'a self,
        wanted: &'a [Wanted],
        end_ms: i64,
    ) -> impl Stream<Item = Result<Vec<SelectedSeries>, SelectError>> + Send + 'a {
        pass::select_many(self, wanted, end_ms)
    }

    fn bucket(&self, metric: &str) -> Bucket {
        self.bucket_of(metric)
    }

    fn oldest_sample_ms(&self, now_ms: i64) -> i64 {
        now_ms.saturating_sub(self.layout.retention.raw_ms)
    }
}

/// Holds everything.
struct Held {
    series: Vec<TieredSeries>,
    count: usize,
}

impl Visit for Held {
    fn samples(&mut self, series: usize, samples: &[Sample]) {
        self.count += samples.len();
        self.series[series].samples.extend_from_slice(samples);
    }

    fn points(&mut self, series: usize, points: Points<'_>) {
        self.count += points.points.len();
        let points_of = &mut self.series[series].points;
        points_of.extend(points.points.iter().map(|point| (points.tier, *point)));
    }

    fn reached(&mut self, _: i64) -> bool {
        self.count <= limits::MAX_SELECTED_SAMPLES
    }
}

#[cfg(test)]
mod tests;
