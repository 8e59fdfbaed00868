//! The HTTP API as the demo asks it.

use anyhow::{Context as _, bail};
use reqwest::{Method, Url};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A gateway answers within 30 s; the demo is to notice a stack that hangs before.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 8_000_000;

#[derive(Clone, Debug)]
pub(crate) struct Api {
    http: reqwest::Client,
    base: String,
}

impl Api {
    pub(crate) fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: http_client()?,
            base: base.trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> anyhow::Result<Value> {
        let url = Url::parse_with_params(&format!("{}{path}", self.base), parameters)?;
        // An empty list of parameters would leave a question mark behind.
        let url = if parameters.is_empty() {
            Url::parse(&format!("{}{path}", self.base))?
        } else {
            url
        };
        self.call(Method::GET, url, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::POST, Url::parse(&format!("{}{path}", self.base))?, Some(body))
            .await
    }

    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, Url::parse(&format!("{}{path}", self.base))?, None)
            .await
    }

    /// The JSON of a successful answer; an empty one is null.
    async fn call(&self, method: Method, url: Url, body: Option<&Value>) -> anyhow::Result<Value> {
        let name = format!("{method} {}", url.path());
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let mut response = request
            .send()
            .await
            .with_context(|| format!("{name} was not answered"))?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .with_context(|| format!("{name}: the answer broke off"))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER_BYTES {
                bail!("{name}: the answer is longer than {MAX_ANSWER_BYTES} bytes");
            }
        }
        if !status.is_success() {
            bail!("{name} answered {status}: {}", String::from_utf8_lossy(&bytes));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{name} answered {status} without JSON"))
    }
}

/// One entry of a query's `results`.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) labels: &'a Value,
    pub(crate) value: &'a Value,
    pub(crate) count: &'a Value,
    pub(crate) timestamp: &'a Value,
}

/// The entries of a query's answer.
pub(crate) fn rows(answer: &Value) -> anyhow::Result<Vec<Row<'_>>> {
    let results = answer["results"]
        .as_array()
        .with_context(|| format!("the answer has no results: {answer}"))?;
    let row = |r| {
        let r: &Value = r;
        Row {
            labels: &r["labels"],
            value: &r["value"],
            count: &r["count"],
            timestamp: &r["timestamp"],
        }
    };
    Ok(results.iter().map(row).collect())
}

/// A number that the answer must have.
pub(crate) fn number(answer: &Value, field: &str) -> anyhow::Result<f64> {
    answer[field]
        .as_f64()
        .with_context(|| format!("the answer has no number {field}: {answer}"))
}

/// An entry that the answer must have.
pub(crate) fn list<'a>(answer: &'a Value, field: &str) -> anyhow::Result<&'a Vec<Value>> {
    answer[field]
        .as_array()
        .with_context(|| format!("the answer has no list {field}: {answer}"))
}

/// TLS without certificates: the stack is local and plain, and a bare machine may have no certificates to load.
#[expect(
    clippy::disallowed_methods,
    reason = "a tool that talks to one local address, with time limits, without redirects"
)]
fn http_client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(TIMEOUT)
        .build()?)
}
