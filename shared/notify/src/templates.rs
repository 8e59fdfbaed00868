//! The templates of a channel's titles and bodies: Jinja's language, as far as it is of use in a message and harmless.
//!
//! A template is written by an operator and runs in the function that pages people, so it can do nothing but write: it reads no file, no
//! clock and no environment, includes nothing and defines nothing. What would let a short text grow without bound is left out of the
//! language (`set`, `macro`, `+`, `~`, `*`, lists, calls, recursion); what is left runs on fuel and writes to a limit.
//!
//! **A page is never lost because of a template.** One that fails when it is used is replaced by the default text, with a note.

use crate::channel::ChannelSpec;
use crate::notification::{Cause, Notification};
use crate::senders::text;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior};
use serde_json::{Value as Json, json};
use std::fmt::{self, Write as _};
use std::io;
use tidemark_model::Timestamp;
use tidemark_rules::TransitionKind;

mod filters;
mod language;

/// The longest template of a title, in bytes.
pub const MAX_TITLE_TEMPLATE_BYTES: usize = 1_024;

/// The longest template of a body, in bytes.
pub const MAX_BODY_TEMPLATE_BYTES: usize = 8_192;

/// The most steps of one template: about a hundred for each alert of the largest notification, and some milliseconds.
const FUEL: u64 = 100_000;

/// The most bytes that a template writes; more than that is cut. Receivers cut further.
pub const MAX_OUTPUT_BYTES: usize = 65_536;

/// The most bytes that the filters of one template make, all together: that bounds both its memory and its time.
const FILTER_BYTES: usize = 8 << 20;

/// The most alerts of a notification, which a template is tried with.
const MANY_ALERTS: usize = 500;

/// A template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct TemplateError {
    /// In which line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

/// How a value is made harmless where a receiver reads markup; what an author wrote in the template itself is markup on purpose.
pub(crate) type Escape = fn(&str) -> String;

/// How a receiver reads the title and the body.
#[derive(Clone, Copy)]
pub(crate) struct Escapes {
    pub(crate) title: Escape,
    pub(crate) body: Escape,
}

/// What a channel says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    /// The title, one line. Escaped.
    pub(crate) title: String,
    /// The body of the channel's template; `None`: there is none, it failed or it says nothing, and the receiver's own form is used. Escaped.
    pub(crate) body: Option<String>,
    /// What is to be said about templates that failed. Not escaped.
    pub(crate) note: Option<String>,
}

impl Texts {
    /// The body as plain text, whether it comes from a template or not, and the note; at most so many bytes.
    pub(crate) fn plain_body(&self, notification: &Notification, now: Timestamp, max_bytes: usize) -> String {
        let note = self.note.as_deref().map(|note| format!("\n{note}\n"));
        let note = note.unwrap_or_default();
        let room = max_bytes.saturating_sub(note.len());
        let body = match &self.body {
            Some(body) => text::cut(body, room),
            None => text::body(notification, now, room),
        };
        body + &note
    }
}

/// Text as it is.
pub(crate) fn plain(text: &str) -> String {
    text.to_owned()
}

/// Checks that a template can be read and used: its language, and notifications that it is tried with, small ones and the largest. What depends on labels that only
/// some alerts have is not found out here.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub fn check(template: &str) -> Result<(), TemplateError> {
    language::check(template)?;
    for status in [TransitionKind::Firing, TransitionKind::Resolved] {
        let now = Timestamp(1_767_268_800_000);
        let small = Notification::test("channel", "id", status, now);
        let mut large = small.clone();
        large.alerts = small.alerts.iter().cycle().take(MANY_ALERTS).cloned().collect();
        for sample in [small, large] {
            match run(template, &context(&sample, now), plain) {
                Ok(_) => {}
                Err(error) if depends_on_data(&error) => {}
                Err(error) => return Err(template_error(&error)),
            }
        }
    }
    Ok(())
}

/// Errors that other alerts might not make.
fn depends_on_data(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::NonPrimitive | ErrorKind::NonKey | ErrorKind::InvalidOperation | ErrorKind::UndefinedError
    )
}

/// Renders a channel's title and body.
pub(crate) fn render(spec: &ChannelSpec, notification: &Notification, now: Timestamp, escapes: Escapes) -> Texts {
    let mut failed = Vec::new();
    let values = (spec.title.is_some() || spec.body.is_some()).then(|| context(notification, now));
    let mut of = |name: &str, template: &Option<String>, escape: Escape| {
        let (template, values) = (template.as_deref()?, values.as_ref()?);
        let error = match language::check(template)
            .and_then(|()| run(template, values, escape).map_err(|error| template_error(&error)))
        {
            Ok(text) => return Some(text),
            Err(error) => error,
        };
        tracing::warn!(
            channel = notification.channel,
            template = name,
            line = error.line,
            reason = error.reason,
            "a template failed; the default text is sent"
        );
        failed.push(format!("`{name}` failed in {error}"));
        None
    };
    let title = of("title", &spec.title, escapes.title)
        .map(|title| text::one_line(&title))
        .filter(|title| !title.is_empty());
    // Some receivers refuse an empty message, and nobody is helped by one.
    let body = of("body", &spec.body, escapes.body).filter(|body| !body.trim().is_empty());
    Texts {
        title: title.unwrap_or_else(|| (escapes.title)(&text::title(notification))),
        body,
        note: (!failed.is_empty()).then(|| note(&failed.join("; "))),
    }
}

/// What is said when the templates could not be rendered at all.
pub(crate) fn fallback(notification: &Notification, escapes: Escapes, reason: &str) -> Texts {
    tracing::warn!(
        channel = notification.channel,
        reason,
        "templates failed; the default text is sent"
    );
    Texts {
        title: (escapes.title)(&text::title(notification)),
        body: None,
        note: Some(note(reason)),
    }
}

fn note(reason: &str) -> String {
    let reason = text::cut(reason, 400);
    format!("(The channel's template {reason}. This is the default text.)")
}

/// Renders one template. What is over the limit is cut.
fn run(template: &str, values: &Json, escape: Escape) -> Result<String, Error> {
    let mut environment = Environment::empty();
    environment.set_fuel(Some(FUEL));
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_formatter(move |output, _, value| {
        if value.is_undefined() || value.is_none() {
            return Ok(());
        }
        let written = match value.as_str() {
            Some(text) => output.write_str(&escape(text)),
            None => output.write_str(&escape(&written(value)?)),
        };
        written.map_err(|_| too_long())
    });
    filters::add(&mut environment);
    let mut output = Output::default();
    let result = environment
        .template_from_str(template)
        .and_then(|template| template.render_captured_to(values, &mut output).map(|_| ()));
    match result {
        Err(error) if !output.is_full => Err(error),
        _ => {
            // Only whole values and whole texts of the template are written.
            let text = String::from_utf8_lossy(&output.bytes).into_owned();
            Ok(if output.is_full { text + "…" } else { text })
        }
    }
}

/// Takes bytes up to the limit.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(bytes.len()) > MAX_OUTPUT_BYTES {
            self.is_full = true;
            return Err(io::Error::other("the text is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn template_error(error: &Error) -> TemplateError {
    let reason = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "it takes too many steps".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    TemplateError {
        line: error.line().unwrap_or(1),
        reason: text::cut(&text::one_line(&reason), 300),
    }
}

/// What a template knows; described in the README.
fn context(notification: &Notification, now: Timestamp) -> Json {
    let alerts: Vec<Json> = text::ordered(notification).into_iter().map(|alert| {
        let end = alert.ends_at.unwrap_or(now);
        json!({
            "status": alert.status,
            "reason": alert.reason,
            "labels": alert.labels,
            "annotations": alert.annotations,
            "summary": text::headline(alert),
            "starts_at": alert.starts_at.to_rfc3339(),
            "ends_at": alert.ends_at.map(Timestamp::to_rfc3339),
            "duration_seconds": end.0.saturating_sub(alert.starts_at.0) / 1_000,
            "value": value(alert.value),
            "severity": alert.rule.severity,
            "fingerprint": alert.fingerprint,
            "instance_id": alert.instance_id,
            "rule": {"id": alert.rule.id, "name": alert.rule.name, "version": alert.rule.version, "query": alert.rule.query},
        })
    }).collect();
    let firing = text::firing(notification);
    json!({
        "status": notification.status,
        "cause": notification.cause,
        "is_heartbeat": notification.cause == Cause::Heartbeat,
        "is_digest": notification.is_digest,
        "channel": notification.channel,
        "severity": text::worst(notification),
        "group_key": notification.group_key,
        "group_labels": notification.group_labels,
        "common_labels": notification.common_labels(),
        "common_annotations": notification.common_annotations(),
        "firing": firing,
        "resolved": notification.alerts.len() - firing,
        "truncated_alerts": notification.truncated_alerts,
        "alerts": alerts,
        "default_title": text::title(notification),
        "default_body": text::body(notification, now, MAX_OUTPUT_BYTES / 2),
    })
}

/// A number, whole where it is whole, so that 90 is written as `90`; a text for what JSON has no number for.
fn value(number: f64) -> Json {
    match tidemark_model::value::special_name(number) {
        Some(name) => json!(name),
        // Below 2^53 the conversion is exact.
        None if number.fract() == 0.0 && number.abs() < 9e15 => json!(number as i64),
        None => json!(number),
    }
}

/// A value as text, which is given up as soon as it is too long.
fn written(value: &Value) -> Result<String, Error> {
    let mut text = Bounded(String::new());
    write!(text, "{value}").map_err(|_| too_long())?;
    Ok(text.0)
}

/// Takes text up to the limit.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len().saturating_add(text.len()) > MAX_OUTPUT_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn too_long() -> Error {
    Error::new(ErrorKind::WriteFailure, "the text is too long")
}

#[cfg(test)]
mod tests;
