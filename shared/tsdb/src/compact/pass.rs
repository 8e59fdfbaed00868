//! One pass over one bucket: what there is to do, and doing it.

use super::blocks::{BlockMaker, BlockWriter};
use super::catalog::{BucketCatalog, Names, corrupt};
use super::merge::{Affected, Decoded, Wanted};
use super::{CompactReport, Stop};
use crate::answer::chain;
use crate::bounded;
use crate::drain::OutOfTime;
use crate::layout::Layout;
use crate::progress::{Progress, Step};
use crate::rollup::{self, Rollup};
use crate::store::{Store, StoreError};
use crate::tier::{BlockKey, Tier, windows_of_day};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use tidemark_model::{Bucket, DAY_MS, SeriesId, Window};

/// How many series' older blocks are looked up between two looks at the clock.
const LOOKED_UP_AT_ONCE: usize = 500;

/// What there is to do in a bucket, by its progress and the clock. All times in milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// The dirty windows of each day, with their marks.
    dirty: BTreeMap<i64, Vec<(Window, u64)>>,
    /// The dirty windows that can not be computed again.
    lost: Vec<(Window, u64)>,
    /// The starts of the windows to compact.
    due: Range<i64>,
    /// The starts of the days to roll, once those windows are compacted.
    days: Range<i64>,
}

impl Work {
    pub(super) fn of(progress: &Progress, layout: &Layout, now_ms: i64) -> Self {
        let day_of = |at| Tier::Hour.block_start_ms(layout.window, at);
        let not_due_ms = layout.window.of(now_ms.saturating_sub(layout.grace_ms)).start_ms;
        // All that there is segments of, in the first pass too: it may come hours after samples that were old already then.
        let oldest_ms = layout.oldest_day_ms(now_ms);
        let from = |done: Option<i64>| done.map_or(oldest_ms, |done| done.max(oldest_ms));
        let due = from(progress.compacted_before_ms)..not_due_ms;
        let compacted_ms = progress.compacted_before_ms.map_or(due.end, |done| done.max(due.end));
        let mut work = Self {
            dirty: BTreeMap::new(),
            lost: Vec::new(),
            days: from(progress.rolled_before_ms)..day_of(compacted_ms),
            due,
        };
        for (window, marks) in &progress.dirty {
            let compacted = progress
                .compacted_before_ms
                .is_some_and(|before| window.start_ms < before);
            if compacted && layout.has_segments(*window, now_ms) {
                let of_day = work.dirty.entry(day_of(window.start_ms)).or_default();
                of_day.push((*window, *marks));
            } else if compacted || window.start_ms < work.due.start {
                work.lost.push((*window, *marks));
            }
            // The others are about to be compacted for the first time.
        }
        work
    }

    pub(super) fn is_empty(&self) -> bool {
        self.dirty.is_empty() && self.lost.is_empty() && self.due.is_empty() && self.days.is_empty()
    }
}

/// See the module.
pub(super) struct Pass<'a, S, O> {
    store: &'a S,
    layout: Layout,
    bucket: Bucket,
    /// As of the moment when the pass began.
    progress: &'a Progress,
    out_of_time: &'a O,
    catalog: BucketCatalog<'a>,
    maker: BlockMaker,
    report: &'a mut CompactReport,
    /// The windows that this pass has found without segments after they were closed. What comes later makes them dirty.
    empty: BTreeSet<Window>,
}

impl<'a, S: Store, O: OutOfTime> Pass<'a, S, O> {
    pub(super) fn new(
        store: &'a S,
        layout: Layout,
        bucket: Bucket,
        progress: &'a Progress,
        out_of_time: &'a O,
        names: &'a mut Names,
        report: &'a mut CompactReport,
    ) -> Self {
        Self {
            store,
            layout,
            bucket,
            progress,
            out_of_time,
            catalog: BucketCatalog::new(bucket, names),
            maker: BlockMaker {
                layout,
                epoch: progress.epoch,
            },
            report,
            empty: BTreeSet::new(),
        }
    }

    /// Does all of it. A day or window that fails keeps only those back that must come after it.
    pub(super) async fn work(&mut self, work: Work) -> Result<(), Stop> {
        let mut failure = Failure::default();
        let outcome = self.work_on(work, &mut failure).await;
        failure.0.map_or(outcome, |failed| Err(Stop::Failed(failed)))
    }

    async fn work_on(&mut self, work: Work, failure: &mut Failure) -> Result<(), Stop> {
        for (window, marks) in work.lost {
            tracing::error!(bucket = %self.bucket, window = %window, marks, "late samples are too old for the aggregates");
            self.report.windows_given_up += 1;
            self.folded(window, marks).await?;
        }
        for (day_ms, windows) in &work.dirty {
            failure.unless_failed(self.fold(*day_ms, windows).await, self.bucket)?;
        }
        failure.unless_failed(self.compact_due(work.due).await, self.bucket)?;
        // Nothing is rolled over a window that is not compacted.
        if failure.0.is_none() {
            failure.unless_failed(self.roll_due(work.days).await, self.bucket)?;
        }
        Ok(())
    }

    /// Gives the lease back.
    pub(super) async fn release(&mut self, now_ms: i64) -> Result<(), Stop> {
        // Two days after their segments have gone: longer than any process remembers a block by the epoch that is noted here.
        let kept_ms = self.layout.retention.raw_ms.saturating_add(4 * DAY_MS);
        let forget_before_ms = Tier::Hour.block_start_ms(self.layout.window, now_ms.saturating_sub(kept_ms));
        self.step(Step::Release { forget_before_ms }).await
    }

    /// Compacts the windows, oldest first.
    async fn compact_due(&mut self, due: Range<i64>) -> Result<(), Stop> {
        if due.is_empty() {
            return Ok(());
        }
        if self.progress.closed_before_ms.is_none_or(|closed| closed < due.end) {
            self.step(Step::Close { before_ms: due.end }).await?;
        }
        let windows: Vec<Window> = self.layout.window.covering(due.start, due.end - 1).collect();
        // Windows without samples are declared done together with the next one.
        let mut declared = true;
        for window in windows {
            if (self.out_of_time)() {
                if !declared {
                    self.step(Step::Compacted {
                        before_ms: window.start_ms,
                    })
                    .await?;
                }
                return Err(Stop::OutOfTime);
            }
            let before_ms = self.layout.window_end_ms(window);
            let series = self.compact(window, Wanted::All).await?;
            declared = !series.is_empty() || self.progress.dirty.contains_key(&window);
            if declared {
                self.step(Step::Compacted { before_ms }).await?;
            }
            if series.is_empty() {
                self.empty.insert(window);
            } else {
                self.report.windows_compacted += 1;
            }
            if let Some(marks) = self.progress.dirty.get(&window) {
                self.folded(window, *marks).await?;
            }
        }
        if !declared {
            self.step(Step::Compacted { before_ms: due.end }).await?;
        }
        Ok(())
    }

    /// Compacts what late samples have changed in the windows of a day, and the day's hours with it. All of them before any is
    /// declared done: the hours of a series are written once in a pass.
    async fn fold(&mut self, day_ms: i64, windows: &[(Window, u64)]) -> Result<(), Stop> {
        let mut changed = Vec::with_capacity(windows.len());
        for (window, marks) in windows {
            if (self.out_of_time)() {
                return Err(Stop::OutOfTime);
            }
            changed.push((*window, *marks, self.compact(*window, Wanted::Late).await?));
        }
        let mut superseded = Vec::new();
        if self.progress.is_rolled(day_ms) {
            let affected: Affected = changed.iter().flat_map(|(_, _, series)| series).copied().collect();
            self.roll(day_ms, Wanted::These(&affected)).await?;
            superseded.extend(affected.into_iter().map(|id| (Tier::Hour, id, day_ms)));
        }
        for (window, marks, series) in changed {
            if self.folded(window, marks).await? {
                self.report.windows_folded += 1;
                for tier in [Tier::Raw, Tier::Minute] {
                    superseded.extend(series.iter().map(|id| (tier, *id, window.start_ms)));
                }
            }
        }
        self.delete_older(&superseded).await
    }

    /// Rolls the days, oldest first.
    async fn roll_due(&mut self, days: Range<i64>) -> Result<(), Stop> {
        let mut day_ms = days.start;
        while day_ms < days.end {
            if (self.out_of_time)() {
                return Err(Stop::OutOfTime);
            }
            self.roll(day_ms, Wanted::All).await?;
            day_ms += DAY_MS;
            self.step(Step::Rolled { before_ms: day_ms }).await?;
            self.report.days_rolled += 1;
        }
        Ok(())
    }

    /// Writes the raw and minute blocks of the wanted series of a window, and returns those. A series that has no minute block any
    /// more (a staleness marker has taken the place of a value) must not keep an older one, which would be read for it: that
    /// is deleted before the window is declared done. Whoever still reads it finds the chunk.
    async fn compact(&mut self, window: Window, wanted: Wanted<'_>) -> Result<Vec<SeriesId>, Stop> {
        let Some(decoded) = self.read(window).await? else {
            return Ok(Vec::new());
        };
        let merged = self
            .catalog
            .gather(self.store, &self.layout, window, &decoded, wanted)
            .await?;
        let mut writer = BlockWriter::new(self.store, self.out_of_time, &mut self.report.blocks_written);
        let (mut series, mut count, mut plain) = (Vec::new(), 0, Vec::new());
        let mut reader = merged.read();
        while let Some((id, samples)) = reader.next() {
            count += samples.len() as u64;
            series.push(id);
            let blocks = self.maker.window(window, id, samples)?;
            if blocks.iter().all(|block| block.key.tier != Tier::Minute) {
                plain.push((Tier::Minute, id, window.start_ms));
            }
            writer.write(blocks).await?;
        }
        writer.finish().await?;
        self.report.series += series.len() as u64;
        self.report.samples += count;
        // Only where an earlier pass may have been here.
        if self.progress.is_closed(window) {
            self.delete_older(&plain).await?;
        }
        Ok(series)
    }

    /// Writes the hour blocks of the wanted series of a day. One that has nothing but staleness markers any more keeps no older
    /// block, see [`Self::compact`].
    async fn roll(&mut self, day_ms: i64, wanted: Wanted<'_>) -> Result<(), Stop> {
        let mut hours: HashMap<SeriesId, Rollup, crate::known::FingerprintHasher> = HashMap::default();
        let mut ended = BTreeSet::new();
        for window in windows_of_day(self.layout.window, day_ms) {
            if self.empty.contains(&window) {
                continue;
            }
            if (self.out_of_time)() {
                return Err(Stop::OutOfTime);
            }
            let Some(decoded) = self.read(window).await? else {
                continue;
            };
            let merged = self
                .catalog
                .gather(self.store, &self.layout, window, &decoded, wanted)
                .await?;
            let mut reader = merged.read();
            while let Some((id, samples)) = reader.next() {
                let Some(later) = rollup::roll(samples, Tier::Hour.resolution_ms()) else {
                    ended.insert(id);
                    continue;
                };
                match hours.get_mut(&id) {
                    Some(earlier) => earlier.append(later),
                    None => {
                        hours.insert(id, later);
                    }
                }
            }
        }
        ended.retain(|id| !hours.contains_key(id));
        let ended: Vec<_> = ended.into_iter().map(|id| (Tier::Hour, id, day_ms)).collect();
        let mut writer = BlockWriter::new(self.store, self.out_of_time, &mut self.report.blocks_written);
        for (id, hours) in hours {
            writer.write([self.maker.day(day_ms, id, &hours)]).await?;
        }
        writer.finish().await?;
        self.delete_older(&ended).await
    }

    /// The segments of a window; `None` when there are none.
    async fn read(&self, window: Window) -> Result<Option<Decoded>, StoreError> {
        let stored = self.store.segments(self.bucket, window, None).await?;
        if stored.is_empty() {
            return Ok(None);
        }
        let decoded = Decoded::new(stored).map_err(|broken| corrupt(self.bucket, window, &broken))?;
        Ok(Some(decoded))
    }

    /// Deletes the blocks of earlier passes.
    async fn delete_older(&mut self, superseded: &[(Tier, SeriesId, i64)]) -> Result<(), Stop> {
        for some in superseded.chunks(LOOKED_UP_AT_ONCE) {
            if (self.out_of_time)() {
                return Err(Stop::OutOfTime);
            }
            let reads = some
                .iter()
                .map(|(tier, id, start_ms)| self.store.blocks(*tier, *id, *start_ms, *start_ms));
            let mut found = bounded::stream(reads.collect());
            let mut older: Vec<BlockKey> = Vec::new();
            while let Some(blocks) = found.next().await {
                let keys = blocks?.into_iter().map(|block| block.key);
                older.extend(keys.filter(|key| key.epoch < self.maker.epoch));
            }
            self.report.blocks_deleted += older.len() as u64;
            // Their first parts before the others: a reader takes a block without its first part for none.
            let (firsts, others): (Vec<_>, Vec<_>) = older.into_iter().partition(|key| key.part == 0);
            for keys in [firsts, others].into_iter().filter(|keys| !keys.is_empty()) {
                self.store.delete_blocks(keys).await?;
            }
        }
        Ok(())
    }

    /// Declares a window clean, unless it was marked again meanwhile: then it stays for the next pass.
    async fn folded(&mut self, window: Window, marks: u64) -> Result<bool, Stop> {
        let step = Step::Folded { window, marks };
        if self.store.advance_progress(self.bucket, self.maker.epoch, step).await? {
            return Ok(true);
        }
        if self.store.progress(self.bucket).await?.epoch != self.maker.epoch {
            return Err(Stop::Overtaken);
        }
        self.report.remaining = true;
        Ok(false)
    }

    async fn step(&self, step: Step) -> Result<(), Stop> {
        if self.store.advance_progress(self.bucket, self.maker.epoch, step).await? {
            Ok(())
        } else {
            Err(Stop::Overtaken)
        }
    }
}

/// The first failure of a pass that went on.
#[derive(Default)]
struct Failure(Option<StoreError>);

impl Failure {
    fn unless_failed(&mut self, outcome: Result<(), Stop>, bucket: Bucket) -> Result<(), Stop> {
        match outcome {
            Err(Stop::Failed(failed)) => {
                tracing::error!(bucket = %bucket, cause = chain(&failed), "a part of a bucket was not compacted");
                self.0.get_or_insert(failed);
                Ok(())
            }
            other => other,
        }
    }
}
