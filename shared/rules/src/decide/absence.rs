//! What an evaluation makes of a row, and of one that is not there.

use super::{Answer, Evaluation};
use crate::instance::{Instance, TransitionReason};
use crate::rule::{NoData, Query, Rule};
use crate::vector::Row;
use tidemark_model::Labels;

impl Evaluation<'_> {
    /// What the condition says of these labels.
    pub(super) fn ask(&self, labels: &Labels, row: Option<&Row>, before: Option<&Instance>) -> Answer {
        match (row, before) {
            (Some(row), _) if row.holds => Answer::Holds {
                value: row.value,
                missing: false,
            },
            (Some(row), before) => Answer::Cleared {
                value: Some(row.value),
                reason: before.map_or(TransitionReason::ConditionCleared, |before| {
                    why_cleared(self.rule, before, row.value)
                }),
            },
            (None, Some(before)) => self.ask_of_nothing(before),
            // Only what has no labels is asked without a row or an instance.
            (None, None) if self.misses_everything(false) && labels.is_empty() => Answer::Holds {
                value: f64::NAN,
                missing: true,
            },
            (None, None) => Answer::Unknown,
        }
    }

    /// What to make of an instance without a row.
    fn ask_of_nothing(&self, before: &Instance) -> Answer {
        let cleared = |reason| Answer::Cleared { value: None, reason };
        let active = before.state.is_active();
        let no_data = self.rule.spec.no_data;
        if !active && no_data != NoData::Alerting {
            return cleared(TransitionReason::DataMissing);
        }
        let still_asked = is_still_asked(self.rule, before);
        match no_data {
            // It stands for whatever the rule asks about now. Resolved by hand it is not missed again, unless that is something else.
            NoData::Alerting
                if before.labels.is_empty()
                    && self.misses_everything(active)
                    && (active || !still_asked || before.missing_since.is_none()) =>
            {
                Answer::Holds {
                    value: if still_asked { before.current_value } else { f64::NAN },
                    missing: true,
                }
            }
            _ if !still_asked => cleared(TransitionReason::RuleChanged),
            NoData::Ok => cleared(TransitionReason::DataMissing),
            NoData::Keep => Answer::Unknown,
            NoData::Alerting if before.labels.is_empty() && !self.misses_everything(active) => {
                cleared(TransitionReason::ConditionCleared)
            }
            // Resolved by hand: who did that does not wait for it.
            NoData::Alerting if !active && before.missing_since.is_some() => cleared(TransitionReason::DataMissing),
            NoData::Alerting => Answer::Holds {
                value: before.current_value,
                missing: true,
            },
        }
    }

    /// Whether the alert without labels stands for data that is missing altogether: while there is no row, and begun only where no alert
    /// with labels says it better.
    fn misses_everything(&self, active: bool) -> bool {
        self.rule.spec.no_data == NoData::Alerting && !self.has_rows && (active || !self.has_labelled)
    }
}

/// Whether there is an instance with labels that an evaluation of this rule may miss.
pub(super) fn has_labelled(rule: &Rule, previous: &[Instance]) -> bool {
    rule.spec.no_data == NoData::Alerting
        && previous
            .iter()
            .any(|instance| !instance.labels.is_empty() && is_still_asked(rule, instance))
}

/// Why a row that is there no longer meets the condition: only an edit explains it when the condition of the incident still holds.
fn why_cleared(rule: &Rule, before: &Instance, value: f64) -> TransitionReason {
    if !before.state.is_active() || same_query(rule, before) {
        return TransitionReason::ConditionCleared;
    }
    match serde_json::from_value(before.rule.query.clone()) {
        Ok(Query::Threshold(asked)) if !asked.condition.holds(value, asked.threshold) => {
            TransitionReason::ConditionCleared
        }
        Ok(_) | Err(_) => TransitionReason::RuleChanged,
    }
}

fn same_query(rule: &Rule, before: &Instance) -> bool {
    // Names and numbers always have a JSON.
    serde_json::to_value(&rule.spec.query).is_ok_and(|query| query == before.rule.query)
}

/// Whether the series or group of an instance would be among the rows if there was data of it: an edit may have turned to others.
pub(super) fn is_still_asked(rule: &Rule, before: &Instance) -> bool {
    let Query::Threshold(now) = &rule.spec.query else {
        return before.rule.is_heartbeat();
    };
    let same = |field, value: Result<serde_json::Value, serde_json::Error>| {
        value.is_ok_and(|value| before.rule.asked(field) == Some(&value))
    };
    let aggregated = before
        .rule
        .asked("aggregation")
        .is_some_and(|function| !function.is_null());
    same("metric_name", serde_json::to_value(&now.metric_name))
        && aggregated == now.aggregation.is_some()
        && same("group_by", serde_json::to_value(&now.group_by))
        && (same("labels", serde_json::to_value(&now.labels)) || (!aggregated && now.labels.matches(&before.labels)))
}
