//! Builds a batch, sample by sample, and holds each to the limits.

use super::{Batch, BatchSample, LabelSet, Name, NameAndSet, Pair, SampleError, TimeBounds};
use crate::intern::{Interner, mix, random_seed};
use std::borrow::Cow;
use tidemark_model::limits::{
    MAX_LABEL_NAME_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS_PER_SERIES, MAX_METRIC_NAME_BYTES, MAX_REPORTED_ERRORS,
    MAX_SERIES_BYTES,
};
use tidemark_model::{Sample, Timestamp, series};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The name under which Prometheus keeps the metric name among the labels.
const METRIC_NAME_LABEL: &str = "__name__";

/// Why a sample is refused: the field and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) field: Cow<'static, str>,
    pub(crate) reason: Cow<'static, str>,
}

impl Refusal {
    pub(crate) fn new(field: &'static str, reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: Cow::Borrowed(field),
            reason: reason.into(),
        }
    }

    /// Names the label at fault, but not all of a name that is itself too long.
    pub(crate) fn label(name: &str, reason: impl Into<Cow<'static, str>>) -> Self {
        let shown: String = name.chars().take(MAX_LABEL_NAME_BYTES / 4).collect();
        Self {
            field: Cow::Owned(format!("labels.{shown}")),
            reason: reason.into(),
        }
    }
}

/// Builds a [`Batch`].
#[derive(Debug)]
pub struct BatchBuilder<'a> {
    batch: Batch<'a>,
    bounds: TimeBounds,
    seed: u64,
    names: Interner,
    label_names: Interner,
    pairs: Interner,
    sets: Interner,
    series: Interner,
    /// The canonical encodings of the pairs, from which label sets are hashed.
    canonical: Vec<u8>,
    canonical_ends: Vec<u32>,
    /// How each pair stood in the request.
    raw: Vec<&'a str>,
    scratch: Vec<u8>,
    /// The pairs of the set that is being built, and of the one before.
    set_scratch: Vec<u32>,
    before: Vec<u32>,
    before_at: usize,
    /// How many samples were offered.
    offered: usize,
}

impl<'a> BatchBuilder<'a> {
    /// An empty batch.
    #[must_use]
    pub fn new(bounds: TimeBounds) -> Self {
        Self {
            batch: Batch::default(),
            bounds,
            seed: random_seed(),
            names: Interner::default(),
            label_names: Interner::default(),
            pairs: Interner::default(),
            sets: Interner::default(),
            series: Interner::default(),
            canonical: Vec::new(),
            canonical_ends: Vec::new(),
            raw: Vec::new(),
            scratch: Vec::new(),
            set_scratch: Vec::new(),
            before: Vec::new(),
            before_at: 0,
            offered: 0,
        }
    }

    /// Makes room for a number of samples.
    pub(crate) fn reserve(&mut self, samples: usize) {
        self.batch.samples.reserve(samples);
        self.batch.series.reserve(samples / 2);
    }

    /// Adds a sample, or records why it is refused. Labels may come in any order.
    pub fn push(
        &mut self,
        name: &'a str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        timestamp_ms: Option<i64>,
        value: f64,
    ) {
        let outcome = self.try_push(name, labels, timestamp_ms, value);
        self.record(outcome);
    }

    fn try_push(
        &mut self,
        name: &'a str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        timestamp_ms: Option<i64>,
        value: f64,
    ) -> Result<(), Refusal> {
        let name = self.name(Cow::Borrowed(name))?;
        self.begin_set();
        for (name, value) in labels {
            self.label(Cow::Borrowed(name), Cow::Borrowed(value), "")?;
        }
        let set = self.end_set()?;
        self.sample(name, set, timestamp_ms, value)
    }

    /// The batch.
    #[must_use]
    pub fn finish(self) -> Batch<'a> {
        self.batch
    }

    pub(crate) fn offered(&self) -> usize {
        self.offered
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Counts a sample that was offered, and keeps the reason when it was refused.
    pub(crate) fn record(&mut self, outcome: Result<(), Refusal>) {
        if let Err(Refusal { field, reason }) = outcome {
            self.batch.rejected += 1;
            if self.batch.errors.len() < MAX_REPORTED_ERRORS {
                self.batch.errors.push(SampleError {
                    index: self.offered,
                    field,
                    reason,
                });
            }
        }
        self.offered += 1;
    }

    /// The number of a metric name.
    pub(crate) fn name(&mut self, text: Cow<'a, str>) -> Result<u32, Refusal> {
        let hash = xxh3_64_with_seed(text.as_bytes(), self.seed);
        let names = &self.batch.names;
        if let Some(known) = self.names.find(hash, |number| names[number as usize].text == text) {
            return Ok(known);
        }
        if text.is_empty() {
            return Err(Refusal::new("name", "is empty"));
        }
        if text.len() > MAX_METRIC_NAME_BYTES {
            return Err(Refusal::new(
                "name",
                format!("is longer than {MAX_METRIC_NAME_BYTES} bytes"),
            ));
        }
        self.batch.names.push(Name {
            hash: series::hash_name(&text),
            text,
        });
        Ok(self.names.add(hash))
    }

    /// Begins a label set; labels follow, then [`Self::end_set`].
    pub(crate) fn begin_set(&mut self) {
        std::mem::swap(&mut self.before, &mut self.set_scratch);
        self.set_scratch.clear();
        self.before_at = 0;
    }

    /// Adds a label to the set that was begun. `raw` is how the label stands in the request, for [`Self::label_as_before`];
    /// empty where that is not one piece of text, or not a plain one.
    pub(crate) fn label(&mut self, name: Cow<'a, str>, value: Cow<'a, str>, raw: &'a str) -> Result<(), Refusal> {
        // Before anything is interned, so that a refused set does not grow the tables without end.
        if self.set_scratch.len() >= MAX_LABELS_PER_SERIES {
            return Err(Refusal::new(
                "labels",
                format!("has more than {MAX_LABELS_PER_SERIES} labels"),
            ));
        }
        let name = self.label_name(name)?;
        let hash = xxh3_64_with_seed(value.as_bytes(), mix(self.seed, name));
        let pairs = &self.batch.pairs;
        let known = self.pairs.find(hash, |number| {
            let pair = &pairs[number as usize];
            pair.name == name && pair.value == value
        });
        let pair = match known {
            Some(pair) => pair,
            None => self.new_pair(hash, name, value, raw)?,
        };
        self.set_scratch.push(pair);
        Ok(())
    }

    /// Adds the label that stands next in the set before, when the text goes on with the same one: the series of a host share
    /// most labels. Returns the length of its text.
    pub(crate) fn label_as_before(&mut self, text: &str) -> Option<usize> {
        let pair = *self.before.get(self.before_at)?;
        let raw = self.raw[pair as usize];
        if raw.is_empty()
            || !text.as_bytes().starts_with(raw.as_bytes())
            || self.set_scratch.len() >= MAX_LABELS_PER_SERIES
        {
            return None;
        }
        self.before_at += 1;
        self.set_scratch.push(pair);
        Some(raw.len())
    }

    fn label_name(&mut self, text: Cow<'a, str>) -> Result<u32, Refusal> {
        let known = &self.batch.label_names;
        // Label sets of one request most often have the same names in the same order.
        if let Some(pair) = self.before.get(self.before_at) {
            let guess = self.batch.pairs[*pair as usize].name;
            if known[guess as usize] == text {
                self.before_at += 1;
                return Ok(guess);
            }
        }
        let hash = xxh3_64_with_seed(text.as_bytes(), self.seed);
        if let Some(known) = self.label_names.find(hash, |number| known[number as usize] == text) {
            return Ok(known);
        }
        if text.is_empty() {
            return Err(Refusal::new("labels", "has a label with an empty name"));
        }
        if text == METRIC_NAME_LABEL {
            let reason = "is reserved; the metric name goes into the field `name`";
            return Err(Refusal::label(METRIC_NAME_LABEL, reason));
        }
        if text.len() > MAX_LABEL_NAME_BYTES {
            let reason = format!("has a name longer than {MAX_LABEL_NAME_BYTES} bytes");
            return Err(Refusal::label(&text, reason));
        }
        self.batch.label_names.push(text);
        Ok(self.label_names.add(hash))
    }

    fn new_pair(&mut self, hash: u64, name: u32, value: Cow<'a, str>, raw: &'a str) -> Result<u32, Refusal> {
        let label_name = &*self.batch.label_names[name as usize];
        if value.len() > MAX_LABEL_VALUE_BYTES {
            let reason = format!("has a value longer than {MAX_LABEL_VALUE_BYTES} bytes");
            return Err(Refusal::label(label_name, reason));
        }
        series::write_canonical(&mut self.canonical, std::iter::once((label_name, &*value)));
        // A request is at most 32 MB, and a canonical pair at most 9/6 of its JSON.
        self.canonical_ends.push(self.canonical.len() as u32);
        self.batch.pairs.push(Pair { name, value });
        self.raw.push(raw);
        Ok(self.pairs.add(hash))
    }

    /// The number of the label set that was begun.
    pub(crate) fn end_set(&mut self) -> Result<u32, Refusal> {
        let (pairs, label_names) = (&self.batch.pairs, &self.batch.label_names);
        let name = |pair: &u32| &label_names[pairs[*pair as usize].name as usize];
        if !self.set_scratch.is_sorted_by(|a, b| name(a) < name(b)) {
            self.set_scratch.sort_unstable_by(|a, b| name(a).cmp(name(b)));
            for two in self.set_scratch.windows(2) {
                if name(&two[0]) == name(&two[1]) {
                    return Err(Refusal::label(name(&two[0]), "is given twice"));
                }
            }
        }
        let hash = self.set_scratch.iter().fold(self.seed, |hash, pair| mix(hash, *pair));
        let batch = &self.batch;
        let known = self
            .sets
            .find(hash, |number| batch.pairs_of(number) == self.set_scratch);
        if let Some(known) = known {
            return Ok(known);
        }
        self.scratch.clear();
        for pair in &self.set_scratch {
            let start = match pair.checked_sub(1) {
                Some(before) => self.canonical_ends[before as usize] as usize,
                None => 0,
            };
            let end = self.canonical_ends[*pair as usize] as usize;
            self.scratch.extend_from_slice(&self.canonical[start..end]);
        }
        // Each pair's canonical encoding has its two lengths in four bytes each.
        let bytes = self.scratch.len() - 8 * self.set_scratch.len();
        if bytes > MAX_SERIES_BYTES {
            return Err(too_many_bytes());
        }
        let start = self.batch.set_pairs.len() as u32;
        self.batch.set_pairs.extend_from_slice(&self.set_scratch);
        self.batch.sets.push(LabelSet {
            start,
            end: self.batch.set_pairs.len() as u32,
            hash: xxh3_64(&self.scratch),
            bytes: bytes as u32,
        });
        Ok(self.sets.add(hash))
    }

    /// Adds a sample to the series of a name and a label set.
    pub(crate) fn sample(&mut self, name: u32, set: u32, timestamp_ms: Option<i64>, value: f64) -> Result<(), Refusal> {
        let timestamp_ms = timestamp_ms.unwrap_or(self.bounds.now_ms);
        if timestamp_ms < self.bounds.oldest_ms {
            let oldest = Timestamp(self.bounds.oldest_ms).to_rfc3339();
            return Err(Refusal::new(
                "timestamp",
                format!("is older than {oldest}, the end of the retention"),
            ));
        }
        if timestamp_ms > self.bounds.newest_ms {
            let newest = Timestamp(self.bounds.newest_ms).to_rfc3339();
            return Err(Refusal::new(
                "timestamp",
                format!("is later than {newest}, too far in the future"),
            ));
        }
        let bytes = self.batch.names[name as usize].text.len() + self.batch.sets[set as usize].bytes as usize;
        if bytes > MAX_SERIES_BYTES {
            return Err(too_many_bytes());
        }
        let series = self.series_of(NameAndSet { name, set });
        let sample = Sample { timestamp_ms, value };
        self.batch.samples.push(BatchSample { series, sample });
        Ok(())
    }

    fn series_of(&mut self, at: NameAndSet) -> u32 {
        let series = &self.batch.series;
        // A buffering agent sends the samples of a series one after the other.
        if let Some(last) = self.batch.samples.last()
            && series[last.series as usize] == at
        {
            return last.series;
        }
        let hash = mix(mix(self.seed, at.name), at.set);
        if let Some(known) = self.series.find(hash, |number| series[number as usize] == at) {
            return known;
        }
        self.batch.series.push(at);
        self.series.add(hash)
    }
}

fn too_many_bytes() -> Refusal {
    Refusal::new(
        "labels",
        format!("and the name take more than {MAX_SERIES_BYTES} bytes together"),
    )
}

#[cfg(test)]
mod tests;
