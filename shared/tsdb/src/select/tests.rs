use super::*;

fn sample(timestamp_ms: i64, value: f64) -> Sample {
    Sample { timestamp_ms, value }
}

#[test]
fn of_samples_with_one_time_the_last_given_holds() {
    let given = vec![
        sample(2, 1.0),
        sample(1, 1.0),
        sample(2, 2.0),
        sample(2, 3.0),
        sample(1, 4.0),
    ];
    assert_eq!(merged(given, 0, 10), [sample(1, 4.0), sample(2, 3.0)]);
}

#[test]
fn samples_outside_the_range_are_left_out() {
    let given = vec![sample(0, 1.0), sample(1, 1.0), sample(5, 2.0), sample(6, 3.0)];
    assert_eq!(merged(given, 1, 5), [sample(1, 1.0), sample(5, 2.0)]);
}
