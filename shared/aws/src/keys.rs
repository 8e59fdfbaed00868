//! Every key of every table, built and parsed here and nowhere else.
//!
//! Names that people choose (metrics, rules, channels) may hold any UTF-8, the separator `#` included. They always stand
//! last in a part of a key, so that what precedes them can be split off from the front.

mod alerts;

pub use alerts::{AlertKey, HistoryList};

use tidemark_model::{Bucket, Period, SeriesId, Window};
use tidemark_tsdb::store::SegmentOrder;
use tidemark_tsdb::tier::BlockKey;
use tidemark_tsdb::{ShardId, Tier};

/// The partition key attribute of every table.
pub const PK: &str = "pk";

/// The sort key attribute of every table that has one.
pub const SK: &str = "sk";

/// When DynamoDB may delete an item, in seconds since the Unix epoch.
pub const EXPIRES_AT: &str = "expires_at";

/// DynamoDB's limit for a sort key.
pub const MAX_SORT_KEY_BYTES: usize = 1_024;

/// The sort key of an item that is alone in its partition.
const ALONE: &str = "-";

const SERIES: &str = "series#";
const NAMES: &str = "names#";
const REFERENCES: &str = "references#";
const CHECKPOINTS: &str = "checkpoints";
const PROGRESS: &str = "progress#";
const DIVISION: &str = "division";

/// A key that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key that Tidemark writes")]
pub struct KeyError(pub String);

/// What the sort key of a late catalog entry begins with. It sorts after every digit.
const LATE_ENTRY: &str = "~";

/// The sort bytes of segments that were written in the stream's order, and of late ones.
const IN_ORDER: u8 = 0;
const LATE: u8 = 1;

/// A segment: `pk` = `<bucket>#<window start, ms>`, `sk` = `0` or `1` for a late one, then [`SegmentOrder::to_bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKey {
    /// The bucket.
    pub bucket: Bucket,
    /// The window.
    pub window: Window,
    /// Whether it was written out of the stream's order.
    pub late: bool,
    /// The place among the segments of both.
    pub order: SegmentOrder,
}

impl SegmentKey {
    /// The partition of a bucket and window.
    #[must_use]
    pub fn partition(bucket: Bucket, window: Window) -> String {
        format!("{bucket}#{window}")
    }

    /// The partition key.
    #[must_use]
    pub fn pk(&self) -> String {
        Self::partition(self.bucket, self.window)
    }

    /// The sort key.
    #[must_use]
    pub fn sk(&self) -> Vec<u8> {
        Self::sort_key(self.late, self.order)
    }

    /// The sort key of a place in any partition.
    #[must_use]
    pub fn sort_key(late: bool, order: SegmentOrder) -> Vec<u8> {
        let mut sk = Vec::with_capacity(1 + SegmentOrder::BYTES);
        sk.push(if late { LATE } else { IN_ORDER });
        sk.extend_from_slice(&order.to_bytes());
        sk
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the parts are not those of a segment.
    pub fn parse(pk: &str, sk: &[u8]) -> Result<Self, KeyError> {
        let parts = || {
            let (bucket, window) = pk.split_once('#')?;
            let (late, order) = sk.split_first()?;
            Some(Self {
                bucket: Bucket(bucket.parse().ok()?),
                window: Window {
                    start_ms: window.parse().ok()?,
                },
                late: match *late {
                    IN_ORDER => false,
                    LATE => true,
                    _ => return None,
                },
                order: SegmentOrder::from_bytes(order)?,
            })
        };
        parts().ok_or_else(|| KeyError(format!("{pk} / {} bytes", sk.len())))
    }
}

/// An item of the catalog table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogKey {
    /// The labels of a series: `series#<period>#<metric>` / `<first seen, ms, 13 digits>#<series id>#<reference>`, with a `~` before
    /// for a late entry.
    Series {
        /// The period.
        period: Period,
        /// The metric name.
        metric: String,
        /// When the series was first seen in the period, in milliseconds since the Unix epoch.
        first_seen_ms: i64,
        /// The series.
        id: SeriesId,
        /// The number of the series in segments.
        reference: u32,
        /// Whether it was written out of the stream's order.
        late: bool,
    },
    /// The name of a metric that has series in a period: `names#<period>` / `<metric>`.
    Name {
        /// The period.
        period: Period,
        /// The metric name.
        metric: String,
    },
    /// How many references of a bucket have been handed out: `references#<bucket>` / `-`.
    References {
        /// The bucket.
        bucket: Bucket,
    },
    /// How far a shard has been stored: `checkpoints` / `<shard>`.
    Checkpoint {
        /// The shard.
        shard: ShardId,
    },
    /// How far a bucket is compacted: `progress#<bucket>` / `-`.
    Progress {
        /// The bucket.
        bucket: Bucket,
    },
    /// How the tables are divided: `division` / `-`.
    Division,
}

impl CatalogKey {
    /// The partition of the series of a metric in a period.
    #[must_use]
    pub fn series_partition(metric: &str, period: Period) -> String {
        format!("{SERIES}{period}#{metric}")
    }

    /// The partition of the names of metrics in a period.
    #[must_use]
    pub fn names_partition(period: Period) -> String {
        format!("{NAMES}{period}")
    }

    /// What the sort keys of all entries sort after that were first seen at `after` or earlier, the late ones excepted.
    #[must_use]
    pub fn seen_after(after: i64) -> String {
        // Of two keys that begin alike the longer sorts behind.
        format!("{:013}", after.saturating_add(1))
    }

    /// The partition of all checkpoints.
    #[must_use]
    pub fn checkpoints_partition() -> String {
        CHECKPOINTS.to_owned()
    }

    /// The partition key.
    #[must_use]
    pub fn pk(&self) -> String {
        match self {
            Self::Series { period, metric, .. } => Self::series_partition(metric, *period),
            Self::Name { period, .. } => Self::names_partition(*period),
            Self::References { bucket } => format!("{REFERENCES}{bucket}"),
            Self::Checkpoint { .. } => Self::checkpoints_partition(),
            Self::Progress { bucket } => format!("{PROGRESS}{bucket}"),
            Self::Division => DIVISION.to_owned(),
        }
    }

    /// The sort key.
    #[must_use]
    pub fn sk(&self) -> String {
        match self {
            Self::Series {
                first_seen_ms,
                id,
                reference,
                late,
                ..
            } => {
                let late = if *late { LATE_ENTRY } else { "" };
                format!("{late}{first_seen_ms:013}#{id}#{reference}")
            }
            Self::Name { metric, .. } => metric.clone(),
            Self::References { .. } | Self::Progress { .. } | Self::Division => ALONE.to_owned(),
            Self::Checkpoint { shard } => shard.0.clone(),
        }
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the parts are not those of a catalog item.
    pub fn parse(pk: &str, sk: &str) -> Result<Self, KeyError> {
        let parts = || {
            if let Some(rest) = pk.strip_prefix(SERIES) {
                let (period, metric) = rest.split_once('#')?;
                let (late, sk) = match sk.strip_prefix(LATE_ENTRY) {
                    Some(rest) => (true, rest),
                    None => (false, sk),
                };
                let mut parts = sk.splitn(3, '#');
                return Some(Self::Series {
                    period: Period(period.parse().ok()?),
                    metric: metric.to_owned(),
                    first_seen_ms: parts.next()?.parse().ok()?,
                    id: parts.next()?.parse().ok()?,
                    reference: parts.next()?.parse().ok()?,
                    late,
                });
            }
            if let Some(period) = pk.strip_prefix(NAMES) {
                return Some(Self::Name {
                    period: Period(period.parse().ok()?),
                    metric: sk.to_owned(),
                });
            }
            if let Some(bucket) = pk.strip_prefix(REFERENCES) {
                return (sk == ALONE).then_some(Self::References {
                    bucket: Bucket(bucket.parse().ok()?),
                });
            }
            if let Some(bucket) = pk.strip_prefix(PROGRESS) {
                return (sk == ALONE).then_some(Self::Progress {
                    bucket: Bucket(bucket.parse().ok()?),
                });
            }
            match (pk, sk) {
                (CHECKPOINTS, _) => Some(Self::Checkpoint {
                    shard: ShardId(sk.to_owned()),
                }),
                (DIVISION, ALONE) => Some(Self::Division),
                _ => None,
            }
        };
        parts().ok_or_else(|| KeyError(format!("{pk} / {sk}")))
    }
}

/// A block, in bytes, since every byte of thousands of small items is paid for: `pk` = the series id (16), and for aggregates the
/// resolution (1: a minute, 2: an hour); `sk` = the start in milliseconds as its two's complement with the sign turned (8), so that
/// times before 1970 sort first, the epoch (4) and the part (1), all big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace(pub BlockKey);

impl BlockPlace {
    const SORT_KEY_BYTES: usize = 8 + 4 + 1;

    /// The partition of a series' blocks of a tier.
    #[must_use]
    pub fn partition(tier: Tier, id: SeriesId) -> Vec<u8> {
        let mut pk = Vec::with_capacity(17);
        pk.extend_from_slice(&id.name.to_be_bytes());
        pk.extend_from_slice(&id.labels.to_be_bytes());
        match tier {
            Tier::Raw => {}
            Tier::Minute => pk.push(1),
            Tier::Hour => pk.push(2),
        }
        pk
    }

    /// The least and the greatest sort keys of the blocks that start in a closed range.
    #[must_use]
    pub fn range(from_ms: i64, to_ms: i64) -> (Vec<u8>, Vec<u8>) {
        let last = [&start_bytes(to_ms)[..], &[u8::MAX; 5]].concat();
        (start_bytes(from_ms).to_vec(), last)
    }

    /// The partition key.
    #[must_use]
    pub fn pk(&self) -> Vec<u8> {
        Self::partition(self.0.tier, self.0.id)
    }

    /// The sort key.
    #[must_use]
    pub fn sk(&self) -> Vec<u8> {
        let mut sk = Vec::with_capacity(Self::SORT_KEY_BYTES);
        sk.extend_from_slice(&start_bytes(self.0.start_ms));
        sk.extend_from_slice(&self.0.epoch.to_be_bytes());
        sk.push(self.0.part);
        sk
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When the bytes are not those of a block.
    pub fn parse(pk: &[u8], sk: &[u8]) -> Result<Self, KeyError> {
        let parts = || {
            let (name, rest) = pk.split_first_chunk::<8>()?;
            let (labels, resolution) = rest.split_first_chunk::<8>()?;
            let (start, rest) = sk.split_first_chunk::<8>()?;
            let (epoch, part) = rest.split_first_chunk::<4>()?;
            Some(Self(BlockKey {
                tier: match resolution {
                    [] => Tier::Raw,
                    [1] => Tier::Minute,
                    [2] => Tier::Hour,
                    _ => return None,
                },
                id: SeriesId {
                    name: u64::from_be_bytes(*name),
                    labels: u64::from_be_bytes(*labels),
                },
                start_ms: i64::from_be_bytes(*start) ^ i64::MIN,
                epoch: u32::from_be_bytes(*epoch),
                part: match part {
                    [part] => *part,
                    _ => return None,
                },
            }))
        };
        parts().ok_or_else(|| KeyError(format!("{} bytes / {} bytes", pk.len(), sk.len())))
    }
}

fn start_bytes(start_ms: i64) -> [u8; 8] {
    (start_ms ^ i64::MIN).to_be_bytes()
}

#[cfg(test)]
mod tests;
