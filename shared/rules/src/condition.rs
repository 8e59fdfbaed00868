//! The comparison of a threshold rule, and the answer to "would this value trigger?".

use crate::rule::{InvalidField, fields};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;
use tidemark_model::value::special_name;

/// How a value is compared to the threshold of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// `>`
    #[serde(rename = ">")]
    Greater,
    /// `<`
    #[serde(rename = "<")]
    Less,
    /// `>=`
    #[serde(rename = ">=")]
    GreaterOrEqual,
    /// `<=`
    #[serde(rename = "<=")]
    LessOrEqual,
    /// `==`
    #[serde(rename = "==")]
    Equal,
    /// `!=`
    #[serde(rename = "!=")]
    NotEqual,
}

/// A text is no condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one of > < >= <= == !=")]
pub struct UnknownCondition;

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 6] = [
        Self::Greater,
        Self::Less,
        Self::GreaterOrEqual,
        Self::LessOrEqual,
        Self::Equal,
        Self::NotEqual,
    ];

    /// Whether the value meets the condition. As in IEEE 754 and Prometheus, NaN meets `!=` and nothing else.
    #[must_use]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Greater => value > threshold,
            Self::Less => value < threshold,
            Self::GreaterOrEqual => value >= threshold,
            Self::LessOrEqual => value <= threshold,
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }

    /// The condition as it is written in a rule.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Greater => ">",
            Self::Less => "<",
            Self::GreaterOrEqual => ">=",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Condition {
    type Err = UnknownCondition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|condition| condition.as_str() == text)
            .ok_or(UnknownCondition)
    }
}

/// Writes a value the shortest way that reads back to the same bits: `92.5`, `-0`, `NaN`, `+Inf`. Very large and very small
/// ones get an exponent, because nobody reads 300 zeros.
#[must_use]
pub fn format_value(value: f64) -> String {
    if let Some(name) = special_name(value) {
        return name.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-7..1e21).contains(&magnitude) {
        format!("{value:e}")
    } else {
        format!("{value}")
    }
}

/// The answer to a test of a condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TestAnswer {
    /// Whether the value meets the condition.
    pub triggered: bool,
    /// A sentence that says why.
    pub reason: String,
}

/// Tests `{"metric_name", "condition", "threshold", "current_value"}`; other fields are ignored. `current_value` may be one of
/// the strings `"NaN"`, `"+Inf"`, `"-Inf"`.
///
/// # Errors
/// Names the first field that is missing or wrong.
pub fn test_rule(body: &Value) -> Result<TestAnswer, InvalidField> {
    let object = fields::object(body)?;
    let metric = fields::required(object, "metric_name").and_then(fields::metric_name)?;
    let condition = fields::required(object, "condition").and_then(fields::condition)?;
    let threshold = fields::required(object, "threshold").and_then(fields::finite)?;
    let value = fields::required(object, "current_value").and_then(fields::sample_value)?;
    let triggered = condition.holds(value, threshold);
    let (value, threshold) = (format_value(value), format_value(threshold));
    let reason = if triggered {
        format!("{metric} {value} {condition} {threshold}")
    } else {
        format!("{metric} {value} is not {condition} {threshold}")
    };
    Ok(TestAnswer { triggered, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn test(value: Value) -> (bool, String) {
        let body = json!({"metric_name": "cpu_usage", "condition": ">", "threshold": 90, "current_value": value});
        let answer = test_rule(&body).unwrap();
        (answer.triggered, answer.reason)
    }

    #[test]
    fn the_reason_is_a_sentence() {
        assert_eq!(test(json!(92.5)), (true, "cpu_usage 92.5 > 90".to_owned()));
        assert_eq!(test(json!(90)), (false, "cpu_usage 90 is not > 90".to_owned()));
        assert_eq!(test(json!("NaN")), (false, "cpu_usage NaN is not > 90".to_owned()));
        assert_eq!(test(json!("+Inf")), (true, "cpu_usage +Inf > 90".to_owned()));
    }

    #[test]
    fn an_error_names_its_field() {
        let whole = json!({"metric_name": "m", "condition": ">", "threshold": 1, "current_value": 2});
        for (field, bad) in [
            ("metric_name", json!("")),
            ("condition", json!("=>")),
            ("threshold", json!("NaN")),
            ("current_value", json!("much")),
        ] {
            let mut body = whole.clone();
            body[field] = bad;
            assert_eq!(test_rule(&body).unwrap_err().field, field);
            body.as_object_mut().unwrap().remove(field);
            let missing = test_rule(&body).unwrap_err();
            assert_eq!(
                (missing.field.as_str(), missing.reason.as_str()),
                (field, "is required")
            );
        }
        assert_eq!(test_rule(&json!([])).unwrap_err().field, "");
    }

    #[test]
    fn nan_meets_only_not_equal() {
        for condition in Condition::ALL {
            assert_eq!(condition.holds(f64::NAN, 1.0), condition == Condition::NotEqual);
        }
    }

    #[test]
    fn every_condition_reads_back() {
        for condition in Condition::ALL {
            assert_eq!(condition.as_str().parse(), Ok(condition));
            assert_eq!(serde_json::to_value(condition).unwrap(), json!(condition.as_str()));
        }
        assert_eq!("=".parse::<Condition>(), Err(UnknownCondition));
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        for (value, text) in [
            (92.5, "92.5"),
            (90.0, "90"),
            (-0.0, "-0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000"),
            (1e-5, "0.00001"),
            (5e-324, "5e-324"),
            (1e308, "1e308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), text);
        }
    }

    proptest! {
        #[test]
        fn a_written_value_reads_back(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(format_value(value).parse::<f64>().unwrap().to_bits(), bits);
        }

        #[test]
        fn conditions_come_in_opposite_pairs(value: f64, threshold: f64) {
            prop_assume!(!value.is_nan());
            for (one, other) in [(Condition::Greater, Condition::LessOrEqual), (Condition::Less, Condition::GreaterOrEqual),
                (Condition::Equal, Condition::NotEqual)] {
                prop_assert!(one.holds(value, threshold) != other.holds(value, threshold));
            }
        }
    }
}
