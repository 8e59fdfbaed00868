//! What must be answered: every record in the order of its shard, and which of them are stored.
//!
//! A record is *stored* when a flush that held it has returned `Ok`: every query that begins later must answer with it.
//! A record that the stream has taken but nobody has stored yet may be in an answer or not. So of each series and time:
//!
//! - a sample must be in the answer when a record that holds it was stored before the query began;
//! - its value must be one that no value stored before the query began comes after. Records of a shard come one after the
//!   other, those of a child shard after those of its parents. Two shards of which neither comes from the other are in no
//!   order (a producer with an old map of the shards brings a metric to both): either value will do. So it will when an
//!   operator has stored again the record that comes before: a replay wins against what was stored before it, and may have
//!   ended before it came to the other.
//!
//! Nothing else may be in an answer.

use crate::stream::{Place, SimStream};
use crate::workload::Workload;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tidemark_model::{Labels, Sample, SeriesId};

const NEVER: u64 = u64::MAX;

/// One value that a time of a series was given.
#[derive(Clone, Copy, Debug)]
struct Version {
    place: Place,
    value: f64,
}

/// A series with everything that was ever pushed of it.
pub(crate) struct Series {
    pub(crate) metric: String,
    pub(crate) labels: Labels,
    pub(crate) id: SeriesId,
    versions: BTreeMap<i64, Vec<Version>>,
}

/// What may be answered for one series and time.
pub(crate) struct Expected {
    /// Whether there must be an answer.
    pub(crate) must: bool,
    /// The bits of the values that are allowed, each once.
    pub(crate) values: Vec<u64>,
}

impl Expected {
    /// The one possible answer, if there is just one.
    pub(crate) fn certain(&self) -> Option<f64> {
        (self.must && self.values.len() == 1).then(|| f64::from_bits(self.values[0]))
    }
}

/// See the module.
pub(crate) struct Model {
    pub(crate) series: Vec<Series>,
    by_id: BTreeMap<SeriesId, usize>,
    /// By shard and place, the tick at which the record was stored.
    stored: Vec<Vec<u64>>,
    /// By shard, the shards that it came from, and those that they came from.
    ancestors: Vec<BTreeSet<usize>>,
    /// The records that an operator may have stored again.
    pub(crate) replayed: Arc<Mutex<BTreeSet<Place>>>,
}

impl Model {
    pub(crate) fn new(workload: &Workload) -> Self {
        let series: Vec<Series> = workload
            .sources
            .iter()
            .map(|source| Series {
                metric: source.metric.clone(),
                labels: source.labels.clone(),
                id: source.id,
                versions: BTreeMap::new(),
            })
            .collect();
        let by_id = series.iter().enumerate().map(|(at, series)| (series.id, at)).collect();
        Self {
            series,
            by_id,
            stored: Vec::new(),
            ancestors: Vec::new(),
            replayed: Arc::default(),
        }
    }

    /// A record is in the stream.
    pub(crate) fn taken(&mut self, stream: &SimStream, place: Place) {
        stream.look(|shards| {
            for shard in shards.iter().skip(self.ancestors.len()) {
                let parents = &shard.parents;
                let older = parents.iter().flat_map(|parent| self.ancestors[*parent].clone());
                let all = older.chain(parents.iter().copied()).collect();
                self.ancestors.push(all);
                self.stored.push(Vec::new());
            }
            let record = &shards[place.shard].records[place.at];
            assert_eq!(self.stored[place.shard].len(), place.at, "records come in order");
            self.stored[place.shard].push(NEVER);
            for (id, sample) in &record.samples {
                let series = &mut self.series[self.by_id[id]];
                let versions = series.versions.entry(sample.timestamp_ms).or_default();
                versions.push(Version {
                    place,
                    value: sample.value,
                });
            }
        });
    }

    /// A flush that held the record has returned.
    pub(crate) fn stored(&mut self, place: Place, tick: u64) {
        let stored = &mut self.stored[place.shard][place.at];
        *stored = (*stored).min(tick);
    }

    pub(crate) fn is_stored(&self, place: Place) -> bool {
        self.stored[place.shard][place.at] != NEVER
    }

    fn comes_before(&self, a: Place, b: Place) -> bool {
        if a.shard == b.shard {
            a.at < b.at
        } else {
            self.ancestors[b.shard].contains(&a.shard)
        }
    }

    fn expected(&self, versions: &[Version], begun: u64) -> Expected {
        let replayed = self.replayed.lock().unwrap();
        let stored = |version: &Version| self.stored[version.place.shard][version.place.at] <= begun;
        let overtaken = |at: usize| {
            versions.iter().enumerate().any(|(other_at, other)| {
                // Twice in one record: the later one holds.
                let twice = other.place == versions[at].place && other_at > at;
                let after = |place: Place| !replayed.contains(&place) && self.comes_before(place, other.place);
                twice || (stored(other) && after(versions[at].place))
            })
        };
        let mut values: Vec<u64> = (0..versions.len())
            .filter(|at| !overtaken(*at))
            .map(|at| versions[at].value.to_bits())
            .collect();
        values.sort_unstable();
        values.dedup();
        Expected {
            must: versions.iter().any(stored),
            values,
        }
    }

    /// What may be answered for the times of a series in a range, by a query that begun then.
    pub(crate) fn expected_in(
        &self,
        series: usize,
        start_ms: i64,
        end_ms: i64,
        begun: u64,
    ) -> impl Iterator<Item = (i64, Expected)> {
        let found = (start_ms <= end_ms).then(|| self.series[series].versions.range(start_ms..=end_ms));
        found
            .into_iter()
            .flatten()
            .map(move |(at, versions)| (*at, self.expected(versions, begun)))
    }

    pub(crate) fn check_series(
        &self,
        series: usize,
        (start_ms, end_ms): (i64, i64),
        begun: u64,
        found: &[Sample],
    ) -> Result<usize, String> {
        let mut rest = found;
        for (at, expected) in self.expected_in(series, start_ms, end_ms, begun) {
            let sample = rest.first().filter(|sample| sample.timestamp_ms <= at);
            let told = |value: u64| format!("{:?} ({value:016x})", f64::from_bits(value));
            let wanted: Vec<String> = expected.values.iter().map(|value| told(*value)).collect();
            match sample {
                Some(sample) if sample.timestamp_ms < at => {
                    return Err(format!("{} was never pushed, or comes twice", sample.timestamp_ms));
                }
                Some(sample) if !expected.values.contains(&sample.value.to_bits()) => {
                    let got = told(sample.value.to_bits());
                    return Err(format!(
                        "at {at}: got {got}, wanted {}: {}",
                        wanted.join(" or "),
                        self.history(series, at)
                    ));
                }
                Some(_) => rest = &rest[1..],
                None if expected.must => {
                    return Err(format!(
                        "{at} is missing, wanted {}: {}",
                        wanted.join(" or "),
                        self.history(series, at)
                    ));
                }
                None => {}
            }
        }
        match rest.first() {
            Some(sample) => Err(format!(
                "{} was never pushed, or is outside {start_ms}..={end_ms}",
                sample.timestamp_ms
            )),
            None => Ok(found.len()),
        }
    }

    /// What was pushed for a series and time.
    fn history(&self, series: usize, at: i64) -> String {
        let versions = self.series[series].versions.get(&at);
        let told = versions.into_iter().flatten().map(|version| {
            let stored = self.stored[version.place.shard][version.place.at];
            let stored = if stored == NEVER {
                "not stored".to_owned()
            } else {
                format!("stored at tick {stored}")
            };
            format!(
                "{:?} by record {} of shard {}, {stored}",
                version.value, version.place.at, version.place.shard
            )
        });
        told.collect::<Vec<_>>().join("; ")
    }

    /// Forgets what is older than anything that is kept.
    pub(crate) fn forget_before(&mut self, oldest_ms: i64) {
        for series in &mut self.series {
            series.versions = series.versions.split_off(&oldest_ms);
        }
    }
}
