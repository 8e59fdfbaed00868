//! One flush of one bucket and window: many series, few samples each.

use tidemark_model::Sample;

/// A series' number inside its bucket, handed out by the catalog.
pub type Reference = u32;

/// The samples of one series in one flush.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Which series.
    pub reference: Reference,
    /// Its samples in ascending order of time, each time once.
    pub samples: &'a [Sample],
}

/// Why bytes are not a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Written by a newer Tidemark, or no segment.
    #[error("unknown segment version {0}")]
    Version(u8),
    /// Bytes are missing, left over or out of range.
    #[error("broken segment: {0}")]
    Broken(&'static str),
}

/// A decoded and checked segment. Samples are unpacked when they are read.
#[derive(Clone, Debug)]
pub struct Segment {
    references: Vec<Reference>,
}

/// Encodes entries, in ascending order of their references, to the bytes of one segment, whatever its size.
#[must_use]
pub fn encode(entries: &[Entry<'_>]) -> Vec<u8> {
    let _ = entries;
    Vec::new()
}

/// Encodes entries to as few segments as the limits of an item allow; most often one. The parts are a pure function of the
/// entries; a part's index in the result belongs into its key.
#[must_use]
pub fn split(entries: &[Entry<'_>]) -> Vec<Vec<u8>> {
    vec![encode(entries)]
}

/// Decodes a segment and checks all of it.
///
/// # Errors
/// When anything in it is not as the format says.
pub fn decode(bytes: &[u8]) -> Result<Segment, SegmentError> {
    Err(SegmentError::Version(bytes.first().copied().unwrap_or(0)))
}

impl Segment {
    /// The series inside, ascending.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// How many samples are inside.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        0
    }

    /// Appends the samples of one series, in the order in which they were encoded. The others are not unpacked.
    /// Whether the segment has the series.
    pub fn read(&self, reference: Reference, out: &mut Vec<Sample>) -> bool {
        let _ = out;
        self.references.binary_search(&reference).is_ok()
    }
}
