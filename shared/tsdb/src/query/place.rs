//! Where a page ended.

use crate::page;
use tidemark_model::Labels;
use tidemark_model::series::write_canonical;
use tidemark_wire::ApiError;
use xxhash_rust::xxh3::xxh3_64;

/// The last result of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A sample, by the hash of its labels. Ordered as pages are.
    Sample { timestamp_ms: i64, labels: u64 },
    /// A result of a group, by the hash of its labels.
    Group { labels: u64, start_ms: i64 },
}

impl Place {
    pub(super) fn token(self) -> String {
        page::token(&match self {
            Self::Sample { timestamp_ms, labels } => format!("s {timestamp_ms} {labels}"),
            Self::Group { labels, start_ms } => format!("g {labels} {start_ms}"),
        })
    }

    pub(super) fn from_token(token: &str) -> Result<Self, ApiError> {
        let text = page::open(token)?;
        let parts: Vec<&str> = text.split(' ').collect();
        let place = match parts.as_slice() {
            ["s", timestamp, labels] => timestamp
                .parse()
                .ok()
                .zip(labels.parse().ok())
                .map(|(timestamp_ms, labels)| Self::Sample { timestamp_ms, labels }),
            ["g", labels, start] => labels
                .parse()
                .ok()
                .zip(start.parse().ok())
                .map(|(labels, start_ms)| Self::Group { labels, start_ms }),
            _ => None,
        };
        place.ok_or_else(page::wrong_token)
    }
}

/// A hash of labels that is the same everywhere.
pub(super) fn hash_of(labels: &Labels) -> u64 {
    let mut canonical = Vec::with_capacity(256);
    write_canonical(&mut canonical, labels.iter());
    xxh3_64(&canonical)
}
