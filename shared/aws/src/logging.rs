//! Log lines: one JSON object each, on standard output, with `timestamp` and `level` as Lambda's log filter reads them: a
//! line without a time would count as `INFO`, whatever its level.

use crate::config;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Installs the process's logger at the level of `LOG_LEVEL`, `info` when it is not set or no level. Call it once, first
/// of all: a configuration that is refused is reported through it.
pub fn init() {
    let asked = config::log_level();
    let level = match asked.as_deref().map(str::parse::<LevelFilter>) {
        Some(Ok(level)) => level,
        Some(Err(_)) | None => LevelFilter::INFO,
    };
    // What the HTTP stack says below `warn` is about bytes and connections, one line per frame.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("tidemark", level)
        .with_targets(FUNCTIONS.map(|name| (name, level)));
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false);
    // A second call (a test that starts two handlers) keeps the first logger.
    let installed = tracing_subscriber::registry().with(targets).with(lines).try_init();
    if installed.is_ok() && asked.is_some_and(|text| text.parse::<LevelFilter>().is_err()) {
        tracing::warn!(variable = "LOG_LEVEL", "not a level, info is used");
    }
}

/// The binaries, whose log targets do not begin with `tidemark`.
const FUNCTIONS: [&str; 6] = ["ingest", "consume", "query", "admin", "evaluate", "notify"];
