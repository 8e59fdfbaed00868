//! Reading the fields of a JSON body one by one, so that every error names its field. Each function's error does; its reason is to be read
//! after that name.

use super::{InvalidField, MAX_WEBHOOK_URL_BYTES};
use crate::condition::Condition;
use serde_json::{Map, Value};
use tidemark_model::matcher::FilterError;
use tidemark_model::{LabelFilter, Timestamp, limits, value};
use url::Url;

/// A value and the path that leads to it.
#[derive(Clone, Debug)]
pub struct Field<'a> {
    /// The path, as in `annotations.summary`.
    pub path: String,
    /// The value there; never `null`.
    pub value: &'a Value,
}

impl Field<'_> {
    /// The error that this field is wrong.
    #[must_use]
    pub fn invalid(&self, reason: impl Into<String>) -> InvalidField {
        invalid(self.path.clone(), reason)
    }
}

/// The error that a field is wrong.
#[must_use]
pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> InvalidField {
    InvalidField {
        field: field.into(),
        reason: reason.into(),
    }
}

/// The body as an object.
///
/// # Errors
/// When it is none.
pub fn object(body: &Value) -> Result<&Map<String, Value>, InvalidField> {
    body.as_object().ok_or_else(|| invalid("", "must be a JSON object"))
}

/// A field that must be there; `null` is the same as nothing.
///
/// # Errors
/// When it is not there.
pub fn required<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Field<'a>, InvalidField> {
    optional(object, name).ok_or_else(|| invalid(name, "is required"))
}

/// A field that may be there; `null` is the same as nothing.
pub fn optional<'a>(object: &'a Map<String, Value>, name: &str) -> Option<Field<'a>> {
    let value = object.get(name).filter(|value| !value.is_null())?;
    Some(Field {
        path: name.to_owned(),
        value,
    })
}

/// As [`optional`], of an object that `path` leads to; empty for the body as a whole.
pub fn optional_in<'a>(object: &'a Map<String, Value>, path: &str, name: &str) -> Option<Field<'a>> {
    let mut field = optional(object, name)?;
    if !path.is_empty() {
        field.path = format!("{path}.{name}");
    }
    Some(field)
}

/// A text that is not empty and at most so many bytes long.
///
/// # Errors
/// When it is something else.
pub fn text(field: Field<'_>, max_bytes: usize) -> Result<String, InvalidField> {
    let text = field.value.as_str().ok_or_else(|| field.invalid("must be a string"))?;
    if text.is_empty() {
        return Err(field.invalid("must not be empty"));
    }
    if text.len() > max_bytes {
        return Err(field.invalid(format!("has {} bytes; at most {max_bytes} are allowed", text.len())));
    }
    Ok(text.to_owned())
}

/// The name of a metric.
///
/// # Errors
/// When it is something else.
pub fn metric_name(field: Field<'_>) -> Result<String, InvalidField> {
    text(field, limits::MAX_METRIC_NAME_BYTES)
}

/// A condition.
///
/// # Errors
/// When it is something else.
pub fn condition(field: Field<'_>) -> Result<Condition, InvalidField> {
    let text = field.value.as_str().unwrap_or_default();
    text.parse()
        .map_err(|error: crate::condition::UnknownCondition| field.invalid(error.to_string()))
}

/// A number: JSON has no infinite ones.
///
/// # Errors
/// When it is something else.
pub fn finite(field: Field<'_>) -> Result<f64, InvalidField> {
    let number = field.value.as_f64().filter(|number| number.is_finite());
    number.ok_or_else(|| field.invalid("must be a number"))
}

/// A number, or one of the strings for what JSON has no number for.
///
/// # Errors
/// When it is something else.
pub fn sample_value(field: Field<'_>) -> Result<f64, InvalidField> {
    let read = match field.value {
        Value::String(name) => value::parse_string(name),
        other => other.as_f64().ok_or(value::ValueError::NotANumber),
    };
    read.map_err(|error| field.invalid(error.to_string()))
}

/// A whole number of seconds in a range.
///
/// # Errors
/// When it is something else.
pub fn seconds(field: Field<'_>, min: u64, max: u64) -> Result<u64, InvalidField> {
    // Some writers have only floats: 60.0 is 60. Below 2^53 the conversion is exact.
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..9e15).contains(&number)).then_some(number as u64);
    let number = field.value.as_u64().or_else(|| field.value.as_f64().and_then(whole));
    number
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| field.invalid(format!("must be a whole number of seconds from {min} to {max}")))
}

/// A time: RFC 3339 or Unix seconds.
///
/// # Errors
/// When it is neither.
pub fn time(field: Field<'_>) -> Result<Timestamp, InvalidField> {
    let read = match field.value {
        Value::String(text) => Timestamp::parse(text),
        other => Timestamp::from_unix_seconds(other.as_f64().unwrap_or(f64::NAN)),
    };
    read.map_err(|error| field.invalid(error.to_string()))
}

/// True or false.
///
/// # Errors
/// When it is something else.
pub fn boolean(field: Field<'_>) -> Result<bool, InvalidField> {
    field
        .value
        .as_bool()
        .ok_or_else(|| field.invalid("must be true or false"))
}

/// A list of texts without repetitions, in the order given. With `commas` also one text, as in a query string.
///
/// # Errors
/// When it is something else.
pub fn texts(field: Field<'_>, max_count: usize, max_bytes: usize, commas: bool) -> Result<Vec<String>, InvalidField> {
    let mut texts = Vec::new();
    match field.value {
        Value::String(joined) if commas => {
            let split = joined.split(',').map(str::trim).filter(|text| !text.is_empty());
            texts.extend(split.map(str::to_owned));
        }
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                let path = format!("{}[{index}]", field.path);
                texts.push(text(Field { path, value }, max_bytes)?);
            }
        }
        _ => return Err(field.invalid("must be a list of strings")),
    }
    if texts.len() > max_count {
        return Err(field.invalid(format!("has {} entries; at most {max_count} are allowed", texts.len())));
    }
    let mut unique: Vec<String> = Vec::with_capacity(texts.len());
    for text in texts {
        if text.len() > max_bytes {
            return Err(field.invalid(format!(
                "has an entry of {} bytes; at most {max_bytes} are allowed",
                text.len()
            )));
        }
        if !unique.contains(&text) {
            unique.push(text);
        }
    }
    Ok(unique)
}

/// An object of texts.
///
/// # Errors
/// When it is something else.
pub fn text_map(field: Field<'_>) -> Result<Vec<(String, String)>, InvalidField> {
    let object = field
        .value
        .as_object()
        .ok_or_else(|| field.invalid("must be an object of strings"))?;
    let mut pairs = Vec::with_capacity(object.len());
    for (name, value) in object {
        let text = value
            .as_str()
            .ok_or_else(|| invalid(format!("{}.{name}", field.path), "must be a string"))?;
        pairs.push((name.clone(), text.to_owned()));
    }
    Ok(pairs)
}

/// A label filter: an object of names and values that must be equal, or the text of a selector.
///
/// # Errors
/// When it is something else; names the label where one is wrong.
pub fn filter(field: Field<'_>) -> Result<LabelFilter, InvalidField> {
    let path = field.path.clone();
    let read = match field.value {
        Value::String(text) => text.parse(),
        Value::Object(_) => LabelFilter::equal(text_map(field)?),
        _ => return Err(field.invalid("must be an object of strings, or the text of a selector")),
    };
    read.map_err(|error| invalid_filter(&path, &error))
}

/// The error that a label filter is wrong.
#[must_use]
pub fn invalid_filter(path: &str, error: &FilterError) -> InvalidField {
    let path = match error.label() {
        Some(label) => format!("{path}.{label}"),
        None => path.to_owned(),
    };
    invalid(path, error.to_string())
}

/// An address that is posted to: only what can be told from the text. Where the name leads is checked when something is sent, after
/// resolving it.
///
/// # Errors
/// When it is no such address.
pub fn http_url(field: Field<'_>) -> Result<String, InvalidField> {
    let path = field.path.clone();
    let text = text(field, MAX_WEBHOOK_URL_BYTES)?;
    let url = Url::parse(&text).map_err(|error| invalid(&path, format!("must be a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(invalid(path, "must begin with http:// or https://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid(path, "must name a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid(path, "must not hold a user name or password"));
    }
    Ok(text)
}

/// Applies a JSON merge patch (RFC 7396, section 2): a field of the patch replaces, `null` removes, objects are merged.
pub fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            merge(target.entry(name).or_insert(Value::Null), value);
        }
    }
}
