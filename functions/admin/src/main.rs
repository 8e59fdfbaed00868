//! Rules, instances, their history, channels, silences and the other settings of notifying, statistics, operations and health.

mod answers;
mod backends;
mod channels;
mod handler;
mod history;
mod instances;
mod named;
mod operations;
mod replay;
mod rules;
mod silences;
mod statistics;

use backends::Aws;
use handler::Admin;
use std::sync::Arc;
use tidemark_aws::config::Admin as Config;
use tidemark_aws::{
    AlertTopic, Clients, DeadLetterQueue, DynamoAlertStore, DynamoNotifyStore, DynamoStore, KinesisStream, Mailer,
    NotifyQueue, SecretReader, TopicPublisher, clock, health, logging,
};
use tidemark_http::Call;
use tidemark_notify::{AddressGuard, Poster, Senders};
use tidemark_tsdb::{Compactor, Consumer, Origin, Reader};
use tokio::sync::Mutex;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let store = Arc::new(DynamoStore::new(
        clients.dynamodb(),
        config.storage.tables(),
        clock::now_ms,
    ));
    let layout = config.storage.layout();
    let parts = health::Parts {
        database_tables: vec![
            config.storage.segments_table.clone(),
            config.storage.catalog_table.clone(),
            config.storage.metrics_table.clone(),
            config.storage.aggregates_table.clone(),
            config.alerts_table.clone(),
        ],
        cache_table: config.cache_table.clone(),
        catalog_table: config.storage.catalog_table.clone(),
        division: layout.division(),
        stream_name: config.stream_name.clone(),
    };
    let sender = Senders::new(
        Poster::new(AddressGuard::with_allowed(config.webhook_allowed_cidrs))?,
        SecretReader::new(clients.ssm(), clients.secretsmanager()),
        Mailer::new(clients.sesv2()),
        TopicPublisher::new(clients.sns()),
    );
    let letters = NotifyQueue::new(
        clients.sqs(),
        config.notify_queue_url,
        config.notify_dead_letter_queue_url,
    );
    let admin = Admin::<Aws> {
        alerts: DynamoAlertStore::new(clients.dynamodb(), &config.alerts_table),
        settings: DynamoNotifyStore::new(clients.dynamodb(), &config.alerts_table),
        topic: AlertTopic::new(clients.sns(), &config.alerts_topic_arn),
        sender,
        letters,
        reader: Reader::new(Arc::clone(&store), layout, config.cache_bytes),
        compactor: Compactor::new(Arc::clone(&store), layout, operations::LEASE_MS),
        consumer: Mutex::new(Consumer::new(store, layout, Origin::Operator, Arc::new(clock::now_ms))),
        stream: KinesisStream::new(clients.kinesis(), &config.stream_name),
        dead_letters: DeadLetterQueue::new(clients.sqs(), config.dead_letter_queue_url),
        clock: clock::now_ms,
    };
    let (admin, clients, parts) = (&admin, &clients, &parts);
    tidemark_http::run(lambda_http::service_fn(|request| async move {
        let call = Call::new(request);
        let answer = match call.route() {
            ("GET", path) if path == ["api", "v1", "health"] => {
                let health = health::check(&clients.dynamodb(), &clients.kinesis(), parts).await;
                operations::health(&health, clock::now_ms())
            }
            _ => admin.handle(&call).await,
        };
        Ok::<_, lambda_http::Error>(answer)
    }))
    .await
}
