//! One attempt to deliver one batch: builds the request, sends it, and reads from the answer what is to be done.

use crate::Error;
use crate::retry::parse_retry_after;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde::Deserialize;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// A connection that takes longer than this to open is tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most bytes of an answer that are read: a Lambda function answers at most 6 MB.
const MAX_ANSWER_BYTES: usize = 8_000_000;

/// The most characters of an unexpected answer that end up in a reason.
const MAX_QUOTED_CHARS: usize = 200;

/// What became of one batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The server decided about each sample.
    Decided { rejected: usize, errors: Vec<SampleError> },
    /// The request is larger than the server takes; smaller ones may pass.
    TooLarge,
    /// The server refused the request as a whole, and would refuse it again.
    Refused { reason: String },
    /// Worth another attempt.
    Failed {
        failure: Failure,
        retry_after: Option<Duration>,
    },
}

/// Failures that pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the server asks to slow down ({0})")]
    Throttled(StatusCode),
    #[error("the server failed ({0})")]
    Server(StatusCode),
    /// Credentials that expired, a clock that is wrong, a permission that is missing: none of it is the samples' fault.
    #[error("the server does not accept the credentials ({status}): {said}")]
    Unauthorized { status: StatusCode, said: String },
    #[error("no answer in time")]
    Timeout,
    #[error("the connection failed: {0}")]
    Connection(String),
    #[error("the answer is not Tidemark's: {0}")]
    Unreadable(String),
    #[cfg(feature = "sigv4")]
    #[error(transparent)]
    Unsigned(#[from] crate::sign::SignError),
}

/// One entry of `errors` in the server's answer.
#[derive(Debug, Deserialize)]
pub(crate) struct SampleError {
    pub(crate) index: usize,
    pub(crate) field: Option<String>,
    #[serde(default)]
    pub(crate) reason: String,
}

/// The answer to a push, whatever became of it.
#[derive(Debug, Deserialize)]
struct Answer {
    rejected: Option<usize>,
    #[serde(default)]
    errors: Vec<SampleError>,
    error: Option<RequestError>,
}

#[derive(Debug, Deserialize)]
struct RequestError {
    #[serde(default)]
    message: String,
}

#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    url: Url,
    gzip_above: usize,
    #[cfg(feature = "sigv4")]
    signer: Option<crate::sign::Signer>,
}

impl Transport {
    /// `base` is the URL of the API without `/api/v1/metrics`.
    pub(crate) fn new(base: &str, timeout: Duration, gzip_above: usize) -> Result<Self, Error> {
        let url = push_url(base)?;
        let http = http_client(&url, timeout)?;
        Ok(Self {
            http,
            url,
            gzip_above,
            #[cfg(feature = "sigv4")]
            signer: None,
        })
    }

    /// Signs every request from now on.
    #[cfg(feature = "sigv4")]
    pub(crate) fn sign_with(&mut self, signer: crate::sign::Signer) {
        self.signer = Some(signer);
    }

    /// Sends a batch once.
    pub(crate) async fn send(&self, batch: &[Box<str>]) -> Outcome {
        let answer = match self.request(batch).await {
            Ok(response) => read(response).await,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok((status, retry_after, body)) => judge(status, retry_after, &body),
            Err(failure) => Outcome::Failed {
                failure,
                retry_after: None,
            },
        }
    }

    async fn request(&self, batch: &[Box<str>]) -> Result<Response, Failure> {
        let plain = request_body(batch);
        let packed = if plain.len() > self.gzip_above {
            gzip(&plain)
        } else {
            None
        };
        let mut request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json");
        if packed.is_some() {
            request = request.header(CONTENT_ENCODING, "gzip");
        }
        let body = packed.unwrap_or(plain);
        #[cfg(feature = "sigv4")]
        if let Some(signer) = &self.signer {
            let covered = [("content-type", "application/json")];
            for (name, value) in signer.headers("POST", self.url.as_str(), &covered, &body, now())? {
                request = request.header(name, value);
            }
        }
        request.body(body).send().await.map_err(connection_failure)
    }
}

#[cfg(feature = "sigv4")]
#[expect(clippy::disallowed_methods, reason = "a signature carries the time of its request")]
fn now() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

fn push_url(base: &str) -> Result<Url, Error> {
    let invalid = |reason: &str| Error::InvalidUrl {
        url: without_user(base),
        reason: reason.to_owned(),
    };
    let url = Url::parse(base).map_err(|e| invalid(&e.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid("it must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("it must end with the path of the API, without ? and #"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("it must not hold a user name or password"));
    }
    Url::parse(&format!("{}/api/v1/metrics", url.as_str().trim_end_matches('/'))).map_err(|e| invalid(&e.to_string()))
}

/// A URL for a message: a password in it ends up in no log.
fn without_user(url: &str) -> String {
    url.rsplit_once('@').map_or(url, |(_, rest)| rest).to_owned()
}

/// Whether a URL names this machine, which no proxy can reach for us.
fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        host == "localhost" || address.is_ok_and(|a| a.is_loopback())
    })
}

#[expect(clippy::disallowed_methods, reason = "the one place: time limits, no redirects")]
fn http_client(url: &Url, timeout: Duration) -> Result<reqwest::Client, Error> {
    let builder = reqwest::Client::builder();
    let builder = if is_loopback(url) { builder.no_proxy() } else { builder };
    builder
        .tls_backend_preconfigured(tls_config(url)?)
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(timeout)
        // A redirect would send the samples elsewhere, or, as a GET, nowhere.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("tidemark-client/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(Error::Http)
}

/// rustls on ring, with the machine's certificates. The provider is named here because a library must not choose one for
/// the whole process. Without https no certificates are needed, and a machine that has none can still push.
fn tls_config(url: &Url) -> Result<rustls::ClientConfig, Error> {
    use rustls_platform_verifier::BuilderVerifierExt as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?;
    let builder = if url.scheme() == "https" {
        builder.with_platform_verifier().map_err(Error::Tls)?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

fn request_body(batch: &[Box<str>]) -> Vec<u8> {
    let mut body = Vec::with_capacity(batch.iter().map(|s| s.len() + 1).sum::<usize>() + 16);
    body.extend_from_slice(b"{\"metrics\":[");
    for (i, sample) in batch.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        body.extend_from_slice(sample.as_bytes());
    }
    body.extend_from_slice(b"]}");
    body
}

/// `None` only if writing to memory fails, and then the plain body is sent.
fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::default());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

async fn read(mut response: Response) -> Result<(StatusCode, Option<Duration>, Vec<u8>), Failure> {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|h| h.to_str().ok())
        .and_then(parse_retry_after);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(connection_failure)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Failure::Unreadable(format!(
                "it is longer than {MAX_ANSWER_BYTES} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, retry_after, body))
}

/// What an answer means. Pure.
fn judge(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Outcome {
    let failed = |failure| Outcome::Failed { failure, retry_after };
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => return Outcome::TooLarge,
        StatusCode::TOO_MANY_REQUESTS => return failed(Failure::Throttled(status)),
        // 425: the request came too early in a TLS session, and is to be sent again.
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => return failed(Failure::Server(status)),
        _ if status.is_server_error() => return failed(Failure::Server(status)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let said = quote(body);
            return failed(Failure::Unauthorized { status, said });
        }
        _ => {}
    }
    match serde_json::from_slice::<Answer>(body) {
        Ok(Answer {
            rejected: Some(rejected),
            errors,
            ..
        }) => Outcome::Decided { rejected, errors },
        // Somebody else answers here, a captive portal or a wrong URL: nothing says that the samples are kept.
        _ if status.is_success() => failed(Failure::Unreadable(quote(body))),
        Ok(Answer { error: Some(error), .. }) => Outcome::Refused {
            reason: format!("{status}: {}", error.message),
        },
        _ => Outcome::Refused {
            reason: format!("{status}: {}", quote(body)),
        },
    }
}

fn quote(body: &[u8]) -> String {
    String::from_utf8_lossy(body)
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_QUOTED_CHARS)
        .collect()
}

fn connection_failure(error: reqwest::Error) -> Failure {
    if error.is_timeout() {
        return Failure::Timeout;
    }
    // reqwest says only that sending failed; the reason is the innermost source.
    let mut innermost: &dyn std::error::Error = &error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Failure::Connection(innermost.to_string())
}

#[cfg(test)]
mod tests;
