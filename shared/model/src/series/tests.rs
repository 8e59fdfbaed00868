use super::*;
use crate::Labels;
use proptest::prelude::*;

fn id(name: &str, labels: &[(&str, &str)]) -> SeriesId {
    SeriesId::new(name, labels.iter().copied())
}

/// These ids are stored in every installation: a change here loses data.
#[test]
fn golden_vectors() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let cases: &[Case<'_>] = &[
        ("up", &[], "dd298ff33252f1642d06800538d394c2"),
        ("cpu.load", &[("host", "web-01")], "28d4a3709df9e7568ff7adbf0ce30ff0"),
        (
            "http_requests_total",
            &[("code", "200"), ("host", "web-01"), ("path", "/")],
            "3fe9cf24ae5db8423b3dbe00fbc22c96",
        ),
        (
            "температура",
            &[("город", "Тбилиси"), ("пусто", "")],
            "7d99f9a202fbad4470789ac9bbe081f1",
        ),
    ];
    for (name, labels, expected) in cases {
        assert_eq!(id(name, labels).to_string(), *expected, "{name}");
    }
}

#[test]
fn moving_a_byte_between_name_and_value_changes_the_id() {
    assert_ne!(id("m", &[("a", "bc")]), id("m", &[("ab", "c")]));
    assert_ne!(id("m", &[("a", "b"), ("c", "d")]), id("m", &[("a", "bcd")]));
    assert_ne!(id("m", &[]), id("m", &[("a", "")]));
}

#[test]
fn text_of_the_wrong_shape_is_no_id() {
    for text in [
        "",
        "12",
        &"0".repeat(31),
        &"0".repeat(33),
        &"g".repeat(32),
        &"é".repeat(16),
    ] {
        assert!(text.parse::<SeriesId>().is_err(), "{text}");
    }
}

#[test]
fn a_bucket_lies_inside_its_share_of_the_hash_key_space() {
    for count in [1, 2, 3, 16, 4096] {
        let buckets = Buckets::new(count).unwrap();
        let keys: Vec<u128> = buckets.all().map(|bucket| buckets.hash_key(bucket)).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]));
        let share = u128::MAX / u128::from(count);
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(key / share, at as u128);
        }
    }
}

#[test]
fn no_buckets_and_too_many_are_refused() {
    assert_eq!(Buckets::new(0), None);
    assert_eq!(Buckets::new(crate::limits::MAX_BUCKETS + 1), None);
}

proptest! {
    #[test]
    fn an_id_survives_its_text(name: u64, labels: u64) {
        let id = SeriesId { name, labels };
        prop_assert_eq!(id.to_string().parse::<SeriesId>(), Ok(id));
    }

    #[test]
    fn the_order_in_which_labels_are_given_does_not_matter(
        pairs in proptest::collection::btree_map("[a-z]{1,4}", ".{0,8}", 0..6),
        name in ".{1,10}",
    ) {
        let forward = Labels::from_pairs(pairs.clone()).unwrap();
        let backward = Labels::from_pairs(pairs.into_iter().rev()).unwrap();
        prop_assert_eq!(SeriesId::new(&name, forward.iter()), SeriesId::new(&name, backward.iter()));
    }
}
