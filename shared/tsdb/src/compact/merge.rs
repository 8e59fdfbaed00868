//! From the segments of a window to each series' samples.
//!
//! The segments stay as they were decoded, a few bytes a sample; what is gathered is only where each series' entries are. The
//! samples of a few series at a time are unpacked from there. A series is looked up once for each of its entries, by walking two
//! ascending lists side by side, and never for a sample.

use crate::flush::in_order;
use crate::segment::{self, Segment, SegmentError};
use crate::store::StoredSegment;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use tidemark_model::{Sample, SeriesId};

/// Which series to gather.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    /// All.
    All,
    /// Those that late segments hold samples of.
    Late,
    /// These.
    These(&'a Affected),
}

/// The series that late samples were stored of.
pub(super) type Affected = HashSet<SeriesId, crate::known::FingerprintHasher>;

/// Why segments cannot be merged.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmergeable {
    /// A segment names a series that is not in the catalog, as far as that was read.
    #[error("reference {0} is not in the catalog")]
    UnknownReference(u32),
    /// A segment cannot be decoded.
    #[error("a segment of shard {shard} cannot be decoded")]
    Broken {
        shard: u32,
        #[source]
        source: SegmentError,
    },
}

/// The series of a bucket in one period, each with a slot, and the references that name them.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Ascending.
    numbers: Vec<u32>,
    /// The slot that each of the numbers stands for.
    slots: Vec<u32>,
    ids: Vec<SeriesId>,
}

impl References {
    pub(super) fn new(mut pairs: Vec<(u32, SeriesId)>) -> Self {
        pairs.sort_unstable();
        let mut slot_of: HashMap<SeriesId, u32, crate::known::FingerprintHasher> = HashMap::default();
        let mut all = Self::default();
        for (number, id) in pairs {
            let slot = *slot_of.entry(id).or_insert_with(|| {
                all.ids.push(id);
                // There are no more series than references, which are such numbers.
                (all.ids.len() - 1) as u32
            });
            all.numbers.push(number);
            all.slots.push(slot);
        }
        all
    }

    /// The slot of each of the ascending references, by a walk along both lists.
    fn slots_of(&self, references: &[u32], out: &mut Vec<u32>) -> Result<(), Unmergeable> {
        let mut at = 0;
        for reference in references {
            // Most often the next one; otherwise it is far.
            if self.numbers.get(at).is_some_and(|number| number < reference) {
                at += 1;
            }
            if self.numbers.get(at).is_some_and(|number| number < reference) {
                at += self.numbers[at..].partition_point(|number| number < reference);
            }
            if self.numbers.get(at) != Some(reference) {
                return Err(Unmergeable::UnknownReference(*reference));
            }
            out.push(self.slots[at]);
        }
        Ok(())
    }
}

/// Decoded segments in the order in which they are merged.
#[derive(Debug)]
pub(super) struct Decoded(Vec<(bool, Segment)>);

impl Decoded {
    pub(super) fn new(mut stored: Vec<StoredSegment>) -> Result<Self, Unmergeable> {
        stored.sort_by_key(|segment| segment.order);
        let decoded = stored.into_iter().map(|stored| {
            let segment = segment::decode(&stored.data).map_err(|source| Unmergeable::Broken {
                shard: stored.order.shard,
                source,
            })?;
            Ok((stored.late, segment))
        });
        decoded.collect::<Result<_, _>>().map(Self)
    }

    /// The slot of each entry of each segment.
    pub(super) fn slots(&self, references: &References) -> Result<Vec<u32>, Unmergeable> {
        let entries = self.0.iter().map(|(_, segment)| segment.references().len());
        let mut slots = Vec::with_capacity(entries.sum());
        for (_, segment) in &self.0 {
            references.slots_of(segment.references(), &mut slots)?;
        }
        Ok(slots)
    }

    /// Finds the entries of the wanted series, given the slots of all.
    pub(super) fn gather<'a>(&'a self, references: &'a References, slots: &[u32], wanted: Wanted<'_>) -> Merged<'a> {
        let is_wanted = self.wanted(references, slots, wanted);
        // How many entries each slot has, then where its next one goes, then where they end.
        let mut ends = vec![0_u32; references.ids.len()];
        for slot in slots {
            ends[*slot as usize] += u32::from(is_wanted[*slot as usize]);
        }
        let mut before = 0;
        for end in &mut ends {
            let count = *end;
            *end = before;
            before += count;
        }
        let mut entries = vec![(0_u32, 0_u32); before as usize];
        let mut slot = slots.iter();
        for (number, (_, segment)) in (0_u32..).zip(&self.0) {
            for (index, slot) in (0_u32..segment.references().len() as u32).zip(&mut slot) {
                if is_wanted[*slot as usize] {
                    let place = &mut ends[*slot as usize];
                    entries[*place as usize] = (number, index);
                    *place += 1;
                }
            }
        }
        Merged {
            segments: self,
            ids: &references.ids,
            entries,
            ends,
        }
    }

    /// By slot.
    fn wanted(&self, references: &References, slots: &[u32], wanted: Wanted<'_>) -> Vec<bool> {
        match wanted {
            Wanted::All => vec![true; references.ids.len()],
            Wanted::These(these) => references.ids.iter().map(|id| these.contains(id)).collect(),
            Wanted::Late => {
                let mut is_wanted = vec![false; references.ids.len()];
                let mut slots = slots;
                for (late, segment) in &self.0 {
                    let (of_segment, others) = slots.split_at(segment.references().len());
                    slots = others;
                    if *late {
                        for slot in of_segment {
                            is_wanted[*slot as usize] = true;
                        }
                    }
                }
                is_wanted
            }
        }
    }
}

/// Where each series' samples are.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    segments: &'a Decoded,
    ids: &'a [SeriesId],
    /// Segment and index in it, slot by slot, each slot's in the order in which they are merged.
    entries: Vec<(u32, u32)>,
    ends: Vec<u32>,
}

/// How many series are unpacked side by side. Their entries are neighbours in each segment, so that what one of them brings into
/// the processor's cache serves the others.
const SIDE_BY_SIDE: usize = 64;

impl<'a> Merged<'a> {
    /// Unpacks the series that have samples, one after the other.
    pub(super) fn read(&self) -> SeriesReader<'_> {
        let mut before = 0;
        let mut ranges = Vec::new();
        for (slot, end) in self.ends.iter().enumerate() {
            if *end > before {
                ranges.push((slot, before as usize..*end as usize));
            }
            before = *end;
        }
        SeriesReader {
            merged: self,
            ranges: ranges.into_iter(),
            block: Vec::new(),
            unpacked: Vec::new(),
            next: 0,
            values: Vec::new(),
        }
    }
}

/// See [`Merged::read`].
#[derive(Debug)]
pub(super) struct SeriesReader<'m> {
    merged: &'m Merged<'m>,
    /// The series that follow, and which entries they have.
    ranges: std::vec::IntoIter<(usize, Range<usize>)>,
    /// The series that are unpacked, and which of their entries are not yet.
    block: Vec<(usize, Range<usize>)>,
    /// The samples of each of them.
    unpacked: Vec<Vec<Sample>>,
    /// Which of them comes next.
    next: usize,
    values: Vec<f64>,
}

impl SeriesReader<'_> {
    /// The next series, and its samples in ascending order of time, each time once: of several, that of the last segment.
    pub(super) fn next(&mut self) -> Option<(SeriesId, &[Sample])> {
        if self.next == self.block.len() {
            self.unpack();
        }
        let (slot, _) = self.block.get(self.next)?;
        let samples = &mut self.unpacked[self.next];
        self.next += 1;
        Some((self.merged.ids[*slot], in_order(samples)))
    }

    fn unpack(&mut self) {
        self.next = 0;
        self.block.clear();
        self.block.extend(self.ranges.by_ref().take(SIDE_BY_SIDE));
        self.unpacked.resize(SIDE_BY_SIDE, Vec::new());
        for samples in &mut self.unpacked {
            samples.clear();
        }
        for (number, (_, segment)) in (0_u32..).zip(&self.merged.segments.0) {
            for ((_, entries), samples) in self.block.iter_mut().zip(&mut self.unpacked) {
                while let Some((_, index)) = self.merged.entries[entries.clone()]
                    .first()
                    .filter(|(of, _)| *of == number)
                {
                    segment.read_entry_with(*index as usize, &mut self.values, samples);
                    entries.start += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Entry;
    use crate::sequence::SequenceNumber;
    use crate::store::SegmentOrder;
    use tidemark_model::{Bucket, Window};

    fn id(number: u64) -> SeriesId {
        SeriesId::new(&format!("m{number}"), std::iter::empty())
    }

    /// A segment of `(reference, [(time, value)])`.
    fn stored(late: bool, arrival_ms: u64, entries: &[(u32, &[(i64, f64)])]) -> StoredSegment {
        let samples: Vec<Vec<Sample>> = entries
            .iter()
            .map(|(_, samples)| {
                let sample = |&(timestamp_ms, value): &(i64, f64)| Sample { timestamp_ms, value };
                samples.iter().map(sample).collect()
            })
            .collect();
        let entries: Vec<Entry<'_>> = entries
            .iter()
            .zip(&samples)
            .map(|((reference, _), samples)| Entry {
                reference: *reference,
                samples,
            })
            .collect();
        StoredSegment {
            bucket: Bucket(0),
            window: Window { start_ms: 0 },
            late,
            order: SegmentOrder {
                arrival_ms,
                last: SequenceNumber::BEFORE_ALL,
                shard: 0,
                first_hash: 0,
                part: 0,
                last_part: 0,
            },
            data: segment::encode(&entries),
            expires_at_s: 0,
        }
    }

    fn read(
        segments: Vec<StoredSegment>,
        references: &References,
        wanted: Wanted<'_>,
    ) -> Vec<(SeriesId, Vec<(i64, f64)>)> {
        let decoded = Decoded::new(segments).unwrap();
        let merged = decoded.gather(references, &decoded.slots(references).unwrap(), wanted);
        let mut reader = merged.read();
        let mut all = Vec::new();
        while let Some((id, samples)) = reader.next() {
            let pairs = samples.iter().map(|sample| (sample.timestamp_ms, sample.value));
            all.push((id, pairs.collect()));
        }
        all
    }

    #[test]
    fn of_several_samples_of_one_time_the_last_to_arrive_holds_whether_it_was_late_or_not() {
        let references = References::new(vec![(3, id(1)), (5, id(2))]);
        let segments = vec![
            stored(false, 10, &[(3, &[(1, 1.0), (2, 1.0)]), (5, &[(1, 7.0)])]),
            stored(false, 30, &[(3, &[(2, 3.0), (4, 3.0)])]),
            stored(true, 20, &[(3, &[(1, 2.0), (2, 2.0), (3, 2.0)])]),
        ];
        let first = (id(1), vec![(1, 2.0), (2, 3.0), (3, 2.0), (4, 3.0)]);
        let second = (id(2), vec![(1, 7.0)]);
        assert_eq!(
            read(segments.clone(), &references, Wanted::All),
            [first.clone(), second.clone()]
        );
        assert_eq!(read(segments.clone(), &references, Wanted::Late), [first]);
        let these = Affected::from_iter([id(2), id(9)]);
        assert_eq!(read(segments, &references, Wanted::These(&these)), [second]);
    }

    #[test]
    fn a_series_with_two_references_is_one() {
        let references = References::new(vec![(9, id(1)), (1, id(1)), (4, id(2))]);
        let segments = vec![
            stored(false, 10, &[(1, &[(1, 1.0), (2, 1.0)]), (4, &[(5, 5.0)])]),
            stored(false, 20, &[(4, &[(6, 5.0)]), (9, &[(2, 2.0)])]),
        ];
        let found = read(segments, &references, Wanted::All);
        assert_eq!(
            found,
            [(id(1), vec![(1, 1.0), (2, 2.0)]), (id(2), vec![(5, 5.0), (6, 5.0)])]
        );
    }

    #[test]
    fn more_series_than_are_unpacked_at_once_and_some_without_samples_are_all_read() {
        let count = 3 * SIDE_BY_SIDE as u32 + 5;
        let references = References::new((0..count).map(|number| (number, id(u64::from(number)))).collect());
        let entry = |number, at| (number, vec![(at, f64::from(number))]);
        let entries = |keep: u32, at| {
            (0..count)
                .filter(move |number| number % keep == 0)
                .map(move |number| entry(number, at))
        };
        let (every, second): (Vec<_>, Vec<_>) = (entries(3, 1).collect(), entries(2, 2).collect());
        let borrowed = |all: &[(u32, Vec<(i64, f64)>)]| {
            stored(
                false,
                1,
                &all.iter().map(|(n, s)| (*n, s.as_slice())).collect::<Vec<_>>(),
            )
        };
        let found = read(vec![borrowed(&every), borrowed(&second)], &references, Wanted::All);
        let mut wanted = Vec::new();
        for number in (0..count).filter(|number| number % 3 == 0 || number % 2 == 0) {
            let times = [(3, 1), (2, 2)].into_iter().filter(|(keep, _)| number % keep == 0);
            wanted.push((
                id(u64::from(number)),
                times.map(|(_, at)| (at, f64::from(number))).collect(),
            ));
        }
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_reference_that_the_catalog_lacks_is_an_error() {
        let references = References::new((0..100).map(|number| (number * 3, id(u64::from(number)))).collect());
        for missing in [1, 299, 1_000, u32::MAX] {
            let segments = vec![stored(false, 1, &[(0, &[(1, 1.0)]), (missing, &[(1, 1.0)])])];
            let decoded = Decoded::new(segments).unwrap();
            let failed = decoded.slots(&references).unwrap_err();
            assert!(matches!(failed, Unmergeable::UnknownReference(number) if number == missing));
        }
        let broken = StoredSegment {
            data: vec![77],
            ..stored(false, 1, &[])
        };
        assert!(matches!(Decoded::new(vec![broken]), Err(Unmergeable::Broken { .. })));
    }
}
