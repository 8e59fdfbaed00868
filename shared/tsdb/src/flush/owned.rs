//! Which buckets a shard's consumer stores in order.
//!
//! A bucket's records go to the shard whose range of hash keys holds the bucket's own key. A producer that does not know of a
//! split yet packs the buckets of both children into one record, which lands in one of them. The samples of the other's
//! buckets are then in no order with what the other's consumer stores.

use crate::sequence::ShardId;
use crate::store::StoreError;
use crate::stream::{KeyRange, ShardRanges};
use std::collections::HashMap;
use std::sync::Arc;
use tidemark_model::{Bucket, Buckets};

/// The ranges of the shards met so far. A shard's range never changes.
#[derive(Default)]
pub(super) struct Ranges {
    source: Option<Arc<dyn ShardRanges>>,
    known: HashMap<ShardId, KeyRange>,
}

impl Ranges {
    pub(super) fn of_source(source: Arc<dyn ShardRanges>) -> Self {
        Self {
            source: Some(source),
            known: HashMap::new(),
        }
    }

    /// What the stream's consumer stores in order when it stores records of a shard. All of them where nobody can be asked.
    pub(super) async fn in_order(&mut self, shard: &ShardId) -> Result<InOrder, StoreError> {
        let Some(source) = &self.source else {
            return Ok(InOrder::Everything);
        };
        if !self.known.contains_key(shard) {
            self.known.extend(source.ranges().await?);
        }
        let range = self.known.get(shard).cloned();
        // A guess would be kept for ever, in the keys of segments.
        range.map(InOrder::Within).ok_or_else(|| StoreError::Unavailable {
            operation: "the range of a shard",
            source: Some(format!("the stream does not list {shard}").into()),
        })
    }
}

/// The buckets whose segments and catalog entries a run of records adds in order; those of all others are late.
#[derive(Clone, Debug)]
pub(crate) enum InOrder {
    Nothing,
    Everything,
    /// Those whose hash key lies there.
    Within(KeyRange),
}

impl InOrder {
    pub(crate) fn holds(&self, bucket: Bucket, buckets: Buckets) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Within(range) => range.contains(&buckets.hash_key(bucket)),
        }
    }
}
