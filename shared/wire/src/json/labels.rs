//! Reads label objects, each distinct text once.

use crate::batch::BatchBuilder;
use crate::batch::builder::Refusal;
use crate::intern::Interner;
use crate::json::fields::string;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The label objects that were read, by their text.
#[derive(Default)]
pub(super) struct LabelMemo<'a> {
    texts: Interner,
    known: Vec<(&'a str, Known)>,
    refusals: Vec<Refusal>,
    last: usize,
}

/// What a text turned out to be: a label set, or one of the refusals.
#[derive(Clone, Copy)]
enum Known {
    Set(u32),
    Refused(u32),
}

impl<'a> LabelMemo<'a> {
    /// The number of the label set of a JSON text.
    pub(super) fn set(&mut self, text: &'a str, builder: &mut BatchBuilder<'a>) -> Result<u32, Refusal> {
        if let Some((known, outcome)) = self.known.get(self.last)
            && *known == text
        {
            return self.outcome(*outcome);
        }
        let hash = xxh3_64_with_seed(text.as_bytes(), builder.seed());
        if let Some(at) = self.texts.find(hash, |number| self.known[number as usize].0 == text) {
            self.last = at as usize;
            return self.outcome(self.known[self.last].1);
        }
        let outcome = match decode(text, builder) {
            Ok(set) => Known::Set(set),
            Err(refusal) => {
                self.refusals.push(refusal);
                Known::Refused(self.refusals.len() as u32 - 1)
            }
        };
        self.last = self.texts.add(hash) as usize;
        self.known.push((text, outcome));
        self.outcome(outcome)
    }

    fn outcome(&self, known: Known) -> Result<u32, Refusal> {
        match known {
            Known::Set(set) => Ok(set),
            Known::Refused(at) => Err(self.refusals[at as usize].clone()),
        }
    }
}

fn decode<'a>(text: &'a str, builder: &mut BatchBuilder<'a>) -> Result<u32, Refusal> {
    if !text.starts_with('{') {
        return Err(Refusal::new("labels", "must be an object of strings"));
    }
    builder.begin_set();
    let mut json = serde_json::Deserializer::from_str(text);
    match json.deserialize_map(LabelsVisitor(builder)) {
        Ok(outcome) => outcome?,
        // The text was found to be JSON before; what remains is half a surrogate pair in a label's name.
        Err(_) => return Err(Refusal::new("labels", "has a label name that is not Unicode")),
    }
    builder.end_set()
}

struct LabelsVisitor<'b, 'a>(&'b mut BatchBuilder<'a>);

impl<'a> Visitor<'a> for LabelsVisitor<'_, 'a> {
    type Value = Result<(), Refusal>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of strings")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut outcome = Ok(());
        while let Some(name) = map.next_key_seed(Text)? {
            let raw = map.next_value::<&RawValue>()?.get();
            // The map is read to its end even after an error: the parser demands it.
            if outcome.is_ok() {
                outcome = match string(raw) {
                    Some(value) => self.0.label(name, value, ""),
                    None => Err(Refusal::label(&name, "must be a string")),
                };
            }
        }
        Ok(outcome)
    }
}

/// A string, borrowed where it has no escapes.
struct Text;

impl<'a> DeserializeSeed<'a> for Text {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Cow<'a, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Text {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
