//! The cache of whole answers: what it keeps, under which name, and when what it kept still holds.
//!
//! An entry carries the evidence that its answer was made from (see [`Evidence`]); it is given out only while the store still
//! says the same, so that a hit is never older than a miss would be. The cache is a courtesy: when it does not answer, the
//! query is answered without it.

use crate::store::StoreError;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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
