//! The simple query API: one metric, a label filter, a time range, and its samples or one value for each group and step.
//!
//! `parse` reads the query string, `run` selects and evaluates, and the answer is written straight to bytes, because a
//! page may hold tens of thousands of samples that share a few label sets. Nothing holds all samples of a query: those of a page
//! are written as they are read, and values are aggregated as they are read.

use crate::aggregate::Aggregation;
use crate::aggregate::fold::{Fold, Function, Value};
use crate::answer;
use crate::evidence::Evidence;
use crate::page;
use crate::plan::{Range, Want};
use crate::select::{Reader, Selection, Selector};
use crate::store::Store;
use place::Place;
use rows::{Answer, Row};
use samples::Samples;
use serde_json::value::RawValue;
use tidemark_model::value::JsonF64;
use tidemark_model::{Labels, Timestamp, limits};
use tidemark_wire::{ApiError, ErrorId};
use xxhash_rust::xxh3::xxh3_128;

mod parameters;
mod place;
mod rows;
mod samples;

pub use parameters::DEFAULT_RANGE_MS;

/// The longest step: the longest range.
const MAX_STEP_MS: i64 = limits::MAX_QUERY_RANGE_MS;

/// A checked query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Which series.
    pub selector: Selector,
    /// The first millisecond of the range.
    pub start_ms: i64,
    /// The last millisecond of the range.
    pub end_ms: i64,
    /// The length of the steps that values are given for, in milliseconds. They begin at multiples of it since 1970.
    pub step_ms: Option<i64>,
    /// What to compute; `None` for the samples themselves, or with a step for the mean of each series.
    pub function: Option<Function>,
    /// The labels to group by.
    pub group_by: Vec<String>,
    /// The most results in the answer; there may be fewer, since an answer's size is limited too.
    pub limit: Option<usize>,
    /// Where an earlier page ended.
    after: Option<Place>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// JSON.
    pub body: Vec<u8>,
    /// What it was made from, when that tells for how long it stays right.
    pub evidence: Option<Evidence>,
}

/// The version of the answers. Another one whenever the same query over the same data is answered otherwise than before: the
/// answers that an earlier version left in the cache are never found then.
const ANSWERS: u32 = 1;

impl Query {
    /// Selects, evaluates and writes the JSON answer. What is older than anything that is kept, or newer than a sample may be, is
    /// not looked for.
    ///
    /// # Errors
    /// When a limit of the query is hit, or the store does not answer.
    pub async fn run<S: Store>(&self, reader: &Reader<S>, now_ms: i64) -> Result<Answered, ApiError> {
        let newest_ms = now_ms.saturating_add(limits::MAX_FUTURE_MS);
        let mut range = Range {
            // What has passed its retention is gone, whether or not the database has deleted it yet.
            start_ms: self.start_ms.max(reader.oldest_ms(now_ms)),
            end_ms: self.end_ms.min(newest_ms),
            want: self.step_ms.map_or(Want::Finest, Want::Step),
            counter: self.function.is_some_and(Function::is_of_counters),
            now_ms,
        };
        let function = match (self.function, self.step_ms) {
            (None, Some(_)) => Some(Function::Over(Aggregation::Avg)),
            (function, _) => function,
        };
        if let (None, Some(Place::Sample { timestamp_ms, .. })) = (function, self.after) {
            range.start_ms = range.start_ms.max(timestamp_ms);
        }
        let selection = reader
            .open(&self.selector, &range)
            .await
            .map_err(answer::select_failed)?;
        let body = match function {
            Some(function) => self.values(&selection, &range, function).await?,
            None => self.samples(&selection).await?,
        };
        // As time passes, a range that reaches beyond what samples may have holds more than was looked for.
        let evidence = selection.evidence().filter(|_| self.end_ms <= newest_ms);
        Ok(Answered { body, evidence })
    }

    /// A name that no other query has, and that this one always has.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let range = format!("{} {} {:?}", self.start_ms, self.end_ms, self.step_ms);
        let function = self.function.map(Function::as_str);
        let page = format!("{:?} {:?}", self.limit, self.after.map(Place::token));
        let filter = self.selector.filter.to_string();
        // As JSON, so that no two queries run together to one text.
        let text = serde_json::json!([
            ANSWERS,
            self.selector.metric,
            filter,
            range,
            function,
            self.group_by,
            page
        ]);
        format!("{:032x}", xxh3_128(text.to_string().as_bytes()))
    }

    async fn samples<S: Store>(&self, selection: &Selection<'_, S>) -> Result<Vec<u8>, ApiError> {
        if let Some(Place::Group { .. }) = self.after {
            return Err(page::wrong_token());
        }
        let answer = Answer::begin(&self.selector.metric, self.limit);
        let mut samples = Samples::new(answer, selection.labels(), self.after)?;
        selection.read(&mut samples).await.map_err(answer::select_failed)?;
        samples.finish(selection.parts())
    }

    async fn values<S: Store>(
        &self,
        selection: &Selection<'_, S>,
        range: &Range,
        function: Function,
    ) -> Result<Vec<u8>, ApiError> {
        let group_by = self.function.map(|_| self.group_by.as_slice());
        let range_ms = range.end_ms.saturating_sub(range.start_ms);
        let mut fold = Fold::new(function, self.step_ms, range_ms, selection.labels(), group_by);
        selection.read(&mut fold).await.map_err(answer::select_failed)?;
        if fold.is_too_large() {
            let most = limits::MAX_RESULTS_PER_QUERY;
            let message = format!("the query has more than {most} results; ask for fewer series or longer steps");
            return Err(ApiError::new(ErrorId::QueryTooLarge, message));
        }
        let groups = fold.finish();
        let mut answer = Answer::begin(&self.selector.metric, self.limit);
        let mut last = self.after;
        for (labels, values) in &groups[self.first_group(&groups)?..] {
            let hash = place::hash_of(labels);
            let labels: Box<RawValue> = serde_json::value::to_raw_value(labels).map_err(unwritable)?;
            for value in values {
                let place = Place::Group {
                    labels: hash,
                    start_ms: value.start_ms,
                };
                if self.is_before(place) {
                    continue;
                }
                let fits = answer.push(&Row::<'_, RawValue> {
                    labels: &labels,
                    value: JsonF64(value.value),
                    count: value.count,
                    timestamp: self.step_ms.map(|_| Timestamp(value.start_ms)),
                })?;
                if !fits {
                    return answer.finish(selection.parts(), last.map(Place::token));
                }
                last = Some(place);
            }
        }
        answer.finish(selection.parts(), None)
    }

    /// The group that the page before ended in.
    fn first_group(&self, groups: &[(Labels, Vec<Value>)]) -> Result<usize, ApiError> {
        match self.after {
            None => Ok(0),
            Some(Place::Sample { .. }) => Err(page::wrong_token()),
            Some(Place::Group { labels: hash, .. }) => groups
                .iter()
                .position(|(labels, _)| place::hash_of(labels) == hash)
                .ok_or_else(|| answer::invalid("next_token", "continues in a group that is gone; begin again")),
        }
    }

    /// Whether an earlier page has it.
    fn is_before(&self, place: Place) -> bool {
        match (self.after, place) {
            (
                Some(Place::Group { labels, start_ms }),
                Place::Group {
                    labels: of,
                    start_ms: at,
                },
            ) => of == labels && at <= start_ms,
            _ => false,
        }
    }
}

fn unwritable(error: serde_json::Error) -> ApiError {
    answer::internal(&error)
}

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod tests;
