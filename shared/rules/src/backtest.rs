//! What a rule would have fired over stored data, when and for how long.
//!
//! A backtest asks for the samples of its whole range once (in pieces, where they are more than may be in memory), slides the rule's
//! window over them, and lets [`decide`](crate::decide::decide) decide at every step what it would have decided on a tick at that
//! time. So its result is that of real ticks at the times of its steps, of a store that already had what it has now: samples that came
//! late are there as if they had come in time.

use crate::decide::{Change, decide};
use crate::instance::{Instance, InstanceState, TransitionKind, TransitionReason};
use crate::rule::{InvalidField, NoData, Rule, RuleSpec};
use crate::vector::{self, Row};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use tidemark_model::{Labels, Timestamp, limits, value};
use tidemark_tsdb::{Select, SelectError};
use window::Sliding;

mod request;
mod window;

pub use request::Request;

/// The most rows of all steps together: a second or two of work. Those of 1,000 series over a day in steps of a minute are 1.4 million.
pub const MAX_ROWS: usize = limits::MAX_RESULTS_PER_QUERY;

/// The most samples that all windows of all steps hold together: a few seconds of work. Those of 1,000 series over a day at 15 s, in
/// windows of an hour and steps of a minute, are 350 million.
pub const MAX_WINDOW_SAMPLES: usize = 500_000_000;

/// The most bytes of labels in the answer, counted with what each incident takes besides: an answer must fit
/// [`limits::MAX_RESPONSE_BYTES`].
const MAX_INCIDENT_BYTES: usize = 3_000_000;

/// What an incident takes in JSON, without its labels.
const INCIDENT_BYTES: usize = 320;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError {
    /// The request cannot be taken.
    #[error("{0}")]
    Invalid(InvalidField),
    /// The samples cannot be read, or are too many for the rule itself.
    #[error("the samples of the rule could not be read")]
    Select(#[from] SelectError),
}

impl From<InvalidField> for BacktestError {
    fn from(field: InvalidField) -> Self {
        Self::Invalid(field)
    }
}

/// What would have happened to one alert.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Incident {
    /// The labels of the series or group.
    pub labels: Labels,
    /// Where it stood at the end of the range: resolved, still firing, or pending.
    pub state: InstanceState,
    /// Since when the condition held.
    pub pending_since: Option<Timestamp>,
    /// When it would have fired; `None` while pending.
    pub firing_since: Option<Timestamp>,
    /// When it would have been resolved; `None` when it was not.
    pub resolved_at: Option<Timestamp>,
    /// How long it would have fired, at most to the end of the range.
    pub duration_seconds: f64,
    /// The value that it would have fired with; while pending the last one.
    #[serde(with = "value")]
    pub value: f64,
    /// Why it came to its state.
    pub reason: TransitionReason,
}

/// What the evaluation of the rule cost; a tick costs as much for each of its steps, but for what it shares with other rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// How often samples were selected.
    pub selections: usize,
    /// The most series of one selection.
    pub series: usize,
    /// How many samples were read.
    pub samples_read: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Backtest {
    /// The first step.
    pub start_time: Timestamp,
    /// The last step.
    pub end_time: Timestamp,
    /// From step to step.
    pub step_seconds: u64,
    /// What would have fired or been pending at the end, in order of its beginning, then of its labels.
    pub incidents: Vec<Incident>,
    /// How many further ones there are, which the answer has no room for.
    pub incidents_omitted: usize,
    /// How many steps there were.
    pub evaluations: usize,
    /// Rows that became no alert because a rule has at most so many, over all steps.
    pub rows_dropped: usize,
    /// What it cost.
    pub cost: Cost,
}

/// Runs a rule over stored data: at `start`, then every `step_seconds` (`None`: the rule's interval) until `end`. A disabled rule is
/// tested as if it were enabled.
///
/// # Errors
/// When the range or the step cannot be taken (by the names of [`Request`]'s fields), and when the samples cannot be read.
pub async fn run(
    data: &impl Select,
    spec: &RuleSpec,
    start: Timestamp,
    end: Timestamp,
    step_seconds: Option<u64>,
    now: Timestamp,
) -> Result<Backtest, BacktestError> {
    let step_seconds = step_seconds.unwrap_or(spec.interval_seconds);
    let steps = request::Steps::checked(spec, (start, end), step_seconds, data, now)?;
    let mut replay = Replay::new(spec);
    let mut cost = Cost::default();
    let mut work = Work::default();
    let Some(selector) = spec.query.selector() else {
        for at in steps.from(start) {
            let rows = vector::vector(&spec.query, &[]);
            replay.step(&rows, at);
        }
        return Ok(replay.finish(steps, step_seconds, cost));
    };
    let mut at = start;
    let mut most_ms = end.0.saturating_sub(start.0);
    while at <= steps.last() {
        let to = steps.at_or_before(Timestamp(at.0.saturating_add(most_ms)));
        let Some((from_ms, _)) = vector::range(&spec.query, at.0) else {
            break;
        };
        cost.selections += 1;
        match data.select(&selector, from_ms, to.0).await {
            Ok(series) => {
                cost.series = cost.series.max(series.len());
                cost.samples_read += series.iter().map(|one| one.samples.len()).sum::<usize>();
                let mut sliding = Sliding::new(&series);
                for at in steps.from(at).take_while(|at| *at <= to) {
                    let views = sliding.at(&spec.query, at);
                    work.add(&views)?;
                    let rows = vector::vector_of(&spec.query, &views);
                    replay.step(&rows, at);
                }
                at = steps.after(to);
            }
            // More than may be in memory at once: half of it.
            Err(SelectError::TooManySamples { .. } | SelectError::TooManySeries { .. }) if to > at => {
                most_ms = to.0.saturating_sub(at.0) / 2;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(replay.finish(steps, step_seconds, cost))
}

/// How much was worked on.
#[derive(Default)]
struct Work {
    rows: usize,
    samples: usize,
}

impl Work {
    fn add(&mut self, views: &[vector::View<'_>]) -> Result<(), InvalidField> {
        self.rows += views.len();
        self.samples += views.iter().map(|view| view.samples.len()).sum::<usize>();
        let too_many = |what: &str, limit: usize| InvalidField {
            field: "step_seconds".to_owned(),
            reason: format!(
                "gives steps with more than {limit} {what} altogether; ask for longer steps, a shorter range or fewer series"
            ),
        };
        if self.rows > MAX_ROWS {
            return Err(too_many("series", MAX_ROWS));
        }
        if self.samples > MAX_WINDOW_SAMPLES {
            return Err(too_many("samples", MAX_WINDOW_SAMPLES));
        }
        Ok(())
    }
}

/// The instances of the rule as they would have been.
struct Replay {
    rule: Rule,
    instances: Vec<Instance>,
    /// The place of each in `instances`.
    places: HashMap<String, usize>,
    /// What fires, by instance.
    firing: BTreeMap<String, Incident>,
    /// What is over.
    over: Vec<Incident>,
    evaluations: usize,
    dropped: usize,
}

impl Replay {
    fn new(spec: &RuleSpec) -> Self {
        let spec = RuleSpec {
            enabled: true,
            // Nobody reads them, and they are rendered on every change.
            annotations: BTreeMap::new(),
            ..spec.clone()
        };
        Self {
            rule: Rule {
                id: "backtest".to_owned(),
                spec,
                version: 1,
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
            },
            instances: Vec::new(),
            places: HashMap::new(),
            firing: BTreeMap::new(),
            over: Vec::new(),
            evaluations: 0,
            dropped: 0,
        }
    }

    fn step(&mut self, rows: &[Row], at: Timestamp) {
        self.evaluations += 1;
        let is_idle = self.instances.is_empty() && !rows.iter().any(|row| row.holds);
        if is_idle && self.rule.spec.no_data != NoData::Alerting {
            return;
        }
        let decision = decide(&self.rule, &self.instances, rows, at, 0);
        self.dropped += decision.dropped;
        for change in decision.changes {
            match change {
                Change::Save { instance, .. } => self.save(*instance),
                Change::Remove { id, .. } => self.remove(&id),
            }
        }
    }

    /// Saves an instance, and tells at once what its outbox holds.
    fn save(&mut self, mut instance: Instance) {
        for transition in std::mem::take(&mut instance.unsent) {
            match transition.kind {
                TransitionKind::Firing => {
                    let incident = Incident {
                        labels: instance.labels.clone(),
                        state: InstanceState::Firing,
                        pending_since: instance.pending_since,
                        firing_since: Some(transition.firing_since),
                        resolved_at: None,
                        duration_seconds: 0.0,
                        value: transition.value,
                        reason: transition.reason,
                    };
                    self.firing.insert(instance.id.clone(), incident);
                }
                TransitionKind::Resolved => {
                    if let Some(incident) = self.firing.remove(&instance.id) {
                        self.over.push(Incident {
                            state: InstanceState::Resolved,
                            resolved_at: Some(transition.at),
                            duration_seconds: seconds(incident.firing_since, transition.at),
                            reason: transition.reason,
                            ..incident
                        });
                    }
                }
                TransitionKind::Pending | TransitionKind::Inactive | TransitionKind::Acknowledged => {}
            }
        }
        match self.places.get(&instance.id) {
            Some(place) => self.instances[*place] = instance,
            None => {
                self.places.insert(instance.id.clone(), self.instances.len());
                self.instances.push(instance);
            }
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(place) = self.places.remove(id) {
            self.instances.swap_remove(place);
            if let Some(moved) = self.instances.get(place) {
                self.places.insert(moved.id.clone(), place);
            }
        }
    }

    fn finish(self, steps: request::Steps, step_seconds: u64, cost: Cost) -> Backtest {
        let end = steps.last();
        let firing = self.firing.into_values().map(|incident| Incident {
            duration_seconds: seconds(incident.firing_since, end),
            ..incident
        });
        let pending = self
            .instances
            .iter()
            .filter(|instance| instance.state == InstanceState::Pending);
        let pending = pending.map(|instance| Incident {
            labels: instance.labels.clone(),
            state: InstanceState::Pending,
            pending_since: instance.pending_since,
            firing_since: None,
            resolved_at: None,
            duration_seconds: 0.0,
            value: instance.current_value,
            reason: if instance.missing_since.is_some() {
                TransitionReason::DataMissing
            } else {
                TransitionReason::ConditionMet
            },
        });
        let mut incidents: Vec<Incident> = self.over.into_iter().chain(firing).chain(pending).collect();
        let began = |incident: &Incident| incident.pending_since.or(incident.firing_since);
        incidents.sort_by(|a, b| (began(a), &a.labels, a.firing_since).cmp(&(began(b), &b.labels, b.firing_since)));
        let all = incidents.len();
        incidents.truncate(fitting(&incidents));
        Backtest {
            start_time: steps.first(),
            end_time: end,
            step_seconds,
            incidents_omitted: all - incidents.len(),
            incidents,
            evaluations: self.evaluations,
            rows_dropped: self.dropped,
            cost,
        }
    }
}

/// How many of the incidents the answer has room for.
fn fitting(incidents: &[Incident]) -> usize {
    let mut bytes = 0;
    let fits = |incident: &&Incident| {
        let labels = incident.labels.iter().map(|(name, value)| name.len() + value.len() + 6);
        bytes += INCIDENT_BYTES + labels.sum::<usize>();
        bytes <= MAX_INCIDENT_BYTES
    };
    incidents.iter().take_while(fits).count()
}

fn seconds(since: Option<Timestamp>, until: Timestamp) -> f64 {
    let since = since.unwrap_or(until);
    // Exact: far below 2^53 milliseconds.
    until.0.saturating_sub(since.0) as f64 / 1_000.0
}

#[cfg(test)]
mod tests;
