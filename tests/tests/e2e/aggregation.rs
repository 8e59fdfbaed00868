//! Aggregations through the API equal an independent computation, over random data.

use anyhow::Context as _;
use rand::Rng as _;
use rand::rngs::StdRng;
use serde_json::Value;
use std::collections::BTreeMap;
use tidemark_model::Timestamp;
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::expect::{Labels, Samples, sample, until_same, value};
use tidemark_tests::harness::{now_ms, random, unique};

/// The definition, as plainly as it can be said. Sums are exact: the data are multiples of 1/4 far below 2^53.
fn aggregate(name: &str, values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    match name {
        "count" => values.len() as f64,
        "sum" => sum,
        "avg" => sum / values.len() as f64,
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        other => panic!("no aggregation {other}"),
    }
}

struct Scene {
    metric: String,
    samples: Samples,
    start: i64,
    end: i64,
}

fn scene(random: &mut StdRng) -> Scene {
    // Over two or three windows, most labels missing sometimes or empty.
    let end = now_ms();
    let start = end - random.random_range(1..5_i64) * 3_600_000;
    let mut samples = Samples::new();
    for _ in 0..random.random_range(5..40) {
        let mut labels = Labels::new();
        for (name, values) in [("host", 4), ("region", 2), ("disk", 3)] {
            match random.random_range(0..=values + 1) {
                0 => {}
                1 => drop(labels.insert(name.to_owned(), String::new())),
                number => drop(labels.insert(name.to_owned(), format!("{name}-{number}"))),
            }
        }
        for _ in 0..random.random_range(1..30) {
            let value = f64::from(random.random_range(-1_000_000..1_000_000)) / 4.0;
            samples.insert((labels.clone(), random.random_range(start..=end)), value.to_bits());
        }
    }
    Scene {
        metric: unique("e2e_aggregation"),
        samples,
        start,
        end,
    }
}

/// Any of the labels, in any order.
fn random_names(random: &mut StdRng) -> Vec<&'static str> {
    let mut names = vec!["host", "region", "disk", "nothing"];
    let keep = random.random_range(0..=names.len());
    while names.len() > keep {
        names.swap_remove(random.random_range(0..names.len()));
    }
    names
}

impl Scene {
    fn wanted(
        &self,
        aggregation: &str,
        group_by: &[&str],
        filter: &BTreeMap<&str, String>,
        range: (i64, i64),
    ) -> BTreeMap<Labels, (f64, u64)> {
        let mut groups: BTreeMap<Labels, Vec<f64>> = BTreeMap::new();
        for ((labels, ms), bits) in &self.samples {
            let matches = filter
                .iter()
                .all(|(name, wanted)| labels.get(*name).map_or("", String::as_str) == wanted);
            if !matches || *ms < range.0 || *ms > range.1 {
                continue;
            }
            // What a series lacks is left out; an empty value is one that it has.
            let group: Labels = group_by
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), labels.get(*name)?.clone())))
                .collect();
            groups.entry(group).or_default().push(f64::from_bits(*bits));
        }
        groups
            .into_iter()
            .map(|(group, values)| (group, (aggregate(aggregation, &values), values.len() as u64)))
            .collect()
    }

    async fn asked(
        &self,
        api: &Api,
        aggregation: &str,
        group_by: &[&str],
        filter: &BTreeMap<&str, String>,
        range: (i64, i64),
    ) -> anyhow::Result<BTreeMap<Labels, (f64, u64)>> {
        let (from, to) = (Timestamp(range.0).to_rfc3339(), Timestamp(range.1).to_rfc3339());
        let (group_by, filter) = (group_by.join(","), serde_json::to_string(filter)?);
        let parameters = [
            ("metric_name", self.metric.as_str()),
            ("start_time", &from),
            ("end_time", &to),
            ("aggregation", aggregation),
            ("group_by", &group_by),
            ("labels", &filter),
        ];
        let rows = api.all_pages("/api/v1/query", "results", &parameters).await?;
        let count = rows.len();
        let mut groups = BTreeMap::new();
        for row in rows {
            let labels: Labels = serde_json::from_value(row["labels"].clone())?;
            assert_eq!(row["timestamp"], Value::Null, "{row}");
            let samples = row["count"].as_u64().context("no count")?;
            groups.insert(labels, (value(&row["value"])?, samples));
        }
        assert_eq!(groups.len(), count, "a group came twice");
        Ok(groups)
    }
}

#[tokio::test]
async fn aggregations_equal_an_independent_computation() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let mut random = random("aggregations_equal_an_independent_computation");
    for _ in 0..4 {
        let scene = scene(&mut random);
        let body: Vec<Value> = scene
            .samples
            .iter()
            .map(|((labels, ms), bits)| sample(&scene.metric, labels, *ms, f64::from_bits(*bits)))
            .collect();
        api.push(&Value::Array(body)).await?;
        until_same(&api, &scene.metric, &scene.samples, scene.start, scene.end).await?;
        for round in 0..25 {
            let aggregation = ["avg", "max", "min", "sum", "count"][round % 5];
            let group_by = random_names(&mut random);
            let mut filter = BTreeMap::new();
            if random.random_ratio(1, 3) {
                let region = ["", "region-2", "region-3"][random.random_range(0..3)];
                filter.insert("region", region.to_owned());
            }
            let mut ends = [
                random.random_range(scene.start..=scene.end),
                random.random_range(scene.start..=scene.end),
            ];
            ends.sort_unstable();
            let range = if random.random_ratio(1, 2) {
                (scene.start, scene.end)
            } else {
                (ends[0], ends[1])
            };
            let wanted = scene.wanted(aggregation, &group_by, &filter, range);
            let asked = scene.asked(&api, aggregation, &group_by, &filter, range).await?;
            let close = asked.len() == wanted.len()
                && asked.iter().zip(&wanted).all(|((group, got), (other, wanted))| {
                    // A mean is rounded once; the rest is exact.
                    group == other && got.1 == wanted.1 && (got.0 - wanted.0).abs() <= wanted.0.abs() * f64::EPSILON
                });
            assert!(
                close,
                "{aggregation} by {group_by:?} where {filter:?} in {range:?}:\n{asked:?}\n{wanted:?}"
            );
        }
    }
    Ok(())
}
