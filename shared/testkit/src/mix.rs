//! The workload that sizes and speeds are measured on: ten series per host, as a node exporter and an application give
//! them, deterministic. The classes and their shares are those of the project's performance data (an up flag, two integer
//! gauges, a gauge in 4 KiB pages, a gauge of two decimals, a bytes counter, a small counter, a seconds counter of two
//! decimals, a constant, a noisy float), so that figures can be compared.
//!
//! Everything here is plain types, so that any crate can use it in its own tests.

use std::fmt::Write as _;

/// The time between two scrapes, in milliseconds.
pub const STEP_MS: i64 = 15_000;

/// How many series a host has.
pub const SERIES_PER_HOST: usize = 10;

/// What kind of values a series has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// 1, rarely 0.
    Up,
    /// An integer from 0 to 100 that wanders.
    IntegerGauge,
    /// A multiple of 4096 that wanders.
    PagesGauge,
    /// A load average: two decimals.
    DecimalGauge,
    /// A counter of bytes: grows by thousands to millions.
    BytesCounter,
    /// A counter of events: grows by few.
    EventsCounter,
    /// A counter of seconds: two decimals.
    SecondsCounter,
    /// Never changes.
    Constant,
    /// Full-mantissa noise.
    Noisy,
}

/// One series of the mix.
#[derive(Clone, Debug)]
pub struct MixSeries {
    /// The host that has it, from 0.
    pub host: usize,
    /// The metric name.
    pub name: String,
    /// The labels in ascending order of their names.
    pub labels: Vec<(String, String)>,
    /// What its values are like.
    pub class: Class,
}

/// A fleet of hosts, stepped from scrape to scrape.
#[derive(Clone, Debug)]
pub struct Mix {
    series: Vec<MixSeries>,
    values: Vec<Values>,
    clocks: Vec<Clock>,
    steps: i64,
    step_ms: i64,
    start_ms: i64,
}

impl Mix {
    /// A fleet that is scraped every [`STEP_MS`].
    #[must_use]
    pub fn new(hosts: usize, start_ms: i64) -> Self {
        Self::with_step(hosts, start_ms, STEP_MS)
    }

    /// A fleet whose first scrape is within the first step after `start_ms`. Series come host by host.
    #[must_use]
    pub fn with_step(hosts: usize, start_ms: i64, step_ms: i64) -> Self {
        let series: Vec<MixSeries> = (0..hosts).flat_map(host_series).collect();
        let values = series
            .iter()
            .enumerate()
            .map(|(at, series)| Values::new(series.class, at as u64 + 1))
            .collect();
        Self {
            series,
            values,
            clocks: (0..hosts).map(|host| Clock::new(host as u64, step_ms)).collect(),
            steps: 0,
            step_ms,
            start_ms,
        }
    }

    /// The series.
    #[must_use]
    pub fn series(&self) -> &[MixSeries] {
        &self.series
    }

    /// The next scrape: a timestamp in milliseconds and a value for each series. The series of a host share the timestamp;
    /// every tenth scrape of a host is up to 10 ms early or late.
    pub fn scrape(&mut self) -> Vec<(i64, f64)> {
        let base = self.start_ms + self.steps * self.step_ms;
        self.steps += 1;
        let times: Vec<i64> = self.clocks.iter_mut().map(|clock| base + clock.next()).collect();
        let values = self.values.iter_mut().map(Values::next);
        self.series
            .iter()
            .map(|series| times[series.host])
            .zip(values)
            .collect()
    }

    /// Several scrapes: for each series its samples in order of time.
    pub fn scrapes(&mut self, count: usize) -> Vec<Vec<(i64, f64)>> {
        let mut all = vec![Vec::with_capacity(count); self.series.len()];
        for _ in 0..count {
            for (samples, sample) in all.iter_mut().zip(self.scrape()) {
                samples.push(sample);
            }
        }
        all
    }

    /// JSON request bodies of at most `samples_per_request` samples, for the next `scrapes` scrapes. Each body holds all
    /// `scrapes` samples of a series before the next series, as an agent sends that buffers them.
    pub fn json_bodies(&mut self, scrapes: usize, samples_per_request: usize) -> Vec<Vec<u8>> {
        let all = self.scrapes(scrapes);
        let samples: Vec<(&MixSeries, (i64, f64))> = self
            .series
            .iter()
            .zip(&all)
            .flat_map(|(series, samples)| samples.iter().map(move |sample| (series, *sample)))
            .collect();
        samples.chunks(samples_per_request.max(1)).map(json_body).collect()
    }
}

/// One request body of the JSON API. Timestamps are Unix seconds with three decimals.
#[must_use]
pub fn json_body(samples: &[(&MixSeries, (i64, f64))]) -> Vec<u8> {
    let mut body = String::from("{\"metrics\":[");
    for (at, (series, (timestamp_ms, value))) in samples.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        // Names and labels of the mix need no escapes, and writing to a string does not fail.
        let _ = write!(body, "{{\"name\":\"{}\",\"value\":{value},\"labels\":{{", series.name);
        for (at, (name, value)) in series.labels.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let _ = write!(body, "{comma}\"{name}\":\"{value}\"");
        }
        let (seconds, ms) = (timestamp_ms.div_euclid(1_000), timestamp_ms.rem_euclid(1_000));
        let _ = write!(body, "}},\"timestamp\":{seconds}.{ms:03}}}");
    }
    body.push_str("]}");
    body.into_bytes()
}

fn host_series(host: usize) -> Vec<MixSeries> {
    use Class::{
        BytesCounter, Constant, DecimalGauge, EventsCounter, IntegerGauge, Noisy, PagesGauge, SecondsCounter, Up,
    };
    let service = format!("svc-{}", host % 20);
    let os = [("os", "Ubuntu22.04LTS")];
    let series = [
        ("up", Up, &[][..]),
        ("cpu_usage_user", IntegerGauge, &os),
        ("cpu_usage_system", IntegerGauge, &os),
        ("node_memory_MemAvailable_bytes", PagesGauge, &[]),
        ("node_load1", DecimalGauge, &[]),
        ("node_network_receive_bytes_total", BytesCounter, &[("device", "eth0")]),
        (
            "node_disk_reads_completed_total",
            EventsCounter,
            &[("device", "nvme0n1")],
        ),
        (
            "node_cpu_seconds_total",
            SecondsCounter,
            &[("cpu", "0"), ("mode", "user")],
        ),
        ("node_memory_MemTotal_bytes", Constant, &[]),
        ("app_request_latency_avg_ms", Noisy, &[("service", &*service)]),
    ];
    series
        .into_iter()
        .map(|(name, class, extra)| {
            let mut labels = host_labels(host);
            labels.extend(
                extra
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            labels.sort();
            MixSeries {
                host,
                name: name.to_owned(),
                labels,
                class,
            }
        })
        .collect()
}

fn host_labels(host: usize) -> Vec<(String, String)> {
    let region = ["eu-west-1", "us-east-1", "us-west-2", "ap-south-1"][host % 4];
    let zone = ["a", "b", "c"][host / 4 % 3];
    let env = if host.is_multiple_of(10) {
        "staging"
    } else {
        "production"
    };
    [
        ("datacenter", format!("{region}{zone}")),
        ("env", env.to_owned()),
        ("host", format!("host_{host:04}")),
        (
            "instance",
            format!("10.{}.{}.{}:9100", 10 + host / 65_536, host / 256 % 256, host % 256),
        ),
        ("job", "node-exporter".to_owned()),
        ("region", region.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// A host's clock: its own offset within the step, and jitter on every tenth scrape.
#[derive(Clone, Debug)]
struct Clock {
    random: Random,
    offset_ms: i64,
}

impl Clock {
    fn new(host: u64, step_ms: i64) -> Self {
        let mut random = Random(host << 20 | 0xc10c);
        let offset_ms = random.below(step_ms.unsigned_abs()) as i64;
        Self { random, offset_ms }
    }

    fn next(&mut self) -> i64 {
        let jitter = if self.random.unit() < 0.9 {
            0
        } else {
            self.random.below(21) as i64 - 10
        };
        self.offset_ms + jitter
    }
}

/// The values of one series.
#[derive(Clone, Debug)]
struct Values {
    class: Class,
    random: Random,
    value: f64,
    /// What the class is centred on: a mean, a rate, a utilisation.
    centre: f64,
    /// A fifth of the counters do not move.
    idle: bool,
}

impl Values {
    fn new(class: Class, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let unit = random.unit();
        let (value, centre) = match class {
            Class::Up => (1.0, 0.0),
            Class::IntegerGauge => (unit * 100.0, 0.0),
            Class::PagesGauge => ((1.0 + unit * 15.0) * 262_144.0, 0.0),
            Class::DecimalGauge => (0.2 + unit * 8.0, 0.2 + unit * 8.0),
            Class::BytesCounter => ((unit * 1e12).floor(), 15.0 * 10_f64.powf(3.0 + 3.5 * random.unit())),
            Class::EventsCounter => ((unit * 1e7).floor(), 10_f64.powf(-1.0 + 3.3 * random.unit())),
            Class::SecondsCounter => ((unit * 1e8).floor() / 100.0, random.unit()),
            Class::Constant => {
                let gib = 8_u64 << random.below(4);
                ((gib << 30) as f64 - (random.below(100_000) * 4_096) as f64, 0.0)
            }
            Class::Noisy => (0.0, unit * 100.0),
        };
        let idle = random.unit() < 0.2;
        Self {
            class,
            random,
            value,
            centre,
            idle,
        }
    }

    fn next(&mut self) -> f64 {
        let random = &mut self.random;
        match self.class {
            Class::Up => {
                let turn = if self.value == 1.0 { 0.0005 } else { 0.2 };
                if random.unit() < turn {
                    self.value = 1.0 - self.value;
                }
                self.value
            }
            Class::IntegerGauge => {
                self.value = (self.value + random.normal()).clamp(0.0, 100.0);
                self.value.round()
            }
            Class::PagesGauge => {
                self.value = (self.value + 200.0 * random.normal()).max(1_000.0);
                self.value.round() * 4_096.0
            }
            Class::DecimalGauge => {
                self.value = (self.value + 0.1 * (self.centre - self.value) + 0.08 * random.normal()).max(0.0);
                (self.value * 100.0).round() / 100.0
            }
            Class::BytesCounter => self.count(|random, rate| (rate * (0.3 * random.normal()).exp()).floor()),
            Class::EventsCounter => self.count(Random::poisson),
            Class::SecondsCounter => {
                self.centre = (self.centre + 0.03 * random.normal()).clamp(0.001, 1.0);
                self.value += 15.0 * self.centre;
                (self.value * 100.0).round() / 100.0
            }
            Class::Constant => self.value,
            Class::Noisy => self.centre + 10.0 * random.normal(),
        }
    }

    /// Counts on, unless idle, and very rarely starts again from 0.
    fn count(&mut self, increment: impl Fn(&mut Random, f64) -> f64) -> f64 {
        if !self.idle {
            self.value += increment(&mut self.random, self.centre);
        }
        if self.random.unit() < 1e-5 {
            self.value = 0.0;
        }
        self.value
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The standard normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn poisson(&mut self, mean: f64) -> f64 {
        if mean > 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        // Knuth's way, for small means.
        let limit = (-mean).exp();
        let (mut count, mut product) = (0.0, self.unit());
        while product > limit {
            count += 1.0;
            product *= self.unit();
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_repeats_itself() {
        let (a, b) = (Mix::new(3, 0).json_bodies(4, 50), Mix::new(3, 0).json_bodies(4, 50));
        assert_eq!(a, b);
        assert_eq!(a.len(), 3);
    }

    #[test]
    fn series_of_a_host_share_their_timestamps_and_one_in_ten_jitters() {
        let mut mix = Mix::new(100, 1_767_225_600_000);
        let samples = mix.scrapes(20);
        for host in samples.chunks(SERIES_PER_HOST) {
            assert!(
                host.iter()
                    .all(|series| series.iter().map(|s| s.0).eq(host[0].iter().map(|s| s.0)))
            );
        }
        let late = samples
            .iter()
            .flat_map(|series| series.windows(2))
            .filter(|pair| pair[1].0 - pair[0].0 != STEP_MS)
            .count();
        let share = late as f64 / (samples.len() * 19) as f64;
        assert!((0.1..0.3).contains(&share), "{share}");
    }

    #[test]
    fn bodies_are_json_of_about_250_bytes_per_sample() {
        let bodies = Mix::new(200, 1_767_225_600_000).json_bodies(1, 2_000);
        assert_eq!(bodies.len(), 1);
        assert!((200..300).contains(&(bodies[0].len() / 2_000)), "{}", bodies[0].len());
        let json: serde_json::Value = serde_json::from_slice(&bodies[0]).unwrap();
        assert_eq!(json["metrics"].as_array().unwrap().len(), 2_000);
        assert_eq!(json["metrics"][0]["name"], "up");
    }
}
