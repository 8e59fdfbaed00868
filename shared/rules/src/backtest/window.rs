//! The window of a rule, sliding over selected series.

use crate::rule::Query;
use crate::vector::{self, View};
use tidemark_model::Timestamp;
use tidemark_tsdb::SelectedSeries;

/// Selected series, and for each the samples that the window holds. It only moves forward.
pub(super) struct Sliding<'a> {
    series: &'a [SelectedSeries],
    /// The first sample inside and the first one after it, for each series.
    ends: Vec<(usize, usize)>,
}

impl<'a> Sliding<'a> {
    pub(super) fn new(series: &'a [SelectedSeries]) -> Self {
        Self {
            series,
            ends: vec![(0, 0); series.len()],
        }
    }

    /// What a selection at that time would have; it must not be before the last one asked for.
    pub(super) fn at(&mut self, query: &Query, now: Timestamp) -> Vec<View<'a>> {
        let Some((start_ms, end_ms)) = vector::range(query, now.0) else {
            return Vec::new();
        };
        let mut views = Vec::new();
        for (one, (from, to)) in self.series.iter().zip(&mut self.ends) {
            let samples = &one.samples;
            while samples.get(*to).is_some_and(|sample| sample.timestamp_ms <= end_ms) {
                *to += 1;
            }
            while samples.get(*from).is_some_and(|sample| sample.timestamp_ms < start_ms) {
                *from += 1;
            }
            if *from < *to {
                views.push(View {
                    labels: &one.labels,
                    samples: &samples[*from..*to],
                });
            }
        }
        views
    }
}
