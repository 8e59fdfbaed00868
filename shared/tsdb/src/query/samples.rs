//! A page of samples, in order of time and then of the labels' hashes, written while they are read: reading stops where the page
//! does.

use super::place::{self, Place};
use super::rows::{Answer, Row};
use super::unwritable;
use crate::aggregate::{Accumulator, Aggregation};
use crate::plan::Part;
use crate::select::{Points, Visit};
use serde_json::value::RawValue;
use tidemark_model::value::JsonF64;
use tidemark_model::{Labels, Sample, Timestamp};
use tidemark_wire::ApiError;

/// Takes what a selection reads.
pub(super) struct Samples {
    /// The place among the series by the hash of the labels, for each series.
    rank_of: Vec<u32>,
    /// The labels as they are written, and their hash, in that order.
    by_rank: Vec<(u64, Box<RawValue>)>,
    after: Option<Place>,
    /// What was read since the last time that all before was.
    waiting: Vec<Waiting>,
    answer: Answer,
    last: Option<Place>,
    /// Set when the page is full.
    next: Option<Place>,
    failure: Option<ApiError>,
}

#[derive(Clone, Copy)]
struct Waiting {
    timestamp_ms: i64,
    rank: u32,
    count: u32,
    value: f64,
}

impl Samples {
    /// A page of series with these labels, of what comes after a place.
    pub(super) fn new<'l>(
        answer: Answer,
        labels: impl Iterator<Item = &'l Labels>,
        after: Option<Place>,
    ) -> Result<Self, ApiError> {
        let mut hashed: Vec<(u64, usize, Box<RawValue>)> = Vec::new();
        for labels in labels {
            // Written once, and pasted into every row of their series.
            let written = serde_json::value::to_raw_value(labels).map_err(unwritable)?;
            hashed.push((place::hash_of(labels), hashed.len(), written));
        }
        hashed.sort_unstable_by_key(|(hash, series, _)| (*hash, *series));
        let mut rank_of = vec![0; hashed.len()];
        for (rank, (_, series, _)) in (0..).zip(&hashed) {
            rank_of[*series] = rank;
        }
        Ok(Self {
            rank_of,
            by_rank: hashed.into_iter().map(|(hash, _, written)| (hash, written)).collect(),
            after,
            waiting: Vec::new(),
            answer,
            last: after,
            next: None,
            failure: None,
        })
    }

    pub(super) fn finish(self, parts: &[Part]) -> Result<Vec<u8>, ApiError> {
        match self.failure {
            Some(failure) => Err(failure),
            None => self.answer.finish(parts, self.next.map(Place::token)),
        }
    }

    fn push(&mut self, series: usize, timestamp_ms: i64, value: f64, count: u32) {
        let rank = self.rank_of[series];
        let place = Place::Sample {
            timestamp_ms,
            labels: self.by_rank[rank as usize].0,
        };
        if self.after.is_some_and(|after| place <= after) {
            return;
        }
        self.waiting.push(Waiting {
            timestamp_ms,
            rank,
            count,
            value,
        });
        // What no page can hold need not wait, so that memory is bounded however much a window has.
        let most = self.answer.most_rows() + 1;
        if self.waiting.len() >= most.saturating_mul(2).max(10_000) {
            self.sort();
            self.waiting.truncate(most);
        }
    }

    fn sort(&mut self) {
        self.waiting.sort_unstable_by_key(|row| (row.timestamp_ms, row.rank));
    }

    fn write(&mut self) -> Result<(), ApiError> {
        self.sort();
        for row in std::mem::take(&mut self.waiting) {
            let (labels, written) = &self.by_rank[row.rank as usize];
            let fits = self.answer.push(&Row::<'_, RawValue> {
                labels: written,
                value: JsonF64(row.value),
                count: u64::from(row.count),
                timestamp: Some(Timestamp(row.timestamp_ms)),
            })?;
            if !fits {
                self.next = self.last;
                return Ok(());
            }
            self.last = Some(Place::Sample {
                timestamp_ms: row.timestamp_ms,
                labels: *labels,
            });
        }
        Ok(())
    }
}

impl Visit for Samples {
    fn samples(&mut self, series: usize, samples: &[Sample]) {
        for sample in samples {
            self.push(series, sample.timestamp_ms, sample.value, 1);
        }
    }

    fn points(&mut self, series: usize, points: Points<'_>) {
        for point in points.points {
            let mut mean = Accumulator::new(Aggregation::Avg);
            mean.push_point(point);
            if let Some(value) = mean.finish() {
                self.push(series, point.start_ms, value, point.count);
            }
        }
    }

    fn reached(&mut self, _: i64) -> bool {
        if let Err(failure) = self.write() {
            self.failure = Some(failure);
        }
        self.next.is_none() && self.failure.is_none()
    }
}
