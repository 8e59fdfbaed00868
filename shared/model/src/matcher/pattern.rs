//! A compiled pattern. What nearly all patterns are (a list of values, a prefix, anything) needs no regular expression: it is
//! recognised in the parsed pattern, not in its text, so that `web-0[1-3]` and `(a|b)c` are lists of values too.

use crate::limits;
use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Dot, Hir, HirKind};

/// The most values that a pattern is spelt out to; beyond, the program is the smaller of the two.
const MAX_VALUES: usize = 1_024;

/// The most memory of one lazily built automaton, in bytes: what is built of it is kept for each thread that matches. When it is
/// full it is built anew, which costs time but no correctness.
const MAX_AUTOMATON_BYTES: usize = 1 << 20;

/// A pattern that a whole value matches or does not.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Anything,
    NotEmpty,
    /// One of these values, in ascending order.
    OneOf(Box<[Box<str>]>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Program(Regex),
}

impl Pattern {
    /// Compiles; the error is a reason for the user.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        // Parsed on its own first: `a)(b` must not become a pattern by being put between brackets.
        let hir = ParserBuilder::new()
            .dot_matches_new_line(true)
            .build()
            .parse(text)
            .map_err(|error| reason(text, &error))?;
        if let Some(simple) = simple(&hir) {
            return Ok(simple);
        }
        RegexBuilder::new(&format!("^(?:{text})$"))
            .dot_matches_new_line(true)
            .size_limit(limits::MAX_PATTERN_PROGRAM_BYTES)
            .dfa_size_limit(MAX_AUTOMATON_BYTES)
            .build()
            .map(Self::Program)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(limit) => {
                    format!("it takes more than {limit} bytes when it is compiled")
                }
                // Its text is several lines that draw the anchored pattern; the last one says what is wrong.
                other => {
                    let text = other.to_string();
                    let last = text.lines().last().unwrap_or_default();
                    last.trim_start_matches("error: ").to_owned()
                }
            })
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Anything => true,
            Self::NotEmpty => !value.is_empty(),
            Self::OneOf(values) => values.binary_search_by(|one| (**one).cmp(value)).is_ok(),
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Suffix(suffix) => value.ends_with(&**suffix),
            Self::Contains(part) => value.contains(&**part),
            Self::Program(regex) => regex.is_match(value),
        }
    }
}

fn reason(text: &str, error: &regex_syntax::Error) -> String {
    let (what, start) = match error {
        regex_syntax::Error::Parse(error) => (error.kind().to_string(), error.span().start.offset),
        regex_syntax::Error::Translate(error) => (error.kind().to_string(), error.span().start.offset),
        other => return other.to_string(),
    };
    let before = text.get(..start).unwrap_or(text);
    format!("{what} at its character {}", before.chars().count() + 1)
}

/// The pattern without a program, if it has such a form.
fn simple(hir: &Hir) -> Option<Pattern> {
    // The literals of `a\b` would be those of `a`: an assertion takes no character.
    if !hir.properties().look_set().is_empty() {
        return None;
    }
    if let Some(values) = values(hir) {
        return Some(Pattern::OneOf(values));
    }
    if is_any(hir, 0) {
        return Some(Pattern::Anything);
    }
    if is_any(hir, 1) {
        return Some(Pattern::NotEmpty);
    }
    let HirKind::Concat(parts) = hir.kind() else {
        return None;
    };
    match parts.as_slice() {
        [start, rest] if is_any(rest, 0) => literal(start).map(Pattern::Prefix),
        [rest, end] if is_any(rest, 0) => literal(end).map(Pattern::Suffix),
        [rest, part, more] if is_any(rest, 0) && is_any(more, 0) => literal(part).map(Pattern::Contains),
        _ => None,
    }
}

/// All values that match, if they are few.
fn values(hir: &Hir) -> Option<Box<[Box<str>]>> {
    let mut extractor = Extractor::new();
    extractor
        .limit_class(MAX_VALUES)
        .limit_total(MAX_VALUES)
        .limit_literal_len(limits::MAX_LABEL_VALUE_BYTES);
    let found = extractor.extract(hir);
    if !found.is_exact() {
        return None;
    }
    let texts = found
        .literals()?
        .iter()
        .map(|one| std::str::from_utf8(one.as_bytes()).ok().map(Box::from));
    let mut values = texts.collect::<Option<Vec<Box<str>>>>()?;
    values.sort_unstable();
    values.dedup();
    Some(values.into_boxed_slice())
}

/// Whether it is any characters, at least so many.
fn is_any(hir: &Hir, least: u32) -> bool {
    let HirKind::Repetition(repetition) = hir.kind() else {
        return false;
    };
    (repetition.min, repetition.max) == (least, None) && *repetition.sub == Hir::dot(Dot::AnyChar)
}

fn literal(hir: &Hir) -> Option<Box<str>> {
    let HirKind::Literal(literal) = hir.kind() else {
        return None;
    };
    std::str::from_utf8(&literal.0).ok().map(Box::from)
}
