//! The samples that rules look at: values that walk at random, end, come back and are missing for a while.

use crate::random::Random;
use crate::sim::Process;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tidemark_model::{Bucket, Labels, STALE_NAN_BITS, Sample};
use tidemark_tsdb::select::{SelectError, SelectedSeries};
use tidemark_tsdb::{Select, Selector};

/// How many samples are kept of a series; more than the longest window holds.
const KEPT: usize = 60;

struct Series {
    metric: &'static str,
    labels: Labels,
    value: f64,
    /// It has no samples until then.
    silent_until_ms: i64,
    samples: VecDeque<Sample>,
}

/// All series.
pub(crate) struct Data {
    series: Mutex<Vec<Series>>,
}

/// How the series go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Course {
    /// At random, with gaps.
    Walk,
    /// As they are.
    Stay,
    /// No condition holds.
    Fall,
}

impl Data {
    pub(crate) fn new() -> Self {
        let mut series = Vec::new();
        for metric in ["m0", "m1"] {
            for (host, dc) in [("a", "x"), ("b", "x"), ("c", "y")] {
                series.push(Series {
                    metric,
                    labels: Labels::from_pairs([("host", host), ("dc", dc)]).unwrap(),
                    value: -1.0,
                    silent_until_ms: i64::MIN,
                    samples: VecDeque::new(),
                });
            }
        }
        Self {
            series: Mutex::new(series),
        }
    }

    /// The next sample of each series.
    pub(crate) fn go_on(&self, random: &mut Random, course: Course, now_ms: i64) {
        for series in self.series.lock().unwrap().iter_mut() {
            match course {
                Course::Walk => {
                    if random.chance(0.35) {
                        series.value = (series.value + *random.pick(&[-1.0, 1.0])).clamp(-2.0, 3.0);
                    }
                    if random.chance(0.01) && series.silent_until_ms <= now_ms {
                        series.silent_until_ms = now_ms + random.magnitude(60_000, 1_800_000);
                        if random.chance(0.5) {
                            series.push(now_ms, f64::from_bits(STALE_NAN_BITS));
                        }
                    }
                    if random.chance(0.05) {
                        continue;
                    }
                }
                Course::Stay => series.silent_until_ms = i64::MIN,
                Course::Fall => {
                    series.silent_until_ms = i64::MIN;
                    series.value = -9.0;
                }
            }
            if series.silent_until_ms <= now_ms {
                let value = series.value;
                series.push(now_ms, value);
            }
        }
    }
}

impl Series {
    fn push(&mut self, timestamp_ms: i64, value: f64) {
        self.samples.push_back(Sample { timestamp_ms, value });
        if self.samples.len() > KEPT {
            self.samples.pop_front();
        }
    }
}

/// The data as one process sees it.
pub(crate) struct Eyes {
    pub(crate) data: Arc<Data>,
    pub(crate) process: Arc<Process>,
}

impl Select for Eyes {
    async fn select(
        &self,
        selector: &Selector,
        start_ms: i64,
        end_ms: i64,
    ) -> Result<Vec<SelectedSeries>, SelectError> {
        self.process.begin_read("select").await?;
        let mut selected = Vec::new();
        for series in self.data.series.lock().unwrap().iter() {
            if series.metric != selector.metric || !selector.filter.matches(&series.labels) {
                continue;
            }
            let inside = |sample: &&Sample| (start_ms..=end_ms).contains(&sample.timestamp_ms);
            let samples: Vec<Sample> = series.samples.iter().filter(inside).copied().collect();
            if !samples.is_empty() {
                selected.push(SelectedSeries {
                    labels: series.labels.clone(),
                    samples,
                });
            }
        }
        selected.sort_unstable_by(|one, other| one.labels.cmp(&other.labels));
        Ok(selected)
    }

    /// Each metric has a bucket of its own, so that shards have something to share.
    fn bucket(&self, metric: &str) -> Bucket {
        Bucket(u16::from(metric == "m1"))
    }
}
