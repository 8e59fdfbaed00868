//! Delivers alert transitions from the queue to the channels of their rules.

mod handler;

use aws_lambda_events::event::sqs::SqsEvent;
use handler::Notify;
use lambda_runtime::{LambdaEvent, service_fn};
use tidemark_aws::config::Notify as Config;
use tidemark_aws::{Clients, DynamoAlertStore, NotifyQueue, clock, logging};
use tidemark_notify::{AddressGuard, WebhookSender};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let notify = Notify {
        log: DynamoAlertStore::new(clients.dynamodb(), &config.alerts_table),
        sender: WebhookSender::new(AddressGuard::with_allowed(config.webhook_allowed_cidrs))?,
        queue: NotifyQueue::new(
            clients.sqs(),
            config.notify_queue_url,
            config.notify_dead_letter_queue_url,
        ),
        clock: clock::now,
        jitter: rand::random,
    };
    let notify = &notify;
    lambda_runtime::run(service_fn(|event: LambdaEvent<SqsEvent>| async move {
        Ok::<_, lambda_runtime::Error>(notify.handle(event.payload).await)
    }))
    .await
}
