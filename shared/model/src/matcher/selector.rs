//! A label filter as text, as PromQL writes it between the metric name and the range:
//! `{host="web-01", region!="eu", path=~"/api/.*", "cloud.zone"!~'a|b',}`.
//!
//! Names other than letters, digits and underscores are quoted. Strings are PromQL's: in double or single quotes with Go's
//! escapes (`\\`, `\n`, `\"` or `\'`, `\xe9`, `\351`, `\u00e9`, `\U0001f30a`, …) and on one line, or in backticks without escapes. Comments
//! and the metric name among the matchers are not read.
//!
//! Prometheus' own rules: <https://prometheus.io/docs/prometheus/latest/querying/basics/>.

use super::{FilterError, LabelFilter, LabelMatcher, MatchOp};
use crate::limits;
use std::fmt::{self, Write as _};

/// Whether a text that holds a filter is its JSON form: a brace, a string and a colon. All else is for the selector's parser to
/// judge, the empty braces too, which are the same in both.
#[must_use]
pub fn is_json(text: &str) -> bool {
    let mut reader = Reader { text, at: 0 };
    reader.skip_space();
    if !reader.take("{") {
        return false;
    }
    reader.skip_space();
    if !reader.take("\"") {
        return false;
    }
    while let Some(c) = reader.next() {
        match c {
            '\\' => {
                reader.next();
            }
            '"' => {
                reader.skip_space();
                return reader.take(":");
            }
            _ => {}
        }
    }
    false
}

/// The matchers as they are written.
pub(super) fn parse(text: &str) -> Result<Vec<(String, MatchOp, String)>, FilterError> {
    let mut reader = Reader { text, at: 0 };
    reader.skip_space();
    if !reader.take("{") {
        return Err(reader.wrong("expected `{`, as in {host=\"web-01\"}"));
    }
    let mut matchers = Vec::new();
    reader.skip_space();
    while !reader.take("}") {
        if matchers.len() == limits::MAX_MATCHERS_PER_FILTER {
            return Err(FilterError::TooManyMatchers {
                limit: limits::MAX_MATCHERS_PER_FILTER,
            });
        }
        matchers.push(reader.matcher()?);
        reader.skip_space();
        if reader.take(",") {
            reader.skip_space();
        } else if !reader.rest().starts_with('}') {
            return Err(reader.wrong("expected `,` or `}`"));
        }
    }
    reader.skip_space();
    if !reader.rest().is_empty() {
        return Err(reader.wrong("expected nothing after `}`"));
    }
    Ok(matchers)
}

struct Reader<'a> {
    text: &'a str,
    /// In bytes, always between two characters.
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    /// PromQL's white space.
    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn wrong(&self, reason: impl Into<String>) -> FilterError {
        self.wrong_at(self.at, reason)
    }

    fn wrong_at(&self, at: usize, reason: impl Into<String>) -> FilterError {
        FilterError::Syntax {
            position: self.text[..at].chars().count() + 1,
            reason: reason.into(),
        }
    }

    fn matcher(&mut self) -> Result<(String, MatchOp, String), FilterError> {
        let name = match self.string()? {
            Some(quoted) => quoted,
            None => self.identifier()?,
        };
        self.skip_space();
        let op = self.operator()?;
        self.skip_space();
        let value = self.string()?;
        let value = value.ok_or_else(|| self.wrong("expected a value in quotes"))?;
        Ok((name, op, value))
    }

    fn identifier(&mut self) -> Result<String, FilterError> {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_name_char(c)).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        if !is_identifier(&name) {
            return Err(
                self.wrong("expected a label name (one of other characters than letters, digits and _ is quoted)")
            );
        }
        self.at += end;
        Ok(name)
    }

    fn operator(&mut self) -> Result<MatchOp, FilterError> {
        // The longer ones first.
        let operators = [MatchOp::Regex, MatchOp::NotRegex, MatchOp::NotEqual, MatchOp::Equal];
        for op in operators {
            if self.take(op.as_str()) {
                return Ok(op);
            }
        }
        Err(self.wrong("expected one of =, !=, =~, !~"))
    }

    /// A quoted string, if one begins here.
    fn string(&mut self) -> Result<Option<String>, FilterError> {
        let start = self.at;
        let quote = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'' | '`')) => quote,
            _ => return Ok(None),
        };
        self.next();
        // Bytes, since `\xc3\xa9` is one character.
        let mut value = Vec::new();
        loop {
            let before = self.at;
            match self.next() {
                None => return Err(self.wrong_at(start, "this string is not closed")),
                Some(c) if c == quote => break,
                Some('\n') if quote != '`' => {
                    return Err(self.wrong_at(
                        before,
                        "a string in quotes ends on its line; write \\n, or use backticks",
                    ));
                }
                Some('\\') if quote != '`' => self.escape(before, quote, &mut value)?,
                Some(c) => push(&mut value, c),
            }
        }
        let text = String::from_utf8(value).map_err(|_| self.wrong_at(start, "this string is not UTF-8"))?;
        Ok(Some(text))
    }

    /// What follows a backslash that stands at `start`.
    fn escape(&mut self, start: usize, quote: char, value: &mut Vec<u8>) -> Result<(), FilterError> {
        let first = self.at;
        let byte = match self.next() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0C,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0B,
            Some('\\') => b'\\',
            Some(c) if c == quote => {
                push(value, c);
                return Ok(());
            }
            Some('x') => self.byte(start, 2, 16)?,
            Some('0'..='7') => {
                self.at = first;
                self.byte(start, 3, 8)?
            }
            Some(kind @ ('u' | 'U')) => {
                let code = self.digits(start, if kind == 'u' { 4 } else { 8 }, 16)?;
                let c = char::from_u32(code);
                push(
                    value,
                    c.ok_or_else(|| self.wrong_at(start, "this escape names no character"))?,
                );
                return Ok(());
            }
            _ => {
                return Err(self.wrong_at(
                    start,
                    "unknown escape; a backslash is written \\\\, or the string in backticks",
                ));
            }
        };
        value.push(byte);
        Ok(())
    }

    fn byte(&mut self, start: usize, count: usize, radix: u32) -> Result<u8, FilterError> {
        let code = self.digits(start, count, radix)?;
        u8::try_from(code).map_err(|_| self.wrong_at(start, "this escape names no byte"))
    }

    fn digits(&mut self, start: usize, count: usize, radix: u32) -> Result<u32, FilterError> {
        let mut code = 0_u32;
        for _ in 0..count {
            let digit = self.next().and_then(|c| c.to_digit(radix));
            let digit = digit.ok_or_else(|| {
                let digits = if radix == 8 { "octal" } else { "hexadecimal" };
                self.wrong_at(start, format!("this escape needs {count} {digits} digits"))
            })?;
            // At most eight hexadecimal digits: 32 bits.
            code = code.wrapping_mul(radix).wrapping_add(digit);
        }
        Ok(code)
    }
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_name_char)
}

/// In double quotes, with escapes that [`parse`] reads.
fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_identifier(&self.name) {
            f.write_str(&self.name)?;
        } else {
            write_quoted(f, &self.name)?;
        }
        f.write_str(self.op.as_str())?;
        write_quoted(f, &self.value)
    }
}

/// The selector's text; reading it gives the same filter.
impl fmt::Display for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('{')?;
        for (at, matcher) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_char(',')?;
            }
            matcher.fmt(f)?;
        }
        f.write_char('}')
    }
}
