//! From the series that a rule selects to the values that its condition is asked about.

use crate::rule::RuleSpec;
use tidemark_model::{Labels, is_stale_marker};
use tidemark_tsdb::SelectedSeries;
use tidemark_tsdb::aggregate;

/// How far back the latest sample of a series may lie, in milliseconds: Prometheus' default look-back.
pub const LOOKBACK_MS: i64 = 5 * 60 * 1_000;

/// One value that the condition is asked about.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The labels of the series or group; no two rows of a vector have the same.
    pub labels: Labels,
    /// Its value.
    pub value: f64,
}

/// The closed range of times, in milliseconds, that a rule reads at `now_ms`. Left-open as in Prometheus: a window of 300 s
/// over samples every 15 s holds 20 of them, never 21.
#[must_use]
pub fn range(spec: &RuleSpec, now_ms: i64) -> (i64, i64) {
    let length_ms = match spec.aggregation {
        None => LOOKBACK_MS,
        // At most a week (`limits::MAX_RULE_SECONDS`).
        Some(_) => i64::try_from(spec.window_seconds)
            .unwrap_or(i64::MAX)
            .saturating_mul(1_000),
    };
    (now_ms.saturating_sub(length_ms).saturating_add(1), now_ms)
}

/// The result vector, in ascending order of labels. The series must have been selected by the rule's selector and [`range`].
///
/// Without an aggregation each series gives its latest sample; one whose latest is a staleness marker has ended and gives
/// none. With it each group gives the aggregate of all its samples in the window.
#[must_use]
pub fn vector(spec: &RuleSpec, series: &[SelectedSeries]) -> Vec<Row> {
    match spec.aggregation {
        None => series
            .iter()
            .filter_map(|one| {
                let latest = one.samples.last().filter(|sample| !is_stale_marker(sample.value))?;
                Some(Row {
                    labels: one.labels.clone(),
                    value: latest.value,
                })
            })
            .collect(),
        Some(aggregation) => aggregate::group(series, aggregation, &spec.group_by)
            .into_iter()
            .map(|group| Row {
                labels: group.labels,
                value: group.value,
            })
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
