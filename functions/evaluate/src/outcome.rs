//! Whether a tick counts as a success.

use tidemark_rules::tick::{Shard, TickSummary};

/// A tick that left something undone. What it did is saved; the next tick makes up for the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the tick is incomplete: {} rules failed, {} rules were skipped, {} transitions are unpublished, {} shards are behind",
    .0.rules_failed, .0.rules_skipped, .0.unpublished, .0.shards_behind
)]
pub(crate) struct Incomplete(pub(crate) TickSummary);

/// An invocation whose tick left something undone fails, so that the alarm on the function's errors sees it.
pub(crate) fn outcome(shard: Shard, summary: TickSummary) -> Result<TickSummary, Incomplete> {
    let (shard, shards) = (shard.index, shard.of);
    if !summary.is_complete() {
        tracing::error!(shard, shards, ?summary, "the tick is incomplete");
        return Err(Incomplete(summary));
    }
    tracing::info!(shard, shards, ?summary, "evaluated");
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_did_everything_is_a_success() {
        let summary = TickSummary {
            rules_evaluated: 3,
            alerts_triggered: 2,
            alerts_resolved: 1,
            conflicts: 1,
            rows_dropped: 4,
            ..TickSummary::default()
        };
        assert_eq!(outcome(Shard::WHOLE, summary), Ok(summary));
        assert!(outcome(Shard::WHOLE, TickSummary::default()).is_ok());
    }

    #[test]
    fn a_tick_that_left_something_undone_fails_and_says_what() {
        let undone = |change: fn(&mut TickSummary)| {
            let mut summary = TickSummary::default();
            change(&mut summary);
            outcome(Shard::WHOLE, summary).map_err(|incomplete| incomplete.to_string())
        };
        for (result, said) in [
            (undone(|summary| summary.rules_failed = 2), "2 rules failed"),
            (undone(|summary| summary.rules_skipped = 3), "3 rules were skipped"),
            (
                undone(|summary| summary.unpublished = 4),
                "4 transitions are unpublished",
            ),
        ] {
            assert!(result.is_err_and(|message| message.contains(said)), "{said}");
        }
    }
}
