//! From a request's JSON to silences, inhibitions and mute times that are valid as a whole.

use super::{Inhibition, MuteTime, Silence, TimeInterval, TimeRange};
use serde_json::{Map, Value};
use tidemark_model::matcher::MatchOp;
use tidemark_model::{LabelFilter, Timestamp, limits};
use tidemark_rules::InvalidField;
use tidemark_rules::rule::fields::{self, Field, invalid};

/// The longest id of what people name, in bytes: it is part of keys, and of a path.
const MAX_ID_BYTES: usize = tidemark_rules::rule::MAX_CHANNEL_BYTES;

/// The longest silence, in seconds: what is to be silent for longer is to be disabled.
const MAX_SILENCE_SECONDS: u64 = 366 * 86_400;

/// The most intervals of a mute time, and the most ranges of each of their kinds. Each is looked at for each notification.
const MAX_INTERVALS: usize = 64;

/// The longest text of a range, in bytes: `september:november` and names of time zones are shorter.
const MAX_RANGE_BYTES: usize = 64;

/// What a user writes of a silence.
#[derive(Clone, Debug, PartialEq)]
pub struct SilenceSpec {
    /// Which alerts.
    pub matchers: LabelFilter,
    /// From when; `None`: from now, or as it was.
    pub starts_at: Option<Timestamp>,
    /// Until when.
    pub ends: SilenceEnd,
    /// Who.
    pub created_by: String,
    /// Why.
    pub comment: String,
}

/// When a silence ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilenceEnd {
    /// At this time.
    At(Timestamp),
    /// So many seconds after its start.
    After(u64),
}

impl SilenceSpec {
    /// Reads a silence: `matchers`, `created_by`, `comment`, `ends_at` or `duration_seconds`, and `starts_at`. Unknown fields, and those that
    /// only the server writes, are ignored.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(body: &Value) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let matchers = matchers(fields::required(object, "matchers")?)?;
        let starts_at = fields::optional(object, "starts_at").map(fields::time).transpose()?;
        let ends_at = fields::optional(object, "ends_at");
        let duration = fields::optional(object, "duration_seconds");
        let ends = match (ends_at, duration) {
            (Some(_), Some(duration)) => return Err(duration.invalid("cannot be given together with ends_at")),
            (Some(field), None) => SilenceEnd::At(fields::time(field)?),
            (None, Some(field)) => SilenceEnd::After(fields::seconds(field, 1, MAX_SILENCE_SECONDS)?),
            (None, None) => return Err(invalid("ends_at", "is required, or duration_seconds")),
        };
        Ok(Self {
            matchers,
            starts_at,
            ends,
            created_by: fields::required(object, "created_by")
                .and_then(|field| fields::text(field, limits::MAX_AUTHOR_BYTES))?,
            comment: fields::required(object, "comment")
                .and_then(|field| fields::text(field, limits::MAX_COMMENT_BYTES))?,
        })
    }

    /// The times of this silence, written at `now` in place of one that began or begins at `stored`. What is past is not rewritten: a silence
    /// that has begun keeps its beginning, and a new one begins now at the earliest.
    ///
    /// # Errors
    /// When it would be over already, or never begin, or last too long.
    pub fn times(&self, stored: Option<Timestamp>, now: Timestamp) -> Result<(Timestamp, Timestamp), InvalidField> {
        let begun = stored.filter(|stored| *stored <= now);
        let starts_at = match self.starts_at.or(stored) {
            Some(at) if at > now => at,
            _ => begun.unwrap_or(now),
        };
        let (field, ends_at) = match self.ends {
            SilenceEnd::At(at) => ("ends_at", at),
            SilenceEnd::After(seconds) => ("duration_seconds", after(starts_at, seconds)),
        };
        if ends_at <= now {
            return Err(invalid(field, "is in the past"));
        }
        if ends_at <= starts_at {
            return Err(invalid(field, "must be after starts_at"));
        }
        if ends_at > after(starts_at, MAX_SILENCE_SECONDS) {
            let days = MAX_SILENCE_SECONDS / 86_400;
            return Err(invalid(field, format!("must be at most {days} days after starts_at")));
        }
        Ok((starts_at, ends_at))
    }
}

fn after(start: Timestamp, seconds: u64) -> Timestamp {
    let ms = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
    Timestamp(start.0.saturating_add(ms))
}

impl Silence {
    /// A new silence.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        let spec = SilenceSpec::parse(body)?;
        let (starts_at, ends_at) = spec.times(None, now)?;
        Ok(Self {
            id,
            matchers: spec.matchers,
            starts_at,
            ends_at,
            created_by: spec.created_by,
            comment: spec.comment,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

impl Inhibition {
    /// Reads an inhibition: `source_matchers`, `target_matchers` and `equal`. The rest is the caller's.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let equal = fields::optional(object, "equal").map(|field| {
            fields::texts(
                field,
                limits::MAX_LABELS_PER_SERIES,
                limits::MAX_LABEL_NAME_BYTES,
                false,
            )
        });
        Ok(Self {
            id,
            source_matchers: matchers(fields::required(object, "source_matchers")?)?,
            target_matchers: matchers(fields::required(object, "target_matchers")?)?,
            equal: equal.transpose()?.unwrap_or_default(),
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

impl MuteTime {
    /// Reads a mute time: `time_intervals`. The rest is the caller's.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(id: String, body: &Value, now: Timestamp) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let field = fields::required(object, "time_intervals")?;
        let mut time_intervals = Vec::new();
        for entry in entries(field)? {
            time_intervals.push(time_interval(&entry)?);
        }
        if time_intervals.is_empty() {
            return Err(invalid("time_intervals", "must not be empty"));
        }
        Ok(Self {
            id,
            time_intervals,
            version: 1,
            created_at: now,
            updated_at: now,
        })
    }
}

/// The name that an author chose, from a body: `name`, or `id` as in answers.
///
/// # Errors
/// When it is missing or may not be one.
pub fn chosen_id(body: &Value) -> Result<String, InvalidField> {
    let object = fields::object(body)?;
    let field = fields::optional(object, "name").or_else(|| fields::optional(object, "id"));
    let field = field.ok_or_else(|| invalid("name", "is required"))?;
    let path = field.path.clone();
    let id = fields::text(field, MAX_ID_BYTES)?;
    if id.trim() != id || id.chars().any(|c| c.is_control() || "/\\?#%".contains(c)) {
        let reason = "must not begin or end with a space or hold control characters or any of / \\ ? # %";
        return Err(invalid(path, reason));
    }
    if matches!(id.as_str(), "." | "..") {
        return Err(invalid(path, "cannot be part of a path"));
    }
    Ok(id)
}

/// Refuses a body that names another than the path does: names never change.
///
/// # Errors
/// When it does.
pub fn same_id(body: &Value, id: &str) -> Result<(), InvalidField> {
    let object = fields::object(body)?;
    for name in ["name", "id"] {
        if let Some(field) = fields::optional(object, name)
            && field.value.as_str() != Some(id)
        {
            return Err(field.invalid(format!("never changes; it is `{id}`")));
        }
    }
    Ok(())
}

/// The matchers of a silence or an inhibition: the text of a selector, an object of names and values that must be equal, or Alertmanager's
/// list of objects with `name`, `value`, `isRegex` and `isEqual`.
///
/// # Errors
/// When it is none of these, or would match an alert without labels: it would match all that there is.
pub fn matchers(field: Field<'_>) -> Result<LabelFilter, InvalidField> {
    let path = field.path.clone();
    let filter = match field.value {
        Value::Array(_) => {
            let mut written = Vec::new();
            for entry in entries(field)? {
                written.push(matcher(&entry)?);
            }
            LabelFilter::new(written).map_err(|error| fields::invalid_filter(&path, &error))?
        }
        Value::String(_) | Value::Object(_) => fields::filter(field)?,
        _ => {
            let reason = "must be the text of a selector, an object of strings, or a list of matchers";
            return Err(field.invalid(reason));
        }
    };
    if filter.matchers().all(|matcher| matcher.matches("")) {
        return Err(invalid(path, "must have a matcher that does not match the empty text"));
    }
    Ok(filter)
}

fn matcher(entry: &Field<'_>) -> Result<(String, MatchOp, String), InvalidField> {
    let object = object(entry)?;
    // A misspelt `isRegex` would silently mean something else.
    known(
        entry,
        object,
        &["name", "value", "isRegex", "isEqual", "is_regex", "is_equal"],
    )?;
    let text = |name: &str| {
        let field = inner(entry, object, name).ok_or_else(|| invalid(path(entry, name), "is required"))?;
        let text = field.value.as_str().ok_or_else(|| field.invalid("must be a string"))?;
        Ok::<_, InvalidField>(text.to_owned())
    };
    let flag = |camel: &str, snake: &str, default: bool| {
        let field = inner(entry, object, camel).or_else(|| inner(entry, object, snake));
        field.map_or(Ok(default), fields::boolean)
    };
    let op = match (flag("isRegex", "is_regex", false)?, flag("isEqual", "is_equal", true)?) {
        (false, true) => MatchOp::Equal,
        (false, false) => MatchOp::NotEqual,
        (true, true) => MatchOp::Regex,
        (true, false) => MatchOp::NotRegex,
    };
    Ok((text("name")?, op, text("value")?))
}

fn time_interval(entry: &Field<'_>) -> Result<TimeInterval, InvalidField> {
    let object = object(entry)?;
    // What is not given always holds, so that a misspelt field would mute for ever.
    known(
        entry,
        object,
        &["times", "weekdays", "days_of_month", "months", "years", "location"],
    )?;
    let ranges = |name: &str| match inner(entry, object, name) {
        Some(field) => fields::texts(field, MAX_INTERVALS, MAX_RANGE_BYTES, false),
        None => Ok(Vec::new()),
    };
    let mut times = Vec::new();
    if let Some(field) = inner(entry, object, "times") {
        for entry in entries(field)? {
            times.push(time_range(&entry)?);
        }
    }
    let location = inner(entry, object, "location").map(|field| fields::text(field, MAX_RANGE_BYTES));
    let interval = TimeInterval {
        times,
        weekdays: ranges("weekdays")?,
        days_of_month: ranges("days_of_month")?,
        months: ranges("months")?,
        years: ranges("years")?,
        location: location.transpose()?,
    };
    interval
        .check()
        .map_err(|error| invalid(path(entry, &error.field), error.reason))?;
    Ok(interval)
}

fn time_range(entry: &Field<'_>) -> Result<TimeRange, InvalidField> {
    let object = object(entry)?;
    known(entry, object, &["start_time", "end_time"])?;
    let text = |name: &str| {
        let field = inner(entry, object, name).ok_or_else(|| invalid(path(entry, name), "is required"))?;
        fields::text(field, MAX_RANGE_BYTES)
    };
    Ok(TimeRange {
        start_time: text("start_time")?,
        end_time: text("end_time")?,
    })
}

/// The entries of a list, each with its path.
fn entries(field: Field<'_>) -> Result<Vec<Field<'_>>, InvalidField> {
    let list = field.value.as_array().ok_or_else(|| field.invalid("must be a list"))?;
    if list.len() > MAX_INTERVALS {
        let count = list.len();
        return Err(field.invalid(format!("has {count} entries; at most {MAX_INTERVALS} are allowed")));
    }
    let entry = |(at, value)| Field {
        path: format!("{}[{at}]", field.path),
        value,
    };
    Ok(list.iter().enumerate().map(entry).collect())
}

fn object<'a>(entry: &Field<'a>) -> Result<&'a Map<String, Value>, InvalidField> {
    entry
        .value
        .as_object()
        .ok_or_else(|| entry.invalid("must be an object"))
}

fn path(entry: &Field<'_>, name: &str) -> String {
    format!("{}.{name}", entry.path)
}

fn inner<'a>(entry: &Field<'_>, object: &'a Map<String, Value>, name: &str) -> Option<Field<'a>> {
    fields::optional_in(object, &entry.path, name)
}

fn known(entry: &Field<'_>, object: &Map<String, Value>, names: &[&str]) -> Result<(), InvalidField> {
    match object.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(unknown) => {
            let names = names.join(", ");
            Err(invalid(
                path(entry, unknown),
                format!("is not known here; known are {names}"),
            ))
        }
    }
}

#[cfg(test)]
mod tests;
