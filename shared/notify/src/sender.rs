//! Who delivers notifications: [`crate::senders::Senders`] for real, [`crate::RecordingSender`] in memory; and what they need from the
//! outside.

use crate::channel::ChannelSpec;
use crate::notification::Notification;
use crate::retry::Failure;
use tidemark_model::Timestamp;

/// Where a notification goes.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A configured channel.
    Channel(&'a ChannelSpec),
    /// A rule's own `webhook_url`.
    Webhook {
        /// Where to.
        url: &'a str,
    },
}

/// Delivers notifications.
pub trait Deliver: Send + Sync {
    /// Makes one attempt. `Ok` means that the receiver took it. It may have taken it even when this answers with a failure, except
    /// [`Failure::Permanent`] and [`Failure::Throttled`]. It ends within [`crate::http::TOTAL_TIMEOUT`] whatever the receiver does.
    fn deliver(
        &self,
        target: Target<'_>,
        notification: &Notification,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail<'a> {
    /// From whom.
    pub from: &'a str,
    /// To whom.
    pub to: &'a [String],
    /// The subject.
    pub subject: String,
    /// The text.
    pub text: String,
    /// The idempotency key, as a header.
    pub id: &'a str,
}

/// Sends mail: Amazon SES (`tidemark-aws`).
pub trait SendMail: Send + Sync {
    /// Sends one mail.
    fn send_mail(&self, mail: &Mail<'_>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Publishes to people's topics: Amazon SNS (`tidemark-aws`).
pub trait PublishTopic: Send + Sync {
    /// Publishes one message.
    fn publish_topic(
        &self,
        topic_arn: &str,
        subject: &str,
        text: &str,
        attributes: &[(&str, String)],
    ) -> impl Future<Output = Result<(), Failure>> + Send;
}
