//! The progress of compaction: one item per bucket, whose every change is one conditional update.
//!
//! DynamoDB adds to top-level attributes only, so that each window has attributes of its own (`dirty_<start>`, `folded_<start>`)
//! instead of a place in a map. An update whose answer is lost is sent again by the SDK and meets its own first write; each
//! condition is made so that this is told apart from somebody else's.

use super::DynamoStore;
use crate::database::{Attributes, Item, Written, key, n};
use crate::keys::{CatalogKey, PK};
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnValue;
use std::collections::BTreeMap;
use tidemark_model::{Bucket, Window};
use tidemark_tsdb::StoreError;
use tidemark_tsdb::progress::{Progress, Step};
use tidemark_tsdb::store::Division;

const EPOCH: &str = "epoch";
/// A number that the pass drew which began the epoch: how it knows its own write.
const PASS: &str = "pass";
const LEASED_UNTIL: &str = "leased_until_ms";
const CLOSED: &str = "closed_before_ms";
const COMPACTED: &str = "compacted_before_ms";
const ROLLED: &str = "rolled_before_ms";
const LATE_MARKS: &str = "late_marks";
const DIRTY: &str = "dirty_";
const FOLDED: &str = "folded_";
const BUCKETS: &str = "buckets";
const WINDOW_SECONDS: &str = "window_seconds";
const RAW_RETENTION: &str = "raw_retention_s";
const MINUTE_RETENTION: &str = "minute_retention_s";

/// The most windows that one update names: an expression may have 300 operands.
const WINDOWS_AT_ONCE: usize = 100;

impl DynamoStore {
    pub(super) async fn read_progress(&self, bucket: Bucket) -> Result<Progress, StoreError> {
        let place = CatalogKey::Progress { bucket };
        let item = self
            .database
            .get(&self.tables.catalog, key(place.pk(), place.sk()))
            .await?;
        item.as_ref().map_or_else(|| Ok(Progress::default()), parse)
    }

    /// An update of a bucket's progress.
    fn update(&self, bucket: Bucket) -> UpdateItemFluentBuilder {
        let place = CatalogKey::Progress { bucket };
        self.database.update(&self.tables.catalog, key(place.pk(), place.sk()))
    }

    /// An update of a bucket's progress in an epoch; the condition on it is `#epoch = :epoch`.
    fn update_in(&self, bucket: Bucket, epoch: u32) -> UpdateItemFluentBuilder {
        self.update(bucket)
            .expression_attribute_names("#epoch", EPOCH)
            .expression_attribute_values(":epoch", n(epoch))
    }

    async fn write(&self, operation: &'static str, call: UpdateItemFluentBuilder) -> Result<Written, StoreError> {
        self.database.written(operation, &self.tables.catalog, call).await
    }

    pub(super) async fn take_epoch(
        &self,
        bucket: Bucket,
        epoch: u32,
        leased_until_ms: i64,
    ) -> Result<Option<Progress>, StoreError> {
        let pass: u64 = rand::random();
        let first = if epoch == 0 {
            "attribute_not_exists(#epoch) OR "
        } else {
            ""
        };
        let call = self
            .update_in(bucket, epoch)
            .update_expression("SET #epoch = :next, #pass = :pass, #until = :until")
            .condition_expression(format!("{first}#epoch = :epoch"))
            .expression_attribute_names("#pass", PASS)
            .expression_attribute_names("#until", LEASED_UNTIL)
            .expression_attribute_values(":next", n(epoch.saturating_add(1)))
            .expression_attribute_values(":pass", n(pass))
            .expression_attribute_values(":until", n(leased_until_ms))
            .return_values(ReturnValue::AllNew);
        match self.write("UpdateItem (begin a pass)", call).await? {
            Written::Done(item) => parse(&item).map(Some),
            // Its own write, whose answer was lost. What was marked since is in there, too.
            Written::Unmet(Some(item)) if Attributes(&item).optional_number(PASS)? == Some(pass) => {
                parse(&item).map(Some)
            }
            Written::Unmet(_) => Ok(None),
        }
    }

    pub(super) async fn take_step(&self, bucket: Bucket, epoch: u32, step: Step) -> Result<bool, StoreError> {
        match step {
            Step::Close { before_ms } => self.move_on(bucket, epoch, (CLOSED, before_ms)).await,
            Step::Compacted { before_ms } => self.move_on(bucket, epoch, (COMPACTED, before_ms)).await,
            Step::Rolled { before_ms } => self.move_on(bucket, epoch, (ROLLED, before_ms)).await,
            Step::Folded { window, marks } => self.fold(bucket, epoch, (window, marks)).await,
            Step::Release { forget_before_ms } => self.release(bucket, epoch, forget_before_ms).await,
        }
    }

    /// Moves a boundary forward.
    async fn move_on(&self, bucket: Bucket, epoch: u32, (boundary, to_ms): (&str, i64)) -> Result<bool, StoreError> {
        let call = self
            .update_in(bucket, epoch)
            .update_expression("SET #boundary = :to")
            .condition_expression("#epoch = :epoch AND (attribute_not_exists(#boundary) OR #boundary < :to)")
            .expression_attribute_names("#boundary", boundary)
            .expression_attribute_values(":to", n(to_ms));
        match self.write("UpdateItem (a step)", call).await? {
            Written::Done(_) => Ok(true),
            Written::Unmet(None) => Ok(false),
            // There already, or further.
            Written::Unmet(Some(item)) => {
                let stands: Option<i64> = Attributes(&item).optional_number(boundary)?;
                Ok(parse(&item)?.epoch == epoch && stands.is_some_and(|stands| stands >= to_ms))
            }
        }
    }

    async fn fold(&self, bucket: Bucket, epoch: u32, (window, marks): (Window, u64)) -> Result<bool, StoreError> {
        // Marks are counted from one again once they were taken away. If the answer to that was lost and somebody marked the
        // window anew, its repetition would take away the new mark: hence the condition that this epoch has not folded it.
        let call = self
            .update_in(bucket, epoch)
            .update_expression("SET #folded = :epoch REMOVE #dirty")
            .condition_expression(
                "#epoch = :epoch AND #dirty = :marks AND (attribute_not_exists(#folded) OR #folded < :epoch)",
            )
            .expression_attribute_names("#dirty", format!("{DIRTY}{window}"))
            .expression_attribute_names("#folded", format!("{FOLDED}{window}"))
            .expression_attribute_values(":marks", n(marks));
        match self.write("UpdateItem (a window is folded)", call).await? {
            Written::Done(_) => Ok(true),
            Written::Unmet(None) => Ok(false),
            Written::Unmet(Some(item)) => {
                let stands = parse(&item)?;
                Ok(stands.epoch == epoch && stands.folded.get(&window) == Some(&epoch))
            }
        }
    }

    async fn release(&self, bucket: Bucket, epoch: u32, forget_before_ms: i64) -> Result<bool, StoreError> {
        let call = self
            .update_in(bucket, epoch)
            .update_expression("SET #until = :never")
            .condition_expression("#epoch = :epoch")
            .expression_attribute_names("#until", LEASED_UNTIL)
            .expression_attribute_values(":never", n(0))
            .return_values(ReturnValue::AllNew);
        let Written::Done(item) = self.write("UpdateItem (a pass ends)", call).await? else {
            return Ok(false);
        };
        let old: Vec<&String> = item
            .keys()
            .filter(|name| window_of(name).is_some_and(|(_, window)| window.start_ms < forget_before_ms))
            .collect();
        for names in old.chunks(WINDOWS_AT_ONCE) {
            let places: Vec<String> = (0..names.len()).map(|at| format!("#w{at}")).collect();
            let mut call = self
                .update_in(bucket, epoch)
                .update_expression(format!("REMOVE {}", places.join(", ")))
                .condition_expression("#epoch = :epoch");
            for (place, name) in places.iter().zip(names) {
                call = call.expression_attribute_names(place, *name);
            }
            // When another pass has begun meanwhile, it forgets them.
            self.write("UpdateItem (old windows)", call).await?;
        }
        Ok(true)
    }

    pub(super) async fn add_marks(&self, bucket: Bucket, windows: &[Window]) -> Result<(), StoreError> {
        let mut marks: BTreeMap<Window, u64> = BTreeMap::new();
        for window in windows {
            *marks.entry(*window).or_default() += 1;
        }
        let marks: Vec<(Window, u64)> = marks.into_iter().collect();
        for marks in marks.chunks(WINDOWS_AT_ONCE) {
            let mut expression = "ADD #all :all".to_owned();
            let mut call = self.update(bucket);
            for (at, (window, count)) in marks.iter().enumerate() {
                expression.push_str(&format!(", #w{at} :w{at}"));
                call = call
                    .expression_attribute_names(format!("#w{at}"), format!("{DIRTY}{window}"))
                    .expression_attribute_values(format!(":w{at}"), n(count));
            }
            let all: u64 = marks.iter().map(|(_, count)| count).sum();
            call = call
                .update_expression(expression)
                .expression_attribute_names("#all", LATE_MARKS)
                .expression_attribute_values(":all", n(all));
            self.write("UpdateItem (mark windows)", call).await?;
        }
        Ok(())
    }

    pub(super) async fn pin(&self, division: Division) -> Result<Division, StoreError> {
        let place = CatalogKey::Division;
        let at = || key(place.pk(), place.sk());
        // Reading first: it is stored already, but once.
        let mut found = self.database.get(&self.tables.catalog, at()).await?;
        loop {
            let (stands, pinned) = match &found {
                None => (division, None),
                Some(item) => (read_division(item, division)?, Some(Pinned::of(item)?)),
            };
            let lowered = stands.lowered_to(division);
            if pinned.is_some_and(|pinned| pinned == Pinned::from(lowered)) || lowered.is_elsewhere(division) {
                return Ok(lowered);
            }
            let call = self.pinned(at(), lowered, pinned);
            match self.write("UpdateItem (the division)", call).await? {
                Written::Done(_) | Written::Unmet(None) => return Ok(lowered),
                // Somebody else was first, or this very write was, whose answer was lost. Retentions are only ever lowered, so
                // that this ends.
                Written::Unmet(item) => found = item,
            }
        }
    }

    /// An update of the division, as long as the one that was read stands.
    fn pinned(&self, at: Item, division: Division, before: Option<Pinned>) -> UpdateItemFluentBuilder {
        let mut call = self
            .database
            .update(&self.tables.catalog, at)
            .update_expression("SET #buckets = :buckets, #window = :window, #raw = :raw, #minute = :minute")
            .expression_attribute_names("#buckets", BUCKETS)
            .expression_attribute_names("#window", WINDOW_SECONDS)
            .expression_attribute_names("#raw", RAW_RETENTION)
            .expression_attribute_names("#minute", MINUTE_RETENTION)
            .expression_attribute_values(":buckets", n(division.buckets))
            .expression_attribute_values(":window", n(division.window_seconds))
            .expression_attribute_values(":raw", n(division.raw_retention_s))
            .expression_attribute_values(":minute", n(division.minute_retention_s));
        let Some(Pinned { raw_s, minute_s }) = before else {
            return call
                .condition_expression("attribute_not_exists(#pk)")
                .expression_attribute_names("#pk", PK);
        };
        let mut conditions = Vec::new();
        for (name, value, before) in [("#raw", ":raw_before", raw_s), ("#minute", ":minute_before", minute_s)] {
            match before {
                None => conditions.push(format!("attribute_not_exists({name})")),
                Some(before) => {
                    conditions.push(format!("{name} = {value}"));
                    call = call.expression_attribute_values(value, n(before));
                }
            }
        }
        call.condition_expression(conditions.join(" AND "))
    }
}

/// The retentions that an item pins, in seconds. One that was written by an earlier version pins none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pinned {
    raw_s: Option<u32>,
    minute_s: Option<u32>,
}

impl Pinned {
    fn of(item: &Item) -> Result<Self, StoreError> {
        let attributes = Attributes(item);
        Ok(Self {
            raw_s: attributes.optional_number(RAW_RETENTION)?,
            minute_s: attributes.optional_number(MINUTE_RETENTION)?,
        })
    }
}

impl From<Division> for Pinned {
    fn from(division: Division) -> Self {
        Self {
            raw_s: Some(division.raw_retention_s),
            minute_s: Some(division.minute_retention_s),
        }
    }
}

/// Whether an attribute belongs to a window, and to which.
fn window_of(name: &str) -> Option<(&'static str, Window)> {
    [DIRTY, FOLDED].into_iter().find_map(|kind| {
        let start_ms = name.strip_prefix(kind)?.parse().ok()?;
        Some((kind, Window { start_ms }))
    })
}

fn parse(item: &Item) -> Result<Progress, StoreError> {
    let attributes = Attributes(item);
    let mut progress = Progress {
        epoch: attributes.optional_number(EPOCH)?.unwrap_or_default(),
        closed_before_ms: attributes.optional_number(CLOSED)?,
        compacted_before_ms: attributes.optional_number(COMPACTED)?,
        rolled_before_ms: attributes.optional_number(ROLLED)?,
        dirty: BTreeMap::new(),
        folded: BTreeMap::new(),
        late_marks: attributes.optional_number(LATE_MARKS)?.unwrap_or_default(),
        leased_until_ms: attributes.optional_number(LEASED_UNTIL)?.unwrap_or_default(),
    };
    for name in item.keys() {
        match window_of(name) {
            Some((DIRTY, window)) => {
                progress.dirty.insert(window, attributes.number(name)?);
            }
            Some((_, window)) => {
                progress.folded.insert(window, attributes.number(name)?);
            }
            None => {}
        }
    }
    Ok(progress)
}

/// The division that stands. What an item of an earlier version does not say is as configured.
pub(crate) fn read_division(item: &Item, configured: Division) -> Result<Division, StoreError> {
    let attributes = Attributes(item);
    let pinned = Pinned::of(item)?;
    Ok(Division {
        buckets: attributes.number(BUCKETS)?,
        window_seconds: attributes.number(WINDOW_SECONDS)?,
        raw_retention_s: pinned.raw_s.unwrap_or(configured.raw_retention_s),
        minute_retention_s: pinned.minute_s.unwrap_or(configured.minute_retention_s),
    })
}
