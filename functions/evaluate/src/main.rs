//! The tick: evaluates the alert rules that are due.

mod handler;
mod outcome;

use handler::Evaluate;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use std::sync::Arc;
use tidemark_aws::config::Evaluate as Config;
use tidemark_aws::queue::EvaluateQueue;
use tidemark_aws::{AlertTopic, Clients, DynamoAlertStore, DynamoNotifyStore, DynamoStore, clock, logging};
use tidemark_tsdb::Reader;

/// What comes before is no time: `cargo lambda watch` gives the milliseconds of its time-out instead of the time of its end.
const EARLIEST_DEADLINE_MS: i64 = 1_000_000_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let layout = config.storage.layout();
    let store = Arc::new(DynamoStore::new(
        clients.dynamodb(),
        config.storage.tables(),
        clock::now_ms,
    ));
    let evaluate = Evaluate {
        alerts: DynamoAlertStore::new(clients.dynamodb(), &config.alerts_table),
        lanes: DynamoNotifyStore::new(clients.dynamodb(), &config.alerts_table),
        data: Reader::new(store, layout, config.cache_bytes),
        topic: AlertTopic::new(clients.sns(), &config.alerts_topic_arn),
        queue: EvaluateQueue::new(clients.sqs(), config.evaluate_queue_url),
        buckets: layout.buckets,
        clock: clock::now,
    };
    let evaluate = &evaluate;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let deadline = i64::try_from(event.context.deadline).ok();
        let deadline_ms = deadline.filter(|at| *at > EARLIEST_DEADLINE_MS).unwrap_or(i64::MAX);
        // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
        let summary = Box::pin(evaluate.handle(&event.payload, deadline_ms)).await?;
        Ok::<_, lambda_runtime::Error>(json!(summary))
    }))
    .await
}
