//! `POST /api/v1/metrics`: takes samples and answers when the stream has them.

mod handler;

use handler::Ingest;
use tidemark_aws::config::Ingest as Config;
use tidemark_aws::{Clients, KinesisSink, clock, logging};
use tidemark_http::Call;
use tidemark_tsdb::ingest::Intake;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_http::Error> {
    logging::init();
    let config = Config::from_env()?;
    let clients = Clients::new(&config.account);
    let sink = KinesisSink::new(clients.kinesis(), &config.stream_name, config.buckets);
    let ingest = Ingest::new(
        sink,
        Intake {
            buckets: config.buckets,
            retention_ms: config.raw_retention_ms,
        },
    );
    let ingest = &ingest;
    tidemark_http::run(lambda_http::service_fn(|request| async move {
        Ok::<_, lambda_http::Error>(ingest.handle(&Call::new(request), clock::now_ms()).await)
    }))
    .await
}
