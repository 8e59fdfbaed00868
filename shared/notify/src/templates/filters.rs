//! The filters and tests of templates. Of the engine's own only those whose results are not much larger than what they are given; the
//! others are written here with a limit.

use super::{MAX_OUTPUT_BYTES, bounded};
use crate::senders::text;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind, filters, tests};

/// Adds them all.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("dictsort", filters::dictsort);
    environment.add_filter("duration", duration);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("groupby", filters::groupby);
    environment.add_filter("int", filters::int);
    environment.add_filter("items", filters::items);
    environment.add_filter("join", join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("map", filters::map);
    environment.add_filter("max", filters::max);
    environment.add_filter("min", filters::min);
    environment.add_filter("reject", filters::reject);
    environment.add_filter("rejectattr", filters::rejectattr);
    environment.add_filter("replace", replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("select", filters::select);
    environment.add_filter("selectattr", filters::selectattr);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("truncate", truncate);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", tests::is_defined);
    environment.add_test("divisibleby", tests::is_divisibleby);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("eq", tests::is_eq);
    environment.add_test("equalto", tests::is_eq);
    environment.add_test("even", tests::is_even);
    environment.add_test("ge", tests::is_ge);
    environment.add_test("gt", tests::is_gt);
    environment.add_test("in", tests::is_in);
    environment.add_test("le", tests::is_le);
    environment.add_test("lt", tests::is_lt);
    environment.add_test("ne", tests::is_ne);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("odd", tests::is_odd);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("undefined", tests::is_undefined);
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, "the text is too long")
}

fn as_text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() || value.is_none() => String::new(),
        None => value.to_string(),
    }
}

/// Seconds as `1h 5m`; what is no number stays as it is.
fn duration(seconds: &Value) -> String {
    match f64::try_from(seconds.clone()) {
        // A saturating conversion.
        Ok(number) if number.is_finite() => text::duration(number as i64),
        _ => as_text(seconds),
    }
}

/// The elements with something between them.
fn join(values: &Value, between: Option<String>) -> Result<Value, Error> {
    if values.is_undefined() || values.is_none() {
        return Ok(Value::from(""));
    }
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(&between);
        }
        joined.push_str(&as_text(&value));
        if joined.len() > MAX_OUTPUT_BYTES {
            return Err(too_long());
        }
    }
    bounded(joined)
}

/// The text with each occurrence of one text replaced by another.
fn replace(value: &Value, from: String, to: String) -> Result<Value, Error> {
    let whole = as_text(value);
    let grows = whole.matches(from.as_str()).count().saturating_mul(to.len());
    if whole.len().saturating_add(grows) > MAX_OUTPUT_BYTES {
        return Err(too_long());
    }
    bounded(whole.replace(from.as_str(), &to))
}

/// At most so many characters; what is cut ends with an ellipsis.
fn truncate(value: &Value, length: Option<usize>) -> String {
    let whole = as_text(value);
    let length = length.unwrap_or(255);
    match whole.char_indices().nth(length) {
        None => whole,
        Some(_) => {
            let mut short: String = whole.chars().take(length.saturating_sub(1)).collect();
            short.push('…');
            short
        }
    }
}
