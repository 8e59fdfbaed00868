//! Segments, series and checkpoints as items.

use crate::database::{Attributes, Item, b, key, n, s};
use crate::keys::{CatalogKey, EXPIRES_AT, PK, SK, SegmentKey};
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::HashMap;
use tidemark_model::{Labels, SeriesId};
use tidemark_tsdb::store::{CatalogEntry, Checkpoint, StoreError, StoredSegment};
use tidemark_tsdb::{SequenceNumber, ShardId};

pub(super) const DATA: &str = "data";
pub(super) const NEXT: &str = "next";
pub(super) const SEQUENCE: &str = "sequence";
const LABELS: &str = "labels";
const ARRIVAL: &str = "arrival_ms";
const RECORDS: &str = "records";
const SAMPLES: &str = "samples";
const OLDEST: &str = "oldest_ms";
const NEWEST: &str = "newest_ms";

pub(super) fn segment(segment: StoredSegment) -> Item {
    let place = SegmentKey {
        bucket: segment.bucket,
        window: segment.window,
        late: segment.late,
        order: segment.order,
    };
    HashMap::from([
        (PK.to_owned(), s(place.pk())),
        (SK.to_owned(), b(place.sk())),
        (DATA.to_owned(), b(segment.data)),
        (EXPIRES_AT.to_owned(), n(segment.expires_at_s)),
    ])
}

pub(super) fn read_segment(mut item: Item) -> Result<StoredSegment, StoreError> {
    let attributes = Attributes(&item);
    let key = SegmentKey::parse(attributes.text(PK)?, attributes.bytes(SK)?)
        .map_err(|error| attributes.corrupt(error.to_string()))?;
    let expires_at_s = attributes.number(EXPIRES_AT)?;
    Ok(StoredSegment {
        bucket: key.bucket,
        window: key.window,
        late: key.late,
        order: key.order,
        data: take_data(&mut item)?,
        expires_at_s,
    })
}

/// The data of a segment or block, without a copy.
pub(super) fn take_data(item: &mut Item) -> Result<Vec<u8>, StoreError> {
    Attributes(item).bytes(DATA)?;
    Ok(match item.remove(DATA) {
        Some(AttributeValue::B(data)) => data.into_inner(),
        _ => Vec::new(),
    })
}

pub(super) fn series(place: &CatalogKey, labels: &Labels, expires_at_s: i64) -> Item {
    let labels = labels.iter().map(|(name, value)| (name.to_owned(), s(value))).collect();
    let mut item = key(place.pk(), place.sk());
    item.insert(LABELS.to_owned(), AttributeValue::M(labels));
    item.insert(EXPIRES_AT.to_owned(), n(expires_at_s));
    item
}

pub(super) fn read_series(item: &Item) -> Result<CatalogEntry, StoreError> {
    let attributes = Attributes(item);
    let parsed = CatalogKey::parse(attributes.text(PK)?, attributes.text(SK)?);
    let Ok(CatalogKey::Series {
        metric,
        first_seen_ms,
        id,
        reference,
        late,
        ..
    }) = parsed
    else {
        return Err(attributes.corrupt("this is no key of a series"));
    };
    let Some(AttributeValue::M(pairs)) = item.get(LABELS) else {
        return Err(attributes.corrupt("`labels` is missing or no map"));
    };
    let mut labels = Vec::with_capacity(pairs.len());
    for name in pairs.keys() {
        labels.push((name.as_str(), Attributes(pairs).text(name)?));
    }
    let labels = Labels::from_pairs(labels).map_err(|error| attributes.corrupt(error.to_string()))?;
    if SeriesId::new(&metric, labels.iter()) != id {
        return Err(attributes.corrupt("the labels are not those of the series id"));
    }
    Ok(CatalogEntry {
        id,
        reference,
        labels,
        first_seen_ms,
        late,
    })
}

/// Checkpoints have no expiry: they are as many as there ever were shards, and hold the totals of the statistics.
pub(super) fn checkpoint(shard: &ShardId, at: &Checkpoint) -> Item {
    let place = CatalogKey::Checkpoint { shard: shard.clone() };
    let mut item = key(place.pk(), place.sk());
    item.insert(SEQUENCE.to_owned(), s(at.sequence.to_string()));
    item.insert(ARRIVAL.to_owned(), n(at.arrival_ms));
    item.insert(RECORDS.to_owned(), n(at.records));
    item.insert(SAMPLES.to_owned(), n(at.samples));
    if let Some((oldest, newest)) = at.time_range_ms {
        item.insert(OLDEST.to_owned(), n(oldest));
        item.insert(NEWEST.to_owned(), n(newest));
    }
    item
}

pub(super) fn read_checkpoint(item: &Item) -> Result<Checkpoint, StoreError> {
    let attributes = Attributes(item);
    let oldest: Option<i64> = attributes.optional_number(OLDEST)?;
    let newest: Option<i64> = attributes.optional_number(NEWEST)?;
    Ok(Checkpoint {
        sequence: SequenceNumber::parse(attributes.text(SEQUENCE)?)
            .ok_or_else(|| attributes.corrupt("`sequence` is no sequence number"))?,
        arrival_ms: attributes.number(ARRIVAL)?,
        records: attributes.number(RECORDS)?,
        samples: attributes.number(SAMPLES)?,
        time_range_ms: oldest.zip(newest),
    })
}
