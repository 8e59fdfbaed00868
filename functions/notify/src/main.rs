//! Delivers alert transitions from the queue to the channels of their rules.

mod handler;

use aws_lambda_events::event::sqs::SqsEvent;
use handler::Notify;
use lambda_runtime::{LambdaEvent, service_fn};
use tidemark_aws::config::Notify as Config;
use tidemark_aws::{
    Clients, DynamoAlertStore, DynamoNotifyStore, Mailer, NotifyQueue, SecretReader, TopicPublisher, clock, logging,
};
use tidemark_notify::{AddressGuard, Poster, Senders};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let sender = Senders::new(
        Poster::new(AddressGuard::with_allowed(config.webhook_allowed_cidrs))?,
        SecretReader::new(clients.ssm(), clients.secretsmanager()),
        Mailer::new(clients.sesv2()),
        TopicPublisher::new(clients.sns()),
    );
    let notify = Notify {
        alerts: DynamoAlertStore::new(clients.dynamodb(), &config.alerts_table),
        store: DynamoNotifyStore::new(clients.dynamodb(), &config.alerts_table),
        sender,
        queue: NotifyQueue::new(
            clients.sqs(),
            config.notify_queue_url,
            config.notify_dead_letter_queue_url,
        ),
        clock: clock::now,
        jitter: rand::random,
        holder: || format!("{:032x}", rand::random::<u128>()),
    };
    let notify = &notify;
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        Ok::<_, lambda_runtime::Error>(notify.handle(event.payload).await)
    }))
    .await
}
