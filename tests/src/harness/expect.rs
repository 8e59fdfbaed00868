//! What was acknowledged, and the comparison of every sample with what a query gives.

use super::api::Api;
use super::eventually;
use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tidemark_model::Timestamp;

/// Labels, sorted.
pub type Labels = BTreeMap<String, String>;

/// Of one metric: the bits of the value of each series at each millisecond.
pub type Samples = BTreeMap<(Labels, i64), u64>;

/// A set of labels.
#[must_use]
pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A value in JSON, as the API reads it.
#[must_use]
pub fn value_json(value: f64) -> Value {
    match value {
        v if v.is_nan() => "NaN".into(),
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        v => json!(v),
    }
}

/// A value as the API writes it.
///
/// # Errors
/// When it is neither a number nor one of the three strings.
pub fn value(json: &Value) -> anyhow::Result<f64> {
    match json {
        Value::String(text) if text == "NaN" => Ok(f64::NAN),
        Value::String(text) if text == "+Inf" => Ok(f64::INFINITY),
        Value::String(text) if text == "-Inf" => Ok(f64::NEG_INFINITY),
        other => other.as_f64().with_context(|| format!("{other} is no value")),
    }
}

/// A time in Unix seconds, exact to the millisecond, as the API reads it.
#[must_use]
pub fn seconds(ms: i64) -> Value {
    // A JSON number of our own spelling: a double would do as well, but this is what agents write.
    let text = format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// One sample in JSON.
#[must_use]
pub fn sample(name: &str, labels: &Labels, ms: i64, value: f64) -> Value {
    let labels: Map<String, Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    json!({"name": name, "labels": labels, "timestamp": seconds(ms), "value": value_json(value)})
}

/// All samples that queries give for a metric in a range, page by page.
///
/// # Errors
/// When a sample comes twice, out of order, or not in the shape that samples have.
pub async fn query_samples(api: &Api, metric: &str, from_ms: i64, to_ms: i64) -> anyhow::Result<Samples> {
    let (from, to) = (Timestamp(from_ms).to_rfc3339(), Timestamp(to_ms).to_rfc3339());
    let parameters = [
        ("metric_name", metric),
        ("start_time", from.as_str()),
        ("end_time", to.as_str()),
        ("limit", "20000"),
    ];
    let rows = api.all_pages("/api/v1/query", "results", &parameters).await?;
    let mut samples = Samples::new();
    let mut last = i64::MIN;
    for row in rows {
        let (labels, ms, value) = read_row(&row).with_context(|| format!("{metric}: {row}"))?;
        ensure!(ms >= last, "{metric}: samples are not ordered by time at {row}");
        ensure!((from_ms..=to_ms).contains(&ms), "{metric}: not in the range: {row}");
        last = ms;
        let again = samples.insert((labels, ms), value.to_bits());
        ensure!(again.is_none(), "{metric}: a sample came twice: {row}");
    }
    Ok(samples)
}

fn read_row(row: &Value) -> anyhow::Result<(Labels, i64, f64)> {
    let fields = row.as_object().context("no object")?;
    ensure!(fields.len() == 4 && row["count"] == 1, "not a sample");
    let labels = row["labels"].as_object().context("no labels")?;
    let labels = labels
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect::<Option<Labels>>()
        .context("a label is no text")?;
    let time = row["timestamp"].as_str().context("no timestamp")?;
    ensure!(time.ends_with('Z') && time.len() == 24, "{time} has no milliseconds");
    Ok((labels, Timestamp::parse(time)?.0, value(&row["value"])?))
}

/// Compares; the error says how many differ and shows the first.
///
/// # Errors
/// When anything differs.
pub fn same(metric: &str, got: &Samples, wanted: &Samples) -> anyhow::Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|(key, _)| !got.contains_key(key)).collect();
    let foreign: Vec<_> = got.iter().filter(|(key, _)| !wanted.contains_key(key)).collect();
    let changed: Vec<_> = wanted
        .iter()
        .filter_map(|(key, bits)| {
            let found = got.get(key).filter(|found| *found != bits)?;
            Some((key, f64::from_bits(*bits), f64::from_bits(*found)))
        })
        .collect();
    ensure!(
        missing.is_empty() && foreign.is_empty() && changed.is_empty(),
        "{metric}: of {} samples {} are missing (first {:?}), {} are foreign (first {:?}), {} have another value (first {:?})",
        wanted.len(),
        missing.len(),
        missing.first(),
        foreign.len(),
        foreign.first(),
        changed.len(),
        changed.first(),
    );
    Ok(())
}

/// Waits until a query over the range gives just these samples, bit for bit.
///
/// # Errors
/// When it does not in time.
pub async fn until_same(api: &Api, metric: &str, wanted: &Samples, from_ms: i64, to_ms: i64) -> anyhow::Result<()> {
    eventually(&format!("all samples of {metric}"), async || {
        let got = query_samples(api, metric, from_ms, to_ms).await?;
        same(metric, &got, wanted).map(Some)
    })
    .await
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_sees_what_is_missing_foreign_or_changed() {
        let series = labels([("a", "b")]);
        let whole = Samples::from([
            ((series.clone(), 1), 1.0_f64.to_bits()),
            ((series.clone(), 2), 0.0_f64.to_bits()),
        ]);
        same("m", &whole, &whole).unwrap();
        let mut other = whole.clone();
        other.remove(&(series.clone(), 1));
        assert!(
            same("m", &other, &whole)
                .unwrap_err()
                .to_string()
                .contains("1 are missing")
        );
        assert!(
            same("m", &whole, &other)
                .unwrap_err()
                .to_string()
                .contains("1 are foreign")
        );
        let mut other = whole.clone();
        other.insert((series, 2), (-0.0_f64).to_bits());
        assert!(
            same("m", &other, &whole)
                .unwrap_err()
                .to_string()
                .contains("1 have another value")
        );
    }

    #[test]
    fn times_are_exact_to_the_millisecond() {
        assert_eq!(seconds(1_795_000_000_007).to_string(), "1795000000.007");
    }
}
