//! `GET /api/v1/query` and the discovery of names and labels.

mod handler;

use handler::Query;
use std::sync::Arc;
use tidemark_aws::config::Query as Config;
use tidemark_aws::{Clients, DynamoAnswers, DynamoStore, clock, logging};
use tidemark_http::Call;
use tidemark_tsdb::Reader;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let store = DynamoStore::new(clients.dynamodb(), config.storage.tables(), clock::now_ms);
    let reader = Reader::new(Arc::new(store), config.storage.layout(), config.cache_bytes);
    let cache = DynamoAnswers::new(clients.dynamodb(), config.cache_table, clock::now_ms);
    let query = Query::new(reader, cache);
    let query = &query;
    tidemark_http::run(lambda_http::service_fn(|request| async move {
        Ok::<_, lambda_http::Error>(query.handle(&Call::new(request), clock::now_ms()).await)
    }))
    .await
}
