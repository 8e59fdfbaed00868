//! What queries read and how long their own code takes, over a day of 10,000 series. The time is CPU time without any network:
//! on AWS the calls come on top, side by side.

use super::cpu;
use super::meter::{Meter, Used};
use super::report::Report;
use anyhow::{anyhow, ensure};
use std::collections::HashMap;
use std::sync::Arc;
use tidemark_tsdb::query::Query;
use tidemark_tsdb::{Layout, Reader};
use tokio::runtime::Runtime;

const HOUR_MS: i64 = 3_600_000;

/// A third of the query function's memory, as it is configured.
const CACHE_BYTES: usize = 340_000_000;

/// One of the mix's metrics: a gauge of every host.
const METRIC: &str = "node_load1";

struct Case {
    name: &'static str,
    all_series: bool,
    hours: i64,
    /// What to compute, and for which step; `None` for the samples themselves.
    step: Option<&'static str>,
    /// Whether the function has answered it before.
    warm: bool,
    goal: &'static str,
}

const fn case(
    name: &'static str,
    all_series: bool,
    hours: i64,
    step: Option<&'static str>,
    warm: bool,
    goal: &'static str,
) -> Case {
    Case {
        name,
        all_series,
        hours,
        step,
        warm,
        goal,
    }
}

const CASES: [Case; 8] = [
    case("one_series_1h_cold", false, 1, None, false, "at most 3"),
    case("one_series_1h_warm", false, 1, None, true, "new keys only"),
    case("one_series_24h_cold", false, 24, None, false, ""),
    case("one_series_24h_5m_cold", false, 24, Some("5m"), false, ""),
    case("1000_series_1h_15s_cold", true, 1, Some("15s"), false, ""),
    case("1000_series_24h_15s_cold", true, 24, Some("15s"), false, ""),
    case("1000_series_24h_5m_cold", true, 24, Some("5m"), false, ""),
    case("1000_series_24h_5m_warm", true, 24, Some("5m"), true, ""),
];

/// Asks at the end of the day that the store holds. All of its windows are compacted but the youngest, which a reader reads from
/// segments for as long as its grace lasts.
pub(crate) fn measure(
    store: &Arc<Meter>,
    layout: Layout,
    end_ms: i64,
    runtime: &Runtime,
    report: &mut Report,
) -> anyhow::Result<()> {
    report.section("Queries over a day of 10,000 series: pages and read units of DynamoDB, own CPU time in ms");
    for case in &CASES {
        let mut parameters = HashMap::from([
            ("metric_name".to_owned(), METRIC.to_owned()),
            ("start_time".to_owned(), seconds(end_ms - case.hours * HOUR_MS)),
            ("end_time".to_owned(), seconds(end_ms - 1)),
        ]);
        if !case.all_series {
            parameters.insert("labels".to_owned(), r#"{"host":"host_0007"}"#.to_owned());
        }
        if let Some(step) = case.step {
            parameters.insert("step".to_owned(), step.to_owned());
            parameters.insert("aggregation".to_owned(), "avg".to_owned());
            parameters.insert("group_by".to_owned(), "region".to_owned());
        }
        let query = Query::parse(&parameters, end_ms).map_err(|refused| anyhow!("{}: {refused:?}", case.name))?;
        let reader = Reader::new(Arc::clone(store), layout, CACHE_BYTES);
        let ask = || {
            let answered = runtime.block_on(query.run(&reader, end_ms));
            answered.map_err(|refused| anyhow!("{}: {refused:?}", case.name))
        };
        if case.warm {
            ask()?;
        }
        store.take();
        let began = cpu::used()?;
        let found = ask()?;
        let took = cpu::used()?.saturating_sub(began);
        ensure!(
            found.body.len() > 1_000,
            "{}: {} bytes were answered",
            case.name,
            found.body.len()
        );
        let used = store.take();
        let sum = |of: fn(&Used) -> u64| used.values().map(of).sum::<u64>() as f64;
        let name = case.name;
        report.add(format!("query.pages.{name}"), sum(|used| used.pages), case.goal)?;
        report.add(format!("query.read_units.{name}"), sum(|used| used.read_units), "")?;
        report.add(format!("query.ms.{name}"), took.as_secs_f64() * 1_000.0, "")?;
    }
    Ok(())
}

/// Unix seconds, as the API takes them.
fn seconds(at_ms: i64) -> String {
    format!("{}.{:03}", at_ms / 1_000, at_ms % 1_000)
}
