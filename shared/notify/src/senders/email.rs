//! Mail: a subject and plain text.

use super::text;
use crate::notification::Notification;
use crate::sender::Mail;
use crate::templates::Texts;
use tidemark_model::Timestamp;

/// The most bytes of the text: what a mail program shows at once.
const MAX_TEXT_BYTES: usize = 65_536;

/// The longest subject, in bytes: encoded it still fits the 998 of a header line.
const MAX_SUBJECT_BYTES: usize = 240;

/// The mail.
pub(crate) fn mail<'a>(
    from: &'a str,
    to: &'a [String],
    notification: &'a Notification,
    texts: &Texts,
    now: Timestamp,
) -> Mail<'a> {
    let mut body = texts.plain_body(notification, now, MAX_TEXT_BYTES);
    body.push_str("\n-- \nSent by Tidemark to the channel ");
    body.push_str(&notification.channel);
    body.push('\n');
    Mail {
        from,
        to,
        // One line, whatever a template or a label says: a line break would begin another header.
        subject: text::cut(&text::one_line(&texts.title), MAX_SUBJECT_BYTES),
        text: body,
        id: &notification.id,
    }
}
