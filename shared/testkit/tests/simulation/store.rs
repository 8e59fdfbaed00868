//! The store as one process sees it: each call may let others go on, take long, fail before or after its work, or be the
//! last thing that the process does. Reads that a database gives in pages are put together from two moments.

use crate::sim::Process;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use tidemark_model::{Bucket, Period, SeriesId, Window};
use tidemark_tsdb::memory::MemoryStore;
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use tidemark_tsdb::stream::{DeadLetter, DeadLetters};
use tidemark_tsdb::tier::{BlockKey, StoredBlock, Tier};
use tidemark_tsdb::{SequenceNumber, ShardId};

/// See the module.
pub(crate) struct SimStore {
    inner: Arc<MemoryStore>,
    process: Arc<Process>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    Failed,
    LostAnswer,
    CrashBefore,
    CrashAfter,
    FailedAndStraggles,
    CrashedAndStraggles,
}

type Effect = Pin<Box<dyn Future<Output = ()> + Send>>;

fn unavailable(operation: &'static str) -> StoreError {
    StoreError::Unavailable {
        operation,
        source: None,
    }
}

impl SimStore {
    pub(crate) fn new(process: &Arc<Process>) -> Self {
        Self {
            inner: Arc::clone(&process.sim.store),
            process: Arc::clone(process),
        }
    }

    fn fate(&self, write: bool) -> Fate {
        let faults = self.process.sim.faults();
        self.process.count_call();
        self.process.sim.draw(|random| {
            let at = random.unit();
            let second = random.chance(0.5);
            let mut bound = faults.fail;
            if at < bound {
                return Fate::Failed;
            }
            bound += faults.crash;
            if at < bound {
                return if second && write {
                    Fate::CrashAfter
                } else {
                    Fate::CrashBefore
                };
            }
            bound += faults.lose;
            if write && at < bound {
                return Fate::LostAnswer;
            }
            bound += faults.straggle;
            if write && at < bound {
                return if second {
                    Fate::FailedAndStraggles
                } else {
                    Fate::CrashedAndStraggles
                };
            }
            Fate::Done
        })
    }

    /// A read begins: it fails, crashes, or is answered as of some moment after this.
    async fn begin(&self, operation: &'static str, what: String) -> Result<(), StoreError> {
        self.process.pause().await;
        match self.fate(false) {
            Fate::Done => {
                self.process.log(&format!("{operation} {what}"));
                Ok(())
            }
            Fate::Failed => {
                self.process.log(&format!("{operation} {what} fails"));
                Err(unavailable(operation))
            }
            _ => {
                self.process.crash().await;
                Ok(())
            }
        }
    }

    /// A read that is answered at once.
    async fn read<T>(
        &self,
        operation: &'static str,
        what: String,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.begin(operation, what).await?;
        let answer = ask.await;
        self.process.pause().await;
        answer
    }

    /// A write of one item. `effect` makes it again, for one that is done when nobody waits for it any more.
    async fn write<T: Debug>(
        &self,
        operation: &'static str,
        what: impl Debug,
        write: impl AsyncFnOnce(&MemoryStore) -> Result<T, StoreError>,
        effect: impl FnOnce(Arc<MemoryStore>) -> Effect,
    ) -> Result<T, StoreError> {
        self.process.pause().await;
        let fate = self.fate(true);
        let said = format!("{operation} {what:?}");
        match fate {
            Fate::Failed => {
                self.process.log(&format!("{said} fails"));
                return Err(unavailable(operation));
            }
            Fate::CrashBefore => self.process.crash().await,
            Fate::FailedAndStraggles | Fate::CrashedAndStraggles => {
                self.process.log(&format!("{said} straggles"));
                let effect = effect(Arc::clone(&self.inner));
                self.process
                    .sim
                    .straggle(format!("{} {said}", self.process.name), effect);
                if fate == Fate::CrashedAndStraggles {
                    self.process.crash().await;
                }
                return Err(unavailable(operation));
            }
            Fate::Done | Fate::LostAnswer | Fate::CrashAfter => {}
        }
        let answer = write(&self.inner).await;
        self.process.log(&format!("{said} -> {answer:?}"));
        match fate {
            Fate::CrashAfter => self.process.crash().await,
            Fate::LostAnswer => {
                self.process.log(&format!("{operation} loses its answer"));
                return Err(unavailable(operation));
            }
            _ => self.process.pause().await,
        }
        answer
    }

    /// A write of many items: where it does not succeed, any of them may have been written. They become visible one by one.
    async fn write_many<T: Clone + Send + 'static>(
        &self,
        operation: &'static str,
        items: Vec<T>,
        name: impl Fn(&T) -> String,
        write: impl AsyncFn(&MemoryStore, Vec<T>) -> Result<(), StoreError>,
        effect: impl FnOnce(Arc<MemoryStore>, Vec<T>) -> Effect,
    ) -> Result<(), StoreError> {
        if items.is_empty() {
            return Ok(());
        }
        self.process.pause().await;
        let fate = self.fate(true);
        let names: Vec<String> = items.iter().map(name).collect();
        let said = format!("{operation} {}", names.join(", "));
        let whole = matches!(fate, Fate::Done | Fate::LostAnswer | Fate::CrashAfter) && {
            fate == Fate::Done || self.process.sim.draw(|random| random.chance(0.3))
        };
        let first: BTreeSet<usize> = self
            .process
            .sim
            .draw(|random| (0..items.len()).filter(|_| random.chance(0.5)).collect());
        let (front, back): (Vec<_>, Vec<_>) = items.into_iter().enumerate().partition(|(at, _)| first.contains(at));
        let plain = |items: Vec<(usize, T)>| items.into_iter().map(|(_, item)| item).collect::<Vec<T>>();
        let (front, back) = (plain(front), plain(back));
        match fate {
            Fate::CrashBefore => self.process.crash().await,
            Fate::FailedAndStraggles | Fate::CrashedAndStraggles => {
                self.process
                    .log(&format!("{said} straggles, {first:?} are written now"));
                write(&self.inner, front).await?;
                let effect = effect(Arc::clone(&self.inner), back);
                self.process
                    .sim
                    .straggle(format!("{} {said}", self.process.name), effect);
                if fate == Fate::CrashedAndStraggles {
                    self.process.crash().await;
                }
                return Err(unavailable(operation));
            }
            Fate::Failed => {
                self.process.log(&format!("{said} fails"));
                return Err(unavailable(operation));
            }
            Fate::Done | Fate::LostAnswer | Fate::CrashAfter => {}
        }
        self.process.log(&said);
        write(&self.inner, front).await?;
        if whole {
            self.process.pause().await;
            write(&self.inner, back).await?;
        } else {
            self.process.log(&format!("of {operation} only {first:?} are written"));
        }
        match fate {
            Fate::CrashAfter => self.process.crash().await,
            Fate::LostAnswer => {
                self.process.log(&format!("{operation} loses its answer"));
                return Err(unavailable(operation));
            }
            _ => self.process.pause().await,
        }
        Ok(())
    }

    /// A read that is answered in pages: some of the items are as of one moment, those behind a place as of a later one.
    async fn read_pages<T, K: Ord, F: Future<Output = Result<Vec<T>, StoreError>>>(
        &self,
        operation: &'static str,
        what: String,
        key: impl Fn(&T) -> K,
        ask: impl Fn() -> F,
    ) -> Result<Vec<T>, StoreError> {
        self.begin(operation, what).await?;
        let mut first = ask().await?;
        let cut = self.process.sim.draw(|random| {
            let pages = random.chance(0.3);
            pages.then(|| random.below(first.len() + 1))
        });
        if let Some(cut) = cut {
            self.process.pause().await;
            first.truncate(cut);
            let last = first.last().map(&key);
            let rest = ask().await?;
            first.extend(rest.into_iter().filter(|item| Some(key(item)) > last));
        }
        self.process.pause().await;
        Ok(first)
    }
}

fn order(order: &SegmentOrder) -> String {
    format!(
        "{}/{}/{}/{:04x}/{}-{}",
        order.arrival_ms,
        order.last,
        order.shard,
        order.first_hash >> 48,
        order.part,
        order.last_part
    )
}

fn segment_name(segment: &StoredSegment) -> String {
    let late = if segment.late { "late " } else { "" };
    format!("{late}{}#{}@{}", segment.bucket, segment.window, order(&segment.order))
}

fn block_name(key: &BlockKey) -> String {
    format!(
        "{}:{:04x}{:04x}#{}e{}p{}",
        key.tier,
        key.id.name >> 48,
        key.id.labels >> 48,
        key.start_ms,
        key.epoch,
        key.part
    )
}

impl Store for SimStore {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        let effect = |store: Arc<MemoryStore>, items| -> Effect {
            Box::pin(async move { drop(store.put_segments(items).await) })
        };
        let write = async |store: &MemoryStore, items| store.put_segments(items).await;
        self.write_many("put_segments", segments, segment_name, write, effect)
            .await
    }

    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        let what = format!(
            "{bucket}#{window} after {}",
            after.as_ref().map(order).unwrap_or_default()
        );
        let key = |segment: &StoredSegment| (segment.late, segment.order);
        self.read_pages("segments", what, key, || self.inner.segments(bucket, window, after))
            .await
    }

    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        let key = |entry: &CatalogEntry| (entry.late, entry.first_seen_ms, entry.id, entry.reference);
        let what = format!("{metric}#{period} after {after:?}");
        self.read_pages("catalog", what, key, || self.inner.catalog(metric, period, after))
            .await
    }

    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        let write = async |store: &MemoryStore| store.allocate_references(bucket, count).await;
        let effect = move |store: Arc<MemoryStore>| -> Effect {
            Box::pin(async move { drop(store.allocate_references(bucket, count).await) })
        };
        self.write("allocate_references", (bucket.0, count), write, effect)
            .await
    }

    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        let name = |new: &NewCatalogEntry| {
            format!(
                "{}#{} {} late={} seen {}",
                new.metric, new.period, new.entry.reference, new.entry.late, new.entry.first_seen_ms
            )
        };
        let effect = |store: Arc<MemoryStore>, items| -> Effect {
            Box::pin(async move { drop(store.add_to_catalog(items).await) })
        };
        let write = async |store: &MemoryStore, items| store.add_to_catalog(items).await;
        // The names of all are there before any of the series, also when none of those follows.
        self.inner.add_names(&entries);
        self.write_many("add_to_catalog", entries, name, write, effect).await
    }

    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        self.read("metric_names", period.to_string(), self.inner.metric_names(period))
            .await
    }

    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        self.read("checkpoint", shard.number().to_string(), self.inner.checkpoint(shard))
            .await
    }

    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        let what = format!(
            "{} from {from:?} to {} arrival {}",
            shard.number(),
            to.sequence,
            to.arrival_ms
        );
        let write = async |store: &MemoryStore| store.advance_checkpoint(shard, from, to).await;
        let (shard, to) = (shard.clone(), to.clone());
        let effect = move |store: Arc<MemoryStore>| -> Effect {
            Box::pin(async move { drop(store.advance_checkpoint(&shard, from, &to).await) })
        };
        self.write("advance_checkpoint", what, write, effect).await
    }

    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        let key = |(shard, _): &(ShardId, Checkpoint)| shard.clone();
        self.read_pages("checkpoints", String::new(), key, || self.inner.checkpoints())
            .await
    }

    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        let effect =
            |store: Arc<MemoryStore>, items| -> Effect { Box::pin(async move { drop(store.put_blocks(items).await) }) };
        let write = async |store: &MemoryStore, items| store.put_blocks(items).await;
        self.write_many("put_blocks", blocks, |block| block_name(&block.key), write, effect)
            .await
    }

    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        let what = format!(
            "{tier} {:04x}{:04x} {from_ms}..={to_ms}",
            id.name >> 48,
            id.labels >> 48
        );
        let key = |block: &StoredBlock| block.key;
        self.read_pages("blocks", what, key, || self.inner.blocks(tier, id, from_ms, to_ms))
            .await
    }

    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        let effect = |store: Arc<MemoryStore>, items| -> Effect {
            Box::pin(async move { drop(store.delete_blocks(items).await) })
        };
        let write = async |store: &MemoryStore, items| store.delete_blocks(items).await;
        self.write_many("delete_blocks", keys, block_name, write, effect).await
    }

    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        self.read("progress", bucket.to_string(), self.inner.progress(bucket))
            .await
    }

    async fn begin_pass(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> Result<Option<Progress>, StoreError> {
        let write = async |store: &MemoryStore| store.begin_pass(bucket, epoch, leased_until_ms).await;
        let effect = move |store: Arc<MemoryStore>| -> Effect {
            Box::pin(async move { drop(store.begin_pass(bucket, epoch, leased_until_ms).await) })
        };
        self.write("begin_pass", (bucket.0, epoch), write, effect).await
    }

    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        let write = async |store: &MemoryStore| store.advance_progress(bucket, epoch, step).await;
        let effect = move |store: Arc<MemoryStore>| -> Effect {
            Box::pin(async move { drop(store.advance_progress(bucket, epoch, step).await) })
        };
        self.write("advance_progress", (bucket.0, epoch, step), write, effect)
            .await
    }

    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        let starts: Vec<i64> = windows.iter().map(|window| window.start_ms).collect();
        let write = async |store: &MemoryStore| store.mark_dirty(bucket, windows).await;
        let windows = windows.to_vec();
        let effect = move |store: Arc<MemoryStore>| -> Effect {
            Box::pin(async move { drop(store.mark_dirty(bucket, &windows).await) })
        };
        self.write("mark_dirty", (bucket.0, starts), write, effect).await
    }

    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        self.read("pin_division", String::new(), self.inner.pin_division(division))
            .await
    }
}

impl DeadLetters for SimStore {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StoreError> {
        let name = |letter: &DeadLetter| format!("{}/{}", letter.shard.number(), letter.sequence);
        let effect =
            |store: Arc<MemoryStore>, items| -> Effect { Box::pin(async move { drop(store.send(items).await) }) };
        let write = async |store: &MemoryStore, items| store.send(items).await;
        self.write_many("send", letters, name, write, effect).await
    }
}
