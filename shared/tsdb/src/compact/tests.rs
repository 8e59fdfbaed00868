use super::*;
use crate::flush::{Consumer, Origin};
use crate::ingest::{Intake, RequestTimes, accept};
use crate::layout::Retention;
use crate::memory::faulty::{Faulty, block_on};
use crate::memory::{MemoryStore, MemoryStream};
use crate::rollup::{self, Rollup};
use crate::tier::{StoredBlock, Tier, windows_of_day};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tidemark_model::{Buckets, DAY_MS, Period, Sample, SeriesId, Window, WindowLength};

mod faults;
mod late;
mod tiers;

const HOUR_MS: i64 = 3_600_000;
const LEASE_MS: i64 = 600_000;

/// Midnight, and the first of a period's: windows on both sides of it have references of their own.
const MIDNIGHT: i64 = 690 * Period::LENGTH_MS;

fn layout() -> Layout {
    Layout {
        buckets: Buckets::new(2).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 3 * DAY_MS,
            minute_ms: 10 * DAY_MS,
            hour_ms: 100 * DAY_MS,
        },
        grace_ms: HOUR_MS,
    }
}

fn never() -> bool {
    false
}

type Name = (&'static str, &'static str);

/// An installation, and what is to be read from it.
#[derive(Default)]
struct Plant {
    store: Arc<MemoryStore>,
    model: BTreeMap<Name, BTreeMap<i64, f64>>,
    written: i64,
}

impl Plant {
    /// Another one with the same contents.
    fn copy(&self) -> Self {
        Self {
            store: Arc::new(self.store.copy()),
            model: self.model.clone(),
            written: self.written,
        }
    }

    /// Stores samples `(series, time in milliseconds, value)` that arrive at a time.
    fn write(&mut self, now_ms: i64, origin: Origin, samples: &[(Name, i64, f64)]) {
        for (name, at, value) in samples {
            self.model.entry(*name).or_default().insert(*at, *value);
        }
        self.written += 1;
        write(&self.store, self.written, now_ms, origin, samples);
    }

    fn compactor(&self) -> Compactor<MemoryStore> {
        Compactor::new(Arc::clone(&self.store), layout(), LEASE_MS)
    }

    fn compact(&self, now_ms: i64) -> CompactReport {
        block_on(self.compactor().run(|| now_ms, 0, never)).unwrap()
    }

    fn progress(&self, name: Name) -> Progress {
        block_on(self.store.progress(layout().buckets.of(id(name)))).unwrap()
    }

    /// The blocks of a series that start then, those of the greatest epoch.
    fn blocks(&self, tier: Tier, name: Name, start_ms: i64) -> Vec<StoredBlock> {
        let mut blocks = block_on(self.store.blocks(tier, id(name), start_ms, start_ms)).unwrap();
        let newest = blocks.last().map_or(0, |block| block.key.epoch);
        blocks.retain(|block| block.key.epoch == newest);
        blocks
    }

    /// The samples of a series in a window, as they should be.
    fn samples(&self, name: Name, window: Window) -> Vec<Sample> {
        let end_ms = layout().window_end_ms(window);
        let of_series = self.model.get(&name).into_iter();
        let found = of_series.flat_map(|samples| samples.range(window.start_ms..end_ms));
        let sample = |(timestamp_ms, value): (&i64, &f64)| Sample {
            timestamp_ms: *timestamp_ms,
            value: *value,
        };
        found.map(sample).collect()
    }

    /// The hours of a series on a day, as they should be.
    fn hours(&self, name: Name, day_ms: i64) -> Option<Rollup> {
        let mut hours: Option<Rollup> = None;
        for window in windows_of_day(layout().window, day_ms) {
            if let Some(later) = rollup::roll(&self.samples(name, window), HOUR_MS) {
                match &mut hours {
                    Some(earlier) => earlier.append(later),
                    None => hours = Some(later),
                }
            }
        }
        hours
    }

    /// Checks that whatever the progress declares done holds just what was written. Returns how many windows and days are.
    fn check(&self) -> (usize, usize) {
        let (mut windows, mut days) = (0, 0);
        for name in self.model.keys() {
            let progress = self.progress(*name);
            for window in layout().window.covering(MIDNIGHT - 3 * DAY_MS, MIDNIGHT + 3 * DAY_MS) {
                if progress.is_compacted(window) {
                    windows += usize::from(self.check_window(*name, window));
                }
            }
            for day_ms in (-3..3).map(|day| MIDNIGHT + day * DAY_MS) {
                let clean = windows_of_day(layout().window, day_ms).all(|window| progress.is_compacted(window));
                if clean && progress.is_rolled(day_ms) {
                    let blocks = self.blocks(Tier::Hour, *name, day_ms);
                    let found = blocks.first().map(|block| rollup::decode(&block.data).unwrap().rollup);
                    assert_eq!(found, self.hours(*name, day_ms), "hours of {name:?} on {day_ms}");
                    days += usize::from(found.is_some());
                }
            }
        }
        (windows, days)
    }

    fn check_window(&self, name: Name, window: Window) -> bool {
        let wanted = self.samples(name, window);
        let mut found = Vec::new();
        for (part, block) in (0..).zip(self.blocks(Tier::Raw, name, window.start_ms)) {
            assert_eq!(block.key.part, part);
            crate::chunk::decode(&block.data, &mut found).unwrap();
        }
        assert_eq!(found, wanted, "chunk of {name:?} in {window}");
        let minutes = self.blocks(Tier::Minute, name, window.start_ms);
        let minutes = minutes.first().map(|block| rollup::decode(&block.data).unwrap().rollup);
        let wanted_minutes = rollup::roll(&wanted, 60_000).filter(Rollup::condenses);
        assert_eq!(minutes, wanted_minutes, "minutes of {name:?} in {window}");
        !wanted.is_empty()
    }

    /// Compacts until nothing is left, long after whoever died, and checks that all is there.
    fn finish(&self, now_ms: i64) {
        let now_ms = now_ms + LEASE_MS;
        self.compact(now_ms);
        self.check();
        for bucket in layout().buckets.all() {
            let progress = block_on(self.store.progress(bucket)).unwrap();
            assert!(progress.dirty.is_empty(), "{progress:?}");
            assert!(progress.leased_until_ms <= now_ms);
            assert!(progress.compacted_before_ms >= Some(layout().window.of(now_ms - HOUR_MS).start_ms));
        }
        let again = self.compact(now_ms);
        assert_eq!(again, CompactReport::default());
    }
}

fn id((metric, host): Name) -> SeriesId {
    SeriesId::new(metric, [("host", host)].into_iter())
}

/// Stores samples as one record of a stream whose only other records came before.
fn write(store: &Arc<MemoryStore>, number: i64, now_ms: i64, origin: Origin, samples: &[(Name, i64, f64)]) {
    let buckets = layout().buckets;
    // A stream of its own, whose sequence numbers go on where the last one's ended.
    let stream = MemoryStream::new(buckets, 1, now_ms);
    for _ in 0..number {
        stream.append(0, Vec::new());
    }
    let metrics: Vec<_> = samples
        .iter()
        .map(|((metric, host), at, value)| {
            json!({"name": metric, "value": value, "labels": {"host": host}, "timestamp": *at as f64 / 1_000.0})
        })
        .collect();
    let body = json!({ "metrics": metrics }).to_string();
    let intake = Intake {
        buckets,
        retention_ms: 100 * DAY_MS,
    };
    let times = RequestTimes {
        now_ms,
        within: Duration::from_secs(1),
    };
    block_on(accept(&stream, &intake, body.as_bytes(), times)).unwrap();
    let records = stream.records(0).split_off(usize::try_from(number).unwrap());
    let mut consumer = Consumer::new(Arc::clone(store), layout(), origin, Arc::new(move || now_ms));
    let report = block_on(consumer.flush(&MemoryStream::shard_id(0), &records, &**store)).unwrap();
    assert_eq!(report.samples, samples.len() as u64);
}

const FAST: Name = ("cpu", "fast");
const SLOW: Name = ("disk", "slow");

/// Samples every `step` seconds of some hours from `start_ms` on.
fn regular(name: Name, start_ms: i64, hours: i64, step: i64) -> Vec<(Name, i64, f64)> {
    let samples = (0..hours * 3_600 / step).map(|at| (name, start_ms + at * step * 1_000, (at % 7) as f64));
    samples.collect()
}

/// Two days of samples around midnight.
fn two_days() -> Plant {
    let mut plant = Plant::default();
    for hours in [-9, -4, 1] {
        let start_ms = MIDNIGHT + hours * HOUR_MS;
        let mut samples = regular(FAST, start_ms, 4, 40);
        samples.extend(regular(SLOW, start_ms, 4, 300));
        plant.write(start_ms + 4 * HOUR_MS, Origin::Stream, &samples);
    }
    plant
}
