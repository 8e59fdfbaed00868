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
        if let Some(item) = self.database.get(&self.tables.catalog, at()).await? {
            return read_division(&item);
        }
        let call = self
            .database
            .update(&self.tables.catalog, at())
            .update_expression("SET #buckets = :buckets, #window = :window")
            .condition_expression("attribute_not_exists(#pk)")
            .expression_attribute_names("#pk", PK)
            .expression_attribute_names("#buckets", BUCKETS)
            .expression_attribute_names("#window", WINDOW_SECONDS)
            .expression_attribute_values(":buckets", n(division.buckets))
            .expression_attribute_values(":window", n(division.window_seconds));
        match self.write("UpdateItem (the division)", call).await? {
            Written::Done(_) | Written::Unmet(None) => Ok(division),
            Written::Unmet(Some(item)) => read_division(&item),
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

pub(crate) fn read_division(item: &Item) -> Result<Division, StoreError> {
    let attributes = Attributes(item);
    Ok(Division {
        buckets: attributes.number(BUCKETS)?,
        window_seconds: attributes.number(WINDOW_SECONDS)?,
    })
}
