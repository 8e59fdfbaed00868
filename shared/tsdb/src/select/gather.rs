//! From segments to the samples of series.

use crate::segment::Segment;
use tidemark_model::Sample;

/// Appends a segment's samples to those of the series that it names, and says how many there were. `references` ascend.
pub(super) fn read(segment: &Segment, references: &[(u32, usize)], samples: &mut [Vec<Sample>]) -> usize {
    let mut read = 0;
    // A bucket holds many metrics, and a selection may name one series among thousands, or all of them.
    if references.len() < segment.references().len() / 8 {
        for (reference, series) in references {
            let before = samples[*series].len();
            segment.read(*reference, &mut samples[*series]);
            read += samples[*series].len() - before;
        }
        return read;
    }
    let mut wanted = references.iter().peekable();
    for (at, reference) in segment.references().iter().enumerate() {
        while wanted.next_if(|(wanted, _)| wanted < reference).is_some() {}
        // Not taken: a segment may name a series twice.
        if let Some((wanted, series)) = wanted.peek()
            && wanted == reference
        {
            let before = samples[*series].len();
            segment.read_entry(at, &mut samples[*series]);
            read += samples[*series].len() - before;
        }
    }
    read
}

/// Leaves the samples inside the range in order of time, each time once: of several, the last given.
pub(super) fn merge(samples: &mut Vec<Sample>, (start_ms, end_ms): (i64, i64)) {
    samples.retain(|sample| (start_ms..=end_ms).contains(&sample.timestamp_ms));
    samples.sort_by_key(|sample| sample.timestamp_ms);
    // `dedup_by` drops its first argument, the later one, so the later value is moved to the one that stays.
    samples.dedup_by(|later, kept| {
        let same = later.timestamp_ms == kept.timestamp_ms;
        if same {
            *kept = *later;
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(timestamp_ms: i64, value: f64) -> Sample {
        Sample { timestamp_ms, value }
    }

    fn merged(mut samples: Vec<Sample>, start_ms: i64, end_ms: i64) -> Vec<Sample> {
        merge(&mut samples, (start_ms, end_ms));
        samples
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
}
