//! What a backtest is asked for, and whether that can be answered.

use crate::rule::fields;
use crate::rule::{InvalidField, RuleSpec};
use crate::vector;
use serde_json::Value;
use tidemark_model::{Timestamp, limits};
use tidemark_tsdb::Select;

/// The body of a request: `{"rule": {…}, "start_time", "end_time", "step_seconds"}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The rule, as it would be created.
    pub spec: RuleSpec,
    /// The first step.
    pub start: Timestamp,
    /// No step is later.
    pub end: Timestamp,
    /// From step to step; `None`: the rule's interval.
    pub step_seconds: Option<u64>,
}

impl Request {
    /// Whether a body asks for a backtest.
    #[must_use]
    pub fn is_one(body: &Value) -> bool {
        body.get("rule").is_some_and(|rule| !rule.is_null())
    }

    /// Reads a request; `rule`, `start_time` and `end_time` are required. Times are RFC 3339 or Unix seconds.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn parse(body: &Value) -> Result<Self, InvalidField> {
        let object = fields::object(body)?;
        let rule = fields::required(object, "rule")?;
        let spec = RuleSpec::parse(rule.value).map_err(|inside| InvalidField {
            field: match inside.field.as_str() {
                "" => rule.path.clone(),
                field => format!("rule.{field}"),
            },
            reason: inside.reason,
        })?;
        let step = fields::optional(object, "step_seconds");
        Ok(Self {
            spec,
            start: fields::required(object, "start_time").and_then(fields::time)?,
            end: fields::required(object, "end_time").and_then(fields::time)?,
            step_seconds: step
                .map(|field| fields::seconds(field, 1, limits::MAX_RULE_SECONDS))
                .transpose()?,
        })
    }
}

/// The times of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steps {
    first: Timestamp,
    last: Timestamp,
    step_ms: i64,
}

impl Steps {
    /// The steps of a range, if they are not too many, not in the future, and samples are still kept for all of them.
    pub(super) fn checked(
        spec: &RuleSpec,
        (start, end): (Timestamp, Timestamp),
        step_seconds: u64,
        data: &impl Select,
        now: Timestamp,
    ) -> Result<Self, InvalidField> {
        if start > end {
            return Err(fields::invalid("start_time", "must not be after end_time"));
        }
        if end > now {
            return Err(fields::invalid("end_time", "must not be in the future"));
        }
        let step_ms = i64::try_from(step_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
        if step_ms == 0 {
            return Err(fields::invalid("step_seconds", "must be at least 1"));
        }
        let between = end.0.saturating_sub(start.0) / step_ms;
        let most = limits::MAX_STEPS_PER_QUERY;
        if between >= most {
            let steps = between.saturating_add(1);
            let reason = format!("gives {steps} steps from start_time to end_time; at most {most} are allowed");
            return Err(fields::invalid("step_seconds", reason));
        }
        let oldest = Timestamp(data.oldest_sample_ms(now.0));
        if vector::range(&spec.query, start.0).is_some_and(|(from_ms, _)| from_ms < oldest.0) {
            let reason = format!(
                "with the rule's window before it reaches back further than samples are kept, which is to {}",
                oldest.to_rfc3339()
            );
            return Err(fields::invalid("start_time", reason));
        }
        Ok(Self {
            first: start,
            last: Timestamp(start.0.saturating_add(between.saturating_mul(step_ms))),
            step_ms,
        })
    }

    pub(super) fn first(self) -> Timestamp {
        self.first
    }

    pub(super) fn last(self) -> Timestamp {
        self.last
    }

    /// The step after one.
    pub(super) fn after(self, step: Timestamp) -> Timestamp {
        Timestamp(step.0.saturating_add(self.step_ms))
    }

    /// The last step that is not later than a time after the first one.
    pub(super) fn at_or_before(self, at: Timestamp) -> Timestamp {
        let steps = at.0.saturating_sub(self.first.0) / self.step_ms;
        Timestamp(self.first.0.saturating_add(steps.saturating_mul(self.step_ms))).min(self.last)
    }

    /// All steps from one on.
    pub(super) fn from(self, step: Timestamp) -> impl Iterator<Item = Timestamp> + Send {
        let next = move |at: &Timestamp| Some(self.after(*at)).filter(|at| *at <= self.last);
        std::iter::successors(Some(step), next)
    }
}
