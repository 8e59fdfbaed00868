//! Placeholders in annotations: `{{ host }}`, `{{ value }}`, `{{ threshold }}`.
//!
//! | placeholder | becomes |
//! |---|---|
//! | `{{ value }}`, `{{ $value }}` | the value that was compared |
//! | `{{ threshold }}` | the rule's threshold |
//! | `{{ metric_name }}`, `{{ severity }}`, `{{ rule }}` | the rule's metric, severity and name |
//! | `{{ labels.host }}`, `{{ $labels.host }}` | the label `host` |
//! | `{{ host }}`, any other name | the label of that name |
//!
//! A name that means nothing renders as nothing. There are no functions and no conditions: who needs them formats in the receiver.

use crate::condition::format_value;
use crate::rule::{Query, RuleSpec};
use std::collections::BTreeMap;
use tidemark_model::{Labels, limits};

/// The most bytes of all rendered annotations of one instance together: a template of 4 KiB can name a label of 2 KiB two hundred
/// times. What is longer is cut, and says so with `…`.
pub const MAX_RENDERED_BYTES: usize = 32_768;

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder has no end.
    #[error("has a `{{{{` without `}}}}`")]
    Unclosed,
    /// A placeholder has no name.
    #[error("has an empty placeholder")]
    Empty,
    /// A placeholder with a pipe.
    #[error("calls a function in `{{{{ {0} }}}}`; only names are allowed")]
    Function(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

/// The parts of a template, in order.
fn parts(template: &str) -> Result<Vec<Part<'_>>, TemplateError> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let (name, next) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        if name.contains("{{") {
            return Err(TemplateError::Unclosed);
        }
        let name = name.trim();
        if name.is_empty() {
            return Err(TemplateError::Empty);
        }
        if name.contains('|') {
            return Err(TemplateError::Function(name.to_owned()));
        }
        parts.push(Part::Text(text));
        parts.push(Part::Name(name));
        rest = next;
    }
    parts.push(Part::Text(rest));
    Ok(parts)
}

/// Whether a text is a template.
///
/// # Errors
/// When a placeholder is not closed, is empty, or is more than a name.
pub fn check(template: &str) -> Result<(), TemplateError> {
    parts(template).map(|_| ())
}

/// What a placeholder means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning<'a> {
    Value,
    Threshold,
    MetricName,
    Severity,
    Rule,
    Label(&'a str),
}

fn meaning(name: &str) -> Meaning<'_> {
    let label = name.strip_prefix("$labels.").or_else(|| name.strip_prefix("labels."));
    match (label, name) {
        (Some(label), _) => Meaning::Label(label),
        (None, "value" | "$value") => Meaning::Value,
        (None, "threshold") => Meaning::Threshold,
        (None, "metric_name") => Meaning::MetricName,
        (None, "severity") => Meaning::Severity,
        (None, "rule") => Meaning::Rule,
        (None, label) => Meaning::Label(label),
    }
}

/// The labels that a template names, each once, in the order of their first use.
#[must_use]
pub fn label_names(template: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in parts(template).unwrap_or_default() {
        if let Part::Name(name) = part
            && let Meaning::Label(label) = meaning(name)
            && !names.iter().any(|known| known == label)
        {
            names.push(label.to_owned());
        }
    }
    names
}

/// Renders one template. A text that is no template, which no checked rule holds, stays as it is.
fn render_one(template: &str, spec: &RuleSpec, labels: &Labels, value: f64) -> String {
    let Ok(parts) = parts(template) else {
        return template.to_owned();
    };
    let mut out = String::with_capacity(template.len());
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Name(name) => match meaning(name) {
                Meaning::Value => out.push_str(&format_value(value)),
                Meaning::Threshold => {
                    if let Query::Threshold(query) = &spec.query {
                        out.push_str(&format_value(query.threshold));
                    }
                }
                Meaning::MetricName => {
                    if let Query::Threshold(query) = &spec.query {
                        out.push_str(&query.metric_name);
                    }
                }
                Meaning::Severity => out.push_str(spec.severity.as_str()),
                Meaning::Rule => out.push_str(&spec.name),
                Meaning::Label(label) => {
                    let own = spec.alert_labels.get(label).map(String::as_str);
                    out.push_str(own.or_else(|| labels.get(label)).unwrap_or_default());
                }
            },
        }
        if out.len() > limits::MAX_ANNOTATION_BYTES {
            return cut(&out, limits::MAX_ANNOTATION_BYTES);
        }
    }
    out
}

/// Cuts at a character's boundary, so that the result with its `…` has at most so many bytes.
fn cut(text: &str, max_bytes: usize) -> String {
    let end = text.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

/// Renders every annotation of a rule for one series or group.
#[must_use]
pub fn render(spec: &RuleSpec, labels: &Labels, value: f64) -> BTreeMap<String, String> {
    let mut left = MAX_RENDERED_BYTES;
    let mut rendered = BTreeMap::new();
    for (name, template) in &spec.annotations {
        let mut text = render_one(template, spec, labels, value);
        if text.len() > left {
            text = cut(&text, left);
        }
        left = left.saturating_sub(text.len());
        rendered.insert(name.clone(), text);
    }
    rendered
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn spec(template: &str) -> RuleSpec {
        let body = json!({"name": "high_cpu", "metric_name": "cpu", "condition": ">", "threshold": 90,
            "severity": "critical", "annotations": {"summary": template}});
        RuleSpec::parse(&body).unwrap()
    }

    fn rendered(template: &str) -> String {
        let labels = Labels::from_pairs([("host", "web-01"), ("value", "a label"), ("größe", "ja")]).unwrap();
        render(&spec(template), &labels, 92.5)["summary"].clone()
    }

    #[test]
    fn placeholders_become_what_they_name() {
        for (template, text) in [
            (
                "CPU of {{ host }} is {{ value }} > {{ threshold }}",
                "CPU of web-01 is 92.5 > 90",
            ),
            ("{{host}}{{  host  }}", "web-01web-01"),
            (
                "{{ labels.host }} {{ $labels.host }} {{ $value }}",
                "web-01 web-01 92.5",
            ),
            ("{{ metric_name }} {{ severity }} {{ rule }}", "cpu critical high_cpu"),
            ("{{ größe }}", "ja"),
            ("no placeholder, }} and { stay", "no placeholder, }} and { stay"),
            ("", ""),
        ] {
            assert_eq!(rendered(template), text);
        }
    }

    #[test]
    fn value_wins_over_a_label_of_that_name_which_is_still_reachable() {
        assert_eq!(rendered("{{ value }} {{ labels.value }}"), "92.5 a label");
    }

    #[test]
    fn an_unknown_name_renders_as_nothing() {
        assert_eq!(rendered("[{{ zone }}]"), "[]");
    }

    #[test]
    fn a_label_value_is_not_a_template() {
        let labels = Labels::from_pairs([("host", "{{ value }}")]).unwrap();
        assert_eq!(render(&spec("{{ host }}"), &labels, 1.0)["summary"], "{{ value }}");
    }

    #[test]
    fn broken_templates_are_refused() {
        assert_eq!(check("{{ host"), Err(TemplateError::Unclosed));
        assert_eq!(check("{{ host {{ value }}"), Err(TemplateError::Unclosed));
        assert_eq!(check("{{ }}"), Err(TemplateError::Empty));
        let function = check("{{ $value | humanize }}").unwrap_err();
        assert_eq!(
            function.to_string(),
            "calls a function in `{{ $value | humanize }}`; only names are allowed"
        );
        assert_eq!(TemplateError::Unclosed.to_string(), "has a `{{` without `}}`");
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let labels = Labels::from_pairs([("l", "ü".repeat(1_000))]).unwrap();
        let mut spec = spec("x{{ l }}{{ l }}{{ l }}");
        let long = spec.annotations["summary"].clone();
        for index in 0..20 {
            spec.annotations.insert(format!("more{index:02}"), long.clone());
        }
        let rendered = render(&spec, &labels, 1.0);
        assert!(
            rendered
                .values()
                .all(|text| text.len() <= limits::MAX_ANNOTATION_BYTES + 3)
        );
        assert!(rendered["more00"].ends_with('…'));
        assert!(rendered.values().map(String::len).sum::<usize>() <= MAX_RENDERED_BYTES + 3 * 21);
    }

    #[test]
    fn the_labels_of_a_template_are_listed_once() {
        assert_eq!(label_names("{{ a }} {{ value }} {{ labels.b }} {{ a }}"), ["a", "b"]);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(template in "[{} a-z|ü$.]{0,40}") {
            if check(&template).is_ok() {
                rendered(&template);
            }
        }
    }
}
