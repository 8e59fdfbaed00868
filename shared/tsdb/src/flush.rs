//! The consumer: from a shard's records to segments, catalog entries and a checkpoint.
//!
//! A flush takes a contiguous run of one shard's records. It decodes each on its own (one that is broken goes to the dead
//! letters and blocks nothing), learns the references of the series (`known`), writes one segment for each bucket
//! and window touched, and moves the shard's checkpoint.
//!
//! A run that is delivered again overwrites its own segments; one that is cut anew writes others with the same samples,
//! which readers merge. What fails makes the whole run fail: it is delivered again until it succeeds. It does not compact,
//! and does not look at the age of a sample: ingest refused what was too old, and readers leave out what has expired.
//!
//! # The order of segments
//! The arrival in a segment's key is that of the run's last record, in a sense that makes it a function of the record's place
//! in its shard alone: the greatest arrival stamp of all records up to it, and at least the shard's *floor*. The floor is one
//! more than the arrival of every other shard's checkpoint at the moment when the shard is met first (a child after a reshard
//! has its parents' buckets), and is kept in its checkpoint. The checkpoint carries the arrival on, so that a run needs to
//! know nothing of the records before it. So, however runs are cut, repeated and interrupted, and however stamps go back:
//! *of the normal segments of a bucket and window, one that appears after another has a greater key, or holds only samples that
//! could be read before, or that lose against one of those.* A reader that knows the newest has to ask only for what comes after
//! it.
//!
//! Three kinds of segments are not in that order: those of an operator, who stores records beside the consumer
//! ([`Origin::Operator`]), those of a closed window, and those of a bucket that belongs to another shard: a producer that does
//! not know of a split yet puts samples of both children into one of them ([`Consumer::with_ranges`]). They are *late*, as are
//! the catalog entries that come with them, and readers ask for all of those each time. Late or not, a segment has the same
//! arrival, so that of two samples of one time the one that the stream took later wins.
//!
//! # Replays
//! An operator who stores records again wants to mend what a bad deployment stored, whose segments were cut elsewhere and may
//! hold anything. So a replay's segments have at least an arrival of one more than the checkpoint had when the replay of the
//! shard began, and keep the number of their last record: they win against all that was stored before, keep the order of
//! records among themselves, and lose against records that arrive later. A child's floor is at least as great as what a replay
//! of its parent has, and its records have greater numbers: it wins as well. The price: while a replay is under way, and when it
//! has stopped before the tip, of two samples of one time the older one wins if it was stored again and the newer one was not.
//! Replaying from there on, or from an earlier time, mends that. (So does nothing for a record that arrives after the replay
//! with a stamp from before the checkpoint; stamps go back by milliseconds, and a replay takes longer.)
//!
//! # Windows that are closed
//! A compactor closes a window and *then* reads its segments; the consumer writes its segments and *then* looks whether the
//! window is closed ([`crate::progress`]). If it is, the samples are written as a late segment as well and the window is marked
//! dirty, before the checkpoint moves. No window is closed before it has ended by the compactor's clock and a grace has passed;
//! so windows that have not ended by the consumer's clock are not looked up, as long as the clocks agree better than the grace.

mod gather;
mod owned;

pub(crate) use gather::in_order;
pub(crate) use owned::InOrder;

use crate::bounded;
use crate::known::{FirstSeen, KnownSeries};
use crate::layout::{DividedOtherwise, Layout};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{Advance, Checkpoint, SegmentOrder, Store, StoreError, StoredSegment};
use crate::stream::{DeadLetter, DeadLetters, ShardRanges, StreamRecord};
use gather::Gathered;
use owned::Ranges;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tidemark_model::{Bucket, Window, limits};
use tidemark_wire::envelope::{self, Envelope, SeriesView};
use xxhash_rust::xxh3::xxh3_64;

/// Who stores records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The stream's own consumer: one run of a shard at a time, in order, parents before children.
    Stream,
    /// Somebody beside it: an operator who drains the stream or replays a part of it.
    Operator,
}

/// Tells the time, in milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What a flush did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// The samples in the segments.
    pub samples: u64,
    /// The segments written, those included that were written a second time as late ones.
    pub segments: u64,
    /// The windows of buckets that were closed already and have been marked dirty.
    pub dirtied: u64,
    /// The records that are no envelopes, handed to the dead letters.
    pub undecodable: u64,
    /// The samples that were refused because another series has their fingerprint; their records are among the dead letters.
    pub refused: u64,
}

/// Stores the records of shards. Keeps in memory what it knows of the catalog.
pub struct Consumer<S> {
    store: Arc<S>,
    layout: Layout,
    origin: Origin,
    /// Read after segments are durable, see the module.
    clock: Clock,
    known: KnownSeries,
    /// Windows of a bucket that start before this are known to be closed. Only ever grows.
    closed_before_ms: HashMap<Bucket, i64>,
    /// Whether the tables are known to be divided as the layout says.
    pinned: bool,
    ranges: Ranges,
}

impl<S: Store> Consumer<S> {
    /// A consumer that knows nothing of the catalog yet.
    pub fn new(store: Arc<S>, layout: Layout, origin: Origin, clock: Clock) -> Self {
        Self {
            store,
            layout,
            origin,
            clock,
            known: KnownSeries::new(layout),
            closed_before_ms: HashMap::new(),
            pinned: false,
            ranges: Ranges::default(),
        }
    }

    /// Asks there which buckets a shard takes: samples of others, which a producer with an old map of the shards put there,
    /// are stored as late ones. Without this all samples are taken to be in the right shard.
    #[must_use]
    pub fn with_ranges(mut self, source: Arc<dyn ShardRanges>) -> Self {
        self.ranges = Ranges::of_source(source);
        self
    }

    /// The store underneath.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Stores a contiguous run of records of one shard. When this returns `Ok`, all samples are durable and readable, and
    /// what cannot be stored is among the dead letters.
    ///
    /// # Errors
    /// When the store or the dead letters do not answer. The same run, or any cut of it, may be flushed again. Nothing is
    /// written when the tables are divided otherwise than the layout says ([`DividedOtherwise`]).
    pub async fn flush(
        &mut self,
        shard: &ShardId,
        records: &[StreamRecord],
        dead_letters: &impl DeadLetters,
    ) -> Result<FlushReport, StoreError> {
        self.flush_from(shard, 0, records, dead_letters).await
    }

    /// The same, with an arrival in the order of segments that is at least this: what was stored with a smaller one loses.
    pub(crate) async fn flush_from(
        &mut self,
        shard: &ShardId,
        least_arrival_ms: u64,
        records: &[StreamRecord],
        dead_letters: &impl DeadLetters,
    ) -> Result<FlushReport, StoreError> {
        let mut report = FlushReport::default();
        if records.is_empty() {
            return Ok(report);
        }
        self.pin().await?;
        let in_order = match self.origin {
            Origin::Stream => self.ranges.in_order(shard).await?,
            Origin::Operator => InOrder::Nothing,
        };
        let place = Place {
            shard,
            in_order,
            least_arrival_ms,
        };
        let mut checkpoint = self.open(shard).await?;
        for run in runs(records, limits::MAX_SAMPLES_PER_FLUSH) {
            checkpoint = self
                .flush_run(&place, checkpoint, run, dead_letters, &mut report)
                .await?;
        }
        Ok(report)
    }

    /// Makes sure that samples go where others look for them.
    async fn pin(&mut self) -> Result<(), StoreError> {
        if self.pinned {
            return Ok(());
        }
        let configured = self.layout.division();
        let stored = self.store.pin_division(configured).await?;
        DividedOtherwise::check(stored, configured)?;
        self.pinned = true;
        Ok(())
    }

    /// The shard's checkpoint. One that is met for the first time gets one at its very beginning, with its floor.
    async fn open(&self, shard: &ShardId) -> Result<Checkpoint, StoreError> {
        if let Some(checkpoint) = self.store.checkpoint(shard).await? {
            return Ok(checkpoint);
        }
        let others = self.store.checkpoints().await?;
        let newest = others.iter().map(|(_, checkpoint)| checkpoint.arrival_ms).max();
        let opened = Checkpoint::opened(newest.map_or(0, |newest| newest + 1));
        match self.store.advance_checkpoint(shard, None, &opened).await? {
            Advance::Moved => Ok(opened),
            Advance::Elsewhere(checkpoint) => Ok(checkpoint),
        }
    }

    /// Stores records that are few enough to be held in memory at once, and returns where the checkpoint stands then.
    async fn flush_run(
        &mut self,
        place: &Place<'_>,
        checkpoint: Checkpoint,
        records: &[StreamRecord],
        dead_letters: &impl DeadLetters,
        report: &mut FlushReport,
    ) -> Result<Checkpoint, StoreError> {
        let Some((first, last)) = records.first().zip(records.last()) else {
            return Ok(checkpoint);
        };
        let shard = place.shard;
        let mut letters = Vec::new();
        let mut envelopes = Vec::with_capacity(records.len());
        for record in records {
            match envelope::decode(&record.data) {
                Ok(envelope) => envelopes.push((record, envelope)),
                Err(reason) => letters.push(dead_letter(shard, record, reason.to_string())),
            }
        }
        report.undecodable += letters.len() as u64;
        let arrival_ms = arrival(&checkpoint, records, last.sequence).max(place.least_arrival_ms);
        let mut gathered = Gathered::new(&envelopes, self.layout);
        let first_seen = FirstSeen::of(arrival_ms, place.in_order.clone());
        let refusals = self
            .known
            .resolve(&*self.store, &mut gathered.identities, &first_seen)
            .await?;
        report.refused += gathered.refuse(&refusals);
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
            arrival_ms,
            last: last.sequence,
            shard: shard.number(),
            first_hash: xxh3_64(&first.sequence.to_be_bytes()),
            part: 0,
            last_part: 0,
        };
        report.samples += gathered.samples();
        let segments = gathered.into_segments(order, &self.layout)?;
        self.put(segments, &place.in_order, report).await?;
        self.advance(shard, checkpoint, arrival_ms, &envelopes, records).await
    }

    /// Writes segments, and tells the compactor of those in windows that it may have read already.
    async fn put(
        &mut self,
        mut segments: Vec<StoredSegment>,
        in_order: &InOrder,
        report: &mut FlushReport,
    ) -> Result<(), StoreError> {
        if segments.is_empty() {
            return Ok(());
        }
        let mut dirty: BTreeMap<Bucket, BTreeSet<Window>> = BTreeMap::new();
        let mut unsure = Vec::new();
        for segment in &mut segments {
            let closed = self.is_known_closed(segment.bucket, segment.window);
            segment.late = closed || !in_order.holds(segment.bucket, self.layout.buckets);
            if closed {
                dirty.entry(segment.bucket).or_default().insert(segment.window);
            } else {
                unsure.push(segment.clone());
            }
        }
        report.segments += segments.len() as u64;
        self.store.put_segments(segments).await?;
        // Only now: a window that is closed after this look is read after this write.
        let now_ms = (self.clock)();
        unsure.retain(|segment| self.layout.window_end_ms(segment.window) <= now_ms);
        self.look_up_closed(unsure.iter().map(|segment| segment.bucket).collect())
            .await?;
        unsure.retain(|segment| self.is_known_closed(segment.bucket, segment.window));
        for segment in &unsure {
            dirty.entry(segment.bucket).or_default().insert(segment.window);
        }
        unsure.retain(|segment| !segment.late);
        if !unsure.is_empty() {
            for segment in &mut unsure {
                segment.late = true;
            }
            report.segments += unsure.len() as u64;
            self.store.put_segments(unsure).await?;
        }
        // After the late segments are durable: whoever folds the marks finds them.
        report.dirtied += dirty.values().map(|windows| windows.len() as u64).sum::<u64>();
        let marks = dirty.into_iter().map(|(bucket, windows)| {
            let (store, windows) = (&self.store, Vec::from_iter(windows));
            async move { store.mark_dirty(bucket, &windows).await }
        });
        bounded::all(marks.collect()).await.into_iter().collect()
    }

    fn is_known_closed(&self, bucket: Bucket, window: Window) -> bool {
        let before = self.closed_before_ms.get(&bucket);
        before.is_some_and(|before| window.start_ms < *before)
    }

    /// Learns which windows of the buckets are closed.
    async fn look_up_closed(&mut self, buckets: BTreeSet<Bucket>) -> Result<(), StoreError> {
        let reads = buckets.iter().map(|bucket| self.store.progress(*bucket));
        let found = bounded::all(reads.collect()).await;
        for (bucket, progress) in buckets.into_iter().zip(found) {
            if let Some(before_ms) = progress?.closed_before_ms {
                self.closed_before_ms.insert(bucket, before_ms);
            }
        }
        Ok(())
    }

    /// Moves the checkpoint over the records that nobody has counted yet, and returns where it stands then.
    async fn advance(
        &self,
        shard: &ShardId,
        mut current: Checkpoint,
        arrival_ms: u64,
        envelopes: &[(&StreamRecord, Envelope)],
        records: &[StreamRecord],
    ) -> Result<Checkpoint, StoreError> {
        let Some(last) = records.last() else { return Ok(current) };
        while current.sequence < last.sequence {
            let mut next = counted(&current, envelopes, records);
            next.sequence = last.sequence;
            next.arrival_ms = current.arrival_ms.max(arrival_ms);
            let from = Some(current.sequence);
            current = match self.store.advance_checkpoint(shard, from, &next).await? {
                Advance::Moved => next,
                Advance::Elsewhere(now) => now,
            };
        }
        Ok(current)
    }
}

/// Where the segments of a flush go.
struct Place<'a> {
    shard: &'a ShardId,
    in_order: InOrder,
    /// No segment has a smaller arrival in its order.
    least_arrival_ms: u64,
}

/// The arrival of the record `last` of a run in the order of segments, see the module.
fn arrival(checkpoint: &Checkpoint, records: &[StreamRecord], last: SequenceNumber) -> u64 {
    let stamps = records
        .iter()
        .map(|record| u64::try_from(record.arrival_ms).unwrap_or(0));
    let newest = stamps.max().unwrap_or(0);
    if last < checkpoint.sequence {
        newest
    } else {
        newest.max(checkpoint.arrival_ms)
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

/// What a checkpoint counts when it has passed the records: what it has passed already is not counted again.
fn counted(before: &Checkpoint, envelopes: &[(&StreamRecord, Envelope)], records: &[StreamRecord]) -> Checkpoint {
    let mut next = before.clone();
    let is_new = |record: &StreamRecord| record.sequence > before.sequence;
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

#[cfg(test)]
mod tests;
