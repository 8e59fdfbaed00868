//! The SDK's clients: one HTTP client, one set of credentials, one policy for time and retries.
//!
//! The configuration is built by hand. `aws-config` would bring the clients of STS and SSO for ways to find credentials
//! that a Lambda function never takes: it gets them in its environment, valid for as long as the environment lives.

use crate::config::Account;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::behavior_version::BehaviorVersion;
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::sdk_config::SharedCredentialsProvider;
use std::time::Duration;

/// Connecting to an endpoint of the own region takes a few milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// One attempt: 5 MB of `PutRecords` pass in well under a second, a page of 1 MB is read in tens of milliseconds.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts of one call by the SDK itself. What a batch call reports as failed is repeated by the adapters.
const ATTEMPTS: u32 = 3;

/// Makes clients that share connections. Making one does no network call.
#[derive(Clone, Debug)]
pub struct Clients {
    config: SdkConfig,
}

impl Clients {
    /// Clients of an account.
    #[must_use]
    pub fn new(account: &Account) -> Self {
        let secure = account
            .endpoint_url
            .as_deref()
            .is_none_or(|url| url.starts_with("https:"));
        Self::with(account, http_client(secure))
    }

    /// Clients of an account over another HTTP client.
    pub(crate) fn with(account: &Account, http: SharedHttpClient) -> Self {
        let retries = RetryConfig::standard()
            .with_max_attempts(ATTEMPTS)
            .with_initial_backoff(Duration::from_millis(50))
            .with_max_backoff(Duration::from_secs(1));
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .build();
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(account.region.clone()))
            .credentials_provider(SharedCredentialsProvider::new(account.credentials.clone()))
            .http_client(http)
            .retry_config(retries)
            .timeout_config(timeouts);
        config.set_endpoint_url(account.endpoint_url.clone());
        Self { config: config.build() }
    }

    /// For the tables.
    #[must_use]
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.config)
    }

    /// For the stream.
    #[must_use]
    pub fn kinesis(&self) -> aws_sdk_kinesis::Client {
        aws_sdk_kinesis::Client::new(&self.config)
    }

    /// For topics.
    #[must_use]
    pub fn sns(&self) -> aws_sdk_sns::Client {
        aws_sdk_sns::Client::new(&self.config)
    }

    /// For secrets in Parameter Store.
    #[must_use]
    pub fn ssm(&self) -> aws_sdk_ssm::Client {
        aws_sdk_ssm::Client::new(&self.config)
    }

    /// For secrets in Secrets Manager.
    #[must_use]
    pub fn secretsmanager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.config)
    }

    /// For mail.
    #[must_use]
    pub fn sesv2(&self) -> aws_sdk_sesv2::Client {
        aws_sdk_sesv2::Client::new(&self.config)
    }

    /// For the queues.
    #[must_use]
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.config)
    }
}

/// The HTTP client. Reading the system's certificates takes milliseconds of a cold start, so a plain endpoint, as local
/// stacks have it, goes without; over TLS such a client trusts nobody.
fn http_client(secure: bool) -> SharedHttpClient {
    let mut builder = aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
    if !secure {
        match TlsContext::builder().with_trust_store(TrustStore::empty()).build() {
            Ok(trusts_nobody) => builder = builder.tls_context(trusts_nobody),
            // The default context works as well, it only starts slower.
            Err(error) => tracing::warn!(%error, "an empty trust store was refused"),
        }
    }
    builder.build_https()
}
