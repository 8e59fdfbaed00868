//! From what a selection reads to one value for each group and step of time, whatever tiers it comes from.
//!
//! `avg max min sum count` take all samples of all series of a group alike. `last increase rate` are computed for each series
//! first, then summed over the group. The increase is that of a counter: the sum of the steps from each sample to the next, where a
//! drop is a reset and the step is the new value itself; a step belongs to the interval of its later sample. Staleness markers are
//! skipped. A step from or to NaN or an infinity counts nothing.

use super::{Accumulator, Aggregation, add};
use crate::rollup::Point;
use crate::select::{Points, Visit};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tidemark_model::{Labels, Sample, is_stale_marker, limits};

/// What a query computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Function {
    /// Of all samples of the group.
    Over(Aggregation),
    /// The last value of each series, summed.
    Last,
    /// How much each counter rose, summed.
    Increase,
    /// The increase per second.
    Rate,
}

/// A text is no function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of avg, max, min, sum, count, last, rate, increase")]
pub struct UnknownFunction;

impl Function {
    /// The name, as requests write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Over(aggregation) => aggregation.as_str(),
            Self::Last => "last",
            Self::Increase => "increase",
            Self::Rate => "rate",
        }
    }

    /// Whether it looks at the steps from sample to sample.
    #[must_use]
    pub fn is_of_counters(self) -> bool {
        matches!(self, Self::Increase | Self::Rate)
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Function {
    type Err = UnknownFunction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "last" => Ok(Self::Last),
            "increase" => Ok(Self::Increase),
            "rate" => Ok(Self::Rate),
            _ => text.parse().map(Self::Over).map_err(|_| UnknownFunction),
        }
    }
}

impl TryFrom<String> for Function {
    type Error = UnknownFunction;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Function> for String {
    fn from(function: Function) -> Self {
        function.as_str().to_owned()
    }
}

/// One result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Value {
    /// The start of its interval; 0 when the whole range is one.
    pub start_ms: i64,
    /// The value.
    pub value: f64,
    /// How many samples it stands for.
    pub count: u64,
}

/// Takes what a selection reads.
#[derive(Debug)]
pub struct Fold {
    function: Function,
    step_ms: Option<i64>,
    /// What a rate is counted over, in seconds.
    seconds: f64,
    /// The group of each series.
    group_of: Vec<usize>,
    groups: Vec<(Labels, BTreeMap<i64, Cell>)>,
    counters: Vec<Counter>,
    cells: usize,
}

#[derive(Clone, Debug)]
struct Cell {
    accumulator: Accumulator,
    /// The samples, where the accumulator takes series.
    samples: u64,
}

/// What is known of one series.
#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    last: Option<f64>,
    open: Option<Open>,
}

/// The interval that a series is in.
#[derive(Clone, Copy, Debug)]
struct Open {
    interval: i64,
    /// A compensated sum.
    increase: (f64, f64),
    last: f64,
    samples: u64,
}

impl Fold {
    /// Nothing yet, of series with these labels. Without `group_by` all of them are one group, and with `None` each its own.
    /// Without a step the whole range, of `range_ms`, is one interval.
    pub fn new<'l>(
        function: Function,
        step_ms: Option<i64>,
        range_ms: i64,
        labels: impl Iterator<Item = &'l Labels>,
        group_by: Option<&[String]>,
    ) -> Self {
        let mut by_labels: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
        let mut series = 0;
        for labels in labels {
            let of_group = group_by.map_or_else(|| labels.clone(), |names| labels.project(names));
            by_labels.entry(of_group).or_default().push(series);
            series += 1;
        }
        let mut group_of = vec![0; series];
        let mut groups = Vec::with_capacity(by_labels.len());
        for (labels, members) in by_labels {
            for member in members {
                group_of[member] = groups.len();
            }
            groups.push((labels, BTreeMap::new()));
        }
        Self {
            function,
            step_ms,
            seconds: step_ms.unwrap_or(range_ms).max(1) as f64 / 1_000.0,
            group_of,
            groups,
            counters: vec![Counter::default(); series],
            cells: 0,
        }
    }

    /// Whether there are more results than a query may have. What was read then is not all.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.cells > limits::MAX_RESULTS_PER_QUERY
    }

    /// The results of each group, in ascending order of the labels, then of time. Groups without any are left out.
    #[must_use]
    pub fn finish(mut self) -> Vec<(Labels, Vec<Value>)> {
        for series in 0..self.counters.len() {
            self.close(series);
        }
        let value = |(start_ms, cell): (i64, Cell)| {
            let counted = matches!(self.function, Function::Over(_));
            let value = cell.accumulator.finish()?;
            Some(Value {
                start_ms,
                value: match self.function {
                    Function::Rate => value / self.seconds,
                    Function::Over(_) | Function::Last | Function::Increase => value,
                },
                count: if counted {
                    cell.accumulator.count()
                } else {
                    cell.samples
                },
            })
        };
        let groups = self.groups.into_iter();
        let groups = groups.map(|(labels, cells)| (labels, cells.into_iter().filter_map(value).collect()));
        groups
            .filter(|(_, values): &(_, Vec<Value>)| !values.is_empty())
            .collect()
    }

    fn interval(&self, at: i64) -> i64 {
        self.step_ms
            .map_or(0, |step_ms| at.saturating_sub(at.rem_euclid(step_ms)))
    }

    fn cell(&mut self, series: usize, interval: i64) -> &mut Cell {
        let aggregation = match self.function {
            Function::Over(aggregation) => aggregation,
            Function::Last | Function::Increase | Function::Rate => Aggregation::Sum,
        };
        self.groups[self.group_of[series]].1.entry(interval).or_insert_with(|| {
            self.cells += 1;
            Cell {
                accumulator: Accumulator::new(aggregation),
                samples: 0,
            }
        })
    }

    /// Moves a series on to an interval, and ends the one before.
    fn open(&mut self, series: usize, interval: i64) -> &mut Open {
        if self.counters[series].open.is_some_and(|open| open.interval != interval) {
            self.close(series);
        }
        self.counters[series].open.get_or_insert(Open {
            interval,
            increase: (0.0, 0.0),
            last: 0.0,
            samples: 0,
        })
    }

    fn close(&mut self, series: usize) {
        let Some(open) = self.counters[series].open.take() else {
            return;
        };
        let value = match self.function {
            Function::Last | Function::Over(_) => open.last,
            Function::Increase | Function::Rate => open.increase.0 + open.increase.1,
        };
        let cell = self.cell(series, open.interval);
        cell.accumulator.push(value);
        cell.samples += open.samples;
    }

    /// Adds rises to a series' interval, up to its last value.
    fn advance(&mut self, series: usize, interval: i64, rises: [f64; 2], last: f64, samples: u64) {
        let open = self.open(series, interval);
        for rise in rises {
            open.increase = add(rise, open.increase.0, open.increase.1);
        }
        open.last = last;
        open.samples += samples;
        self.counters[series].last = Some(last);
    }

    fn rise(&self, series: usize, to: f64) -> f64 {
        match self.counters[series].last {
            Some(last) if last.is_finite() && to.is_finite() => {
                if to < last {
                    to
                } else {
                    to - last
                }
            }
            Some(_) | None => 0.0,
        }
    }
}

impl Visit for Fold {
    fn samples(&mut self, series: usize, samples: &[Sample]) {
        if self.is_too_large() {
            return;
        }
        let values = |sample: &&Sample| !is_stale_marker(sample.value);
        if !matches!(self.function, Function::Over(_)) {
            for sample in samples.iter().filter(values) {
                let rise = self.rise(series, sample.value);
                let interval = self.interval(sample.timestamp_ms);
                self.advance(series, interval, [rise, 0.0], sample.value, 1);
            }
            return;
        }
        let interval = |sample: &Sample| self.interval(sample.timestamp_ms);
        let runs: Vec<&[Sample]> = samples.chunk_by(|a, b| interval(a) == interval(b)).collect();
        for run in runs {
            if run.iter().any(|sample| values(&sample)) {
                let interval = self.interval(run[0].timestamp_ms);
                let cell = self.cell(series, interval);
                for sample in run {
                    cell.accumulator.push(sample.value);
                }
            }
        }
    }

    fn points(&mut self, series: usize, points: Points<'_>) {
        if self.is_too_large() {
            return;
        }
        let mut first = points.first;
        for point in points.points {
            let interval = self.interval(point.start_ms);
            if matches!(self.function, Function::Over(_)) {
                self.cell(series, interval).accumulator.push_point(point);
                continue;
            }
            // At the start of a block, its first step is ours to count.
            let into = first.take().map_or(0.0, |first| self.rise(series, first));
            let Point {
                increase, last, count, ..
            } = *point;
            self.advance(series, interval, [into, increase], last, u64::from(count));
        }
    }

    fn reached(&mut self, _: i64) -> bool {
        !self.is_too_large()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(host: &str) -> Labels {
        Labels::from_pairs([("host", host)]).unwrap()
    }

    fn samples(values: &[(i64, f64)]) -> Vec<Sample> {
        let sample = |(timestamp_ms, value): &(i64, f64)| Sample {
            timestamp_ms: *timestamp_ms,
            value: *value,
        };
        values.iter().map(sample).collect()
    }

    fn fold(function: &str, given: &[&[(i64, f64)]]) -> Vec<(i64, f64, u64)> {
        let labels: Vec<Labels> = (0..given.len()).map(|at| labels(&at.to_string())).collect();
        let mut fold = Fold::new(function.parse().unwrap(), Some(10), 100, labels.iter(), Some(&[]));
        for (series, values) in given.iter().enumerate() {
            fold.samples(series, &samples(values));
        }
        let mut groups = fold.finish();
        assert!(groups.len() <= 1);
        let values = groups.pop().map(|(_, values)| values).unwrap_or_default();
        values
            .iter()
            .map(|value| (value.start_ms, value.value, value.count))
            .collect()
    }

    #[test]
    fn every_name_reads_back() {
        for name in ["avg", "max", "min", "sum", "count", "last", "rate", "increase"] {
            assert_eq!(name.parse::<Function>().unwrap().to_string(), name);
        }
        assert_eq!("median".parse::<Function>(), Err(UnknownFunction));
    }

    #[test]
    fn times_before_1970_have_intervals_too() {
        assert_eq!(
            fold("sum", &[&[(-11, 1.0), (-10, 2.0), (-1, 3.0), (0, 4.0)]]),
            [(-20, 1.0, 1), (-10, 5.0, 2), (0, 4.0, 1)]
        );
    }

    #[test]
    fn staleness_markers_are_no_samples_and_make_no_result() {
        let stale = f64::from_bits(tidemark_model::STALE_NAN_BITS);
        for function in ["avg", "count", "last", "increase"] {
            assert_eq!(fold(function, &[&[(1, stale), (11, stale)]]), []);
        }
        assert_eq!(
            fold("increase", &[&[(1, 5.0), (2, stale), (3, 7.0)]]),
            [(0, 2.0, 2)],
            "a marker between two samples is no reset"
        );
    }

    #[test]
    fn a_step_from_or_to_nan_or_an_infinity_counts_nothing() {
        let values = [
            (1, 1.0),
            (2, f64::NAN),
            (3, 4.0),
            (4, f64::INFINITY),
            (5, 6.0),
            (6, 7.0),
        ];
        assert_eq!(fold("increase", &[&values]), [(0, 1.0, 6)]);
    }

    #[test]
    fn series_are_computed_one_by_one_and_then_summed() {
        let (one, other) = ([(1, 10.0), (2, 12.0), (15, 1.0)], [(3, 100.0), (14, 101.0)]);
        assert_eq!(fold("increase", &[&one, &other]), [(0, 2.0, 3), (10, 2.0, 2)]);
        assert_eq!(fold("last", &[&one, &other]), [(0, 112.0, 3), (10, 102.0, 2)]);
        assert_eq!(fold("rate", &[&one, &other]), [(0, 200.0, 3), (10, 200.0, 2)]);
    }

    #[test]
    fn a_mean_of_aggregates_near_the_largest_double_does_not_overflow() {
        let mut fold = Fold::new(Function::Over(Aggregation::Avg), None, 1, [labels("a")].iter(), None);
        let point = Point {
            start_ms: 0,
            count: 1,
            sum: f64::MAX,
            min: f64::MAX,
            max: f64::MAX,
            last: f64::MAX,
            increase: 0.0,
        };
        fold.points(
            0,
            Points {
                tier: crate::tier::Tier::Minute,
                first: None,
                points: &[point, point, point],
            },
        );
        let groups = fold.finish();
        let mean = groups[0].1[0];
        assert!(mean.value.is_finite() && mean.value > 0.999 * f64::MAX && mean.count == 3);
    }

    #[test]
    fn too_many_results_are_told_before_they_take_all_memory() {
        let mut fold = Fold::new(Function::Over(Aggregation::Sum), Some(1), 1, [labels("a")].iter(), None);
        let chunk: Vec<(i64, f64)> = (0..1_000).map(|at| (at, 1.0)).collect();
        let chunk = samples(&chunk);
        fold.samples(0, &chunk);
        assert!(fold.reached(0));
        fold.cells = limits::MAX_RESULTS_PER_QUERY + 1;
        fold.samples(0, &samples(&[(2_000, 1.0)]));
        assert!(!fold.reached(0) && fold.is_too_large());
        assert_eq!(fold.finish()[0].1.len(), 1_000);
    }
}
