//! A store for tests of this crate that fails, and that lets something happen, at any one of its calls.

use super::MemoryStore;
use crate::progress::{Progress, Step};
use crate::sequence::{SequenceNumber, ShardId};
use crate::store::{
    Advance, CatalogEntry, Checkpoint, Division, NewCatalogEntry, SegmentOrder, Store, StoreError, StoredSegment,
};
use crate::tier::{BlockKey, StoredBlock, Tier};
use std::sync::{Arc, Mutex};
use tidemark_model::{Bucket, Period, SeriesId, Window};

/// What becomes of a write that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Nothing of it is done.
    Before,
    /// Half of it is done; nothing when it is one item.
    Midway,
    /// All of it is done, and only the answer is lost.
    After,
}

impl When {
    pub(crate) const ALL: [Self; 3] = [Self::Before, Self::Midway, Self::After];
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Plan {
    writes: usize,
    calls: usize,
    fault: Option<(usize, When)>,
    /// Whether nothing answers any more after the fault: the process has died.
    dies: bool,
    dead: bool,
    /// What to do before a call.
    hook: Option<(usize, Hook)>,
}

/// See the module.
pub(crate) struct Faulty {
    pub(crate) inner: Arc<MemoryStore>,
    plan: Mutex<Plan>,
}

impl Faulty {
    /// A store that never fails.
    pub(crate) fn sound(inner: Arc<MemoryStore>) -> Self {
        Self {
            inner,
            plan: Mutex::default(),
        }
    }

    /// A store whose write of this number fails.
    pub(crate) fn failing(inner: Arc<MemoryStore>, write: usize, when: When, dies: bool) -> Self {
        let faulty = Self::sound(inner);
        *faulty.plan.lock().unwrap() = Plan {
            fault: Some((write, when)),
            dies,
            ..Plan::default()
        };
        faulty
    }

    /// A store that does something before the call of this number.
    pub(crate) fn hooked(inner: Arc<MemoryStore>, call: usize, hook: impl FnOnce() + Send + 'static) -> Self {
        let faulty = Self::sound(inner);
        faulty.plan.lock().unwrap().hook = Some((call, Box::new(hook)));
        faulty
    }

    /// Lets a write fail, after so many more.
    pub(crate) fn fail(&self, after: usize, when: When) {
        let mut plan = self.plan.lock().unwrap();
        plan.fault = Some((plan.writes + after, when));
    }

    /// Whether the write was not reached.
    pub(crate) fn is_unharmed(&self) -> bool {
        self.plan.lock().unwrap().fault.is_some()
    }

    /// How many calls there were.
    pub(crate) fn calls(&self) -> usize {
        self.plan.lock().unwrap().calls
    }

    fn call(&self) -> Result<(), StoreError> {
        let mut plan = self.plan.lock().unwrap();
        if plan.dead {
            return Err(failed());
        }
        let number = plan.calls;
        plan.calls += 1;
        let hook = plan.hook.take_if(|(at, _)| *at == number);
        // The hook may call this store.
        drop(plan);
        if let Some((_, hook)) = hook {
            hook();
        }
        Ok(())
    }

    fn write(&self) -> Result<Option<When>, StoreError> {
        self.call()?;
        let mut plan = self.plan.lock().unwrap();
        let number = plan.writes;
        plan.writes += 1;
        let fault = plan.fault.take_if(|(at, _)| *at == number);
        plan.dead = plan.dies && fault.is_some();
        Ok(fault.map(|(_, when)| when))
    }

    async fn many<T>(
        &self,
        mut items: Vec<T>,
        write: impl AsyncFnOnce(Vec<T>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let when = self.write()?;
        match when {
            Some(When::Before) => return Err(failed()),
            Some(When::Midway) => items.truncate(items.len() / 2),
            Some(When::After) | None => {}
        }
        write(items).await?;
        when.map_or(Ok(()), |_| Err(failed()))
    }

    async fn one<T>(&self, write: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match self.write()? {
            None => write.await,
            Some(When::After) => write.await.and(Err(failed())),
            Some(When::Before | When::Midway) => Err(failed()),
        }
    }
}

fn failed() -> StoreError {
    StoreError::Unavailable {
        operation: "a test",
        source: None,
    }
}

impl Store for Faulty {
    async fn put_segments(&self, segments: Vec<StoredSegment>) -> Result<(), StoreError> {
        self.many(segments, async |segments| self.inner.put_segments(segments).await)
            .await
    }
    async fn segments(
        &self,
        bucket: Bucket,
        window: Window,
        after: Option<SegmentOrder>,
    ) -> Result<Vec<StoredSegment>, StoreError> {
        self.call()?;
        self.inner.segments(bucket, window, after).await
    }
    async fn catalog(&self, metric: &str, period: Period, after: Option<i64>) -> Result<Vec<CatalogEntry>, StoreError> {
        self.call()?;
        self.inner.catalog(metric, period, after).await
    }
    async fn allocate_references(&self, bucket: Bucket, count: u32) -> Result<u32, StoreError> {
        self.one(self.inner.allocate_references(bucket, count)).await
    }
    async fn add_to_catalog(&self, entries: Vec<NewCatalogEntry>) -> Result<(), StoreError> {
        // Two writes, one after the other: the names, then the series.
        let names = entries.clone();
        self.many(names, async |names| {
            self.inner.add_names(&names);
            Ok(())
        })
        .await?;
        self.many(entries, async |entries| self.inner.add_to_catalog(entries).await)
            .await
    }
    async fn metric_names(&self, period: Period) -> Result<Vec<String>, StoreError> {
        self.call()?;
        self.inner.metric_names(period).await
    }
    async fn checkpoint(&self, shard: &ShardId) -> Result<Option<Checkpoint>, StoreError> {
        self.call()?;
        self.inner.checkpoint(shard).await
    }
    async fn advance_checkpoint(
        &self,
        shard: &ShardId,
        from: Option<SequenceNumber>,
        to: &Checkpoint,
    ) -> Result<Advance, StoreError> {
        self.one(self.inner.advance_checkpoint(shard, from, to)).await
    }
    async fn checkpoints(&self) -> Result<Vec<(ShardId, Checkpoint)>, StoreError> {
        self.call()?;
        self.inner.checkpoints().await
    }
    async fn put_blocks(&self, blocks: Vec<StoredBlock>) -> Result<(), StoreError> {
        self.many(blocks, async |blocks| self.inner.put_blocks(blocks).await)
            .await
    }
    async fn blocks(&self, tier: Tier, id: SeriesId, from_ms: i64, to_ms: i64) -> Result<Vec<StoredBlock>, StoreError> {
        self.call()?;
        self.inner.blocks(tier, id, from_ms, to_ms).await
    }
    async fn delete_blocks(&self, keys: Vec<BlockKey>) -> Result<(), StoreError> {
        self.many(keys, async |keys| self.inner.delete_blocks(keys).await).await
    }
    async fn progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        self.call()?;
        self.inner.progress(bucket).await
    }
    async fn begin_pass(&self, bucket: Bucket, epoch: u32, until_ms: i64) -> Result<Option<Progress>, StoreError> {
        self.one(self.inner.begin_pass(bucket, epoch, until_ms)).await
    }
    async fn advance_progress(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        self.one(self.inner.advance_progress(bucket, epoch, step)).await
    }
    async fn mark_dirty(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        self.one(self.inner.mark_dirty(bucket, windows)).await
    }
    async fn pin_division(&self, division: Division) -> Result<Division, StoreError> {
        self.one(self.inner.pin_division(division)).await
    }
}

/// Runs a future whose waits are all over at once; also inside another one.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}
