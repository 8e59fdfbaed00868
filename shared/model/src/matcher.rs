//! The label filter of a selector.

use crate::Labels;
use serde::{Deserialize, Serialize};

/// Labels that a series must have, each with just this value. An empty value also matches a series without the label, as
/// in Prometheus. The empty filter matches every series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelFilter(pub Labels);

impl LabelFilter {
    /// Whether a series passes.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|(name, value)| labels.get(name).unwrap_or("") == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn all_named_labels_must_match() {
        let filter = LabelFilter(labels(&[("host", "a"), ("region", "eu")]));
        assert!(filter.matches(&labels(&[("host", "a"), ("region", "eu"), ("os", "linux")])));
        assert!(!filter.matches(&labels(&[("host", "a")])));
        assert!(!filter.matches(&labels(&[("host", "b"), ("region", "eu")])));
    }

    #[test]
    fn an_empty_value_matches_a_missing_label() {
        let filter = LabelFilter(labels(&[("host", "")]));
        assert!(filter.matches(&labels(&[])));
        assert!(filter.matches(&labels(&[("host", "")])));
        assert!(!filter.matches(&labels(&[("host", "a")])));
    }

    #[test]
    fn the_empty_filter_matches_everything() {
        assert!(LabelFilter::default().matches(&labels(&[("host", "a")])));
    }
}
