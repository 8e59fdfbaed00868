//! The stream's records.

use crate::batch::Batch;
use tidemark_model::{Bucket, Buckets, Labels, Sample, SeriesId};

/// One Kinesis record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The shard it is for, as `shard_of` said.
    pub shard: usize,
    /// The explicit hash key that leads there: that of the first bucket inside.
    pub explicit_hash_key: u128,
    /// The bytes.
    pub data: Vec<u8>,
    /// How many samples are inside.
    pub samples: u32,
}

/// What a record says of itself before it is decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format version.
    pub version: u8,
    /// How the rest is compressed.
    pub codec: Codec,
    /// How many samples are inside.
    pub samples: u32,
}

/// How a record is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Plain,
    /// With zstd.
    Zstd,
}

/// Why bytes are not a record of this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The record was written by a newer Tidemark, or is none.
    #[error("unknown envelope version {0}")]
    Version(u8),
    /// Bytes are missing, left over or out of range.
    #[error("broken envelope: {0}")]
    Broken(&'static str),
}

/// A decoded record.
#[derive(Debug)]
pub struct Envelope {
    arrival_ms: i64,
    samples: u32,
}

/// One series of a decoded record.
#[derive(Clone, Copy, Debug)]
pub struct SeriesView<'e> {
    envelope: &'e Envelope,
}

/// Encodes a batch: at most one record per shard, more only where a record would pass
/// [`tidemark_model::limits::MAX_RECORD_BYTES`]. `shard_of` says which of the `shards` holds a bucket.
#[must_use]
pub fn encode_records(
    batch: &Batch<'_>,
    buckets: Buckets,
    shard_of: &dyn Fn(Bucket) -> usize,
    shards: usize,
    arrival_ms: i64,
) -> Vec<Record> {
    let _ = (batch, buckets, shard_of, shards, arrival_ms);
    Vec::new()
}

/// Reads what stands before the compressed part.
///
/// # Errors
/// When the bytes are no record of a known version.
pub fn decode_header(data: &[u8]) -> Result<Header, EnvelopeError> {
    Err(EnvelopeError::Version(data.first().copied().unwrap_or(0)))
}

/// Decodes a record and checks all of it.
///
/// # Errors
/// When anything in it is not as the format says.
pub fn decode(data: &[u8]) -> Result<Envelope, EnvelopeError> {
    Err(EnvelopeError::Version(data.first().copied().unwrap_or(0)))
}

impl Envelope {
    /// When ingest took the request, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn arrival_ms(&self) -> i64 {
        self.arrival_ms
    }

    /// How many samples are inside.
    #[must_use]
    pub fn sample_count(&self) -> u32 {
        self.samples
    }

    /// The series, those of one metric next to each other.
    pub fn series(&self) -> impl Iterator<Item = SeriesView<'_>> {
        std::iter::empty()
    }
}

impl<'e> SeriesView<'e> {
    /// The fingerprint, computed from the name and labels inside.
    #[must_use]
    pub fn id(&self) -> SeriesId {
        SeriesId { name: 0, labels: 0 }
    }

    /// The metric name.
    #[must_use]
    pub fn name(&self) -> &'e str {
        let _ = self.envelope;
        ""
    }

    /// The labels in ascending order of their names.
    pub fn labels(&self) -> impl Iterator<Item = (&'e str, &'e str)> + use<'e> {
        std::iter::empty()
    }

    /// An owned copy of the labels.
    #[must_use]
    pub fn to_labels(&self) -> Labels {
        Labels::default()
    }

    /// The samples in the order of their arrival. Of two with one timestamp the later holds.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = Sample> + use<'e> {
        std::iter::empty()
    }
}
