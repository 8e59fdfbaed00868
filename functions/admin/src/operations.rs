//! Statistics, operations and health.

use crate::handler::Admin;
use serde_json::{Map, Value, json};
use tidemark_aws::health::Health;
use tidemark_http::{Answer, Call, json};
use tidemark_model::Timestamp;
use tidemark_rules::tick::evaluate_all;
use tidemark_rules::{AlertStore, Publish};
use tidemark_tsdb::answer::store_failed;
use tidemark_tsdb::stream::{DeadLetters, Stream};
use tidemark_tsdb::{Store, catalog, drain};
use tidemark_wire::ApiError;

/// How long an operation may take before it says what remains: the gateway waits 30 seconds, and one more step of work
/// may follow.
const LONGEST_OPERATION_MS: i64 = 12_000;

/// How long before the invocation's end no further step is begun.
const RESERVE_MS: i64 = 5_000;

/// When an operation that begins now has to come to its end.
fn end_ms(call: &Call, now_ms: i64) -> i64 {
    let longest = now_ms.saturating_add(LONGEST_OPERATION_MS);
    call.deadline_ms()
        .map_or(longest, |deadline| longest.min(deadline.saturating_sub(RESERVE_MS)))
}

pub(crate) async fn process_queue<A, P, S: Store, K: Stream, D: DeadLetters>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let end_ms = end_ms(call, clock());
    let mut consumer = admin.consumer.lock().await;
    let drained = drain::drain(&admin.stream, &mut consumer, &admin.dead_letters, || clock() >= end_ms).await;
    Ok(json(200, &drained.map_err(|failed| store_failed(&failed))?))
}

pub(crate) async fn evaluate_alerts<A: AlertStore, P: Publish, S: Store, K, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let now_ms = clock();
    let end_ms = end_ms(call, now_ms);
    let may_go_on = || clock() < end_ms;
    let summary = evaluate_all(
        &admin.alerts,
        &admin.reader,
        &admin.topic,
        Timestamp(now_ms),
        &may_go_on,
    )
    .await;
    Ok(json(200, &summary.map_err(|failed| store_failed(&failed))?))
}

pub(crate) async fn queue_stats<A, P, S: Store, K: Stream, D>(
    admin: &Admin<A, P, S, K, D>,
    call: &Call,
) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let end_ms = end_ms(call, clock());
    let stats = drain::queue_stats(&admin.stream, admin.reader.store(), || clock() >= end_ms).await;
    Ok(json(200, &stats.map_err(|failed| store_failed(&failed))?))
}

pub(crate) async fn system_stats<A: AlertStore, P, S: Store, K, D>(
    admin: &Admin<A, P, S, K, D>,
) -> Result<Answer, ApiError> {
    let now_ms = (admin.clock)();
    let oldest_ms = admin.reader.oldest_ms(now_ms);
    let store = admin.reader.store();
    let failed = |failed| store_failed(&failed);
    let checkpoints = store.checkpoints().await.map_err(failed)?;
    let names = catalog::metric_names(store, oldest_ms, now_ms).await.map_err(failed)?;
    let alerts = admin.alerts.load_instances().await.map_err(failed)?;
    let active = alerts.iter().filter(|instance| instance.state.is_active()).count();
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
    Ok(json(
        200,
        &json!({
            "total_metrics": checkpoints.iter().map(|(_, checkpoint)| checkpoint.samples).sum::<u64>(),
            "total_alerts": alerts.len(),
            "active_alerts": active,
            "metric_names_count": names.len(),
            "time_range_start": oldest.filter(|_| newest.is_some()).map(Timestamp),
            "time_range_end": newest.map(Timestamp),
        }),
    ))
}

/// `{"status","timestamp","database","cache","stream"}`, and 503 when a part is not healthy.
pub(crate) fn health(health: &Health, now_ms: i64) -> Answer {
    let mut answer = Map::new();
    let healthy = health.is_healthy();
    answer.insert("status".into(), if healthy { "healthy" } else { "unhealthy" }.into());
    answer.insert("timestamp".into(), json!(Timestamp(now_ms)));
    for (part, fault) in [
        ("database", &health.database),
        ("cache", &health.cache),
        ("stream", &health.stream),
    ] {
        let state = fault
            .as_ref()
            .map_or_else(|| Value::from("ok"), |fault| fault.reason.clone().into());
        answer.insert(part.into(), state);
    }
    json(if healthy { 200 } else { 503 }, &answer)
}
