//! A sorted set of labels.

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::fmt;

/// One label: a name and a value, both any UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label {
    /// The name, never empty.
    pub name: Box<str>,
    /// The value, possibly empty.
    pub value: Box<str>,
}

/// The labels of a series, in ascending byte order of their names, each name once. The metric name is not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Box<[Label]>);

/// Why a set of labels is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabelsError {
    /// A name stands twice.
    #[error("label `{0}` is given twice")]
    Duplicate(String),
    /// A name is empty.
    #[error("a label name is empty")]
    EmptyName,
}

impl Labels {
    /// Sorts the pairs into a label set.
    ///
    /// # Errors
    /// When a name is empty or stands twice.
    pub fn from_pairs<N, V>(pairs: impl IntoIterator<Item = (N, V)>) -> Result<Self, LabelsError>
    where
        N: Into<Box<str>>,
        V: Into<Box<str>>,
    {
        let mut labels: Vec<Label> = pairs
            .into_iter()
            .map(|(name, value)| Label {
                name: name.into(),
                value: value.into(),
            })
            .collect();
        labels.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for pair in labels.windows(2) {
            if pair[0].name == pair[1].name {
                return Err(LabelsError::Duplicate(pair[0].name.to_string()));
            }
        }
        if labels.first().is_some_and(|label| label.name.is_empty()) {
            return Err(LabelsError::EmptyName);
        }
        Ok(Self(labels.into_boxed_slice()))
    }

    /// The value of a label, if the series has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|label| (*label.name).cmp(name)).ok()?;
        Some(&self.0[at].value)
    }

    /// The labels in order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|label| (&*label.name, &*label.value))
    }

    /// How many labels there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the labels that are named, as `group_by` keeps them. A name that the series lacks is left out.
    #[must_use]
    pub fn project(&self, names: &[String]) -> Self {
        let kept = self
            .0
            .iter()
            .filter(|label| names.iter().any(|name| **name == *label.name));
        Self(kept.cloned().collect())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (name, value) in self.iter() {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Vec<(String, String)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of label names and string values")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        let pairs = deserializer.deserialize_map(Pairs)?;
        Self::from_pairs(pairs).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_sorted_by_name() {
        let labels = Labels::from_pairs([("region", "eu"), ("host", "web-01")]).unwrap();
        assert_eq!(
            labels.iter().collect::<Vec<_>>(),
            [("host", "web-01"), ("region", "eu")]
        );
        assert_eq!(labels.get("region"), Some("eu"));
        assert_eq!(labels.get("zone"), None);
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        assert_eq!(
            Labels::from_pairs([("a", "1"), ("a", "2")]),
            Err(LabelsError::Duplicate("a".into()))
        );
    }

    #[test]
    fn an_empty_name_is_refused_and_an_empty_value_is_kept() {
        assert_eq!(Labels::from_pairs([("", "1")]), Err(LabelsError::EmptyName));
        assert_eq!(Labels::from_pairs([("a", "")]).unwrap().get("a"), Some(""));
    }

    #[test]
    fn project_keeps_only_named_labels_that_exist() {
        let labels = Labels::from_pairs([("a", "1"), ("b", "2")]).unwrap();
        let kept = labels.project(&["b".to_owned(), "c".to_owned()]);
        assert_eq!(kept.iter().collect::<Vec<_>>(), [("b", "2")]);
    }
}
