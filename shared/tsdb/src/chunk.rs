//! The raw samples of one series in one window, as one item or, where they are very many, a few: what compaction makes of
//! the segments of a window. A *part* is the bytes of one item.
//!
//! A chunk is a pure function of the samples, so that a compaction that runs again overwrites its own items. Samples are
//! kept bit for bit, staleness markers included. They should ascend by time, each time once; others survive as well, but
//! take more bytes.
//!
//! `FORMAT.md` draws the bytes. This module does not know series, windows or tables.

use tidemark_encoding::varint::put_len;
use tidemark_encoding::{DecodeError, Reader, clock, floats};
use tidemark_model::Sample;
use tidemark_model::limits::{MAX_BLOCK_ITEM_BYTES, MAX_CHUNK_SAMPLES};

const VERSION: u8 = 1;

/// What an item holds besides the chunk: its keys, their names, the expiry.
const KEY_BYTES: usize = 1_024;

/// Why bytes are not a chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Written by a newer Tidemark, or no chunk.
    #[error("unknown chunk version {0}")]
    Version(u8),
    /// Bytes are missing, left over or out of range.
    #[error("the chunk is broken")]
    Broken(#[from] DecodeError),
}

/// Encodes samples to as few parts as the limits of an item allow: most often one, and none when there are no samples. The
/// parts are a pure function of the samples; decoded one after the other they give them back.
#[must_use]
pub fn split(samples: &[Sample]) -> Vec<Vec<u8>> {
    let mut count = samples.len().div_ceil(MAX_CHUNK_SAMPLES);
    while count > 0 {
        let length = samples.len().div_ceil(count);
        let parts: Vec<Vec<u8>> = samples.chunks(length).map(encode).collect();
        let largest = parts.iter().map(Vec::len).max().unwrap_or(0) + KEY_BYTES;
        // One sample takes some 30 bytes, so that this ends.
        if largest <= MAX_BLOCK_ITEM_BYTES || length <= 1 {
            return parts;
        }
        count = (count + 1).max(parts.len() * largest / MAX_BLOCK_ITEM_BYTES);
    }
    Vec::new()
}

/// Encodes samples to the bytes of one part, whatever its size. [`split`] is for what is stored.
#[must_use]
pub fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut out = Vec::with_capacity(samples.len() * 2 + 32);
    out.push(VERSION);
    put_len(&mut out, samples.len());
    let times: Vec<i64> = samples.iter().map(|sample| sample.timestamp_ms).collect();
    clock::encode(&times, &mut out);
    let values: Vec<f64> = samples.iter().map(|sample| sample.value).collect();
    floats::encode(&values, &mut out);
    out
}

/// Appends the samples of one part. At an error nothing is appended.
///
/// # Errors
/// When anything in it is not as the format says, or passes a limit.
pub fn decode(bytes: &[u8], out: &mut Vec<Sample>) -> Result<(), ChunkError> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        VERSION => {}
        version => return Err(ChunkError::Version(version)),
    }
    let count = reader.count(MAX_CHUNK_SAMPLES, "the number of samples")?;
    let times = clock::decode(&mut reader, count)?;
    let values = floats::decode(&mut reader, count)?;
    reader.finish()?;
    let samples = times.into_iter().zip(values);
    out.extend(samples.map(|(timestamp_ms, value)| Sample { timestamp_ms, value }));
    Ok(())
}

#[cfg(test)]
mod tests;
