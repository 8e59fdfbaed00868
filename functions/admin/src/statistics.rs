//! What is there: counted where something counts it already, never by reading it all.

use crate::backends::Backends;
use crate::handler::Admin;
use crate::operations::end_ms;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tidemark_http::{Answer, Call, json};
use tidemark_model::Timestamp;
use tidemark_notify::LaneStore;
use tidemark_notify::dispatch::OVERDUE_MS;
use tidemark_rules::AlertStore;
use tidemark_tsdb::answer::store_failed;
use tidemark_tsdb::progress::Progress;
use tidemark_tsdb::store::Checkpoint;
use tidemark_tsdb::{Layout, ShardId, Store, StoreError, Tier, catalog, drain};
use tidemark_wire::ApiError;

/// How many buckets' progress is read at once.
const READS_AT_ONCE: usize = 32;

pub(crate) async fn queue<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let end_ms = end_ms(call, clock());
    let stats = drain::queue_stats(&admin.stream, admin.reader.store(), || clock() >= end_ms).await;
    Ok(json(200, &stats.map_err(|failed| store_failed(&failed))?))
}

pub(crate) async fn system<B: Backends>(admin: &Admin<B>) -> Result<Answer, ApiError> {
    let now_ms = (admin.clock)();
    let oldest_ms = admin.reader.oldest_ms(now_ms);
    let store = admin.reader.store();
    let layout = admin.reader.layout();
    let failed = |failed| store_failed(&failed);
    let (checkpoints, names, progress) = futures::try_join!(
        store.checkpoints(),
        catalog::metric_names(store, oldest_ms, now_ms),
        progress(store, layout),
    )
    .map_err(failed)?;
    let overdue_before = Timestamp(now_ms.saturating_sub(OVERDUE_MS));
    let (alerts, active, overdue) = futures::try_join!(
        admin.alerts.count_instances(),
        admin.alerts.count_active_instances(),
        admin.settings.overdue(overdue_before),
    )
    .map_err(failed)?;
    let (oldest, newest) = time_range(&checkpoints, oldest_ms);
    Ok(json(
        200,
        &json!({
            "total_metrics": checkpoints.iter().map(|(_, checkpoint)| checkpoint.samples).sum::<u64>(),
            "total_alerts": alerts,
            "active_alerts": active,
            "overdue_lanes": overdue.len(),
            "metric_names_count": names.len(),
            "time_range_start": oldest.map(Timestamp),
            "time_range_end": newest.map(Timestamp),
            "tiers": tiers(layout, &progress),
            "dirty_windows": progress.iter().map(|progress| progress.dirty.len()).sum::<usize>(),
        }),
    ))
}

/// The oldest and the newest time of the samples that are still kept in some tier.
fn time_range(checkpoints: &[(ShardId, Checkpoint)], oldest_ms: i64) -> (Option<i64>, Option<i64>) {
    let ranges = || {
        checkpoints
            .iter()
            .filter_map(|(_, checkpoint)| checkpoint.time_range_ms)
    };
    // What has passed the retention is gone.
    let oldest = ranges().map(|(oldest, _)| oldest.max(oldest_ms)).min();
    let newest = ranges()
        .map(|(_, newest)| newest)
        .max()
        .filter(|newest| *newest >= oldest_ms);
    (oldest.filter(|_| newest.is_some()), newest)
}

/// The progress of every bucket.
async fn progress<S: Store>(store: &S, layout: &Layout) -> Result<Vec<Progress>, StoreError> {
    let reads: Vec<_> = layout.buckets.all().map(|bucket| store.progress(bucket)).collect();
    stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await
}

/// How long each tier is kept, and before when every bucket has blocks of it: none while a bucket was never compacted.
fn tiers(layout: &Layout, progress: &[Progress]) -> Vec<Value> {
    Tier::ALL
        .into_iter()
        .map(|tier| {
            let complete = |progress: &Progress| match tier {
                Tier::Raw | Tier::Minute => progress.compacted_before_ms,
                Tier::Hour => progress.rolled_before_ms,
            };
            // Nothing is less than any time.
            let everywhere = progress.iter().map(complete).min().flatten();
            json!({
                "tier": tier.as_str(),
                "retention_seconds": layout.retention.of(tier) / 1_000,
                "compacted_before": everywhere.map(Timestamp),
            })
        })
        .collect()
}
