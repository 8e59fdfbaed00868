//! A selection, opened and read part by part.
//!
//! Opening it reads what says what there is: the segments of the windows that are still written to and of a few more, then the
//! catalog that names their series. Reading it hands everything to a [`Visit`], window by window in ascending order of time, so that
//! what is held at once is a few windows, however long the range is.

use super::blocks::{Blocks, Wanted};
use super::ground::{self, Catalogs, Ground, WINDOWS_AT_ONCE};
use super::{Reader, SelectError, Selector, gather, windows};
use crate::chunk;
use crate::evidence::{Evidence, WindowEvidence};
use crate::plan::{Part, Range, Source, plan};
use crate::recall::{Block, HeldWindow};
use crate::rollup::{self, Point};
use crate::store::{CatalogEntry, Store, StoreError};
use crate::tier::Tier;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tidemark_model::{Labels, Period, Sample, Window, limits};

/// How many periods' series are read ahead.
const PERIODS_AT_ONCE: usize = 3;

/// About how many blocks are held at once: some 20 MB of chunks.
const BLOCKS_AT_ONCE: usize = 16_384;

/// Aggregates of one series.
#[derive(Clone, Copy, Debug)]
pub struct Points<'a> {
    /// The tier whose resolution they have.
    pub tier: Tier,
    /// The value of the first sample of the first point, where that is known: at the start of a block. Elsewhere the first
    /// point's increase counts from the sample before it.
    pub first: Option<f64>,
    /// The points in ascending order. Never empty.
    pub points: &'a [Point],
}

/// What a selection is read to. All of a series comes in ascending order of time.
pub trait Visit: Send {
    /// Samples of the series of that number, each time once. Never empty. Staleness markers are among them.
    fn samples(&mut self, series: usize, samples: &[Sample]);

    /// Aggregates of the series of that number.
    fn points(&mut self, series: usize, points: Points<'_>);

    /// Everything up to a time was given. `false` when nothing more is wanted.
    fn reached(&mut self, until_ms: i64) -> bool;
}

/// Series, and where their samples are.
#[derive(Debug)]
pub struct Selection<'r, S> {
    reader: &'r Reader<S>,
    ground: Arc<Ground>,
    parts: Vec<Part>,
    series: Vec<Arc<CatalogEntry>>,
    /// Ascending by reference.
    references: HashMap<Period, Vec<(u32, usize)>>,
}

impl<'r, S: Store> Selection<'r, S> {
    /// Opens a selection on a ground of its own.
    pub(super) async fn open(reader: &'r Reader<S>, selector: &Selector, range: &Range) -> Result<Self, SelectError> {
        let bucket = reader.bucket_of(&selector.metric);
        let (ground, parts) = Ground::of_one(reader, bucket, range).await?;
        let catalogs = Catalogs::of_one(&selector.metric, &ground, reader.layout.window, &parts);
        Self::with(reader, Arc::new(ground), parts, &catalogs, selector).await
    }

    /// Opens a selection on a ground that was read for its range or more.
    pub(super) async fn on(
        reader: &'r Reader<S>,
        ground: Arc<Ground>,
        catalogs: &Catalogs<'_>,
        selector: &Selector,
        range: &Range,
    ) -> Result<Self, SelectError> {
        let parts = plan(range, &reader.layout, ground.progress.as_ref());
        Self::with(reader, ground, parts, catalogs, selector).await
    }

    async fn with(
        reader: &'r Reader<S>,
        ground: Arc<Ground>,
        parts: Vec<Part>,
        catalogs: &Catalogs<'_>,
        selector: &Selector,
    ) -> Result<Self, SelectError> {
        let mut selection = Self {
            reader,
            ground,
            parts,
            series: Vec::new(),
            references: HashMap::new(),
        };
        selection.read_series(catalogs, selector).await?;
        Ok(selection)
    }

    /// The labels of the series, in ascending order. A series may turn out to have nothing in the range.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &Labels> {
        self.series.iter().map(|entry| &entry.labels)
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Which part of the range is read from where.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What stays as it is for as long as the selection would read the same again; `None` when that cannot be told.
    #[must_use]
    pub fn evidence(&self) -> Option<Evidence> {
        let is_closed = |window: Window| {
            let progress = self.ground.progress.as_ref();
            progress.is_some_and(|progress| progress.is_closed(window))
        };
        let mut windows = Vec::new();
        for window in ground::of_segments(self.reader.layout.window, &self.parts) {
            match self.ground.early.get(&window) {
                _ if is_closed(window) => {}
                // Read before the catalog, so that the catalog names all that was in it.
                Some(held) => windows.push(WindowEvidence {
                    window,
                    newest: held.newest(),
                    rest: held.rest_hash,
                }),
                None => return None,
            }
        }
        Some(Evidence {
            bucket: self.ground.bucket,
            late_marks: self.ground.progress.as_ref().map(|progress| progress.late_marks),
            windows,
        })
    }

    async fn window(&self, window: Window) -> Result<Arc<HeldWindow>, StoreError> {
        self.ground.window(self.reader, &self.parts, window).await
    }

    async fn read_series(&mut self, catalogs: &Catalogs<'_>, selector: &Selector) -> Result<(), SelectError> {
        let Some((first, last)) = self.parts.first().zip(self.parts.last()) else {
            return Ok(());
        };
        let length = self.reader.layout.window;
        let periods: Vec<Period> =
            Period::covering(length.of(first.from_ms).start_ms, length.of(last.to_ms).start_ms).collect();
        let mut reads = Box::pin(ground::in_order(
            catalogs,
            self.reader,
            &self.ground,
            &periods,
            PERIODS_AT_ONCE,
        ));
        let mut of = periods.iter();
        let mut found = Vec::new();
        let mut series = HashSet::new();
        while let Some((catalog, period)) = reads.next().await.zip(of.next()) {
            let catalog = catalog?;
            let matching = catalog
                .entries
                .iter()
                .filter(|entry| selector.filter.matches(&entry.labels));
            for entry in matching {
                series.insert(entry.id);
                found.push((*period, Arc::clone(entry)));
            }
            // Before more is read and held.
            let limit = limits::MAX_SERIES_PER_QUERY;
            if series.len() > limit {
                return Err(SelectError::TooManySeries {
                    found: series.len(),
                    limit,
                });
            }
        }
        // One number for all references of a series.
        found.sort_by(|(_, a), (_, b)| (&a.labels, a.id).cmp(&(&b.labels, b.id)));
        for (period, entry) in found {
            if self.series.last().is_none_or(|last| last.id != entry.id) {
                self.series.push(Arc::clone(&entry));
            }
            let place = (entry.reference, self.series.len() - 1);
            self.references.entry(period).or_default().push(place);
        }
        for references in self.references.values_mut() {
            references.sort_unstable();
            references.dedup();
        }
        Ok(())
    }

    /// Reads everything to `visitor`, until that wants no more.
    ///
    /// # Errors
    /// When a limit is hit, or the store does not answer.
    pub async fn read<V: Visit>(&self, visitor: &mut V) -> Result<(), SelectError> {
        if self.series.is_empty() {
            return Ok(());
        }
        let mut out = Out { visitor, read: 0 };
        for part in &self.parts {
            let goes_on = match part.source {
                Source::Segments => self.read_segments(part, &mut out).await?,
                Source::Blocks => self.read_blocks(part, &mut out).await?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    async fn read_segments<V: Visit>(&self, part: &Part, out: &mut Out<'_, V>) -> Result<bool, SelectError> {
        let layout = &self.reader.layout;
        let windows: Vec<Window> = layout.window.covering(part.from_ms, part.to_ms).collect();
        let reads: Vec<_> = windows.iter().map(|window| self.window(*window)).collect();
        let mut reads = futures::stream::iter(reads).buffered(WINDOWS_AT_ONCE);
        let mut of = windows.iter();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); self.series.len()];
        while let Some((held, window)) = reads.next().await.zip(of.next()) {
            let held = held?;
            let references = self.references.get(&Period::of(window.start_ms));
            for held in windows::in_order(&held) {
                out.count(gather::read(
                    &held.segment,
                    references.map_or(&[], Vec::as_slice),
                    &mut samples,
                ))?;
            }
            for (series, samples) in samples
                .iter_mut()
                .enumerate()
                .filter(|(_, samples)| !samples.is_empty())
            {
                gather::merge(samples, part.widened());
                out.samples(series, part, samples);
                samples.clear();
            }
            if !out.reached(part, layout.window_end_ms(*window)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn read_blocks<V: Visit>(&self, part: &Part, out: &mut Out<'_, V>) -> Result<bool, SelectError> {
        let Some(progress) = &self.ground.progress else {
            return Ok(true);
        };
        let length = self.reader.layout.window;
        let blocks = Blocks {
            store: &*self.reader.store,
            recall: &self.reader.recall,
            progress,
            window: length,
        };
        let windows = length.covering(part.from_ms, part.to_ms);
        let mut starts: Vec<i64> = windows
            .map(|window| part.tier.block_start_ms(length, window.start_ms))
            .collect();
        starts.dedup();
        let at_once = (BLOCKS_AT_ONCE / self.series.len()).max(1);
        for starts in starts.chunks(at_once) {
            let wanted = self.series.iter().map(|entry| Wanted {
                id: entry.id,
                starts: starts.to_vec(),
            });
            let wanted: Vec<Wanted> = wanted.collect();
            let found = blocks.read(part.tier, &wanted).await?;
            let chunks = match part.tier {
                Tier::Minute => chunks_instead(&blocks, wanted, &found).await?,
                Tier::Raw | Tier::Hour => HashMap::new(),
            };
            for (at, start_ms) in starts.iter().enumerate() {
                for (series, found) in found.iter().enumerate() {
                    match chunks.get(&(series, *start_ms)) {
                        Some(chunk) => out.chunk(series, part, chunk)?,
                        None if part.tier == Tier::Raw => out.chunk(series, part, &found[at])?,
                        None => out.rollup(series, part, &found[at])?,
                    }
                }
                if !out.reached(part, start_ms + part.tier.block_ms(length)) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A series without a minute that holds more than one sample has no minute block: its chunks, by series and start.
async fn chunks_instead<S: Store>(
    blocks: &Blocks<'_, S>,
    wanted: Vec<Wanted>,
    found: &[Vec<Block>],
) -> Result<HashMap<(usize, i64), Block>, StoreError> {
    let mut missing = Vec::new();
    for (series, (mut one, found)) in wanted.into_iter().zip(found).enumerate() {
        let mut has = found.iter().map(|block| !block.is_empty());
        one.starts.retain(|_| !has.next().unwrap_or(false));
        if !one.starts.is_empty() {
            missing.push((series, one));
        }
    }
    let (numbers, missing): (Vec<usize>, Vec<Wanted>) = missing.into_iter().unzip();
    let chunks = blocks.read(Tier::Raw, &missing).await?;
    let mut by_place = HashMap::new();
    for ((series, wanted), chunks) in numbers.into_iter().zip(missing).zip(chunks) {
        let places = wanted.starts.into_iter().map(|start| (series, start));
        by_place.extend(places.zip(chunks));
    }
    Ok(by_place)
}

/// A visitor, and how much it was given.
struct Out<'v, V> {
    visitor: &'v mut V,
    read: usize,
}

impl<V: Visit> Out<'_, V> {
    fn count(&mut self, more: usize) -> Result<(), SelectError> {
        self.read += more;
        if self.read > limits::MAX_SAMPLES_PER_QUERY {
            return Err(SelectError::TooManySamples {
                limit: limits::MAX_SAMPLES_PER_QUERY,
            });
        }
        Ok(())
    }

    fn reached(&mut self, part: &Part, end_ms: i64) -> bool {
        self.visitor.reached(part.to_ms.min(end_ms - 1))
    }

    /// Samples of the part's range, as they are or rolled up.
    fn samples(&mut self, series: usize, part: &Part, samples: &[Sample]) {
        if samples.is_empty() {
            return;
        }
        match part.tier.resolution_ms() {
            0 => self.visitor.samples(series, samples),
            resolution_ms => {
                if let Some(rolled) = rollup::roll(samples, resolution_ms) {
                    self.visitor.points(
                        series,
                        Points {
                            tier: part.tier,
                            first: Some(rolled.first),
                            points: &rolled.points,
                        },
                    );
                }
            }
        }
    }

    fn chunk(&mut self, series: usize, part: &Part, block: &Block) -> Result<(), SelectError> {
        let mut samples = Vec::new();
        for data in block.iter() {
            chunk::decode(data, &mut samples).map_err(|reason| corrupt("chunk", part, reason.to_string()))?;
        }
        self.count(samples.len())?;
        let (from_ms, to_ms) = part.widened();
        samples.retain(|sample| (from_ms..=to_ms).contains(&sample.timestamp_ms));
        self.samples(series, part, &samples);
        Ok(())
    }

    fn rollup(&mut self, series: usize, part: &Part, block: &Block) -> Result<(), SelectError> {
        for data in block.iter() {
            let decoded = rollup::decode(data).map_err(|reason| corrupt("rollup", part, reason.to_string()))?;
            if decoded.resolution_ms != part.tier.resolution_ms() {
                let reason = format!("its resolution is {} ms", decoded.resolution_ms);
                return Err(corrupt("rollup", part, reason));
            }
            let points = &decoded.rollup.points;
            let (from_ms, to_ms) = part.widened();
            let from = points.partition_point(|point| point.start_ms < from_ms);
            let to = points.partition_point(|point| point.start_ms <= to_ms);
            self.count(to.saturating_sub(from))?;
            if from < to {
                self.visitor.points(
                    series,
                    Points {
                        tier: part.tier,
                        first: (from == 0).then_some(decoded.rollup.first),
                        points: &points[from..to],
                    },
                );
            }
        }
        Ok(())
    }
}

fn corrupt(what: &str, part: &Part, reason: String) -> SelectError {
    SelectError::Store(StoreError::Corrupt {
        item: format!(
            "a {what} of {}..={} in the {} tier",
            part.from_ms, part.to_ms, part.tier
        ),
        reason,
    })
}
