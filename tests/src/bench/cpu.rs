//! CPU time, from the kernel's books.

use anyhow::Context as _;
use std::time::Duration;

/// Each run takes at least this much CPU time: the kernel's books may lag behind by a tick, 4 ms, which is then 1 %.
const LEAST: Duration = Duration::from_millis(400);

/// An odd number, so that there is a median.
const RUNS: usize = 7;

/// How much CPU time this thread has used.
pub(crate) fn used() -> anyhow::Result<Duration> {
    // Lets the kernel bring its books up to date.
    std::thread::yield_now();
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let first = text.split_whitespace().next().and_then(|number| number.parse().ok());
    Ok(Duration::from_nanos(
        first.with_context(|| format!("{path} does not begin with a number"))?,
    ))
}

/// How many samples per CPU second `work` does: the median of several runs. `work` is one repetition and says how many
/// samples it did; it is called for as long as a run takes. One repetition before the first run warms the caches.
pub(crate) fn samples_per_second(mut work: impl FnMut() -> anyhow::Result<u64>) -> anyhow::Result<f64> {
    work()?;
    let mut speeds = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let (began, mut samples) = (used()?, 0);
        let took = loop {
            samples += work()?;
            let took = used()?.saturating_sub(began);
            if took >= LEAST {
                break took;
            }
        };
        speeds.push(samples as f64 / took.as_secs_f64());
    }
    Ok(median(&mut speeds))
}

/// The middle value; of an even number the upper of the two.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_values() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert!(median(&mut []).is_nan());
    }
}
