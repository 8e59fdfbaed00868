//! The consumer of the stream's shards.

mod handler;

use aws_lambda_events::event::kinesis::KinesisEvent;
use handler::Consume;
use lambda_runtime::{LambdaEvent, service_fn};
use std::sync::Arc;
use tidemark_aws::config::Consume as Config;
use tidemark_aws::{Clients, DeadLetterQueue, DynamoStore, KinesisStream, clock, logging};
use tidemark_tsdb::{Consumer, Origin};

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
    let dead_letters = DeadLetterQueue::new(clients.sqs(), config.dead_letter_queue_url);
    let stream = Arc::new(KinesisStream::new(clients.kinesis(), config.stream_name));
    let consumer =
        Consumer::new(store, config.storage.layout(), Origin::Stream, Arc::new(clock::now_ms)).with_ranges(stream);
    let consume = Consume::new(consumer, dead_letters);
    let consume = &consume;
    lambda_runtime::run(service_fn(|event: LambdaEvent<KinesisEvent>| async move {
        Ok::<_, lambda_runtime::Error>(consume.handle(event.payload).await?)
    }))
    .await
}
