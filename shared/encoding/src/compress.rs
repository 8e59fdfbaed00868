//! zstd and gzip. A few bytes can unpack to gigabytes, so everything that unpacks takes a cap.

use std::cell::RefCell;
use std::io::{self, Read, Write};

/// Why bytes cannot be unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// They are not what they should be.
    #[error("the compressed bytes are broken")]
    Broken,
    /// They unpack to more than the cap.
    #[error("the bytes unpack to more than {cap} bytes")]
    TooLarge {
        /// The cap.
        cap: usize,
    },
}

/// The level for stored data: PEERS 8 measured levels 1, 3 and 9 at 2.09, 2.08 and 2.07 bytes per sample.
pub const STORED_LEVEL: i32 = 3;

/// The level for the stream, where a record lives for seconds and the request waits.
pub const STREAM_LEVEL: i32 = 1;

/// The largest window that a zstd body may ask for, as a power of two: 8 MB, what every level up to 19 uses.
const MAX_WINDOW_LOG: u32 = 23;

thread_local! {
    // A context holds a few hundred KB of tables; making one for each record would cost more than compressing it.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses with zstd, to one frame that states its content's size.
///
/// # Errors
/// When zstd cannot allocate its tables.
pub fn zstd(bytes: &[u8], level: i32) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(level)?),
        };
        compressor.set_compression_level(level)?;
        compressor.compress(bytes)
    })
}

/// Unpacks what [`zstd()`] made, to at most `cap` bytes.
///
/// # Errors
/// When the bytes are broken or unpack to more.
pub fn unzstd(bytes: &[u8], cap: usize) -> Result<Vec<u8>, CompressError> {
    let declared = match zstd::zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        Ok(None) | Err(_) => return Err(CompressError::Broken),
    };
    if declared > cap {
        return Err(CompressError::TooLarge { cap });
    }
    // The declared size is a claim. Honest records of ours unpack about sixfold, so that one attempt is the rule; a claim
    // beyond 64-fold gets its memory step by step, as the bytes turn out to fill it.
    let mut capacity = declared.min(bytes.len().saturating_mul(64).saturating_add(4_096));
    loop {
        let mut out = Vec::with_capacity(capacity);
        match unzstd_into(bytes, &mut out) {
            Ok(()) => return Ok(out),
            Err(Failure::NoRoom) if capacity < declared => capacity = capacity.saturating_mul(8).min(declared),
            Err(Failure::NoRoom | Failure::Broken) => return Err(CompressError::Broken),
        }
    }
}

enum Failure {
    NoRoom,
    Broken,
}

fn unzstd_into(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Failure> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new().map_err(|_| Failure::Broken)?),
        };
        match decompressor.decompress_to_buffer(bytes, out) {
            Ok(_) => Ok(()),
            Err(error) if error.to_string().contains("too small") => Err(Failure::NoRoom),
            Err(_) => Err(Failure::Broken),
        }
    })
}

/// Unpacks a zstd body as others send it: any number of frames, sizes stated or not.
///
/// # Errors
/// When the bytes are broken or unpack to more than `cap` bytes.
pub fn unzstd_body(bytes: &[u8], cap: usize) -> Result<Vec<u8>, CompressError> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| CompressError::Broken)?;
    decoder
        .window_log_max(MAX_WINDOW_LOG)
        .map_err(|_| CompressError::Broken)?;
    read_capped(decoder, cap)
}

/// Unpacks a gzip body: any number of members.
///
/// # Errors
/// When the bytes are broken or unpack to more than `cap` bytes.
#[expect(clippy::disallowed_methods, reason = "this is the place that wraps it with a cap")]
pub fn gunzip(bytes: &[u8], cap: usize) -> Result<Vec<u8>, CompressError> {
    read_capped(flate2::read::MultiGzDecoder::new(bytes), cap)
}

/// Compresses with gzip, at the usual level.
///
/// # Errors
/// None in practice: it writes to memory.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn read_capped(reader: impl Read, cap: usize) -> Result<Vec<u8>, CompressError> {
    let mut out = Vec::new();
    let limit = (cap as u64).saturating_add(1);
    reader
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|_| CompressError::Broken)?;
    if out.len() > cap {
        return Err(CompressError::TooLarge { cap });
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
