//! One sample as the caller gives it, and its JSON.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// One sample of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// The metric's name, with its unit at the end: `memory_used_bytes`.
    pub name: String,
    /// Any value; NaN and the infinities are legal.
    pub value: f64,
    /// What tells this series from others of the same name. They win over the client's own labels.
    pub labels: BTreeMap<String, String>,
    /// When it was measured, to the millisecond. `None` is the moment of [`Client::push`](crate::Client::push).
    pub timestamp: Option<SystemTime>,
}

impl Metric {
    /// A sample without labels, measured when it is pushed.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self {
            name: name.into(),
            value,
            labels: BTreeMap::new(),
            timestamp: None,
        }
    }

    /// Adds a label, or replaces its value.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Says when it was measured.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        self.timestamp = Some(time);
        self
    }

    /// The sample's JSON, with its time fixed: sent again, it is the same sample of the same series, and overwrites itself.
    pub(crate) fn encode(&self, defaults: &BTreeMap<String, String>, now: SystemTime) -> Box<str> {
        let mut json = String::with_capacity(64 + self.name.len() + 32 * (self.labels.len() + defaults.len()));
        json.push_str("{\"name\":");
        push_string(&mut json, &self.name);
        json.push_str(",\"value\":");
        push_value(&mut json, self.value);
        json.push_str(",\"labels\":{");
        let inherited = defaults.iter().filter(|(name, _)| !self.labels.contains_key(*name));
        for (i, (name, value)) in self.labels.iter().chain(inherited).enumerate() {
            if i > 0 {
                json.push(',');
            }
            push_string(&mut json, name);
            json.push(':');
            push_string(&mut json, value);
        }
        json.push_str("},\"timestamp\":");
        push_unix_seconds(&mut json, unix_millis(self.timestamp.unwrap_or(now)));
        json.push('}');
        json.into_boxed_str()
    }
}

/// Milliseconds since the Unix epoch, negative before it.
fn unix_millis(time: SystemTime) -> i64 {
    let clamp = |millis: u128| i64::try_from(millis).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => clamp(after.as_millis()),
        Err(before) => -clamp(before.duration().as_millis()),
    }
}

/// Unix seconds with three decimals, written from the integer: no rounding can move a sample to another millisecond.
fn push_unix_seconds(json: &mut String, millis: i64) {
    if millis < 0 {
        json.push('-');
    }
    let millis = millis.unsigned_abs();
    json.push_str(&format!("{}.{:03}", millis / 1_000, millis % 1_000));
}

/// The shortest decimal that reads back to the same bits, or the string of a value that JSON has no number for.
fn push_value(json: &mut String, value: f64) {
    match value {
        v if v.is_nan() => json.push_str("\"NaN\""),
        f64::INFINITY => json.push_str("\"+Inf\""),
        f64::NEG_INFINITY => json.push_str("\"-Inf\""),
        // Debug writes 1e308 as such; Display would write 309 digits.
        v => json.push_str(&format!("{v:?}")),
    }
}

fn push_string(json: &mut String, text: &str) {
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", c as u32)),
            c => json.push(c),
        }
    }
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn encoded(metric: &Metric) -> Value {
        serde_json::from_str(&metric.encode(&BTreeMap::new(), UNIX_EPOCH)).unwrap()
    }

    #[test]
    fn any_text_survives_as_json() {
        let name = "cpu \"load\"\\\n\t\u{0}\u{1f}\u{7f} µ 漢 \u{1f980}";
        let metric = Metric::new(name, 1.5).label("ключ", "").label("path", "C:\\x");
        assert_eq!(
            encoded(&metric),
            json!({"name": name, "value": 1.5, "labels": {"ключ": "", "path": "C:\\x"}, "timestamp": 0.0})
        );
    }

    #[test]
    fn values_survive_to_the_last_bit() {
        for value in [
            0.0,
            -0.0,
            0.1,
            5e-324,
            f64::MAX,
            f64::MIN_POSITIVE,
            -1e308,
            1e21,
            123_456_789.123_456_79,
        ] {
            let back = encoded(&Metric::new("m", value))["value"].as_f64().unwrap();
            assert_eq!(back.to_bits(), value.to_bits(), "{value}");
        }
        for (value, name) in [(f64::NAN, "NaN"), (f64::INFINITY, "+Inf"), (f64::NEG_INFINITY, "-Inf")] {
            assert_eq!(encoded(&Metric::new("m", value))["value"], name);
        }
    }

    #[test]
    fn times_are_written_to_the_millisecond() {
        let written = |time| {
            let json = Metric::new("m", 1.0)
                .at(time)
                .encode(&BTreeMap::new(), UNIX_EPOCH)
                .into_string();
            json.split_once("\"timestamp\":")
                .unwrap()
                .1
                .trim_end_matches('}')
                .to_owned()
        };
        assert_eq!(
            written(UNIX_EPOCH + Duration::from_millis(1_795_347_743_007)),
            "1795347743.007"
        );
        assert_eq!(written(UNIX_EPOCH - Duration::from_millis(1_500)), "-1.500");
    }

    #[test]
    fn the_clients_labels_are_added_and_the_metrics_own_win() {
        let defaults = BTreeMap::from([
            ("host".to_owned(), "web-01".to_owned()),
            ("az".to_owned(), "a".to_owned()),
        ]);
        let json = Metric::new("m", 1.0).label("az", "b").encode(&defaults, UNIX_EPOCH);
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["labels"], json!({"host": "web-01", "az": "b"}));
    }
}
