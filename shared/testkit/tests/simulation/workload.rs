//! What agents push: counters that start again, gauges, values that are no numbers, late and early samples, and the same
//! sample twice.

use crate::random::Random;
use tidemark_model::sample::STALE_NAN_BITS;
use tidemark_model::{Labels, Sample, SeriesId, limits};

/// How the values of a series go on.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Decimal,
    Integer,
    Noise,
    /// Everything that a double can be.
    Odd,
}

/// A series and its agent's state.
pub(crate) struct Source {
    pub(crate) metric: String,
    pub(crate) labels: Labels,
    pub(crate) id: SeriesId,
    kind: Kind,
    interval_ms: i64,
    jitter_ms: i64,
    born_ms: i64,
    next_ms: i64,
    value: f64,
}

/// One sample on its way: the index of its source, and the sample.
pub(crate) type Push = (usize, Sample);

/// See the module.
pub(crate) struct Workload {
    pub(crate) sources: Vec<Source>,
    pub(crate) metrics: Vec<String>,
    /// Some of what was pushed, to push it again.
    recent: Vec<Push>,
    raw_ms: i64,
}

impl Workload {
    pub(crate) fn new(random: &mut Random, now_ms: i64, raw_ms: i64) -> Self {
        let metrics: Vec<String> = (0..random.between(2, 5))
            .map(|number| format!("metric_{number}"))
            .collect();
        let count = random.between(4, 18);
        let sources = (0..count).map(|number| {
            let metric = random.pick(&metrics).clone();
            let labels = Labels::from_pairs([("host", format!("host-{number}")), ("zone", format!("z{}", number % 3))]);
            let labels = labels.expect("labels in order");
            // Some appear late.
            let born_ms = now_ms
                + if random.chance(0.3) {
                    random.magnitude(60_000, 3 * 86_400_000)
                } else {
                    0
                };
            let interval_ms = *random.pick(&[10_000, 15_000, 15_000, 30_000, 60_000, 300_000]);
            Source {
                id: SeriesId::new(&metric, labels.iter()),
                metric,
                labels,
                kind: *random.pick(&[
                    Kind::Counter,
                    Kind::Counter,
                    Kind::Decimal,
                    Kind::Integer,
                    Kind::Noise,
                    Kind::Odd,
                ]),
                interval_ms,
                jitter_ms: if random.chance(0.5) {
                    0
                } else {
                    random.between(1, interval_ms / 4)
                },
                born_ms,
                next_ms: born_ms,
                value: random.between(0, 1_000) as f64,
            }
        });
        Self {
            sources: sources.collect(),
            metrics,
            recent: Vec::new(),
            raw_ms,
        }
    }

    /// The samples of one request, none of them beyond what ingest takes by a clock that shows `now_ms`.
    pub(crate) fn request(&mut self, random: &mut Random, now_ms: i64) -> Vec<Push> {
        let mut pushes = Vec::new();
        let share = random.unit();
        for at in 0..self.sources.len() {
            if self.sources[at].born_ms <= now_ms && random.chance(share) {
                self.scrape(random, at, now_ms, &mut pushes);
            }
        }
        if random.chance(0.3) {
            self.late(random, now_ms, &mut pushes);
        }
        for _ in 0..3 {
            if !self.recent.is_empty() && random.chance(0.2) {
                let (at, mut sample) = *random.pick(&self.recent);
                if random.chance(0.6) {
                    sample.value = self.sources[at].next_value(random);
                }
                pushes.push((at, sample));
            }
        }
        let (oldest, newest) = (now_ms - self.raw_ms + 1_000, now_ms + limits::MAX_FUTURE_MS - 1_000);
        pushes.retain(|(_, sample)| (oldest..=newest).contains(&sample.timestamp_ms));
        for push in &pushes {
            if self.recent.len() < 200 {
                self.recent.push(*push);
            } else {
                let at = random.below(200);
                self.recent[at] = *push;
            }
        }
        pushes
    }

    /// What a source has measured since its last scrape, or the newest of it.
    fn scrape(&mut self, random: &mut Random, at: usize, now_ms: i64, pushes: &mut Vec<Push>) {
        let source = &mut self.sources[at];
        let early_ms = if random.chance(0.05) {
            random.between(0, limits::MAX_FUTURE_MS)
        } else {
            0
        };
        let most = random.between(1, 12);
        let behind = (now_ms + early_ms - source.next_ms) / source.interval_ms;
        if behind > most {
            source.next_ms += (behind - most) * source.interval_ms;
        }
        while source.next_ms <= now_ms + early_ms {
            let timestamp_ms = source.next_ms - random.between(0, source.jitter_ms);
            let value = source.next_value(random);
            pushes.push((at, Sample { timestamp_ms, value }));
            source.next_ms += source.interval_ms;
        }
    }

    /// What an agent kept while it had no network.
    fn late(&mut self, random: &mut Random, now_ms: i64, pushes: &mut Vec<Push>) {
        for _ in 0..random.between(1, 3) {
            let at = random.below(self.sources.len());
            let source = &mut self.sources[at];
            let mut timestamp_ms = now_ms - random.magnitude(60_000, self.raw_ms);
            if random.chance(0.3) {
                timestamp_ms -= timestamp_ms.rem_euclid(60_000);
            }
            for _ in 0..random.magnitude(1, 20) {
                let value = source.next_value(random);
                pushes.push((at, Sample { timestamp_ms, value }));
                timestamp_ms += source.interval_ms;
            }
        }
    }
}

impl Source {
    fn next_value(&mut self, random: &mut Random) -> f64 {
        match self.kind {
            Kind::Counter if random.chance(0.04) => self.value = random.between(0, 3) as f64,
            Kind::Counter => self.value += random.between(0, 50) as f64,
            Kind::Decimal => self.value = ((self.value * 100.0).round() + random.between(-300, 300) as f64) / 100.0,
            Kind::Integer => self.value = random.between(-5, 1_000_000) as f64,
            Kind::Noise => self.value = random.unit() * 1e6 - 5e5,
            Kind::Odd => return Self::odd(random),
        }
        if random.chance(0.02) {
            return f64::from_bits(STALE_NAN_BITS);
        }
        if random.chance(0.01) {
            return f64::NAN;
        }
        self.value
    }

    fn odd(random: &mut Random) -> f64 {
        match random.below(9) {
            0 => f64::NAN,
            1 => f64::from_bits(STALE_NAN_BITS),
            2 => f64::INFINITY,
            3 => f64::NEG_INFINITY,
            4 => -0.0,
            5 => 0.0,
            6 => f64::from_bits(0x7ff8_0000_0000_0000 | (random.next() >> 16)),
            7 => random.between(-9, 9) as f64,
            _ => random.unit() * 1e-300,
        }
    }
}
