//! Tidemark's HTTP API as any client sees it.

use anyhow::{Context as _, ensure};
use reqwest::{Method, Url};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A gateway answers within 30 s.
const TIMEOUT: Duration = Duration::from_secs(40);

/// The most bytes of an answer that are read: a Lambda answer has at most 6 MB.
const MAX_ANSWER_BYTES: usize = 8_000_000;

/// The API at one address. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct Api {
    http: reqwest::Client,
    base: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub bytes: Vec<u8>,
    /// The body as JSON, null when it is none.
    pub json: Value,
    call: String,
}

/// Something to send: a body with its headers.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A JSON body.
    #[must_use]
    pub fn json(body: impl Into<Vec<u8>>) -> Self {
        Self::default().header("content-type", "application/json").body(body)
    }

    /// One more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

impl Api {
    /// The API at an address.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: http_client(TIMEOUT)?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    /// The API that the environment names.
    ///
    /// # Errors
    /// When it names none.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::new(&super::variable("TIDEMARK_URL")?)
    }

    /// The API's address.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Any call. `path` is sent as it stands; escape what has to be.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn call(&self, method: &str, path: &str, request: Request) -> anyhow::Result<Answer> {
        let url = Url::parse(&format!("{}{path}", self.base))?;
        self.send(Method::from_bytes(method.as_bytes())?, url, request).await
    }

    /// GET with parameters.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Answer> {
        let mut url = Url::parse(&format!("{}{path}", self.base))?;
        if !parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(parameters);
        }
        self.send(Method::GET, url, Request::default()).await
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.call("POST", path, Request::json(body.to_string())).await
    }

    /// Pushes samples that must all be accepted.
    ///
    /// # Errors
    /// When they are not.
    pub async fn push(&self, metrics: &Value) -> anyhow::Result<()> {
        let count = metrics.as_array().map_or(0, Vec::len);
        let answer = self
            .post("/api/v1/metrics", &serde_json::json!({"metrics": metrics}))
            .await?;
        let json = answer.expect(202)?;
        ensure!(
            json["accepted"] == count && json["rejected"] == 0,
            "of {count} samples not all were accepted: {json}"
        );
        Ok(())
    }

    /// All pages of a list that is paged with `next_token`.
    ///
    /// # Errors
    /// When a page is not answered, or the list does not end.
    pub async fn all_pages(&self, path: &str, field: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut token = None::<String>;
        for _ in 0..10_000 {
            let mut parameters = parameters.to_vec();
            parameters.extend(token.as_deref().map(|token| ("next_token", token)));
            let mut page = self.get(path, &parameters).await?.expect(200)?;
            let Value::Array(items) = page[field].take() else {
                anyhow::bail!("GET {path}: no list {field} in {page}");
            };
            all.extend(items);
            match page["next_token"].as_str() {
                Some(next) => token = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
        anyhow::bail!("GET {path}: the list has no end")
    }

    async fn send(&self, method: Method, url: Url, request: Request) -> anyhow::Result<Answer> {
        let call = format!("{method} {}", url.as_str().trim_start_matches(&self.base));
        let mut builder = self.http.request(method, url);
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let response = builder
            .body(request.body)
            .send()
            .await
            .with_context(|| format!("{call} was not answered"))?;
        let (status, headers, bytes) = read(response, MAX_ANSWER_BYTES).await.with_context(|| call.clone())?;
        Ok(Answer {
            status,
            headers,
            json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            bytes,
            call,
        })
    }
}

impl Answer {
    /// The JSON of an answer with this status.
    ///
    /// # Errors
    /// When the status is another.
    pub fn expect(self, status: u16) -> anyhow::Result<Value> {
        ensure!(
            self.status == status,
            "{} answered {}, not {status}: {}",
            self.call,
            self.status,
            String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(2_000)])
        );
        Ok(self.json)
    }

    /// The text of a header, empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("")
    }

    /// Checks that this is an error in the one shape that errors have, and returns its message. `field` is empty where the
    /// error must name none.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn is_error(&self, status: u16, id: &str, field: &str) -> anyhow::Result<String> {
        let seen = format!("{} answered {} {}", self.call, self.status, self.json);
        let error = self.json["error"].as_object();
        let error = error.with_context(|| format!("{seen}: no error"))?;
        let message = error.get("message").and_then(Value::as_str).unwrap_or("");
        ensure!(self.status == status, "{seen}: the status is not {status}");
        ensure!(error.get("id").is_some_and(|it| it == id), "{seen}: the id is not {id}");
        ensure!(message.len() > 5, "{seen}: no message");
        let named = error.get("field").and_then(Value::as_str).unwrap_or("");
        ensure!(named == field, "{seen}: the field is not {field:?}");
        let others = error
            .keys()
            .find(|key| !matches!(key.as_str(), "id" | "message" | "field"));
        ensure!(
            others.is_none(),
            "{seen}: the error has more than id, message and field"
        );
        Ok(message.to_owned())
    }
}

pub(crate) async fn read(
    mut response: reqwest::Response,
    most: usize,
) -> anyhow::Result<(u16, reqwest::header::HeaderMap, Vec<u8>)> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        bytes.extend_from_slice(&chunk);
        ensure!(bytes.len() <= most, "the answer is longer than {most} bytes");
    }
    Ok((status, headers, bytes))
}

/// TLS without certificates: the stack is local and plain, and a bare machine may have none to load.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool that talks to a local stack, with time limits, without redirects"
)]
pub(crate) fn http_client(timeout: Duration) -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(timeout)
        .build()?)
}
