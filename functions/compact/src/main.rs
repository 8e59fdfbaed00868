//! Compaction by the schedule: turns segments of ended windows into blocks.

mod handler;

use handler::Compact;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::{Value, json};
use std::sync::Arc;
use tidemark_aws::config::Compact as Config;
use tidemark_aws::{Clients, DynamoStore, clock, logging};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let store = DynamoStore::new(clients.dynamodb(), config.storage.tables(), clock::now_ms);
    let compact = Compact::new(Arc::new(store), config.storage.layout(), clock::now_ms);
    let compact = &compact;
    lambda_runtime::run(service_fn(|event: LambdaEvent<Value>| async move {
        let deadline_ms = i64::try_from(event.context.deadline).ok();
        let report = compact.handle(deadline_ms, rand::random()).await?;
        Ok::<_, lambda_runtime::Error>(json!(report))
    }))
    .await
}
