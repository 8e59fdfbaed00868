//! Which call does what.

use crate::replay::Kept;
use crate::{alerts, operations, statistics};
use tidemark_http::{Answer, Call, error, in_time, no_content};
use tidemark_rules::{AlertStore, Publish};
use tidemark_tsdb::stream::{DeadLetters, Stream};
use tidemark_tsdb::{Compactor, Consumer, Reader, Store};
use tidemark_wire::ApiError;
use tokio::sync::Mutex;

/// What the function works on.
pub(crate) struct Parts<A, P, S, K, D> {
    pub(crate) alerts: A,
    pub(crate) topic: P,
    pub(crate) reader: Reader<S>,
    pub(crate) compactor: Compactor<S>,
    pub(crate) consumer: Consumer<S>,
    pub(crate) stream: K,
    pub(crate) dead_letters: D,
    pub(crate) clock: fn() -> i64,
}

/// The function.
pub(crate) struct Admin<A, P, S, K, D> {
    pub(crate) alerts: A,
    pub(crate) topic: P,
    pub(crate) reader: Reader<S>,
    pub(crate) compactor: Compactor<S>,
    pub(crate) consumer: Mutex<Consumer<S>>,
    pub(crate) stream: K,
    pub(crate) dead_letters: D,
    pub(crate) clock: fn() -> i64,
}

impl<A: AlertStore, P: Publish, S: Store, K: Stream + Kept, D: DeadLetters> Admin<A, P, S, K, D> {
    pub(crate) fn new(parts: Parts<A, P, S, K, D>) -> Self {
        Self {
            alerts: parts.alerts,
            topic: parts.topic,
            reader: parts.reader,
            compactor: parts.compactor,
            consumer: Mutex::new(parts.consumer),
            stream: parts.stream,
            dead_letters: parts.dead_letters,
            clock: parts.clock,
        }
    }

    pub(crate) async fn handle(&self, call: &Call) -> Answer {
        let answer = in_time(call, (self.clock)(), self.answer(call)).await;
        answer.unwrap_or_else(|failed| error(&failed))
    }

    async fn answer(&self, call: &Call) -> Result<Answer, ApiError> {
        let (method, path) = call.route();
        if method == "OPTIONS" {
            // A browser's preflight. The gateway adds the headers that it asks for.
            return Ok(no_content());
        }
        let Some(path) = path.strip_prefix(&["api", "v1"]) else {
            return Err(call.unknown(&[]));
        };
        match (method, path) {
            ("GET", ["alerts", "rules"]) => alerts::list_rules(self, call).await,
            ("POST", ["alerts", "rules"]) => alerts::create_rule(self, call).await,
            ("POST", ["alerts", "rules", "test"]) => alerts::test_rule(call),
            ("GET", ["alerts", "rules", id]) => alerts::get_rule(self, id).await,
            ("PUT", ["alerts", "rules", id]) => alerts::replace_rule(self, call, id).await,
            ("PATCH", ["alerts", "rules", id]) => alerts::patch_rule(self, call, id).await,
            ("DELETE", ["alerts", "rules", id]) => alerts::delete_rule(self, id).await,
            ("GET", ["alerts", "instances"]) => alerts::list_instances(self, call).await,
            ("GET", ["alerts", "instances", "active"]) => alerts::active_instances(self, call).await,
            ("POST", ["alerts", "instances", id, "resolve"]) => alerts::resolve_instance(self, id).await,
            ("POST", ["ops", "process-queue"]) => operations::process_queue(self, call).await,
            ("POST", ["ops", "compact"]) => operations::compact(self, call).await,
            ("POST", ["ops", "evaluate-alerts"]) => operations::evaluate_alerts(self, call).await,
            ("GET", ["stats", "queue"]) => statistics::queue(self, call).await,
            ("GET", ["stats", "system"]) => statistics::system(self).await,
            (_, path) => Err(call.unknown(methods(path))),
        }
    }
}

/// The methods of a path that exists. What matches no route of the gateway ends here, so a path of another function too, when
/// it is asked for with a wrong method.
fn methods(path: &[&str]) -> &'static [&'static str] {
    match path {
        ["metrics"] => &["POST"],
        ["query"] | ["metrics", "names"] | ["metrics", _, "labels"] | ["metrics", _, "labels", _, "values"] => &["GET"],
        ["alerts", "rules"] => &["GET", "POST"],
        ["alerts", "rules", "test"] | ["alerts", "instances", _, "resolve"] => &["POST"],
        ["ops", "process-queue" | "compact" | "evaluate-alerts"] => &["POST"],
        ["alerts", "rules", _] => &["GET", "PUT", "PATCH", "DELETE"],
        ["health"] | ["alerts", "instances"] | ["alerts", "instances", "active"] | ["stats", "queue" | "system"] => {
            &["GET"]
        }
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
