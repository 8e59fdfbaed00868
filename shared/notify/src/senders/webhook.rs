//! The body of a webhook: Alertmanager's JSON, version 4 (its `template.Data` and `webhook.Message`), so that receivers written for it work
//! unchanged, and in each alert what Tidemark knows besides. And its signature.

use crate::notification::{Alert, Notification};
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use tidemark_model::{Timestamp, value};
use tidemark_rules::{TransitionKind, TransitionReason};

/// The version of Alertmanager's format.
const VERSION: &str = "4";

/// Alertmanager's "no time": Go's zero time.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// The most bytes of the alerts of one body. Many a proxy takes no body of more than 1 MiB; what is over is counted in
/// `truncatedAlerts`, as Alertmanager does.
pub const MAX_ALERTS_BYTES: usize = 900_000;

/// The header with the time at which a webhook was sent, in Unix seconds.
pub const TIMESTAMP_HEADER: &str = "x-tidemark-timestamp";

/// The header with the signatures, see [`signature`].
pub const SIGNATURE_HEADER: &str = "x-tidemark-signature";

/// The header with [`Notification::id`], the same on each attempt.
pub const IDEMPOTENCY_HEADER: &str = "idempotency-key";

type Texts<'a> = BTreeMap<&'a str, &'a str>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    version: &'static str,
    group_key: &'a str,
    truncated_alerts: usize,
    status: TransitionKind,
    receiver: &'a str,
    group_labels: &'a BTreeMap<String, String>,
    common_labels: Texts<'a>,
    common_annotations: Texts<'a>,
    #[serde(rename = "externalURL")]
    external_url: &'static str,
    alerts: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertBody<'a> {
    status: TransitionKind,
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'static str,
    fingerprint: &'a str,
    // What follows is Tidemark's.
    #[serde(rename = "instance_id")]
    instance_id: &'a str,
    reason: TransitionReason,
    #[serde(with = "value")]
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<&'a Value>,
    rule: RuleBody<'a>,
}

#[derive(Serialize)]
struct RuleBody<'a> {
    id: &'a str,
    name: &'a str,
    version: u64,
    severity: &'static str,
    // What it asks of the data: a rule's JSON is flat.
    #[serde(flatten)]
    query: Option<&'a Map<String, Value>>,
}

impl<'a> AlertBody<'a> {
    fn of(alert: &'a Alert) -> Self {
        let rule = &alert.rule;
        Self {
            status: alert.status,
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: alert.starts_at.to_rfc3339(),
            ends_at: alert.ends_at.map_or_else(|| NO_TIME.to_owned(), Timestamp::to_rfc3339),
            generator_url: "",
            fingerprint: &alert.fingerprint,
            instance_id: &alert.instance_id,
            reason: alert.reason,
            value: alert.value,
            threshold: rule.query.get("threshold"),
            rule: RuleBody {
                id: &rule.id,
                name: &rule.name,
                version: rule.version,
                severity: rule.severity.as_str(),
                query: rule.query.as_object(),
            },
        }
    }
}

/// The body that tells a notification.
///
/// # Errors
/// None that is known: all of it has a JSON.
pub fn body(notification: &Notification) -> Result<Vec<u8>, serde_json::Error> {
    let mut alerts = Vec::with_capacity(notification.alerts.len());
    let mut bytes = 0;
    for alert in &notification.alerts {
        let json = to_raw_value(&AlertBody::of(alert))?;
        bytes += json.get().len() + 1;
        // One alert is always told, whatever its size.
        if bytes > MAX_ALERTS_BYTES && !alerts.is_empty() {
            break;
        }
        alerts.push(json);
    }
    let left_out = notification.alerts.len() - alerts.len();
    serde_json::to_vec(&Message {
        version: VERSION,
        group_key: &notification.group_key,
        truncated_alerts: notification.truncated_alerts.saturating_add(left_out),
        status: notification.status,
        receiver: &notification.channel,
        group_labels: &notification.group_labels,
        common_labels: notification.common_labels(),
        common_annotations: notification.common_annotations(),
        external_url: "",
        alerts,
    })
}

/// The value of [`SIGNATURE_HEADER`]: `t=<Unix seconds>,<key id>=<hex>[,<key id>=<hex>...]`, with for each key the HMAC-SHA256 of
/// `<Unix seconds>.<body>` over the exact bytes that are sent. The time is signed as well, so that an old message cannot be sent again.
#[must_use]
pub fn signature(keys: &[(&str, SecretString)], unix_seconds: i64, body: &[u8]) -> String {
    let mut signature = format!("t={unix_seconds}");
    for (id, key) in keys {
        // A key of any length is taken.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()) else {
            continue;
        };
        mac.update(format!("{unix_seconds}.").as_bytes());
        mac.update(body);
        let _ = write!(signature, ",{id}={}", hex(&mac.finalize().into_bytes()));
    }
    signature
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests;
