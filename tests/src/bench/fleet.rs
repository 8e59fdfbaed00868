//! A fleet that pushes for hours: the records that a stream of one shard takes, flush by flush, without the text of requests.

use anyhow::{Context as _, ensure};
use tidemark_model::{Buckets, limits};
use tidemark_testkit::mix::{Mix, SERIES_PER_HOST};
use tidemark_tsdb::sequence::SequenceNumber;
use tidemark_tsdb::stream::StreamRecord;
use tidemark_wire::batch::{BatchBuilder, TimeBounds};
use tidemark_wire::envelope;

/// How long the consumer gathers records: the template's default.
pub(crate) const FLUSH_MS: i64 = 60_000;

/// What a Prometheus server sends in one request, and what our agent gathers at most.
pub(crate) const SAMPLES_PER_REQUEST: usize = 2_000;

/// Kinesis charges a record by started units of this size.
const PUT_UNIT_BYTES: usize = 25_000;

/// What was pushed so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pushed {
    pub(crate) samples: u64,
    pub(crate) requests: u64,
    pub(crate) stream_bytes: u64,
    pub(crate) put_units: u64,
}

/// See the module.
pub(crate) struct Fleet {
    mix: Mix,
    step_ms: i64,
    buckets: Buckets,
    start_ms: i64,
    /// Scrapes that were made, and flushes.
    steps: i64,
    flushes: i64,
    /// Samples that come after the last flush: series and sample.
    waiting: Vec<(usize, (i64, f64))>,
    sequence: u64,
    pub(crate) pushed: Pushed,
}

impl Fleet {
    /// So many series, each scraped every `step_ms`. The hosts' scrapes are spread over the step.
    pub(crate) fn new(series: usize, step_ms: i64, start_ms: i64, buckets: Buckets) -> Self {
        Self {
            mix: Mix::with_step(series / SERIES_PER_HOST, start_ms, step_ms),
            step_ms,
            buckets,
            start_ms,
            steps: 0,
            flushes: 0,
            waiting: Vec::new(),
            sequence: 0,
            pushed: Pushed::default(),
        }
    }

    /// The records of the next flush.
    pub(crate) fn next_flush(&mut self) -> anyhow::Result<Vec<StreamRecord>> {
        self.flushes += 1;
        let now_ms = self.start_ms + self.flushes * FLUSH_MS;
        while self.start_ms + self.steps * self.step_ms < now_ms {
            self.steps += 1;
            self.waiting.extend(self.mix.scrape().into_iter().enumerate());
        }
        let (mut samples, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, (timestamp_ms, _))| *timestamp_ms < now_ms);
        self.waiting = waiting;
        // A collector keeps the samples of a series together.
        samples.sort_by_key(|(series, (timestamp_ms, _))| (*series, *timestamp_ms));
        let mut records = Vec::new();
        for request in samples.chunks(SAMPLES_PER_REQUEST) {
            records.extend(self.request(request, now_ms)?);
        }
        Ok(records)
    }

    fn request(&mut self, samples: &[(usize, (i64, f64))], now_ms: i64) -> anyhow::Result<Vec<StreamRecord>> {
        let mut builder = BatchBuilder::new(TimeBounds {
            now_ms,
            oldest_ms: now_ms - super::RETENTION_MS,
            newest_ms: now_ms + limits::MAX_FUTURE_MS,
        });
        let all = self.mix.series();
        for (at, (timestamp_ms, value)) in samples {
            let series = &all[*at];
            let labels = series
                .labels
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            builder.push(&series.name, labels, Some(*timestamp_ms), *value);
        }
        let batch = builder.finish();
        ensure!(batch.rejected() == 0, "samples were refused: {:?}", batch.errors());
        self.pushed.samples += samples.len() as u64;
        self.pushed.requests += 1;
        let mut records = Vec::new();
        for record in envelope::encode_records(&batch, self.buckets, &|_| 0, 1, now_ms) {
            self.sequence += 1;
            self.pushed.stream_bytes += record.data.len() as u64;
            self.pushed.put_units += record.data.len().div_ceil(PUT_UNIT_BYTES) as u64;
            records.push(StreamRecord {
                sequence: SequenceNumber::parse(&self.sequence.to_string()).context("a sequence number")?,
                arrival_ms: now_ms,
                data: record.data,
            });
        }
        Ok(records)
    }
}
