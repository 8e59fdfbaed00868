//! What was read of a bucket for all selections that are opened on it: how far it is compacted, the segments of its windows, and the
//! catalogs of its metrics.
//!
//! A query opens one selection on its ground. The tick of the alert rules opens many: whatever the number of metrics, filters and
//! ranges, the segments of a window are asked for once, and the series of a metric once for each period.

use super::series::{self, Place};
use super::{Reader, SelectError, windows};
use crate::bounded;
use crate::plan::{Part, Range, Source, plan};
use crate::progress::Progress;
use crate::recall::{HeldCatalog, HeldWindow, Settled};
use crate::store::{Store, StoreError};
use futures::lock::Mutex;
use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidemark_model::{Bucket, Period, Window, WindowLength};

/// How many windows of segments are read ahead; as many are read early besides those that nobody can have closed.
pub(super) const WINDOWS_AT_ONCE: usize = 3;

/// How many bytes of windows that somebody may have closed are held for many selections. What does not fit is read by each selection
/// that needs it. While the compactor keeps up there are one or two such windows.
const HELD_BYTES: usize = 64 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) bucket: Bucket,
    /// `None` when all windows are read from segments anyway.
    pub(super) progress: Option<Progress>,
    /// Windows that were read before any catalog.
    pub(super) early: BTreeMap<Window, Arc<HeldWindow>>,
}

impl Ground {
    /// For one selection of a range.
    pub(super) async fn of_one<S: Store>(
        reader: &Reader<S>,
        bucket: Bucket,
        range: &Range,
    ) -> Result<(Self, Vec<Part>), SelectError> {
        let (mut ground, parts) = Self::begin(reader, bucket, range).await?;
        let (mut early, others) = ground.windows(reader, &parts, range);
        // Late data, or windows that are about to be compacted: most often none or one.
        if others.len() <= WINDOWS_AT_ONCE {
            early.extend(others);
        }
        ground.read(reader, &parts, &early).await?;
        Ok((ground, parts))
    }

    /// For any number of selections of ranges that lie inside `range`.
    pub(super) async fn of_many<S: Store>(
        reader: &Reader<S>,
        bucket: Bucket,
        range: &Range,
    ) -> Result<Self, SelectError> {
        let (mut ground, parts) = Self::begin(reader, bucket, range).await?;
        let (open, others) = ground.windows(reader, &parts, range);
        ground.read(reader, &parts, &open).await?;
        let mut bytes = 0;
        let newest_first: Vec<Window> = others.into_iter().rev().collect();
        for windows in newest_first.chunks(WINDOWS_AT_ONCE) {
            if bytes >= HELD_BYTES {
                break;
            }
            ground.read(reader, &parts, windows).await?;
            let held = windows.iter().filter_map(|window| ground.early.get(window));
            bytes += held.map(|held| held.bytes()).sum::<usize>();
        }
        Ok(ground)
    }

    async fn begin<S: Store>(
        reader: &Reader<S>,
        bucket: Bucket,
        range: &Range,
    ) -> Result<(Self, Vec<Part>), SelectError> {
        let layout = &reader.layout;
        // Windows that nobody can have closed are read from segments, whatever the progress says.
        let oldest = layout.window.of(range.start_ms);
        let progress = if range.start_ms > range.end_ms || layout.is_open(oldest, range.now_ms) {
            None
        } else {
            Some(reader.store.progress(bucket).await?)
        };
        let parts = plan(range, layout, progress.as_ref());
        let ground = Self {
            bucket,
            progress,
            early: BTreeMap::new(),
        };
        Ok((ground, parts))
    }

    /// The windows of the parts that are read from segments: those that nobody can have closed, and the others.
    fn windows<S>(&self, reader: &Reader<S>, parts: &[Part], range: &Range) -> (Vec<Window>, Vec<Window>) {
        of_segments(reader.layout.window, parts)
            .into_iter()
            .partition(|window| reader.layout.is_open(*window, range.now_ms))
    }

    async fn read<S: Store>(
        &mut self,
        reader: &Reader<S>,
        parts: &[Part],
        windows: &[Window],
    ) -> Result<(), StoreError> {
        let reads: Vec<_> = windows
            .iter()
            .map(|window| self.window(reader, parts, *window))
            .collect();
        let read = bounded::all(reads).await;
        for (window, held) in windows.iter().zip(read) {
            self.early.insert(*window, held?);
        }
        Ok(())
    }

    /// The segments of a window for a selection of these parts.
    pub(super) async fn window<S: Store>(
        &self,
        reader: &Reader<S>,
        parts: &[Part],
        window: Window,
    ) -> Result<Arc<HeldWindow>, StoreError> {
        match self.early.get(&window) {
            Some(held) => Ok(Arc::clone(held)),
            None => {
                let from_ms = parts.iter().map(|part| part.widened().0).min();
                let from_ms = from_ms.unwrap_or(window.start_ms);
                windows::read(&*reader.store, &reader.recall, self.bucket, window, from_ms).await
            }
        }
    }

    /// Whether all segments of a selection of these parts were read before any catalog.
    fn tells(&self, length: WindowLength, parts: &[Part]) -> bool {
        of_segments(length, parts)
            .iter()
            .all(|window| self.early.contains_key(window))
    }
}

/// The windows of the parts that are read from segments, in order.
pub(super) fn of_segments(length: WindowLength, parts: &[Part]) -> Vec<Window> {
    let parts = parts.iter().filter(|part| part.source == Source::Segments);
    let mut windows: Vec<Window> = parts
        .flat_map(|part| length.covering(part.from_ms, part.to_ms))
        .collect();
    windows.dedup();
    windows
}

/// The catalogs of a metric, for the selections on one ground.
#[derive(Debug)]
pub(super) struct Catalogs<'a> {
    metric: &'a str,
    is_told: bool,
    /// `None`: there is one selection, and nothing is kept for another.
    kept: Option<Mutex<BTreeMap<Period, Arc<HeldCatalog>>>>,
}

impl<'a> Catalogs<'a> {
    /// For one selection.
    pub(super) fn of_one(metric: &'a str, ground: &Ground, length: WindowLength, parts: &[Part]) -> Self {
        Self {
            metric,
            is_told: ground.tells(length, parts),
            kept: None,
        }
    }

    /// For several selections of ranges that lie inside `range`.
    pub(super) fn of_many<S>(metric: &'a str, ground: &Ground, reader: &Reader<S>, range: &Range) -> Self {
        let parts = plan(range, &reader.layout, ground.progress.as_ref());
        Self {
            kept: Some(Mutex::default()),
            ..Self::of_one(metric, ground, reader.layout.window, &parts)
        }
    }

    /// The series of the metric in a period.
    pub(super) async fn read<S: Store>(
        &self,
        reader: &Reader<S>,
        ground: &Ground,
        period: Period,
    ) -> Result<Arc<HeldCatalog>, StoreError> {
        let place = Place {
            metric: self.metric,
            bucket: ground.bucket,
            settled: ground.progress.as_ref().map(|progress| Settled {
                late_marks: progress.late_marks,
                compacted_before_ms: progress.compacted_before_ms,
            }),
            is_told: self.is_told,
        };
        let Some(kept) = &self.kept else {
            return series::read(&*reader.store, &reader.recall, place, period).await;
        };
        let mut kept = kept.lock().await;
        if let Some(catalog) = kept.get(&period) {
            return Ok(Arc::clone(catalog));
        }
        let catalog = series::read(&*reader.store, &reader.recall, place, period).await?;
        kept.insert(period, Arc::clone(&catalog));
        Ok(catalog)
    }
}

/// Catalogs of several periods, in order, a few at once.
pub(super) fn in_order<'a, S: Store>(
    catalogs: &'a Catalogs<'_>,
    reader: &'a Reader<S>,
    ground: &'a Ground,
    periods: &'a [Period],
    at_once: usize,
) -> impl futures::Stream<Item = Result<Arc<HeldCatalog>, StoreError>> + Send + 'a {
    let reads: Vec<_> = periods
        .iter()
        .map(|period| catalogs.read(reader, ground, *period))
        .collect();
    stream::iter(reads).buffered(at_once)
}
