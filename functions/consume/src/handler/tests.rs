#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use super::*;
use std::sync::Arc;
use tidemark_model::{Buckets, WindowLength};
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::{Layout, Origin, Retention, StoreError};

/// A real event of an event source mapping, with two records that are no envelopes.
const EVENT: &str = include_str!("kinesis_event.json");

fn consume<D: DeadLetters>(store: &Arc<MemoryStore>, dead_letters: D) -> Consume<MemoryStore, D> {
    let layout = Layout {
        buckets: Buckets::new(4).unwrap(),
        window: WindowLength::from_seconds(7_200).unwrap(),
        retention: Retention {
            raw_ms: 86_400_000,
            minute_ms: 86_400_000,
            hour_ms: 86_400_000,
        },
        grace_ms: 3_600_000,
    };
    Consume::new(
        Consumer::new(Arc::clone(store), layout, Origin::Stream, Arc::new(|| 0)),
        dead_letters,
    )
}

fn handle<D: DeadLetters>(consume: &Consume<MemoryStore, D>) -> Result<KinesisEventResponse, NotStored> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(consume.handle(serde_json::from_str(EVENT).unwrap()))
}

struct Letters(Arc<MemoryStore>);

impl DeadLetters for Letters {
    async fn send(&self, letters: Vec<tidemark_tsdb::stream::DeadLetter>) -> Result<(), StoreError> {
        self.0.send(letters).await
    }
}

/// A queue that fails.
struct Down(fn() -> StoreError);

impl DeadLetters for Down {
    async fn send(&self, _: Vec<tidemark_tsdb::stream::DeadLetter>) -> Result<(), StoreError> {
        Err((self.0)())
    }
}

#[test]
fn poison_records_are_handed_over_and_their_batch_is_done() {
    let store = Arc::new(MemoryStore::default());
    let response = handle(&consume(&store, Letters(Arc::clone(&store)))).unwrap();
    assert!(response.batch_item_failures.is_empty());
    let letters = store.dead_letters();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0].shard, ShardId("shardId-000000000006".into()));
    assert_eq!(letters[0].data, b"Hello, this is a test.");
}

#[test]
fn a_batch_that_cannot_be_stored_now_is_reported_by_its_first_record() {
    let store = Arc::new(MemoryStore::default());
    let down = Down(|| StoreError::Unavailable {
        operation: "SendMessageBatch",
        source: None,
    });
    let response = handle(&consume(&store, down)).unwrap();
    let failed: Vec<_> = response
        .batch_item_failures
        .iter()
        .map(|one| one.item_identifier.as_deref())
        .collect();
    assert_eq!(
        failed,
        [Some("49590338271490256608559692538361571095921575989136588898")]
    );
}

#[test]
fn what_will_fail_again_is_an_error_of_the_invocation_so_that_lambda_halves_the_batch() {
    let store = Arc::new(MemoryStore::default());
    let refused = Down(|| StoreError::Refused {
        operation: "SendMessageBatch",
        source: "access denied".into(),
    });
    assert!(handle(&consume(&store, refused)).is_err());
}
