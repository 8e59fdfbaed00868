//! The consumer: from a shard's records to segments, catalog entries and a checkpoint.
//!
//! A flush takes a contiguous run of one shard's records. It decodes each on its own (one that is broken goes to the dead
//! letters and blocks nothing), learns the references of the series ([`crate::known`]), writes one segment for each bucket
//! and window touched, and moves the shard's checkpoint.
//!
//! A run that is delivered again overwrites its own segments; one that is cut anew writes others with the same samples,
//! which readers merge. What fails makes the whole run fail: it is delivered again until it succeeds. It does not compact,
//! and does not look at the age of a sample: ingest refused what was too old, and readers leave out what has expired.

use crate::known::{Identity, KnownSeries, Refusal};
use crate::layout::Layout;
use crate::segment::{self, Entry};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{Advance, Checkpoint, SegmentOrder, Store, StoreError, StoredSegment};
use crate::stream::{DeadLetter, DeadLetters, StreamRecord};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::sync::Arc;
use tidemark_model::{Bucket, Period, Sample, SeriesId, Window, limits};
use tidemark_wire::envelope::{self, Envelope, SeriesView};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// The samples in the segments.
    pub samples: u64,
    /// The segments written.
    pub segments: u64,
    /// The records that are no envelopes, handed to the dead letters.
    pub undecodable: u64,
    /// The samples that were refused because another series has their fingerprint; their records are among the dead letters.
    pub refused: u64,
}

/// Stores the records of shards. Keeps in memory what it knows of the catalog.
#[derive(Debug)]
pub struct Consumer<S> {
    store: Arc<S>,
    layout: Layout,
    known: KnownSeries,
}

impl<S: Store> Consumer<S> {
    /// A consumer that knows nothing of the catalog yet.
    pub fn new(store: Arc<S>, layout: Layout) -> Self {
        Self {
            store,
            layout,
            known: KnownSeries::new(layout),
        }
    }

    /// The store underneath.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Stores a contiguous run of records of one shard. When this returns `Ok`, all samples are durable and readable, and
    /// what cannot be stored is among the dead letters.
    ///
    /// # Errors
    /// When the store or the dead letters do not answer. The same run, or any cut of it, may be flushed again.
    pub async fn flush(
        &mut self,
        shard: &ShardId,
        records: &[StreamRecord],
        dead_letters: &impl DeadLetters,
    ) -> Result<FlushReport, StoreError> {
        let mut report = FlushReport::default();
        for run in runs(records, limits::MAX_SAMPLES_PER_FLUSH) {
            let one = self.flush_run(shard, run, dead_letters).await?;
            report.samples += one.samples;
            report.segments += one.segments;
            report.undecodable += one.undecodable;
            report.refused += one.refused;
        }
        Ok(report)
    }

    /// Stores records that are few enough to be held in memory at once.
    async fn flush_run(
        &mut self,
        shard: &ShardId,
        records: &[StreamRecord],
        dead_letters: &impl DeadLetters,
    ) -> Result<FlushReport, StoreError> {
        let Some((first, last)) = records.first().zip(records.last()) else {
            return Ok(FlushReport::default());
        };
        let mut letters = Vec::new();
        let mut envelopes = Vec::with_capacity(records.len());
        for record in records {
            match envelope::decode(&record.data) {
                Ok(envelope) => envelopes.push((record, envelope)),
                Err(reason) => letters.push(dead_letter(shard, record, reason.to_string())),
            }
        }
        let mut report = FlushReport {
            undecodable: letters.len() as u64,
            ..FlushReport::default()
        };
        let mut gathered = Gathered::new(&envelopes, self.layout);
        let refusals = self
            .known
            .resolve(&*self.store, &mut gathered.identities, last.arrival_ms)
            .await?;
        report.refused = gathered.refuse(&refusals);
        for refusal in &refusals {
            let refused = &gathered.identities[refusal.slot];
            let is_refused = |series: SeriesView<'_>| (series.id(), series.check()) == (refused.id, refused.check);
            let holders = envelopes
                .iter()
                .filter(|(_, envelope)| envelope.series().any(is_refused));
            letters.extend(holders.map(|(record, _)| dead_letter(shard, record, refusal.reason.clone())));
        }
        if !letters.is_empty() {
            dead_letters.send(letters).await?;
        }
        let order = SegmentOrder {
            arrival_ms: u64::try_from(last.arrival_ms).unwrap_or(0),
            last: last.sequence,
            shard: shard.number(),
            first_hash: xxh3_64(&first.sequence.to_be_bytes()),
            part: 0,
            last_part: 0,
        };
        report.samples = gathered.rows.len() as u64;
        let segments = gathered.into_segments(order, &self.layout);
        report.segments = segments.len() as u64;
        if !segments.is_empty() {
            self.store.put_segments(segments).await?;
        }
        self.advance(shard, &envelopes, records).await?;
        Ok(report)
    }

    /// Moves the checkpoint over the records that nobody has counted yet.
    async fn advance(
        &self,
        shard: &ShardId,
        envelopes: &[(&StreamRecord, Envelope)],
        records: &[StreamRecord],
    ) -> Result<(), StoreError> {
        let Some(last) = records.last() else { return Ok(()) };
        let mut current = self.store.checkpoint(shard).await?;
        loop {
            let from = current.as_ref().map(|checkpoint| checkpoint.sequence);
            if from.is_some_and(|from| from >= last.sequence) {
                return Ok(());
            }
            let next = counted(current, envelopes, records, last.sequence);
            match self.store.advance_checkpoint(shard, from, &next).await? {
                Advance::Moved => return Ok(()),
                Advance::Elsewhere(now) => current = Some(now),
            }
        }
    }
}

/// Cuts records into runs of at most so many samples, or of one record. A pure function of the records.
fn runs(records: &[StreamRecord], most: u64) -> Vec<&[StreamRecord]> {
    let mut runs = Vec::new();
    let (mut start, mut samples) = (0, 0);
    for (at, record) in records.iter().enumerate() {
        let more = envelope::decode_header(&record.data).map_or(0, |header| u64::from(header.samples));
        if at > start && samples + more > most {
            runs.push(&records[start..at]);
            (start, samples) = (at, 0);
        }
        samples += more;
    }
    runs.push(&records[start..]);
    runs
}

fn dead_letter(shard: &ShardId, record: &StreamRecord, reason: String) -> DeadLetter {
    DeadLetter {
        shard: shard.clone(),
        sequence: record.sequence,
        arrival_ms: record.arrival_ms,
        reason,
        data: record.data.clone(),
    }
}

/// The checkpoint after the records, given the one before: what it has passed already is not counted again.
fn counted(
    before: Option<Checkpoint>,
    envelopes: &[(&StreamRecord, Envelope)],
    records: &[StreamRecord],
    sequence: SequenceNumber,
) -> Checkpoint {
    let mut next = before.clone().unwrap_or(Checkpoint {
        sequence,
        arrival_ms: 0,
        records: 0,
        samples: 0,
        time_range_ms: None,
    });
    let is_new = |record: &StreamRecord| before.as_ref().is_none_or(|before| record.sequence > before.sequence);
    next.sequence = sequence;
    next.records += records.iter().filter(|record| is_new(record)).count() as u64;
    for (_, envelope) in envelopes.iter().filter(|(record, _)| is_new(record)) {
        next.samples += u64::from(envelope.sample_count());
        for at in envelope
            .series()
            .flat_map(|series| series.samples())
            .map(|sample| sample.timestamp_ms)
        {
            let (oldest, newest) = next.time_range_ms.unwrap_or((at, at));
            next.time_range_ms = Some((oldest.min(at), newest.max(at)));
        }
    }
    next
}

/// One sample on its way into a segment.
#[derive(Clone, Copy)]
struct Row {
    slot: u32,
    sample: Sample,
}

/// The samples of a run of records, with each series named by a slot.
struct Gathered<'e> {
    identities: Vec<Identity<SeriesView<'e>>>,
    rows: Vec<Row>,
}

impl<'e> Gathered<'e> {
    fn new(envelopes: &'e [(&StreamRecord, Envelope)], layout: Layout) -> Self {
        let samples = envelopes
            .iter()
            .map(|(_, envelope)| envelope.sample_count() as usize)
            .sum();
        let mut gathered = Self {
            identities: Vec::new(),
            rows: Vec::with_capacity(samples),
        };
        let mut by_id: HashMap<(SeriesId, u64), u32, crate::known::FingerprintHasher> = HashMap::default();
        // A window is looked up once for a run of samples that share it.
        let mut window = layout.window.of(0);
        let mut period = Period::of(window.start_ms);
        for (_, envelope) in envelopes {
            for series in envelope.series() {
                let slot = match by_id.entry((series.id(), series.check())) {
                    Slot::Occupied(known) => *known.get(),
                    Slot::Vacant(free) => {
                        gathered.identities.push(Identity::of(series));
                        // An envelope holds fewer samples than a u32 counts, and a batch few envelopes.
                        *free.insert((gathered.identities.len() - 1) as u32)
                    }
                };
                let identity = &mut gathered.identities[slot as usize];
                for sample in series.samples() {
                    let offset = sample.timestamp_ms.wrapping_sub(window.start_ms);
                    if !(0..layout.window.ms()).contains(&offset) {
                        window = layout.window.of(sample.timestamp_ms);
                        period = Period::of(window.start_ms);
                    }
                    identity.touch(period);
                    gathered.rows.push(Row { slot, sample });
                }
            }
        }
        gathered
    }

    /// Drops the samples of the refused series, and says how many those are.
    fn refuse(&mut self, refusals: &[Refusal]) -> u64 {
        if refusals.is_empty() {
            return 0;
        }
        let before = self.rows.len();
        self.rows
            .retain(|row| refusals.iter().all(|refusal| refusal.slot != row.slot as usize));
        (before - self.rows.len()) as u64
    }

    /// One segment for each bucket and window, more where an item could not hold it. A pure function of the records and of
    /// the references that their series have.
    fn into_segments(self, order: SegmentOrder, layout: &Layout) -> Vec<StoredSegment> {
        let (mut samples, ends) = self.by_slot();
        let mut groups: Vec<(Bucket, Window, Entry<'_>)> = Vec::with_capacity(ends.len());
        let mut rest = samples.as_mut_slice();
        let mut start = 0;
        for (identity, end) in self.identities.iter().zip(ends) {
            let (of_slot, others) = rest.split_at_mut(end - start);
            (rest, start) = (others, end);
            let bucket = layout.buckets.of(identity.id);
            let mut samples = in_order(of_slot);
            while let Some(first) = samples.first() {
                let window = layout.window.of(first.timestamp_ms);
                let inside = samples.partition_point(|sample| layout.window.of(sample.timestamp_ms) == window);
                let (inside, later) = samples.split_at(inside);
                let entry = Entry {
                    reference: identity.reference(Period::of(window.start_ms)),
                    samples: inside,
                };
                groups.push((bucket, window, entry));
                samples = later;
            }
        }
        groups.sort_by_key(|(bucket, window, entry)| (*bucket, *window, entry.reference));
        let mut segments = Vec::new();
        for group in groups.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (bucket, window, _) = group[0];
            let entries: Vec<Entry<'_>> = group.iter().map(|(_, _, entry)| *entry).collect();
            let parts = segment::split(&entries);
            // Two writers of one batch may know a series by different references, or encode differently, and so cut its
            // parts elsewhere. Parts of one writer must not overwrite those of another: their bytes are in the key.
            let first_hash = parts
                .iter()
                .fold(order.first_hash, |hash, part| xxh3_64_with_seed(part, hash));
            // A run of records holds a million samples, which do not fill 256 items of 380 KB.
            let last_part = u8::try_from(parts.len() - 1).unwrap_or(u8::MAX);
            for (part, data) in (0..=last_part).zip(parts) {
                let order = SegmentOrder {
                    first_hash,
                    part,
                    last_part,
                    ..order
                };
                segments.push(StoredSegment {
                    bucket,
                    window,
                    late: false,
                    order,
                    data,
                    expires_at_s: layout.segment_expires_at_s(window),
                });
            }
        }
        segments
    }

    /// The samples slot by slot, each slot's in the order of their arrival, and where each slot's end.
    fn by_slot(&self) -> (Vec<Sample>, Vec<usize>) {
        // How many samples each slot has, then where its next one goes: its start at first, its end when all are there.
        let mut next = vec![0; self.identities.len()];
        for row in &self.rows {
            next[row.slot as usize] += 1;
        }
        let mut before = 0;
        for place in &mut next {
            let count = *place;
            *place = before;
            before += count;
        }
        let nothing = Sample {
            timestamp_ms: 0,
            value: 0.0,
        };
        let mut samples = vec![nothing; self.rows.len()];
        for row in &self.rows {
            let place = &mut next[row.slot as usize];
            samples[*place] = row.sample;
            *place += 1;
        }
        (samples, next)
    }
}

/// The samples of one series in ascending order of time, each time once: of two with one time, the later holds.
fn in_order(samples: &mut [Sample]) -> &[Sample] {
    // Nearly always nothing is to be done.
    if samples.is_sorted_by(|a, b| a.timestamp_ms < b.timestamp_ms) {
        return samples;
    }
    // Stable: of two with one time, the one that arrived later stays behind the other.
    samples.sort_by_key(|sample| sample.timestamp_ms);
    let mut kept = 0;
    for at in 0..samples.len() {
        if kept > 0 && samples[kept - 1].timestamp_ms == samples[at].timestamp_ms {
            kept -= 1;
        }
        samples[kept] = samples[at];
        kept += 1;
    }
    &samples[..kept]
}

#[cfg(test)]
mod tests;
