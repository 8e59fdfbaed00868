//! Blocks: found by tier, series and start, whatever their sizes and numbers.

use super::{Broken, Scene, same};
use tidemark_model::SeriesId;
use tidemark_tsdb::tier::{BlockKey, StoredBlock};
use tidemark_tsdb::{Store, StoreError, Tier};

const HOUR_MS: i64 = 3_600_000;

/// The largest data of a block: with its keys it is what DynamoDB takes for one item, as segments are.
const LARGEST: usize = 379_000;

fn id(number: u64) -> SeriesId {
    SeriesId {
        name: u64::MAX - number,
        labels: number,
    }
}

fn key(tier: Tier, number: u64, start_ms: i64, (epoch, part): (u32, u8)) -> BlockKey {
    BlockKey {
        tier,
        id: id(number),
        start_ms,
        epoch,
        part,
    }
}

impl<S: Store> Scene<'_, S> {
    fn block(&self, key: BlockKey, data: Vec<u8>) -> StoredBlock {
        StoredBlock {
            key,
            data,
            expires_at_s: self.expires_at_s,
        }
    }

    async fn blocks_of(&self, tier: Tier, number: u64, range: (i64, i64)) -> Result<Vec<BlockKey>, StoreError> {
        let found = self.store.blocks(tier, id(number), range.0, range.1).await?;
        Ok(found.into_iter().map(|block| block.key).collect())
    }

    pub(super) async fn blocks(&self) -> Result<(), Broken> {
        let everything = (i64::MIN, i64::MAX);
        same(
            "no block",
            &self.blocks_of(Tier::Raw, 1, everything).await?,
            &Vec::new(),
        )?;
        self.store.put_blocks(Vec::new()).await?;
        let mut all = Vec::new();
        for tier in Tier::ALL {
            // In order, also before 1970 and at the ends of time.
            for start_ms in [i64::MIN, -HOUR_MS, 0, HOUR_MS, 2 * HOUR_MS, i64::MAX] {
                for version in [(1, 0), (1, 1), (2, 0), (256, 0), (u32::MAX, 255)] {
                    let data = vec![version.1, tier as u8];
                    all.push(self.block(key(tier, 1, start_ms, version), data));
                }
            }
        }
        let elsewhere = self.block(key(Tier::Raw, 2, 0, (1, 0)), Vec::new());
        let mut shuffled = all.clone();
        shuffled.rotate_left(37);
        shuffled.reverse();
        shuffled.push(elsewhere.clone());
        for _ in 0..2 {
            self.store.put_blocks(shuffled.clone()).await?;
        }
        for tier in Tier::ALL {
            let of_tier: Vec<&StoredBlock> = all.iter().filter(|block| block.key.tier == tier).collect();
            for range in [
                everything,
                (-HOUR_MS, HOUR_MS),
                (-HOUR_MS + 1, HOUR_MS - 1),
                (HOUR_MS, HOUR_MS),
                (1, HOUR_MS - 1),
                (HOUR_MS, 0),
            ] {
                let found = self.store.blocks(tier, id(1), range.0, range.1).await?;
                let wanted = of_tier
                    .iter()
                    .filter(|block| range.0 <= block.key.start_ms && block.key.start_ms <= range.1);
                let what = format!("blocks of {tier} that start in {range:?}");
                same(&what, &found.iter().collect(), &wanted.copied().collect::<Vec<_>>())?;
            }
        }
        let found = self.store.blocks(Tier::Raw, id(2), 0, 0).await?;
        same("of one series, with no data", &found, &vec![elsewhere.clone()])?;
        let replaced = self.block(elsewhere.key, vec![7]);
        self.store.put_blocks(vec![elsewhere, replaced.clone()]).await?;
        let found = self.store.blocks(Tier::Raw, id(2), 0, 0).await?;
        same("one key twice in a write", &found, &vec![replaced])
    }

    pub(super) async fn blocks_are_deleted_by_their_keys(&self) -> Result<(), Broken> {
        let keys: Vec<BlockKey> = Tier::ALL
            .into_iter()
            .flat_map(|tier| [(1, 0), (1, 1), (2, 0)].map(|version| key(tier, 3, -HOUR_MS, version)))
            .collect();
        let blocks = keys.iter().map(|key| self.block(*key, vec![1])).collect();
        self.store.put_blocks(blocks).await?;
        self.store.delete_blocks(Vec::new()).await?;
        let (old, new): (Vec<BlockKey>, Vec<BlockKey>) = keys.into_iter().partition(|key| key.epoch == 1);
        for _ in 0..2 {
            // Twice in a call, and again when they are gone.
            self.store.delete_blocks([&old[..], &old].concat()).await?;
            for tier in Tier::ALL {
                let left: Vec<BlockKey> = new.iter().copied().filter(|key| key.tier == tier).collect();
                let found = self.blocks_of(tier, 3, (i64::MIN, i64::MAX)).await?;
                same("what was not deleted", &found, &left)?;
            }
        }
        Ok(())
    }

    pub(super) async fn many_and_large_blocks(&self) -> Result<(), Broken> {
        // Of one series more than a page of a database (1 MB), among them the largest; of many series one each.
        let start = |number: u64| number as i64 * HOUR_MS;
        let mut of_one: Vec<StoredBlock> = (0..2_500)
            .map(|number| self.block(key(Tier::Minute, 4, start(number), (1, 0)), vec![number as u8; 500]))
            .collect();
        for number in 2_500..2_504 {
            let data = vec![number as u8; LARGEST];
            of_one.push(self.block(key(Tier::Minute, 4, start(number), (1, 0)), data));
        }
        let of_many: Vec<StoredBlock> = (0..2_500)
            .map(|number| self.block(key(Tier::Raw, 1_000 + number, 0, (1, 0)), vec![number as u8; 40]))
            .collect();
        self.store
            .put_blocks([of_one.clone(), of_many.clone()].concat())
            .await?;
        let found = self.store.blocks(Tier::Minute, id(4), 0, i64::MAX).await?;
        same("many blocks", &found.len(), &of_one.len())?;
        same("with their data", &(found == of_one), &true)?;
        for block in of_many.iter().step_by(499) {
            let found = self.store.blocks(Tier::Raw, block.key.id, 0, 0).await?;
            same("a block among many", &found, &vec![block.clone()])?;
        }
        self.store
            .delete_blocks(of_one.iter().map(|block| block.key).collect())
            .await?;
        let left = self.blocks_of(Tier::Minute, 4, (i64::MIN, i64::MAX)).await?;
        same("many blocks are deleted", &left, &Vec::new())
    }
}
