use super::*;

const BOUNDS: TimeBounds = TimeBounds {
    now_ms: 1_000,
    oldest_ms: 0,
    newest_ms: 2_000,
};

#[test]
fn labels_may_come_in_any_order_and_a_missing_time_is_the_present() {
    let mut builder = BatchBuilder::new(BOUNDS);
    builder.push("m", [("b", "2"), ("a", "1")], None, 1.0);
    builder.push("m", [("a", "1"), ("b", "2")], Some(0), 2.0);
    builder.push("m", [("a", "1"), ("a", "1")], Some(0), 2.0);
    builder.push("m", [], Some(2_001), 2.0);
    let batch = builder.finish();
    assert_eq!(
        (batch.series().len(), batch.samples().len(), batch.rejected()),
        (1, 2, 2)
    );
    assert_eq!(batch.samples()[0].sample.timestamp_ms, 1_000);
    assert_eq!(batch.errors()[1].index, 3);
    let series = batch.series().next().unwrap();
    assert_eq!(series.labels().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
}

/// The shortcut for labels that the set before had must not see more in them than there is.
#[test]
fn sets_that_share_some_labels_with_the_one_before_are_told_apart() {
    let sets: [&[(&str, &str)]; 8] = [
        &[("a", "1"), ("b", "2"), ("c", "3")],
        &[("a", "1"), ("b", "3"), ("c", "3")],
        &[("b", "3"), ("c", "3")],
        &[("a", "1"), ("aa", "x"), ("b", "3"), ("c", "3"), ("d", "")],
        &[("a", "1")],
        &[],
        &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")],
        &[("c", "3"), ("b", "2"), ("a", "1")],
    ];
    let mut builder = BatchBuilder::new(BOUNDS);
    for set in sets {
        builder.push("m", set.iter().copied(), None, 1.0);
    }
    let batch = builder.finish();
    let read: Vec<Vec<(&str, &str)>> = batch.series().map(|series| series.labels().collect()).collect();
    assert_eq!(read, sets[..7]);
    assert_eq!(batch.samples()[7].series, 0);
}
