//! The parameters of a query, read one by one.

use super::{MAX_STEP_MS, Query};
use crate::aggregate::fold::Function;
use crate::answer;
use crate::page;
use crate::query::place::Place;
use crate::select::Selector;
use std::collections::HashMap;
use std::str::FromStr;
use tidemark_model::{LabelFilter, Timestamp, limits, matcher};
use tidemark_wire::ApiError;

/// The range of a query that names no start: an hour.
pub const DEFAULT_RANGE_MS: i64 = 3_600_000;

/// A range that names no end ends with the tenth of a minute that it is: the same question, asked again within some seconds,
/// is the same query, which the cache may know.
const DEFAULT_END_MS: i64 = 10_000;

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
        let end_ms = match time(text("end_time"), "end_time")? {
            Some(end_ms) => end_ms,
            None => now_ms.saturating_add((-now_ms).rem_euclid(DEFAULT_END_MS)),
        };
        let start_ms = time(text("start_time"), "start_time")?.unwrap_or(end_ms.saturating_sub(DEFAULT_RANGE_MS));
        check_range(start_ms, end_ms)?;
        let function = text("aggregation")
            .map(|name| Function::from_str(name).map_err(|e| answer::invalid("aggregation", e.to_string())))
            .transpose()?;
        Ok(Self {
            selector: Selector {
                metric: metric.to_owned(),
                filter: filter(text("labels"))?,
            },
            start_ms,
            end_ms,
            step_ms: text("step").map(|text| step(text, start_ms, end_ms)).transpose()?,
            function,
            group_by: group_by(text("group_by"), function)?,
            limit: page::limit(text("limit"), usize::MAX)?,
            after: text("next_token").map(Place::from_token).transpose()?,
        })
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

fn step(text: &str, start_ms: i64, end_ms: i64) -> Result<i64, ApiError> {
    let step_ms = duration_ms(text)
        .ok_or_else(|| answer::invalid("step", "must be seconds or a duration such as 30s, 5m, 1h30m or 1d"))?;
    if !(1_000..=MAX_STEP_MS).contains(&step_ms) {
        return Err(answer::invalid("step", "must be from one second to 366 days"));
    }
    if end_ms.saturating_sub(start_ms) / step_ms >= limits::MAX_STEPS_PER_QUERY {
        let most = limits::MAX_STEPS_PER_QUERY;
        return Err(answer::invalid(
            "step",
            format!("makes more than {most} steps of the range; ask for longer ones"),
        ));
    }
    Ok(step_ms)
}

/// Whole seconds, or numbers with a unit, one after the other.
fn duration_ms(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(i64::from(seconds) * 1_000);
    }
    let mut rest = text;
    let mut total = 0_i64;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u32 = rest[..unit].parse().ok()?;
        let ms = match rest.as_bytes()[unit] {
            b's' => 1_000,
            b'm' => 60_000,
            b'h' => 3_600_000,
            b'd' => 86_400_000,
            b'w' => 7 * 86_400_000,
            _ => return None,
        };
        total = total.saturating_add(i64::from(number) * ms);
        rest = &rest[unit + 1..];
    }
    (total > 0).then_some(total)
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

fn group_by(text: Option<&str>, function: Option<Function>) -> Result<Vec<String>, ApiError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    if function.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_seconds_or_numbers_with_units() {
        for (text, seconds) in [
            ("15", 15),
            ("30s", 30),
            ("5m", 300),
            ("1h30m", 5_400),
            ("1d", 86_400),
            ("2w", 1_209_600),
        ] {
            assert_eq!(duration_ms(text), Some(seconds * 1_000), "{text}");
        }
        for text in [
            "",
            "0m",
            "s",
            "1.5m",
            "-5m",
            "5 m",
            "5y",
            "m5",
            "1h5",
            "99999999999s",
            "５m",
            "5µ",
        ] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
    }
}
