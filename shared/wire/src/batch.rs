//! The samples of one request: distinct series, and samples in the order of their arrival. Every protocol builds a
//! [`Batch`] through a [`BatchBuilder`], which is where samples are checked, so that all of them have the same limits.
//!
//! A batch borrows its texts from the request. Names, labels and label sets that repeat are kept once, and samples name their
//! series by number: nothing is allocated per sample.

pub(crate) mod builder;

pub use builder::BatchBuilder;

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
    pub(crate) names: Vec<Name<'a>>,
    pub(crate) label_names: Vec<Cow<'a, str>>,
    pub(crate) pairs: Vec<Pair<'a>>,
    pub(crate) sets: Vec<LabelSet>,
    /// The pairs of all sets, each set's in ascending order of label names.
    pub(crate) set_pairs: Vec<u32>,
    pub(crate) series: Vec<NameAndSet>,
    samples: Vec<BatchSample>,
    errors: Vec<SampleError>,
    rejected: usize,
}

/// A metric name.
#[derive(Debug)]
pub(crate) struct Name<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) hash: u64,
}

/// A label: the number of its name, and its value.
#[derive(Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) name: u32,
    pub(crate) value: Cow<'a, str>,
}

/// A set of labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LabelSet {
    /// Into `set_pairs`.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// The second half of a series id.
    pub(crate) hash: u64,
    /// The bytes of all names and values.
    pub(crate) bytes: u32,
}

/// A series, by the numbers of its metric name and its label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NameAndSet {
    pub(crate) name: u32,
    pub(crate) set: u32,
}

/// One series of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchSeries<'b> {
    batch: &'b Batch<'b>,
    at: NameAndSet,
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
    pub fn series<'b>(&'b self) -> impl ExactSizeIterator<Item = BatchSeries<'b>>
    where
        'a: 'b,
    {
        self.series.iter().map(|at| BatchSeries { batch: self, at: *at })
    }

    pub(crate) fn pairs_of(&self, set: u32) -> &[u32] {
        let set = &self.sets[set as usize];
        &self.set_pairs[set.start as usize..set.end as usize]
    }
}

impl<'b> BatchSeries<'b> {
    /// The fingerprint.
    #[must_use]
    pub fn id(&self) -> SeriesId {
        SeriesId {
            name: self.batch.names[self.at.name as usize].hash,
            labels: self.batch.sets[self.at.set as usize].hash,
        }
    }

    /// The metric name.
    #[must_use]
    pub fn name(&self) -> &'b str {
        &self.batch.names[self.at.name as usize].text
    }

    /// The labels in ascending order of their names.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = (&'b str, &'b str)> + use<'b> {
        let batch = self.batch;
        batch.pairs_of(self.at.set).iter().map(|pair| {
            let pair = &batch.pairs[*pair as usize];
            (&*batch.label_names[pair.name as usize], &*pair.value)
        })
    }
}
