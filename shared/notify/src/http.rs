//! Posts webhooks over HTTP. It follows no redirects (they could lead past the address guard), uses no proxy from the environment,
//! reads little of an answer, and never names the URL in an error, nor the answer, which may echo it: for many receivers the URL is
//! the secret.

use crate::address::{AddressGuard, Forbidden};
use crate::retry::Failure;
use chrono::DateTime;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidemark_model::Timestamp;
use url::{Host, Url};

/// How long resolving the name, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an attempt may take as a whole.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes that are read of the answer to a refused webhook.
pub const MAX_ANSWER_BYTES: usize = 65_536;

/// Who posts webhooks: [`WebhookSender`] over HTTP, [`crate::RecordingSender`] in memory.
pub trait PostWebhook: Send + Sync {
    /// Makes one attempt. `Ok` means that the receiver answered 2xx. The receiver may have taken it even when this
    /// answers with a failure; `idempotency_key` is the same on every attempt of one notification.
    fn post(
        &self,
        url: &str,
        body: Vec<u8>,
        idempotency_key: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Why no sender could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The TLS stack, or the machine's certificates.
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// Posts over HTTP. Built once per process.
#[derive(Debug)]
pub struct WebhookSender {
    guard: AddressGuard,
    connect_timeout: Duration,
    total_timeout: Duration,
    plain: Client,
    /// Built for the first `https` webhook: reading the machine's certificates takes tens of milliseconds of a cold start, and a machine
    /// may have none and no need of them.
    secure: OnceLock<Client>,
}

impl WebhookSender {
    /// A sender that reaches only what the guard allows.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(guard: AddressGuard) -> Result<Self, BuildError> {
        Self::with_timeouts(guard, CONNECT_TIMEOUT, TOTAL_TIMEOUT)
    }

    fn with_timeouts(guard: AddressGuard, connect: Duration, total: Duration) -> Result<Self, BuildError> {
        let no_certificates = tls()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self {
            plain: client(&guard, connect, total, no_certificates)?,
            guard,
            connect_timeout: connect,
            total_timeout: total,
            secure: OnceLock::new(),
        })
    }

    fn client_for(&self, url: &Url) -> Result<&Client, BuildError> {
        if url.scheme() != "https" {
            return Ok(&self.plain);
        }
        if let Some(client) = self.secure.get() {
            return Ok(client);
        }
        let verified = tls()?.with_platform_verifier().map_err(BuildError::Tls)?;
        let config = verified.with_no_client_auth();
        let client = client(&self.guard, self.connect_timeout, self.total_timeout, config)?;
        Ok(self.secure.get_or_init(|| client))
    }

    /// A host that is written as an address is not resolved, so that the resolver does not see it. The URL parser has
    /// already read the odd spellings: `2130706433`, `0x7f.1` and `127.1` are all 127.0.0.1 here.
    fn check_literal(&self, url: &Url) -> Result<(), Failure> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(permanent("the webhook's URL names no host")),
        };
        self.guard.check(address).map_err(|error| permanent(&error.to_string()))
    }
}

fn client(guard: &AddressGuard, connect: Duration, total: Duration, tls: ClientConfig) -> Result<Client, BuildError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place: timeouts, no redirects, the address guard"
    )]
    let builder = Client::builder();
    builder
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(GuardedResolver { guard: guard.clone() }))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(connect)
        .timeout(total)
        // A function is frozen between invocations; a connection kept over that is dead when it is used.
        .pool_max_idle_per_host(0)
        .user_agent(concat!("tidemark/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(BuildError::Client)
}

fn tls() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, BuildError> {
    // Named here, because a library must not choose the process' default provider.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(BuildError::Tls)
}

impl PostWebhook for WebhookSender {
    async fn post(&self, url: &str, body: Vec<u8>, idempotency_key: &str, now: Timestamp) -> Result<(), Failure> {
        let url = Url::parse(url).map_err(|error| permanent(&format!("the webhook's URL is not one: {error}")))?;
        self.check_literal(&url)?;
        let key = HeaderValue::from_str(idempotency_key).map_err(|_| permanent("the idempotency key is no header"))?;
        let client = self.client_for(&url).map_err(|error| Failure::Unreachable {
            reason: error.to_string(),
        })?;
        let request = client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(body);
        let response = request.send().await.map_err(failure_of)?;
        refusal(response, now).await
    }
}

/// What a status means; see RFC 9110, section 15, and RFC 6585 for 429.
async fn refusal(response: Response, now: Timestamp) -> Result<(), Failure> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let after_seconds = retry_after(response.headers(), now);
    let code = status.as_u16();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE && after_seconds.is_some() {
        return Err(Failure::Throttled {
            status: code,
            after_seconds,
        });
    }
    if status.is_redirection() {
        let reason = format!("the receiver redirects (status {code}), which is not followed");
        return Err(Failure::Permanent { reason });
    }
    discard(response).await;
    if status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY) {
        return Err(Failure::Server { status: code });
    }
    Err(permanent(&format!("the receiver refused it with status {code}")))
}

/// `Retry-After` in seconds, from either of its forms; nothing when it is neither.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds);
    }
    let until = DateTime::parse_from_rfc2822(text).ok()?;
    let ms = until.timestamp_millis().saturating_sub(now.0).max(0);
    u64::try_from(ms).ok().map(|ms| ms.div_ceil(1_000))
}

/// Reads an answer, so that a receiver is not cut off in the middle of it, up to a limit, and keeps nothing: it may echo
/// the URL. What goes wrong meanwhile does not matter.
async fn discard(mut response: Response) {
    let mut read = 0;
    while read < MAX_ANSWER_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => read += chunk.len(),
            _ => break,
        }
    }
}

fn permanent(reason: &str) -> Failure {
    Failure::Permanent {
        reason: reason.to_owned(),
    }
}

fn failure_of(error: reqwest::Error) -> Failure {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut last = String::new();
    while let Some(one) = cause {
        if let Some(forbidden) = one.downcast_ref::<Forbidden>() {
            return permanent(&forbidden.to_string());
        }
        last = one.to_string();
        cause = one.source();
    }
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if error.is_builder() {
        return permanent(&format!("the request could not be built: {last}"));
    }
    Failure::Unreachable { reason: last }
}

/// Resolves a name with the operating system and keeps only the addresses that may be reached. The connection is made to
/// those, so that there is no second look-up that could answer otherwise.
struct GuardedResolver {
    guard: AddressGuard,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let (allowed, refused): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.into_iter().partition(|address| guard.allows(address.ip()));
            match refused.first() {
                Some(address) if allowed.is_empty() => Err(Forbidden { address: address.ip() }.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests;
