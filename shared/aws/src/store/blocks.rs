//! Blocks of compacted data.

use super::DynamoStore;
use super::items::{DATA, take_data};
use crate::database::{Attributes, Item, Wanted, b, n};
use crate::keys::{BlockPlace, EXPIRES_AT, PK, SK};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tidemark_model::SeriesId;
use tidemark_tsdb::tier::{BlockKey, StoredBlock};
use tidemark_tsdb::{StoreError, Tier};

/// How many items of a write share one time limit. A compaction writes a few for every series of a bucket, so that the time for
/// one write has to grow with it.
const ITEMS_IN_TIME: usize = 2_000;

impl DynamoStore {
    fn table_of(&self, tier: Tier) -> &str {
        match tier {
            Tier::Raw => &self.tables.metrics,
            Tier::Minute | Tier::Hour => &self.tables.aggregates,
        }
    }

    pub(super) async fn write_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        // One call may not name a key twice; of two writes of one key the later counts.
        let mut by_table: BTreeMap<&str, BTreeMap<BlockKey, Item>> = BTreeMap::new();
        for block in blocks {
            let table = by_table.entry(self.table_of(block.key.tier)).or_default();
            table.insert(block.key, block_item(block));
        }
        for (table, items) in by_table {
            for part in in_parts(items.into_values().collect()) {
                self.database.put_all(table, part).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn remove_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        let mut by_table: BTreeMap<&str, BTreeSet<BlockKey>> = BTreeMap::new();
        for key in keys {
            by_table.entry(self.table_of(key.tier)).or_default().insert(key);
        }
        for (table, keys) in by_table {
            for part in in_parts(keys.into_iter().map(key_item).collect()) {
                self.database.delete_all(table, part).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn read_blocks(
        &self,
        tier: Tier,
        id: SeriesId,
        (from_ms, to_ms): (i64, i64),
    ) -> Result<Vec<StoredBlock>, StoreError> {
        // DynamoDB refuses a range that ends before it begins.
        if from_ms > to_ms {
            return Ok(Vec::new());
        }
        let (least, greatest) = BlockPlace::range(from_ms, to_ms);
        let range = vec![(":least", b(least)), (":greatest", b(greatest))];
        let wanted = Wanted {
            sort: Some(("#sk BETWEEN :least AND :greatest", range)),
            ..Wanted::all_of(b(BlockPlace::partition(tier, id)))
        };
        let found = self.unexpired(self.table_of(tier), wanted).await?;
        found.into_iter().map(read_block).collect()
    }
}

fn in_parts(mut items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut parts = Vec::new();
    while items.len() > ITEMS_IN_TIME {
        let rest = items.split_off(ITEMS_IN_TIME);
        parts.push(std::mem::replace(&mut items, rest));
    }
    parts.push(items);
    parts
}

fn key_item(key: BlockKey) -> Item {
    let place = BlockPlace(key);
    HashMap::from([(PK.to_owned(), b(place.pk())), (SK.to_owned(), b(place.sk()))])
}

fn block_item(block: StoredBlock) -> Item {
    let mut item = key_item(block.key);
    item.insert(DATA.to_owned(), b(block.data));
    item.insert(EXPIRES_AT.to_owned(), n(block.expires_at_s));
    item
}

fn read_block(mut item: Item) -> Result<StoredBlock, StoreError> {
    let attributes = Attributes(&item);
    let place = BlockPlace::parse(attributes.bytes(PK)?, attributes.bytes(SK)?)
        .map_err(|error| attributes.corrupt(error.to_string()))?;
    let expires_at_s = attributes.number(EXPIRES_AT)?;
    Ok(StoredBlock {
        key: place.0,
        data: take_data(&mut item)?,
        expires_at_s,
    })
}
