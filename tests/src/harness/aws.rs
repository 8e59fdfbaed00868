//! Signed calls to the stack's AWS services. They are made without the SDK, because they are what a test does to the system
//! from outside: whatever the product's own adapters do wrong must not be done wrong here as well.

use super::api::{http_client, read};
use super::variable;
use anyhow::{Context as _, bail, ensure};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::identity::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::{Duration, UNIX_EPOCH};

/// The most bytes of an answer that are read: a page of a hundred of the largest records, as base64.
const MAX_ANSWER_BYTES: usize = 150_000_000;

/// A service that speaks JSON: the name that requests are signed for, the prefix of its actions, the version of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Service(&'static str, &'static str, &'static str);

/// The tables.
pub const DYNAMODB: Service = Service("dynamodb", "DynamoDB_20120810", "1.0");
/// The stream.
pub const KINESIS: Service = Service("kinesis", "Kinesis_20131202", "1.1");
/// The queues.
pub const SQS: Service = Service("sqs", "AmazonSQS", "1.0");
/// What the functions wrote.
pub const LOGS: Service = Service("logs", "Logs_20140328", "1.1");
/// Parameters.
pub const SSM: Service = Service("ssm", "AmazonSSM", "1.1");
/// Secrets.
pub const SECRETS: Service = Service("secretsmanager", "secretsmanager", "1.1");

/// The account that the environment names.
#[derive(Clone, Debug)]
pub struct Aws {
    http: reqwest::Client,
    endpoint: String,
    region: String,
    identity: Identity,
}

/// What an invoked function gave back.
#[derive(Clone, Debug)]
pub struct Invoked {
    /// What it returned, or its error.
    pub payload: Value,
    /// Whether the invocation failed: an error, a time-out, a process that died.
    pub failed: bool,
}

impl Aws {
    /// The account that the environment names.
    ///
    /// # Errors
    /// When it names none.
    pub fn from_env() -> anyhow::Result<Self> {
        let (key, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        Ok(Self {
            // A function may take two minutes.
            http: http_client(Duration::from_secs(150))?,
            endpoint: variable("AWS_ENDPOINT_URL")?.trim_end_matches('/').to_owned(),
            region: variable("AWS_REGION")?,
            identity: Credentials::new(key, secret, None, None, "environment").into(),
        })
    }

    /// The address of the stack.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Waits until a service answers: emulators start theirs when they are first asked, and fail those who ask meanwhile.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ready(&self, service: Service, harmless_action: &str) -> anyhow::Result<()> {
        super::eventually(service.0, async || {
            self.call(service, harmless_action, json!({})).await.map(|_| Some(()))
        })
        .await
    }

    /// One action of a service that speaks JSON.
    ///
    /// # Errors
    /// When it was not done; the text holds the service's error.
    pub async fn call(&self, service: Service, action: &str, body: Value) -> anyhow::Result<Value> {
        let Service(name, prefix, version) = service;
        let headers = [
            ("content-type", format!("application/x-amz-json-{version}")),
            ("x-amz-target", format!("{prefix}.{action}")),
        ];
        let (status, _, bytes) = self
            .send(name, "/", &headers, body.to_string().into_bytes())
            .await
            .with_context(|| format!("{name} {action}"))?;
        if status != 200 {
            bail!("{name} {action} answered {status}: {}", String::from_utf8_lossy(&bytes));
        }
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).with_context(|| format!("{name} {action}: no JSON"))
    }

    /// One action of a service that speaks the older protocol of forms and XML; returns the XML.
    ///
    /// # Errors
    /// When it was not done; the text holds the service's error.
    pub async fn form(&self, service: &'static str, fields: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut form = reqwest::Url::parse("form:")?;
        form.query_pairs_mut().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned().into_bytes();
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        let (status, _, bytes) = self.send(service, "/", &headers, body).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        ensure!(status == 200, "{service} {fields:?} answered {status}: {text}");
        Ok(text)
    }

    /// Invokes a function and waits for what it returns.
    ///
    /// # Errors
    /// When it could not be invoked. A failure of the function is no error here.
    pub async fn invoke(&self, function: &str, event: &Value) -> anyhow::Result<Invoked> {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let headers = [("content-type", "application/json".to_owned())];
        let (status, headers, bytes) = self
            .send("lambda", &path, &headers, event.to_string().into_bytes())
            .await
            .with_context(|| format!("invoking {function}"))?;
        ensure!(
            status == 200,
            "invoking {function} answered {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(Invoked {
            payload: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            failed: headers.contains_key("x-amz-function-error"),
        })
    }

    /// All items of a table, or of one partition of it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn items(&self, table: &str) -> anyhow::Result<Vec<Value>> {
        let mut items = Vec::new();
        let mut from = None;
        loop {
            let mut request = json!({"TableName": table, "ConsistentRead": true});
            if let Some(from) = from.take() {
                request["ExclusiveStartKey"] = from;
            }
            let mut page = self.call(DYNAMODB, "Scan", request).await?;
            if let Value::Array(found) = page["Items"].take() {
                items.extend(found);
            }
            from = Some(page["LastEvaluatedKey"].take()).filter(|key| !key.is_null());
            if from.is_none() {
                return Ok(items);
            }
        }
    }

    /// The messages that a queue shows now, taken away when `take` says so.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn messages(&self, queue_url: &str, take: impl Fn(&Value) -> bool) -> anyhow::Result<Vec<Value>> {
        let mut taken = Vec::new();
        loop {
            let request = json!({
                "QueueUrl": queue_url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 5, "WaitTimeSeconds": 0,
                "AttributeNames": ["All"], "MessageAttributeNames": ["All"],
            });
            let mut page = self.call(SQS, "ReceiveMessage", request).await?;
            let Value::Array(messages) = page["Messages"].take() else {
                return Ok(taken);
            };
            if messages.is_empty() {
                return Ok(taken);
            }
            for message in messages {
                if take(&message) {
                    let handle = &message["ReceiptHandle"];
                    self.call(
                        SQS,
                        "DeleteMessage",
                        json!({"QueueUrl": queue_url, "ReceiptHandle": handle}),
                    )
                    .await?;
                    taken.push(message);
                }
            }
        }
    }

    /// Puts one record of any bytes into a stream.
    ///
    /// # Errors
    /// When the stream does not take it.
    pub async fn put_record(&self, stream: &str, data: &[u8], partition_key: &str) -> anyhow::Result<Value> {
        let request = json!({"StreamName": stream, "Data": STANDARD.encode(data), "PartitionKey": partition_key});
        self.call(KINESIS, "PutRecord", request).await
    }

    async fn send(
        &self,
        service: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> anyhow::Result<(u16, reqwest::header::HeaderMap, Vec<u8>)> {
        let url = format!("{}{path}", self.endpoint);
        let mut request = self.http.post(&url);
        for (name, value) in self.signature(service, &url, headers, &body)? {
            request = request.header(name, value);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let response = request.body(body).send().await.context("no answer")?;
        read(response, MAX_ANSWER_BYTES).await
    }

    fn signature(
        &self,
        service: &str,
        url: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> anyhow::Result<Vec<(String, String)>> {
        let now = u64::try_from(super::now_ms()).unwrap_or_default();
        let params = v4::SigningParams::builder()
            .identity(&self.identity)
            .region(&self.region)
            .name(service)
            .time(UNIX_EPOCH + Duration::from_millis(now))
            .settings(SigningSettings::default())
            .build()?
            .into();
        let covered = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let request = SignableRequest::new("POST", url, covered, SignableBody::Bytes(body))?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        Ok(instructions
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}
