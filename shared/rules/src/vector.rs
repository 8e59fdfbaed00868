//! From the series that a rule selects to its result vector: what follows knows nothing of the kind of its condition.

use crate::rule::Query;
use tidemark_model::{Labels, is_stale_marker};
use tidemark_tsdb::SelectedSeries;
use tidemark_tsdb::aggregate;

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

/// The closed range of times, in milliseconds, that a rule reads at `now_ms`; `None` when it reads nothing. Left-open as in
/// Prometheus: a window of 300 s over samples every 15 s holds 20 of them, never 21.
#[must_use]
pub fn range(query: &Query, now_ms: i64) -> Option<(i64, i64)> {
    let Query::Threshold(threshold) = query else {
        return None;
    };
    let length_ms = match threshold.aggregation {
        None => LOOKBACK_MS,
        // At most a week (`limits::MAX_RULE_SECONDS`).
        Some(_) => i64::try_from(threshold.window_seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000),
    };
    Some((now_ms.saturating_sub(length_ms).saturating_add(1), now_ms))
}

/// The result vector, in ascending order of labels. The series must have been selected by the query's selector and [`range`].
///
/// Without an aggregation each series gives its latest sample; one whose latest is a staleness marker has ended and gives
/// none. With it each group gives the aggregate of all its samples in the window. A heartbeat has one row without labels, which
/// holds.
#[must_use]
pub fn vector(query: &Query, series: &[SelectedSeries]) -> Vec<Row> {
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
        Some(aggregation) => aggregate::group(series, aggregation, &threshold.group_by)
            .into_iter()
            .map(|group| row(group.labels, group.value))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use tidemark_model::{STALE_NAN_BITS, Sample};

    fn spec(extra: &serde_json::Value) -> RuleSpec {
        let mut body = json!({"name": "r", "metric_name": "m", "condition": ">", "threshold": 1});
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        RuleSpec::parse(&body).unwrap()
    }

    fn series(host: &str, values: &[f64]) -> SelectedSeries {
        let samples = values
            .iter()
            .zip(0..)
            .map(|(&value, timestamp_ms)| Sample { timestamp_ms, value });
        SelectedSeries {
            labels: Labels::from_pairs([("host", host), ("region", "eu")]).unwrap(),
            samples: samples.collect(),
        }
    }

    #[test]
    fn without_aggregation_each_series_gives_its_latest_value() {
        let rows = vector(&spec(&json!({})), &[series("a", &[1.0, 2.0]), series("b", &[3.0])]);
        let values: Vec<_> = rows
            .iter()
            .map(|row| (row.labels.get("host").unwrap(), row.value))
            .collect();
        assert_eq!(values, [("a", 2.0), ("b", 3.0)]);
    }

    #[test]
    fn a_series_that_ends_with_a_stale_marker_is_gone() {
        let stale = f64::from_bits(STALE_NAN_BITS);
        assert!(vector(&spec(&json!({})), &[series("a", &[1.0, stale])]).is_empty());
        let rows = vector(&spec(&json!({})), &[series("a", &[stale, 1.0, f64::NAN])]);
        assert!(rows[0].value.is_nan(), "an ordinary NaN is a value");
    }

    #[test]
    fn with_aggregation_each_group_gives_one_value() {
        let spec = spec(&json!({"aggregation": "avg", "group_by": ["region"]}));
        let rows = vector(&spec, &[series("a", &[1.0, 2.0]), series("b", &[6.0])]);
        assert_eq!(rows.len(), 1);
        assert_eq!((rows[0].labels.get("region"), rows[0].value), (Some("eu"), 3.0));
        assert!(vector(&spec, &[]).is_empty());
    }

    #[test]
    fn ranges_are_left_open() {
        assert_eq!(range(&spec(&json!({})), 1_000_000), (700_001, 1_000_000));
        let minute = spec(&json!({"aggregation": "max", "window_seconds": 60}));
        assert_eq!(range(&minute, 1_000_000), (940_001, 1_000_000));
        assert_eq!(range(&minute, i64::MIN).0, i64::MIN + 1);
    }
}
