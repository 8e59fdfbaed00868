//! From a series' samples to its blocks, and on to the database.

use super::Stop;
use crate::chunk;
use crate::drain::OutOfTime;
use crate::layout::Layout;
use crate::rollup::{self, Rollup};
use crate::store::{Store, StoreError};
use crate::tier::{BlockKey, StoredBlock, Tier};
use tidemark_model::{DAY_MS, Sample, SeriesId, Window};

/// How many blocks are written at once. The database takes 25 in one call, and some calls side by side.
const BLOCKS_AT_ONCE: usize = 1_000;

/// How many bytes of blocks wait at most.
const BYTES_AT_ONCE: usize = 4_000_000;

/// Makes the blocks of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockMaker {
    pub(super) layout: Layout,
    pub(super) epoch: u32,
}

impl BlockMaker {
    /// The raw and the minute block of a series in a window.
    ///
    /// Where no minute holds more than one sample, aggregates would be larger than the samples and say less: the chunk stands
    /// in for the minute block, and lives as long.
    pub(super) fn window(
        &self,
        window: Window,
        id: SeriesId,
        samples: &[Sample],
    ) -> Result<Vec<StoredBlock>, StoreError> {
        let minutes = rollup::roll(samples, Tier::Minute.resolution_ms()).filter(Rollup::condenses);
        let end_ms = self.layout.window_end_ms(window);
        let expires_at_s = |tier| self.layout.block_expires_at_s(tier, end_ms);
        let chunk_expires_at_s = if minutes.is_some() {
            expires_at_s(Tier::Raw)
        } else {
            expires_at_s(Tier::Raw).max(expires_at_s(Tier::Minute))
        };
        let parts = chunk::split(samples);
        let mut blocks = Vec::with_capacity(parts.len() + 1);
        for (part, data) in parts.into_iter().enumerate() {
            // Two hours of samples of every millisecond take fewer parts than a byte counts.
            let part = u8::try_from(part).map_err(|_| StoreError::Corrupt {
                item: format!("series {id} in window {window}"),
                reason: "it has more samples than a block can hold".to_owned(),
            })?;
            blocks.push(StoredBlock {
                key: self.key(Tier::Raw, id, window.start_ms, part),
                data,
                expires_at_s: chunk_expires_at_s,
            });
        }
        blocks.extend(minutes.map(|minutes| StoredBlock {
            key: self.key(Tier::Minute, id, window.start_ms, 0),
            data: rollup::encode(&minutes, Tier::Minute.resolution_ms()),
            expires_at_s: expires_at_s(Tier::Minute),
        }));
        Ok(blocks)
    }

    /// The hour block of a series on a day.
    pub(super) fn day(&self, day_ms: i64, id: SeriesId, hours: &Rollup) -> StoredBlock {
        StoredBlock {
            key: self.key(Tier::Hour, id, day_ms, 0),
            data: rollup::encode(hours, Tier::Hour.resolution_ms()),
            expires_at_s: self
                .layout
                .block_expires_at_s(Tier::Hour, day_ms.saturating_add(DAY_MS)),
        }
    }

    fn key(&self, tier: Tier, id: SeriesId, start_ms: i64, part: u8) -> BlockKey {
        BlockKey {
            tier,
            id,
            start_ms,
            epoch: self.epoch,
            part,
        }
    }
}

/// Writes blocks in batches, and stops between two of them when time runs out.
pub(super) struct BlockWriter<'a, S, O> {
    store: &'a S,
    out_of_time: &'a O,
    waiting: Vec<StoredBlock>,
    bytes: usize,
    written: &'a mut u64,
}

impl<'a, S: Store, O: OutOfTime> BlockWriter<'a, S, O> {
    pub(super) fn new(store: &'a S, out_of_time: &'a O, written: &'a mut u64) -> Self {
        Self {
            store,
            out_of_time,
            waiting: Vec::new(),
            bytes: 0,
            written,
        }
    }

    pub(super) async fn write(&mut self, blocks: impl IntoIterator<Item = StoredBlock>) -> Result<(), Stop> {
        for block in blocks {
            self.bytes += block.data.len();
            self.waiting.push(block);
        }
        if self.waiting.len() < BLOCKS_AT_ONCE && self.bytes < BYTES_AT_ONCE {
            return Ok(());
        }
        self.flush().await?;
        if (self.out_of_time)() {
            Err(Stop::OutOfTime)
        } else {
            Ok(())
        }
    }

    /// Writes what waits. All is durable when this returns.
    pub(super) async fn finish(mut self) -> Result<(), Stop> {
        Ok(self.flush().await?)
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let count = waiting.len() as u64;
        if count > 0 {
            self.store.put_blocks(waiting).await?;
            *self.written += count;
        }
        Ok(())
    }
}
