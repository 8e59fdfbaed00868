//! Which shard takes which bucket.

use crate::error::store_error;
use crate::pace::Pace;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::Shard;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tidemark_model::Buckets;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::ingest::ShardMap;

/// How long a map is used. After a merge an old one only makes more records than shards need. After a split it puts buckets of
/// two shards into one record, which reaches one of them: consumers store the other's samples as late ones, which cost more to
/// read ([`tidemark_tsdb::Consumer::with_ranges`]).
const FRESH: Duration = Duration::from_secs(300);

/// How long the map of a stream that did not tell its shards is used before it is asked again.
const FRESH_GUESS: Duration = Duration::from_secs(10);

/// How long a request waits for the map. Without one it goes on with a guess.
const LOAD_LIMIT: Duration = Duration::from_secs(2);

/// The map of a stream, kept and refreshed.
#[derive(Debug)]
pub(super) struct Directory {
    client: Client,
    stream_name: String,
    buckets: Buckets,
    pace: Pace,
    kept: Mutex<Option<Kept>>,
}

#[derive(Clone, Debug)]
struct Kept {
    map: Arc<ShardMap>,
    until: Instant,
}

impl Directory {
    pub(super) fn new(client: Client, stream_name: String, buckets: Buckets, pace: Pace) -> Self {
        Self {
            client,
            stream_name,
            buckets,
            pace,
            kept: Mutex::new(None),
        }
    }

    /// The map, at most a few minutes old; the last one known, or a guess, when the stream does not tell.
    pub(super) async fn current(&self) -> Arc<ShardMap> {
        let now = self.pace.now();
        let known = self.kept().clone();
        if let Some(kept) = known.as_ref().filter(|kept| now < kept.until) {
            return Arc::clone(&kept.map);
        }
        let attempts = self.pace.within(LOAD_LIMIT);
        let loaded = attempts.run(Box::pin(list(&self.client, &self.stream_name))).await;
        let kept = match loaded {
            Some(Ok(shards)) => Kept {
                map: Arc::new(ShardMap::new(self.buckets, &open_ranges(&shards))),
                until: now + FRESH,
            },
            failed => {
                let reason = match failed {
                    Some(Err(error)) => tidemark_tsdb::answer::chain(&error),
                    _ => "no answer in time".to_owned(),
                };
                tracing::warn!(stream = %self.stream_name, %reason, "shards could not be listed, the last map is used");
                Kept {
                    map: known.map_or_else(|| Arc::new(ShardMap::unknown(self.buckets)), |kept| kept.map),
                    until: now + FRESH_GUESS,
                }
            }
        };
        *self.kept() = Some(kept.clone());
        kept.map
    }

    /// Asks the stream again before the next request.
    pub(super) fn doubt(&self) {
        let now = self.pace.now();
        if let Some(kept) = self.kept().as_mut() {
            kept.until = now;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        // A map is replaced as a whole; a panic elsewhere leaves the old one.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All shards of a stream, open and closed, that still hold records.
pub(super) async fn list(client: &Client, stream_name: &str) -> Result<Vec<Shard>, StoreError> {
    let mut shards = Vec::new();
    let mut token = None;
    loop {
        // A next token stands for the stream's name and must come alone.
        let call = match token.take() {
            None => client.list_shards().stream_name(stream_name),
            Some(token) => client.list_shards().next_token(token),
        };
        let page = Box::pin(call.send())
            .await
            .map_err(|error| store_error("ListShards", error))?;
        shards.extend(page.shards.unwrap_or_default());
        token = page.next_token;
        if token.is_none() {
            return Ok(shards);
        }
    }
}

/// The first and the last hash key of a shard.
pub(super) fn range_of(shard: &Shard) -> Option<(u128, u128)> {
    let range = shard.hash_key_range()?;
    Some((
        range.starting_hash_key().parse().ok()?,
        range.ending_hash_key().parse().ok()?,
    ))
}

/// The hash key ranges of the open shards, in order.
fn open_ranges(shards: &[Shard]) -> Vec<(u128, u128)> {
    let mut ranges: Vec<(u128, u128)> = shards
        .iter()
        .filter(|shard| {
            shard
                .sequence_number_range()
                .is_none_or(|range| range.ending_sequence_number().is_none())
        })
        .filter_map(range_of)
        .collect();
    ranges.sort_unstable();
    ranges
}

#[cfg(test)]
mod tests;
