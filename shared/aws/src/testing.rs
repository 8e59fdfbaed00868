//! An HTTP client that answers from a script and breaks on command, and a clock that tests move.

use crate::clients::Clients;
use crate::config::Account;
use crate::pace::Pace;
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;
use serde_json::Value;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What a service got.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The operation, from `X-Amz-Target` (`PutRecords`), or the `Action` of a form.
    pub(crate) operation: String,
    /// The body, when it is JSON.
    pub(crate) body: Value,
    /// The body as text.
    pub(crate) text: String,
    /// The `authorization` header, which names the region and the service.
    pub(crate) authorization: String,
}

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// 200 with JSON.
    Json(Value),
    /// 200 with XML.
    Xml(String),
    /// A status with XML.
    XmlError(u16, String),
    /// A status and an error of this code, with more fields.
    Error(u16, &'static str, Value),
    /// Never.
    Hang,
    /// The connection breaks.
    Reset,
}

impl Reply {
    pub(crate) fn error(status: u16, code: &'static str) -> Self {
        Self::Error(status, code, Value::Null)
    }
}

type Answer = dyn FnMut(&Call) -> Reply + Send;

/// A scripted service.
#[derive(Clone)]
pub(crate) struct Script {
    answer: Arc<Mutex<Box<Answer>>>,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

impl Script {
    /// Answers each call by a function.
    pub(crate) fn answering(answer: impl FnMut(&Call) -> Reply + Send + 'static) -> Self {
        Self {
            answer: Arc::new(Mutex::new(Box::new(answer))),
            calls: Arc::default(),
        }
    }

    /// Answers with these, one after the other.
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        let mut replies: std::collections::VecDeque<Reply> = replies.into_iter().collect();
        Self::answering(move |call| {
            replies
                .pop_front()
                .unwrap_or_else(|| panic!("unexpected call: {call:?}"))
        })
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn clients(&self) -> Clients {
        Clients::with(&account(), self.http())
    }

    fn http(&self) -> SharedHttpClient {
        let connector = SharedHttpConnector::new(self.clone());
        http_client_fn(move |_, _| connector.clone())
    }
}

fn account() -> Account {
    Account {
        region: "us-east-1".into(),
        endpoint_url: Some("http://aws.invalid".into()),
        credentials: Credentials::new("id", "secret", None, None, "test"),
    }
}

impl HttpConnector for Script {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let text = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let target = request.headers().get("x-amz-target").unwrap_or_default();
        let operation = match target.rsplit_once('.') {
            Some((_, operation)) => operation.to_owned(),
            None => text
                .strip_prefix("Action=")
                .and_then(|rest| rest.split('&').next())
                .unwrap_or_default()
                .to_owned(),
        };
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let authorization = request.headers().get("authorization").unwrap_or_default().to_owned();
        let call = Call {
            operation,
            body,
            text,
            authorization,
        };
        let reply = (self.answer.lock().unwrap())(&call);
        self.calls.lock().unwrap().push(call);
        match reply {
            Reply::Hang => HttpConnectorFuture::new(std::future::pending()),
            Reply::Reset => HttpConnectorFuture::ready(Err(ConnectorError::io("connection reset".into()))),
            Reply::Json(value) => respond(200, "application/x-amz-json-1.0", value.to_string()),
            Reply::XmlError(status, text) => respond(status, "text/xml", text),
            Reply::Xml(text) => respond(200, "text/xml", text),
            Reply::Error(status, code, more) => {
                let mut body = more;
                if body.is_null() {
                    body = serde_json::json!({});
                }
                body["__type"] = code.into();
                body["message"] = "scripted".into();
                respond(status, "application/x-amz-json-1.0", body.to_string())
            }
        }
    }
}

fn respond(status: u16, content_type: &'static str, body: String) -> HttpConnectorFuture {
    let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
    response.headers_mut().insert("content-type", content_type);
    HttpConnectorFuture::ready(Ok(response))
}

/// A clock that moves when somebody sleeps, and never else.
#[derive(Clone, Debug)]
pub(crate) struct Time {
    start: Instant,
    pauses: Arc<Mutex<Vec<Duration>>>,
    jitter: f64,
}

impl Time {
    /// With every draw of chance the same.
    pub(crate) fn new(jitter: f64) -> Self {
        Self {
            start: Instant::now(),
            pauses: Arc::default(),
            jitter,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + self.pauses.lock().unwrap().iter().sum::<Duration>()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.pauses.lock().unwrap().push(by);
    }

    pub(crate) fn pauses(&self) -> Vec<Duration> {
        self.pauses.lock().unwrap().clone()
    }

    pub(crate) fn pace(&self) -> Pace {
        let (clock, sleeper, jitter) = (self.clone(), self.clone(), self.jitter);
        Pace::scripted(
            move || clock.now(),
            move |pause| {
                sleeper.pauses.lock().unwrap().push(pause);
                Box::pin(std::future::ready(()))
            },
            move || jitter,
        )
    }
}
