use super::*;
use serde_json::json;

mod properties;

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

#[test]
fn labels_may_be_looked_up_by_name() {
    let filter: LabelFilter = r#"{alertname=~"high_.*",zone=""}"#.parse().unwrap();
    let labels = std::collections::BTreeMap::from([("alertname", "high_cpu")]);
    assert!(filter.matches_with(|name| labels.get(name).copied()));
    assert!(!filter.matches_with(|name| (name == "zone").then_some("a")));
}
