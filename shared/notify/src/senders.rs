//! Delivers notifications to real receivers. The cast: the *poster* ([`crate::http`]) is the one way out over HTTP; *secrets* are read
//! when they are needed and never shown; *mail* and *topics* are services of AWS. One file here for each kind of receiver says what is sent
//! to it, as a pure function of the notification; `text` is what they say when a channel has no templates.
//!
//! **Size.** Every receiver has a limit, and every form keeps to it, whatever the number of alerts: the text says how many more there are.
//! A page is never refused for being too long.

use crate::channel::{Address, ChannelSpec, Receiver, SigningKey, is_private};
use crate::http::{Post, Poster, TOTAL_TIMEOUT};
use crate::notification::Notification;
use crate::retry::Failure;
use crate::secret::{SecretRef, Secrets};
use crate::sender::{Deliver, PublishTopic, SendMail, Target};
use crate::templates::{self, Escapes, Texts};
use reqwest::header::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tidemark_model::Timestamp;
use url::Url;

mod email;
pub mod pagerduty;
mod slack;
mod sns;
mod teams;
pub(crate) mod text;
pub mod webhook;

const PLAIN: Escapes = Escapes {
    title: templates::plain,
    body: templates::plain,
};

const SLACK: Escapes = Escapes {
    title: slack::escape,
    body: slack::escape,
};

const TEAMS: Escapes = Escapes {
    title: templates::plain,
    body: teams::escape,
};

/// Delivers to every kind of receiver.
pub struct Senders<S, M, T> {
    poster: Poster,
    secrets: S,
    mail: M,
    topics: T,
    total_timeout: Duration,
    render_timeout: Duration,
}

/// How long templates may take; the rest of [`TOTAL_TIMEOUT`] is for sending.
const RENDER_TIMEOUT: Duration = Duration::from_secs(2);

impl<S: Secrets, M: SendMail, T: PublishTopic> Senders<S, M, T> {
    /// Senders that reach receivers through these.
    pub fn new(poster: Poster, secrets: S, mail: M, topics: T) -> Self {
        Self {
            poster,
            secrets,
            mail,
            topics,
            total_timeout: TOTAL_TIMEOUT,
            render_timeout: RENDER_TIMEOUT,
        }
    }

    async fn to_channel(&self, spec: &ChannelSpec, notification: &Notification, now: Timestamp) -> Result<(), Failure> {
        match &spec.receiver {
            Receiver::Webhook {
                url,
                signing_keys,
                headers,
            } => {
                let headers = self.secret_headers(headers).await?;
                let keys = self.keys(signing_keys).await?;
                match url {
                    Address::Plain(url) => self.webhook(url, headers, &keys, notification, now).await,
                    Address::Secret(reference) => {
                        let url = self.secret(reference).await?;
                        let url = usable_url(&url, reference, !headers.is_empty())?;
                        self.webhook(url, headers, &keys, notification, now).await
                    }
                }
            }
            Receiver::Email { from, to } => {
                let mail = email::mail(
                    from,
                    to,
                    notification,
                    &self.texts(spec, notification, now, PLAIN).await,
                    now,
                );
                self.mail.send_mail(&mail).await
            }
            Receiver::Pagerduty { routing_key, api_url } => {
                let key = self.secret(routing_key).await?;
                let url = api_url.as_deref().unwrap_or(pagerduty::API_URL);
                let body = pagerduty::body(
                    notification,
                    &self.texts(spec, notification, now, PLAIN).await,
                    key.expose_secret().trim(),
                    now,
                );
                self.json(url, &body, now).await
            }
            Receiver::Slack { webhook_url } => {
                let body = slack::body(notification, &self.texts(spec, notification, now, SLACK).await, now);
                self.to_secret_url(webhook_url, &body, now).await
            }
            Receiver::Teams { webhook_url } => {
                let body = teams::body(notification, &self.texts(spec, notification, now, TEAMS).await, now);
                self.to_secret_url(webhook_url, &body, now).await
            }
            Receiver::Sns { topic_arn } => {
                self.topic(
                    topic_arn,
                    notification,
                    &self.texts(spec, notification, now, PLAIN).await,
                    now,
                )
                .await
            }
        }
    }

    /// What the channel says. Templates are rendered on a thread of their own: one that takes long, or finds a fault in the engine, keeps
    /// nobody from being paged.
    async fn texts(&self, spec: &ChannelSpec, notification: &Notification, now: Timestamp, escapes: Escapes) -> Texts {
        if spec.title.is_none() && spec.body.is_none() {
            return templates::render(spec, notification, now, escapes);
        }
        let (spec, told) = (spec.clone(), notification.clone());
        let rendering = tokio::task::spawn_blocking(move || templates::render(&spec, &told, now, escapes));
        match tokio::time::timeout(self.render_timeout, rendering).await {
            Ok(Ok(texts)) => texts,
            Ok(Err(_)) => templates::fallback(notification, escapes, "could not be rendered"),
            Err(_) => templates::fallback(notification, escapes, "took too long"),
        }
    }

    async fn webhook(
        &self,
        url: &str,
        mut headers: Vec<(HeaderName, HeaderValue)>,
        keys: &[(&str, SecretString)],
        notification: &Notification,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let body = webhook::body(notification).map_err(unwritable)?;
        let seconds = now.0.div_euclid(1_000);
        let mut of_tidemark = vec![
            (webhook::IDEMPOTENCY_HEADER, notification.id.clone()),
            (webhook::TIMESTAMP_HEADER, seconds.to_string()),
        ];
        if !keys.is_empty() {
            of_tidemark.push((webhook::SIGNATURE_HEADER, webhook::signature(keys, seconds, &body)));
        }
        for (name, value) in of_tidemark {
            let value = HeaderValue::try_from(value).map_err(|_| Failure::Permanent {
                reason: format!("the value of {name} is none for a header"),
            })?;
            headers.push((HeaderName::from_static(name), value));
        }
        let url = url.trim();
        self.poster.post(Post { url, body, headers }, now).await
    }

    /// The address is a secret as a whole.
    async fn to_secret_url(&self, reference: &SecretRef, body: &Value, now: Timestamp) -> Result<(), Failure> {
        let url = self.secret(reference).await?;
        self.json(usable_url(&url, reference, false)?, body, now).await
    }

    async fn json(&self, url: &str, body: &Value, now: Timestamp) -> Result<(), Failure> {
        let post = Post {
            url,
            body: serde_json::to_vec(body).map_err(unwritable)?,
            headers: Vec::new(),
        };
        self.poster.post(post, now).await
    }

    async fn topic(
        &self,
        topic_arn: &str,
        notification: &Notification,
        texts: &Texts,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let message = sns::message(notification, texts, now);
        self.topics
            .publish_topic(topic_arn, &message.subject, &message.text, &message.attributes)
            .await
    }

    async fn secret(&self, reference: &SecretRef) -> Result<SecretString, Failure> {
        let secret = self.secrets.read(reference).await.map_err(|error| Failure::Secret {
            reason: error.to_string(),
        })?;
        if secret.expose_secret().trim().is_empty() {
            return Err(unusable(reference, "is blank"));
        }
        Ok(secret)
    }

    async fn keys<'a>(&self, keys: &'a [SigningKey]) -> Result<Vec<(&'a str, SecretString)>, Failure> {
        let mut read = Vec::with_capacity(keys.len());
        for key in keys {
            read.push((key.id.as_str(), self.secret(&key.secret).await?));
        }
        Ok(read)
    }

    async fn secret_headers(
        &self,
        headers: &BTreeMap<String, SecretRef>,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, Failure> {
        let mut read = Vec::with_capacity(headers.len());
        for (name, reference) in headers {
            let secret = self.secret(reference).await?;
            let unusable = || unusable(reference, "is no value for a header");
            let mut value = HeaderValue::from_str(secret.expose_secret().trim()).map_err(|_| unusable())?;
            // Not shown by Debug.
            value.set_sensitive(true);
            // The name was checked when the channel was written.
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unusable())?;
            read.push((name, value));
        }
        Ok(read)
    }
}

impl<S: Secrets, M: SendMail, T: PublishTopic> Deliver for Senders<S, M, T> {
    async fn deliver(&self, target: Target<'_>, notification: &Notification, now: Timestamp) -> Result<(), Failure> {
        let attempt = async {
            match target {
                Target::Channel(spec) => self.to_channel(spec, notification, now).await,
                Target::Webhook { url } => self.webhook(url, Vec::new(), &[], notification, now).await,
            }
        };
        // Also what is read for it, and what has a time limit of its own: a lease is only held for so long.
        match tokio::time::timeout(self.total_timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout),
        }
    }
}

fn unusable(reference: &SecretRef, why: &str) -> Failure {
    Failure::Secret {
        reason: format!("the secret {reference} {why}"),
    }
}

/// The address that a secret holds. One that is none is tried again: somebody may put it right.
fn usable_url<'a>(secret: &'a SecretString, reference: &SecretRef, has_headers: bool) -> Result<&'a str, Failure> {
    let text = secret.expose_secret().trim();
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.filter(|url| url.host_str().is_some_and(|host| !host.is_empty()));
    let url = url.ok_or_else(|| unusable(reference, "is no http:// or https:// URL"))?;
    if has_headers && !is_private(&url) {
        return Err(unusable(
            reference,
            "must be an https:// URL, because secret headers are sent to it",
        ));
    }
    Ok(text)
}

fn unwritable(error: serde_json::Error) -> Failure {
    Failure::Permanent {
        reason: format!("the message could not be written: {error}"),
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
