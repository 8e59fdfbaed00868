//! Whether the parts that Tidemark stands on are there: asked for real, side by side, each within a time.

use crate::database::{key, s};
use crate::error::store_error;
use crate::keys::{CatalogKey, PK};
use crate::store::read_division;
use aws_sdk_dynamodb::types::TableStatus;
use aws_sdk_kinesis::types::StreamStatus;
use futures::future::join_all;
use std::time::Duration;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answer::chain;
use tidemark_tsdb::layout::DividedOtherwise;
use tidemark_tsdb::store::Division;

/// How long one part may take to answer.
const LIMIT: Duration = Duration::from_secs(3);

/// A key that no answer has: their keys are hexadecimal.
const CACHE_PROBE: &str = "health";

/// What to check.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The tables without which nothing is stored or alerted.
    pub database_tables: Vec<String>,
    /// The cache.
    pub cache_table: String,
    /// The table that says how all others are divided.
    pub catalog_table: String,
    /// How this function divides them.
    pub division: Division,
    /// The stream.
    pub stream_name: String,
}

/// Why a part is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// `database`, `cache` or `stream`.
    pub part: &'static str,
    /// What a user may be told: `does not answer`, `is CREATING` ...
    pub reason: String,
}

/// The health of each part: `None` is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The tables.
    pub database: Option<Fault>,
    /// The cache.
    pub cache: Option<Fault>,
    /// The stream.
    pub stream: Option<Fault>,
}

impl Health {
    /// Whether every part is healthy.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.faults().next().is_none()
    }

    /// The parts that are not healthy.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        [&self.database, &self.cache, &self.stream].into_iter().flatten()
    }
}

/// Asks every part.
pub async fn check(dynamodb: &aws_sdk_dynamodb::Client, kinesis: &aws_sdk_kinesis::Client, parts: &Parts) -> Health {
    let tables = join_all(
        parts
            .database_tables
            .iter()
            .map(|name| within("database", table_status(dynamodb, name))),
    );
    // Boxed: together they are large.
    let division = Box::pin(within("database", division_status(dynamodb, parts)));
    let cache = Box::pin(within("cache", cache_status(dynamodb, &parts.cache_table)));
    let stream = Box::pin(within("stream", stream_status(kinesis, &parts.stream_name)));
    let (tables, division, cache, stream) = futures::join!(tables, division, cache, stream);
    Health {
        database: tables.into_iter().flatten().next().or(division),
        cache,
        stream,
    }
}

/// `None` for a part that is in use, else why it is not.
async fn within(part: &'static str, status: impl Future<Output = Result<Option<String>, StoreError>>) -> Option<Fault> {
    let reason = match tokio::time::timeout(LIMIT, status).await {
        Ok(Ok(None)) => return None,
        Ok(Ok(Some(status))) => format!("is {status}"),
        Ok(Err(error)) => {
            tracing::error!(part, error = chain(&error), "a part is not healthy");
            match error {
                StoreError::Unavailable { .. } => "does not answer".to_owned(),
                _ => "cannot be reached: it does not exist, or access is denied".to_owned(),
            }
        }
        Err(_) => format!("does not answer within {} s", LIMIT.as_secs()),
    };
    Some(Fault { part, reason })
}

async fn table_status(client: &aws_sdk_dynamodb::Client, name: &str) -> Result<Option<String>, StoreError> {
    let described = client.describe_table().table_name(name).send().await;
    let described = described.map_err(|error| store_error("DescribeTable", error))?;
    Ok(match described.table().and_then(|table| table.table_status()) {
        // A table that is being updated (a setting, an index) serves as before.
        Some(TableStatus::Active | TableStatus::Updating) => None,
        Some(other) => Some(other.as_str().to_owned()),
        None => Some("of unknown status".to_owned()),
    })
}

/// Whether the tables hold data that this function would look for elsewhere, or in vain. Nothing is said before anything is stored.
async fn division_status(client: &aws_sdk_dynamodb::Client, parts: &Parts) -> Result<Option<String>, StoreError> {
    let place = CatalogKey::Division;
    let got = client
        .get_item()
        .table_name(&parts.catalog_table)
        .set_key(Some(key(place.pk(), place.sk())))
        .consistent_read(true)
        .send()
        .await;
    let got = got.map_err(|error| store_error("GetItem", error))?;
    let configured = parts.division;
    let stored = got.item().map(|item| read_division(item, configured)).transpose()?;
    let unfit = stored.and_then(|stored| DividedOtherwise::of(stored, configured));
    Ok(unfit.map(|unfit| format!("not what this function is configured for: {unfit}")))
}

/// Whether the cache gives an answer, here that it has none.
async fn cache_status(client: &aws_sdk_dynamodb::Client, name: &str) -> Result<Option<String>, StoreError> {
    let got = client.get_item().table_name(name).key(PK, s(CACHE_PROBE)).send().await;
    got.map(|_| None).map_err(|error| store_error("GetItem", error))
}

async fn stream_status(client: &aws_sdk_kinesis::Client, name: &str) -> Result<Option<String>, StoreError> {
    let described = client.describe_stream_summary().stream_name(name).send().await;
    let described = described.map_err(|error| store_error("DescribeStreamSummary", error))?;
    Ok(
        match described
            .stream_description_summary()
            .map(|stream| stream.stream_status())
        {
            // A stream that is being resharded takes and gives records.
            Some(StreamStatus::Active | StreamStatus::Updating) => None,
            Some(other) => Some(other.as_str().to_owned()),
            None => Some("of unknown status".to_owned()),
        },
    )
}

#[cfg(test)]
mod tests;
