use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use tidemark_model::{STALE_NAN_BITS, Sample};

fn aggregate(aggregation: Aggregation, values: &[f64]) -> Option<f64> {
    let mut accumulator = Accumulator::new(aggregation);
    values.iter().for_each(|&value| accumulator.push(value));
    accumulator.finish()
}

fn stale() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

fn series(labels: &[(&str, &str)], values: &[f64]) -> SelectedSeries {
    SelectedSeries {
        labels: Labels::from_pairs(labels.iter().copied()).unwrap(),
        samples: (0..)
            .zip(values)
            .map(|(timestamp_ms, &value)| Sample { timestamp_ms, value })
            .collect(),
    }
}

#[test]
fn every_aggregation_reads_back() {
    for aggregation in Aggregation::ALL {
        assert_eq!(aggregation.to_string().parse(), Ok(aggregation));
        assert_eq!(
            serde_json::to_string(&aggregation).unwrap(),
            format!("\"{aggregation}\"")
        );
    }
    assert_eq!("AVG".parse::<Aggregation>(), Err(UnknownAggregation));
}

#[test]
fn nothing_has_no_aggregate() {
    for aggregation in Aggregation::ALL {
        assert_eq!(aggregate(aggregation, &[]), None);
        assert_eq!(
            aggregate(aggregation, &[stale()]),
            None,
            "a staleness marker is no value"
        );
    }
}

#[test]
fn one_value_alone_keeps_its_bits() {
    for value in [-0.0, 0.1, 5e-324, 1e308, f64::INFINITY] {
        for aggregation in [Aggregation::Avg, Aggregation::Max, Aggregation::Min, Aggregation::Sum] {
            assert_eq!(
                aggregate(aggregation, &[value]).unwrap().to_bits(),
                value.to_bits(),
                "{aggregation} {value}"
            );
        }
    }
}

#[test]
fn small_values_survive_next_to_large_ones() {
    // The example of Neumaier's paper, which a plain and a Kahan sum get wrong.
    assert_eq!(aggregate(Aggregation::Sum, &[1.0, 1e100, 1.0, -1e100]), Some(2.0));
    assert_eq!(aggregate(Aggregation::Avg, &[1.0, 1e100, 1.0, -1e100]), Some(0.5));
    assert_eq!(aggregate(Aggregation::Sum, &[0.1; 10]), Some(1.0));
}

#[test]
fn an_average_does_not_overflow_where_the_sum_does() {
    let values = [1.5e308, 1.5e308, 1.5e308];
    assert_eq!(aggregate(Aggregation::Sum, &values), Some(f64::INFINITY));
    assert_eq!(aggregate(Aggregation::Avg, &values), Some(1.5e308));
    let mixed = aggregate(Aggregation::Avg, &[1.7e308, 1.7e308, -1.7e308, -1.7e308]).unwrap();
    assert!(mixed.abs() < 1e293, "{mixed}");
}

#[test]
fn infinities_add_up_as_ieee_says() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for aggregation in [Aggregation::Sum, Aggregation::Avg] {
        assert_eq!(
            aggregate(aggregation, &[1.0, inf, 2.0, inf]),
            Some(inf),
            "{aggregation}"
        );
        assert_eq!(aggregate(aggregation, &[inf, 1.0]), Some(inf), "{aggregation}");
        assert!(aggregate(aggregation, &[inf, -inf]).unwrap().is_nan(), "{aggregation}");
        assert!(
            aggregate(aggregation, &[inf, 1.0, -inf]).unwrap().is_nan(),
            "{aggregation}"
        );
        assert!(
            aggregate(aggregation, &[1.0, nan, 2.0]).unwrap().is_nan(),
            "{aggregation}"
        );
        assert!(aggregate(aggregation, &[inf, nan]).unwrap().is_nan(), "{aggregation}");
    }
}

#[test]
fn min_and_max_take_nan_only_where_there_is_nothing_else() {
    let nan = f64::NAN;
    assert_eq!(aggregate(Aggregation::Min, &[nan, 2.0, 1.0, nan]), Some(1.0));
    assert_eq!(aggregate(Aggregation::Max, &[nan, 1.0, 2.0, nan]), Some(2.0));
    assert!(aggregate(Aggregation::Min, &[nan, nan]).unwrap().is_nan());
    assert_eq!(aggregate(Aggregation::Count, &[nan, stale(), 1.0]), Some(2.0));
}

#[test]
fn groups_come_in_order_and_ended_ones_not_at_all() {
    let all = [
        series(&[("host", "b"), ("region", "us")], &[4.0]),
        series(&[("host", "a"), ("region", "eu")], &[1.0, 2.0]),
        series(&[("host", "c"), ("region", "eu")], &[6.0]),
        series(&[("host", "d"), ("region", "ap")], &[stale()]),
        series(&[("host", "e")], &[9.0]),
    ];
    let groups = group(&all, Aggregation::Avg, &["region".to_owned()]);
    let got: Vec<_> = groups
        .iter()
        .map(|group| (group.labels.get("region"), group.value, group.count))
        .collect();
    assert_eq!(got, [(None, 9.0, 1), (Some("eu"), 3.0, 3), (Some("us"), 4.0, 1)]);
    let whole = group(&all, Aggregation::Sum, &[]);
    assert_eq!(
        (whole.len(), whole[0].value, whole[0].labels.is_empty()),
        (1, 22.0, true)
    );
    assert!(group(&[], Aggregation::Count, &[]).is_empty());
}

/// The exact sum of doubles, rounded once: Shewchuk's growing expansion of non-overlapping parts, as in Python's `fsum`.
fn exact_sum(values: &[f64]) -> f64 {
    let mut parts: Vec<f64> = Vec::new();
    for &value in values {
        let mut carry = value;
        let mut kept = Vec::new();
        for &part in &parts {
            let (large, small) = if carry.abs() >= part.abs() {
                (carry, part)
            } else {
                (part, carry)
            };
            let sum = large + small;
            let lost = small - (sum - large);
            if lost != 0.0 {
                kept.push(lost);
            }
            carry = sum;
        }
        kept.push(carry);
        parts = kept;
    }
    parts.iter().rev().sum()
}

proptest! {
    #[test]
    fn integers_agree_with_exact_arithmetic(numbers in prop::collection::vec(-(1_i64 << 40)..(1 << 40), 1..300)) {
        let values: Vec<f64> = numbers.iter().map(|&n| n as f64).collect();
        let sum: i128 = numbers.iter().map(|&n| i128::from(n)).sum();
        let count = numbers.len();
        prop_assert_eq!(aggregate(Aggregation::Sum, &values), Some(sum as f64));
        prop_assert_eq!(aggregate(Aggregation::Avg, &values), Some(sum as f64 / count as f64));
        prop_assert_eq!(aggregate(Aggregation::Min, &values), numbers.iter().min().map(|&n| n as f64));
        prop_assert_eq!(aggregate(Aggregation::Max, &values), numbers.iter().max().map(|&n| n as f64));
        prop_assert_eq!(aggregate(Aggregation::Count, &values), Some(count as f64));
    }

    #[test]
    fn sums_of_doubles_are_as_good_as_rounded_once(values in prop::collection::vec(-1e12..1e12_f64, 1..300)) {
        let exact = exact_sum(&values);
        let got = aggregate(Aggregation::Sum, &values).unwrap();
        let magnitude: f64 = values.iter().map(|value| value.abs()).sum();
        let count = values.len() as f64;
        // Neumaier's bound: one rounding of the result, and second order terms of the whole.
        let bound = 2.0 * f64::EPSILON * exact.abs() + (count * f64::EPSILON).powi(2) * magnitude;
        prop_assert!((got - exact).abs() <= bound, "{got} {exact} {bound}");
        let mean = aggregate(Aggregation::Avg, &values).unwrap();
        prop_assert!((mean - exact / count).abs() <= (bound + 2.0 * f64::EPSILON * exact.abs()) / count);
    }

    #[test]
    fn an_incremental_mean_stays_between_the_extremes(values in prop::collection::vec(1e307..1.7e308_f64, 3..100)) {
        let mean = aggregate(Aggregation::Avg, &values).unwrap();
        let scaled: Vec<f64> = values.iter().map(|value| value / 1024.0).collect();
        let expected = exact_sum(&scaled) / values.len() as f64 * 1024.0;
        prop_assert!((mean / expected - 1.0).abs() < 1e-13, "{mean} {expected}");
    }

    #[test]
    fn groups_agree_with_a_grouping_of_single_samples(
        rows in prop::collection::vec((0_u8..4, 0_u8..3, prop::collection::vec(-1_000_i32..1_000, 0..6)), 0..30),
        by_host: bool,
        by_region: bool,
    ) {
        let all: Vec<SelectedSeries> = rows.iter().map(|(host, region, values)| {
            let (host, region) = (format!("h{host}"), format!("r{region}"));
            // Region r0 is the absent label.
            let pairs = [("host", host.as_str()), ("region", region.as_str())];
            let kept = if region == "r0" { &pairs[..1] } else { &pairs[..] };
            series(kept, &values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>())
        }).collect();
        let mut group_by = Vec::new();
        if by_region { group_by.push("region".to_owned()); }
        if by_host { group_by.push("host".to_owned()); }

        let mut expected: HashMap<(String, String), Vec<i64>> = HashMap::new();
        for (host, region, values) in &rows {
            for value in values {
                let host = if by_host { format!("h{host}") } else { String::new() };
                let region = if by_region && *region != 0 { format!("r{region}") } else { String::new() };
                expected.entry((host, region)).or_default().push(i64::from(*value));
            }
        }
        for aggregation in Aggregation::ALL {
            let groups = group(&all, aggregation, &group_by);
            prop_assert!(groups.windows(2).all(|pair| pair[0].labels < pair[1].labels));
            prop_assert_eq!(groups.len(), expected.len());
            for one in groups {
                let name = |label: &str| one.labels.get(label).unwrap_or_default().to_owned();
                let values = &expected[&(name("host"), name("region"))];
                let sum: i64 = values.iter().sum();
                let independent = match aggregation {
                    Aggregation::Avg => sum as f64 / values.len() as f64,
                    Aggregation::Sum => sum as f64,
                    Aggregation::Max => *values.iter().max().unwrap() as f64,
                    Aggregation::Min => *values.iter().min().unwrap() as f64,
                    Aggregation::Count => values.len() as f64,
                };
                prop_assert_eq!((one.value, one.count), (independent, values.len() as u64));
            }
        }
    }
}
