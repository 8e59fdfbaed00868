//! Filters against a model that knows no regular expressions, and texts that nobody meant.

use super::*;
use proptest::prelude::*;

/// A regular expression as a tree, and what it means, character by character: the model of [`Pattern`].
#[derive(Clone, Debug)]
enum Expression {
    Empty,
    Char(char),
    Any,
    Class(Vec<char>, bool),
    Both(Box<Expression>, Box<Expression>),
    Either(Box<Expression>, Box<Expression>),
    Repeated(Box<Expression>, char),
    Start,
    End,
}

impl Expression {
    fn text(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Char('\n') => "\\n".to_owned(),
            Self::Char(c) => regex_syntax::escape(&c.to_string()),
            Self::Any => ".".to_owned(),
            Self::Class(chars, negated) => {
                let chars: String = chars.iter().map(|c| Self::Char(*c).text()).collect();
                format!("[{}{chars}]", if *negated { "^" } else { "" })
            }
            Self::Both(a, b) => format!("{}{}", a.grouped(), b.grouped()),
            Self::Either(a, b) => format!("{}|{}", a.text(), b.text()),
            Self::Repeated(one, times) => format!("(?:{}){times}", one.text()),
            Self::Start => "^".to_owned(),
            Self::End => "$".to_owned(),
        }
    }

    fn grouped(&self) -> String {
        match self {
            Self::Either(..) => format!("({})", self.text()),
            other => other.text(),
        }
    }

    /// Where a match that begins at `from` may end.
    fn ends(&self, value: &[char], from: usize) -> Vec<usize> {
        let one = |fits: &dyn Fn(char) -> bool| match value.get(from) {
            Some(c) if fits(*c) => vec![from + 1],
            _ => Vec::new(),
        };
        let mut ends = match self {
            Self::Empty => vec![from],
            Self::Char(wanted) => one(&|c| c == *wanted),
            Self::Any => one(&|_| true),
            Self::Class(chars, negated) => one(&|c| chars.contains(&c) != *negated),
            Self::Both(a, b) => a
                .ends(value, from)
                .into_iter()
                .flat_map(|at| b.ends(value, at))
                .collect(),
            Self::Either(a, b) => [a.ends(value, from), b.ends(value, from)].concat(),
            Self::Repeated(one, '?') => [one.ends(value, from), vec![from]].concat(),
            Self::Repeated(one, times) => {
                let mut reached = one.ends(value, from);
                let mut next = 0;
                while let Some(at) = reached.get(next) {
                    for end in one.ends(value, *at) {
                        if !reached.contains(&end) {
                            reached.push(end);
                        }
                    }
                    next += 1;
                }
                if *times == '*' {
                    reached.push(from);
                }
                reached
            }
            Self::Start if from == 0 => vec![from],
            Self::End if from == value.len() => vec![from],
            Self::Start | Self::End => Vec::new(),
        };
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    fn matches(&self, value: &str) -> bool {
        let value: Vec<char> = value.chars().collect();
        self.ends(&value, 0).contains(&value.len())
    }
}

const ALPHABET: [char; 5] = ['a', 'b', '.', '\n', 'é'];

fn a_char() -> impl Strategy<Value = char> {
    proptest::sample::select(&ALPHABET[..])
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        1 => Just(Expression::Empty),
        6 => a_char().prop_map(Expression::Char),
        3 => Just(Expression::Any),
        2 => (proptest::collection::vec(a_char(), 1..4), any::<bool>()).prop_map(|(chars, negated)| Expression::Class(chars, negated)),
        1 => Just(Expression::Start),
        1 => Just(Expression::End),
    ];
    leaf.prop_recursive(4, 16, 2, |inner| {
        let repeated = proptest::sample::select(&['*', '+', '?'][..]);
        prop_oneof![
            4 => (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Both(a.into(), b.into())),
            2 => (inner.clone(), inner.clone()).prop_map(|(a, b)| Expression::Either(a.into(), b.into())),
            2 => (inner, repeated).prop_map(|(one, times)| Expression::Repeated(one.into(), times)),
        ]
    })
}

fn a_value() -> impl Strategy<Value = String> {
    proptest::collection::vec(a_char(), 0..6).prop_map(String::from_iter)
}

fn an_op() -> impl Strategy<Value = MatchOp> {
    proptest::sample::select(&[MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex][..])
}

proptest! {
    #[test]
    fn a_pattern_matches_what_its_model_matches(
        expression in expression(),
        values in proptest::collection::vec(a_value(), 1..30),
    ) {
        let text = expression.text();
        let pattern = Pattern::new(&text).unwrap();
        for value in &values {
            prop_assert_eq!(pattern.matches(value), expression.matches(value), "{:?} as {:?} on {:?}", text, pattern, value);
        }
    }

    #[test]
    fn a_filter_takes_what_its_model_takes(
        matchers in proptest::collection::vec(("[a-c]", an_op(), expression(), a_value()), 0..4),
        series in proptest::collection::btree_map("[a-c]", a_value(), 0..4),
    ) {
        let written = matchers.iter().map(|(name, op, pattern, value)| {
            (name.clone(), *op, if op.has_pattern() { pattern.text() } else { value.clone() })
        });
        let filter = LabelFilter::new(written).unwrap();
        let expected = matchers.iter().all(|(name, op, pattern, value)| {
            let label = series.get(name).map_or("", String::as_str);
            match op {
                MatchOp::Equal => label == value,
                MatchOp::NotEqual => label != value,
                MatchOp::Regex => pattern.matches(label),
                MatchOp::NotRegex => !pattern.matches(label),
            }
        });
        let labels = Labels::from_pairs(series).unwrap();
        prop_assert_eq!(filter.matches(&labels), expected, "{} on {:?}", filter, labels);
    }

    #[test]
    fn what_is_written_is_read_as_the_same(
        matchers in proptest::collection::vec((any::<String>(), an_op(), any::<String>()), 0..5),
    ) {
        let matchers = matchers.into_iter().filter(|(name, ..)| !name.is_empty()).map(|(name, op, value)| {
            let value = if op.has_pattern() { regex_syntax::escape(&value) } else { value };
            (name, op, value)
        });
        let filter = LabelFilter::new(matchers).unwrap();
        let text = filter.to_string();
        prop_assert_eq!(&text.parse::<LabelFilter>().unwrap(), &filter);
        prop_assert!(!selector::is_json(&text));
        let json = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(serde_json::from_str::<LabelFilter>(&json).unwrap(), filter);
    }

    #[test]
    fn no_text_is_too_strange_to_be_judged(text in any::<String>()) {
        let _ = text.parse::<LabelFilter>();
        let _ = selector::is_json(&text);
    }

    #[test]
    fn nearly_selectors_are_judged_too(text in r#"\{[ab"'`\\=!~,:x0é\n{}() .*\[\]]{0,24}"#) {
        let _ = text.parse::<LabelFilter>();
        let _ = selector::is_json(&text);
    }

    #[test]
    fn no_pattern_is_too_strange_to_be_judged(text in r"[ab.*+?|()\[\]{}\\^$0-9,:<>=!PpLdwsBbQx\n-]{0,24}") {
        let _ = Pattern::new(&text);
    }
}
