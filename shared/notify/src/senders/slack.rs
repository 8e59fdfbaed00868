//! Slack's incoming webhooks: the title as the message's text, and one attachment, coloured by what is the matter, with a block for each
//! alert.

use super::text;
use crate::notification::{Alert, Notification};
use crate::templates::Texts;
use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_rules::{Severity, TransitionKind};

/// The most characters of a block's text, as Slack allows; counted in bytes here, which are no fewer.
const MAX_BLOCK_BYTES: usize = 3_000;

/// The most bytes of the block of one alert.
const MAX_ALERT_BYTES: usize = 1_500;

/// The most blocks of alerts or of a template's text; Slack allows 50 in a message.
const MAX_BLOCKS: usize = 20;

/// The most bytes of the title.
const MAX_TITLE_BYTES: usize = 1_000;

/// `mrkdwn` reads `<...>` as links and mentions, and `&` as the beginning of an entity: without this a label could call the whole channel.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The message.
pub(crate) fn body(notification: &Notification, texts: &Texts, now: Timestamp) -> Value {
    let title = cut(&texts.title, MAX_TITLE_BYTES);
    let mut blocks = Vec::new();
    match &texts.body {
        Some(body) => {
            let (parts, rest) = split(body);
            blocks.extend(parts.into_iter().map(section));
            if rest {
                blocks.push(context("The rest of the text is left out."));
            }
        }
        None => {
            let alerts = text::ordered(notification);
            let listed = alerts.len().min(MAX_BLOCKS);
            blocks.extend(
                alerts
                    .into_iter()
                    .take(listed)
                    .map(|alert| section(of_alert(alert, now))),
            );
            if let Some(line) = text::omitted(notification, listed) {
                blocks.push(context(&line));
            }
        }
    }
    if let Some(note) = &texts.note {
        blocks.push(context(&cut(&escape(note), MAX_BLOCK_BYTES)));
    }
    json!({
        "text": title,
        "attachments": [{"color": color(notification), "fallback": title, "blocks": blocks}],
    })
}

fn of_alert(alert: &Alert, now: Timestamp) -> String {
    let headline = text::cut(&text::headline(alert), 500);
    let mut text = format!("*{}:* {}", text::state(alert), escape(&headline));
    for line in text::details(alert, now) {
        text.push('\n');
        text.push_str(&escape(&line));
    }
    cut(&text, MAX_ALERT_BYTES)
}

fn section(text: impl AsRef<str>) -> Value {
    json!({"type": "section", "text": {"type": "mrkdwn", "text": text.as_ref()}})
}

fn context(text: &str) -> Value {
    json!({"type": "context", "elements": [{"type": "mrkdwn", "text": text}]})
}

/// Red, amber, blue; green when it is over.
fn color(notification: &Notification) -> &'static str {
    if notification.status != TransitionKind::Firing {
        return "#2EB67D";
    }
    match text::worst(notification) {
        Severity::Critical => "#E01E5A",
        Severity::Warning => "#ECB22E",
        Severity::Info => "#36C5F0",
    }
}

/// Cuts a text between its entities.
fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = whole_entities(text, max_bytes - '…'.len_utf8());
    format!("{}…", text.get(..end).unwrap_or_default())
}

/// The largest end of at most so many bytes that stands between characters and not within an entity (`&amp;` is the longest).
fn whole_entities(text: &str, max_bytes: usize) -> usize {
    let end = text.floor_char_boundary(max_bytes);
    let head = text.get(..end).unwrap_or_default();
    match head.rfind('&') {
        Some(start) if end - start < "&amp;".len() && !head[start..].contains(';') => start,
        _ => end,
    }
}

/// A text in parts that fit a block each, at line ends where possible; and whether something is left.
fn split(mut text: &str) -> (Vec<&str>, bool) {
    let mut parts = Vec::new();
    while !text.trim().is_empty() && parts.len() < MAX_BLOCKS {
        let mut end = text.len();
        if end > MAX_BLOCK_BYTES {
            end = whole_entities(text, MAX_BLOCK_BYTES);
            if let Some(line_end) = text[..end].rfind('\n').filter(|at| *at > 0) {
                end = line_end;
            }
        }
        let (part, rest) = text.split_at(end);
        // A block without text is refused.
        if !part.trim().is_empty() {
            parts.push(part);
        }
        text = rest.strip_prefix('\n').unwrap_or(rest);
    }
    (parts, !text.trim().is_empty())
}
