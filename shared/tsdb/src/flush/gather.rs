//! The samples of a run of records, by series, and the segments that they become.

use crate::known::{Identity, Refusal};
use crate::layout::Layout;
use crate::segment::{self, Entry};
use crate::store::{SegmentOrder, StoreError, StoredSegment};
use crate::stream::StreamRecord;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use tidemark_model::{Bucket, Period, Sample, SeriesId, Window};
use tidemark_wire::envelope::{Envelope, SeriesView};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One sample on its way into a segment.
#[derive(Clone, Copy)]
struct Row {
    slot: u32,
    sample: Sample,
}

/// The samples of a run of records, with each series named by a slot.
pub(super) struct Gathered<'e> {
    pub(super) identities: Vec<Identity<SeriesView<'e>>>,
    rows: Vec<Row>,
}

impl<'e> Gathered<'e> {
    pub(super) fn new(envelopes: &'e [(&StreamRecord, Envelope)], layout: Layout) -> Self {
        let samples = envelopes
            .iter()
            .map(|(_, envelope)| envelope.sample_count() as usize)
            .sum();
        let mut gathered = Self {
            identities: Vec::new(),
            rows: Vec::with_capacity(samples),
        };
        let mut by_id: HashMap<(SeriesId, u64), u32, crate::known::FingerprintHasher> = HashMap::default();
        // A window is looked up once for a run of samples that share it.
        let mut window = layout.window.of(0);
        let mut period = Period::of(window.start_ms);
        for (_, envelope) in envelopes {
            for series in envelope.series() {
                let slot = match by_id.entry((series.id(), series.check())) {
                    Slot::Occupied(known) => *known.get(),
                    Slot::Vacant(free) => {
                        gathered.identities.push(Identity::of(series));
                        // An envelope holds fewer samples than a u32 counts, and a batch few envelopes.
                        *free.insert((gathered.identities.len() - 1) as u32)
                    }
                };
                let identity = &mut gathered.identities[slot as usize];
                for sample in series.samples() {
                    let offset = sample.timestamp_ms.wrapping_sub(window.start_ms);
                    if !(0..layout.window.ms()).contains(&offset) {
                        window = layout.window.of(sample.timestamp_ms);
                        period = Period::of(window.start_ms);
                    }
                    identity.touch(period);
                    gathered.rows.push(Row { slot, sample });
                }
            }
        }
        gathered
    }

    /// How many samples there are.
    pub(super) fn samples(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Drops the samples of the refused series, and says how many those are.
    pub(super) fn refuse(&mut self, refusals: &[Refusal]) -> u64 {
        if refusals.is_empty() {
            return 0;
        }
        let before = self.rows.len();
        self.rows
            .retain(|row| refusals.iter().all(|refusal| refusal.slot != row.slot as usize));
        (before - self.rows.len()) as u64
    }

    /// One segment for each bucket and window, more where an item could not hold it. A pure function of the records and of
    /// the references that their series have.
    ///
    /// # Errors
    /// When one of them has more parts than a key can number.
    pub(super) fn into_segments(self, order: SegmentOrder, layout: &Layout) -> Result<Vec<StoredSegment>, StoreError> {
        let (mut samples, ends) = self.by_slot();
        let mut groups: Vec<(Bucket, Window, Entry<'_>)> = Vec::with_capacity(ends.len());
        let mut rest = samples.as_mut_slice();
        let mut start = 0;
        for (identity, end) in self.identities.iter().zip(ends) {
            let (of_slot, others) = rest.split_at_mut(end - start);
            (rest, start) = (others, end);
            let bucket = layout.buckets.of(identity.id);
            let mut samples = in_order(of_slot);
            while let Some(first) = samples.first() {
                let window = layout.window.of(first.timestamp_ms);
                let inside = samples.partition_point(|sample| layout.window.of(sample.timestamp_ms) == window);
                let (inside, later) = samples.split_at(inside);
                let entry = Entry {
                    reference: identity.reference(Period::of(window.start_ms)),
                    samples: inside,
                };
                groups.push((bucket, window, entry));
                samples = later;
            }
        }
        groups.sort_by_key(|(bucket, window, entry)| (*bucket, *window, entry.reference));
        let mut segments = Vec::new();
        for group in groups.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (bucket, window, _) = group[0];
            let entries: Vec<Entry<'_>> = group.iter().map(|(_, _, entry)| *entry).collect();
            let parts = segment::split(&entries);
            // Two writers of one batch may know a series by different references, or encode differently, and so cut its
            // parts elsewhere. Parts of one writer must not overwrite those of another: their bytes are in the key.
            let first_hash = parts
                .iter()
                .fold(order.first_hash, |hash, part| xxh3_64_with_seed(part, hash));
            // A run of records holds a million samples, which do not fill 256 items of 380 KB.
            let last_part = last_part(parts.len()).ok_or_else(|| StoreError::Corrupt {
                item: format!("segment {bucket}#{window}"),
                reason: format!("it has {} parts, more than a key can number", parts.len()),
            })?;
            for (part, data) in (0..=last_part).zip(parts) {
                let order = SegmentOrder {
                    first_hash,
                    part,
                    last_part,
                    ..order
                };
                segments.push(StoredSegment {
                    bucket,
                    window,
                    late: false,
                    order,
                    data,
                    expires_at_s: layout.segment_expires_at_s(window),
                });
            }
        }
        Ok(segments)
    }

    /// The samples slot by slot, each slot's in the order of their arrival, and where each slot's end.
    fn by_slot(&self) -> (Vec<Sample>, Vec<usize>) {
        // How many samples each slot has, then where its next one goes: its start at first, its end when all are there.
        let mut next = vec![0; self.identities.len()];
        for row in &self.rows {
            next[row.slot as usize] += 1;
        }
        let mut before = 0;
        for place in &mut next {
            let count = *place;
            *place = before;
            before += count;
        }
        let nothing = Sample {
            timestamp_ms: 0,
            value: 0.0,
        };
        let mut samples = vec![nothing; self.rows.len()];
        for row in &self.rows {
            let place = &mut next[row.slot as usize];
            samples[*place] = row.sample;
            *place += 1;
        }
        (samples, next)
    }
}

/// The number of the last of so many parts; `None` when there is none, or it is too great for a key.
fn last_part(parts: usize) -> Option<u8> {
    u8::try_from(parts.checked_sub(1)?).ok()
}

/// The samples of one series in ascending order of time, each time once: of two with one time, the later holds.
pub(crate) fn in_order(samples: &mut [Sample]) -> &[Sample] {
    // Nearly always nothing is to be done.
    if samples.is_sorted_by(|a, b| a.timestamp_ms < b.timestamp_ms) {
        return samples;
    }
    // Stable: of two with one time, the one that arrived later stays behind the other.
    samples.sort_by_key(|sample| sample.timestamp_ms);
    let mut kept = 0;
    for at in 0..samples.len() {
        if kept > 0 && samples[kept - 1].timestamp_ms == samples[at].timestamp_ms {
            kept -= 1;
        }
        samples[kept] = samples[at];
        kept += 1;
    }
    &samples[..kept]
}

#[cfg(test)]
mod tests {
    use super::last_part;

    #[test]
    fn parts_that_a_key_cannot_number_are_not_dropped_in_silence() {
        assert_eq!([0, 1, 256, 257].map(last_part), [None, Some(0), Some(255), None]);
    }
}
