//! One run within the time of an invocation.

use std::sync::Arc;
use tidemark_tsdb::answer::chain;
use tidemark_tsdb::{CompactError, CompactReport, Compactor, Layout, Store};

/// What comes before is no time: `cargo lambda watch` gives the milliseconds of its time-out instead of the time of its end.
const EARLIEST_DEADLINE_MS: i64 = 1_000_000_000_000;

/// How long a run may take whose end nobody tells: as long as Lambda lets a function run.
const LONGEST_MS: i64 = 900_000;

/// How long before the invocation's end no further step is begun. A step writes a part of a window; what it has not finished is
/// done again.
const RESERVE_MS: i64 = 30_000;

/// The function.
pub(crate) struct Compact<S> {
    store: Arc<S>,
    layout: Layout,
    clock: fn() -> i64,
}

impl<S: Store> Compact<S> {
    pub(crate) fn new(store: Arc<S>, layout: Layout, clock: fn() -> i64) -> Self {
        Self { store, layout, clock }
    }

    /// Compacts what is due, beginning with some bucket, until shortly before the deadline. What is left then is no failure: the
    /// next tick goes on. A bucket that failed is one, so that the alarm on the function's errors sees it.
    pub(crate) async fn handle(&self, deadline_ms: Option<i64>, first: u16) -> Result<CompactReport, CompactError> {
        let clock = self.clock;
        let now_ms = clock();
        let deadline_ms = deadline_ms
            .filter(|at| *at > EARLIEST_DEADLINE_MS)
            .unwrap_or(now_ms.saturating_add(LONGEST_MS));
        let end_ms = deadline_ms.saturating_sub(RESERVE_MS);
        // Nobody else takes a bucket on before this invocation is over for sure.
        let lease_ms = deadline_ms.saturating_sub(now_ms).max(0);
        let compactor = Compactor::new(Arc::clone(&self.store), self.layout, lease_ms);
        // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
        match Box::pin(compactor.run(clock, first, || clock() >= end_ms)).await {
            Ok(report) => {
                tracing::info!(?report, "compacted");
                Ok(report)
            }
            Err(failed) => {
                tracing::error!(cause = chain(&failed), ?failed, "compaction failed");
                Err(failed)
            }
        }
    }
}

#[cfg(test)]
mod tests;
