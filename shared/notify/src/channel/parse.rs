//! From a request's JSON to a channel that is valid as a whole.

use super::{Address, ChannelSpec, RateLimit, Receiver, SigningKey, is_private};
use crate::secret::{MAX_REFERENCE_BYTES, SecretRef};
use crate::templates::{self, MAX_BODY_TEMPLATE_BYTES, MAX_TITLE_TEMPLATE_BYTES};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tidemark_rules::rule::fields::{self, Field, invalid};
use tidemark_rules::{InvalidField, Routing};
use url::Url;

/// The most notifications of a rate limit: more than any receiver takes.
const MAX_NOTIFICATIONS: u64 = 10_000;

/// The longest period of a rate limit, in seconds: a day.
const MAX_PER_SECONDS: u64 = 86_400;

/// The most keys that sign at a time: the old one, the new one, and one to spare.
const MAX_SIGNING_KEYS: usize = 3;

/// The longest id of a signing key, in bytes.
const MAX_KEY_ID_BYTES: usize = 64;

/// The most further headers of a webhook.
const MAX_HEADERS: usize = 16;

/// The longest name of a header, in bytes.
const MAX_HEADER_NAME_BYTES: usize = 100;

/// The longest address of a mailbox, in bytes (RFC 5321).
const MAX_MAILBOX_BYTES: usize = 254;

/// The most mailboxes of a channel: what SES takes in one mail.
const MAX_MAILBOXES: usize = 50;

/// The longest ARN, in bytes.
const MAX_ARN_BYTES: usize = 512;

/// Headers that the poster writes, or that change how the message is framed or routed.
const RESERVED_HEADERS: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl ChannelSpec {
    /// Reads a whole channel, for POST and PUT. `type` is required, and what its kind of receiver needs. Unknown fields, those of another
    /// kind, and those that only the server writes, are ignored.
    ///
    /// # Errors
    /// Names the first field that is wrong. A value that may be a secret is not repeated.
    pub fn parse(body: &Value) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let receiver = receiver(object)?;
        let template = |name, max_bytes| {
            let field = fields::optional(object, name);
            field.map(|field| template(field, max_bytes)).transpose()
        };
        let spec = Self {
            routing: Routing::parse(object, "")?,
            rate_limit: fields::optional(object, "rate_limit").map_or_else(|| Ok(RateLimit::default()), rate_limit)?,
            title: template("title", MAX_TITLE_TEMPLATE_BYTES)?,
            body: template("body", MAX_BODY_TEMPLATE_BYTES)?,
            receiver,
        };
        if let Receiver::Webhook { url, headers, .. } = &spec.receiver {
            if let (Address::Plain(url), false) = (url, headers.is_empty()) {
                check_private("url", url)?;
            }
            for (name, template) in [("title", &spec.title), ("body", &spec.body)] {
                if template.is_some() {
                    let reason = "is not for webhooks: what they post has one form, which programs read";
                    return Err(invalid(name, reason));
                }
            }
        }
        Ok(spec)
    }

    /// Applies a JSON merge patch (RFC 7396) to this channel: a field of the patch replaces, `null` takes back to the default, objects are
    /// merged. The result is checked as a whole.
    ///
    /// # Errors
    /// Names the first field that is wrong in the result.
    pub fn patched(&self, patch: &Value) -> Result<Self, InvalidField> {
        fields::object(patch)?;
        let mut whole = serde_json::to_value(self).map_err(|error| invalid("", error.to_string()))?;
        fields::merge(&mut whole, patch);
        Self::parse(&whole)
    }
}

fn receiver(object: &Map<String, Value>) -> Result<Receiver, InvalidField> {
    let kind = fields::required(object, "type")?;
    Ok(match kind.value.as_str() {
        Some("webhook") => Receiver::Webhook {
            url: fields::required(object, "url").and_then(address)?,
            signing_keys: fields::optional(object, "signing_keys").map_or_else(|| Ok(Vec::new()), signing_keys)?,
            headers: fields::optional(object, "headers").map_or_else(|| Ok(BTreeMap::new()), headers)?,
        },
        Some("email") => Receiver::Email {
            from: fields::required(object, "from").and_then(mailbox)?,
            to: fields::required(object, "to").and_then(mailboxes)?,
        },
        Some("pagerduty") => Receiver::Pagerduty {
            routing_key: fields::required(object, "routing_key").and_then(reference)?,
            api_url: fields::optional(object, "api_url").map(private_url).transpose()?,
        },
        Some("slack") => Receiver::Slack {
            webhook_url: fields::required(object, "webhook_url").and_then(reference)?,
        },
        Some("sns") => Receiver::Sns {
            topic_arn: fields::required(object, "topic_arn").and_then(topic_arn)?,
        },
        Some("teams") => Receiver::Teams {
            webhook_url: fields::required(object, "webhook_url").and_then(reference)?,
        },
        _ => return Err(kind.invalid("must be one of email, pagerduty, slack, sns, teams, webhook")),
    })
}

fn child<'a>(parent: &Field<'_>, name: &str, value: &'a Value) -> Field<'a> {
    Field {
        path: format!("{}.{name}", parent.path),
        value,
    }
}

/// A field of an object within the body.
fn required_in<'a>(parent: &Field<'a>, name: &str) -> Result<Field<'a>, InvalidField> {
    let object = parent
        .value
        .as_object()
        .ok_or_else(|| parent.invalid("must be an object"))?;
    fields::optional_in(object, &parent.path, name)
        .ok_or_else(|| invalid(format!("{}.{name}", parent.path), "is required"))
}

fn reference(field: Field<'_>) -> Result<SecretRef, InvalidField> {
    let text = fields::text(field.clone(), MAX_REFERENCE_BYTES)?;
    text.parse()
        .map_err(|error: crate::secret::NoReference| field.invalid(error.to_string()))
}

/// A URL, or a reference to a secret that holds one.
fn address(field: Field<'_>) -> Result<Address, InvalidField> {
    let text = field.value.as_str().unwrap_or_default();
    if text.starts_with("ssm:") || text.starts_with("secretsmanager:") {
        return reference(field).map(Address::Secret);
    }
    fields::http_url(field).map(Address::Plain)
}

/// A URL to which secrets are sent.
fn private_url(field: Field<'_>) -> Result<String, InvalidField> {
    let path = field.path.clone();
    let url = fields::http_url(field)?;
    check_private(&path, &url)?;
    Ok(url)
}

fn check_private(path: &str, url: &str) -> Result<(), InvalidField> {
    if Url::parse(url).is_ok_and(|url| is_private(&url)) {
        return Ok(());
    }
    let reason = "must begin with https:// because secrets are sent to it (http:// only to an address of the loopback)";
    Err(invalid(path, reason))
}

fn signing_keys(field: Field<'_>) -> Result<Vec<SigningKey>, InvalidField> {
    let values = field
        .value
        .as_array()
        .ok_or_else(|| field.invalid("must be a list of objects with id and secret"))?;
    if values.len() > MAX_SIGNING_KEYS {
        let reason = format!("has {} entries; at most {MAX_SIGNING_KEYS} are allowed", values.len());
        return Err(field.invalid(reason));
    }
    let mut keys: Vec<SigningKey> = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let entry = Field {
            path: format!("{}[{index}]", field.path),
            value,
        };
        let id_field = required_in(&entry, "id")?;
        let id = fields::text(id_field.clone(), MAX_KEY_ID_BYTES)?;
        // It stands in the signature's header, beside `t`.
        if id == "t" || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) {
            return Err(id_field.invalid("must consist of letters, digits, `_`, `-` and `.`, and not be `t`"));
        }
        if keys.iter().any(|key| key.id == id) {
            return Err(id_field.invalid("must be different for each key"));
        }
        let secret = reference(required_in(&entry, "secret")?)?;
        keys.push(SigningKey { id, secret });
    }
    Ok(keys)
}

fn headers(field: Field<'_>) -> Result<BTreeMap<String, SecretRef>, InvalidField> {
    let object = field
        .value
        .as_object()
        .ok_or_else(|| field.invalid("must be an object of references to secrets"))?;
    if object.len() > MAX_HEADERS {
        let reason = format!("has {} entries; at most {MAX_HEADERS} are allowed", object.len());
        return Err(field.invalid(reason));
    }
    let mut headers = BTreeMap::new();
    for (name, value) in object {
        let entry = child(&field, name, value);
        let name = name.to_ascii_lowercase();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > MAX_HEADER_NAME_BYTES || !name.bytes().all(is_token) {
            return Err(entry.invalid("is no name for a header"));
        }
        let reserved = ["x-tidemark-", "proxy-"];
        if RESERVED_HEADERS.contains(&name.as_str()) || reserved.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(entry.invalid("is a header that cannot be set"));
        }
        let path = entry.path.clone();
        if headers.insert(name, reference(entry)?).is_some() {
            return Err(invalid(path, "is there twice"));
        }
    }
    Ok(headers)
}

/// What a mail server can be asked to take: one address without a name, in ASCII, with nothing that could begin another header or another
/// address. Whether it exists is known when a mail is sent.
fn mailbox(field: Field<'_>) -> Result<String, InvalidField> {
    let text = fields::text(field.clone(), MAX_MAILBOX_BYTES)?;
    let is_local = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    let is_label = |label: &str| {
        let dashes = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && !dashes && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let is_good = text.split_once('@').is_some_and(|(local, domain)| {
        let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
        (1..=64).contains(&local.len()) && !dots && local.bytes().all(is_local) && domain.split('.').all(is_label)
    });
    if is_good {
        Ok(text)
    } else {
        Err(field.invalid("must be a mail address like alerts@example.org, without a name"))
    }
}

fn mailboxes(field: Field<'_>) -> Result<Vec<String>, InvalidField> {
    let values = field
        .value
        .as_array()
        .ok_or_else(|| field.invalid("must be a list of mail addresses"))?;
    if values.is_empty() || values.len() > MAX_MAILBOXES {
        return Err(field.invalid(format!("must have 1 to {MAX_MAILBOXES} entries")));
    }
    let mut all = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let path = format!("{}[{index}]", field.path);
        let one = mailbox(Field { path, value })?;
        if !all.contains(&one) {
            all.push(one);
        }
    }
    Ok(all)
}

/// `arn:<partition>:sns:<region>:<account>:<name>`. A FIFO topic wants a group for each message and has none of the subscribers that people
/// read.
fn topic_arn(field: Field<'_>) -> Result<String, InvalidField> {
    let text = fields::text(field.clone(), MAX_ARN_BYTES)?;
    let parts: Vec<&str> = text.split(':').collect();
    let word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let is_good = match parts.as_slice() {
        ["arn", partition, "sns", region, account, name] => {
            let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
            partition.starts_with("aws") && word(partition) && word(region) && digits && word(name) && name.len() <= 256
        }
        _ => false,
    };
    if is_good {
        Ok(text)
    } else {
        Err(field.invalid("must be the ARN of a standard SNS topic"))
    }
}

fn rate_limit(field: Field<'_>) -> Result<RateLimit, InvalidField> {
    let number = |name: &str, max: u64| {
        let field = required_in(&field, name)?;
        let number = field.value.as_u64().filter(|number| (1..=max).contains(number));
        number.ok_or_else(|| field.invalid(format!("must be a whole number from 1 to {max}")))
    };
    let notifications = number("notifications", MAX_NOTIFICATIONS)?;
    Ok(RateLimit {
        notifications: u32::try_from(notifications).unwrap_or(u32::MAX),
        per_seconds: number("per_seconds", MAX_PER_SECONDS)?,
    })
}

fn template(field: Field<'_>, max_bytes: usize) -> Result<String, InvalidField> {
    let text = fields::text(field.clone(), max_bytes)?;
    match templates::check(&text) {
        Ok(()) => Ok(text),
        Err(error) => Err(field.invalid(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
