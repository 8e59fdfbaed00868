//! Amazon SES: how mail leaves.

use crate::error::delivery_failure;
use crate::pace::Pace;
use aws_sdk_sesv2::Client;
use aws_sdk_sesv2::types::{Body, Content, Destination, EmailContent, Message, MessageHeader};
use std::time::Duration;
use tidemark_notify::Failure;
use tidemark_notify::sender::{Mail, SendMail};

/// The header that holds the idempotency key. SES gives a mail a `Message-ID` of its own.
pub const ID_HEADER: &str = "X-Tidemark-Notification-Id";

/// How long sending one mail may take, repeats by the SDK included.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Sends mail by SES.
#[derive(Debug)]
pub struct Mailer {
    client: Client,
    pace: Pace,
}

impl Mailer {
    /// A mailer.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::with(client, Pace::real())
    }

    /// A mailer that waits in another way.
    #[must_use]
    pub fn with(client: Client, pace: Pace) -> Self {
        Self { client, pace }
    }
}

/// UTF-8, in the encoding that SES chooses.
fn utf8(text: impl Into<String>) -> Result<Content, Failure> {
    Content::builder()
        .data(text)
        .charset("UTF-8")
        .build()
        .map_err(|error| Failure::Permanent {
            reason: error.to_string(),
        })
}

impl SendMail for Mailer {
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), Failure> {
        let header = MessageHeader::builder()
            .name(ID_HEADER)
            .value(mail.id)
            .build()
            .map_err(|error| Failure::Permanent {
                reason: error.to_string(),
            })?;
        // A subject is one line.
        let subject: String = mail
            .subject
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        let message = Message::builder()
            .subject(utf8(subject)?)
            .body(Body::builder().text(utf8(&mail.text)?).build())
            .headers(header)
            .build();
        let call = self
            .client
            .send_email()
            .from_email_address(mail.from)
            .destination(Destination::builder().set_to_addresses(Some(mail.to.to_vec())).build())
            .content(EmailContent::builder().simple(message).build())
            .send();
        match self.pace.within(SEND_LIMIT).run(Box::pin(call)).await {
            None => Err(Failure::Timeout),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(delivery_failure("SES", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Script, Time};
    use serde_json::json;

    fn mail<'a>(to: &'a [String], subject: &str) -> Mail<'a> {
        Mail {
            from: "Tidemark <alerts@example.org>",
            to,
            subject: subject.into(),
            text: "web-01 at 99\nand more".into(),
            id: "channel#mail.1",
        }
    }

    async fn send(script: &Script) -> Result<(), Failure> {
        let to = ["a@example.org".to_owned(), "b@example.org".to_owned()];
        let mailer = Mailer::with(script.clients().sesv2(), Time::new(0.5).pace());
        mailer.send_mail(&mail(&to, "[FIRING:1] größe\r\nBcc: x")).await
    }

    #[tokio::test]
    async fn a_mail_goes_to_all_with_its_key_as_a_header() {
        let script = Script::new([Reply::Json(json!({"MessageId": "m"}))]);
        send(&script).await.unwrap();
        assert_eq!(
            script.calls()[0].body,
            json!({
                "FromEmailAddress": "Tidemark <alerts@example.org>",
                "Destination": {"ToAddresses": ["a@example.org", "b@example.org"]},
                "Content": {"Simple": {
                    "Subject": {"Data": "[FIRING:1] größe  Bcc: x", "Charset": "UTF-8"},
                    "Body": {"Text": {"Data": "web-01 at 99\nand more", "Charset": "UTF-8"}},
                    "Headers": [{"Name": "X-Tidemark-Notification-Id", "Value": "channel#mail.1"}],
                }},
            })
        );
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let outcome = async |reply: Reply| {
            let script = Script::answering(move |_| reply.clone());
            send(&script).await.unwrap_err()
        };
        for code in ["TooManyRequestsException", "LimitExceededException"] {
            let failure = outcome(Reply::error(429, code)).await;
            assert!(matches!(failure, Failure::Throttled { status: 429, .. }), "{failure:?}");
        }
        for code in [
            "MessageRejected",
            "MailFromDomainNotVerifiedException",
            "AccountSuspendedException",
            "BadRequestException",
            "AccessDeniedException",
        ] {
            assert_eq!(
                outcome(Reply::error(400, code)).await,
                Failure::Permanent {
                    reason: format!("SES refused it: {code}: scripted")
                }
            );
        }
        assert!(matches!(
            outcome(Reply::error(403, "ExpiredTokenException")).await,
            Failure::Unreachable { .. }
        ));
        assert_eq!(
            outcome(Reply::error(503, "ServiceUnavailable")).await,
            Failure::Server { status: 503 }
        );
        assert!(matches!(outcome(Reply::Reset).await, Failure::Unreachable { .. }));
    }
}
