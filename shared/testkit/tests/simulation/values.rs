//! Answers of the query API, out of the cache or not, compared with the model: which tier served what is taken from the answer
//! itself, what there must be in it from the model. Values are compared where everything that they stand for is certain,
//! counts always. An answer out of the cache may be as old as its entry lives, so that it may still hold what has passed its
//! retention since; but it must hold everything that was stored before it was asked for.

use crate::model::{Expected, Model};
use crate::tiers::{close, floor};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use tidemark_model::{Timestamp, is_stale_marker};
use tidemark_tsdb::aggregate::Aggregation;
use tidemark_tsdb::aggregate::fold::Function;
use tidemark_tsdb::query::Query;

pub(crate) const FUNCTIONS: [&str; 8] = ["avg", "max", "min", "sum", "count", "last", "rate", "increase"];

/// The parameters of a query, as a client writes them.
#[derive(Clone, Debug)]
pub(crate) struct Parameters(pub(crate) Vec<(&'static str, String)>);

impl Parameters {
    pub(crate) fn new(
        metric: &str,
        (start_ms, end_ms): (i64, i64),
        step_s: Option<i64>,
        function: &str,
        by_host: bool,
    ) -> Self {
        let seconds = |ms: i64| format!("{}.{:03}", ms / 1_000, ms % 1_000);
        let mut all = vec![
            ("metric_name", metric.to_owned()),
            ("start_time", seconds(start_ms)),
            ("end_time", seconds(end_ms)),
            ("aggregation", function.to_owned()),
        ];
        all.extend(step_s.map(|step_s| ("step", step_s.to_string())));
        all.extend(by_host.then(|| ("group_by", "host".to_owned())));
        Self(all)
    }

    pub(crate) fn query(&self, now_ms: i64) -> Query {
        let all: HashMap<String, String> = self
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        Query::parse(&all, now_ms).expect("a query that is allowed")
    }
}

/// One time of a series: the interval that it counts to, the time, and what may be there.
type Item = (i64, i64, Expected);

/// What one series adds to one interval.
struct Share {
    at_least: u64,
    at_most: u64,
    /// The values without staleness markers, when all are certain.
    values: Option<Vec<f64>>,
    /// The value before, when it is certain; none before the first.
    before: Option<Option<f64>>,
}

fn shares(items: &[Item], mut before: Option<Option<f64>>) -> BTreeMap<i64, Share> {
    let mut all = BTreeMap::new();
    for inside in items.chunk_by(|a, b| a.0 == b.0) {
        let stale = |bits: &u64| is_stale_marker(f64::from_bits(*bits));
        let expected = || inside.iter().map(|(_, _, expected)| expected);
        let certain: Option<Vec<f64>> = expected().map(Expected::certain).collect();
        let values = certain.map(|values| {
            values
                .into_iter()
                .filter(|value| !is_stale_marker(*value))
                .collect::<Vec<f64>>()
        });
        let last = match &values {
            None => None,
            Some(values) => values.last().map_or(before, |last| Some(Some(*last))),
        };
        let share = Share {
            at_least: expected()
                .filter(|one| one.must && !one.values.iter().any(stale))
                .count() as u64,
            at_most: expected().filter(|one| !one.values.iter().all(stale)).count() as u64,
            values,
            before,
        };
        all.insert(inside[0].0, share);
        before = last;
    }
    all
}

impl Share {
    fn rises(&self) -> Option<(f64, f64)> {
        let chain: Vec<f64> = self
            .before?
            .into_iter()
            .chain(self.values.as_ref()?.iter().copied())
            .collect();
        let rise = |pair: &[f64]| match (pair[0], pair[1]) {
            (before, after) if !before.is_finite() || !after.is_finite() => 0.0,
            (before, after) if after < before => after,
            (before, after) => after - before,
        };
        let size = chain
            .iter()
            .filter(|value| value.is_finite())
            .map(|value| value.abs())
            .sum();
        Some((chain.windows(2).map(rise).sum(), size))
    }
}

/// The value of an interval and the size of what it was summed from; `None` when something in it is not certain.
fn wanted(function: Function, shares: &[&Share], seconds: f64) -> Option<(f64, f64)> {
    let all: Option<Vec<&Vec<f64>>> = shares.iter().map(|share| share.values.as_ref()).collect();
    let values: Vec<f64> = all?.into_iter().flatten().copied().collect();
    let numbers = || values.iter().copied().filter(|value| !value.is_nan());
    let size: f64 = values
        .iter()
        .filter(|value| value.is_finite())
        .map(|value| value.abs())
        .sum();
    let rises = || -> Option<(f64, f64)> {
        let rises: Option<Vec<(f64, f64)>> = shares.iter().map(|share| share.rises()).collect();
        Some(
            rises?
                .into_iter()
                .fold((0.0, 0.0), |sum, rise| (sum.0 + rise.0, sum.1 + rise.1)),
        )
    };
    Some(match function {
        Function::Over(Aggregation::Count) => (values.len() as f64, 0.0),
        Function::Over(Aggregation::Min) => (numbers().reduce(f64::min).unwrap_or(f64::NAN), 0.0),
        Function::Over(Aggregation::Max) => (numbers().reduce(f64::max).unwrap_or(f64::NAN), 0.0),
        Function::Over(Aggregation::Sum) => (values.iter().sum(), size),
        Function::Over(Aggregation::Avg) => (values.iter().sum::<f64>() / values.len() as f64, size),
        Function::Last => {
            let last = |share: &&Share| share.values.as_ref().and_then(|values| values.last().copied());
            let lasts: Vec<f64> = shares.iter().filter_map(last).collect();
            (lasts.iter().sum(), size)
        }
        Function::Increase => rises()?,
        Function::Rate => {
            let (sum, size) = rises()?;
            (sum / seconds, size / seconds)
        }
    })
}

struct Row {
    value: f64,
    count: u64,
}

/// What an answer says.
struct Told {
    /// `(resolution, from, to)`.
    tiers: Vec<(i64, i64, i64)>,
    /// By host and interval.
    rows: BTreeMap<(String, i64), Row>,
}

fn time(value: &Value) -> Result<i64, String> {
    let text = value.as_str().unwrap_or_default();
    Timestamp::parse(text)
        .map(|time| time.0)
        .map_err(|error| format!("{text}: {error}"))
}

fn read(body: &[u8]) -> Result<Told, String> {
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let mut told = Told {
        tiers: Vec::new(),
        rows: BTreeMap::new(),
    };
    if answer.get("next_token").is_some() {
        return Err("the answer has another page".to_owned());
    }
    for tier in answer["tiers"].as_array().ok_or("no tiers")? {
        let resolution_ms = match tier["tier"].as_str() {
            Some("raw") => 1,
            Some("1m") => 60_000,
            Some("1h") => 3_600_000,
            _ => return Err(format!("an unknown tier: {tier}")),
        };
        told.tiers
            .push((resolution_ms, time(&tier["start_time"])?, time(&tier["end_time"])?));
    }
    for row in answer["results"].as_array().ok_or("no results")? {
        let host = row["labels"]["host"].as_str().unwrap_or_default().to_owned();
        let at = if row["timestamp"].is_null() {
            0
        } else {
            time(&row["timestamp"])?
        };
        let value = match &row["value"] {
            Value::String(text) => text
                .replace("Inf", "inf")
                .parse()
                .map_err(|_| format!("no value: {text}"))?,
            number => number.as_f64().ok_or("no value")?,
        };
        let count = row["count"].as_u64().ok_or("no count")?;
        if told.rows.insert((host, at), Row { value, count }).is_some() {
            return Err(format!("a result comes twice: {row}"));
        }
    }
    Ok(told)
}

impl Model {
    /// Compares an answer with what it may be, and returns how many results it had.
    pub(crate) fn check_values(&self, query: &Query, begun: u64, body: &[u8]) -> Result<usize, String> {
        let told = read(body)?;
        let function = query.function.ok_or("a query without a function")?;
        if told.tiers.windows(2).any(|pair| pair[0].2 >= pair[1].1) {
            return Err(format!("tiers overlap: {:?}", told.tiers));
        }
        // A coarse tier that is entered where nothing finer is kept counts the step into the range too.
        let begins_coarsely = told.tiers.first().is_some_and(|tier| tier.0 > 1);
        let before = if begins_coarsely { None } else { Some(None) };
        let mut groups: BTreeMap<(String, i64), Vec<Share>> = BTreeMap::new();
        for (at, series) in self
            .series
            .iter()
            .enumerate()
            .filter(|(_, one)| one.metric == query.selector.metric)
        {
            let host = series.labels.get("host").unwrap_or_default();
            let group = if query.group_by.is_empty() {
                String::new()
            } else {
                host.to_owned()
            };
            for (interval, share) in shares(&self.items(at, query, &told, begun), before) {
                groups.entry((group.clone(), interval)).or_default().push(share);
            }
        }
        let seconds = query.step_ms.map(|step_ms| step_ms as f64 / 1_000.0);
        let mut rows = told.rows;
        let count = rows.len();
        for ((group, interval), shares) in &groups {
            let row = rows.remove(&(group.clone(), *interval));
            let what = || format!("{group} {interval} (tiers {:?})", told.tiers);
            let got = row.as_ref().map_or(0, |row| row.count);
            let least: u64 = shares.iter().map(|share| share.at_least).sum();
            let most: u64 = shares.iter().map(|share| share.at_most).sum();
            if got < least || got > most {
                return Err(format!("{}: counts {got} samples, wanted {least} to {most}", what()));
            }
            let shares: Vec<&Share> = shares.iter().filter(|share| share.at_most > 0).collect();
            if function == Function::Rate && seconds.is_none() {
                continue;
            }
            if let Some(row) = row
                && let Some((value, size)) = wanted(function, &shares, seconds.unwrap_or(1.0))
            {
                close(&function.to_string(), row.value, value, size).map_err(|why| format!("{}: {why}", what()))?;
            }
        }
        match rows.keys().next() {
            Some((group, at)) => Err(format!("{group} {at} was never pushed (tiers {:?})", told.tiers)),
            None => Ok(count),
        }
    }

    fn interval(&self, query: &Query, at: i64) -> i64 {
        query.step_ms.map_or(0, |step_ms| floor(at, step_ms))
    }

    /// All that there may be of a series in the tiers of an answer.
    fn items(&self, series: usize, query: &Query, told: &Told, begun: u64) -> Vec<Item> {
        let mut items = Vec::new();
        for (resolution_ms, from_ms, to_ms) in &told.tiers {
            for (at, expected) in self.expected_in(series, *from_ms, *to_ms, begun) {
                items.push((self.interval(query, floor(at, *resolution_ms)), at, expected));
            }
        }
        items
    }
}
