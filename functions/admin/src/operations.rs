//! Operations by hand, and health.

use crate::backends::{Backends, Redrive};
use crate::handler::Admin;
use crate::replay;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tidemark_aws::health::Health;
use tidemark_http::{Answer, Call, json};
use tidemark_model::Timestamp;
use tidemark_rules::tick::evaluate_all;
use tidemark_tsdb::answer::store_failed;
use tidemark_tsdb::{CompactError, drain};
use tidemark_wire::ApiError;

/// How long an operation may take before it says what remains: the gateway waits 30 seconds, and one more step of work
/// may follow.
const LONGEST_OPERATION_MS: i64 = 12_000;

/// How long others leave a bucket alone that a call by hand works on: the gateway's time.
pub(crate) const LEASE_MS: i64 = 30_000;

/// How long before the invocation's end no further step is begun.
const RESERVE_MS: i64 = 5_000;

/// The most letters that one call sends back: their receivers are to take them as well.
const MAX_REDRIVEN: usize = 1_000;

/// When an operation that begins now has to come to its end.
pub(crate) fn end_ms(call: &Call, now_ms: i64) -> i64 {
    let longest = now_ms.saturating_add(LONGEST_OPERATION_MS);
    call.deadline_ms()
        .map_or(longest, |deadline| longest.min(deadline.saturating_sub(RESERVE_MS)))
}

/// Stores what waits in the stream; with `{"from": time}` also what arrived since then and was stored before.
pub(crate) async fn process_queue<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let end_ms = end_ms(call, clock());
    let from_ms = replay::from_ms(call, &admin.stream, clock()).await?;
    let mut consumer = admin.consumer.lock().await;
    let out_of_time = || clock() >= end_ms;
    let drained = drain::drain(&admin.stream, &mut consumer, from_ms, &admin.dead_letters, out_of_time).await;
    Ok(json(200, &drained.map_err(|failed| store_failed(&failed))?))
}

/// Compacts what is due, within the time of a call.
pub(crate) async fn compact<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let clock = admin.clock;
    let end_ms = end_ms(call, clock());
    // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
    match Box::pin(admin.compactor.run(clock, rand::random(), || clock() >= end_ms)).await {
        Ok(report) => Ok(json(200, &report)),
        Err(CompactError::NotBegun(failed) | CompactError::Failed { source: failed, .. }) => Err(store_failed(&failed)),
    }
}

pub(crate) async fn evaluate_alerts<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
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

/// Sends back to `notify` what it gave up: `{"redriven", "remaining"}`.
pub(crate) async fn redrive_notifications<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let now_ms = (admin.clock)();
    let left_ms = end_ms(call, now_ms).saturating_sub(now_ms);
    let within = Duration::from_millis(u64::try_from(left_ms).unwrap_or_default());
    let redriven = admin.letters.redrive(MAX_REDRIVEN, within, Timestamp(now_ms)).await;
    Ok(json(200, &redriven.map_err(|failed| store_failed(&failed))?))
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
