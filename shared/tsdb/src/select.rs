//! Reading: which series a selector names, and their samples in a time range.

use crate::store::StoreError;
use tidemark_model::{LabelFilter, Labels, Sample};

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
