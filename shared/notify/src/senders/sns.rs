//! People's own SNS topics: a subject, a text, and attributes that subscriptions can filter by.

use super::text;
use crate::notification::Notification;
use crate::templates::Texts;
use tidemark_model::Timestamp;

/// The longest subject, in bytes. SNS takes 100 printable ASCII characters.
const MAX_SUBJECT_BYTES: usize = 100;

/// The most bytes of the text: a message with its attributes may have 256 KiB.
const MAX_TEXT_BYTES: usize = 65_536;

/// What is published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The subject.
    pub(crate) subject: String,
    /// The text.
    pub(crate) text: String,
    /// The attributes.
    pub(crate) attributes: [(&'static str, String); 3],
}

/// The message.
pub(crate) fn message(notification: &Notification, texts: &Texts, now: Timestamp) -> Message {
    Message {
        subject: subject(&texts.title),
        text: texts.plain_body(notification, now, MAX_TEXT_BYTES),
        attributes: [
            ("status", notification.status.as_str().to_owned()),
            ("severity", text::worst(notification).as_str().to_owned()),
            ("channel", notification.channel.clone()),
        ],
    }
}

/// SNS refuses a subject with anything but printable ASCII, or one that begins with a space or is empty.
fn subject(title: &str) -> String {
    let ascii = title.chars().map(|c| match c {
        ' '..='~' => c,
        c if c.is_control() => ' ',
        _ => '?',
    });
    let subject: String = ascii
        .collect::<String>()
        .trim()
        .chars()
        .take(MAX_SUBJECT_BYTES)
        .collect();
    if subject.is_empty() {
        "Tidemark".to_owned()
    } else {
        subject
    }
}
