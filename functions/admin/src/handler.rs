//! Which call does what.

use crate::backends::Backends;
use crate::{channels, history, instances, named, operations, rules, silences, statistics};
use tidemark_http::{Answer, Call, error, in_time, no_content};
use tidemark_model::Timestamp;
use tidemark_notify::settings::{Inhibition, MuteTime};
use tidemark_tsdb::{Compactor, Consumer, Reader};
use tidemark_wire::ApiError;
use tokio::sync::Mutex;

/// The function.
pub(crate) struct Admin<B: Backends> {
    pub(crate) alerts: B::Alerts,
    pub(crate) settings: B::Settings,
    pub(crate) topic: B::Topic,
    pub(crate) sender: B::Sender,
    pub(crate) letters: B::Letters,
    pub(crate) reader: Reader<B::Samples>,
    pub(crate) compactor: Compactor<B::Samples>,
    pub(crate) consumer: Mutex<Consumer<B::Samples>>,
    pub(crate) stream: B::Stream,
    pub(crate) dead_letters: B::DeadLetters,
    pub(crate) clock: fn() -> i64,
}

impl<B: Backends> Admin<B> {
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp((self.clock)())
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
        match path.strip_prefix(&["api", "v1"]) {
            Some(["alerts", path @ ..]) => Box::pin(self.alerts(call, method, path)).await,
            Some(["channels", path @ ..]) => Box::pin(self.channels(call, method, path)).await,
            Some(path) => Box::pin(self.operations(call, method, path)).await,
            None => Err(call.unknown(&[])),
        }
    }

    async fn alerts(&self, call: &Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
        match (method, path) {
            ("GET", ["rules"]) => rules::list(self, call).await,
            ("POST", ["rules"]) => rules::create(self, call).await,
            ("POST", ["rules", "test"]) => rules::test(self, call).await,
            ("GET", ["rules", id]) => rules::get(self, id).await,
            ("PUT", ["rules", id]) => rules::replace(self, call, id).await,
            ("PATCH", ["rules", id]) => rules::patch(self, call, id).await,
            ("DELETE", ["rules", id]) => rules::delete(self, id).await,
            ("GET", ["instances"]) => instances::list(self, call).await,
            ("GET", ["instances", "active"]) => instances::list_active(self, call).await,
            ("POST", ["instances", id, "resolve"]) => instances::resolve(self, call, id).await,
            ("POST", ["instances", id, "acknowledge"]) => instances::acknowledge(self, call, id).await,
            ("GET", ["history"]) => history::list(self, call).await,
            ("GET", ["silences"]) => silences::list(self, call).await,
            ("POST", ["silences"]) => silences::create(self, call).await,
            ("POST", ["silences", "preview"]) => silences::preview(self, call).await,
            ("GET", ["silences", id]) => silences::get(self, id).await,
            ("PUT", ["silences", id]) => silences::replace(self, call, id).await,
            ("DELETE", ["silences", id]) => silences::expire(self, id).await,
            ("GET", ["inhibitions"]) => named::list::<Inhibition, B>(self, call, "inhibitions").await,
            ("POST", ["inhibitions"]) => named::create::<Inhibition, B>(self, call).await,
            ("GET", ["inhibitions", id]) => named::get::<Inhibition, B>(self, id).await,
            ("PUT", ["inhibitions", id]) => named::replace::<Inhibition, B>(self, call, id).await,
            ("DELETE", ["inhibitions", id]) => named::delete::<Inhibition, B>(self, id).await,
            ("GET", ["mute-times"]) => named::list::<MuteTime, B>(self, call, "mute_times").await,
            ("POST", ["mute-times"]) => named::create::<MuteTime, B>(self, call).await,
            ("GET", ["mute-times", id]) => named::get::<MuteTime, B>(self, id).await,
            ("PUT", ["mute-times", id]) => named::replace::<MuteTime, B>(self, call, id).await,
            ("DELETE", ["mute-times", id]) => named::delete::<MuteTime, B>(self, id).await,
            _ => Err(unknown(call)),
        }
    }

    async fn channels(&self, call: &Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
        match (method, path) {
            ("GET", []) => channels::list(self, call).await,
            ("POST", []) => channels::create(self, call).await,
            ("GET", [id]) => channels::get(self, id).await,
            ("PUT", [id]) => channels::replace(self, call, id).await,
            ("PATCH", [id]) => channels::patch(self, call, id).await,
            ("DELETE", [id]) => channels::delete(self, id).await,
            ("POST", [id, "test"]) => channels::test(self, id).await,
            _ => Err(unknown(call)),
        }
    }

    async fn operations(&self, call: &Call, method: &str, path: &[&str]) -> Result<Answer, ApiError> {
        match (method, path) {
            ("POST", ["ops", "process-queue"]) => operations::process_queue(self, call).await,
            ("POST", ["ops", "compact"]) => operations::compact(self, call).await,
            ("POST", ["ops", "evaluate-alerts"]) => operations::evaluate_alerts(self, call).await,
            ("POST", ["ops", "redrive-notifications"]) => operations::redrive_notifications(self, call).await,
            ("GET", ["stats", "queue"]) => statistics::queue(self, call).await,
            ("GET", ["stats", "system"]) => statistics::system(self).await,
            _ => Err(unknown(call)),
        }
    }
}

fn unknown(call: &Call) -> ApiError {
    let (_, path) = call.route();
    call.unknown(methods(path.strip_prefix(&["api", "v1"]).unwrap_or_default()))
}

/// The methods of a path that exists. What matches no route of the gateway ends here, so a path of another function too, when
/// it is asked for with a wrong method.
fn methods(path: &[&str]) -> &'static [&'static str] {
    match path {
        ["metrics"] => &["POST"],
        ["query"] | ["metrics", "names"] | ["metrics", _, "labels"] | ["metrics", _, "labels", _, "values"] => &["GET"],
        ["health"] | ["stats", "queue" | "system"] => &["GET"],
        [
            "ops",
            "process-queue" | "compact" | "evaluate-alerts" | "redrive-notifications",
        ] => &["POST"],
        ["channels"] | ["alerts", "rules" | "silences" | "inhibitions" | "mute-times"] => &["GET", "POST"],
        ["alerts", "rules", "test"] | ["alerts", "silences", "preview"] | ["channels", _, "test"] => &["POST"],
        ["alerts", "instances", _, "resolve" | "acknowledge"] => &["POST"],
        ["alerts", "rules", _] | ["channels", _] => &["GET", "PUT", "PATCH", "DELETE"],
        ["alerts", "silences" | "inhibitions" | "mute-times", _] => &["GET", "PUT", "DELETE"],
        ["alerts", "instances" | "history"] | ["alerts", "instances", "active"] => &["GET"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests;
