//! From a request's JSON to a rule that is valid as a whole.

use super::fields::{self, Field, invalid};
use super::{
    DEFAULT_WINDOW_SECONDS, InvalidField, MAX_ANNOTATIONS_BYTES, MIN_INTERVAL_SECONDS, NoData, Query, RuleSpec,
    Severity, Threshold, WEBHOOK_CHANNEL,
};
use crate::routing::{self, ChannelUse};
use crate::template;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use tidemark_model::{LabelFilter, limits};
use tidemark_tsdb::aggregate::fold::{Function, UnknownFunction};

impl RuleSpec {
    /// Reads a whole rule, for POST and PUT. `name` is required, and of a threshold rule `metric_name`, `condition` and `threshold`;
    /// the kind is `threshold`, the severity `warning`, `enabled` true, `no_data` `ok`, the durations 0, the window 300 s and the interval 60 s
    /// where they are not given; a rule with a `webhook_url` and no channels has the channel `webhook`. Unknown fields, those of another
    /// kind, and those that only the server writes, are ignored.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(body: &Value) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let webhook_url = fields::optional(object, "webhook_url")
            .map(fields::http_url)
            .transpose()?;
        let spec = Self {
            name: fields::required(object, "name").and_then(name)?,
            query: query(object)?,
            duration_seconds: seconds(object, "duration_seconds", 0, 0)?,
            keep_firing_for_seconds: seconds(object, "keep_firing_for_seconds", 0, 0)?,
            interval_seconds: fields::optional(object, "interval_seconds")
                .map_or(Ok(MIN_INTERVAL_SECONDS), interval)?,
            no_data: fields::optional(object, "no_data").map_or(Ok(NoData::Ok), no_data)?,
            severity: fields::optional(object, "severity").map_or(Ok(Severity::Warning), severity)?,
            alert_labels: fields::optional(object, "alert_labels").map_or_else(|| Ok(BTreeMap::new()), alert_labels)?,
            notification_channels: channels(object, webhook_url.is_some())?,
            webhook_url,
            repeat_interval_seconds: fields::optional(object, "repeat_interval_seconds")
                .map(routing::repeat_interval)
                .transpose()?,
            annotations: fields::optional(object, "annotations").map_or_else(|| Ok(BTreeMap::new()), annotations)?,
            enabled: fields::optional(object, "enabled").map_or(Ok(true), fields::boolean)?,
        };
        if spec.query == Query::Heartbeat && spec.duration_seconds > 0 {
            return Err(invalid(
                "duration_seconds",
                "must be 0 for a heartbeat, which fires at once",
            ));
        }
        Ok(spec)
    }

    /// Applies a JSON merge patch (RFC 7396) to this rule: a field of the patch replaces, `null` takes back to the default,
    /// objects are merged. The result is checked as a whole.
    ///
    /// # Errors
    /// Names the first field that is wrong in the result.
    pub fn patched(&self, patch: &Value) -> Result<Self, InvalidField> {
        fields::object(patch)?;
        let mut whole = serde_json::to_value(self).map_err(|error| invalid("", error.to_string()))?;
        fields::merge(&mut whole, patch);
        Self::parse(&whole)
    }
}

fn query(object: &Map<String, Value>) -> Result<Query, InvalidField> {
    let Some(kind) = fields::optional(object, "kind") else {
        return threshold(object);
    };
    match kind.value.as_str() {
        Some("threshold") => threshold(object),
        Some("heartbeat") => Ok(Query::Heartbeat),
        _ => Err(kind.invalid("must be one of threshold, heartbeat")),
    }
}

fn threshold(object: &Map<String, Value>) -> Result<Query, InvalidField> {
    let threshold = Threshold {
        metric_name: fields::required(object, "metric_name").and_then(fields::metric_name)?,
        labels: fields::optional(object, "labels").map_or_else(|| Ok(LabelFilter::default()), fields::filter)?,
        aggregation: fields::optional(object, "aggregation").map(aggregation).transpose()?,
        group_by: fields::optional(object, "group_by").map_or_else(|| Ok(Vec::new()), group_by)?,
        condition: fields::required(object, "condition").and_then(fields::condition)?,
        threshold: fields::required(object, "threshold").and_then(fields::finite)?,
        window_seconds: seconds(object, "window_seconds", 1, DEFAULT_WINDOW_SECONDS)?,
    };
    if threshold.aggregation.is_none() && !threshold.group_by.is_empty() {
        return Err(invalid("group_by", "needs an aggregation"));
    }
    Ok(Query::Threshold(threshold))
}

fn name(field: Field<'_>) -> Result<String, InvalidField> {
    let path = field.path.clone();
    let name = fields::text(field, limits::MAX_RULE_NAME_BYTES)?;
    if name.trim() != name || name.chars().any(char::is_control) {
        return Err(invalid(
            path,
            "must not begin or end with a space or hold control characters",
        ));
    }
    Ok(name)
}

fn aggregation(field: Field<'_>) -> Result<Function, InvalidField> {
    let text = field.value.as_str().unwrap_or_default();
    text.parse()
        .map_err(|error: UnknownFunction| field.invalid(error.to_string()))
}

fn group_by(field: Field<'_>) -> Result<Vec<String>, InvalidField> {
    fields::texts(field, limits::MAX_LABELS_PER_SERIES, limits::MAX_LABEL_NAME_BYTES, true)
}

fn seconds(object: &Map<String, Value>, name: &str, min: u64, default: u64) -> Result<u64, InvalidField> {
    fields::optional(object, name).map_or(Ok(default), |field| {
        fields::seconds(field, min, limits::MAX_RULE_SECONDS)
    })
}

/// A schedule ticks once a minute.
fn interval(field: Field<'_>) -> Result<u64, InvalidField> {
    let path = field.path.clone();
    let seconds = fields::seconds(field, MIN_INTERVAL_SECONDS, limits::MAX_INTERVAL_SECONDS)?;
    if seconds % MIN_INTERVAL_SECONDS != 0 {
        return Err(invalid(path, format!("must be a multiple of {MIN_INTERVAL_SECONDS}")));
    }
    Ok(seconds)
}

fn no_data(field: Field<'_>) -> Result<NoData, InvalidField> {
    match field.value.as_str() {
        Some("ok") => Ok(NoData::Ok),
        Some("alerting") => Ok(NoData::Alerting),
        Some("keep") => Ok(NoData::Keep),
        _ => Err(field.invalid("must be one of ok, alerting, keep")),
    }
}

fn severity(field: Field<'_>) -> Result<Severity, InvalidField> {
    match field.value.as_str() {
        Some("info") => Ok(Severity::Info),
        Some("warning") => Ok(Severity::Warning),
        Some("critical") => Ok(Severity::Critical),
        _ => Err(field.invalid("must be one of info, warning, critical")),
    }
}

fn channels(object: &Map<String, Value>, has_webhook: bool) -> Result<Vec<ChannelUse>, InvalidField> {
    match fields::optional(object, "notification_channels") {
        Some(field) => ChannelUse::parse_list(&field),
        None if has_webhook => Ok(vec![WEBHOOK_CHANNEL.into()]),
        None => Ok(Vec::new()),
    }
}

/// Labels that every alert of a rule has. What Tidemark itself says in a label is not to be said otherwise.
fn alert_labels(field: Field<'_>) -> Result<BTreeMap<String, String>, InvalidField> {
    let path = field.path.clone();
    let pairs = fields::text_map(field)?;
    let (count, most) = (pairs.len(), limits::MAX_ALERT_LABELS_PER_RULE);
    if count > most {
        return Err(invalid(
            path,
            format!("has {count} entries; at most {most} are allowed"),
        ));
    }
    for (name, value) in &pairs {
        let path = format!("{path}.{name}");
        check_name(&path, name)?;
        match name.as_str() {
            "alertname" => return Err(invalid(path, "cannot be set: it is the rule's `name`")),
            "severity" => return Err(invalid(path, "cannot be set: it is the rule's `severity`")),
            "__name__" => return Err(invalid(path, "cannot be set: it is the name of a metric")),
            _ => {}
        }
        let (bytes, most) = (value.len(), limits::MAX_LABEL_VALUE_BYTES);
        if bytes > most {
            return Err(invalid(path, format!("has {bytes} bytes; at most {most} are allowed")));
        }
        if value.is_empty() {
            return Err(invalid(path, "must not be empty: that is the same as no label"));
        }
    }
    let bytes: usize = pairs.iter().map(|(name, text)| name.len() + text.len()).sum();
    let most = limits::MAX_ALERT_LABELS_BYTES;
    if bytes > most {
        return Err(invalid(
            path,
            format!("has {bytes} bytes together; at most {most} are allowed"),
        ));
    }
    Ok(pairs.into_iter().collect())
}

/// The name of a label or an annotation.
fn check_name(path: &str, name: &str) -> Result<(), InvalidField> {
    let most = limits::MAX_LABEL_NAME_BYTES;
    if name.is_empty() || name.len() > most {
        return Err(invalid(path, format!("must have a name of 1 to {most} bytes")));
    }
    Ok(())
}

fn annotations(field: Field<'_>) -> Result<BTreeMap<String, String>, InvalidField> {
    let path = field.path.clone();
    let pairs = fields::text_map(field)?;
    if pairs.len() > limits::MAX_ANNOTATIONS_PER_RULE {
        let limit = limits::MAX_ANNOTATIONS_PER_RULE;
        return Err(invalid(
            path,
            format!("has {} entries; at most {limit} are allowed", pairs.len()),
        ));
    }
    for (name, text) in &pairs {
        let path = format!("{path}.{name}");
        check_name(&path, name)?;
        if text.len() > limits::MAX_ANNOTATION_BYTES {
            let limit = limits::MAX_ANNOTATION_BYTES;
            return Err(invalid(
                path,
                format!("has {} bytes; at most {limit} are allowed", text.len()),
            ));
        }
        template::check(text).map_err(|error| invalid(path, error.to_string()))?;
    }
    let bytes: usize = pairs.iter().map(|(name, text)| name.len() + text.len()).sum();
    if bytes > MAX_ANNOTATIONS_BYTES {
        let reason = format!("have {bytes} bytes together; at most {MAX_ANNOTATIONS_BYTES} are allowed");
        return Err(invalid(path, reason));
    }
    Ok(pairs.into_iter().collect())
}
