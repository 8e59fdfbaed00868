//! One flush of one bucket and window, as one item: many series, few samples each, in columns across all of them. The cast:
//! an [`Entry`] is a series' samples on their way in, a *part* is the bytes of one item, a [`Segment`] is a part that was
//! decoded and checked.
//!
//! A segment is a pure function of its entries, so that a redelivered batch overwrites its own segments. Duplicates, within
//! a segment or between segments, are kept as they are: readers merge by series and timestamp, and the later wins.
//!
//! `FORMAT.md` draws the bytes. This module does not know keys, windows or tables.

use tidemark_encoding::times::{RowEncoder, Rows};
use tidemark_encoding::values::{ValueColumn, ValueEncoder};
use tidemark_encoding::varint::{put_i64, put_len, put_u64};
use tidemark_encoding::{CompressError, DecodeError, Reader, compress};
use tidemark_model::Sample;
use tidemark_model::limits::{
    MAX_DECOMPRESSED_SEGMENT_BYTES, MAX_SEGMENT_ITEM_BYTES, MAX_SEGMENT_SAMPLES, MAX_SEGMENT_SERIES,
};

/// A series' number inside its bucket, handed out by the catalog.
pub type Reference = u32;

const VERSION: u8 = 1;
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
const HEADER_BYTES: usize = 2;

/// What an item holds besides the segment: its keys, their names, the expiry.
const KEY_BYTES: usize = 1_024;

/// The samples of one series in one flush.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which series.
    pub reference: Reference,
    /// Its samples in ascending order of time, each time once. Others survive as well, but take more bytes.
    pub samples: &'a [Sample],
}

/// Why bytes are not a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Written by a newer Tidemark, or no segment.
    #[error("unknown segment version {0}")]
    Version(u8),
    /// Compressed in an unknown way.
    #[error("unknown segment encoding {0}")]
    Encoding(u8),
    /// The compressed bytes are broken or unpack to too much.
    #[error("the segment cannot be decompressed")]
    Compression(#[from] CompressError),
    /// Bytes are missing, left over or out of range.
    #[error("the segment is broken")]
    Broken(#[from] DecodeError),
}

/// Encodes entries to as few parts as the limits of an item allow; most often one, and none when there are no samples. The
/// parts are a pure function of the entries; a part's place in the result belongs into its key.
#[must_use]
pub fn split(entries: &[Entry<'_>]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let mut waiting = vec![in_order(entries)];
    while let Some(entries) = waiting.pop() {
        let samples: usize = entries.iter().map(|entry| entry.samples.len()).sum();
        if samples == 0 {
            continue;
        }
        if samples <= MAX_SEGMENT_SAMPLES && entries.len() <= MAX_SEGMENT_SERIES {
            let body = encode_body(&entries);
            let part = pack(&body);
            let fits = part.len() + KEY_BYTES <= MAX_SEGMENT_ITEM_BYTES && body.len() <= MAX_DECOMPRESSED_SEGMENT_BYTES;
            if fits || samples == 1 {
                parts.push(part);
                continue;
            }
        }
        let (front, back) = halve(&entries, samples);
        waiting.push(back);
        waiting.push(front);
    }
    parts
}

/// Encodes entries to the bytes of one segment, whatever its size. [`split`] is for what is stored.
#[must_use]
pub fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    pack(&encode_body(&in_order(entries)))
}

fn in_order<'a>(entries: &[Entry<'a>]) -> Vec<Entry<'a>> {
    let mut entries: Vec<Entry<'a>> = entries
        .iter()
        .copied()
        .filter(|entry| !entry.samples.is_empty())
        .collect();
    // Sorted already when all is well; stable, so that two entries of one series keep their order.
    entries.sort_by_key(|entry| entry.reference);
    entries
}

/// Cuts at the middle sample, if need be inside an entry.
fn halve<'a>(entries: &[Entry<'a>], samples: usize) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut room = samples / 2;
    for entry in entries {
        let (first, second) = entry.samples.split_at(entry.samples.len().min(room));
        room -= first.len();
        for (side, samples) in [(&mut front, first), (&mut back, second)] {
            if !samples.is_empty() {
                side.push(Entry {
                    reference: entry.reference,
                    samples,
                });
            }
        }
    }
    (front, back)
}

fn encode_body(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4_096);
    put_len(&mut out, entries.len());
    let mut previous = 0;
    for entry in entries {
        put_u64(&mut out, u64::from(entry.reference - previous));
        previous = entry.reference;
    }
    let (mut rows, mut values) = (RowEncoder::default(), ValueEncoder::default());
    let (mut previous, mut scratch) = (0, Vec::new());
    for entry in entries {
        let row = i64::from(rows.row(entry.samples.iter().map(|sample| sample.timestamp_ms)));
        put_i64(&mut out, row - previous);
        previous = row;
        scratch.clear();
        scratch.extend(entry.samples.iter().map(|sample| sample.value));
        values.push(&scratch);
    }
    rows.finish(&mut out);
    values.finish(&mut out);
    out
}

fn pack(body: &[u8]) -> Vec<u8> {
    // Without memory for zstd's tables the plain form still does.
    let packed = compress::zstd(body, compress::STORED_LEVEL).ok();
    let (encoding, bytes) = match &packed {
        Some(packed) if packed.len() < body.len() => (ZSTD, packed.as_slice()),
        _ => (PLAIN, body),
    };
    [&[VERSION, encoding], bytes].concat()
}

/// A decoded and checked segment. Samples are unpacked when they are read.
#[derive(Clone, Debug)]
pub struct Segment {
    references: Vec<Reference>,
    row_of: Vec<u32>,
    rows: Rows,
    values: ValueColumn,
    samples: usize,
    memory_bytes: usize,
}

/// Decodes a segment and checks all of it.
///
/// # Errors
/// When anything in it is not as the format says, or passes a limit.
pub fn decode(bytes: &[u8]) -> Result<Segment, SegmentError> {
    let (header, rest) = bytes
        .split_at_checked(HEADER_BYTES)
        .ok_or(SegmentError::Broken(DecodeError::Truncated))?;
    match header {
        [VERSION, PLAIN] => decode_body(rest),
        [VERSION, ZSTD] => decode_body(&compress::unzstd(rest, MAX_DECOMPRESSED_SEGMENT_BYTES)?),
        [VERSION, encoding] => Err(SegmentError::Encoding(*encoding)),
        _ => Err(SegmentError::Version(header[0])),
    }
}

fn decode_body(body: &[u8]) -> Result<Segment, SegmentError> {
    let mut reader = Reader::new(body);
    let count = reader.count(MAX_SEGMENT_SERIES.min(body.len()), "the number of series")?;
    let mut references = Vec::with_capacity(count);
    let mut reference: Reference = 0;
    for _ in 0..count {
        let step = u32::try_from(reader.u64()?).map_err(|_| DecodeError::OutOfRange("a reference"))?;
        reference = reference
            .checked_add(step)
            .ok_or(DecodeError::OutOfRange("a reference"))?;
        references.push(reference);
    }
    let mut row_of = Vec::with_capacity(count);
    let mut row = 0_i64;
    for _ in 0..count {
        row = row.wrapping_add(reader.i64()?);
        row_of.push(u32::try_from(row).map_err(|_| DecodeError::OutOfRange("a row number"))?);
    }
    let rows = Rows::decode(&mut reader, MAX_SEGMENT_SAMPLES)?;
    let mut counts = Vec::with_capacity(count);
    let mut samples = 0;
    for row in &row_of {
        // A number without a row gives no timestamps.
        let length = rows.get(*row as usize).len();
        if length == 0 {
            return Err(DecodeError::OutOfRange("a row number").into());
        }
        samples += length;
        if samples > MAX_SEGMENT_SAMPLES {
            return Err(DecodeError::OutOfRange("the number of samples").into());
        }
        // At most the limit.
        counts.push(length as u32);
    }
    let values = ValueColumn::decode(&mut reader, &counts)?;
    reader.finish()?;
    let timestamps: usize = (0..rows.len()).map(|row| rows.get(row).len()).sum();
    // Values are kept as they came, and the counters, offsets and modes of a series take less than this.
    let memory_bytes = body.len() + 8 * timestamps + 4 * rows.len() + 48 * count;
    Ok(Segment {
        references,
        row_of,
        rows,
        values,
        samples,
        memory_bytes,
    })
}

impl Segment {
    /// The series inside, ascending. A series that was encoded as two entries stands twice.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// How many samples are inside.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.samples
    }

    /// About how many bytes of memory it takes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Appends the samples of one series, in the order in which they were encoded. The others are not unpacked.
    /// Returns whether the segment has the series.
    pub fn read(&self, reference: Reference, out: &mut Vec<Sample>) -> bool {
        let start = self.references.partition_point(|other| *other < reference);
        let entries = self.references[start..]
            .iter()
            .take_while(|other| **other == reference)
            .count();
        for index in start..start + entries {
            self.read_entry(index, out);
        }
        entries > 0
    }

    /// Appends the samples of the entry at an index of [`Self::references`]; nothing when there is none.
    pub fn read_entry(&self, index: usize, out: &mut Vec<Sample>) {
        self.read_entry_with(index, &mut Vec::new(), out);
    }

    /// [`Self::read_entry`] for who reads very many: `values` is room to work in, kept from one to the next.
    pub(crate) fn read_entry_with(&self, index: usize, values: &mut Vec<f64>, out: &mut Vec<Sample>) {
        let Some(row) = self.row_of.get(index) else { return };
        values.clear();
        self.values.read(index, values);
        let timestamps = self.rows.get(*row as usize);
        out.extend(timestamps.iter().zip(values).map(|(timestamp_ms, value)| Sample {
            timestamp_ms: *timestamp_ms,
            value: *value,
        }));
    }
}

#[cfg(test)]
mod tests;
