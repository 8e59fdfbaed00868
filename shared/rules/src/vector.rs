//! From the series that a rule selects to its result vector: what follows knows nothing of the kind of its condition.

use crate::rule::{Query, Threshold};
use tidemark_model::{Labels, Sample, is_stale_marker};
use tidemark_tsdb::SelectedSeries;
use tidemark_tsdb::aggregate::fold::Fold;
use tidemark_tsdb::select::Visit;

/// How far back the latest sample of a series may lie, in milliseconds: Prometheus' default look-back.
pub const LOOKBACK_MS: i64 = 5 * 60 * 1_000;

/// One row of a result vector: one series or group that there is data of.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The labels of the series or group; no two rows of a vector have the same.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
    /// Whether the condition holds for it.
    pub holds: bool,
}

/// A part of a selected series.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Its labels.
    pub labels: &'a Labels,
    /// Its samples in ascending order of time. Never empty.
    pub samples: &'a [Sample],
}

/// The closed range of times, in milliseconds, that a rule reads at `now_ms`; `None` when it reads nothing. Left-open as in
/// Prometheus: a window of 300 s over samples every 15 s holds 20 of them, never 21.
#[must_use]
pub fn range(query: &Query, now_ms: i64) -> Option<(i64, i64)> {
    let Query::Threshold(threshold) = query else {
        return None;
    };
    let length_ms = match threshold.aggregation {
        None => LOOKBACK_MS,
        Some(_) => window_ms(threshold),
    };
    Some((now_ms.saturating_sub(length_ms).saturating_add(1), now_ms))
}

/// At most a week (`limits::MAX_RULE_SECONDS`).
fn window_ms(threshold: &Threshold) -> i64 {
    i64::try_from(threshold.window_seconds)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000)
}

/// The result vector, in ascending order of labels. The series must have been selected by the query's selector and [`range`].
///
/// Without an aggregation each series gives its latest sample; one whose latest is a staleness marker has ended and gives
/// none. With it each group gives what a query over the window would give, see [`tidemark_tsdb::aggregate::fold`]: `increase` and
/// `rate` are those of counters, whose drop is a reset and never a fall. A heartbeat has one row without labels, which holds.
#[must_use]
pub fn vector(query: &Query, series: &[SelectedSeries]) -> Vec<Row> {
    let views = series.iter().map(|one| View {
        labels: &one.labels,
        samples: &one.samples,
    });
    vector_of(query, &views.collect::<Vec<_>>())
}

/// As [`vector`], of the parts of selected series that lie in [`range`].
#[must_use]
pub fn vector_of(query: &Query, series: &[View<'_>]) -> Vec<Row> {
    let threshold = match query {
        Query::Threshold(threshold) => threshold,
        Query::Heartbeat => {
            return vec![Row {
                labels: Labels::default(),
                value: 1.0,
                holds: true,
            }];
        }
    };
    let row = |labels: Labels, value: f64| Row {
        labels,
        value,
        holds: threshold.condition.holds(value, threshold.threshold),
    };
    match threshold.aggregation {
        None => series
            .iter()
            .filter_map(|one| {
                let latest = one.samples.last().filter(|sample| !is_stale_marker(sample.value))?;
                Some(row(one.labels.clone(), latest.value))
            })
            .collect(),
        Some(function) => {
            let labels = series.iter().map(|one| one.labels);
            let window_ms = window_ms(threshold);
            let mut fold = Fold::new(function, None, window_ms, labels, Some(&threshold.group_by));
            for (index, one) in series.iter().enumerate() {
                fold.samples(index, one.samples);
            }
            let groups = fold.finish().into_iter();
            // Without a step the whole window is one interval.
            groups
                .filter_map(|(labels, values)| Some(row(labels, values.first()?.value)))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests;
