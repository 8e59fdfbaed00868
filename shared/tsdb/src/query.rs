//! The simple query API: one metric, a label filter, a time range, and either its samples or one aggregate per group.
//!
//! `parse` reads the query string, `run` selects and evaluates, and the answer is written straight to bytes, because a
//! page may hold tens of thousands of samples that share a few label sets.

use crate::aggregate::{self, Aggregation};
use crate::answer;
use crate::page;
use crate::select::{Select, SelectError, SelectedSeries, Selector};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::str::FromStr;
use tidemark_model::value::JsonF64;
use tidemark_model::{LabelFilter, SeriesId, Timestamp, limits, matcher};
use tidemark_wire::{ApiError, ErrorId};

/// The range of a query that names no start: an hour.
pub const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// A checked query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Which series.
    pub selector: Selector,
    /// The first millisecond of the range.
    pub start_ms: i64,
    /// The last millisecond of the range.
    pub end_ms: i64,
    /// How to aggregate; `None` for the samples themselves.
    pub aggregation: Option<Aggregation>,
    /// The labels to group by.
    pub group_by: Vec<String>,
    /// The most results in the answer; there may be fewer, since an answer's size is limited too.
    pub limit: Option<usize>,
    /// Where an earlier page ended.
    after: Option<Place>,
}

/// Where a page ended: a sample, or a number of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Sample { timestamp_ms: i64, labels: u64 },
    Group { count: usize },
}

impl Query {
    /// Reads the parameters of `GET /api/v1/query`. Unknown ones are ignored.
    ///
    /// # Errors
    /// Naming the parameter and what is wrong with it.
    pub fn parse(parameters: &HashMap<String, String>, now_ms: i64) -> Result<Self, ApiError> {
        let text = |name: &str| {
            parameters
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let metric = text("metric_name").ok_or_else(|| answer::invalid("metric_name", "is required"))?;
        let end_ms = time(text("end_time"), "end_time")?.unwrap_or(now_ms);
        let start_ms = time(text("start_time"), "start_time")?.unwrap_or(end_ms.saturating_sub(DEFAULT_RANGE_MS));
        check_range(start_ms, end_ms)?;
        let aggregation = text("aggregation")
            .map(|name| Aggregation::from_str(name).map_err(|e| answer::invalid("aggregation", e.to_string())))
            .transpose()?;
        let group_by = group_by(text("group_by"), aggregation)?;
        Ok(Self {
            selector: Selector {
                metric: metric.to_owned(),
                filter: filter(text("labels"))?,
            },
            start_ms,
            end_ms,
            aggregation,
            group_by,
            limit: page::limit(text("limit"), usize::MAX)?,
            after: text("next_token").map(Place::from_token).transpose()?,
        })
    }

    /// Selects, evaluates and writes the JSON answer. `oldest_ms` is the oldest time that is kept, `newest_ms` the newest
    /// that a sample may have: a range beyond them is not looked for.
    ///
    /// # Errors
    /// When a limit of the query is hit, or the store does not answer.
    pub async fn run(&self, data: &impl Select, oldest_ms: i64, newest_ms: i64) -> Result<Vec<u8>, ApiError> {
        // What has passed its retention is gone, whether or not the database has deleted it yet.
        let start_ms = self.start_ms.max(oldest_ms);
        let end_ms = self.end_ms.min(newest_ms);
        let series = if start_ms > end_ms {
            Vec::new()
        } else {
            data.select(&self.selector, start_ms, end_ms)
                .await
                .map_err(select_error)?
        };
        match self.aggregation {
            Some(aggregation) => self.groups(&series, aggregation),
            None => self.samples(&series),
        }
    }

    fn groups(&self, series: &[SelectedSeries], aggregation: Aggregation) -> Result<Vec<u8>, ApiError> {
        let skip = match self.after {
            Some(Place::Group { count }) => count,
            None => 0,
            Some(Place::Sample { .. }) => return Err(page::wrong_token()),
        };
        let groups = aggregate::group(series, aggregation, &self.group_by);
        let mut answer = Answer::begin(&self.selector.metric, self.limit);
        for (at, group) in groups.iter().enumerate().skip(skip) {
            let fits = answer.push(&Row {
                labels: &group.labels,
                value: JsonF64(group.value),
                count: group.count,
                timestamp: None,
            })?;
            if !fits {
                return answer.finish(Some(Place::Group { count: at }.token()));
            }
        }
        answer.finish(None)
    }

    fn samples(&self, series: &[SelectedSeries]) -> Result<Vec<u8>, ApiError> {
        let after = match self.after {
            Some(Place::Group { .. }) => return Err(page::wrong_token()),
            place => place,
        };
        // The label sets are written once and pasted into every sample of their series.
        let mut labels = Vec::with_capacity(series.len());
        let mut order = Vec::with_capacity(series.iter().map(|one| one.samples.len()).sum());
        for (at, one) in series.iter().enumerate() {
            let id = SeriesId::new(&self.selector.metric, one.labels.iter());
            labels.push(serde_json::value::to_raw_value(&one.labels).map_err(unwritable)?);
            order.extend(one.samples.iter().map(|sample| {
                let place = Place::Sample {
                    timestamp_ms: sample.timestamp_ms,
                    labels: id.labels,
                };
                (place, at, sample.value)
            }));
        }
        order.retain(|(place, ..)| after.is_none_or(|after| *place > after));
        order.sort_unstable_by_key(|(place, at, _)| (*place, *at));
        let mut answer = Answer::begin(&self.selector.metric, self.limit);
        let mut last = after;
        for (place, at, value) in order {
            let Place::Sample { timestamp_ms, .. } = place else {
                continue;
            };
            let row: Row<'_, RawValue> = Row {
                labels: &labels[at],
                value: JsonF64(value),
                count: 1,
                timestamp: Some(Timestamp(timestamp_ms)),
            };
            if !answer.push(&row)? {
                return answer.finish(last.map(Place::token));
            }
            last = Some(place);
        }
        answer.finish(None)
    }
}

fn time(text: Option<&str>, name: &str) -> Result<Option<i64>, ApiError> {
    text.map(|text| {
        Timestamp::parse(text)
            .map(|time| time.0)
            .map_err(|e| answer::invalid(name, e.to_string()))
    })
    .transpose()
}

fn check_range(start_ms: i64, end_ms: i64) -> Result<(), ApiError> {
    if start_ms > end_ms {
        return Err(answer::invalid("start_time", "must not be after end_time"));
    }
    if end_ms.saturating_sub(start_ms) > limits::MAX_QUERY_RANGE_MS {
        let days = limits::MAX_QUERY_RANGE_MS / 86_400_000;
        return Err(answer::invalid(
            "start_time",
            format!("must be at most {days} days before end_time"),
        ));
    }
    Ok(())
}

fn filter(text: Option<&str>) -> Result<LabelFilter, ApiError> {
    let Some(text) = text else {
        return Ok(LabelFilter::default());
    };
    if matcher::selector::is_json(text) {
        return serde_json::from_str(text).map_err(|e| {
            answer::invalid(
                "labels",
                format!("must be a JSON object of label names and string values: {e}"),
            )
        });
    }
    text.parse()
        .map_err(|e: matcher::FilterError| answer::invalid("labels", e.to_string()))
}

fn group_by(text: Option<&str>, aggregation: Option<Aggregation>) -> Result<Vec<String>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    if aggregation.is_none() {
        return Err(answer::invalid("group_by", "needs an aggregation"));
    }
    let mut names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) {
        return Err(answer::invalid("group_by", "must be label names separated by commas"));
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn select_error(error: SelectError) -> ApiError {
    match error {
        SelectError::Store(source) => answer::store_failed(&source),
        limit => ApiError::new(ErrorId::QueryTooLarge, limit.to_string()),
    }
}

fn unwritable(error: serde_json::Error) -> ApiError {
    answer::internal(&error)
}

/// One result. `count` is the number of samples that the value stands for.
#[derive(Serialize)]
struct Row<'a, L: ?Sized> {
    labels: &'a L,
    value: JsonF64,
    count: u64,
    timestamp: Option<Timestamp>,
}

/// The answer as it is written, within its limits.
struct Answer {
    bytes: Vec<u8>,
    rows: usize,
    limit: usize,
}

impl Answer {
    fn begin(metric: &str, limit: Option<usize>) -> Self {
        let mut bytes = b"{\"metric_name\":".to_vec();
        bytes.extend_from_slice(serde_json::Value::from(metric).to_string().as_bytes());
        bytes.extend_from_slice(b",\"results\":[");
        Self {
            bytes,
            rows: 0,
            limit: limit.unwrap_or(usize::MAX),
        }
    }

    /// Adds a row; `false` when the page is full and the row was not added. The first row always fits.
    fn push(&mut self, row: &impl Serialize) -> Result<bool, ApiError> {
        if self.rows == self.limit {
            return Ok(false);
        }
        let before = self.bytes.len();
        if self.rows > 0 {
            self.bytes.push(b',');
        }
        serde_json::to_writer(&mut self.bytes, row).map_err(unwritable)?;
        if self.rows > 0 && self.bytes.len() > limits::MAX_RESPONSE_BYTES {
            self.bytes.truncate(before);
            return Ok(false);
        }
        self.rows += 1;
        Ok(true)
    }

    fn finish(mut self, next_token: Option<String>) -> Result<Vec<u8>, ApiError> {
        self.bytes.push(b']');
        if let Some(token) = next_token {
            self.bytes
                .extend_from_slice(format!(",\"next_token\":\"{token}\"").as_bytes());
        }
        self.bytes.push(b'}');
        Ok(self.bytes)
    }
}

impl Place {
    fn token(self) -> String {
        page::token(&match self {
            Self::Sample { timestamp_ms, labels } => format!("s {timestamp_ms} {labels}"),
            Self::Group { count } => format!("g {count}"),
        })
    }

    fn from_token(token: &str) -> Result<Self, ApiError> {
        let text = page::open(token)?;
        let parts: Vec<&str> = text.split(' ').collect();
        let place = match parts.as_slice() {
            ["s", timestamp, labels] => timestamp
                .parse()
                .ok()
                .zip(labels.parse().ok())
                .map(|(timestamp_ms, labels)| Self::Sample { timestamp_ms, labels }),
            ["g", count] => count.parse().ok().map(|count| Self::Group { count }),
            _ => None,
        };
        place.ok_or_else(page::wrong_token)
    }
}

#[cfg(test)]
mod tests;
