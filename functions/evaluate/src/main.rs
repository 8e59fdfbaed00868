//! The tick: evaluates all alert rules.

mod outcome;

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use std::sync::Arc;
use tidemark_aws::config::Evaluate as Config;
use tidemark_aws::{AlertTopic, Clients, DynamoAlertStore, DynamoStore, clock, logging};
use tidemark_rules::tick::evaluate_all;
use tidemark_tsdb::Reader;

/// What comes before is no time: `cargo lambda watch` gives the milliseconds of its time-out instead of the time of its end.
const EARLIEST_DEADLINE_MS: i64 = 1_000_000_000_000;

/// How long before the invocation's end no further rule is begun.
const RESERVE_MS: i64 = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let store = Arc::new(DynamoStore::new(
        clients.dynamodb(),
        config.storage.tables(),
        clock::now_ms,
    ));
    let reader = Reader::new(store, config.storage.layout(), config.cache_bytes);
    let alerts = DynamoAlertStore::new(clients.dynamodb(), &config.alerts_table);
    let topic = AlertTopic::new(clients.sns(), &config.alerts_topic_arn);
    let (reader, alerts, topic) = (&reader, &alerts, &topic);
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let deadline = i64::try_from(event.context.deadline).ok();
        let deadline_ms = deadline.filter(|at| *at > EARLIEST_DEADLINE_MS).unwrap_or(i64::MAX);
        let may_go_on = || clock::now_ms() < deadline_ms.saturating_sub(RESERVE_MS);
        // The clock of the function that runs, not the time that the schedule was due: a late tick sees today's data.
        let summary = evaluate_all(alerts, reader, topic, clock::now(), &may_go_on).await?;
        Ok::<_, lambda_runtime::Error>(json!(outcome::outcome(summary)?))
    }))
    .await
}
