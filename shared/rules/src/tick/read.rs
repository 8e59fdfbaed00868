//! Reading: one pass for each bucket, in it one selection for all rules that ask for the same series.

use super::act::Done;
use super::due::first;
use super::{Tick, instances_of};
use crate::decide::{Decision, decide};
use crate::event::Publish;
use crate::rule::Rule;
use crate::store::AlertStore;
use crate::vector::{self, View};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::pin::pin;
use tidemark_model::{Bucket, LabelFilter, Timestamp};
use tidemark_tsdb::{Select, SelectError, SelectedSeries, Selector, Wanted};

/// How many changes are gathered before they are written: several rules write together, and a few hundred instances are in memory.
const CHANGES_AT_ONCE: usize = 256;

/// The selections of one bucket.
pub(super) struct Pass<'a> {
    wanted: Vec<Wanted>,
    /// Who waits for each.
    asking: Vec<Vec<Asking<'a>>>,
}

/// A rule, and from when on it reads.
struct Asking<'a> {
    rule: &'a Rule,
    start_ms: i64,
}

/// Brings the rules together that read the same, and begins elsewhere on each tick.
pub(super) fn passes<'a>(rules: Vec<&'a Rule>, data: &impl Select, now: Timestamp) -> Vec<Pass<'a>> {
    let mut buckets: BTreeMap<Bucket, BTreeMap<(&str, &LabelFilter), Vec<Asking<'a>>>> = BTreeMap::new();
    for rule in rules {
        let crate::rule::Query::Threshold(threshold) = &rule.spec.query else {
            continue;
        };
        let Some((start_ms, _)) = vector::range(&rule.spec.query, now.0) else {
            continue;
        };
        let bucket = buckets.entry(data.bucket(&threshold.metric_name)).or_default();
        let asking = bucket.entry((&threshold.metric_name, &threshold.labels)).or_default();
        asking.push(Asking { rule, start_ms });
    }
    let mut passes: Vec<Pass<'a>> = buckets.into_values().map(|bucket| pass(bucket, now)).collect();
    let begin = first(now, passes.len());
    passes.rotate_left(begin);
    passes
}

fn pass<'a>(selections: BTreeMap<(&str, &LabelFilter), Vec<Asking<'a>>>, now: Timestamp) -> Pass<'a> {
    let mut all: Vec<(Wanted, Vec<Asking<'a>>)> = selections
        .into_iter()
        .map(|((metric, filter), asking)| {
            let wanted = Wanted {
                selector: Selector {
                    metric: metric.to_owned(),
                    filter: filter.clone(),
                },
                start_ms: asking.iter().map(|one| one.start_ms).min().unwrap_or(now.0),
            };
            (wanted, asking)
        })
        .collect();
    let begin = first(now, all.len());
    all.rotate_left(begin);
    let (wanted, asking) = all.into_iter().unzip();
    Pass { wanted, asking }
}

/// Decisions that wait to be executed.
#[derive(Default)]
struct Batch<'a> {
    decisions: Vec<(&'a str, Decision)>,
    changes: usize,
}

/// What the selected series have from some time on.
fn cut(series: &[SelectedSeries], start_ms: i64) -> Vec<View<'_>> {
    let views = series.iter().map(|one| {
        let from = one.samples.partition_point(|sample| sample.timestamp_ms < start_ms);
        View {
            labels: &one.labels,
            samples: &one.samples[from..],
        }
    });
    views.filter(|view| !view.samples.is_empty()).collect()
}

impl<A: AlertStore, D: Select, P: Publish> Tick<'_, A, D, P> {
    /// Evaluates the rules of one bucket.
    pub(super) async fn read(&self, pass: &Pass<'_>) -> Done {
        let now = self.world.now;
        let mut done = Done::default();
        let mut batch = Batch::default();
        let mut selections = pin!(self.world.data.select_many(&pass.wanted, now.0));
        for (at, asking) in pass.asking.iter().enumerate() {
            if !(self.world.may_go_on)() {
                done.skip(pass.asking[at..].iter().flatten().map(|one| one.rule));
                break;
            }
            done.summary.read_passes = 1;
            done.summary.selections += 1;
            match selections.next().await {
                Some(Ok(series)) => self.decide(asking, &series, &mut batch, &mut done),
                Some(Err(error)) if is_limit(&error) => {
                    let selector = &pass.wanted[at].selector;
                    self.shorten(selector, asking, &error, &mut batch, &mut done).await;
                }
                Some(Err(error)) => done.fail(asking.iter().map(|one| one.rule), &error),
                // It answers for too few; the next tick tries again.
                None => done.skip(asking.iter().map(|one| one.rule)),
            }
            if batch.changes >= CHANGES_AT_ONCE {
                done.add(self.execute(std::mem::take(&mut batch).decisions).await);
            }
        }
        done.add(self.execute(batch.decisions).await);
        done
    }

    fn decide<'r>(&self, asking: &[Asking<'r>], series: &[SelectedSeries], batch: &mut Batch<'r>, done: &mut Done) {
        done.summary.samples_read += series.iter().map(|one| one.samples.len()).sum::<usize>();
        for Asking { rule, start_ms } in asking {
            let rows = vector::vector_of(&rule.spec.query, &cut(series, *start_ms));
            let previous = instances_of(&self.by_rule, rule);
            let unobserved_ms = self.past.unobserved_ms(rule);
            let decision = decide(rule, previous, &rows, self.world.now, unobserved_ms);
            batch.changes += decision.changes.len();
            batch.decisions.push((&rule.id, decision));
        }
    }

    /// The longest window hits a limit: rules with a shorter one do not pay for that.
    async fn shorten<'r>(
        &self,
        selector: &Selector,
        asking: &[Asking<'r>],
        error: &SelectError,
        batch: &mut Batch<'r>,
        done: &mut Done,
    ) {
        let mut by_start: BTreeMap<i64, Vec<&'r Rule>> = BTreeMap::new();
        for one in asking {
            by_start.entry(one.start_ms).or_default().push(one.rule);
        }
        let longest = by_start.pop_first().map(|(_, rules)| rules).unwrap_or_default();
        done.fail(longest.into_iter(), error);
        for (start_ms, rules) in by_start {
            if !(self.world.may_go_on)() {
                done.skip(rules.into_iter());
                continue;
            }
            done.summary.selections += 1;
            match self.world.data.select(selector, start_ms, self.world.now.0).await {
                Ok(series) => {
                    let asking: Vec<Asking<'r>> = rules.into_iter().map(|rule| Asking { rule, start_ms }).collect();
                    self.decide(&asking, &series, batch, done);
                }
                Err(error) => done.fail(rules.into_iter(), &error),
            }
        }
    }
}

fn is_limit(error: &SelectError) -> bool {
    matches!(
        error,
        SelectError::TooManySeries { .. } | SelectError::TooManySamples { .. }
    )
}
