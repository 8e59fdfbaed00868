//! What is stored when all is quiet, compared with the model: every block of every tier decodes and holds what it should, and
//! is there where it should be.

use crate::model::Model;
use crate::sim::{self, Sim};
use crate::tiers::check_block;
use std::collections::BTreeMap;
use tidemark_model::{DAY_MS, Sample, SeriesId, Window};
use tidemark_tsdb::store::{Store, StoreError};
use tidemark_tsdb::tier::{StoredBlock, Tier};
use tidemark_tsdb::{Layout, chunk, rollup};

/// The parts of the newest block of each place.
type Newest = BTreeMap<(Tier, SeriesId, i64), Vec<StoredBlock>>;

fn newest(sim: &Sim) -> Newest {
    let mut newest = Newest::new();
    // In ascending order of their keys, so that the last epoch of a place comes last.
    for block in sim.store.all_blocks() {
        let parts = newest
            .entry((block.key.tier, block.key.id, block.key.start_ms))
            .or_default();
        if parts.last().is_some_and(|part| part.key.epoch != block.key.epoch) {
            parts.clear();
        }
        parts.push(block);
    }
    newest
}

/// See the module. Returns how many blocks were compared.
pub(crate) fn check(sim: &Sim, layout: &Layout, model: &Model, tick: u64, first_ms: i64) -> Result<usize, String> {
    let newest = newest(sim);
    let now_ms = sim.now_ms();
    let mut checked = 0;
    for (at, series) in model.series.iter().enumerate() {
        let bucket = layout.buckets.of(series.id);
        let progress =
            sim::finish(Box::pin(sim.store.progress(bucket))).map_err(|error: StoreError| error.to_string())?;
        for tier in Tier::ALL {
            let (done_ms, length_ms) = match tier {
                Tier::Raw | Tier::Minute => (progress.compacted_before_ms, layout.window.ms()),
                Tier::Hour => (progress.rolled_before_ms, DAY_MS),
            };
            // As far back as the tier goes, without what the database may have deleted.
            let oldest_ms = (now_ms - layout.retention.of(tier)).max(first_ms);
            let mut start_ms = tier.block_start_ms(layout.window, oldest_ms);
            while start_ms < done_ms.unwrap_or(i64::MIN) {
                let block = newest.get(&(tier, series.id, start_ms)).map_or(&[][..], Vec::as_slice);
                let range = (start_ms, start_ms + length_ms - 1);
                check_place(model, at, tier, range, tick, block).map_err(|why| {
                    let host = series.labels.get("host").unwrap_or_default();
                    format!("{tier} block {start_ms} of {} {host}: {why}", series.metric)
                })?;
                checked += block.len();
                start_ms += length_ms;
            }
        }
    }
    Ok(checked)
}

fn check_place(
    model: &Model,
    series: usize,
    tier: Tier,
    (from_ms, to_ms): (i64, i64),
    tick: u64,
    parts: &[StoredBlock],
) -> Result<(), String> {
    if tier == Tier::Raw {
        let mut samples: Vec<Sample> = Vec::new();
        for part in parts {
            chunk::decode(&part.data, &mut samples).map_err(|error| error.to_string())?;
        }
        return model.check_series(series, (from_ms, to_ms), tick, &samples).map(drop);
    }
    let mut decoded = None;
    for part in parts {
        let block = rollup::decode(&part.data).map_err(|error| error.to_string())?;
        if block.resolution_ms != tier.resolution_ms() || decoded.replace(block.rollup).is_some() {
            return Err("it has another resolution, or more than one part".to_owned());
        }
    }
    if decoded.is_none() && tier == Tier::Minute && !model.condenses(series, (from_ms, to_ms), tick) {
        return Ok(());
    }
    check_block(model, series, tier, (from_ms, to_ms), tick, decoded)
}

/// Every segment lies in the window and the bucket that its key says.
pub(crate) fn check_segments(sim: &Sim, layout: &Layout) -> Result<(), String> {
    for segment in sim.store.all_segments() {
        let decoded = tidemark_tsdb::segment::decode(&segment.data).map_err(|error| error.to_string())?;
        let mut samples = Vec::new();
        for index in 0..decoded.references().len() {
            decoded.read_entry(index, &mut samples);
        }
        let outside = |sample: &Sample| layout.window.of(sample.timestamp_ms) != segment.window;
        if samples.iter().any(outside) {
            let Window { start_ms } = segment.window;
            return Err(format!("a segment of window {start_ms} holds samples of another"));
        }
    }
    Ok(())
}
