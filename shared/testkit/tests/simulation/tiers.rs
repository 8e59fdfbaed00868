//! Answers in tiers, compared with the model: samples bit for bit; of aggregates the counts, the smallest, the largest and
//! the last value bit for bit, sums and increases to nine digits.
//!
//! What is demanded of an answer's parts: they lie one behind the other inside the range, without a gap as far back as the
//! longest tier goes (for an answer of samples: the raw tier), or the oldest sample that there can be. A part of a tier begins no earlier than
//! the tier's retention allows; a minute or an hour that a retention cuts in two may come from the coarser tier or be left
//! out when there is none. All of that by the clock of the process that asks.
//!
//! A point is compared in full when everything inside it is certain (see [`crate::model`]); otherwise only its count is held
//! between what must and what may be there.

use crate::model::{Expected, Model};
use std::collections::BTreeMap;
use tidemark_model::{Labels, Sample, is_stale_marker};
use tidemark_tsdb::plan::{Part, Range, Source, Want};
use tidemark_tsdb::rollup::{Point, Rollup};
use tidemark_tsdb::select::{Points, Visit};
use tidemark_tsdb::{Layout, Tier};

/// Points that came together.
pub(crate) struct Group {
    tier: Tier,
    first: Option<f64>,
    points: Vec<Point>,
}

/// What a series was answered with.
pub(crate) struct Found {
    pub(crate) labels: Labels,
    pub(crate) samples: Vec<Sample>,
    groups: Vec<Group>,
    /// The last time that was given.
    last_ms: i64,
    out_of_order: bool,
}

/// All that a selection was read to.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) series: Vec<Found>,
    pub(crate) parts: Vec<Part>,
}

impl Collected {
    pub(crate) fn new<'a>(labels: impl Iterator<Item = &'a Labels>, parts: &[Part]) -> Self {
        let nothing = |labels: &Labels| Found {
            labels: labels.clone(),
            samples: Vec::new(),
            groups: Vec::new(),
            last_ms: i64::MIN,
            out_of_order: false,
        };
        Self {
            series: labels.map(nothing).collect(),
            parts: parts.to_vec(),
        }
    }
}

impl Found {
    fn pass(&mut self, at: i64) {
        self.out_of_order |= at <= self.last_ms;
        self.last_ms = at;
    }
}

impl Visit for Collected {
    fn samples(&mut self, series: usize, samples: &[Sample]) {
        let found = &mut self.series[series];
        for sample in samples {
            found.pass(sample.timestamp_ms);
        }
        found.samples.extend_from_slice(samples);
    }

    fn points(&mut self, series: usize, points: Points<'_>) {
        let found = &mut self.series[series];
        for point in points.points {
            found.pass(point.start_ms);
        }
        found.groups.push(Group {
            tier: points.tier,
            first: points.first,
            points: points.points.to_vec(),
        });
    }

    fn reached(&mut self, _: i64) -> bool {
        true
    }
}

pub(crate) fn floor(at: i64, resolution_ms: i64) -> i64 {
    at - at.rem_euclid(resolution_ms)
}

fn ceil(at: i64, resolution_ms: i64) -> i64 {
    floor(at + resolution_ms - 1, resolution_ms)
}

/// See the module.
pub(crate) fn check_parts(parts: &[Part], range: &Range, layout: &Layout, first_ms: i64) -> Result<(), String> {
    let oldest = |tier| range.now_ms - layout.retention.of(tier);
    let back_to = if range.want == Want::Samples {
        oldest(Tier::Raw)
    } else {
        let all = Tier::ALL.map(|tier| ceil(oldest(tier), tier.resolution_ms().max(1)));
        all.into_iter().min().unwrap_or_default()
    };
    let from = range.start_ms.max(back_to).max(first_ms);
    // What must be there comes next.
    let mut at = from;
    for part in parts {
        if part.from_ms > at || part.from_ms > part.to_ms {
            return Err(format!("there is nothing from {at} on to {part:?}"));
        }
        at = at.max(part.to_ms + 1);
    }
    if at <= range.end_ms {
        return Err(format!("there is nothing of {at}..={}", range.end_ms));
    }
    if parts
        .iter()
        .any(|part| part.from_ms < range.start_ms || part.to_ms > range.end_ms)
    {
        return Err("a part lies outside the range".to_owned());
    }
    if !parts.is_sorted_by(|a, b| a.to_ms < b.from_ms) {
        return Err("parts overlap".to_owned());
    }
    for part in parts {
        if part.widened().0 < oldest(part.tier) && part.from_ms < oldest(part.tier) {
            return Err(format!(
                "{part:?} begins before what its tier keeps, {}",
                oldest(part.tier)
            ));
        }
    }
    Ok(())
}

impl Model {
    /// Compares an answer in tiers with what it may be, and returns how many samples and points it had.
    pub(crate) fn check_tiers(&self, metric: &str, begun: u64, answer: &Collected) -> Result<usize, String> {
        if !answer.series.is_sorted_by(|a, b| a.labels < b.labels) {
            return Err("the series are not in order, or one comes twice".to_owned());
        }
        let mut of_labels: BTreeMap<&Labels, &Found> = answer.series.iter().map(|one| (&one.labels, one)).collect();
        let mut checked = 0;
        for (at, series) in self
            .series
            .iter()
            .enumerate()
            .filter(|(_, series)| series.metric == metric)
        {
            let found = of_labels.remove(&series.labels);
            checked += self
                .check_found(at, begun, &answer.parts, found)
                .map_err(|why| format!("{metric} {:?}: {why}", series.labels.get("host").unwrap_or_default()))?;
        }
        match of_labels.keys().next() {
            Some(labels) => Err(format!("{metric} {labels:?} was never pushed")),
            None => Ok(checked),
        }
    }

    fn check_found(&self, series: usize, begun: u64, parts: &[Part], found: Option<&Found>) -> Result<usize, String> {
        if found.is_some_and(|found| found.out_of_order) {
            return Err("samples or points are out of order, or come twice".to_owned());
        }
        let (mut samples, mut groups) = found.map_or((&[][..], &[][..]), |found| (&found.samples, &found.groups));
        let mut checked = 0;
        for part in parts {
            let inside = if part.tier == Tier::Raw {
                let count = samples.partition_point(|sample| sample.timestamp_ms <= part.to_ms);
                let (inside, rest) = samples.split_at(count);
                samples = rest;
                self.check_series(series, (part.from_ms, part.to_ms), begun, inside)
            } else {
                let ours = |group: &&Group| group.tier == part.tier && group.points[0].start_ms <= part.to_ms;
                let count = groups.iter().take_while(ours).count();
                let (inside, rest) = groups.split_at(count);
                groups = rest;
                self.check_points(series, part, begun, inside)
            };
            checked += inside.map_err(|why| format!("in {part:?}: {why}"))?;
        }
        if !samples.is_empty() || !groups.is_empty() {
            return Err(format!(
                "{} samples and {} groups of points are outside all parts",
                samples.len(),
                groups.len()
            ));
        }
        Ok(checked)
    }

    /// Whether a minute of a range holds more than one value, as far as that is certain.
    pub(crate) fn condenses(&self, series: usize, (from_ms, to_ms): (i64, i64), begun: u64) -> bool {
        let expected: Vec<(i64, Expected)> = self.expected_in(series, from_ms, to_ms, begun).collect();
        let mut minutes = expected.chunk_by(|a, b| floor(a.0, 60_000) == floor(b.0, 60_000));
        minutes.any(|inside| Truth::of(inside).at_least > 1)
    }

    fn check_points(&self, series: usize, part: &Part, begun: u64, groups: &[Group]) -> Result<usize, String> {
        let resolution_ms = part.tier.resolution_ms();
        let (from_ms, to_ms) = part.widened();
        let mut points = groups.iter().flat_map(|group| {
            let points = group.points.iter().enumerate();
            points.map(|(at, point)| (point, group.first.filter(|_| at == 0)))
        });
        let mut next = points.next();
        let mut before = Before::Unknown;
        let mut checked = 0;
        let expected: Vec<(i64, Expected)> = self.expected_in(series, from_ms, to_ms, begun).collect();
        for inside in expected.chunk_by(|a, b| floor(a.0, resolution_ms) == floor(b.0, resolution_ms)) {
            let start_ms = floor(inside[0].0, resolution_ms);
            let truth = Truth::of(inside);
            let point = next.filter(|(point, _)| point.start_ms == start_ms);
            let count = point.map_or(0, |(point, _)| u64::from(point.count));
            if count < truth.at_least || count > truth.at_most {
                let (least, most) = (truth.at_least, truth.at_most);
                return Err(format!(
                    "point {start_ms} counts {count} samples, wanted {least} to {most}"
                ));
            }
            if let Some((point, first)) = point {
                truth
                    .compare(point, first, before)
                    .map_err(|why| format!("point {start_ms}: {why}"))?;
                next = points.next();
                checked += 1;
            }
            before = truth.end(before);
        }
        match next {
            Some((point, _)) => Err(format!(
                "point {} was never pushed, comes twice or is outside",
                point.start_ms
            )),
            None => Ok(checked),
        }
    }
}

/// Compares a decoded block of a coarse tier; none stands for one without points.
pub(crate) fn check_block(
    model: &Model,
    series: usize,
    tier: Tier,
    (from_ms, to_ms): (i64, i64),
    begun: u64,
    block: Option<Rollup>,
) -> Result<(), String> {
    let groups = block.map(|block| Group {
        tier,
        first: Some(block.first),
        points: block.points,
    });
    let part = Part {
        tier,
        source: Source::Blocks,
        from_ms,
        to_ms,
    };
    model.check_points(series, &part, begun, groups.as_slice()).map(drop)
}

/// The value before a point.
#[derive(Clone, Copy)]
enum Before {
    Unknown,
    Value(f64),
}

/// What is inside a point.
struct Truth {
    at_least: u64,
    at_most: u64,
    /// The values, when all of them are certain.
    values: Option<Vec<f64>>,
}

impl Truth {
    fn of(inside: &[(i64, Expected)]) -> Self {
        let stale = |bits: &u64| is_stale_marker(f64::from_bits(*bits));
        let sure = |expected: &&Expected| expected.must && !expected.values.iter().any(stale);
        let maybe = |expected: &&Expected| !expected.values.iter().all(stale);
        let all = || inside.iter().map(|(_, expected)| expected);
        let certain: Option<Vec<f64>> = all().map(Expected::certain).collect();
        let is_value = |value: &f64| !is_stale_marker(*value);
        Self {
            at_least: all().filter(sure).count() as u64,
            at_most: all().filter(maybe).count() as u64,
            values: certain.map(|values| values.into_iter().filter(is_value).collect()),
        }
    }

    fn end(&self, before: Before) -> Before {
        match &self.values {
            None => Before::Unknown,
            Some(values) => values.last().map_or(before, |last| Before::Value(*last)),
        }
    }

    fn compare(&self, point: &Point, first: Option<f64>, before: Before) -> Result<(), String> {
        let Some(values) = &self.values else { return Ok(()) };
        let same = |what: &str, got: f64, wanted: f64| {
            let same = got.to_bits() == wanted.to_bits() || (got.is_nan() && wanted.is_nan());
            // Which of two zeros or NaNs is the smallest is nobody's business.
            if same || got == wanted {
                Ok(())
            } else {
                Err(format!("{what} is {got:?}, wanted {wanted:?} of {values:?}"))
            }
        };
        let numbers = || values.iter().copied().filter(|value| !value.is_nan());
        same(
            "the smallest",
            point.min,
            numbers().reduce(f64::min).unwrap_or(f64::NAN),
        )?;
        same("the largest", point.max, numbers().reduce(f64::max).unwrap_or(f64::NAN))?;
        let last = values[values.len() - 1];
        if point.last.to_bits() != last.to_bits() {
            return Err(format!("the last is {:?}, wanted {last:?}", point.last));
        }
        let size = values.iter().map(|value| value.abs()).sum::<f64>();
        close("the sum", point.sum, values.iter().sum(), size)?;
        let from = match (first, before) {
            (Some(first), _) => {
                if first.to_bits() != values[0].to_bits() {
                    return Err(format!("the first is {first:?}, wanted {:?}", values[0]));
                }
                None
            }
            (None, Before::Value(before)) => Some(before),
            (None, Before::Unknown) => return Ok(()),
        };
        let chain: Vec<f64> = from.into_iter().chain(values.iter().copied()).collect();
        let rises = chain.windows(2).map(|pair| match (pair[0], pair[1]) {
            (before, after) if !before.is_finite() || !after.is_finite() => 0.0,
            (before, after) if after < before => after,
            (before, after) => after - before,
        });
        let size = chain
            .iter()
            .filter(|value| value.is_finite())
            .map(|value| value.abs())
            .sum::<f64>();
        close("the increase", point.increase, rises.sum(), size)
    }
}

pub(crate) fn close(what: &str, got: f64, wanted: f64, size: f64) -> Result<(), String> {
    let close = got == wanted
        || (got.is_nan() && wanted.is_nan())
        || (got - wanted).abs() <= 1e-9 * size.max(f64::MIN_POSITIVE);
    if close {
        Ok(())
    } else {
        Err(format!("{what} is {got:?}, wanted {wanted:?}"))
    }
}
