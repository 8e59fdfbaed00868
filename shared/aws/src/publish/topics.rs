//! Publishing to people's topics.

use crate::error::delivery_failure;
use crate::pace::Pace;
use aws_sdk_sns::types::MessageAttributeValue;
use aws_sdk_sns::{Client, config};
use aws_types::region::Region;
use std::time::Duration;
use tidemark_notify::Failure;
use tidemark_notify::sender::PublishTopic;

/// The most characters of a subject.
const SUBJECT_CHARS: usize = 99;

/// How long a publication may take, repeats by the SDK included.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);

/// Publishes to topics that people name, in any region.
#[derive(Debug)]
pub struct TopicPublisher {
    client: Client,
    pace: Pace,
}

impl TopicPublisher {
    /// A publisher.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::with(client, Pace::real())
    }

    /// A publisher that waits in another way.
    #[must_use]
    pub fn with(client: Client, pace: Pace) -> Self {
        Self { client, pace }
    }
}

impl PublishTopic for TopicPublisher {
    async fn publish_topic(
        &self,
        topic_arn: &str,
        subject: &str,
        text: &str,
        attributes: &[(&str, String)],
    ) -> Result<(), Failure> {
        let mut call = self.client.publish().topic_arn(topic_arn).message(text);
        let subject = sns_subject(subject);
        if !subject.is_empty() {
            call = call.subject(subject);
        }
        // SNS knows no empty attribute.
        for (name, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            let value = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .map_err(|error| Failure::Permanent {
                    reason: error.to_string(),
                })?;
            call = call.message_attributes(*name, value);
        }
        let attempts = self.pace.within(PUBLISH_LIMIT);
        let sent = match region(topic_arn) {
            // A topic is published to where it is.
            Some(region) => {
                let there = config::Builder::new().region(Region::new(region.to_owned()));
                attempts
                    .run(Box::pin(call.customize().config_override(there).send()))
                    .await
            }
            None => attempts.run(Box::pin(call.send())).await,
        };
        match sent {
            None => Err(Failure::Timeout),
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(delivery_failure("SNS", &error)),
        }
    }
}

/// The region in an ARN.
fn region(arn: &str) -> Option<&str> {
    arn.split(':').nth(3).filter(|region| !region.is_empty())
}

/// What SNS takes as a subject: one short line.
fn sns_subject(subject: &str) -> String {
    let line: String = subject
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SUBJECT_CHARS)
        .collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Script, Time};

    const TOPIC: &str = "arn:aws:sns:eu-west-1:1:people";

    fn publisher(script: &Script) -> TopicPublisher {
        TopicPublisher::with(script.clients().sns(), Time::new(0.5).pace())
    }

    fn published() -> Reply {
        Reply::Xml(
            "<PublishResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><PublishResult><MessageId>m</MessageId>\
             </PublishResult></PublishResponse>"
                .into(),
        )
    }

    fn refused(status: u16, code: &str) -> Reply {
        Reply::XmlError(
            status,
            format!(
                "<ErrorResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type><Code>{code}</Code>\
                 <Message>scripted</Message></Error><RequestId>r</RequestId></ErrorResponse>"
            ),
        )
    }

    #[tokio::test]
    async fn a_message_goes_to_the_region_of_its_topic() {
        let script = Script::new([published()]);
        let attributes = [("status", "firing".to_owned()), ("severity", String::new())];
        publisher(&script)
            .publish_topic(TOPIC, "[FIRING:1] high\ncpu", "web-01 at 99", &attributes)
            .await
            .unwrap();
        let call = &script.calls()[0];
        for part in [
            "Action=Publish&",
            "TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A1%3Apeople",
            "Subject=%5BFIRING%3A1%5D%20high%20cpu",
            "Message=web-01%20at%2099",
            "MessageAttributes.entry.1.Name=status",
            "MessageAttributes.entry.1.Value.StringValue=firing",
        ] {
            assert!(call.text.contains(part), "{part} in {}", call.text);
        }
        assert!(!call.text.contains("severity"), "{}", call.text);
        assert!(call.authorization.contains("/eu-west-1/sns/"), "{}", call.authorization);
    }

    #[tokio::test]
    async fn subjects_are_one_short_line() {
        assert_eq!(sns_subject(" \t\n "), "");
        assert_eq!(sns_subject(&"ж".repeat(200)).chars().count(), 99);
        let script = Script::new([published()]);
        publisher(&script)
            .publish_topic(TOPIC, "\n", "text", &[])
            .await
            .unwrap();
        assert!(!script.calls()[0].text.contains("Subject"));
    }

    #[tokio::test]
    async fn failures_are_told_apart() {
        let outcome = async |reply: Reply| {
            let script = Script::answering(move |_| reply.clone());
            publisher(&script)
                .publish_topic(TOPIC, "s", "t", &[])
                .await
                .unwrap_err()
        };
        assert!(matches!(
            outcome(refused(400, "Throttling")).await,
            Failure::Throttled { .. }
        ));
        assert_eq!(
            outcome(refused(404, "NotFound")).await,
            Failure::Permanent {
                reason: "SNS refused it: NotFound: scripted".into()
            }
        );
        assert!(matches!(
            outcome(refused(403, "AuthorizationError")).await,
            Failure::Permanent { .. }
        ));
        assert_eq!(
            outcome(refused(500, "InternalError")).await,
            Failure::Server { status: 500 }
        );
        assert!(matches!(outcome(Reply::Reset).await, Failure::Unreachable { .. }));
    }
}
