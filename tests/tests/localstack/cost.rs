//! What writing, compacting and reading cost, as AWS's own local DynamoDB counts it.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
use tidemark_aws::{DynamoStore, Tables, Units};
use tidemark_model::{Buckets, DAY_MS, Timestamp, WindowLength};
use tidemark_testkit::mix::{Mix, json_body};
use tidemark_tests::harness::aws::Aws;
use tidemark_tests::harness::now_ms;
use tidemark_tests::harness::suites::{create_store, delete_tables};
use tidemark_tsdb::ingest::{Intake, ShardMap, prepare};
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::query::Query;
use tidemark_tsdb::stream::StreamRecord;
use tidemark_tsdb::{Compactor, Consumer, Layout, Origin, Reader, Retention, SequenceNumber, ShardId};

const HOUR_MS: i64 = 3_600_000;

/// Four scrapes, a minute, are a flush.
const SCRAPES_PER_FLUSH: usize = 4;

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

/// 1,000 series at 15 s, the workload of the bench, on tables of their own.
struct Scene {
    aws: Aws,
    tables: Tables,
    store: Arc<DynamoStore>,
    layout: Layout,
    consumer: Consumer<DynamoStore>,
    mix: Mix,
    records: usize,
}

impl Scene {
    async fn new(start_ms: i64) -> anyhow::Result<Self> {
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
            grace_ms: HOUR_MS,
        };
        Ok(Self {
            aws,
            tables,
            consumer: Consumer::new(Arc::clone(&store), layout, Origin::Stream, Arc::new(now_ms)),
            store,
            layout,
            mix: Mix::new(100, start_ms),
            records: 0,
        })
    }

    /// Stores the next minute of every series.
    async fn flush(&mut self) -> anyhow::Result<()> {
        let now = now_ms();
        let intake = Intake {
            buckets: self.layout.buckets,
            retention_ms: self.layout.retention.raw_ms,
        };
        let shards = ShardMap::new(self.layout.buckets, &[(0, u128::MAX)]);
        let scrapes = self.mix.scrapes(SCRAPES_PER_FLUSH);
        let samples: Vec<_> = self
            .mix
            .series()
            .iter()
            .zip(scrapes)
            .flat_map(|(series, samples)| samples.into_iter().map(move |sample| (series, sample)))
            .collect();
        let (made, accepted) = prepare(&json_body(&samples), &intake, &shards, now)?;
        ensure!(accepted.rejected == 0, "{accepted:?}");
        let mut records = Vec::new();
        for record in made {
            let number = format!("4959033827149025660855969253836157109{:019}", self.records);
            self.records += 1;
            records.push(StreamRecord {
                sequence: SequenceNumber::parse(&number).context("sequence")?,
                arrival_ms: now,
                data: record.data,
            });
        }
        let shard = ShardId("shardId-000000000000".to_owned());
        let report = self.consumer.flush(&shard, &records, &MemoryStore::default()).await?;
        ensure!(report.samples == samples.len() as u64, "{report:?}");
        Ok(())
    }

    /// What was charged for one table so far.
    fn charged(&self, table: &str) -> Units {
        self.store.consumed().of(table)
    }

    /// Compares what was charged for writing a table with the sizes of its items; returns how many items it has.
    async fn check_writes(&self, table: &str) -> anyhow::Result<usize> {
        let items = self.aws.items(table).await?;
        let sizes = items.iter().map(item_bytes).collect::<anyhow::Result<Vec<usize>>>()?;
        let wanted: usize = sizes.iter().map(|bytes| bytes.div_ceil(1_024)).sum();
        let counted = self.charged(table);
        println!(
            "{table}: {} items, {} bytes, {} write units",
            items.len(),
            sizes.iter().sum::<usize>(),
            counted.write
        );
        assert_eq!(counted.write, wanted as f64, "{table}");
        assert_eq!(counted.items_written, items.len() as u64, "{table}");
        Ok(items.len())
    }

    /// Asks for the samples of one series in a range; returns how many there are, and what each table was asked and charged.
    async fn read_one(
        &self,
        reader: &Reader<DynamoStore>,
        range: (i64, i64),
    ) -> anyhow::Result<(usize, HashMap<&'static str, (u64, f64)>)> {
        let series = self.mix.series().first().context("no series")?;
        let filter: serde_json::Map<String, Value> = series
            .labels
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        let parameters = HashMap::from([
            ("metric_name".to_owned(), series.name.clone()),
            ("labels".to_owned(), Value::Object(filter).to_string()),
            ("start_time".to_owned(), Timestamp(range.0).to_rfc3339()),
            ("end_time".to_owned(), Timestamp(range.1).to_rfc3339()),
        ]);
        let tables = [
            ("segments", self.tables.segments.as_str()),
            ("catalog", self.tables.catalog.as_str()),
            ("metrics", self.tables.metrics.as_str()),
        ];
        let before = tables.map(|(_, table)| self.charged(table));
        let now = now_ms();
        let query = Query::parse(&parameters, now).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let answered = query
            .run(reader, now)
            .await
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let answer: Value = serde_json::from_slice(&answered.body)?;
        let mut asked = HashMap::new();
        for ((name, table), before) in tables.into_iter().zip(before) {
            let after = self.charged(table);
            asked.insert(name, (after.calls - before.calls, after.read - before.read));
        }
        println!("calls and read units: {asked:?}");
        Ok((answer["results"].as_array().context("no results")?.len(), asked))
    }

    fn reader(&self) -> Reader<DynamoStore> {
        Reader::new(Arc::clone(&self.store), self.layout, 64_000_000)
    }
}

#[tokio::test]
async fn a_flush_costs_the_write_units_that_its_items_sizes_say() -> anyhow::Result<()> {
    let mut scene = Scene::new(now_ms() - 120_000).await?;
    scene.flush().await?;
    let items = scene.check_writes(&scene.tables.segments).await?;
    // An item per bucket and window; the two minutes may lie in two windows.
    assert!(items <= 2 * 16, "{items}");
    delete_tables(&scene.aws, &scene.tables).await
}

#[tokio::test]
async fn an_hour_of_one_series_is_read_in_few_pages_and_then_only_what_is_new() -> anyhow::Result<()> {
    // As far as possible in the windows that are open now.
    let start = now_ms() - HOUR_MS;
    let mut scene = Scene::new(start).await?;
    for _ in 0..50 {
        scene.flush().await?;
    }
    let reader = scene.reader();
    let (range, samples) = ((start, start + HOUR_MS), 50 * SCRAPES_PER_FLUSH);
    let (found, cold) = scene.read_one(&reader, range).await?;
    assert_eq!(found, samples);
    assert!(cold["segments"].0 <= 3, "an hour touches two windows: {cold:?}");
    assert!(cold["catalog"].0 <= 4, "{cold:?}");
    let (found, warm) = scene.read_one(&reader, range).await?;
    assert_eq!(found, samples);
    assert!(warm["segments"].0 <= 2, "{warm:?}");
    assert!(
        warm["segments"].1 <= 2.0,
        "nothing new is next to nothing read: {warm:?}"
    );
    scene.flush().await?;
    let (found, new) = scene.read_one(&reader, range).await?;
    assert_eq!(found, samples + SCRAPES_PER_FLUSH);
    assert!(new["segments"].1 < cold["segments"].1 / 4.0, "{new:?} after {cold:?}");
    delete_tables(&scene.aws, &scene.tables).await
}

#[tokio::test]
async fn compaction_costs_what_its_blocks_sizes_say_and_a_read_of_a_block_one_unit() -> anyhow::Result<()> {
    // An hour in the middle of a window that was over long ago.
    let window = WindowLength::from_seconds(7_200).context("window")?;
    let start = window.of(now_ms() - 8 * HOUR_MS).start_ms + HOUR_MS / 2;
    let mut scene = Scene::new(start).await?;
    for _ in 0..20 {
        scene.flush().await?;
    }
    let compactor = Compactor::new(Arc::clone(&scene.store), scene.layout, 60_000);
    let report = compactor.run(now_ms, 3, || false).await?;
    assert_eq!((report.failed, report.remaining), (0, false), "{report:?}");
    assert_eq!((report.series, report.samples), (1_000, 80_000), "{report:?}");
    let chunks = scene.check_writes(&scene.tables.metrics).await?;
    assert_eq!(chunks, 1_000, "a chunk for each series");
    let aggregates = scene.check_writes(&scene.tables.aggregates).await?;
    assert_eq!(report.blocks_written, (chunks + aggregates) as u64, "{report:?}");
    let again = compactor.run(now_ms, 3, || false).await?;
    assert_eq!((again.buckets, again.blocks_written), (0, 0), "{again:?}");

    let (found, cold) = scene.read_one(&scene.reader(), (start, start + HOUR_MS)).await?;
    assert_eq!(found, 80);
    assert_eq!((cold["metrics"].0, cold["segments"].0), (1, 0), "{cold:?}");
    assert!(cold["metrics"].1 <= 1.0, "{cold:?}");
    delete_tables(&scene.aws, &scene.tables).await
}
