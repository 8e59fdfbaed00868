//! What is pushed: 1,000 series (100 hosts with 10 each, see [`tidemark_testkit::mix`]) every 15 s, a flush every 60 s.

use tidemark_testkit::mix::{self, Mix, MixSeries, SERIES_PER_HOST, STEP_MS};

const HOSTS: usize = 100;

/// Scrapes between two flushes.
const SCRAPES: usize = 4;

/// How many different minutes there are: their requests are 10 MB, so that they come from memory and not from the caches.
const MINUTES: usize = 10;

/// Somewhere in a window, away from its borders: what is measured is the usual flush, which touches one window.
const START_MS: i64 = 1_795_356_000_000;

/// Who pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushing {
    /// One collector for all hosts, every 30 s: requests of 2,000 samples.
    Collector,
    /// An agent on each host, every 15 s: requests of 10 samples.
    Hosts,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    /// When it comes, in milliseconds since the Unix epoch.
    pub(crate) now_ms: i64,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// The samples in it.
    pub(crate) samples: u64,
}

/// The requests between two flushes.
#[derive(Debug)]
pub(crate) struct Minute {
    pub(crate) requests: Vec<Request>,
}

impl Pushing {
    /// The headline of its figures.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Collector => "1,000 series at 15 s, from a collector: 2,000 samples per request, a flush every 60 s",
            Self::Hosts => "1,000 series at 15 s, from 100 agents: 10 samples per request, a flush every 60 s",
        }
    }

    /// What its figures' names end with.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Collector => "",
            Self::Hosts => "_small_requests",
        }
    }

    fn scrapes_per_request(self) -> usize {
        match self {
            Self::Collector => 2,
            Self::Hosts => 1,
        }
    }

    fn series_per_request(self) -> usize {
        match self {
            Self::Collector => HOSTS * SERIES_PER_HOST,
            Self::Hosts => SERIES_PER_HOST,
        }
    }
}

/// The requests of some minutes.
pub(crate) fn minutes(pushing: Pushing) -> Vec<Minute> {
    let mut mix = Mix::new(HOSTS, START_MS);
    let mut now_ms = START_MS;
    (0..MINUTES)
        .map(|_| {
            let mut requests = Vec::new();
            for _ in 0..SCRAPES / pushing.scrapes_per_request() {
                let samples = mix.scrapes(pushing.scrapes_per_request());
                now_ms += STEP_MS * pushing.scrapes_per_request() as i64;
                let series = mix.series().chunks(pushing.series_per_request());
                for (series, samples) in series.zip(samples.chunks(pushing.series_per_request())) {
                    requests.push(request(now_ms, series, samples));
                }
            }
            Minute { requests }
        })
        .collect()
}

fn request(now_ms: i64, series: &[MixSeries], samples: &[Vec<(i64, f64)>]) -> Request {
    let flat: Vec<(&MixSeries, (i64, f64))> = series
        .iter()
        .zip(samples)
        .flat_map(|(series, samples)| samples.iter().map(move |sample| (series, *sample)))
        .collect();
    Request {
        now_ms,
        body: mix::json_body(&flat),
        samples: flat.len() as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_push_bring_the_same_samples() {
        for (pushing, requests) in [(Pushing::Collector, 2), (Pushing::Hosts, 400)] {
            let minutes = minutes(pushing);
            assert_eq!(minutes.len(), MINUTES);
            assert!(minutes.iter().all(|minute| minute.requests.len() == requests));
            assert_eq!(super::super::samples(&minutes), 4_000 * MINUTES as u64);
        }
    }
}
