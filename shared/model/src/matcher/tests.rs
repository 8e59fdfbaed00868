use super::*;
use proptest::prelude::*;
use serde_json::json;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).unwrap()
}

fn filter(text: &str) -> LabelFilter {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn takes(text: &str, pairs: &[(&str, &str)]) -> bool {
    filter(text).matches(&labels(pairs))
}

fn error(text: &str) -> String {
    let read: Result<LabelFilter, FilterError> = text.parse();
    read.expect_err(text).to_string()
}

/// What a pattern was recognised as.
fn shape(pattern: &str) -> Pattern {
    Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

fn values(pattern: &str) -> Vec<String> {
    match shape(pattern) {
        Pattern::OneOf(values) => values.iter().map(|value| value.to_string()).collect(),
        other => panic!("{pattern} is no list of values: {other:?}"),
    }
}

#[test]
fn all_matchers_must_match() {
    let text = r#"{host="a",region!="us",path=~"/api/.*",path!~".*/health"}"#;
    assert!(takes(text, &[("host", "a"), ("region", "eu"), ("path", "/api/users")]));
    assert!(!takes(text, &[("host", "b"), ("region", "eu"), ("path", "/api/users")]));
    assert!(!takes(text, &[("host", "a"), ("region", "us"), ("path", "/api/users")]));
    assert!(!takes(text, &[("host", "a"), ("region", "eu"), ("path", "/web")]));
    assert!(!takes(
        text,
        &[("host", "a"), ("region", "eu"), ("path", "/api/health")]
    ));
}

#[test]
fn the_empty_filter_matches_everything() {
    assert!(LabelFilter::default().matches(&labels(&[("host", "a")])));
    assert_eq!(filter("{}"), LabelFilter::default());
    assert!(filter(" { } ").is_empty());
}

#[test]
fn a_label_that_is_not_there_is_the_empty_value_for_every_operator() {
    for (text, without, empty, with) in [
        (r#"{zone=""}"#, true, true, false),
        (r#"{zone="a"}"#, false, false, true),
        (r#"{zone!=""}"#, false, false, true),
        (r#"{zone!="a"}"#, true, true, false),
        (r#"{zone=~""}"#, true, true, false),
        (r#"{zone=~".*"}"#, true, true, true),
        (r#"{zone=~".+"}"#, false, false, true),
        (r#"{zone=~"a?"}"#, true, true, true),
        (r#"{zone=~"a|b"}"#, false, false, true),
        (r#"{zone!~".+"}"#, true, true, false),
        (r#"{zone!~".*"}"#, false, false, false),
        (r#"{zone!~"a|b"}"#, true, true, false),
    ] {
        assert_eq!(takes(text, &[("host", "h")]), without, "{text} without");
        assert_eq!(takes(text, &[("zone", "")]), empty, "{text} empty");
        assert_eq!(takes(text, &[("zone", "a")]), with, "{text} a");
    }
}

#[test]
fn patterns_are_anchored_at_both_ends() {
    assert!(!takes(r#"{a=~"b"}"#, &[("a", "abc")]));
    assert!(!takes(r#"{a=~"b[0-9]+"}"#, &[("a", "ab1")]));
    assert!(!takes(r#"{a=~"[0-9]+b"}"#, &[("a", "1bc")]));
    // Both sides of an alternation, not its outer ends.
    assert!(!takes(r#"{a=~"[0-9]+|b.?"}"#, &[("a", "1x")]));
    assert!(!takes(r#"{a=~"[0-9]+|b.?"}"#, &[("a", "xb")]));
    assert!(!takes("{a=~'[0-9]+'}", &[("a", "1\n")]));
}

#[test]
fn a_dot_is_any_character_newlines_too_as_in_prometheus_3() {
    for pattern in [".*", ".+", "a.*", ".*b", ".*\\n.*", "a.b", "a.{1}b", "[a].b"] {
        assert!(
            LabelFilter::new([("a", MatchOp::Regex, pattern)])
                .unwrap()
                .matches(&labels(&[("a", "a\nb")])),
            "{pattern}"
        );
    }
    assert!(!takes("{a=~'(?-s:a.b)'}", &[("a", "a\nb")]));
}

#[test]
fn a_pattern_must_be_one_by_itself() {
    for pattern in ["a)(b", "a)|(b", "(", "[", "*", "a{2,1}", r"\", "(?<n", r"\p{Nothing}"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn lists_of_values_need_no_program() {
    assert_eq!(values("a|b|c"), ["a", "b", "c"]);
    assert_eq!(values("web-0[1-3]"), ["web-01", "web-02", "web-03"]);
    assert_eq!(values("(x|y)z?"), ["x", "xz", "y", "yz"]);
    assert_eq!(values("a|ab|a"), ["a", "ab"]);
    assert_eq!(values(""), [""]);
    assert_eq!(values("a|"), ["", "a"]);
    assert_eq!(values(r"10\.0\.0\.1|größe"), ["10.0.0.1", "größe"]);
    assert_eq!(values("(?i)ab"), ["AB", "Ab", "aB", "ab"]);
    assert!(values(r"[^\s\S]").is_empty());
    let many: Vec<String> = (0..900).map(|n| format!("host-{n:03}")).collect();
    assert_eq!(values(&many.join("|")), many);
}

#[test]
fn prefixes_suffixes_and_parts_need_no_program() {
    assert!(matches!(shape(".*"), Pattern::Anything));
    assert!(matches!(shape(".*?"), Pattern::Anything));
    assert!(matches!(shape(".+"), Pattern::NotEmpty));
    assert!(matches!(shape("/api/.*"), Pattern::Prefix(prefix) if &*prefix == "/api/"));
    assert!(matches!(shape(r".*\.example"), Pattern::Suffix(suffix) if &*suffix == ".example"));
    assert!(matches!(shape(".*timeout.*"), Pattern::Contains(part) if &*part == "timeout"));
    for pattern in ["^a$", r"\ba", "a.+", "(?-s:.*)", "[0-9]*", "a.*b", r"\w+"] {
        assert!(matches!(shape(pattern), Pattern::Program(_)), "{pattern}");
    }
}

#[test]
fn patterns_have_a_limit_on_their_text_and_on_their_program() {
    let long = format!("{{host=~\"{}.*\"}}", "a".repeat(limits::MAX_PATTERN_BYTES));
    assert_eq!(
        error(&long),
        "has 8194 bytes to match `host` with; at most 8192 are allowed"
    );
    assert_eq!(
        error(r"{host=~`(\w{100}){100}`}"),
        "has a wrong pattern for `host`: it takes more than 1048576 bytes when it is compiled"
    );
    // What a user may well write is far from it.
    for pattern in [
        r"\w{1,20}-\d+",
        r"(?i).*(error|warning|critical).*",
        r"\p{Greek}+\pL*",
        "(.+-)*[^x]{1,60}",
    ] {
        shape(pattern);
    }
    // Long lists that are no longer spelt out.
    let many: Vec<String> = (0..1_100).map(|n| format!("h{n:04}")).collect();
    assert!(matches!(shape(&many.join("|")), Pattern::Program(_)));
}

#[test]
fn a_filter_has_limits_as_a_whole() {
    let many: Vec<String> = (0..65).map(|n| format!("a{n}=\"\"")).collect();
    assert_eq!(error(&format!("{{{}}}", many.join(","))), "has more than 64 matchers");
    let large = (0..5).map(|n| (format!("a{n}"), MatchOp::Regex, "x".repeat(8_000)));
    assert_eq!(
        LabelFilter::new(large).unwrap_err(),
        FilterError::TooLarge {
            bytes: 40_010,
            limit: limits::MAX_FILTER_BYTES
        }
    );
    let name = "n".repeat(257);
    assert_eq!(
        error(&format!("{{{name}='x'}}")),
        "has a label name of 257 bytes; at most 256 are allowed"
    );
    assert_eq!(
        error(&format!("{{a='{}'}}", "x".repeat(2_049))),
        "has 2049 bytes to match `a` with; at most 2048 are allowed"
    );
}

#[test]
fn errors_name_the_label_or_the_place() {
    for (text, reason) in [
        (
            "",
            "cannot be read at character 1: expected `{`, as in {host=\"web-01\"}",
        ),
        (
            "host=\"a\"",
            "cannot be read at character 1: expected `{`, as in {host=\"web-01\"}",
        ),
        (
            "{",
            "cannot be read at character 2: expected a label name (one of other characters than letters, digits and _ is quoted)",
        ),
        (
            "{,}",
            "cannot be read at character 2: expected a label name (one of other characters than letters, digits and _ is quoted)",
        ),
        (
            "{1a='x'}",
            "cannot be read at character 2: expected a label name (one of other characters than letters, digits and _ is quoted)",
        ),
        (
            "{größe='x'}",
            "cannot be read at character 4: expected one of =, !=, =~, !~",
        ),
        (
            "{'größe' 'x'}",
            "cannot be read at character 10: expected one of =, !=, =~, !~",
        ),
        (
            "{\"a\"}",
            "cannot be read at character 5: expected one of =, !=, =~, !~",
        ),
        ("{a=b}", "cannot be read at character 4: expected a value in quotes"),
        (
            "{a==\"b\"}",
            "cannot be read at character 4: expected a value in quotes",
        ),
        ("{a=~}", "cannot be read at character 5: expected a value in quotes"),
        ("{a='b' c='d'}", "cannot be read at character 8: expected `,` or `}`"),
        ("{a='b'", "cannot be read at character 7: expected `,` or `}`"),
        (
            "{a='b'}[5m]",
            "cannot be read at character 8: expected nothing after `}`",
        ),
        ("{a='b}", "cannot be read at character 4: this string is not closed"),
        (
            "{a='b\n'}",
            "cannot be read at character 6: a string in quotes ends on its line; write \\n, or use backticks",
        ),
        (
            r"{a='\.'}",
            "cannot be read at character 5: unknown escape; a backslash is written \\\\, or the string in backticks",
        ),
        (
            r#"{a='\"'}"#,
            "cannot be read at character 5: unknown escape; a backslash is written \\\\, or the string in backticks",
        ),
        (
            r"{a='\x4'}",
            "cannot be read at character 5: this escape needs 2 hexadecimal digits",
        ),
        (
            r"{a='\08'}",
            "cannot be read at character 5: this escape needs 3 octal digits",
        ),
        (
            r"{a='\400'}",
            "cannot be read at character 5: this escape names no byte",
        ),
        (
            r"{a='\ud800'}",
            "cannot be read at character 5: this escape names no character",
        ),
        (
            r"{a='\UFFFFFFFF'}",
            "cannot be read at character 5: this escape names no character",
        ),
        (r"{a='\xff'}", "cannot be read at character 4: this string is not UTF-8"),
        ("{''='x'}", "has a label with an empty name"),
        (
            "{__name__='x'}",
            "must not match `__name__`: the metric is named in a field of its own",
        ),
        (
            "{a='x',ü='y'}",
            "cannot be read at character 8: expected a label name (one of other characters than letters, digits and _ is quoted)",
        ),
        (
            "{a='x',b=~'é(y'}",
            "has a wrong pattern for `b`: unclosed group at its character 2",
        ),
        (
            r"{b!~'\\pX'}",
            "has a wrong pattern for `b`: Unicode property not found at its character 1",
        ),
    ] {
        assert_eq!(error(text), reason, "{text}");
    }
}

#[test]
fn selectors_are_read_as_prometheus_reads_them() {
    let written = |text: &str| {
        let filter = filter(text);
        let all = filter
            .matchers()
            .map(|one| (one.name().to_owned(), one.op(), one.value().to_owned()));
        all.collect::<Vec<_>>()
    };
    let one = |text: &str| written(text).remove(0);
    let is = |name: &str, op, value: &str| (name.to_owned(), op, value.to_owned());
    assert_eq!(one("{a='b',}"), is("a", MatchOp::Equal, "b"));
    assert_eq!(one("{a=\"b\"}"), is("a", MatchOp::Equal, "b"));
    assert_eq!(one("{a=`b`}"), is("a", MatchOp::Equal, "b"));
    assert_eq!(one("\n{\t_a1 !=\r\n'b' , } "), is("_a1", MatchOp::NotEqual, "b"));
    assert_eq!(one(r#"{"my.label"="x"}"#), is("my.label", MatchOp::Equal, "x"));
    assert_eq!(one(r"{'a b'!~`\d+`}"), is("a b", MatchOp::NotRegex, r"\d+"));
    assert_eq!(one(r#"{a=~"\\d+"}"#), is("a", MatchOp::Regex, r"\d+"));
    assert_eq!(
        one(r"{a='\a\b\f\n\r\t\v\\\''}"),
        is("a", MatchOp::Equal, "\u{7}\u{8}\u{c}\n\r\t\u{b}\\'")
    );
    assert_eq!(one(r#"{a="it's \"it\""}"#), is("a", MatchOp::Equal, "it's \"it\""));
    assert_eq!(
        one(r"{a='\xc3\xa9\303\251\u00e9\U0001f30a'}"),
        is("a", MatchOp::Equal, "ééé🌊")
    );
    assert_eq!(one("{a=`b\n\\`}"), is("a", MatchOp::Equal, "b\n\\"));
    let twice = written("{b!='2',a='x',b!='1',a='x'}");
    assert_eq!(
        twice,
        [
            is("a", MatchOp::Equal, "x"),
            is("b", MatchOp::NotEqual, "1"),
            is("b", MatchOp::NotEqual, "2")
        ]
    );
}

#[test]
fn filters_that_say_the_same_are_equal() {
    assert_eq!(filter("{a='1',b=~'2'}"), filter("{ b=~\"2\", a=`1`, a='1' }"));
    assert_ne!(filter("{a='1'}"), filter("{a=~'1'}"));
    assert_eq!(
        LabelFilter::equal([("b", "2"), ("a", "1")]).unwrap(),
        filter("{a='1',b='2'}")
    );
}

#[test]
fn equality_is_a_json_object_and_all_else_the_text() {
    for (text, json) in [
        ("{}", json!({})),
        ("{b='2',a='1'}", json!({"a": "1", "b": "2"})),
        ("{a='1',b!='2'}", json!(r#"{a="1",b!="2"}"#)),
        ("{a=~'x.*'}", json!(r#"{a=~"x.*"}"#)),
        // An object could not name it twice.
        ("{a='1',a='2'}", json!(r#"{a="1",a="2"}"#)),
        ("{'a.b'!='\"'}", json!(r#"{"a.b"!="\""}"#)),
    ] {
        let filter = filter(text);
        assert_eq!(serde_json::to_value(&filter).unwrap(), json, "{text}");
        assert_eq!(serde_json::from_value::<LabelFilter>(json).unwrap(), filter, "{text}");
    }
    for wrong in [
        json!(1),
        json!(["a"]),
        json!({"a": 1}),
        json!({"": "a"}),
        json!("a"),
        json!("{a=~'('}"),
    ] {
        assert!(serde_json::from_value::<LabelFilter>(wrong.clone()).is_err(), "{wrong}");
    }
    let twice = serde_json::from_str::<LabelFilter>(r#"{"a":"1","a":"2"}"#).unwrap_err();
    assert!(twice.to_string().starts_with("gives the label `a` twice"), "{twice}");
}

#[test]
fn a_quoted_name_and_a_colon_are_json() {
    for json in [r#"{"a":"b"}"#, " { \"a\\\"b\" : 1", r#"{"":{}}"#] {
        assert!(selector::is_json(json), "{json}");
    }
    for selector in [
        "",
        "{}",
        "{a='b'}",
        r#"{"a"="b"}"#,
        r#"{"a":"#.trim_end_matches(':'),
        r#"{"a":1}"#.trim_start_matches('{'),
        "{\"a\\",
    ] {
        assert!(!selector::is_json(selector), "{selector}");
    }
}

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
