//! Posts over HTTP: the one way out to webhooks, PagerDuty, Slack and Teams. It follows no redirects (they could lead past the address
//! guard), uses no proxy from the environment, reads little of an answer, and never names the URL in an error, nor the answer, which may
//! echo it: for many receivers the URL is the secret.

use crate::address::{AddressGuard, Forbidden};
use crate::retry::{Failure, MAX_DELAY_SECONDS};
use chrono::{DateTime, NaiveDateTime};
use futures::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, redirect};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_platform_verifier::BuilderVerifierExt as _;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tidemark_model::Timestamp;
use url::{Host, Url};

/// How long resolving the name, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long an attempt may take as a whole.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes that are read of an answer that refuses.
pub const MAX_ANSWER_BYTES: usize = 65_536;

/// Why no poster could be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The TLS stack, or the machine's certificates.
    #[error("TLS could not be set up")]
    Tls(#[source] rustls::Error),
    /// The HTTP client.
    #[error("the HTTP client could not be built")]
    Client(#[source] reqwest::Error),
}

/// Resolves a name to addresses; their port does not matter.
type LookUp = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// What is posted: JSON.
pub struct Post<'a> {
    /// Where to. It may be a secret.
    pub url: &'a str,
    /// The body, exactly as it is sent.
    pub body: Vec<u8>,
    /// Headers besides `content-type`. They may be secret.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for Post<'_> {
    /// Shows neither the address nor a header's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Post")
            .field("bytes", &self.body.len())
            .field("headers", &names)
            .finish_non_exhaustive()
    }
}

/// Posts over HTTP. Built once per process.
pub struct Poster {
    guard: AddressGuard,
    connect_timeout: Duration,
    total_timeout: Duration,
    look_up: LookUp,
    plain: Client,
    /// Built for the first `https` address: reading the machine's certificates takes tens of milliseconds of a cold start, and a machine
    /// may have none and no need of them.
    secure: OnceLock<Client>,
}

impl fmt::Debug for Poster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poster")
            .field("guard", &self.guard)
            .field("total_timeout", &self.total_timeout)
            .finish_non_exhaustive()
    }
}

impl Poster {
    /// A poster that reaches only what the guard allows.
    ///
    /// # Errors
    /// When the client cannot be set up.
    pub fn new(guard: AddressGuard) -> Result<Self, BuildError> {
        Self::with(guard, CONNECT_TIMEOUT, TOTAL_TIMEOUT, system_look_up())
    }

    pub(crate) fn with(
        guard: AddressGuard,
        connect: Duration,
        total: Duration,
        look_up: LookUp,
    ) -> Result<Self, BuildError> {
        let no_certificates = tls()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        Ok(Self {
            plain: client(&guard, connect, total, &look_up, no_certificates)?,
            guard,
            connect_timeout: connect,
            total_timeout: total,
            look_up,
            secure: OnceLock::new(),
        })
    }

    /// Makes one attempt. `Ok` means that the receiver answered 2xx. The receiver may have taken it even when this answers with a failure,
    /// except [`Failure::Permanent`] and [`Failure::Throttled`].
    ///
    /// # Errors
    /// What failed, with no word of the address or the answer.
    pub async fn post(&self, post: Post<'_>, now: Timestamp) -> Result<(), Failure> {
        let url = Url::parse(post.url).map_err(|_| permanent("the receiver's URL is not one"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(permanent("the receiver's URL must begin with http:// or https://"));
        }
        self.check_literal(&url)?;
        let client = self.client_for(&url).map_err(|error| Failure::Unreachable {
            reason: error.to_string(),
        })?;
        let mut headers: HeaderMap = post.headers.into_iter().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = client.post(url).headers(headers).body(post.body);
        let response = request.send().await.map_err(failure_of)?;
        refusal(response, now).await
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
        let (connect, total) = (self.connect_timeout, self.total_timeout);
        let client = client(&self.guard, connect, total, &self.look_up, config)?;
        Ok(self.secure.get_or_init(|| client))
    }

    /// A host that is written as an address is not resolved, so that the resolver does not see it. The URL parser has
    /// already read the odd spellings: `2130706433`, `0x7f.1` and `127.1` are all 127.0.0.1 here.
    fn check_literal(&self, url: &Url) -> Result<(), Failure> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(_)) => return Ok(()),
            None => return Err(permanent("the receiver's URL names no host")),
        };
        self.guard.check(address).map_err(|error| permanent(&error.to_string()))
    }
}

fn client(
    guard: &AddressGuard,
    connect: Duration,
    total: Duration,
    look_up: &LookUp,
    tls: ClientConfig,
) -> Result<Client, BuildError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one place: timeouts, no redirects, the address guard"
    )]
    let builder = Client::builder();
    builder
        .tls_backend_preconfigured(tls)
        .dns_resolver(Arc::new(GuardedResolver {
            guard: guard.clone(),
            look_up: Arc::clone(look_up),
        }))
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

/// `Retry-After` in seconds, from any of its forms and at most [`MAX_DELAY_SECONDS`]; nothing when it is none of them. See RFC 9110,
/// sections 10.2.3 and 5.6.7: of dates, also the two obsolete forms are to be read.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<u64> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What does not fit is longer than any limit.
        return Some(text.parse().unwrap_or(u64::MAX).min(MAX_DELAY_SECONDS));
    }
    let obsolete = |form| NaiveDateTime::parse_from_str(text, form).map(|time| time.and_utc().timestamp_millis());
    let until_ms = DateTime::parse_from_rfc2822(text)
        .map(|time| time.timestamp_millis())
        .or_else(|_| obsolete("%A, %d-%b-%y %H:%M:%S GMT"))
        .or_else(|_| obsolete("%a %b %e %H:%M:%S %Y"))
        .ok()?;
    let ms = u64::try_from(until_ms.saturating_sub(now.0)).unwrap_or(0);
    Some(ms.div_ceil(1_000).min(MAX_DELAY_SECONDS))
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

/// What failed, in words of this file only: what an error of the network says may hold the name, its address or what the peer wrote.
fn failure_of(error: reqwest::Error) -> Failure {
    let mut reason = if error.is_connect() {
        "the connection failed"
    } else {
        "the connection broke off, or the answer was not HTTP"
    };
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(one) = cause {
        if let Some(forbidden) = one.downcast_ref::<Forbidden>() {
            return permanent(&forbidden.to_string());
        }
        reason = known(one).unwrap_or(reason);
        // An error of the system wraps that of TLS, and does not always name it as its source.
        let inner = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner),
            None => one.source(),
        };
    }
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if error.is_builder() {
        return permanent("the request could not be built");
    }
    Failure::Unreachable {
        reason: reason.to_owned(),
    }
}

/// What one error of a chain is known to mean.
fn known(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    if error.is::<Unresolved>() {
        return Some("the name could not be resolved");
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                "the certificate is not valid"
            }
            _ => "the TLS handshake failed",
        });
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::ConnectionRefused => Some("the connection was refused"),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            Some("the connection was reset")
        }
        _ => None,
    }
}

/// A name could not be resolved.
#[derive(Debug, thiserror::Error)]
#[error("the name could not be resolved")]
struct Unresolved;

/// The operating system's resolver.
fn system_look_up() -> LookUp {
    Arc::new(|name| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.collect())
        })
    })
}

/// Resolves a name and keeps only the addresses that may be reached. The connection is made to those, so that there is no second look-up
/// that could answer otherwise.
struct GuardedResolver {
    guard: AddressGuard,
    look_up: LookUp,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.guard.clone();
        let found = (self.look_up)(name.as_str().to_owned());
        Box::pin(async move {
            // Port 0 is replaced by the URL's.
            let found = found.await.map_err(|_| Unresolved)?;
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
pub(crate) mod tests;
