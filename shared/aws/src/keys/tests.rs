use super::*;
use proptest::prelude::*;
use tidemark_model::limits::{MAX_METRIC_NAME_BYTES, MAX_RULE_NAME_BYTES};
use tidemark_tsdb::SequenceNumber;

fn series_id() -> impl Strategy<Value = SeriesId> {
    (any::<u64>(), any::<u64>()).prop_map(|(name, labels)| SeriesId { name, labels })
}

fn name() -> impl Strategy<Value = String> {
    "[#a-zA-Z0-9_.:/ äé漢🦀-]{1,40}"
}

fn catalog_key() -> impl Strategy<Value = CatalogKey> {
    prop_oneof![
        (any::<i32>(), name(), any::<i64>(), series_id(), any::<u32>()).prop_map(
            |(period, metric, first_seen_ms, id, reference)| CatalogKey::Series {
                period: Period(period.into()),
                metric,
                first_seen_ms,
                id,
                reference,
            }
        ),
        (any::<i32>(), name()).prop_map(|(period, metric)| CatalogKey::Name {
            period: Period(period.into()),
            metric
        }),
        any::<u16>().prop_map(|bucket| CatalogKey::References { bucket: Bucket(bucket) }),
        name().prop_map(|shard| CatalogKey::Checkpoint { shard: ShardId(shard) }),
    ]
}

fn alert_key() -> impl Strategy<Value = AlertKey> {
    prop_oneof![
        name().prop_map(|id| AlertKey::Rule { id }),
        name().prop_map(|name| AlertKey::RuleName { name }),
        name().prop_map(|id| AlertKey::Instance { id }),
        (name(), name()).prop_map(|(transition_id, channel)| AlertKey::Notified(AttemptKey { transition_id, channel })),
    ]
}

proptest! {
    #[test]
    fn segment_keys_read_back(
        bucket: u16, start_ms: i64, arrival_ms in 0..1_u64 << 48, last: u128, shard: u32, first_hash: u64, part: u8,
    ) {
        let key = SegmentKey {
            bucket: Bucket(bucket),
            window: Window { start_ms },
            order: SegmentOrder {
                arrival_ms,
                last: SequenceNumber::parse(&last.to_string()).unwrap(),
                shard,
                first_hash,
                part,
            },
        };
        prop_assert_eq!(SegmentKey::parse(&key.pk(), &key.sk()), Ok(key));
    }

    #[test]
    fn catalog_keys_read_back(key in catalog_key()) {
        prop_assert_eq!(CatalogKey::parse(&key.pk(), &key.sk()), Ok(key));
    }

    #[test]
    fn alert_keys_read_back(key in alert_key()) {
        prop_assert_eq!(AlertKey::parse(&key.pk(), &key.sk()), Ok(key));
    }

    #[test]
    fn no_text_is_read_as_another_key(pk in "[a-z#0-9-]{0,24}", sk in "[a-z#0-9-]{0,24}") {
        if let Ok(key) = AlertKey::parse(&pk, &sk) {
            prop_assert_eq!((key.pk(), key.sk()), (pk.clone(), sk.clone()));
        }
        if let Ok(CatalogKey::Name { metric, .. }) = CatalogKey::parse(&pk, &sk) {
            prop_assert_eq!(metric, sk);
        }
    }
}

#[test]
fn series_sort_by_when_they_were_first_seen() {
    let key = |first_seen_ms| {
        CatalogKey::Series {
            period: Period(685),
            metric: "cpu.load".into(),
            first_seen_ms,
            id: SeriesId { name: 1, labels: 2 },
            reference: 7,
        }
        .sk()
    };
    assert_eq!(
        key(1_795_000_000_000),
        "1795000000000#00000000000000010000000000000002#7"
    );
    assert!(key(9) < key(10) && key(999_999_999_999) < key(1_795_000_000_000));
}

#[test]
fn the_longest_names_fit_into_keys() {
    let name = CatalogKey::Name {
        period: Period(685),
        metric: "m".repeat(MAX_METRIC_NAME_BYTES),
    };
    assert!(name.sk().len() <= MAX_SORT_KEY_BYTES);
    assert!(CatalogKey::series_partition(&name.sk(), Period(i64::MIN)).len() <= 2_048);
    const { assert!(MAX_RULE_NAME_BYTES <= MAX_SORT_KEY_BYTES) }
}

#[test]
fn a_metric_named_like_a_key_stays_a_metric() {
    let key = CatalogKey::Series {
        period: Period(1),
        metric: "series#2#x".into(),
        first_seen_ms: 0,
        id: SeriesId { name: 0, labels: 0 },
        reference: 0,
    };
    assert_eq!(CatalogKey::parse(&key.pk(), &key.sk()), Ok(key));
}
