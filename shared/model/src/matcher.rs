//! The label filter of a selector: `=`, `!=`, `=~` and `!~`, with Prometheus' meaning.
//!
//! - A series passes when every matcher of the filter does. A series without the label has the empty value for it, whatever
//!   the operator: `zone=""` and `zone!="a"` both take a series without a zone, and so does `zone=~".*"`.
//! - Patterns are anchored at both ends, and a dot stands for any character, newlines too (Prometheus 3). Their syntax is
//!   that of the `regex` crate, which is RE2's with few exceptions: `\d`, `\w`, `\s` and `\b` know all of Unicode, a `[`
//!   inside a class is escaped, and there is no `\Q…\E`.
//! - A filter is written as a PromQL selector, `{host="web-01",path=~"/api/.*"}` ([`selector`]), or, when all it asks for is
//!   equality, as a JSON object of names and values.

mod pattern;
pub mod selector;

use crate::{Labels, limits};
use pattern::Pattern;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`: the whole value matches the pattern.
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }

    fn is_negated(self) -> bool {
        matches!(self, Self::NotEqual | Self::NotRegex)
    }

    fn has_pattern(self) -> bool {
        matches!(self, Self::Regex | Self::NotRegex)
    }
}

/// One condition on one label. Its pattern is compiled. Two are equal when they are written the same.
#[derive(Clone)]
pub struct LabelMatcher {
    name: Box<str>,
    op: MatchOp,
    value: Box<str>,
    /// Shared by clones: what has been built of its automaton is not built again.
    pattern: Option<Arc<Pattern>>,
}

impl LabelMatcher {
    fn new(name: Box<str>, op: MatchOp, value: Box<str>) -> Result<Self, FilterError> {
        check(&name, op, &value)?;
        let pattern = op
            .has_pattern()
            .then(|| Pattern::new(&value))
            .transpose()
            .map_err(|reason| FilterError::Pattern {
                name: name.to_string(),
                reason,
            })?;
        Ok(Self {
            name,
            op,
            value,
            pattern: pattern.map(Arc::new),
        })
    }

    /// The label's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operator.
    #[must_use]
    pub fn op(&self) -> MatchOp {
        self.op
    }

    /// The value to compare with, or the pattern.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether a value passes; the empty one stands for a label that is not there.
    #[must_use]
    pub fn matches(&self, value: &str) -> bool {
        let same = match &self.pattern {
            Some(pattern) => pattern.matches(value),
            None => *self.value == *value,
        };
        same != self.op.is_negated()
    }

    fn written(&self) -> (&str, MatchOp, &str) {
        (&self.name, self.op, &self.value)
    }
}

impl PartialEq for LabelMatcher {
    fn eq(&self, other: &Self) -> bool {
        self.written() == other.written()
    }
}

impl Eq for LabelMatcher {}

impl PartialOrd for LabelMatcher {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelMatcher {
    fn cmp(&self, other: &Self) -> Ordering {
        self.written().cmp(&other.written())
    }
}

impl Hash for LabelMatcher {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written().hash(state);
    }
}

impl fmt::Debug for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a filter is not one. Each reads on after the name of the field that holds the filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// The text is no selector.
    #[error("cannot be read at character {position}: {reason}")]
    Syntax {
        /// Where, in characters from 1.
        position: usize,
        /// What was expected there, or what is wrong.
        reason: String,
    },
    /// A name is empty.
    #[error("has a label with an empty name")]
    EmptyName,
    /// The metric name is no label here.
    #[error("must not match `__name__`: the metric is named in a field of its own")]
    MetricName,
    /// A name stands twice where each stands once.
    #[error("gives the label `{name}` twice")]
    Duplicate {
        /// The label.
        name: String,
    },
    /// A name that no series can have.
    #[error("has a label name of {bytes} bytes; at most {limit} are allowed")]
    NameTooLong {
        /// The label.
        name: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A value that no series can have, or a pattern that is too long.
    #[error("has {bytes} bytes to match `{name}` with; at most {limit} are allowed")]
    ValueTooLong {
        /// The label.
        name: String,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// The pattern is no regular expression, or is too large once it is compiled.
    #[error("has a wrong pattern for `{name}`: {reason}")]
    Pattern {
        /// The label.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Too many matchers.
    #[error("has more than {limit} matchers")]
    TooManyMatchers {
        /// How many there may be.
        limit: usize,
    },
    /// Names and values are too long together.
    #[error("has {bytes} bytes of names and values; at most {limit} are allowed")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        limit: usize,
    },
}

impl FilterError {
    /// The label that it is about, where it is about one.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::MetricName => Some(METRIC_NAME),
            Self::Duplicate { name }
            | Self::NameTooLong { name, .. }
            | Self::ValueTooLong { name, .. }
            | Self::Pattern { name, .. } => Some(name),
            Self::Syntax { .. } | Self::EmptyName | Self::TooManyMatchers { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// What Prometheus calls the metric name among the labels. No stored series has a label of that name, so that a matcher on it
/// would silently take nothing.
const METRIC_NAME: &str = "__name__";

fn check(name: &str, op: MatchOp, value: &str) -> Result<(), FilterError> {
    if name.is_empty() {
        return Err(FilterError::EmptyName);
    }
    if name == METRIC_NAME {
        return Err(FilterError::MetricName);
    }
    if name.len() > limits::MAX_LABEL_NAME_BYTES {
        return Err(FilterError::NameTooLong {
            name: name.to_owned(),
            bytes: name.len(),
            limit: limits::MAX_LABEL_NAME_BYTES,
        });
    }
    let limit = if op.has_pattern() {
        limits::MAX_PATTERN_BYTES
    } else {
        limits::MAX_LABEL_VALUE_BYTES
    };
    if value.len() > limit {
        return Err(FilterError::ValueTooLong {
            name: name.to_owned(),
            bytes: value.len(),
            limit,
        });
    }
    Ok(())
}

/// What the labels of a series must match, all of it: matchers in ascending order, none twice. The empty filter matches every
/// series.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelFilter(Vec<LabelMatcher>);

impl LabelFilter {
    /// A filter of matchers, each a name, an operator and a value or pattern. One label may have several.
    ///
    /// # Errors
    /// Names the label and what is wrong with it. The limits on all matchers together are checked before any pattern is compiled.
    pub fn new<N, V>(matchers: impl IntoIterator<Item = (N, MatchOp, V)>) -> Result<Self, FilterError>
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut written: Vec<(Box<str>, MatchOp, Box<str>)> = Vec::new();
        let mut bytes = 0;
        for (name, op, value) in matchers {
            if written.len() == limits::MAX_MATCHERS_PER_FILTER {
                return Err(FilterError::TooManyMatchers {
                    limit: limits::MAX_MATCHERS_PER_FILTER,
                });
            }
            let (name, value) = (name.into(), value.into());
            bytes += name.len() + value.len();
            check(&name, op, &value)?;
            written.push((name, op, value));
        }
        if bytes > limits::MAX_FILTER_BYTES {
            return Err(FilterError::TooLarge {
                bytes,
                limit: limits::MAX_FILTER_BYTES,
            });
        }
        // In one order and without repetitions, so that filters that say the same are equal: rules with equal filters share
        // one selection, and equal queries one cached answer.
        written.sort_unstable();
        written.dedup();
        let matchers = written
            .into_iter()
            .map(|(name, op, value)| LabelMatcher::new(name, op, value));
        Ok(Self(matchers.collect::<Result<_, _>>()?))
    }

    /// A filter for labels that a series must have with just these values, each name once.
    ///
    /// # Errors
    /// When a name stands twice, or a limit is passed.
    pub fn equal<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, FilterError>
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut names = std::collections::HashSet::new();
        let mut matchers = Vec::new();
        for (name, value) in pairs {
            let name = name.into();
            if !names.insert(name.clone()) {
                return Err(FilterError::Duplicate { name: name.into() });
            }
            matchers.push((name, MatchOp::Equal, value));
        }
        Self::new(matchers)
    }

    /// The matchers in ascending order of name, operator and value.
    pub fn matchers(&self) -> impl ExactSizeIterator<Item = &LabelMatcher> + Clone {
        self.0.iter()
    }

    /// Whether it takes every series.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a series passes.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matches_with(|name| labels.get(name))
    }

    /// Whether labels pass that are looked up by their name, such as those of an alert.
    #[must_use]
    pub fn matches_with<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|matcher| matcher.matches(value_of(&matcher.name).unwrap_or("")))
    }

    /// Whether a JSON object of names and values says all of it.
    fn is_object(&self) -> bool {
        self.0.iter().all(|matcher| matcher.op == MatchOp::Equal)
            && self.0.windows(2).all(|pair| pair[0].name != pair[1].name)
    }
}

impl fmt::Debug for LabelFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for LabelFilter {
    type Err = FilterError;

    /// Reads a selector, see [`selector`].
    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::new(selector::parse(text)?)
    }
}

/// Writes an object of names and values where that says all of it, else the text of the selector.
impl Serialize for LabelFilter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_object() {
            return serializer.collect_str(self);
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for matcher in &self.0 {
            map.serialize_entry(&*matcher.name, &*matcher.value)?;
        }
        map.end()
    }
}

/// Reads both forms.
impl<'de> Deserialize<'de> for LabelFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl<'de> Visitor<'de> for EitherForm {
            type Value = LabelFilter;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of label names and string values, or the text of a selector")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<LabelFilter, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LabelFilter, A::Error> {
                let mut pairs: Vec<(String, String)> = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                LabelFilter::equal(pairs).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(EitherForm)
    }
}

#[cfg(test)]
mod tests;
