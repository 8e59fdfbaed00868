//! The arithmetic of `avg max min sum count`, one piece of code for queries and for alert rules; [`fold`] adds steps of time
//! and the functions of counters for queries.
//!
//! It is Prometheus' (`promql/engine.go`, `util/kahansum`): sums are compensated after Neumaier, an average goes over to an
//! incremental mean where the sum would overflow, `min` and `max` take NaN only where there is nothing else, every other
//! aggregation with a NaN in it is NaN. Staleness markers are no values and are skipped.

use crate::rollup::Point;
use crate::select::SelectedSeries;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tidemark_model::{Labels, is_stale_marker};

pub mod fold;

/// What is computed from many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// The arithmetic mean.
    Avg,
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// The sum.
    Sum,
    /// How many values there are, NaN included.
    Count,
}

/// A text is no aggregation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of avg, max, min, sum, count")]
pub struct UnknownAggregation;

impl Aggregation {
    /// Every aggregation.
    pub const ALL: [Self; 5] = [Self::Avg, Self::Max, Self::Min, Self::Sum, Self::Count];

    /// The name, as requests and rules write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avg => "avg",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sum => "sum",
            Self::Count => "count",
        }
    }
}

impl fmt::Display for Aggregation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aggregation {
    type Err = UnknownAggregation;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|aggregation| aggregation.as_str() == text)
            .ok_or(UnknownAggregation)
    }
}

/// Takes values one by one. The order matters only to the last bits of sums and averages.
#[derive(Clone, Debug)]
pub struct Accumulator {
    aggregation: Aggregation,
    count: u64,
    /// The sum, the incremental mean, the smallest or the largest so far.
    value: f64,
    /// What the sum or the mean lost to rounding.
    compensation: f64,
    /// The sum would overflow: `value` is a mean.
    incremental: bool,
}

impl Accumulator {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(aggregation: Aggregation) -> Self {
        Self {
            aggregation,
            count: 0,
            value: 0.0,
            compensation: 0.0,
            incremental: false,
        }
    }

    /// Takes one more value; a staleness marker is skipped.
    pub fn push(&mut self, value: f64) {
        if is_stale_marker(value) {
            return;
        }
        self.take(value, 1);
    }

    /// Takes the aggregates of at least one value.
    pub fn push_point(&mut self, point: &Point) {
        let value = match self.aggregation {
            Aggregation::Sum | Aggregation::Avg => point.sum,
            Aggregation::Min => point.min,
            Aggregation::Max => point.max,
            Aggregation::Count => 0.0,
        };
        self.take(value, point.count);
    }

    /// Takes the sum, the smallest or the largest of so many values.
    fn take(&mut self, value: f64, values: u32) {
        let before = self.count;
        self.count += u64::from(values);
        match self.aggregation {
            Aggregation::Count => {}
            // The first value is taken as it is, so that one -0.0 alone stays -0.0.
            _ if before == 0 => self.value = value,
            Aggregation::Sum => (self.value, self.compensation) = add(value, self.value, self.compensation),
            Aggregation::Avg => self.push_mean(value, before),
            Aggregation::Min if self.value > value || self.value.is_nan() => self.value = value,
            Aggregation::Max if self.value < value || self.value.is_nan() => self.value = value,
            Aggregation::Min | Aggregation::Max => {}
        }
    }

    /// `value` is the sum of all values but the first `before`.
    fn push_mean(&mut self, value: f64, before: u64) {
        // Counts below 2^53 are exact.
        let (count, before) = (self.count as f64, before as f64);
        if !self.incremental {
            let (sum, compensation) = add(value, self.value, self.compensation);
            if !sum.is_infinite() {
                (self.value, self.compensation) = (sum, compensation);
                return;
            }
            self.incremental = true;
            self.value /= before;
            self.compensation /= before;
        }
        // Each side is divided by the count before the addition, which cannot overflow then. An infinite mean stays as it is,
        // until NaN or the other infinity makes it NaN.
        let share = before / count;
        (self.value, self.compensation) = add(value / count, share * self.value, share * self.compensation);
    }

    /// How many values were taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The result; `None` when no value was taken.
    #[must_use]
    pub fn finish(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        Some(match self.aggregation {
            Aggregation::Count => self.count as f64,
            Aggregation::Min | Aggregation::Max => self.value,
            // Adding the compensation's 0.0 to a single -0.0 would make it 0.0.
            Aggregation::Sum | Aggregation::Avg if self.compensation == 0.0 && self.count == 1 => self.value,
            Aggregation::Sum => self.value + self.compensation,
            Aggregation::Avg if self.incremental => self.value + self.compensation,
            Aggregation::Avg => {
                let count = self.count as f64;
                self.value / count + self.compensation / count
            }
        })
    }
}

/// Adds one value to a compensated sum (Neumaier 1974): the new sum and the new compensation.
pub(crate) fn add(value: f64, sum: f64, compensation: f64) -> (f64, f64) {
    let next = sum + value;
    if next.is_infinite() {
        // What was lost before an infinity does not matter, and infinity minus infinity would make NaN of it.
        return (next, 0.0);
    }
    let lost = if sum.abs() >= value.abs() {
        (sum - next) + value
    } else {
        (value - next) + sum
    };
    (next, compensation + lost)
}

/// The aggregate of one group.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The labels named by `group_by` that the group's series have; empty without `group_by`.
    pub labels: Labels,
    /// The aggregate of all samples of all series of the group.
    pub value: f64,
    /// How many samples it was computed from.
    pub count: u64,
}

/// Aggregates all samples of the series, in groups of those that agree in the labels named by `group_by`. Groups come in
/// ascending order of their labels; a group of nothing but staleness markers is left out, so that no series give no group.
#[must_use]
pub fn group(series: &[SelectedSeries], aggregation: Aggregation, group_by: &[String]) -> Vec<Group> {
    let mut groups: BTreeMap<Labels, Accumulator> = BTreeMap::new();
    for one in series {
        let accumulator = groups
            .entry(one.labels.project(group_by))
            .or_insert_with(|| Accumulator::new(aggregation));
        for sample in &one.samples {
            accumulator.push(sample.value);
        }
    }
    groups
        .into_iter()
        .filter_map(|(labels, accumulator)| {
            Some(Group {
                labels,
                value: accumulator.finish()?,
                count: accumulator.count(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
