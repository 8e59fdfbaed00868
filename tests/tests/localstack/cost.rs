//! What a flush costs, as AWS's own local DynamoDB counts it.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::sync::Arc;
use tidemark_model::{Buckets, DAY_MS, WindowLength};
use tidemark_testkit::mix::Mix;
use tidemark_tests::harness::aws::Aws;
use tidemark_tests::harness::now_ms;
use tidemark_tests::harness::suites::{create_store, delete_tables};
use tidemark_tsdb::ingest::{Intake, ShardMap, prepare};
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::stream::StreamRecord;
use tidemark_tsdb::{Consumer, Layout, Origin, Retention, SequenceNumber, ShardId};

/// The bytes that DynamoDB charges an item by: its attributes' names and values.
fn item_bytes(item: &Value) -> anyhow::Result<usize> {
    let mut bytes = 0;
    for (name, value) in item.as_object().context("no item")? {
        let (kind, value) = value.as_object().and_then(|it| it.iter().next()).context("no value")?;
        let text = value.as_str().context("no text")?;
        bytes += name.len()
            + match kind.as_str() {
                "B" => STANDARD.decode(text)?.len(),
                // Two digits to a byte, and one more.
                "N" => text.len().div_ceil(2) + 1,
                _ => text.len(),
            };
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_flush_costs_the_write_units_that_its_items_sizes_say() -> anyhow::Result<()> {
    let aws = Aws::from_env()?;
    let (store, tables) = create_store(&aws, "cost").await?;
    let store = Arc::new(store);
    let layout = Layout {
        buckets: Buckets::new(16).context("buckets")?,
        window: WindowLength::from_seconds(7_200).context("window")?,
        retention: Retention {
            raw_ms: 7 * DAY_MS,
            minute_ms: 30 * DAY_MS,
            hour_ms: 365 * DAY_MS,
        },
        grace_ms: 3_600_000,
    };
    let mut consumer = Consumer::new(Arc::clone(&store), layout, Origin::Stream, Arc::new(now_ms));
    // 1,000 series, four scrapes: the workload of the bench.
    let now = now_ms();
    let intake = Intake {
        buckets: layout.buckets,
        retention_ms: layout.retention.raw_ms,
    };
    let shards = ShardMap::new(layout.buckets, &[(0, u128::MAX)]);
    let mut records = Vec::new();
    for body in Mix::new(100, now - 120_000).json_bodies(4, 4_000) {
        let (made, accepted) = prepare(&body, &intake, &shards, now)?;
        assert_eq!(accepted.rejected, 0);
        for record in made {
            let number = format!("4959033827149025660855969253836157109{:019}", records.len());
            records.push(StreamRecord {
                sequence: SequenceNumber::parse(&number).context("sequence")?,
                arrival_ms: now,
                data: record.data,
            });
        }
    }
    let shard = ShardId("shardId-000000000000".to_owned());
    let report = consumer.flush(&shard, &records, &MemoryStore::default()).await?;
    assert_eq!(report.samples, 4_000, "{report:?}");

    let items = aws.items(&tables.segments).await?;
    let sizes = items.iter().map(item_bytes).collect::<anyhow::Result<Vec<usize>>>()?;
    let wanted: usize = sizes.iter().map(|bytes| bytes.div_ceil(1_024)).sum();
    let counted = store.consumed().of(&tables.segments);
    println!(
        "{} items, {} bytes, {} write units",
        items.len(),
        sizes.iter().sum::<usize>(),
        counted.write
    );
    assert_eq!(counted.write, wanted as f64, "{sizes:?}");
    assert_eq!(counted.items_written, items.len() as u64);
    // An item per bucket and window; the two minutes may lie in two windows.
    assert!(items.len() <= 2 * 16, "{}", items.len());
    delete_tables(&aws, &tables).await
}
