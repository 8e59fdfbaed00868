//! What the tests of this crate build on.

use crate::rule::{Query, Rule, RuleSpec};
use crate::vector::Row;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicUsize, Ordering};
use tidemark_model::{Bucket, Labels, Sample, Timestamp};
use tidemark_tsdb::{Select, SelectError, SelectedSeries, Selector};

/// A rule that fires on each series of `cpu` above 90, changed by the fields of `extra`.
pub(crate) fn rule(id: &str, extra: &Value) -> Rule {
    let mut body = json!({"name": id, "metric_name": "cpu", "condition": ">", "threshold": 90,
        "webhook_url": "http://example.org/", "annotations": {"summary": "{{ host }} is at {{ value }}"}});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    Rule {
        id: id.to_owned(),
        spec: RuleSpec::parse(&body).unwrap(),
        version: 1,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
    }
}

pub(crate) fn labels(host: &str) -> Labels {
    Labels::from_pairs([("host", host)]).unwrap()
}

/// A row of [`rule`] as it is without changes.
pub(crate) fn row(host: &str, value: f64) -> Row {
    Row {
        labels: labels(host),
        value,
        holds: value > 90.0,
    }
}

/// A row of any rule.
pub(crate) fn row_of(rule: &Rule, host: &str, value: f64) -> Row {
    let holds = match &rule.spec.query {
        Query::Threshold(threshold) => threshold.condition.holds(value, threshold.threshold),
        Query::Heartbeat => true,
    };
    Row {
        holds,
        ..row(host, value)
    }
}

/// So many seconds after some noon.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_268_800_000 + seconds * 1_000)
}

/// Series of any metric, with samples at whole seconds after [`at`]`(0)`; what a rule reads.
#[derive(Default)]
pub(crate) struct Data {
    series: Mutex<BTreeMap<(String, Labels), Vec<Sample>>>,
    /// Metrics that cannot be read.
    pub(crate) broken: Mutex<Vec<String>>,
    /// The metrics of all selections made.
    pub(crate) selections: Mutex<Vec<String>>,
    /// The most samples of a selection; 0: any number.
    pub(crate) most_samples: AtomicUsize,
    /// The most series of a selection; 0: any number.
    pub(crate) most_series: AtomicUsize,
    /// How many buckets the metrics are spread over; 0: one.
    pub(crate) buckets: AtomicU16,
    /// The oldest second of which samples are kept, when it is not 0.
    pub(crate) oldest: AtomicI64,
}

impl Data {
    pub(crate) fn push(&self, metric: &str, host: &str, seconds: i64, value: f64) {
        let mut series = self.series.lock().unwrap();
        let samples = series.entry((metric.to_owned(), labels(host))).or_default();
        samples.push(Sample {
            timestamp_ms: at(seconds).0,
            value,
        });
        samples.sort_by_key(|sample| sample.timestamp_ms);
    }
}

impl Select for Data {
    async fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        self.selections.lock().unwrap().push(selector.metric.clone());
        if self.broken.lock().unwrap().contains(&selector.metric) {
            return Err(SelectError::TooManySamples { limit: 1 });
        }
        let series = self.series.lock().unwrap();
        let matching = series
            .iter()
            .filter(|((metric, labels), _)| *metric == selector.metric && selector.filter.matches(labels));
        let selected = matching.map(|((_, labels), samples)| SelectedSeries {
            labels: labels.clone(),
            samples: samples
                .iter()
                .copied()
                .filter(|sample| (start_ms..=end_ms).contains(&sample.timestamp_ms))
                .collect(),
        });
        let selected: Vec<SelectedSeries> = selected.filter(|one| !one.samples.is_empty()).collect();
        let (found, limit) = (
            selected.iter().map(|one| one.samples.len()).sum::<usize>(),
            self.most_samples.load(Ordering::SeqCst),
        );
        if limit > 0 && found > limit {
            return Err(SelectError::TooManySamples { limit });
        }
        let limit = self.most_series.load(Ordering::SeqCst);
        if limit > 0 && selected.len() > limit {
            return Err(SelectError::TooManySeries {
                found: selected.len(),
                limit,
            });
        }
        Ok(selected)
    }

    fn bucket(&self, metric: &str) -> Bucket {
        let buckets = self.buckets.load(Ordering::SeqCst).max(1);
        Bucket(metric.bytes().map(u16::from).sum::<u16>() % buckets)
    }

    fn oldest_sample_ms(&self, _: i64) -> i64 {
        match self.oldest.load(Ordering::SeqCst) {
            0 => i64::MIN,
            seconds => at(seconds).0,
        }
    }
}
