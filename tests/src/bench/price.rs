//! What a million samples cost on AWS: counted calls, bytes and capacity units times the list prices of us-east-1.
//!
//! Everything that is counted was counted in this run. Three things are not counted but assumed, because a laptop cannot know
//! them: how long a call to DynamoDB and to Kinesis takes on AWS, and how much of a CPU a function's memory buys. They only
//! touch Lambda's share, the smallest of all.

use super::meter::{Part, Used};
use super::report::Report;
use std::collections::BTreeMap;

/// Prices in US dollars.
mod list {
    /// HTTP API, a million requests of up to 512 KB.
    pub(super) const API_REQUESTS: f64 = 1.00 / 1e6;
    /// A million invocations.
    pub(super) const LAMBDA_REQUESTS: f64 = 0.20 / 1e6;
    /// A gigabyte second on arm64, the template's default.
    pub(super) const LAMBDA_GB_SECONDS: f64 = 0.000_013_333_4;
    /// A million PUT payload units of 25 KB.
    pub(super) const KINESIS_PUT_UNITS: f64 = 0.014 / 1e6;
    /// A provisioned shard for an hour.
    pub(super) const KINESIS_SHARD_HOURS: f64 = 0.015;
    /// A million write units on demand.
    pub(super) const WRITE_UNITS: f64 = 0.625 / 1e6;
    /// A million read units on demand.
    pub(super) const READ_UNITS: f64 = 0.125 / 1e6;
    /// A gigabyte month in a table.
    pub(super) const TABLE_GB_MONTHS: f64 = 0.25;
    /// A gigabyte of log lines.
    pub(super) const LOG_GB: f64 = 0.50;
    /// EventBridge Scheduler, a million invocations.
    pub(super) const SCHEDULES: f64 = 1.00 / 1e6;
    /// A CloudWatch alarm for a month.
    pub(super) const ALARMS: f64 = 0.10;

    /// Amazon Managed Prometheus, a million samples: the first 2 billion a month, the next 250 billion, beyond.
    pub(super) const AMP: [f64; 3] = [0.090, 0.035, 0.016];
    /// A CloudWatch custom metric for a month: the first 10,000.
    pub(super) const CLOUDWATCH_METRIC_MONTH: f64 = 0.30;
}

/// What is assumed of AWS.
mod assumed {
    /// A call to DynamoDB, in seconds: AWS says single-digit milliseconds.
    pub(super) const DYNAMODB_SECONDS: f64 = 0.008;
    /// `PutRecords`, in seconds.
    pub(super) const KINESIS_SECONDS: f64 = 0.020;
    /// The megabytes of memory that buy one CPU, as AWS documents.
    pub(super) const MB_PER_CPU: f64 = 1_769.0;
    /// A function spends as much CPU time on its SDK, TLS and JSON as on our code, at least this much for a call.
    pub(super) const CALL_CPU_SECONDS: f64 = 0.000_3;
    /// An item is stored with this much more than it is charged for when it is written.
    pub(super) const ITEM_OVERHEAD_BYTES: f64 = 100.0;
    /// One access log line, and one line of the consumer for a flush.
    pub(super) const LOG_LINE_BYTES: f64 = 300.0;
}

const MB_PER_GB: f64 = 1_024.0;
const HOURS_PER_MONTH: f64 = 730.0;
const SECONDS_PER_MONTH: f64 = HOURS_PER_MONTH * 3_600.0;

/// Memory of the functions in MB, from the template's defaults.
const INGEST_MB: f64 = 512.0;
const CONSUME_MB: f64 = 1_024.0;
const COMPACT_MB: f64 = 1_024.0;

/// How long a segment, a chunk and the aggregates live, in days, the day that TTL may take included.
const LIFE_DAYS: [(Part, f64); 4] = [
    (Part::Segments, 8.0),
    (Part::Chunks, 8.0),
    (Part::Minute, 31.0),
    (Part::Hour, 366.0),
];

/// What was counted for one kind of fleet.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) series: usize,
    pub(crate) interval_s: u32,
    pub(crate) samples: u64,
    pub(crate) requests: u64,
    pub(crate) put_units: u64,
    pub(crate) flushes: u64,
    /// Ticks of the compactor.
    pub(crate) ticks: u64,
    pub(crate) consume: BTreeMap<Part, Used>,
    pub(crate) compact: BTreeMap<Part, Used>,
    pub(crate) ingest_cpu_s: f64,
    pub(crate) consume_cpu_s: f64,
    pub(crate) compact_cpu_s: f64,
    /// How long the chunks of this fleet live, in days: where samples are no finer than a minute they are the minute tier.
    pub(crate) chunk_days: f64,
}

impl Counted {
    /// Takes the hour blocks of another fleet with the same interval, in proportion to the samples. They are made from the
    /// segments, which are read a second time for it.
    pub(crate) fn take_hours_of(&mut self, other: &Self) {
        if let Some(segments) = self.compact.get_mut(&Part::Segments) {
            segments.read_calls *= 2;
            segments.pages *= 2;
            segments.read_units *= 2;
        }
        let share = self.samples as f64 / other.samples as f64;
        let scaled = |count: u64| (count as f64 * share).round() as u64;
        let hour = other.compact.get(&Part::Hour).copied().unwrap_or_default();
        self.compact.insert(
            Part::Hour,
            Used {
                write_calls: scaled(hour.write_calls),
                items: scaled(hour.items),
                item_bytes: scaled(hour.item_bytes),
                data_bytes: scaled(hour.data_bytes),
                write_units: scaled(hour.write_units),
                read_calls: scaled(hour.read_calls),
                pages: scaled(hour.pages),
                read_units: scaled(hour.read_units),
            },
        );
    }
}

/// One line of the bill: a part and dollars per million samples.
type Line = (&'static str, f64);

impl Counted {
    fn lines(&self) -> Vec<Line> {
        let millions = self.samples as f64 / 1e6;
        let units = |of: &dyn Fn(&Used) -> u64| {
            let all = self.consume.values().chain(self.compact.values());
            all.map(of).sum::<u64>() as f64
        };
        let write = |part: Part| {
            let both = [&self.consume, &self.compact];
            both.iter()
                .filter_map(|used| used.get(&part))
                .map(|used| used.write_units)
                .sum::<u64>() as f64
        };
        let other = write(Part::Catalog) / self.catalog_share() + write(Part::Marks);
        let lines = [
            ("API Gateway requests", self.requests as f64 * list::API_REQUESTS),
            ("Lambda ingest", self.ingest()),
            ("Kinesis PUT units", self.put_units as f64 * list::KINESIS_PUT_UNITS),
            ("Lambda consume", self.consume()),
            ("writes: segments", write(Part::Segments) * list::WRITE_UNITS),
            ("writes: chunks", write(Part::Chunks) * list::WRITE_UNITS),
            ("writes: 1-minute aggregates", write(Part::Minute) * list::WRITE_UNITS),
            ("writes: 1-hour aggregates", write(Part::Hour) * list::WRITE_UNITS),
            ("writes: catalog and marks", other * list::WRITE_UNITS),
            ("reads", units(&|used| used.read_units) * list::READ_UNITS),
            ("Lambda compact", self.compact()),
            ("stored", self.stored()),
            ("logs", self.logs()),
        ];
        lines.into_iter().map(|(name, usd)| (name, usd / millions)).collect()
    }

    /// A series is catalogued once in 30 days, but was in the hours that were counted.
    fn catalog_share(&self) -> f64 {
        let counted_s = self.samples as f64 / self.series as f64 * f64::from(self.interval_s);
        30.0 * 86_400.0 / counted_s
    }

    fn invocations(count: f64, mb: f64, cpu_s: f64, waits_s: f64) -> f64 {
        let seconds = cpu_s / (mb / assumed::MB_PER_CPU) + waits_s;
        count * list::LAMBDA_REQUESTS + seconds * mb / MB_PER_GB * list::LAMBDA_GB_SECONDS
    }

    fn ingest(&self) -> f64 {
        let requests = self.requests as f64;
        let cpu_s = self.ingest_cpu_s + 2.0 * requests * assumed::CALL_CPU_SECONDS;
        Self::invocations(requests, INGEST_MB, cpu_s, requests * assumed::KINESIS_SECONDS)
    }

    fn consume(&self) -> f64 {
        let flushes = self.flushes as f64;
        let calls = calls(&self.consume);
        let cpu_s = self.consume_cpu_s + calls * assumed::CALL_CPU_SECONDS;
        // One after the other: checkpoint, segments, checkpoint.
        Self::invocations(flushes, CONSUME_MB, cpu_s, flushes * 3.0 * assumed::DYNAMODB_SECONDS)
    }

    fn compact(&self) -> f64 {
        let calls = calls(&self.compact);
        let cpu_s = self.compact_cpu_s + calls * assumed::CALL_CPU_SECONDS;
        let ticks = self.ticks as f64;
        let usd = Self::invocations(ticks, COMPACT_MB, cpu_s, calls * assumed::DYNAMODB_SECONDS / 8.0);
        usd + ticks * list::SCHEDULES
    }

    fn stored(&self) -> f64 {
        let bytes = |part: Part| {
            let both = [&self.consume, &self.compact];
            let used = both.iter().filter_map(|used| used.get(&part));
            used.map(|used| used.item_bytes as f64 + used.items as f64 * assumed::ITEM_OVERHEAD_BYTES)
                .sum::<f64>()
        };
        LIFE_DAYS
            .iter()
            .map(|(part, days)| {
                let days = if *part == Part::Chunks { self.chunk_days } else { *days };
                bytes(*part) / 1e9 * days / 30.0 * list::TABLE_GB_MONTHS
            })
            .sum()
    }

    fn logs(&self) -> f64 {
        (self.requests + self.flushes) as f64 * assumed::LOG_LINE_BYTES / 1e9 * list::LOG_GB
    }

    /// Samples in a month.
    fn monthly(&self) -> f64 {
        self.series as f64 * SECONDS_PER_MONTH / f64::from(self.interval_s)
    }
}

fn calls(used: &BTreeMap<Part, Used>) -> f64 {
    used.values().map(|used| used.write_calls + used.pages).sum::<u64>() as f64
}

/// Prints the bills side by side and keeps their sums.
pub(crate) fn report(fleets: &[(&str, Counted)], report: &mut Report) -> anyhow::Result<()> {
    report.section("Price in US dollars per million samples, us-east-1, without what costs by the hour");
    let lines: Vec<Vec<Line>> = fleets.iter().map(|(_, counted)| counted.lines()).collect();
    let row = |name: &str, values: &mut dyn Iterator<Item = f64>| {
        let values: Vec<String> = values.map(|value| format!("{value:>12.5}")).collect();
        println!("  {name:<30}{}", values.join(""));
    };
    let names: Vec<String> = fleets.iter().map(|(name, _)| format!("{name:>12}")).collect();
    println!("  {:<30}{}", "", names.join(""));
    for (at, (name, _)) in lines.first().into_iter().flatten().enumerate() {
        row(name, &mut lines.iter().map(|lines| lines[at].1));
    }
    let sums: Vec<f64> = lines
        .iter()
        .map(|lines| lines.iter().map(|line| line.1).sum())
        .collect();
    row("Tidemark", &mut sums.iter().copied());
    let monthly = |counted: &Counted| counted.monthly() / 1e6;
    row(
        "Amazon Managed Prometheus",
        &mut fleets.iter().map(|(_, counted)| amp(counted.monthly())),
    );
    row(
        "CloudWatch custom metrics",
        &mut fleets
            .iter()
            .map(|(_, counted)| list::CLOUDWATCH_METRIC_MONTH * counted.series as f64 / monthly(counted)),
    );
    let hourly = list::KINESIS_SHARD_HOURS * HOURS_PER_MONTH;
    println!(
        "  by the month: {hourly:.2} for each shard (1 MB/s), {:.2} for each alarm",
        list::ALARMS
    );
    row(
        "Tidemark with one shard",
        &mut fleets
            .iter()
            .zip(&sums)
            .map(|((_, counted), sum)| sum + hourly / monthly(counted)),
    );
    for ((name, _), sum) in fleets.iter().zip(sums) {
        let goal = match *name {
            "15s_10k" | "15s_100k" => "at most 0.008, better 0.006",
            "60s_100k" => "at most 0.012",
            _ => "",
        };
        report.add_exact(format!("price.usd_per_million.{name}"), sum, goal)?;
    }
    Ok(())
}

/// What Amazon Managed Prometheus asks for a million samples, by its tiers, for so many in a month. Storage and queries are
/// charged beside it.
fn amp(monthly: f64) -> f64 {
    let tiers = [2e9, 250e9, f64::INFINITY];
    let (mut rest, mut usd) = (monthly, 0.0);
    for (size, price) in tiers.into_iter().zip(list::AMP) {
        let here = rest.min(size);
        usd += here / 1e6 * price;
        rest -= here;
    }
    usd / (monthly / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amp_charges_each_tier_for_its_own_samples() {
        assert!((amp(1e9) - 0.09).abs() < 1e-12);
        // 2 billion at 0.09 and as many at 0.035.
        assert!((amp(4e9) - 0.0625).abs() < 1e-12);
    }

    #[test]
    fn a_series_is_charged_to_the_catalog_once_in_thirty_days() {
        let counted = Counted {
            series: 10,
            interval_s: 15,
            samples: 4_800,
            requests: 1,
            put_units: 1,
            flushes: 1,
            ticks: 1,
            consume: BTreeMap::new(),
            compact: BTreeMap::new(),
            ingest_cpu_s: 0.0,
            consume_cpu_s: 0.0,
            compact_cpu_s: 0.0,
            chunk_days: 8.0,
        };
        assert_eq!(counted.catalog_share(), 360.0);
        assert!(counted.lines().iter().all(|(_, usd)| usd.is_finite() && *usd >= 0.0));
    }
}
