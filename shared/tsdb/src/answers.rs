//! The cache of whole answers: what it keeps, under which name, and when what it kept still holds.
//!
//! An entry carries the evidence that its answer was made from (see [`Evidence`]); it is given out only while the store still
//! says the same, so that a hit is never older than a miss would be. The cache is a courtesy: when it does not answer, the
//! query is answered without it.

use crate::answer::chain;
use crate::evidence::Evidence;
use crate::query::{Answered, Query};
use crate::select::Reader;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tidemark_encoding::compress;
use tidemark_model::limits;
use tidemark_wire::ApiError;

/// An answer as the cache keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedAnswer {
    /// The answer, compressed. The store of the cache keeps the bytes as they are.
    pub body: Vec<u8>,
    /// What the answer was made from, encoded. The store of the cache keeps the bytes as they are.
    pub evidence: Vec<u8>,
    /// From when on it does not count any more, in seconds since the Unix epoch.
    pub expires_at_s: i64,
}

/// Where answers are kept: DynamoDB (`tidemark-aws`) or memory ([`MemoryAnswers`]).
///
/// An entry may be lost at any time, and one that has expired may still be there. Keys are at most 64 bytes of ASCII; body and
/// evidence together are at most [`MAX_ENTRY_BYTES`].
pub trait AnswerCache: Send + Sync {
    /// The entry of a key. It may be some seconds old: what holds is decided by its evidence.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<CachedAnswer>, StoreError>> + Send;

    /// Keeps an answer, in place of what the key had.
    fn put(&self, key: &str, answer: CachedAnswer) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// The most bytes of one entry: it is an item of DynamoDB, which takes 400 KB, keys and names included.
pub const MAX_ENTRY_BYTES: usize = 390_000;

/// How long an entry counts, by how old the newest data is that is asked for: what lies longer back changes less.
#[must_use]
pub fn time_to_live_s(end_ms: i64, now_ms: i64) -> i64 {
    match now_ms.saturating_sub(end_ms) {
        ..3_600_000 => 60,
        3_600_000..=86_400_000 => 300,
        _ => 3_600,
    }
}

/// Whether an answer was in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was, and still holds.
    Hit,
    /// It was made anew.
    Miss,
}

impl Found {
    /// The word for it in a header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        }
    }
}

/// Answers a query, from the cache where that still holds. With `fresh` the cache is not asked, but told.
///
/// # Errors
/// Those of the query. The cache fails no query.
pub async fn answer<S: Store, C: AnswerCache>(
    query: &Query,
    reader: &Reader<S>,
    cache: &C,
    fresh: bool,
    now_ms: i64,
) -> Result<(Vec<u8>, Found), ApiError> {
    let key = query.fingerprint();
    if !fresh && let Some(body) = kept(&key, reader, cache, now_ms).await {
        return Ok((body, Found::Hit));
    }
    let Answered { body, evidence } = query.run(reader, now_ms).await?;
    let entry = evidence.and_then(|evidence| {
        let entry = CachedAnswer {
            body: compress::zstd(&body, compress::STREAM_LEVEL).ok()?,
            evidence: evidence.to_bytes(),
            expires_at_s: now_ms / 1_000 + time_to_live_s(query.end_ms, now_ms),
        };
        (entry.body.len() + entry.evidence.len() <= MAX_ENTRY_BYTES).then_some(entry)
    });
    if let Some(entry) = entry
        && let Err(failed) = cache.put(&key, entry).await
    {
        tracing::warn!(cause = chain(&failed), "an answer was not kept in the cache");
    }
    Ok((body, Found::Miss))
}

/// The answer that the cache has, if it still holds.
async fn kept<S: Store, C: AnswerCache>(key: &str, reader: &Reader<S>, cache: &C, now_ms: i64) -> Option<Vec<u8>> {
    let entry = match cache.get(key).await {
        Ok(entry) => entry?,
        Err(failed) => {
            tracing::warn!(cause = chain(&failed), "the cache did not answer");
            return None;
        }
    };
    if entry.expires_at_s <= now_ms / 1_000 {
        return None;
    }
    // Another version of Tidemark may have written it otherwise.
    let evidence = Evidence::from_bytes(&entry.evidence)?;
    let body = compress::unzstd(&entry.body, 2 * limits::MAX_RESPONSE_BYTES).ok()?;
    match evidence.holds(reader.store()).await {
        Ok(holds) => holds.then_some(body),
        // The query will say what is wrong, if it still is.
        Err(_) => None,
    }
}

/// Answers in memory, for tests and simulations.
#[derive(Debug, Default)]
pub struct MemoryAnswers {
    entries: Mutex<HashMap<String, CachedAnswer>>,
}

impl AnswerCache for MemoryAnswers {
    async fn get(&self, key: &str) -> Result<Option<CachedAnswer>, StoreError> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(key).cloned())
    }

    async fn put(&self, key: &str, answer: CachedAnswer) -> Result<(), StoreError> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.to_owned(), answer);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
