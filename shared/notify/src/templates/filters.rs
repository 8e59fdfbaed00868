//! The filters and tests of templates. Of the engine's own only those whose results are not much larger than what they are given; the
//! others are written here with a limit.

use super::{FILTER_BYTES, MAX_OUTPUT_BYTES, too_long, written};
use crate::senders::text;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, filters, tests};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the filters of one run may still make.
#[derive(Clone)]
struct Budget(Arc<AtomicUsize>);

impl Budget {
    fn spend(&self, bytes: usize) -> Result<(), Error> {
        let take = |left: usize| left.checked_sub(bytes);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken
            .map(|_| ())
            .map_err(|_| Error::new(ErrorKind::WriteFailure, "its filters make too much"))
    }

    /// A list of as many elements.
    fn list(&self, value: &Value) -> Result<(), Error> {
        self.spend(
            value
                .len()
                .unwrap_or(0)
                .saturating_add(1)
                .saturating_mul(size_of::<Value>()),
        )
    }

    /// A text that is made anew.
    fn text(&self, text: String) -> Result<String, Error> {
        if text.len() > MAX_OUTPUT_BYTES {
            return Err(too_long());
        }
        self.spend(text.len())?;
        Ok(text)
    }
}

/// Adds them all.
pub(super) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("max", filters::max);
    environment.add_filter("min", filters::min);
    environment.add_filter("round", filters::round);
    let budget = Budget(Arc::new(AtomicUsize::new(FILTER_BYTES)));
    add_texts(environment, &budget);
    add_lists(environment, &budget);
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

/// What a filter makes of a text.
type OfText = fn(&str) -> String;

fn add_texts(environment: &mut Environment<'_>, budget: &Budget) {
    let of: [(&'static str, OfText); 4] = [
        ("capitalize", capitalize),
        ("lower", str::to_lowercase),
        ("title", |text| filters::title(Cow::Borrowed(text))),
        ("upper", str::to_uppercase),
    ];
    for (name, change) in of {
        let budget = budget.clone();
        environment.add_filter(name, move |value: &Value| budget.text(change(&as_text(value)?)));
    }
    let own = budget.clone();
    environment.add_filter("trim", move |value: &Value, chars: Option<String>| {
        let whole = as_text(value)?;
        let trimmed = match chars {
            Some(chars) => whole.trim_matches(|c| chars.contains(c)),
            None => whole.trim(),
        };
        own.text(trimmed.to_owned())
    });
    let own = budget.clone();
    environment.add_filter("duration", move |value: &Value| own.text(duration(value)?));
    let own = budget.clone();
    environment.add_filter("join", move |values: &Value, between: Option<String>| {
        own.text(join(values, between)?)
    });
    let own = budget.clone();
    environment.add_filter("replace", move |value: &Value, from: String, to: String| {
        own.text(replace(value, &from, &to)?)
    });
    let own = budget.clone();
    environment.add_filter("truncate", move |value: &Value, length: Option<usize>| {
        own.text(truncate(value, length)?)
    });
}

fn add_lists(environment: &mut Environment<'_>, budget: &Budget) {
    let own = budget.clone();
    environment.add_filter("dictsort", move |value: &Value, kwargs: Kwargs| {
        own.list(value)?;
        filters::dictsort(value, kwargs)
    });
    let own = budget.clone();
    environment.add_filter("items", move |value: &Value| {
        own.list(value)?;
        filters::items(value)
    });
    let own = budget.clone();
    environment.add_filter("sort", move |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        own.list(&value)?;
        filters::sort(state, value, kwargs)
    });
    let own = budget.clone();
    environment.add_filter("unique", move |state: &State<'_, '_>, value: Value, kwargs: Kwargs| {
        own.list(&value)?;
        filters::unique(state, value, kwargs)
    });
    let own = budget.clone();
    environment.add_filter(
        "groupby",
        move |value: Value, attribute: Option<String>, kwargs: Kwargs| {
            own.list(&value)?;
            only_scalars(&kwargs)?;
            filters::groupby(value, attribute.as_deref(), kwargs)
        },
    );
    let own = budget.clone();
    environment.add_filter("map", move |state: &State<'_, '_>, value: Value, args: Rest<Value>| {
        own.list(&value)?;
        for argument in args.iter() {
            if argument.is_kwargs() {
                only_scalars(&Kwargs::try_from(argument.clone())?)?;
            } else if !is_scalar(argument) {
                return Err(no_scalar());
            }
        }
        filters::map(state, value, args)
    });
    add_selections(environment, budget);
}

fn add_selections(environment: &mut Environment<'_>, budget: &Budget) {
    type Test = Option<String>;
    let own = budget.clone();
    environment.add_filter(
        "select",
        move |state: &State<'_, '_>, value: Value, test: Test, args: Rest<Value>| {
            own.list(&value)?;
            filters::select(state, value, test.map(Cow::Owned), args)
        },
    );
    let own = budget.clone();
    environment.add_filter(
        "reject",
        move |state: &State<'_, '_>, value: Value, test: Test, args: Rest<Value>| {
            own.list(&value)?;
            filters::reject(state, value, test.map(Cow::Owned), args)
        },
    );
    let own = budget.clone();
    environment.add_filter(
        "selectattr",
        move |state: &State<'_, '_>, value: Value, name: String, test: Test, args: Rest<Value>| {
            own.list(&value)?;
            filters::selectattr(state, value, Cow::Owned(name), test.map(Cow::Owned), args)
        },
    );
    let own = budget.clone();
    environment.add_filter(
        "rejectattr",
        move |state: &State<'_, '_>, value: Value, name: String, test: Test, args: Rest<Value>| {
            own.list(&value)?;
            filters::rejectattr(state, value, Cow::Owned(name), test.map(Cow::Owned), args)
        },
    );
}

/// A list within the elements of another would make a value that holds another twice.
fn only_scalars(kwargs: &Kwargs) -> Result<(), Error> {
    for name in kwargs.args() {
        if !is_scalar(&kwargs.peek::<Value>(name)?) {
            return Err(no_scalar());
        }
    }
    Ok(())
}

fn is_scalar(value: &Value) -> bool {
    use ValueKind::{Bool, None, Number, String, Undefined};
    matches!(value.kind(), Bool | None | Number | String | Undefined)
}

fn no_scalar() -> Error {
    Error::new(
        ErrorKind::WriteFailure,
        "an argument of a filter must be a text or a number here",
    )
}

fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + &chars.as_str().to_lowercase()
}

fn as_text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_owned()),
        None if value.is_undefined() || value.is_none() => Ok(String::new()),
        None => written(value),
    }
}

/// Seconds as `1h 5m`; what is no number stays as it is.
fn duration(seconds: &Value) -> Result<String, Error> {
    match f64::try_from(seconds.clone()) {
        // A saturating conversion.
        Ok(number) if number.is_finite() => Ok(text::duration(number as i64)),
        _ => as_text(seconds),
    }
}

/// The elements with something between them.
fn join(values: &Value, between: Option<String>) -> Result<String, Error> {
    if values.is_undefined() || values.is_none() {
        return Ok(String::new());
    }
    let between = between.unwrap_or_default();
    let mut joined = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        if index > 0 {
            joined.push_str(&between);
        }
        joined.push_str(&as_text(&value)?);
        if joined.len() > MAX_OUTPUT_BYTES {
            return Err(too_long());
        }
    }
    Ok(joined)
}

/// The text with each occurrence of one text replaced by another.
fn replace(value: &Value, from: &str, to: &str) -> Result<String, Error> {
    let whole = as_text(value)?;
    let grows = whole.matches(from).count().saturating_mul(to.len());
    if whole.len().saturating_add(grows) > MAX_OUTPUT_BYTES {
        return Err(too_long());
    }
    Ok(whole.replace(from, to))
}

/// At most so many characters; what is cut ends with an ellipsis.
fn truncate(value: &Value, length: Option<usize>) -> Result<String, Error> {
    let whole = as_text(value)?;
    let length = length.unwrap_or(255);
    Ok(match whole.char_indices().nth(length) {
        None => whole,
        Some(_) => {
            let mut short: String = whole.chars().take(length.saturating_sub(1)).collect();
            short.push('…');
            short
        }
    })
}
