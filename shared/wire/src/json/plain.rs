//! Reads bodies as agents send them: `{"metrics":[…]}` of samples whose strings have no escapes, with or without white space.
//!
//! A request repeats itself: the series of a host share most labels, and label sets that differ do so in few of them. So the
//! labels of a sample are mostly *compared* with those of the sample before, and only what differs is looked at.
//!
//! Everything here returns `None` for what it does not know. That says nothing about the text: serde_json then reads it.

use super::fields::{decode_sample, push};
use super::{Decoder, too_many_samples};
use crate::batch::builder::Refusal;
use serde_json::value::RawValue;
use std::borrow::Cow;
use tidemark_model::limits::MAX_SAMPLES_PER_REQUEST;

/// Reads a whole body into the decoder, or leaves it half read.
pub(super) fn decode<'a>(text: &'a str, decoder: &mut Decoder<'a>) -> Option<()> {
    let mut cursor = Cursor { text, at: 0 };
    let mut last_labels = LastLabels { text: "", set: 0 };
    cursor.token(b'{')?;
    cursor.space();
    if cursor.string()? != "metrics" {
        return None;
    }
    cursor.token(b':')?;
    cursor.token(b'[')?;
    loop {
        if decoder.builder.offered() >= MAX_SAMPLES_PER_REQUEST {
            decoder.failure = Some(too_many_samples());
            return Some(());
        }
        cursor.space();
        let start = cursor.at;
        let outcome = match sample(&mut cursor, decoder, &mut last_labels) {
            Some(outcome) => outcome,
            None => {
                cursor.at = start;
                any_sample(&mut cursor, decoder)?
            }
        };
        decoder.builder.record(outcome);
        cursor.space();
        match cursor.next()? {
            b',' => {}
            b']' => break,
            _ => return None,
        }
    }
    cursor.token(b'}')?;
    cursor.space();
    (cursor.at == text.len()).then_some(())
}

/// The label object that was read last, whole, and the set that it is.
struct LastLabels<'a> {
    text: &'a str,
    set: u32,
}

/// One sample without anything unusual.
fn sample<'a>(
    cursor: &mut Cursor<'a>,
    decoder: &mut Decoder<'a>,
    last_labels: &mut LastLabels<'a>,
) -> Option<Result<(), Refusal>> {
    let (mut name, mut value, mut timestamp, mut set) = (None, None, None, None);
    cursor.token(b'{')?;
    loop {
        cursor.space();
        let key = cursor.string()?;
        cursor.token(b':')?;
        cursor.space();
        // A field that is given twice is for serde_json's way to refuse.
        let twice = match key {
            "name" => name.replace(cursor.string()?).is_some(),
            "value" => value.replace(cursor.scalar()?).is_some(),
            "timestamp" => timestamp.replace(cursor.scalar()?).is_some(),
            "labels" => set.replace(labels(cursor, decoder, last_labels)?).is_some(),
            "metrics" => return None,
            _ => {
                cursor.scalar()?;
                false
            }
        };
        if twice {
            return None;
        }
        cursor.space();
        match cursor.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    let set = |decoder: &mut Decoder<'a>| match set {
        Some(set) => set,
        None => {
            decoder.builder.begin_set();
            decoder.builder.end_set()
        }
    };
    Some(push(decoder, name.map(Cow::Borrowed), value, set, timestamp))
}

fn any_sample<'a>(cursor: &mut Cursor<'a>, decoder: &mut Decoder<'a>) -> Option<Result<(), Refusal>> {
    let mut values = serde_json::Deserializer::from_str(&cursor.text[cursor.at..]).into_iter::<&'a RawValue>();
    let raw = values.next()?.ok()?;
    cursor.at += values.byte_offset();
    decode_sample(raw, decoder).ok()
}

/// A label object of plain strings.
fn labels<'a>(
    cursor: &mut Cursor<'a>,
    decoder: &mut Decoder<'a>,
    last: &mut LastLabels<'a>,
) -> Option<Result<u32, Refusal>> {
    let start = cursor.at;
    if !last.text.is_empty() && cursor.rest().starts_with(last.text.as_bytes()) {
        cursor.at += last.text.len();
        return Some(Ok(last.set));
    }
    let builder = &mut decoder.builder;
    builder.begin_set();
    cursor.token(b'{')?;
    cursor.space();
    let mut outcome = Ok(());
    if cursor.peek()? == b'}' {
        cursor.at += 1;
    } else {
        loop {
            cursor.space();
            // After a refusal the rest is read for its form alone.
            let known = if outcome.is_ok() {
                builder.label_as_before(&cursor.text[cursor.at..])
            } else {
                None
            };
            match known {
                Some(length) => cursor.at += length,
                None => {
                    let from = cursor.at;
                    let name = cursor.string()?;
                    cursor.token(b':')?;
                    cursor.space();
                    let value = cursor.string()?;
                    let raw = &cursor.text[from..cursor.at];
                    outcome = outcome.and_then(|()| builder.label(Cow::Borrowed(name), Cow::Borrowed(value), raw));
                }
            }
            cursor.space();
            match cursor.next()? {
                b',' => {}
                b'}' => break,
                _ => return None,
            }
        }
    }
    let set = outcome.and_then(|()| builder.end_set());
    if let Ok(set) = set {
        let text = &cursor.text[start..cursor.at];
        *last = LastLabels { text, set };
    }
    Some(set)
}

/// A place in the text, always between two characters.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// One of the ASCII characters that JSON is built of, after any white space.
    fn token(&mut self, expected: u8) -> Option<()> {
        self.space();
        (self.next()? == expected).then_some(())
    }

    /// A string without escapes: its contents.
    fn string(&mut self) -> Option<&'a str> {
        let open = self.at;
        if self.next()? != b'"' {
            return None;
        }
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        let length = self.rest().iter().position(special)?;
        self.at += length;
        (self.next()? == b'"').then(|| &self.text[open + 1..open + 1 + length])
    }

    /// A string without escapes, with its quotes, or a number: its text.
    fn scalar(&mut self) -> Option<&'a str> {
        let start = self.at;
        if self.peek()? == b'"' {
            self.string()?;
        } else {
            self.number()?;
        }
        Some(&self.text[start..self.at])
    }

    /// A number, by JSON's grammar: `-0.5e+3` is one, `+1`, `01`, `.5` and `1.` are not.
    fn number(&mut self) -> Option<()> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        if self.peek()? == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek()? == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek()?, b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let count = self.rest().iter().position(|byte| !byte.is_ascii_digit())?;
        self.at += count;
        (count > 0).then_some(())
    }
}
