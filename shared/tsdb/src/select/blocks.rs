//! Reading blocks: only those that are not remembered.
//!
//! A block is written once. What the windows of a block hold changes only by a later pass that compacts one of them again,
//! and the bucket's progress names it; so a block is remembered as of that pass. Of several epochs the greatest holds, among
//! those of passes that had begun when the progress was read: a later pass may be in the middle of writing. When only later
//! ones are left, what they replaced has been deleted, and they are complete.

use crate::bounded;
use crate::progress::Progress;
use crate::recall::{Block, HeldBlock, Recall};
use crate::store::{Store, StoreError};
use crate::tier::{StoredBlock, Tier, windows_of_day};
use std::sync::Arc;
use tidemark_model::{SeriesId, Window, WindowLength};

/// Blocks of one series.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) id: SeriesId,
    /// Where they start, ascending.
    pub(super) starts: Vec<i64>,
}

/// What blocks are read through.
pub(super) struct Blocks<'a, S> {
    pub(super) store: &'a S,
    pub(super) recall: &'a Recall,
    pub(super) progress: &'a Progress,
    pub(super) window: WindowLength,
}

impl<S: Store> Blocks<'_, S> {
    /// The blocks, for each series one for each start.
    pub(super) async fn read(&self, tier: Tier, wanted: &[Wanted]) -> Result<Vec<Vec<Block>>, StoreError> {
        let reads: Vec<_> = wanted.iter().map(|one| self.of_series(tier, one)).collect();
        bounded::all(reads).await.into_iter().collect()
    }

    async fn of_series(&self, tier: Tier, wanted: &Wanted) -> Result<Vec<Block>, StoreError> {
        let keys: Vec<HeldBlock> = wanted
            .starts
            .iter()
            .map(|start| self.key(tier, wanted.id, *start))
            .collect();
        let mut blocks = self.recall.blocks(&keys);
        let missing = |block: &Option<Block>| block.is_none();
        let range = blocks.iter().position(missing).zip(blocks.iter().rposition(missing));
        if let Some((first, last)) = range {
            let found = self
                .store
                .blocks(tier, wanted.id, wanted.starts[first], wanted.starts[last])
                .await?;
            for (slot, key) in blocks[first..=last].iter_mut().zip(&keys[first..=last]) {
                if slot.is_none() {
                    *slot = Some(self.newest(&found, *key));
                }
            }
        }
        Ok(blocks.into_iter().flatten().collect())
    }

    fn key(&self, tier: Tier, id: SeriesId, start_ms: i64) -> HeldBlock {
        let folded = |window: Window| self.progress.folded.get(&window).copied().unwrap_or(0);
        HeldBlock {
            tier,
            id,
            start_ms,
            folded: match tier {
                Tier::Raw | Tier::Minute => folded(Window { start_ms }),
                Tier::Hour => windows_of_day(self.window, start_ms).map(folded).max().unwrap_or(0),
            },
        }
    }

    /// The block that holds among those that were found, in order of their keys; it is remembered.
    fn newest(&self, found: &[StoredBlock], key: HeldBlock) -> Block {
        let from = found.partition_point(|block| block.key.start_ms < key.start_ms);
        let to = found.partition_point(|block| block.key.start_ms <= key.start_ms);
        let all = &found[from..to];
        let begun = all.partition_point(|block| block.key.epoch <= self.progress.epoch);
        // One that is being deleted has lost its first part first.
        let newest = |blocks: &[StoredBlock]| {
            blocks
                .iter()
                .rev()
                .find(|block| block.key.part == 0)
                .map(|block| block.key.epoch)
        };
        let epoch = newest(&all[..begun]).or_else(|| newest(all));
        let parts = all.iter().filter(|block| Some(block.key.epoch) == epoch);
        let block: Block = parts.map(|block| block.data.clone()).collect::<Vec<_>>().into();
        if begun == all.len() {
            self.recall.keep_block(key, Arc::clone(&block));
        }
        block
    }
}
