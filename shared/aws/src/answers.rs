//! [`AnswerCache`] on the cache table: one item per query, which DynamoDB deletes some time after it has expired.

use crate::database::{Attributes, Consumed, Database, b, n, s};
use crate::keys::{EXPIRES_AT, PK};
use crate::pace::Pace;
use aws_sdk_dynamodb::Client;
use std::collections::HashMap;
use std::time::Duration;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answers::{AnswerCache, CachedAnswer};

const BODY: &str = "body";
const EVIDENCE: &str = "evidence";

/// How long the cache may take. It is there to save time: a query that waits longer for it is answered faster without.
const LIMIT: Duration = Duration::from_secs(2);

/// The cache of answers on DynamoDB. Share one per process.
#[derive(Debug)]
pub struct DynamoAnswers {
    database: Database,
    table: String,
    now_ms: fn() -> i64,
}

impl DynamoAnswers {
    /// A cache in this table. What has expired by the clock is not given out.
    #[must_use]
    pub fn new(client: Client, table: impl Into<String>, now_ms: fn() -> i64) -> Self {
        Self::with(client, table, now_ms, Pace::real())
    }

    /// A cache that waits in another way.
    #[must_use]
    pub fn with(client: Client, table: impl Into<String>, now_ms: fn() -> i64, pace: Pace) -> Self {
        let mut database = Database::new(client, pace);
        database.limit = LIMIT;
        Self {
            database,
            table: table.into(),
            now_ms,
        }
    }

    /// What DynamoDB charged for the calls of this cache.
    #[must_use]
    pub fn consumed(&self) -> &Consumed {
        &self.database.consumed
    }
}

impl AnswerCache for DynamoAnswers {
    async fn get(&self, key: &str) -> Result<Option<CachedAnswer>, StoreError> {
        let place = HashMap::from([(PK.to_owned(), s(key))]);
        // An answer of some seconds ago does as well, at half the price: its evidence tells whether it holds.
        let Some(item) = self.database.get_soon(&self.table, place).await? else {
            return Ok(None);
        };
        let attributes = Attributes(&item);
        if attributes.expired((self.now_ms)())? {
            return Ok(None);
        }
        Ok(Some(CachedAnswer {
            body: attributes.bytes(BODY)?.to_vec(),
            evidence: attributes.bytes(EVIDENCE)?.to_vec(),
            expires_at_s: attributes.number(EXPIRES_AT)?,
        }))
    }

    async fn put(&self, key: &str, answer: CachedAnswer) -> Result<(), StoreError> {
        let item = HashMap::from([
            (PK.to_owned(), s(key)),
            (BODY.to_owned(), b(answer.body)),
            (EVIDENCE.to_owned(), b(answer.evidence)),
            (EXPIRES_AT.to_owned(), n(answer.expires_at_s)),
        ]);
        self.database.put(&self.table, item).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Reply, Script, Time};
    use serde_json::json;

    const NOW_MS: i64 = 1_795_000_000_000;

    fn cache(script: &Script) -> DynamoAnswers {
        let pace = Time::new(1.0).pace();
        DynamoAnswers::with(script.clients().dynamodb(), "cache", || NOW_MS, pace)
    }

    fn answer(expires_at_s: i64) -> CachedAnswer {
        CachedAnswer {
            body: vec![0, 255],
            evidence: vec![1],
            expires_at_s,
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_and_found_until_it_expires() {
        for (left_s, found) in [(1, true), (0, false), (-5, false)] {
            let kept = answer(NOW_MS / 1_000 + left_s);
            let script = Script::new([Reply::Json(json!({}))]);
            cache(&script).put("a-key", kept.clone()).await.unwrap();
            let item = script.calls()[0].body["Item"].clone();
            assert_eq!(item["pk"], json!({"S": "a-key"}));
            let script = Script::new([Reply::Json(
                json!({ "Item": item, "ConsumedCapacity": {"CapacityUnits": 0.5} }),
            )]);
            let cache = cache(&script);
            assert_eq!(cache.get("a-key").await.unwrap(), found.then_some(kept));
            assert_eq!(script.calls()[0].body["ConsistentRead"], json!(null));
            assert!((cache.consumed().of("cache").read - 0.5).abs() < 1e-9);
        }
    }

    #[tokio::test]
    async fn what_is_not_there_is_no_answer_and_what_is_no_answer_is_reported() {
        let script = Script::new([
            Reply::Json(json!({})),
            Reply::Json(json!({"Item": {"pk": {"S": "a-key"}, "expires_at": {"N": "1795000100"}}})),
        ]);
        let cache = cache(&script);
        assert_eq!(cache.get("a-key").await.unwrap(), None);
        assert!(matches!(cache.get("a-key").await, Err(StoreError::Corrupt { .. })));
    }

    #[tokio::test]
    async fn a_cache_that_hangs_is_left_alone_soon() {
        let script = Script::answering(|_| Reply::Hang);
        let mut cache = DynamoAnswers::new(script.clients().dynamodb(), "cache", || NOW_MS);
        assert!(cache.database.limit <= Duration::from_secs(2));
        cache.database.limit = Duration::from_millis(30);
        assert!(matches!(cache.get("k").await, Err(StoreError::Unavailable { .. })));
        let refused = cache.put("k", answer(1)).await;
        assert!(matches!(refused, Err(StoreError::Unavailable { .. })));
    }
}
