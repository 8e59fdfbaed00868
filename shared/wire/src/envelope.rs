//! The stream's records. One holds what one request brought for one shard: a symbol table, label sets, series and their
//! samples in columns, compressed. `shared/tsdb/FORMAT.md` draws the bytes.
//!
//! A record is a pure function of a batch; a duplicate of it does nothing but cost. Its first bytes can be read without
//! decompressing, for statistics. A reader trusts nothing in it: fingerprints are computed from the names and labels inside,
//! and every count is checked against a limit.

mod decode;
mod encode;

pub use decode::{Envelope, SeriesView, decode, series_check};
pub use encode::encode_records;

use tidemark_encoding::{CompressError, DecodeError, Reader};
use tidemark_model::limits::MAX_SAMPLES_PER_REQUEST;

const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// Version, codec, and the number of samples in four bytes.
const HEADER_BYTES: usize = 6;

// How a set names the value that it has for a label name.
/// The value that the last set with this name had.
const SAME_VALUE: u64 = 0;
/// The first value of this name that no set has had before.
const NEXT_VALUE: u64 = 1;
/// The value of a number, counted from here.
const NUMBERED_VALUE: u64 = 2;

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
    /// Compressed in an unknown way.
    #[error("unknown envelope codec {0}")]
    Codec(u8),
    /// The compressed bytes are broken or unpack to too much.
    #[error("the envelope cannot be decompressed")]
    Compression(#[from] CompressError),
    /// Bytes are missing, left over or out of range.
    #[error("the envelope is broken")]
    Broken(#[from] DecodeError),
    /// A text is not UTF-8.
    #[error("the envelope holds a text that is not UTF-8")]
    NotUtf8,
}

/// Reads what stands before the compressed part.
///
/// # Errors
/// When the bytes are no record of a known version.
pub fn decode_header(data: &[u8]) -> Result<Header, EnvelopeError> {
    split_header(data).map(|(header, _)| header)
}

fn split_header(data: &[u8]) -> Result<(Header, &[u8]), EnvelopeError> {
    let mut reader = Reader::new(data);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(EnvelopeError::Version(version));
    }
    let codec = match reader.u8()? {
        PLAIN => Codec::Plain,
        ZSTD => Codec::Zstd,
        other => return Err(EnvelopeError::Codec(other)),
    };
    let mut samples = [0; 4];
    samples.copy_from_slice(reader.take(HEADER_BYTES - 2)?);
    let samples = u32::from_le_bytes(samples);
    if samples as usize > MAX_SAMPLES_PER_REQUEST {
        return Err(DecodeError::OutOfRange("the number of samples").into());
    }
    let header = Header {
        version,
        codec,
        samples,
    };
    Ok((header, reader.rest()))
}

#[cfg(test)]
mod tests;
