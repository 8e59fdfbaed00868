//! What an answer was made from, so that it can be told later whether it would be the same.
//!
//! A closed window changes only by late data, and every piece of it is counted in the bucket's `late_marks` before it is
//! acknowledged. A window that is not closed changes when a segment appears in it, and that is found by asking for what comes
//! after the newest one that the answer knew.

use crate::bounded;
use crate::select::hash_of;
use crate::store::{SegmentOrder, Store, StoreError};
use tidemark_model::{Bucket, Window};

const VERSION: u8 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub(crate) bucket: Bucket,
    /// The bucket's marks; `None` when no window was old enough to be closed.
    pub(crate) late_marks: Option<u64>,
    pub(crate) windows: Vec<WindowEvidence>,
}

/// What was seen of a window that was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowEvidence {
    pub(crate) window: Window,
    /// The newest normal segment that nothing can appear before.
    pub(crate) newest: Option<SegmentOrder>,
    /// A hash of the keys of what comes after it.
    pub(crate) rest: u64,
}

impl Evidence {
    /// Whether the answer would still be made from the same. Reads the bucket's progress when the answer depends on it, and
    /// new segments only.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn holds(&self, store: &impl Store) -> Result<bool, StoreError> {
        let reads: Vec<_> = self.windows.iter().map(|seen| self.window_holds(store, seen)).collect();
        for holds in bounded::all(reads).await {
            if !holds? {
                return Ok(false);
            }
        }
        match self.late_marks {
            Some(late_marks) => Ok(store.progress(self.bucket).await?.late_marks == late_marks),
            None => Ok(true),
        }
    }

    async fn window_holds(&self, store: &impl Store, seen: &WindowEvidence) -> Result<bool, StoreError> {
        let found = store.segments(self.bucket, seen.window, seen.newest).await?;
        Ok(hash_of(found.iter().map(|stored| stored.order)) == seen.rest)
    }

    /// As bytes, of this version of Tidemark.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.bucket.0.to_be_bytes());
        bytes.push(u8::from(self.late_marks.is_some()));
        bytes.extend_from_slice(&self.late_marks.unwrap_or(0).to_be_bytes());
        for seen in &self.windows {
            bytes.extend_from_slice(&seen.window.start_ms.to_be_bytes());
            bytes.extend_from_slice(&seen.rest.to_be_bytes());
            bytes.push(u8::from(seen.newest.is_some()));
            let newest = seen.newest.map_or([0; SegmentOrder::BYTES], SegmentOrder::to_bytes);
            bytes.extend_from_slice(&newest);
        }
        bytes
    }

    /// The reverse of [`Self::to_bytes`]; `None` for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, windows) = bytes.split_at_checked(12)?;
        let mut evidence = Self {
            bucket: Bucket(u16::from_be_bytes(head[1..3].try_into().ok()?)),
            late_marks: flagged(head[3], u64::from_be_bytes(head[4..].try_into().ok()?))?,
            windows: Vec::new(),
        };
        let mut windows = windows.chunks_exact(17 + SegmentOrder::BYTES);
        for window in &mut windows {
            evidence.windows.push(WindowEvidence {
                window: Window {
                    start_ms: i64::from_be_bytes(window[..8].try_into().ok()?),
                },
                rest: u64::from_be_bytes(window[8..16].try_into().ok()?),
                newest: flagged(window[16], SegmentOrder::from_bytes(&window[17..])?)?,
            });
        }
        (head[0] == VERSION && windows.remainder().is_empty()).then_some(evidence)
    }
}

fn flagged<T>(flag: u8, value: T) -> Option<Option<T>> {
    match flag {
        0 => Some(None),
        1 => Some(Some(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::SequenceNumber;
    use proptest::prelude::*;

    fn evidence() -> impl Strategy<Value = Evidence> {
        let order = (0..1_u64 << 48, any::<u64>(), any::<u8>()).prop_map(|(arrival_ms, last, part)| SegmentOrder {
            arrival_ms,
            last: SequenceNumber::parse(&last.to_string()).unwrap(),
            shard: 3,
            first_hash: !last,
            part,
            last_part: 255,
        });
        let window = (any::<i64>(), any::<u64>(), proptest::option::of(order)).prop_map(|(start_ms, rest, newest)| {
            WindowEvidence {
                window: Window { start_ms },
                newest,
                rest,
            }
        });
        let windows = proptest::collection::vec(window, 0..4);
        (any::<u16>(), any::<Option<u64>>(), windows).prop_map(|(bucket, late_marks, windows)| Evidence {
            bucket: Bucket(bucket),
            late_marks,
            windows,
        })
    }

    proptest! {
        #[test]
        fn evidence_reads_back(evidence in evidence()) {
            prop_assert_eq!(Evidence::from_bytes(&evidence.to_bytes()), Some(evidence));
        }

        #[test]
        fn other_bytes_are_no_evidence_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
            if let Some(evidence) = Evidence::from_bytes(&bytes) {
                prop_assert_eq!(Evidence::from_bytes(&evidence.to_bytes()), Some(evidence));
            }
        }
    }
}
