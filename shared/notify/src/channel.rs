//! Channels (Alertmanager calls them receivers): configured once by API, named by rules.

use crate::secret::SecretRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidemark_model::Timestamp;
use tidemark_rules::Routing;
use url::{Host, Url};

mod parse;

/// A stored channel. Its JSON is flat: what the API answers and what the store keeps. It holds no secret, only references.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name, chosen by its author; never changes.
    pub id: String,
    /// What the author wrote.
    #[serde(flatten)]
    pub spec: ChannelSpec,
    /// 1 at first, one more with each change.
    pub version: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What a user writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelSpec {
    /// Where it leads. Its fields stand beside the others in JSON, with `type`.
    #[serde(flatten)]
    pub receiver: Receiver,
    /// How alerts reach it, unless a rule says otherwise.
    #[serde(flatten)]
    pub routing: Routing,
    /// How many notifications it takes; over that, a digest.
    #[serde(default)]
    pub rate_limit: RateLimit,
    /// A template for the title (subject); `None`: the receiver's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// A template for the text; `None`: the receiver's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// A token bucket: it holds `notifications`, and fills from empty in `per_seconds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// How many notifications.
    pub notifications: u32,
    /// In how many seconds.
    pub per_seconds: u64,
}

impl Default for RateLimit {
    /// Thirty a minute: below what Slack, PagerDuty and mail providers take, and more than a person reads.
    fn default() -> Self {
        Self {
            notifications: 30,
            per_seconds: 60,
        }
    }
}

/// Where a channel leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Receiver {
    /// Posts Alertmanager's JSON (version 4).
    Webhook {
        /// Where to: an address, or a reference to a secret that holds one.
        url: Address,
        /// Signs the body. The first key is the current one; while keys are changed, a signature is sent for each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        signing_keys: Vec<SigningKey>,
        /// Further headers, as `authorization`; their values are references.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        headers: BTreeMap<String, SecretRef>,
    },
    /// Sends mail by Amazon SES.
    Email {
        /// From whom: an identity that SES has verified.
        from: String,
        /// To whom.
        to: Vec<String>,
    },
    /// PagerDuty's Events API, version 2.
    Pagerduty {
        /// The integration key.
        routing_key: SecretRef,
        /// Where to; PagerDuty's own address unless told otherwise (the EU region has another).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        api_url: Option<String>,
    },
    /// A Slack incoming webhook.
    Slack {
        /// Its address, which is the secret.
        webhook_url: SecretRef,
    },
    /// Publishes to an SNS topic, which may have mail, SMS or Lambda subscribers.
    Sns {
        /// The topic.
        topic_arn: String,
    },
    /// A Microsoft Teams workflow ("post to a channel when a webhook request is received").
    Teams {
        /// Its address, which is the secret.
        webhook_url: SecretRef,
    },
}

/// A key that signs webhooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningKey {
    /// Named in the signature, so that a receiver knows which key to check with.
    pub id: String,
    /// The key.
    pub secret: SecretRef,
}

/// Whether what is sent to an address is read by nobody on the way: it goes by TLS, or stays on this machine. A name is not judged by
/// what it resolves to, which may change.
pub(crate) fn is_private(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(_)) | None => false,
    };
    url.scheme() == "https" || is_loopback
}

/// An address in clear, or a reference to one. In JSON a text: a reference begins with `ssm:` or `secretsmanager:`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Address {
    /// A reference.
    Secret(SecretRef),
    /// A URL.
    Plain(String),
}
