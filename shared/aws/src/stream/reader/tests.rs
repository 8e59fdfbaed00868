use super::*;
use crate::testing::{Reply, Script, Time};
use serde_json::json;

fn stream(script: &Script, time: &Time) -> KinesisStream {
    KinesisStream::with(script.clients().kinesis(), "stream", time.pace())
}

fn shard() -> ShardId {
    ShardId("shardId-000000000001".into())
}

fn sequence(text: &str) -> SequenceNumber {
    SequenceNumber::parse(text).unwrap()
}

fn opened(iterator: &str) -> Reply {
    Reply::Json(json!({ "ShardIterator": iterator }))
}

fn records(sequences: &[&str], next: Option<&str>, behind: u64) -> Reply {
    let records: Vec<_> = sequences
        .iter()
        .map(|sequence| {
            json!({"SequenceNumber": sequence, "ApproximateArrivalTimestamp": 1_795_000_000.25, "Data": "AQI=", "PartitionKey": "-"})
        })
        .collect();
    Reply::Json(json!({"Records": records, "NextShardIterator": next, "MillisBehindLatest": behind}))
}

#[tokio::test]
async fn a_shard_is_read_from_the_oldest_record_page_by_page() {
    let script = Script::new([
        opened("one"),
        records(&["000000000000000000000000000017"], Some("two"), 40),
        records(&["000000000000000000000000000018"], None, 0),
    ]);
    let stream = stream(&script, &Time::new(0.5));
    let first = stream.read(&shard(), &Position::Oldest).await.unwrap();
    assert_eq!(
        first.records,
        [StreamRecord {
            sequence: sequence("17"),
            arrival_ms: 1_795_000_000_250,
            data: vec![1, 2]
        }]
    );
    assert!(!first.at_tip);
    let second = stream.read(&shard(), &first.next.unwrap()).await.unwrap();
    assert_eq!(second.records[0].sequence, sequence("18"));
    assert_eq!((second.next, second.at_tip), (None, true));
    let calls = script.calls();
    assert_eq!(calls[0].body["ShardIteratorType"], "TRIM_HORIZON");
    assert_eq!(calls[2].body["ShardIterator"], "two");
}

#[tokio::test]
async fn a_position_after_a_record_is_sent_as_the_stream_wrote_it() {
    let aws = "49590338271490256608559692538361571095921575989136588898";
    let script = Script::new([opened("a"), records(&[], None, 0), opened("b"), records(&[], None, 0)]);
    let stream = stream(&script, &Time::new(0.5));
    stream.read(&shard(), &Position::After(sequence(aws))).await.unwrap();
    stream
        .read(&shard(), &Position::After(sequence("000000017950000000000000000042")))
        .await
        .unwrap();
    let calls = script.calls();
    assert_eq!(calls[0].body["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    assert_eq!(calls[0].body["StartingSequenceNumber"], aws);
    assert_eq!(
        calls[2].body["StartingSequenceNumber"],
        "000000017950000000000000000042"
    );
}

#[tokio::test]
async fn an_expired_iterator_is_opened_again_after_the_last_record() {
    let script = Script::new([
        opened("one"),
        records(&["17"], Some("two"), 9),
        Reply::error(400, "ExpiredIteratorException"),
        opened("three"),
        records(&["18"], Some("four"), 0),
    ]);
    let stream = stream(&script, &Time::new(0.5));
    let first = stream.read(&shard(), &Position::Oldest).await.unwrap();
    let second = stream.read(&shard(), &first.next.unwrap()).await.unwrap();
    assert_eq!(second.records[0].sequence, sequence("18"));
    assert_eq!(script.calls()[3].body["StartingSequenceNumber"], format!("{:030}", 17));
    assert_eq!(script.calls()[4].body["ShardIterator"], "three");
}

#[tokio::test]
async fn an_empty_page_keeps_the_place() {
    let script = Script::new([
        opened("one"),
        records(&["17"], Some("two"), 9),
        records(&[], Some("three"), 9),
        Reply::error(400, "ExpiredIteratorException"),
        opened("four"),
        records(&[], Some("five"), 0),
    ]);
    let stream = stream(&script, &Time::new(0.5));
    let mut position = Position::Oldest;
    for _ in 0..3 {
        position = stream.read(&shard(), &position).await.unwrap().next.unwrap();
    }
    assert_eq!(script.calls()[4].body["StartingSequenceNumber"], format!("{:030}", 17));
}

#[tokio::test]
async fn a_busy_shard_is_asked_again_and_a_missing_one_is_not() {
    let script = Script::answering(|call| match call.operation.as_str() {
        "GetShardIterator" => opened("one"),
        _ => Reply::error(400, "ProvisionedThroughputExceededException"),
    });
    let time = Time::new(1.0);
    let error = stream(&script, &time)
        .read(&shard(), &Position::Oldest)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Unavailable {
                operation: "GetRecords",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(time.pauses().len() > 3);

    let script = Script::new([Reply::error(400, "ResourceNotFoundException")]);
    let error = stream(&script, &time)
        .read(&shard(), &Position::Oldest)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn a_cursor_of_something_else_is_refused() {
    let script = Script::new([]);
    for cursor in ["", "no bar", "x|iterator"] {
        let position = Position::Cursor(cursor.into());
        let error = stream(&script, &Time::new(0.5))
            .read(&shard(), &position)
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn closed_shards_are_listed_too() {
    let range = json!({"StartingHashKey": "0", "EndingHashKey": "9"});
    let script = Script::new([Reply::Json(json!({"Shards": [
        {"ShardId": "shardId-0", "HashKeyRange": range, "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "5"}},
        {"ShardId": "shardId-1", "HashKeyRange": range, "SequenceNumberRange": {"StartingSequenceNumber": "6"}},
    ]}))]);
    let shards = stream(&script, &Time::new(0.5)).shards().await.unwrap();
    assert_eq!(shards, [ShardId("shardId-0".into()), ShardId("shardId-1".into())]);
}

#[tokio::test]
async fn closed_shards_have_their_ranges_too() {
    let most = u128::MAX.to_string();
    let script = Script::new([Reply::Json(json!({"Shards": [
        {"ShardId": "shardId-0", "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"}, "SequenceNumberRange": {"StartingSequenceNumber": "1", "EndingSequenceNumber": "5"}},
        {"ShardId": "shardId-1", "HashKeyRange": {"StartingHashKey": "10", "EndingHashKey": most}, "SequenceNumberRange": {"StartingSequenceNumber": "6"}},
    ]}))]);
    let ranges = stream(&script, &Time::new(0.5)).ranges().await.unwrap();
    let shard = |id: &str| ShardId(id.into());
    assert_eq!(
        ranges,
        [(shard("shardId-0"), 0..=9), (shard("shardId-1"), 10..=u128::MAX)]
    );
}

#[tokio::test]
async fn a_shard_that_does_not_know_the_record_is_read_from_its_beginning() {
    let script = Script::new([
        Reply::error(400, "InvalidArgumentException"),
        opened("fresh"),
        records(&["000000000000000000000000000001"], None, 0),
    ]);
    let stream = stream(&script, &Time::new(0.5));
    let page = stream.read(&shard(), &Position::After(sequence("99"))).await.unwrap();
    assert_eq!(page.records[0].sequence, sequence("1"));
    assert_eq!(script.calls()[1].body["ShardIteratorType"], "TRIM_HORIZON");
}
