//! Microsoft Teams' workflows: a message with one adaptive card.
//!
//! What comes from alerts is written as text runs, which know no markup. A template's text is a text block, which knows a little Markdown.

use super::text;
use crate::notification::{Alert, Notification};
use crate::templates::Texts;
use serde_json::{Value, json};
use tidemark_model::Timestamp;
use tidemark_rules::{Severity, TransitionKind};

/// The most bytes of a card's content. Teams refuses messages of more than about 28 KB and counts two for each character.
const MAX_CONTENT_BYTES: usize = 12_000;

/// The most bytes of one line.
const MAX_LINE_BYTES: usize = 500;

/// What Markdown would read in a value is escaped; a template may use it.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '[' | ']' | '*' | '`' | '<' | '>') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// The message. The title is not escaped: it is a text run.
pub(crate) fn body(notification: &Notification, texts: &Texts, now: Timestamp) -> Value {
    let color = color(notification);
    let mut blocks = vec![run(
        &text::cut(&texts.title, MAX_LINE_BYTES),
        &json!({"size": "Large", "weight": "Bolder", "color": color}),
    )];
    // Room for the last two lines.
    let mut room = MAX_CONTENT_BYTES.saturating_sub(size(&blocks) + 1_500);
    match &texts.body {
        Some(body) => blocks.push(text_block(body, room)),
        None => {
            let mut listed = 0;
            for alert in text::ordered(notification) {
                let lines = of_alert(alert, now);
                let bytes = size(&lines);
                if bytes > room {
                    break;
                }
                room -= bytes;
                blocks.extend(lines);
                listed += 1;
            }
            if let Some(line) = text::omitted(notification, listed) {
                blocks.push(run(&line, &json!({"isSubtle": true})));
            }
        }
    }
    if let Some(note) = &texts.note {
        blocks.push(run(note, &json!({"isSubtle": true})));
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": {"width": "Full"},
                "body": blocks,
            },
        }],
    })
}

fn of_alert(alert: &Alert, now: Timestamp) -> Vec<Value> {
    let headline = format!("{}: {}", text::state(alert), text::headline(alert));
    let mut lines = vec![run(&text::cut(&headline, MAX_LINE_BYTES), &json!({"weight": "Bolder"}))];
    for line in text::details(alert, now).iter().take(12) {
        lines.push(run(
            &text::cut(line, MAX_LINE_BYTES),
            &json!({"isSubtle": true, "size": "Small"}),
        ));
    }
    lines
}

/// A line of plain text.
fn run(text: &str, style: &Value) -> Value {
    let mut run = json!({"type": "TextRun", "text": text});
    if let (Some(run), Some(style)) = (run.as_object_mut(), style.as_object()) {
        run.extend(style.clone());
    }
    json!({"type": "RichTextBlock", "spacing": "Small", "inlines": [run]})
}

/// A template's text, cut until its JSON fits.
fn text_block(body: &str, room: usize) -> Value {
    // A single line break is a space in Markdown.
    let mut text = body.trim().replace('\n', "\n\n");
    loop {
        let block = json!({"type": "TextBlock", "wrap": true, "text": text});
        if size(std::slice::from_ref(&block)) <= room || text.len() <= 16 {
            return block;
        }
        text = text::cut(&text, text.len() * 3 / 4);
    }
}

fn size(blocks: &[Value]) -> usize {
    blocks.iter().map(|block| block.to_string().len() + 1).sum()
}

fn color(notification: &Notification) -> &'static str {
    if notification.status != TransitionKind::Firing {
        return "Good";
    }
    match text::worst(notification) {
        Severity::Critical => "Attention",
        Severity::Warning => "Warning",
        Severity::Info => "Accent",
    }
}
