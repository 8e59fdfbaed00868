//! Every acknowledged sample is there exactly once, through duplicates, re-cut batches and two reshards.

use crate::installation::{Installation, Positions, until_active};
use anyhow::{Context as _, ensure};
use futures::future::{try_join, try_join_all};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::aws::KINESIS;
use tidemark_tests::harness::expect::{Samples, labels, sample, until_same};
use tidemark_tests::harness::stream::{cut, shards};
use tidemark_tests::harness::{now_ms, random, unique};
use tokio::sync::watch;

const AGENTS: usize = 4;
const METRICS: usize = 25;
const SERIES_PER_AGENT: usize = 50;
const ROUNDS: i64 = 20;
const SAMPLES_PER_ROUND: i64 = 5;
const STEP_MS: i64 = 10_000;

type Acknowledged = BTreeMap<String, Samples>;

/// One agent: in each round five samples of each of its series.
async fn push(api: &Api, metrics: &[String], agent: usize, start: i64, seed: u64) -> anyhow::Result<Acknowledged> {
    let mut random = StdRng::seed_from_u64(seed.wrapping_add(agent as u64));
    let mut acknowledged = Acknowledged::new();
    for round in 0..ROUNDS {
        let mut body = Vec::new();
        let mut sent = Vec::new();
        for number in 0..SERIES_PER_AGENT {
            let metric = &metrics[number % METRICS];
            let labels = labels([("agent", &agent.to_string()), ("number", &number.to_string())]);
            for one in 0..SAMPLES_PER_ROUND {
                let at = start + (round * SAMPLES_PER_ROUND + one) * STEP_MS;
                let value = if random.random_ratio(1, 2) {
                    f64::from(random.random_range(0..10_000)) / 100.0
                } else {
                    random.random()
                };
                body.push(sample(metric, &labels, at, value));
                sent.push((metric.clone(), labels.clone(), at, value));
            }
        }
        api.push(&Value::Array(body)).await?;
        for (metric, labels, at, value) in sent {
            acknowledged
                .entry(metric)
                .or_default()
                .insert((labels, at), value.to_bits());
        }
    }
    Ok(acknowledged)
}

/// Splits the first open shard and merges two neighbours, while agents push.
async fn reshard(installation: &Installation) -> anyhow::Result<()> {
    let stream = installation.value("STREAM_NAME");
    let aws = &installation.aws;
    let open = async || -> anyhow::Result<Vec<(String, u128, u128)>> {
        let listed = aws.call(KINESIS, "ListShards", json!({"StreamName": stream})).await?;
        let mut open = Vec::new();
        for shard in listed["Shards"].as_array().context("no shards")? {
            if shard["SequenceNumberRange"]["EndingSequenceNumber"].is_null() {
                let key = |field: &str| shard["HashKeyRange"][field].as_str().unwrap_or("").parse();
                let id = shard["ShardId"].as_str().context("no id")?.to_owned();
                open.push((id, key("StartingHashKey")?, key("EndingHashKey")?));
            }
        }
        open.sort_by_key(|(_, first, _)| *first);
        Ok(open)
    };
    let (id, first, last) = open().await?.swap_remove(0);
    let middle = (first + (last - first) / 2).to_string();
    let split = json!({"StreamName": stream, "ShardToSplit": id, "NewStartingHashKey": middle});
    aws.call(KINESIS, "SplitShard", split).await?;
    until_active(aws, stream).await?;
    let open = open().await?;
    ensure!(open.len() == 3, "{open:?}");
    let merge = json!({"StreamName": stream, "ShardToMerge": open[1].0, "AdjacentShardToMerge": open[2].0});
    aws.call(KINESIS, "MergeShards", merge).await?;
    until_active(aws, stream).await
}

/// Consumes what comes, and delivers again what was, cut anew, until all was pushed and consumed.
async fn consume(installation: &Installation, mut over: watch::Receiver<bool>, seed: u64) -> anyhow::Result<usize> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut positions = Positions::default();
    let mut again = 0;
    loop {
        let last = *over.borrow_and_update();
        let delivered = installation.consume(&mut positions).await?;
        for records in installation.delivered(&positions).await? {
            let batch = cut(&records, 7, &mut random);
            if !batch.is_empty() {
                installation.deliver(batch).await?;
                again += 1;
            }
        }
        if last && delivered == 0 {
            return Ok(again);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_survive_duplicates_new_cuts_and_reshards() -> anyhow::Result<()> {
    let installation = Installation::new().await?;
    let mut random = random("samples_survive_duplicates_new_cuts_and_reshards");
    let seed: u64 = random.random();
    let start = now_ms() - ROUNDS * SAMPLES_PER_ROUND * STEP_MS;
    let metrics: Vec<String> = (0..METRICS).map(|_| unique("localstack")).collect();
    let ingest = installation.api("ingest")?;
    let (done, over) = watch::channel(false);
    let pushing = async {
        let agents = (0..AGENTS).map(|agent| push(&ingest, &metrics, agent, start, seed));
        let pushed = try_join(try_join_all(agents), reshard(&installation)).await;
        done.send_replace(true);
        pushed
    };
    let ((pushed, ()), again) = try_join(pushing, consume(&installation, over, seed)).await?;
    println!("{again} batches delivered again");
    let mut acknowledged = Acknowledged::new();
    for (metric, samples) in pushed.into_iter().flatten() {
        acknowledged.entry(metric).or_default().extend(samples);
    }
    let total: usize = acknowledged.values().map(Samples::len).sum();
    assert_eq!(total, 20_000);

    let query = installation.api("query")?;
    let end = start + ROUNDS * SAMPLES_PER_ROUND * STEP_MS;
    for (metric, samples) in &acknowledged {
        until_same(&query, metric, samples, start, end).await?;
    }
    // Two shards, one split in two, two merged to one: five that hold records or may, two of them open.
    let all = shards(&installation.aws, installation.value("STREAM_NAME")).await?;
    assert_eq!(all.len(), 5, "{all:?}");
    let stats = installation
        .api("admin")?
        .get("/api/v1/stats/queue", &[])
        .await?
        .expect(200)?;
    assert_eq!(stats["partitions"], all.len(), "{stats}");
    // Duplicates are not counted.
    assert_eq!(stats["total_events"], total, "{stats}");
    assert_eq!(stats["unconsumed_events"], 0, "{stats}");
    let by_shard = stats["events_by_partition"].as_object().unwrap();
    let sum: u64 = by_shard.values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, total as u64, "{stats}");
    let system = installation
        .api("admin")?
        .get("/api/v1/stats/system", &[])
        .await?
        .expect(200)?;
    assert_eq!(system["total_metrics"], total, "{system}");
    assert_eq!(system["metric_names_count"], METRICS, "{system}");
    let names = query.all_pages("/api/v1/metrics/names", "names", &[]).await?;
    assert_eq!(names, acknowledged.keys().map(|name| json!(name)).collect::<Vec<_>>());
    installation.remove().await
}

#[tokio::test]
async fn the_queue_is_drained_by_hand_past_the_checkpoints() -> anyhow::Result<()> {
    let installation = Installation::new().await?;
    let (ingest, admin) = (installation.api("ingest")?, installation.api("admin")?);
    let now = now_ms();
    let body = |from: i64| -> Value {
        (from..from + 50)
            .map(|number| sample("drained", &labels([("n", &number.to_string())]), now, 1.0))
            .collect()
    };
    ingest.push(&body(0)).await?;
    installation.consume(&mut Positions::default()).await?;
    ingest.push(&body(50)).await?;
    let poison = installation
        .aws
        .put_record(installation.value("STREAM_NAME"), b"poison", "x")
        .await?;
    let stats = admin.get("/api/v1/stats/queue", &[]).await?.expect(200)?;
    assert_eq!(
        (&stats["total_events"], &stats["unconsumed_events"]),
        (&json!(100), &json!(50))
    );
    let drained = admin.post("/api/v1/ops/process-queue", &json!({})).await?.expect(200)?;
    assert_eq!(
        drained,
        json!({"fetched": 50, "written": 50, "errors": 1, "remaining": 0})
    );
    let again = admin.post("/api/v1/ops/process-queue", &json!({})).await?.expect(200)?;
    assert_eq!(again, json!({"fetched": 0, "written": 0, "errors": 0, "remaining": 0}));
    let found = installation
        .api("query")?
        .get("/api/v1/query", &[("metric_name", "drained"), ("aggregation", "count")])
        .await?
        .expect(200)?;
    assert_eq!(found["results"][0]["value"], 100.0, "{found}");
    let letters = installation
        .aws
        .messages(installation.value("DEAD_LETTER_QUEUE_URL"), |_| true)
        .await?;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let letter: Value = serde_json::from_str(letters[0]["Body"].as_str().unwrap())?;
    assert_eq!(letter["shard"], poison["ShardId"], "{letter}");
    installation.remove().await
}
