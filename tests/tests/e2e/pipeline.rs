//! Every acknowledged sample is in the answer exactly once, whatever happens to its way.

mod fleet;
mod trouble;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleet::Fleet;
use futures::future::try_join;
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tidemark_aws::keys::SegmentKey;
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::aws::Aws;
use tidemark_tests::harness::expect::{Samples, labels, sample, until_same};
use tidemark_tests::harness::stream::{self, Record};
use tidemark_tests::harness::{eventually, now_ms, random, suites, unique, variable};
use tidemark_wire::envelope;
use trouble::Trouble;

/// Agents push through the client library and by hand, while batches are delivered twice and re-cut, the queue is drained
/// beside the event source, and processes of the consumer die in the middle of their work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_sample_is_there_exactly_once() -> anyhow::Result<()> {
    let (api, aws) = (Api::from_env()?, Aws::from_env()?);
    let mut random = random("every_acknowledged_sample_is_there_exactly_once");
    let fleet = Fleet::new(&mut random);
    let trouble = Trouble::new(&api, &aws, random.random()).await?;
    let (done, over) = tokio::sync::watch::channel(false);
    let pushing = async {
        let acknowledged = fleet.push(&api).await;
        done.send_replace(true);
        acknowledged
    };
    let (acknowledged, (redelivered, killed)) = try_join(
        pushing,
        try_join(trouble.redeliver_and_drain(over.clone()), trouble.kill(over)),
    )
    .await?;
    println!("{redelivered} batches delivered again, {killed} invocations killed in the middle");
    assert!(redelivered >= trouble::LEAST_REDELIVERED && killed >= trouble::LEAST_KILLED);

    let samples: usize = acknowledged.values().map(Samples::len).sum();
    let series: BTreeSet<_> = acknowledged
        .iter()
        .flat_map(|(metric, samples)| samples.keys().map(move |(labels, _)| (metric, labels)))
        .collect();
    assert!(samples >= 100_000, "{samples}");
    assert!(series.len() >= 1_000, "{}", series.len());
    for (metric, samples) in &acknowledged {
        until_same(&api, metric, samples, fleet.start_ms, fleet.end_ms()).await?;
    }
    // Once more after everything was delivered yet another time, from the first record to the last.
    trouble.redeliver_everything().await?;
    for (metric, samples) in &acknowledged {
        until_same(&api, metric, samples, fleet.start_ms, fleet.end_ms()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_is_set_aside_with_its_reason_and_blocks_nothing() -> anyhow::Result<()> {
    let (api, aws) = (Api::from_env()?, Aws::from_env()?);
    let (stream, queue) = (variable("STREAM_NAME")?, variable("DEAD_LETTER_QUEUE_URL")?);
    let metric = unique("e2e_poison");
    let noise: Vec<u8> = (0..100).map(|_| rand::random()).collect();
    let mut poisons = [
        b"not an envelope".to_vec(),
        [&[1, 1, 5, 0, 0, 0][..], &noise].concat(),
        Vec::from([255; 3]),
    ];
    // Something that tells this run's letters from those of another.
    poisons.iter_mut().for_each(|poison| poison.extend(metric.as_bytes()));
    let mut wanted = Samples::new();
    let start = now_ms();
    for (number, poison) in poisons.iter().enumerate() {
        // Before, between and behind sound records, in every shard.
        for shard_key in 0..8 {
            aws.put_record(&stream, poison, &format!("key {shard_key}")).await?;
        }
        let at = start + number as i64;
        api.push(&json!([sample(&metric, &labels([]), at, number as f64)]))
            .await?;
        wanted.insert((labels([]), at), (number as f64).to_bits());
    }
    until_same(&api, &metric, &wanted, start, start + 1_000).await?;
    let mut letters: BTreeMap<(String, String), Value> = BTreeMap::new();
    eventually("a letter for every broken record", async || {
        let ours = |message: &Value| letter(message).is_some_and(|(_, data)| data.ends_with(metric.as_bytes()));
        for message in aws.messages(&queue, ours).await? {
            let (letter, _) = letter(&message).context("no letter")?;
            let text = |field: &str| letter[field].as_str().unwrap_or_default().to_owned();
            letters.insert((text("shard"), text("sequence")), letter);
        }
        // A redelivered batch may bring a letter twice; none may be missing.
        ensure!(letters.len() >= 8 * poisons.len(), "{} letters", letters.len());
        Ok(Some(()))
    })
    .await?;
    assert_eq!(letters.len(), 8 * poisons.len());
    for ((shard, _), letter) in &letters {
        assert!(shard.starts_with("shardId-"), "{letter}");
        assert!(
            letter["reason"].as_str().is_some_and(|reason| reason.len() > 10),
            "{letter}"
        );
        assert!(
            letter["arrival_ms"]
                .as_i64()
                .is_some_and(|at| (at - start).abs() < 600_000),
            "{letter}"
        );
    }
    Ok(())
}

fn letter(message: &Value) -> Option<(Value, Vec<u8>)> {
    let letter: Value = serde_json::from_str(message["Body"].as_str()?).ok()?;
    let data = STANDARD.decode(letter["data"].as_str()?).ok()?;
    Some((letter, data))
}

/// The records that hold one of the metrics, shard by shard.
async fn records_with(aws: &Aws, stream: &str, metrics: &BTreeSet<String>) -> anyhow::Result<Vec<Vec<Record>>> {
    let mut found = Vec::new();
    for shard in stream::shards(aws, stream).await? {
        let records = stream::records(aws, stream, &shard, None).await?;
        let has = |record: &Record| {
            let envelope = envelope::decode(&record.data().ok()?).ok()?;
            envelope
                .series()
                .any(|series| metrics.contains(series.name()))
                .then_some(())
        };
        found.push(records.into_iter().filter(|record| has(record).is_some()).collect());
    }
    Ok(found)
}

#[tokio::test]
async fn a_request_costs_a_record_per_shard_and_a_flush_an_item_per_bucket() -> anyhow::Result<()> {
    let (api, aws) = (Api::from_env()?, Aws::from_env()?);
    let (stream, table) = (variable("STREAM_NAME")?, variable("SEGMENTS_TABLE")?);
    // So many metrics that every bucket gets some; all samples in one window.
    let metrics: BTreeSet<String> = (0..200).map(|_| unique("e2e_cost")).collect();
    let window = variable("WINDOW_SECONDS")?.parse::<i64>()? * 1_000;
    let start = now_ms().div_euclid(window) * window - window / 2;
    for request in 0..3 {
        let body: Vec<Value> = (0..2_000)
            .zip(metrics.iter().cycle())
            .map(|(number, metric)| {
                let labels = labels([("n", &(number / 200).to_string())]);
                sample(metric, &labels, start + request, f64::from(number))
            })
            .collect();
        api.push(&Value::Array(body)).await?;
    }
    let shards = records_with(&aws, &stream, &metrics).await?;
    assert_eq!(shards.len(), 2);
    for records in &shards {
        assert_eq!(
            records.len(),
            3,
            "three requests of 2,000 samples are three records in each shard"
        );
    }
    // One invocation with just these records, which no one else makes: the second and the third of a shard.
    let (function, buckets) = (variable("CONSUME_FUNCTION")?, variable("BUCKETS")?.parse::<usize>()?);
    let mut touched = BTreeSet::new();
    for records in &shards {
        let batch = &records[1..];
        let before = segment_keys(&aws, &table).await?;
        let invoked = aws.invoke(&function, &stream::event(batch, aws.region())).await?;
        ensure!(!invoked.failed, "{invoked:?}");
        assert_eq!(invoked.payload["batchItemFailures"], json!([]), "{invoked:?}");
        let last = batch.last().context("no record")?.sequence();
        let mut per_place = BTreeMap::new();
        for key in segment_keys(&aws, &table).await?.difference(&before) {
            let (pk, sk) = key;
            let parsed = SegmentKey::parse(pk, sk)?;
            // Others write meanwhile, also flushes that end with the same record; those began with another.
            if parsed.order.last.to_string().trim_start_matches('0') == last.trim_start_matches('0') {
                *per_place
                    .entry((parsed.order.first_hash, parsed.bucket, parsed.window, parsed.late))
                    .or_insert(0) += 1;
                touched.insert(parsed.bucket);
            }
        }
        assert!(!per_place.is_empty(), "no segment of the invocation was found");
        assert!(per_place.values().all(|count| *count == 1), "{per_place:?}");
    }
    assert_eq!(touched.len(), buckets, "200 metrics are in every bucket");
    Ok(())
}

async fn segment_keys(aws: &Aws, table: &str) -> anyhow::Result<BTreeSet<(String, Vec<u8>)>> {
    let items = aws.items(table).await?;
    items
        .iter()
        .map(|item| {
            let pk = item["pk"]["S"].as_str().context("no pk")?.to_owned();
            Ok((pk, STANDARD.decode(item["sk"]["B"].as_str().context("no sk")?)?))
        })
        .collect()
}

#[tokio::test]
async fn the_stores_on_dynamodb_keep_every_promise() -> anyhow::Result<()> {
    let aws = Aws::from_env()?;
    suites::store(&aws).await?;
    suites::alert_store(&aws).await?;
    suites::notify_store(&aws).await
}
