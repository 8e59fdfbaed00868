//! The steps that read: health, queries and statistics.

use super::agents::{CPU, METRICS};
use super::api::{Api, list, number, rows};
use super::fleet::Fleet;
use super::screen::cell;
use super::{Screen, poll};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(250);

/// Samples per series that make the tables worth reading.
const ENOUGH_SAMPLES: u64 = 8;

pub(crate) async fn health(screen: &Screen, api: &Api) -> anyhow::Result<()> {
    let answer = poll("a healthy answer", PAUSE, async || {
        let answer = api.get("/api/v1/health", &[]).await?;
        Ok((answer["status"] == "healthy").then_some(answer))
    })
    .await?;
    screen.asked("GET /api/v1/health");
    screen.json(&answer);
    Ok(())
}

/// Waits until all five hosts can be read, and every simulated host has a few samples.
pub(crate) async fn wait_until_readable(screen: &Screen, api: &Api, fleet: &Fleet, began: f64) -> anyhow::Result<()> {
    let wanted = fleet.host_names();
    let simulated = fleet.pushed();
    let enough = |host: &str, count: f64| {
        count
            >= if simulated.contains_key(host) {
                ENOUGH_SAMPLES as f64
            } else {
                1.0
            }
    };
    let counts = poll("reading samples of all five hosts", PAUSE, async || {
        let counts = count_by_host(api, CPU, began, "{}").await?;
        let missing: Vec<&&str> = wanted
            .iter()
            .filter(|h| !counts.get(**h).is_some_and(|n| enough(h, *n)))
            .collect();
        if missing.is_empty() {
            Ok(Some(counts))
        } else {
            bail!("missing: {missing:?}, readable: {counts:?}")
        }
    })
    .await?;
    screen.asked(&format!(
        "GET /api/v1/query?metric_name={CPU}&aggregation=count&group_by=host"
    ));
    let table: Vec<Vec<String>> = counts
        .iter()
        .map(|(host, n)| vec![host.clone(), n.to_string()])
        .collect();
    screen.table(&["host", "samples"], &table);
    Ok(())
}

pub(crate) async fn queue_statistics(screen: &Screen, api: &Api) -> anyhow::Result<()> {
    screen.asked("GET /api/v1/stats/queue");
    let answer = api.get("/api/v1/stats/queue", &[]).await?;
    let shards = answer["events_by_partition"]
        .as_object()
        .context("the answer has no events_by_partition")?;
    ensure!(
        number(&answer, "total_events")? > 0.0,
        "the queue has seen no samples: {answer}"
    );
    ensure!(
        number(&answer, "partitions")? >= 1.0,
        "the queue has no shards: {answer}"
    );
    number(&answer, "unconsumed_events")?;
    let totals = ["total_events", "unconsumed_events", "partitions"];
    screen.table(&totals, &[totals.iter().map(|field| cell(&answer[*field])).collect()]);
    let table: Vec<Vec<String>> = shards.iter().map(|(shard, n)| vec![shard.clone(), cell(n)]).collect();
    screen.table(&["shard", "events"], &table);
    Ok(())
}

pub(crate) async fn queries(screen: &Screen, api: &Api, fleet: &Fleet, began: f64) -> anyhow::Result<()> {
    grouped(screen, api, began, CPU, "avg", "host", fleet.host_names().len()).await?;
    grouped(screen, api, began, CPU, "max", "region", 3).await?;
    grouped(
        screen,
        api,
        began,
        "memory_usage_percent",
        "min",
        "region,host",
        fleet.host_names().len(),
    )
    .await?;

    let host = fleet.troubled_host();
    let filter = format!("{{\"host\":\"{host}\"}}");
    screen.asked(&format!(
        "GET /api/v1/query?metric_name={CPU}&labels={filter}   (no aggregation: the samples; the last three)"
    ));
    let start = began.to_string();
    let answer = api
        .get(
            "/api/v1/query",
            &[("metric_name", CPU), ("labels", &filter), ("start_time", &start)],
        )
        .await?;
    let samples = rows(&answer)?;
    ensure!(
        samples.len() as u64 >= ENOUGH_SAMPLES,
        "{host} has only {} samples",
        samples.len()
    );
    let table: Vec<Vec<String>> = samples[samples.len() - 3..]
        .iter()
        .map(|row| vec![cell(row.timestamp), cell(&row.labels["host"]), cell(row.value)])
        .collect();
    screen.table(&["timestamp", "host", "value"], &table);

    let names = api.get("/api/v1/metrics/names", &[]).await?;
    let names: Vec<&str> = list(&names, "names")?.iter().filter_map(Value::as_str).collect();
    ensure!(names.contains(&CPU), "{CPU} is not among the names {names:?}");
    screen.asked("GET /api/v1/metrics/names");
    screen.line(&format!(
        "  {} names, among them {}",
        names.len(),
        names[..names.len().min(4)].join(", ")
    ));
    Ok(())
}

async fn grouped(
    screen: &Screen,
    api: &Api,
    began: f64,
    metric: &str,
    aggregation: &str,
    group_by: &str,
    groups: usize,
) -> anyhow::Result<()> {
    screen.asked(&format!(
        "GET /api/v1/query?metric_name={metric}&aggregation={aggregation}&group_by={group_by}"
    ));
    let start = began.to_string();
    let parameters = [
        ("metric_name", metric),
        ("aggregation", aggregation),
        ("group_by", group_by),
        ("start_time", start.as_str()),
    ];
    let answer = api.get("/api/v1/query", &parameters).await?;
    let rows = rows(&answer)?;
    ensure!(rows.len() == groups, "{groups} groups were expected: {answer}");
    let labels: Vec<&str> = group_by.split(',').collect();
    let head: Vec<&str> = labels.iter().copied().chain([aggregation, "samples"]).collect();
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            labels
                .iter()
                .map(|l| cell(&row.labels[*l]))
                .chain([cell(row.value), cell(row.count)])
                .collect()
        })
        .collect();
    screen.table(&head, &table);
    Ok(())
}

pub(crate) async fn system_statistics(screen: &Screen, api: &Api) -> anyhow::Result<()> {
    screen.asked("GET /api/v1/stats/system");
    let answer = api.get("/api/v1/stats/system", &[]).await?;
    for field in ["total_metrics", "total_alerts", "metric_names_count"] {
        ensure!(number(&answer, field)? > 0.0, "{field} is 0: {answer}");
    }
    screen.json(&answer);
    Ok(())
}

/// Waits until each simulated host has exactly the samples that were accepted from it; more of them fail at once.
pub(crate) async fn count_exactly(
    screen: &Screen,
    api: &Api,
    accepted: &BTreeMap<&'static str, u64>,
    began: f64,
) -> anyhow::Result<()> {
    const FILTER: &str = "{\"job\":\"web\"}";
    let mut surplus = None;
    let counts = poll("reading every accepted sample", PAUSE, async || {
        let mut counts = BTreeMap::new();
        for metric in METRICS {
            for (host, n) in count_by_host(api, metric, began, FILTER).await? {
                *counts.entry(host).or_insert(0.0) += n;
            }
        }
        let readable = |host: &str| counts.get(host).copied().unwrap_or(0.0);
        if accepted.iter().any(|(host, n)| readable(host) > *n as f64) {
            surplus = Some(counts);
            return Ok(Some(BTreeMap::new()));
        }
        let complete = accepted.iter().all(|(host, n)| readable(host) == *n as f64);
        if complete {
            Ok(Some(counts))
        } else {
            bail!("accepted: {accepted:?}, readable: {counts:?}")
        }
    })
    .await?;
    if let Some(counts) = surplus {
        bail!("more samples are readable than were pushed; accepted: {accepted:?}, readable: {counts:?}");
    }
    let table: Vec<Vec<String>> = accepted
        .iter()
        .map(|(host, n)| {
            vec![
                (*host).to_owned(),
                n.to_string(),
                counts.get(*host).map_or_else(String::new, f64::to_string),
            ]
        })
        .collect();
    screen.asked(&format!(
        "GET /api/v1/query?metric_name=…&aggregation=count&group_by=host&labels={FILTER}   (all {} metrics)",
        METRICS.len()
    ));
    screen.table(&["host", "accepted", "readable"], &table);
    Ok(())
}

async fn count_by_host(api: &Api, metric: &str, began: f64, labels: &str) -> anyhow::Result<BTreeMap<String, f64>> {
    let start = began.to_string();
    let parameters = [
        ("metric_name", metric),
        ("aggregation", "count"),
        ("group_by", "host"),
        ("labels", labels),
        ("start_time", start.as_str()),
    ];
    let answer = api.get("/api/v1/query", &parameters).await?;
    rows(&answer)?
        .iter()
        .map(|row| {
            Ok((
                cell(&row.labels["host"]),
                row.value.as_f64().context("a count is no number")?,
            ))
        })
        .collect()
}
