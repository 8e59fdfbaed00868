//! Which series a sample belongs to, and which bucket a series belongs to.

use std::fmt;
use std::str::FromStr;
use xxhash_rust::xxh3::xxh3_64;

/// The fingerprint of a series: 64 bits of the metric name, 64 bits of the labels. See the crate's page for the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId {
    /// XXH3-64 of the metric name.
    pub name: u64,
    /// XXH3-64 of the canonical labels.
    pub labels: u64,
}

impl SeriesId {
    /// The id of a metric name and labels. The labels must come in ascending order of their names, as in [`crate::Labels`].
    #[must_use]
    pub fn new<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut canonical = Vec::with_capacity(256);
        write_canonical(&mut canonical, labels);
        Self::from_canonical(name, &canonical)
    }

    /// The id of a metric name and labels that were encoded before by [`write_canonical`].
    #[must_use]
    pub fn from_canonical(name: &str, canonical_labels: &[u8]) -> Self {
        Self {
            name: hash_name(name),
            labels: xxh3_64(canonical_labels),
        }
    }
}

/// The first half of a series id.
#[must_use]
pub fn hash_name(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

/// Appends the canonical encoding of labels in ascending order of their names.
pub fn write_canonical<'a>(out: &mut Vec<u8>, labels: impl Iterator<Item = (&'a str, &'a str)>) {
    for (name, value) in labels {
        for part in [name, value] {
            // A label is at most a few KiB (`limits`), so that its length always fits.
            out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend_from_slice(part.as_bytes());
        }
    }
}

impl fmt::Display for SeriesId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.name, self.labels)
    }
}

impl FromStr for SeriesId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A text of another length or with a cut inside a character is parsed whole, for its error.
        let (name, labels) = match text.split_at_checked(16) {
            Some((name, labels)) if labels.len() == 16 => (name, labels),
            _ => ("", text),
        };
        Ok(Self {
            name: u64::from_str_radix(name, 16)?,
            labels: u64::from_str_radix(labels, 16)?,
        })
    }
}

/// How many buckets an installation has: at least one, at most [`crate::limits::MAX_BUCKETS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets(u16);

/// One of the buckets: the unit that shards, segments and compaction are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u16);

impl Buckets {
    /// `None` when the number is out of range.
    #[must_use]
    pub fn new(count: u16) -> Option<Self> {
        (1..=crate::limits::MAX_BUCKETS).contains(&count).then_some(Self(count))
    }

    /// The number of buckets.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// All of them.
    pub fn all(self) -> impl Iterator<Item = Bucket> {
        (0..self.0).map(Bucket)
    }

    /// The bucket of a series. This is the only place that decides it: a metric lives in one bucket, whatever its labels.
    #[must_use]
    pub fn of(self, series: SeriesId) -> Bucket {
        self.of_metric(series.name)
    }

    /// The bucket of all series of a metric, by the hash of its name.
    #[must_use]
    pub fn of_metric(self, name_hash: u64) -> Bucket {
        // The remainder is below the count, which is a u16.
        Bucket((name_hash % u64::from(self.0)) as u16)
    }

    /// Where in Kinesis' 128-bit hash key space a bucket lies: the middle of its even share.
    #[must_use]
    pub fn hash_key(self, bucket: Bucket) -> u128 {
        let share = u128::MAX / u128::from(self.0);
        share * u128::from(bucket.0) + share / 2
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests;
