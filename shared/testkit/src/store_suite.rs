//! What every [`Store`] must do, as one check that runs against a store of any kind: the one in memory in this crate's
//! tests, the one on DynamoDB in the tests that have an emulator.

mod blocks;
mod progress;

use std::collections::BTreeSet;
use std::fmt::Debug;
use tidemark_model::{Bucket, Labels, Period, SeriesId, Window};
use tidemark_tsdb::store::{Advance, CatalogEntry, Checkpoint, NewCatalogEntry, SegmentOrder, StoredSegment};
use tidemark_tsdb::{SequenceNumber, ShardId, Store, StoreError};

/// A store does not do what its trait promises.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A promise that is not kept.
    #[error("{0}")]
    Promise(String),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), Broken> {
    if got == wanted {
        Ok(())
    } else {
        Err(Broken::Promise(format!("{what}: got {got:?}, wanted {wanted:?}")))
    }
}

/// Runs the whole suite. The store must be empty; what is written expires a day after `now_ms`.
///
/// # Errors
/// With the first promise that is not kept.
pub async fn check(store: &impl Store, now_ms: i64) -> Result<(), Broken> {
    let scene = Scene {
        store,
        now_ms,
        expires_at_s: now_ms / 1_000 + 86_400,
    };
    scene.segments().await?;
    scene.late_segments().await?;
    scene.many_and_large_segments().await?;
    scene.catalog().await?;
    scene.late_entries().await?;
    scene.many_series().await?;
    scene.references().await?;
    scene.checkpoints().await?;
    scene.blocks().await?;
    scene.blocks_are_deleted_by_their_keys().await?;
    scene.many_and_large_blocks().await?;
    scene.passes().await?;
    scene.boundaries().await?;
    scene.marks().await?;
    scene.many_marks().await?;
    scene.division().await
}

struct Scene<'a, S> {
    store: &'a S,
    now_ms: i64,
    expires_at_s: i64,
}

fn sequence(number: u64) -> SequenceNumber {
    // More digits than 128 bits hold, as on AWS.
    let text = format!("49590338271490256608559692538361571095{number:018}");
    SequenceNumber::parse(&text).unwrap_or(SequenceNumber::from_be_bytes([0; SequenceNumber::BYTES]))
}

impl<S: Store> Scene<'_, S> {
    fn segment(&self, bucket: u16, window_ms: i64, number: u64, data: Vec<u8>) -> StoredSegment {
        StoredSegment {
            bucket: Bucket(bucket),
            window: Window { start_ms: window_ms },
            late: false,
            order: SegmentOrder {
                arrival_ms: number,
                last: sequence(number),
                shard: 7,
                first_hash: u64::MAX - number,
                part: (number % 3) as u8,
                last_part: 2,
            },
            data,
            expires_at_s: self.expires_at_s,
        }
    }

    async fn found(&self, bucket: u16, window_ms: i64) -> Result<Vec<StoredSegment>, StoreError> {
        self.store
            .segments(Bucket(bucket), Window { start_ms: window_ms }, None)
            .await
    }

    async fn segments(&self) -> Result<(), Broken> {
        same("no segment", &self.found(1, 0).await?, &Vec::new())?;
        self.store.put_segments(Vec::new()).await?;
        let late = self.segment(1, 0, 300, vec![3]);
        let early = self.segment(1, 0, 2, Vec::from([0, 255, 10]));
        let elsewhere = self.segment(2, 0, 1, vec![4]);
        let before_1970 = self.segment(1, -7_200_000, 1, vec![5]);
        let all = vec![late.clone(), elsewhere.clone(), early.clone(), before_1970.clone()];
        self.store.put_segments(all.clone()).await?;
        same(
            "segments come in order",
            &self.found(1, 0).await?,
            &vec![early.clone(), late.clone()],
        )?;
        same("of one bucket", &self.found(2, 0).await?, &vec![elsewhere])?;
        same("of one window", &self.found(1, -7_200_000).await?, &vec![before_1970])?;
        self.store.put_segments(all).await?;
        same(
            "a batch again changes nothing",
            &self.found(1, 0).await?,
            &vec![early.clone(), late.clone()],
        )?;
        let replaced = StoredSegment {
            data: vec![9],
            ..early.clone()
        };
        self.store.put_segments(vec![early, replaced.clone()]).await?;
        same(
            "one key twice in a batch",
            &self.found(1, 0).await?,
            &vec![replaced, late],
        )
    }

    async fn late_segments(&self) -> Result<(), Broken> {
        let (bucket, window) = (Bucket(4), Window { start_ms: 0 });
        let normal: Vec<StoredSegment> = [10, 20, 30]
            .map(|number| self.segment(4, 0, number, vec![number as u8]))
            .to_vec();
        // One of them stands at the place of a normal one, and all come from earlier.
        let late: Vec<StoredSegment> = [1, 20, 25]
            .map(|number| StoredSegment {
                late: true,
                ..self.segment(4, 0, number, vec![100 + number as u8])
            })
            .to_vec();
        self.store
            .put_segments([&late[..2], &normal, &late[2..]].concat())
            .await?;
        let after = |order| self.store.segments(bucket, window, order);
        same(
            "normal segments, then late ones",
            &after(None).await?,
            &[&normal[..], &late].concat(),
        )?;
        same(
            "those after one, and every late one",
            &after(Some(normal[0].order)).await?,
            &[&normal[1..], &late].concat(),
        )?;
        same(
            "the late ones after the newest",
            &after(Some(normal[2].order)).await?,
            &late,
        )?;
        let between = SegmentOrder {
            first_hash: 0,
            ..normal[1].order
        };
        same(
            "those after a place that nobody has",
            &after(Some(between)).await?,
            &[&normal[1..], &late].concat(),
        )
    }

    async fn many_and_large_segments(&self) -> Result<(), Broken> {
        // More than a page of a database (1 MB) and than a batch of it (25 items).
        let mut all: Vec<StoredSegment> = (0..60)
            .map(|number| self.segment(3, 0, number, vec![number as u8; 100]))
            .collect();
        all.extend((60..64).map(|number| self.segment(3, 0, number, vec![number as u8; 379_000])));
        self.store.put_segments(all.clone()).await?;
        let found = self.found(3, 0).await?;
        same("all segments", &found.len(), &all.len())?;
        same("with their data", &(found == all), &true)
    }

    fn new_entry(&self, metric: &str, pairs: &[(&str, &str)], reference: u32) -> NewCatalogEntry {
        let labels = Labels::from_pairs(pairs.iter().copied()).unwrap_or_default();
        NewCatalogEntry {
            metric: metric.to_owned(),
            period: Period::of(self.now_ms),
            entry: CatalogEntry {
                id: SeriesId::new(metric, labels.iter()),
                reference,
                labels,
                first_seen_ms: self.now_ms + i64::from(reference),
                late: false,
            },
            expires_at_s: self.expires_at_s,
        }
    }

    async fn series(&self, metric: &str) -> Result<Vec<CatalogEntry>, StoreError> {
        let mut found = self.store.catalog(metric, Period::of(self.now_ms), None).await?;
        found.sort_by_key(|entry| entry.reference);
        Ok(found)
    }

    async fn catalog(&self) -> Result<(), Broken> {
        let period = Period::of(self.now_ms);
        same("no series", &self.series("cpu").await?, &Vec::new())?;
        same("no names", &self.store.metric_names(period).await?, &Vec::new())?;
        self.store.add_to_catalog(Vec::new()).await?;
        let odd = "series#1#größe of 漢字/\u{10ffff}";
        let longest = "m".repeat(tidemark_model::limits::MAX_METRIC_NAME_BYTES);
        let entries = vec![
            self.new_entry("cpu", &[], 0),
            self.new_entry("cpu", &[("host", ""), ("größe", "a\"#b\n")], 1),
            self.new_entry("cpu", &[("host", ""), ("größe", "a\"#b\n")], u32::MAX),
            self.new_entry(odd, &[("host", "web-01")], 2),
            self.new_entry(&longest, &[("host", "web-01")], 3),
        ];
        for _ in 0..2 {
            self.store.add_to_catalog(entries.clone()).await?;
        }
        let wanted: Vec<CatalogEntry> = entries[..3].iter().map(|new| new.entry.clone()).collect();
        same(
            "series of a metric, two references for one",
            &self.series("cpu").await?,
            &wanted,
        )?;
        same(
            "series of an odd name",
            &self.series(odd).await?,
            &vec![entries[3].entry.clone()],
        )?;
        same(
            "series of a long name",
            &self.series(&longest).await?,
            &vec![entries[4].entry.clone()],
        )?;
        same("no series of a longer name", &self.series("cpu#").await?, &Vec::new())?;
        let names = self.store.metric_names(period).await?;
        same(
            "names in order",
            &names,
            &vec!["cpu".to_owned(), longest, odd.to_owned()],
        )?;
        let next = Period(period.0 + 1);
        same(
            "names of another period",
            &self.store.metric_names(next).await?,
            &Vec::new(),
        )?;
        same(
            "series of another period",
            &self.store.catalog("cpu", next, None).await?,
            &Vec::new(),
        )
    }

    async fn late_entries(&self) -> Result<(), Broken> {
        let entry = |reference: u32, late| {
            let mut new = self.new_entry("late", &[("n", &reference.to_string())], reference);
            new.entry.late = late;
            new
        };
        let entries = [
            entry(10, false),
            entry(20, false),
            entry(30, false),
            entry(5, true),
            entry(40, true),
        ];
        self.store.add_to_catalog(entries.to_vec()).await?;
        let seen = |reference: i64| self.now_ms + reference;
        for (after, wanted) in [
            (None, &[10, 20, 30, 5, 40][..]),
            (Some(seen(9)), &[10, 20, 30, 5, 40]),
            (Some(seen(10)), &[20, 30, 5, 40]),
            (Some(seen(30)), &[5, 40]),
            (Some(seen(1_000)), &[5, 40]),
        ] {
            let found = self.store.catalog("late", Period::of(self.now_ms), after).await?;
            let wanted: Vec<&CatalogEntry> = wanted
                .iter()
                .flat_map(|reference| entries.iter().filter(move |new| new.entry.reference == *reference))
                .map(|new| &new.entry)
                .collect();
            let what = format!("entries first seen after {after:?}, then every late one");
            same(&what, &found.iter().collect(), &wanted)?;
        }
        Ok(())
    }

    async fn many_series(&self) -> Result<(), Broken> {
        let host = |number: u32| format!("host-{number:03}-{}", "x".repeat(4_000));
        let entries: Vec<NewCatalogEntry> = (0..400)
            .map(|number| self.new_entry("many", &[("host", &host(number))], number))
            .collect();
        self.store.add_to_catalog(entries.clone()).await?;
        let found = self.series("many").await?;
        let wanted: Vec<CatalogEntry> = entries.into_iter().map(|new| new.entry).collect();
        same("many series", &(found == wanted), &true)
    }

    async fn references(&self) -> Result<(), Broken> {
        let mut taken = BTreeSet::new();
        for count in [1, 5, 100] {
            let first = self.store.allocate_references(Bucket(9), count).await?;
            taken.extend(first..first + count);
        }
        same("references are handed out once", &taken.len(), &106)?;
        let other = self.store.allocate_references(Bucket(10), 1).await?;
        same("a bucket counts by itself", &other, &0)
    }

    async fn checkpoints(&self) -> Result<(), Broken> {
        let at = |number: u64, time_range_ms| Checkpoint {
            sequence: sequence(number),
            arrival_ms: number + 7,
            records: number,
            samples: number * 1_000,
            time_range_ms,
        };
        let (one, two) = (at(1, None), at(2, Some((-1, i64::MAX))));
        let shard = ShardId("shardId-000000000001".to_owned());
        let advance = |from: Option<&Checkpoint>, to: &Checkpoint| {
            let (from, to) = (from.map(|at| at.sequence), to.clone());
            async move {
                let shard = ShardId("shardId-000000000001".to_owned());
                self.store.advance_checkpoint(&shard, from, &to).await
            }
        };
        same("no checkpoint", &self.store.checkpoint(&shard).await?, &None)?;
        same("the first step", &advance(None, &one).await?, &Advance::Moved)?;
        same(
            "a second first step",
            &advance(None, &two).await?,
            &Advance::Elsewhere(one.clone()),
        )?;
        same("the next step", &advance(Some(&one), &two).await?, &Advance::Moved)?;
        let stale = at(3, None);
        same(
            "a stale step",
            &advance(Some(&one), &stale).await?,
            &Advance::Elsewhere(two.clone()),
        )?;
        same(
            "where it stands",
            &self.store.checkpoint(&shard).await?,
            &Some(two.clone()),
        )?;
        let other = ShardId("shardId-000000000000".to_owned());
        let unknown = Some(sequence(50));
        let moved = self.store.advance_checkpoint(&other, unknown, &one).await?;
        same("a checkpoint that is gone starts anew", &moved, &Advance::Moved)?;
        same(
            "all shards in order",
            &self.store.checkpoints().await?,
            &vec![(other, one), (shard, two)],
        )
    }
}

#[cfg(test)]
mod tests {
    use tidemark_tsdb::memory::MemoryStore;

    #[tokio::test]
    async fn the_memory_store_keeps_every_promise() {
        super::check(&MemoryStore::default(), 1_795_000_000_000).await.unwrap();
    }
}
