//! Finds the fields of samples in a body.

use super::{Decoder, too_many_samples};
use crate::batch::builder::Refusal;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use tidemark_model::limits::MAX_SAMPLES_PER_REQUEST;
use tidemark_model::time::TimeError;
use tidemark_model::{Timestamp, value};

/// The fields of one sample, each as the text that stands in the body.
#[derive(Default)]
struct Fields<'a> {
    name: Option<&'a str>,
    value: Option<&'a str>,
    labels: Option<&'a str>,
    timestamp: Option<&'a str>,
    twice: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Name,
    Value,
    Labels,
    Timestamp,
    Metrics,
    Unknown,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self, E> {
        Ok(match name {
            "name" => Self::Name,
            "value" => Self::Value,
            "labels" => Self::Labels,
            "timestamp" => Self::Timestamp,
            "metrics" => Self::Metrics,
            _ => Self::Unknown,
        })
    }
}

impl<'a> Fields<'a> {
    /// Takes the value of a key. `Metrics` is no field of a sample.
    fn take<A: MapAccess<'a>>(&mut self, key: Key, map: &mut A) -> Result<(), A::Error> {
        let (name, field) = match key {
            Key::Name => ("name", &mut self.name),
            Key::Value => ("value", &mut self.value),
            Key::Labels => ("labels", &mut self.labels),
            Key::Timestamp => ("timestamp", &mut self.timestamp),
            Key::Metrics | Key::Unknown => return map.next_value::<IgnoredAny>().map(|_| ()),
        };
        if field.replace(map.next_value::<&RawValue>()?.get()).is_some() {
            self.twice.get_or_insert(name);
        }
        Ok(())
    }

    fn decode(self, decoder: &mut Decoder<'a>) -> Result<(), Refusal> {
        if let Some(field) = self.twice {
            return Err(Refusal::new(field, "is given twice"));
        }
        let name = match self.name {
            Some(raw) => Some(string(raw).ok_or(Refusal::new("name", "must be a string"))?),
            None => None,
        };
        let labels = self.labels.filter(|text| *text != "null").unwrap_or("{}");
        let timestamp = self.timestamp.filter(|text| *text != "null");
        let set = |decoder: &mut Decoder<'a>| decoder.labels.set(labels, &mut decoder.builder);
        push(decoder, name, self.value, set, timestamp)
    }
}

/// Adds the sample of these fields. The first field at fault is the one that is told.
pub(super) fn push<'a>(
    decoder: &mut Decoder<'a>,
    name: Option<Cow<'a, str>>,
    value: Option<&'a str>,
    set: impl FnOnce(&mut Decoder<'a>) -> Result<u32, Refusal>,
    timestamp: Option<&'a str>,
) -> Result<(), Refusal> {
    let name = decoder.builder.name(name.ok_or(Refusal::new("name", "is missing"))?)?;
    let value = value.ok_or(Refusal::new("value", "is missing"))?;
    let value = number(value).map_err(|error| Refusal::new("value", error.to_string()))?;
    let set = set(decoder)?;
    let timestamp_ms = match timestamp {
        None => None,
        Some(text) if decoder.last_timestamp.0 == text => Some(decoder.last_timestamp.1),
        Some(text) => {
            let at = parse_time(text).map_err(|error| Refusal::new("timestamp", error.to_string()))?;
            decoder.last_timestamp = (text, at);
            Some(at)
        }
    };
    decoder.builder.sample(name, set, timestamp_ms, value)
}

/// The contents of a JSON string; `None` for any other value, and for a string with half a surrogate pair.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inside = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inside.as_bytes().contains(&b'\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inside))
    }
}

fn number(raw: &str) -> Result<f64, value::ValueError> {
    match string(raw) {
        Some(name) => value::parse_string(&name),
        None => value::parse_number(raw),
    }
}

fn parse_time(raw: &str) -> Result<i64, TimeError> {
    let Timestamp(at) = match string(raw) {
        Some(text) => Timestamp::parse(&text)?,
        None => Timestamp::parse(raw)?,
    };
    Ok(at)
}

/// Reads any JSON value as a sample.
pub(super) fn decode_sample<'a>(
    raw: &'a RawValue,
    decoder: &mut Decoder<'a>,
) -> serde_json::Result<Result<(), Refusal>> {
    OneSample(decoder).deserialize(&mut serde_json::Deserializer::from_str(raw.get()))
}

/// The body as a whole.
pub(super) struct BodyVisitor<'d, 'a>(pub(super) &'d mut Decoder<'a>);

impl<'a> Visitor<'a> for BodyVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one metric with `name` and `value`, or an object with an array `metrics`")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let mut fields = Fields::default();
        let (mut metrics, mut any) = (false, false);
        while let Some(key) = map.next_key_seed(Key::Unknown)? {
            if key == Key::Metrics {
                if metrics {
                    return Err(A::Error::custom("the field `metrics` is given twice"));
                }
                metrics = true;
                map.next_value_seed(Samples(&mut *self.0))?;
            } else {
                any |= matches!(key, Key::Name | Key::Value);
                fields.take(key, &mut map)?;
            }
        }
        if !metrics && !any {
            self.0.failure = Some(crate::body::BodyError::NoMetrics);
        } else if !metrics {
            let outcome = fields.decode(self.0);
            self.0.builder.record(outcome);
        }
        Ok(())
    }
}

/// The array `metrics`.
struct Samples<'d, 'a>(&'d mut Decoder<'a>);

impl<'a> DeserializeSeed<'a> for Samples<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Samples<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of samples in the field `metrics`")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(outcome) = seq.next_element_seed(OneSample(&mut *self.0))? {
            self.0.builder.record(outcome);
        }
        Ok(())
    }
}

/// One element of the array.
struct OneSample<'d, 'a>(&'d mut Decoder<'a>);

impl<'a> DeserializeSeed<'a> for OneSample<'_, 'a> {
    type Value = Result<(), Refusal>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.0.builder.offered() >= MAX_SAMPLES_PER_REQUEST {
            self.0.failure = Some(too_many_samples());
            return Err(D::Error::custom("too many samples"));
        }
        deserializer.deserialize_any(self)
    }
}

fn no_object<E>() -> Result<Result<(), Refusal>, E> {
    Ok(Err(Refusal::new("", "must be an object with `name` and `value`")))
}

impl<'a> Visitor<'a> for OneSample<'_, 'a> {
    type Value = Result<(), Refusal>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sample")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key_seed(Key::Unknown)? {
            fields.take(key, &mut map)?;
        }
        Ok(fields.decode(self.0))
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        no_object()
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        no_object()
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        no_object()
    }
}
