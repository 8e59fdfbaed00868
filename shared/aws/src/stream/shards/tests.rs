use super::*;
use crate::testing::{Reply, Script, Time};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidemark_model::Bucket;

fn buckets(count: u16) -> Buckets {
    Buckets::new(count).unwrap()
}

fn shard(id: &str, first: u128, last: u128, closed: bool) -> Value {
    let mut range = json!({"StartingSequenceNumber": "1"});
    if closed {
        range["EndingSequenceNumber"] = "2".into();
    }
    json!({
        "ShardId": id, "SequenceNumberRange": range,
        "HashKeyRange": {"StartingHashKey": first.to_string(), "EndingHashKey": last.to_string()},
    })
}

fn directory(script: &Script, pace: Pace, count: u16) -> Directory {
    Directory::new(script.clients().kinesis(), "stream".into(), buckets(count), pace)
}

proptest! {
    #[test]
    fn buckets_of_one_range_share_an_index_and_indexes_are_dense(count in 1_u16..200, cuts in proptest::collection::btree_set(1..u128::MAX, 0..12)) {
        let mut starts: Vec<u128> = vec![0];
        starts.extend(cuts);
        let ranges: Vec<(u128, u128)> = starts
            .iter()
            .enumerate()
            .map(|(place, start)| (*start, starts.get(place + 1).map_or(u128::MAX, |next| next - 1)))
            .collect();
        let map = ShardMap::new(buckets(count), &ranges);
        let range_of = |bucket| ranges.iter().position(|(first, last)| (*first..=*last).contains(&buckets(count).hash_key(bucket)));
        for a in buckets(count).all() {
            prop_assert!(map.shard_of(a) < map.shards());
            for b in buckets(count).all() {
                prop_assert_eq!(map.shard_of(a) == map.shard_of(b), range_of(a) == range_of(b));
            }
        }
        let used: std::collections::BTreeSet<usize> = buckets(count).all().map(|bucket| map.shard_of(bucket)).collect();
        prop_assert_eq!(used.len(), map.shards());
    }
}

#[tokio::test]
async fn closed_shards_take_nothing_and_pages_are_followed() {
    let half = u128::MAX / 2;
    let script = Script::new([
        Reply::Json(
            json!({"Shards": [shard("shardId-0", 0, u128::MAX, true), shard("shardId-1", 0, half, false)], "NextToken": "more"}),
        ),
        Reply::Json(json!({"Shards": [shard("shardId-2", half + 1, u128::MAX, false)]})),
    ]);
    let map = directory(&script, Time::new(0.5).pace(), 4).current().await;
    assert_eq!(map.shards(), 2);
    assert_eq!(
        (0..4).map(|bucket| map.shard_of(Bucket(bucket))).collect::<Vec<_>>(),
        [0, 0, 1, 1]
    );
    let second = &script.calls()[1].body;
    assert_eq!(second["NextToken"], "more");
    assert!(second.get("StreamName").is_none(), "a token comes without the name");
}

#[tokio::test]
async fn a_stream_that_does_not_tell_its_shards_is_guessed_and_asked_again_soon() {
    let time = Time::new(1.0);
    let whole = json!({"Shards": [shard("shardId-0", 0, u128::MAX, false)]});
    let script = Script::new([
        Reply::error(400, "AccessDeniedException"),
        Reply::Json(whole),
        Reply::error(400, "AccessDeniedException"),
    ]);
    let directory = directory(&script, time.pace(), 8);
    assert_eq!(directory.current().await.shards(), 8, "one per bucket");
    assert_eq!(directory.current().await.shards(), 8);
    assert_eq!(script.calls().len(), 1);
    time.advance(FRESH_GUESS);
    assert_eq!(directory.current().await.shards(), 1);
    time.advance(FRESH - Duration::from_secs(1));
    assert_eq!(directory.current().await.shards(), 1);
    assert_eq!(script.calls().len(), 2);
    time.advance(Duration::from_secs(1));
    assert_eq!(directory.current().await.shards(), 1, "the last map known");
    assert_eq!(script.calls().len(), 3);
}
