//! What a pass knows of the catalog: which series the references of a bucket mean.

use super::merge::{Decoded, Merged, References, Unmergeable, Wanted};
use crate::answer::chain;
use crate::bounded;
use crate::layout::Layout;
use crate::store::{Store, StoreError};
use std::collections::HashMap;
use tidemark_model::{Bucket, Period, Window, series};

/// The metrics of each period, by bucket: read once for many buckets.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<Period, HashMap<Bucket, Vec<String>>>);

impl Names {
    async fn read(&mut self, store: &impl Store, layout: &Layout, period: Period) -> Result<(), StoreError> {
        let mut by_bucket: HashMap<Bucket, Vec<String>> = HashMap::new();
        for name in store.metric_names(period).await? {
            let bucket = layout.buckets.of_metric(series::hash_name(&name));
            by_bucket.entry(bucket).or_default().push(name);
        }
        self.0.insert(period, by_bucket);
        Ok(())
    }
}

/// The references of one bucket.
#[derive(Debug)]
pub(super) struct BucketCatalog<'n> {
    bucket: Bucket,
    names: &'n mut Names,
    periods: HashMap<Period, References>,
}

impl<'n> BucketCatalog<'n> {
    pub(super) fn new(bucket: Bucket, names: &'n mut Names) -> Self {
        Self {
            bucket,
            names,
            periods: HashMap::new(),
        }
    }

    /// Gathers the wanted series of segments that were read before this is called. A series is in the catalog before a segment
    /// names it: when the catalog that was read earlier lacks one, it is read once more, and then it has all.
    pub(super) async fn gather<'a>(
        &'a mut self,
        store: &impl Store,
        layout: &Layout,
        window: Window,
        decoded: &'a Decoded,
        wanted: Wanted<'_>,
    ) -> Result<Merged<'a>, StoreError> {
        let slots = self.slots(store, layout, window, decoded).await?;
        let references = &self.periods[&Period::of(window.start_ms)];
        Ok(decoded.gather(references, &slots, wanted))
    }

    async fn slots(
        &mut self,
        store: &impl Store,
        layout: &Layout,
        window: Window,
        decoded: &Decoded,
    ) -> Result<Vec<u32>, StoreError> {
        let period = Period::of(window.start_ms);
        let known = self.periods.get(&period).map(|known| decoded.slots(known));
        if let Some(Ok(slots)) = known {
            return Ok(slots);
        }
        if !self.names.0.contains_key(&period) {
            self.names.read(store, layout, period).await?;
        }
        if let Ok(slots) = decoded.slots(self.read(store, period).await?) {
            return Ok(slots);
        }
        self.names.read(store, layout, period).await?;
        let complete = self.read(store, period).await?;
        decoded
            .slots(complete)
            .map_err(|failed| corrupt(self.bucket, window, &failed))
    }

    async fn read(&mut self, store: &impl Store, period: Period) -> Result<&References, StoreError> {
        let names = self.names.0.get(&period).and_then(|names| names.get(&self.bucket));
        let reads = names
            .into_iter()
            .flatten()
            .map(|name| store.catalog(name, period, None));
        let mut pairs = Vec::new();
        for entries in bounded::all(reads.collect()).await {
            pairs.extend(entries?.into_iter().map(|entry| (entry.reference, entry.id)));
        }
        let place = self.periods.entry(period).or_default();
        *place = References::new(pairs);
        Ok(place)
    }
}

/// The segments of a window cannot be merged.
pub(super) fn corrupt(bucket: Bucket, window: Window, reason: &Unmergeable) -> StoreError {
    StoreError::Corrupt {
        item: format!("a segment of {bucket}#{window}"),
        reason: chain(reason),
    }
}
