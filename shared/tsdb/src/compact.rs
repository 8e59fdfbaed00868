//! Compaction: from the segments of a window to a chunk and aggregates of each of its series. The cast:
//!
//! - A window is **due** when it has ended and a grace has passed. It is *closed*, its segments are read and merged, each series
//!   gets a raw block, and a minute block where that is smaller, and then the bucket's progress says that it is compacted.
//! - A window is **dirty** when somebody wrote into it after it was closed. The series that late segments hold are compacted
//!   again, under a greater epoch; that is *folding*.
//! - A **day** is due when all of its windows are compacted: each series gets one block of hours.
//!
//! ```text
//! segments of (bucket, window) --decode, merge--> samples of one series --+--> chunk           (metrics)
//!                                                                         +--> minutes         (aggregates)
//! segments of (bucket, day)    --window by window-----------------------------> hours of a day (aggregates)
//! ```
//!
//! Every block is a pure function of the segments that were read, and those stay for as long as late samples are taken. So a pass
//! may stop or die anywhere: the next one does it again. What readers see changes in one step, when the progress says so, and a
//! pass that was overtaken by another can not take that step ([`crate::progress`]). The leftovers of passes that failed are blocks
//! of smaller epochs that nobody reads; they expire.
//!
//! What a duplicate does: nothing. Two passes at once do their work twice, and the later one's counts. What this does not do: it
//! deletes no segment (they expire), and it compacts no window that the raw retention has passed.
//!
//! Memory: the segments of one bucket and window, about as large as in the database, and the blocks of one series more; for a
//! day, the hours of the bucket's series.

mod blocks;
mod catalog;
mod merge;
mod pass;

use crate::answer::chain;
use crate::bounded;
use crate::drain::OutOfTime;
use crate::layout::{DividedOtherwise, Layout};
use crate::progress::Progress;
use crate::store::{Store, StoreError};
use catalog::Names;
use pass::{Pass, Work};
use serde::Serialize;
use std::sync::Arc;
use tidemark_model::Bucket;

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    /// The buckets that were worked on.
    pub buckets: u64,
    /// The windows that were compacted; those without samples are not counted.
    pub windows_compacted: u64,
    /// The windows that late samples were folded into.
    pub windows_folded: u64,
    /// The dirty windows that were given up because their segments have expired.
    pub windows_given_up: u64,
    /// The days that got their hours.
    pub days_rolled: u64,
    /// The series in all windows that were compacted or folded, each counted in each of its windows.
    pub series: u64,
    /// The samples in the chunks.
    pub samples: u64,
    /// The blocks written, of all tiers.
    pub blocks_written: u64,
    /// The blocks deleted because others have taken their place.
    pub blocks_deleted: u64,
    /// The buckets that somebody else works on.
    pub skipped_leased: u64,
    /// The buckets that somebody else began to work on meanwhile.
    pub overtaken: u64,
    /// The buckets that failed.
    pub failed: u64,
    /// Whether work is left, because time ran out or more arrived.
    pub remaining: bool,
}

/// Why a run did not do all that it had time for.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// It did not begin.
    #[error("compaction did not begin")]
    NotBegun(#[from] StoreError),
    /// Some buckets failed. All others were worked on.
    #[error("{} buckets were not compacted, bucket {bucket} first", report.failed)]
    Failed {
        /// What was done.
        report: CompactReport,
        /// The first bucket that failed.
        bucket: Bucket,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Why a pass over a bucket ended before all was done.
#[derive(Debug)]
enum Stop {
    OutOfTime,
    Overtaken,
    Failed(StoreError),
}

impl From<StoreError> for Stop {
    fn from(failed: StoreError) -> Self {
        Self::Failed(failed)
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Compactor<S> {
    store: Arc<S>,
    layout: Layout,
    lease_ms: i64,
}

impl<S: Store> Compactor<S> {
    /// A compactor whose passes mean to take no longer than `lease_ms`: so long others leave a bucket alone after one died.
    pub fn new(store: Arc<S>, layout: Layout, lease_ms: i64) -> Self {
        Self {
            store,
            layout,
            lease_ms,
        }
    }

    /// Does what is to be done, bucket by bucket, until time runs out. Begins with the bucket number `first` (counted round):
    /// runs that begin far apart hardly meet, and one that begins elsewhere each time starves no bucket.
    ///
    /// # Errors
    /// At the end, when a bucket failed; each failure was logged. Everything may be run again.
    pub async fn run(
        &self,
        now: impl Fn() -> i64 + Send + Sync,
        first: u16,
        out_of_time: impl OutOfTime,
    ) -> Result<CompactReport, CompactError> {
        let configured = self.layout.division();
        let stored = self.store.pin_division(configured).await?;
        DividedOtherwise::check(stored, configured)?;
        let mut report = CompactReport::default();
        let mut failure = None;
        let mut names = Names::default();
        for (bucket, progress) in self.progress_from(first).await {
            let outcome = match progress {
                Ok(progress) => {
                    let pass = self.bucket(bucket, &progress, &now, &out_of_time, &mut names, &mut report);
                    // Boxed: the largest of the futures, once for each bucket.
                    Box::pin(pass).await
                }
                Err(failed) => Err(Stop::Failed(failed)),
            };
            match outcome {
                Ok(()) => {}
                Err(Stop::Overtaken) => report.overtaken += 1,
                Err(Stop::OutOfTime) => {
                    report.remaining = true;
                    break;
                }
                Err(Stop::Failed(failed)) => {
                    tracing::error!(bucket = %bucket, cause = chain(&failed), "a bucket was not compacted");
                    report.failed += 1;
                    failure.get_or_insert((bucket, failed));
                }
            }
        }
        match failure {
            None => Ok(report),
            Some((bucket, source)) => Err(CompactError::Failed { report, bucket, source }),
        }
    }

    /// All buckets with their progress, from the first on.
    async fn progress_from(&self, first: u16) -> Vec<(Bucket, Result<Progress, StoreError>)> {
        let mut buckets: Vec<Bucket> = self.layout.buckets.all().collect();
        let first = usize::from(first) % buckets.len().max(1);
        buckets.rotate_left(first);
        let reads = buckets.iter().map(|bucket| self.store.progress(*bucket));
        let found = bounded::all(reads.collect()).await;
        buckets.into_iter().zip(found).collect()
    }

    /// One pass over a bucket, if there is anything to do.
    async fn bucket(
        &self,
        bucket: Bucket,
        progress: &Progress,
        now: &(impl Fn() -> i64 + Send + Sync),
        out_of_time: &impl OutOfTime,
        names: &mut Names,
        report: &mut CompactReport,
    ) -> Result<(), Stop> {
        let now_ms = now();
        if Work::of(progress, &self.layout, now_ms).is_empty() {
            return Ok(());
        }
        if out_of_time() {
            return Err(Stop::OutOfTime);
        }
        if progress.leased_until_ms > now_ms {
            report.skipped_leased += 1;
            return Ok(());
        }
        let until_ms = now_ms.saturating_add(self.lease_ms);
        let Some(progress) = self.store.begin_pass(bucket, progress.epoch, until_ms).await? else {
            report.skipped_leased += 1;
            return Ok(());
        };
        report.buckets += 1;
        let mut pass = Pass::new(&*self.store, self.layout, bucket, &progress, out_of_time, names, report);
        let outcome = pass.work(Work::of(&progress, &self.layout, now_ms)).await;
        if matches!(outcome, Err(Stop::Overtaken)) {
            return outcome;
        }
        // After a failure as well, so that the next run may try at once. What failed counts, not that this fails then too.
        let released = pass.release(now_ms).await;
        outcome.and(released)
    }
}

#[cfg(test)]
mod tests;
