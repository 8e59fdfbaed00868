use super::*;
use proptest::prelude::*;
use tidemark_model::Timestamp;
use tidemark_model::limits::{MAX_METRIC_NAME_BYTES, MAX_RULE_NAME_BYTES};
use tidemark_notify::Channel;
use tidemark_notify::settings::{Document, Inhibition, MuteTime, Silence};
use tidemark_tsdb::SequenceNumber;

fn series_id() -> impl Strategy<Value = SeriesId> {
    (any::<u64>(), any::<u64>()).prop_map(|(name, labels)| SeriesId { name, labels })
}

fn name() -> impl Strategy<Value = String> {
    "[#a-zA-Z0-9_.:/ äé漢🦀-]{1,40}"
}

fn catalog_key() -> impl Strategy<Value = CatalogKey> {
    prop_oneof![
        (
            any::<i32>(),
            name(),
            any::<i64>(),
            series_id(),
            any::<u32>(),
            any::<bool>()
        )
            .prop_map(
                |(period, metric, first_seen_ms, id, reference, late)| CatalogKey::Series {
                    period: Period(period.into()),
                    metric,
                    first_seen_ms,
                    id,
                    reference,
                    late,
                }
            ),
        (any::<i32>(), name()).prop_map(|(period, metric)| CatalogKey::Name {
            period: Period(period.into()),
            metric
        }),
        any::<u16>().prop_map(|bucket| CatalogKey::References { bucket: Bucket(bucket) }),
        name().prop_map(|shard| CatalogKey::Checkpoint { shard: ShardId(shard) }),
        any::<u16>().prop_map(|bucket| CatalogKey::Progress { bucket: Bucket(bucket) }),
        Just(CatalogKey::Division),
    ]
}

fn block_place() -> impl Strategy<Value = BlockPlace> {
    let tier = prop_oneof![Just(Tier::Raw), Just(Tier::Minute), Just(Tier::Hour)];
    (tier, series_id(), any::<i64>(), any::<u32>(), any::<u8>()).prop_map(|(tier, id, start_ms, epoch, part)| {
        BlockPlace(BlockKey {
            tier,
            id,
            start_ms,
            epoch,
            part,
        })
    })
}

fn history_list() -> impl Strategy<Value = HistoryList> {
    prop_oneof![
        any::<i32>().prop_map(|period| HistoryList::Period(Period(period.into()))),
        name().prop_map(HistoryList::Rule),
        name().prop_map(HistoryList::Alert),
    ]
}

fn document_kind() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(Channel::KIND),
        Just(Silence::KIND),
        Just(Inhibition::KIND),
        Just(MuteTime::KIND)
    ]
}

fn alert_key() -> impl Strategy<Value = AlertKey> {
    prop_oneof![
        name().prop_map(|id| AlertKey::Rule { id }),
        name().prop_map(|name| AlertKey::RuleName { name }),
        name().prop_map(|id| AlertKey::Instance { id }),
        any::<u32>().prop_map(|shard| AlertKey::Tick { shard }),
        (history_list(), 0..9_999_999_999_999_i64, name()).prop_map(|(list, at, id)| AlertKey::History {
            list,
            at: Timestamp(at),
            id
        }),
        (document_kind(), name()).prop_map(|(kind, id)| AlertKey::Document { kind, id }),
        name().prop_map(|lane| AlertKey::Lane { lane }),
        (name(), name()).prop_map(|(lane, id)| AlertKey::Group { lane, id }),
        (name(), name()).prop_map(|(lane, incident)| AlertKey::Member { lane, incident }),
        (name(), name()).prop_map(|(incident, lane)| AlertKey::Settled { incident, lane }),
    ]
}

proptest! {
    #[test]
    fn segment_keys_read_back(
        (bucket, start_ms, late) in any::<(u16, i64, bool)>(), arrival_ms in 0..1_u64 << 48, last: u128, shard: u32,
        first_hash: u64, (part, last_part) in any::<(u8, u8)>(),
    ) {
        let key = SegmentKey {
            bucket: Bucket(bucket),
            window: Window { start_ms },
            late,
            order: SegmentOrder {
                arrival_ms,
                last: SequenceNumber::parse(&last.to_string()).unwrap(),
                shard,
                first_hash,
                part,
                last_part,
            },
        };
        prop_assert_eq!(SegmentKey::parse(&key.pk(), &key.sk()), Ok(key));
    }

    #[test]
    fn block_keys_read_back(place in block_place()) {
        prop_assert_eq!(BlockPlace::parse(&place.pk(), &place.sk()), Ok(place));
    }

    #[test]
    fn blocks_of_a_series_sort_as_their_keys_do(a in block_place(), b in block_place()) {
        let b = BlockPlace(BlockKey { tier: a.0.tier, id: a.0.id, ..b.0 });
        prop_assert_eq!(a.sk().cmp(&b.sk()), a.0.cmp(&b.0));
        let (least, greatest) = BlockPlace::range(a.0.start_ms, a.0.start_ms);
        prop_assert!(least <= a.sk() && a.sk() <= greatest);
        prop_assert_eq!(least <= b.sk() && b.sk() <= greatest, a.0.start_ms == b.0.start_ms);
    }

    #[test]
    fn bytes_of_another_length_are_no_block(
        pk in proptest::collection::vec(any::<u8>(), 0..20), sk in proptest::collection::vec(any::<u8>(), 0..16),
    ) {
        if let Ok(place) = BlockPlace::parse(&pk, &sk) {
            prop_assert_eq!((place.pk(), place.sk()), (pk, sk));
        }
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
            // A number may be written with zeros before it; ours are not.
            let again = AlertKey::parse(&key.pk(), &key.sk());
            prop_assert_eq!(again, Ok(key));
        }
        if let Ok(CatalogKey::Name { metric, .. }) = CatalogKey::parse(&pk, &sk) {
            prop_assert_eq!(metric, sk);
        }
    }
}

#[test]
fn series_sort_by_when_they_were_first_seen() {
    let key = |first_seen_ms, late| {
        CatalogKey::Series {
            period: Period(685),
            metric: "cpu.load".into(),
            first_seen_ms,
            id: SeriesId { name: 1, labels: 2 },
            reference: 7,
            late,
        }
        .sk()
    };
    let now = 1_795_000_000_000;
    assert_eq!(key(now, false), "1795000000000#00000000000000010000000000000002#7");
    assert!(key(9, false) < key(10, false) && key(999_999_999_999, false) < key(now, false));
    let after = CatalogKey::seen_after(now);
    assert!(key(now, false) < after && after < key(now + 1, false), "{after}");
    assert!(key(9_999_999_999_999, false) < key(0, true), "late ones come last");
}

#[test]
fn segments_sort_by_their_order_and_late_ones_come_last() {
    let order = |arrival_ms| SegmentOrder {
        arrival_ms,
        last: SequenceNumber::from_be_bytes([0; SequenceNumber::BYTES]),
        shard: 0,
        first_hash: 0,
        part: 0,
        last_part: 0,
    };
    let keys = [(false, 1), (false, 2), (false, (1 << 48) - 1), (true, 0), (true, 1)];
    assert!(
        keys.map(|(late, arrival)| SegmentKey::sort_key(late, order(arrival)))
            .is_sorted()
    );
    let (pk, mut sk) = ("1#0", SegmentKey::sort_key(true, order(1)));
    sk[0] = 2;
    assert!(SegmentKey::parse(pk, &sk).is_err());
    assert!(SegmentKey::parse(pk, &[]).is_err());
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
        late: false,
    };
    assert_eq!(CatalogKey::parse(&key.pk(), &key.sk()), Ok(key));
}

#[test]
fn the_history_sorts_by_time_and_its_bounds_take_in_whole_milliseconds() {
    let key = |at, id: &str| {
        AlertKey::History {
            list: HistoryList::Rule("r".into()),
            at: Timestamp(at),
            id: id.into(),
        }
        .sk()
    };
    let now = 1_795_000_000_000;
    assert_eq!(key(now, "rule.a.1.firing"), "1795000000000#rule.a.1.firing");
    assert!(key(9, "z") < key(10, "a") && key(now - 1, "z") < key(now, "a"));
    let (from, to) = (
        AlertKey::history_from(Timestamp(now)),
        AlertKey::history_to(Timestamp(now)),
    );
    for id in ["", "#", "a", "\u{10ffff}"] {
        assert!(from < key(now, id) && key(now, id) < to);
        assert!(key(now - 1, id) < from && to < key(now + 1, id));
    }
    assert_eq!(AlertKey::history_time(&key(now, "a#b")), Some(Timestamp(now)));
    assert_eq!(AlertKey::history_time("whatever"), None);
}
