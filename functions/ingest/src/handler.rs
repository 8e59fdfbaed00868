//! From a call to the stream and back.

use serde_json::{Value, json};
use std::time::Duration;
use tidemark_http::{Answer, Call, error, json};
use tidemark_tsdb::ingest::{Intake, Outcome, RequestTimes, Sink, accept};
use tidemark_wire::ApiError;

/// How long before the invocation's end the answer has to be on its way.
const RESERVE_MS: i64 = 1_500;

/// How long the stream may take when nothing is known of the invocation's end. API Gateway waits 30 seconds.
const LONGEST_PUT: Duration = Duration::from_secs(20);

/// The function.
pub(crate) struct Ingest<S> {
    sink: S,
    intake: Intake,
}

impl<S: Sink> Ingest<S> {
    pub(crate) fn new(sink: S, intake: Intake) -> Self {
        Self { sink, intake }
    }

    pub(crate) async fn handle(&self, call: &Call, now_ms: i64) -> Answer {
        match call.route() {
            ("POST", path) if path == ["api", "v1", "metrics"] => self.accept(call, now_ms).await,
            (_, path) if path == ["api", "v1", "metrics"] => error(&call.unknown(&["POST"])),
            _ => error(&call.unknown(&[])),
        }
    }

    async fn accept(&self, call: &Call, now_ms: i64) -> Answer {
        let body = match call.body() {
            Ok(body) => body,
            Err(refused) => return error(&refused),
        };
        let times = RequestTimes {
            now_ms,
            within: time_left(call, now_ms),
        };
        match accept(&self.sink, &self.intake, &body, times).await {
            Ok(Outcome::Accepted(accepted)) => json(202, &accepted),
            Ok(Outcome::AllRejected(reason, rejected)) => json(reason.status, &both(&reason, json!(rejected))),
            Err(refused) => error(&refused),
        }
    }
}

fn time_left(call: &Call, now_ms: i64) -> Duration {
    let left = call
        .deadline_ms()
        .map(|deadline| deadline.saturating_sub(now_ms).saturating_sub(RESERVE_MS));
    // A negative rest is no time at all.
    left.map_or(LONGEST_PUT, |ms| {
        Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(LONGEST_PUT)
    })
}

/// The counts and the errors of the samples, beside the error of the request as a whole.
fn both(error: &ApiError, mut counts: Value) -> Value {
    if let (Value::Object(counts), Value::Object(error)) = (&mut counts, json!(error)) {
        counts.extend(error);
    }
    counts
}

#[cfg(test)]
mod tests;
