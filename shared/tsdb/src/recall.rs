//! What a process remembers of what it has read: segments, blocks, catalogs. All of it is immutable, so that nothing here is
//! ever wrong; what is new is found by asking for what comes after what is remembered ([`crate::select`] says how).
//!
//! One budget in bytes holds for everything together; what was used least recently goes first.

use crate::segment::Segment;
use crate::store::{CatalogEntry, SegmentOrder};
use crate::tier::Tier;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tidemark_model::{Bucket, DAY_MS, Period, SeriesId, Window};

/// What an entry takes besides its contents: its key twice, its places in the two maps.
const ENTRY_BYTES: usize = 256;

/// How long anything is remembered, at most. Progress names replaced blocks for two days after their segments have expired.
const MAX_AGE_MS: i64 = DAY_MS;

/// A decoded segment with its place among the others.
#[derive(Clone, Debug)]
pub(crate) struct HeldSegment {
    pub(crate) order: SegmentOrder,
    pub(crate) segment: Arc<Segment>,
    pub(crate) bytes: usize,
}

/// The segments of a bucket and window, as of the last time they were read.
#[derive(Debug, Default)]
pub(crate) struct HeldWindow {
    /// Normal segments up to this place were never looked for; `None` when all were.
    pub(crate) after: Option<SegmentOrder>,
    /// The normal ones in order, as far as nothing can appear before the last of them.
    pub(crate) known: Vec<HeldSegment>,
    /// The others, which are read again each time: late ones, and the parts of a batch that was not there as a whole.
    pub(crate) rest: Vec<HeldSegment>,
    /// A hash of the keys of `rest`.
    pub(crate) rest_hash: u64,
}

impl HeldWindow {
    /// The newest normal segment that all older ones are known to be here, as far as they were looked for.
    pub(crate) fn newest(&self) -> Option<SegmentOrder> {
        self.known.last().map(|held| held.order).or(self.after)
    }

    /// Whether everything after a place was looked for.
    pub(crate) fn covers(&self, after: Option<SegmentOrder>) -> bool {
        match (self.after, after) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(here), Some(there)) => here <= there,
        }
    }

    /// How much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.known.iter().chain(&self.rest).map(|held| held.bytes + 64).sum()
    }
}

/// Which state of a bucket a catalog was read in: what is stored later names series that it may not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) late_marks: u64,
    pub(crate) compacted_before_ms: Option<i64>,
}

/// The series of a metric in a period.
#[derive(Debug)]
pub(crate) struct HeldCatalog {
    /// All series, those last that were written out of order.
    pub(crate) entries: Vec<Arc<CatalogEntry>>,
    /// All that were first seen until then are here, and nothing else can have been.
    pub(crate) complete_ms: Option<i64>,
    /// The bucket's [`Seen::news`] before this was read.
    pub(crate) news: u64,
    /// The bucket's progress before this was read, if it was known.
    pub(crate) settled: Option<Settled>,
}

impl HeldCatalog {
    fn bytes(&self) -> usize {
        let labels = |entry: &Arc<CatalogEntry>| -> usize {
            let texts = entry.labels.iter().map(|(name, value)| name.len() + value.len() + 32);
            texts.sum()
        };
        self.entries.iter().map(|entry| labels(entry) + 96).sum()
    }
}

/// The parts of a block; none when the series has no such block.
pub(crate) type Block = Arc<[Vec<u8>]>;

/// Which block, as of which change of its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HeldBlock {
    pub(crate) tier: Tier,
    pub(crate) id: SeriesId,
    pub(crate) start_ms: i64,
    /// The last pass that compacted one of its windows again; 0 when none did.
    pub(crate) folded: u32,
}

/// What was seen of a bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How often a read brought a segment that was not remembered.
    pub(crate) news: u64,
    /// The newest arrival of a normal segment.
    pub(crate) newest_arrival: Option<u64>,
}

/// The references that segments of a bucket and period named, in the order in which they were first seen.
#[derive(Debug, Default)]
struct References {
    /// The bucket's [`Seen::news`] before this was begun: what was seen earlier may be missing.
    since: u64,
    /// Bits, 65,536 to an entry: references are handed out one after the other.
    seen: HashMap<u16, Box<[u64; 1_024]>>,
    /// Each with the news that brought it, ascending.
    order: Vec<(u64, u32)>,
}

impl References {
    fn add(&mut self, news: u64, reference: u32) {
        let [high, low] = [reference >> 16, reference & 0xffff];
        // 16 bits each.
        let bits = self.seen.entry(high as u16).or_insert_with(|| Box::new([0; 1_024]));
        let (word, bit) = (&mut bits[low as usize / 64], 1 << (low % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.order.push((news, reference));
        }
    }

    fn bytes(&self) -> usize {
        self.seen.len() * 8_300 + self.order.len() * 16
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Window(Bucket, Window),
    References(Bucket, Period),
    Block(HeldBlock),
    Catalog(Arc<str>, Period),
}

#[derive(Clone, Debug)]
enum Held {
    Window(Arc<HeldWindow>),
    Block(Block),
    Catalog(Arc<HeldCatalog>),
    References(Arc<References>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Recall {
    budget: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    entries: HashMap<Key, Slot>,
    /// By the moment of the last use.
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
    seen: HashMap<Bucket, Seen>,
    /// When the oldest of it may have been read.
    begun_ms: Option<i64>,
}

#[derive(Debug)]
struct Slot {
    held: Held,
    bytes: usize,
    used: u64,
}

impl Recall {
    /// Nothing, with room for so many bytes.
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked while it held the lock left the maps whole, or at worst counted too much.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything when it was begun too long ago: the progress of a bucket does not name for ever which blocks were
    /// replaced.
    pub(crate) fn forget_old(&self, now_ms: i64) {
        let mut state = self.state();
        let begun_ms = *state.begun_ms.get_or_insert(now_ms);
        if now_ms.saturating_sub(begun_ms) >= MAX_AGE_MS {
            state.entries.clear();
            state.by_use.clear();
            state.bytes = 0;
            state.begun_ms = Some(now_ms);
        }
    }

    /// How many bytes are remembered.
    pub(crate) fn bytes(&self) -> usize {
        self.state().bytes
    }

    pub(crate) fn window(&self, bucket: Bucket, window: Window) -> Option<Arc<HeldWindow>> {
        match self.state().get(&Key::Window(bucket, window))? {
            Held::Window(held) => Some(held),
            _ => None,
        }
    }

    pub(crate) fn keep_window(&self, bucket: Bucket, window: Window, held: Arc<HeldWindow>) {
        let bytes = held.bytes();
        self.state()
            .put(Key::Window(bucket, window), Held::Window(held), bytes, self.budget);
    }

    pub(crate) fn catalog(&self, metric: &str, period: Period) -> Option<Arc<HeldCatalog>> {
        match self.state().get(&Key::Catalog(metric.into(), period))? {
            Held::Catalog(held) => Some(held),
            _ => None,
        }
    }

    pub(crate) fn keep_catalog(&self, metric: &str, period: Period, held: Arc<HeldCatalog>) {
        let bytes = held.bytes();
        self.state().put(
            Key::Catalog(metric.into(), period),
            Held::Catalog(held),
            bytes,
            self.budget,
        );
    }

    /// The blocks that are remembered, one for each key.
    pub(crate) fn blocks(&self, keys: &[HeldBlock]) -> Vec<Option<Block>> {
        let mut state = self.state();
        let find = |key: &HeldBlock| match state.get(&Key::Block(*key))? {
            Held::Block(block) => Some(block),
            _ => None,
        };
        keys.iter().map(find).collect()
    }

    pub(crate) fn keep_block(&self, key: HeldBlock, block: Block) {
        let bytes = block.iter().map(|part| part.len() + 24).sum();
        self.state()
            .put(Key::Block(key), Held::Block(block), bytes, self.budget);
    }

    /// What was seen of a bucket so far.
    pub(crate) fn seen(&self, bucket: Bucket) -> Seen {
        self.state().seen.get(&bucket).copied().unwrap_or_default()
    }

    /// Notes that a read brought segments that were not remembered, and the newest arrival among the normal ones.
    pub(crate) fn note<'a>(
        &self,
        bucket: Bucket,
        period: Period,
        newest_arrival: Option<u64>,
        segments: impl Iterator<Item = &'a HeldSegment>,
    ) {
        let mut state = self.state();
        let seen = state.seen.entry(bucket).or_default();
        let since = seen.news;
        seen.news += 1;
        seen.newest_arrival = seen.newest_arrival.max(newest_arrival);
        let news = seen.news;
        let key = Key::References(bucket, period);
        // Nobody else holds it: it never leaves this lock.
        let mut references = match state.remove(&key) {
            Some(Held::References(known)) => Arc::try_unwrap(known).unwrap_or_default(),
            _ => References {
                since,
                ..References::default()
            },
        };
        for held in segments {
            for reference in held.segment.references() {
                references.add(news, *reference);
            }
        }
        let bytes = references.bytes();
        state.put(key, Held::References(Arc::new(references)), bytes, self.budget);
    }

    /// The references that segments of a bucket and period named since a number of [`Seen::news`], and none before. `None`
    /// when that was forgotten.
    pub(crate) fn named_since(&self, bucket: Bucket, period: Period, news: u64) -> Option<Vec<u32>> {
        let mut state = self.state();
        let Held::References(known) = state.get(&Key::References(bucket, period))? else {
            return None;
        };
        let from = known.order.partition_point(|(of, _)| *of <= news);
        (known.since <= news).then(|| known.order[from..].iter().map(|(_, reference)| *reference).collect())
    }
}

impl State {
    fn get(&mut self, key: &Key) -> Option<Held> {
        let slot = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(&slot.used);
        slot.used = self.uses;
        self.by_use.insert(self.uses, key.clone());
        Some(slot.held.clone())
    }

    fn put(&mut self, key: Key, held: Held, bytes: usize, budget: usize) {
        self.remove(&key);
        let bytes = bytes + ENTRY_BYTES;
        if bytes > budget {
            return;
        }
        while self.bytes + bytes > budget {
            let Some((_, oldest)) = self.by_use.pop_first() else {
                break;
            };
            self.remove(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key.clone());
        self.entries.insert(
            key,
            Slot {
                held,
                bytes,
                used: self.uses,
            },
        );
    }

    fn remove(&mut self, key: &Key) -> Option<Held> {
        let slot = self.entries.remove(key)?;
        self.by_use.remove(&slot.used);
        self.bytes -= slot.bytes;
        Some(slot.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(start_ms: i64) -> HeldBlock {
        HeldBlock {
            tier: Tier::Raw,
            id: SeriesId { name: 1, labels: 1 },
            start_ms,
            folded: 0,
        }
    }

    fn block(length: usize) -> Block {
        Arc::from(vec![vec![0; length]])
    }

    #[test]
    fn what_was_used_least_recently_goes_first_when_the_bytes_are_used_up() {
        let recall = Recall::new(4 * 1_300);
        for start_ms in 0..4 {
            recall.keep_block(key(start_ms), block(1_000));
        }
        assert!(recall.blocks(&[key(0)])[0].is_some());
        recall.keep_block(key(4), block(1_000));
        let there = recall.blocks(&[key(0), key(1), key(2), key(3), key(4)]);
        assert_eq!(
            there.iter().map(Option::is_some).collect::<Vec<_>>(),
            [true, false, true, true, true]
        );
        assert!(recall.bytes() <= 4 * 1_300);
    }

    #[test]
    fn what_is_larger_than_all_room_is_not_kept_and_drives_nothing_out() {
        let recall = Recall::new(2_000);
        recall.keep_block(key(0), block(500));
        recall.keep_block(key(1), block(5_000));
        assert!(recall.blocks(&[key(0)])[0].is_some());
        assert!(recall.blocks(&[key(1)])[0].is_none());
    }

    #[test]
    fn keeping_something_again_counts_it_once() {
        let recall = Recall::new(10_000);
        recall.keep_block(key(0), block(500));
        let once = recall.bytes();
        recall.keep_block(key(0), block(500));
        assert_eq!(recall.bytes(), once);
    }

    #[test]
    fn nothing_is_remembered_for_longer_than_a_day() {
        let recall = Recall::new(10_000);
        recall.forget_old(1_000);
        recall.keep_block(key(0), block(500));
        recall.forget_old(1_000 + DAY_MS - 1);
        assert!(recall.blocks(&[key(0)])[0].is_some());
        recall.forget_old(1_000 + DAY_MS);
        assert!(recall.blocks(&[key(0)])[0].is_none());
        assert_eq!(recall.bytes(), 0);
    }

    #[test]
    fn a_block_that_is_not_there_is_remembered_as_such() {
        let recall = Recall::new(10_000);
        recall.keep_block(key(0), Arc::from(Vec::new()));
        assert_eq!(recall.blocks(&[key(0)])[0].as_deref(), Some(&[][..]));
    }
}
