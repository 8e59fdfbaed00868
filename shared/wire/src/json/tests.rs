use super::*;
use crate::batch::SampleError;
use proptest::prelude::*;
use tidemark_model::limits::{MAX_LABEL_VALUE_BYTES, MAX_REPORTED_ERRORS};
use tidemark_model::{Labels, SeriesId};

const NOW: i64 = 1_767_225_600_000;

const BOUNDS: TimeBounds = TimeBounds {
    now_ms: NOW,
    oldest_ms: NOW - 7 * 86_400_000,
    newest_ms: NOW + 600_000,
};

fn decode(body: &str) -> Batch<'_> {
    decode_metrics(body.as_bytes(), BOUNDS).unwrap()
}

fn fails(body: &str) -> BodyError {
    decode_metrics(body.as_bytes(), BOUNDS).unwrap_err()
}

/// The refusal of the only sample, as `field reason`.
fn refusal(sample: &str) -> String {
    let body = format!("{{\"metrics\":[{sample}]}}");
    let batch = decode(&body);
    assert_eq!((batch.samples().len(), batch.rejected()), (0, 1), "{sample}");
    let SampleError { index, field, reason } = &batch.errors()[0];
    assert_eq!(*index, 0);
    format!("{field} {reason}")
}

/// The bits of the value of the only sample.
fn value(json: &str) -> u64 {
    let body = format!("{{\"name\":\"m\",\"value\":{json}}}");
    let batch = decode(&body);
    assert_eq!(batch.errors(), []);
    batch.samples()[0].sample.value.to_bits()
}

fn time(json: &str) -> i64 {
    let body = format!("{{\"name\":\"m\",\"value\":1,\"timestamp\":{json}}}");
    let batch = decode(&body);
    assert_eq!(batch.errors(), []);
    batch.samples()[0].sample.timestamp_ms
}

fn labels(batch: &Batch<'_>) -> Vec<Vec<(String, String)>> {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    batch
        .series()
        .map(|series| series.labels().map(own).collect())
        .collect()
}

#[test]
fn both_forms_are_read() {
    let one = r#"{"name":"cpu.load","value":0.5,"labels":{"host":"web-01"},"timestamp":1767225600.25}"#;
    let many = format!(r#"{{"metrics":[{one}]}}"#);
    for body in [one, &many] {
        let batch = decode(body);
        assert_eq!(batch.samples().len(), 1);
        assert_eq!(batch.samples()[0].sample.timestamp_ms, NOW + 250);
        let series = batch.series().next().unwrap();
        assert_eq!(series.name(), "cpu.load");
        assert_eq!(series.id(), SeriesId::new("cpu.load", [("host", "web-01")].into_iter()));
    }
}

#[test]
fn unknown_fields_are_ignored_at_every_level() {
    let batch = decode(
        r#"{"agent":{"deep":[[[{"name":1}]]]},"metrics":[{"name":"a","unit":"s","value":1,"extra":[1,{"x":null}]}],"z":1e999}"#,
    );
    assert_eq!((batch.samples().len(), batch.rejected()), (1, 0));
    let batch = decode(r#"{"name":"ignored","value":"x","metrics":[]}"#);
    assert_eq!((batch.samples().len(), batch.rejected()), (0, 0));
}

#[test]
fn values_are_numbers_or_the_three_strings() {
    for (json, expected) in [
        ("0.1", 0.1),
        ("-0.0", -0.0),
        ("-0", -0.0),
        ("5e-324", 5e-324),
        ("1E308", 1e308),
        ("\"+Inf\"", f64::INFINITY),
        ("\"-Inf\"", f64::NEG_INFINITY),
        ("\"\\u002bInf\"", f64::INFINITY),
    ] {
        assert_eq!(value(json), expected.to_bits(), "{json}");
    }
    assert!(f64::from_bits(value("\"NaN\"")).is_nan());
}

#[test]
fn times_are_seconds_or_rfc_3339_and_the_present_when_missing() {
    assert_eq!(time("1767225600"), NOW);
    assert_eq!(time("1767225600.001"), NOW + 1);
    assert_eq!(time("1.7672256e9"), NOW);
    assert_eq!(time("\"2026-01-01T00:00:00.007Z\""), NOW + 7);
    assert_eq!(time("\"2026-01-01T01:00:00+01:00\""), NOW);
    assert_eq!(time("null"), NOW);
    let batch = decode(r#"{"name":"m","value":1}"#);
    assert_eq!(batch.samples()[0].sample.timestamp_ms, NOW);
}

#[test]
fn a_bad_sample_is_refused_with_its_field_and_reason() {
    let number = "value must be a number, or one of the strings \"NaN\", \"+Inf\", \"-Inf\"";
    let object = " must be an object with `name` and `value`";
    let time = "timestamp must be RFC 3339 (2026-01-31T12:00:00Z) or Unix seconds";
    for (sample, expected) in [
        (r#"{"value":1}"#, "name is missing"),
        (r#"{"name":null,"value":1}"#, "name must be a string"),
        (r#"{"name":"\ud800","value":1}"#, "name must be a string"),
        (r#"{"name":"","value":1}"#, "name is empty"),
        (r#"{"name":"a","name":"b","value":1}"#, "name is given twice"),
        (r#"{"name":"a"}"#, "value is missing"),
        (r#"{"name":"a","value":null}"#, number),
        (r#"{"name":"a","value":"1"}"#, number),
        (r#"{"name":"a","value":[1]}"#, number),
        (r#"{"name":"a","value":true}"#, number),
        (
            r#"{"name":"a","value":1e400}"#,
            "value is larger than a 64-bit float can hold",
        ),
        (r#"{"name":"a","value":1,"timestamp":"yesterday"}"#, time),
        (r#"{"name":"a","value":1,"timestamp":{}}"#, time),
        (
            r#"{"name":"a","value":1,"timestamp":1767225600000}"#,
            "timestamp must be Unix seconds; this number looks like milliseconds or finer",
        ),
        (
            r#"{"name":"a","value":1,"timestamp":1}"#,
            "timestamp is older than 2025-12-25T00:00:00.000Z, the end of the retention",
        ),
        (
            r#"{"name":"a","value":1,"timestamp":1767226201}"#,
            "timestamp is later than 2026-01-01T00:10:00.000Z, too far in the future",
        ),
        (
            r#"{"name":"a","value":1,"labels":[]}"#,
            "labels must be an object of strings",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"code":200}}"#,
            "labels.code must be a string",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"a":"1","code":null,"b":"2"}}"#,
            "labels.code must be a string",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"a":{"b":"c"}}}"#,
            "labels.a must be a string",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"a":"1","a":"1"}}"#,
            "labels.a is given twice",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"b":"1","a":"1","b":"2"}}"#,
            "labels.b is given twice",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"":"1"}}"#,
            "labels has a label with an empty name",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"__name__":"b"}}"#,
            "labels.__name__ is reserved; the metric name goes into the field `name`",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"\ud800":"b"}}"#,
            "labels has a label name that is not Unicode",
        ),
        (
            r#"{"name":"a","value":1,"labels":{"a":"\ud800"}}"#,
            "labels.a must be a string",
        ),
        ("5", object),
        ("-5", object),
        ("0.5", object),
        ("null", object),
        ("true", object),
        ("\"a\"", object),
        ("[{\"name\":\"a\",\"value\":1}]", object),
    ] {
        assert_eq!(refusal(sample), expected, "{sample}");
    }
}

#[test]
fn the_limits_of_names_and_labels_hold() {
    let sample = |name: &str, labels: &str| format!("{{\"name\":\"{name}\",\"value\":1,\"labels\":{{{labels}}}}}");
    let long = |length: usize| "x".repeat(length);
    assert_eq!(decode(&sample(&long(512), "")).rejected(), 0);
    assert_eq!(refusal(&sample(&long(513), "")), "name is longer than 512 bytes");
    let label = |name: usize, value: usize| format!("\"{}\":\"{}\"", long(name), long(value));
    assert_eq!(decode(&sample("a", &label(256, MAX_LABEL_VALUE_BYTES))).rejected(), 0);
    assert!(refusal(&sample("a", &label(257, 1))).ends_with("x has a name longer than 256 bytes"));
    assert_eq!(
        refusal(&sample("a", &label(1, 2_049))),
        "labels.x has a value longer than 2048 bytes"
    );
    let labels = |count: usize, length: usize| {
        let each: Vec<String> = (0..count)
            .map(|i| format!("\"l{i:02}\":\"{}\"", long(length)))
            .collect();
        each.join(",")
    };
    assert_eq!(decode(&sample("a", &labels(64, 10))).rejected(), 0);
    assert_eq!(refusal(&sample("a", &labels(65, 10))), "labels has more than 64 labels");
    // 64 × (3 + 508) + 64 is exactly the limit.
    assert_eq!(decode(&sample(&long(64), &labels(64, 508))).rejected(), 0);
    let reason = "labels and the name take more than 32768 bytes together";
    assert_eq!(refusal(&sample(&long(65), &labels(64, 508))), reason);
    assert_eq!(refusal(&sample("a", &labels(64, 510))), reason);
}

#[test]
fn good_samples_go_on_beside_bad_ones() {
    let batch = decode(r#"{"metrics":[{"name":"a","value":1},7,{"name":"a","value":"x"},{"name":"a","value":2}]}"#);
    assert_eq!((batch.samples().len(), batch.rejected()), (2, 2));
    assert_eq!(
        batch.errors().iter().map(|error| error.index).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(batch.series().len(), 1);
}

#[test]
fn bad_samples_are_all_counted_and_the_first_are_listed() {
    let body = format!("{{\"metrics\":[{}0]}}", "0,".repeat(MAX_REPORTED_ERRORS));
    let batch = decode(&body);
    assert_eq!(
        (batch.rejected(), batch.errors().len()),
        (MAX_REPORTED_ERRORS + 1, MAX_REPORTED_ERRORS)
    );
}

#[test]
fn labels_in_another_order_or_spelling_are_the_same_series() {
    let batch = decode(
        r#"{"metrics":[
            {"name":"a","value":1,"labels":{"x":"1","y":"2"}},
            {"name":"a","value":2,"labels":{"y":"2","x":"1"}},
            {"name":"\u0061","value":3,"labels":{ "x" : "1" , "\u0079":"\u0032" }},
            {"name":"a","value":4,"labels":{"x":"1","y":"2"}},
            {"name":"a","value":5,"labels":{"x":"1"}},
            {"name":"a","value":6,"labels":{}},
            {"name":"a","value":7}
        ]}"#,
    );
    assert_eq!(batch.rejected(), 0);
    let of: Vec<u32> = batch.samples().iter().map(|sample| sample.series).collect();
    assert_eq!(of, [0, 0, 0, 0, 1, 2, 2]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = vec![vec![pair("x", "1"), pair("y", "2")], vec![pair("x", "1")], vec![]];
    assert_eq!(labels(&batch), expected);
}

#[test]
fn a_refused_label_object_does_not_spoil_the_next() {
    let batch = decode(
        r#"{"metrics":[
            {"name":"a","value":1,"labels":{"x":"1","y":2}},
            {"name":"a","value":1,"labels":{"x":"1","y":2}},
            {"name":"a","value":1,"labels":{"z":"1"}}
        ]}"#,
    );
    assert_eq!((batch.samples().len(), batch.rejected()), (1, 2));
    assert_eq!(labels(&batch), [[("z".to_owned(), "1".to_owned())]]);
}

#[test]
fn a_body_of_neither_form_says_what_was_expected_and_where() {
    assert_eq!(fails("{}"), BodyError::NoMetrics);
    assert_eq!(fails(r#"{"metric":[]}"#), BodyError::NoMetrics);
    assert_eq!(
        fails("[1]").to_string(),
        "the body is not the expected JSON: invalid type: sequence, expected one metric with `name` and `value`, or an \
         object with an array `metrics` at line 1 column 0"
    );
    assert_eq!(
        fails("{\"metrics\":\n 5}").to_string(),
        "the body is not the expected JSON: invalid type: integer `5`, expected an array of samples in the field \
         `metrics` at line 2 column 2"
    );
    assert_eq!(
        fails("{\"metrics\":[{\"name\":\"a\" \"value\":1}]}").to_string(),
        "the body is not the expected JSON: expected `,` or `}` at line 1 column 25"
    );
    for body in [
        "",
        "{",
        "{\"metrics\":[",
        "{\"metrics\":[]} x",
        "{\"metrics\":[],\"metrics\":[]}",
        "nul",
    ] {
        assert!(matches!(fails(body), BodyError::NotJson { .. }), "{body}");
    }
    assert_eq!(
        decode_metrics(b"{\"name\":\"\xff\"}", BOUNDS).unwrap_err(),
        BodyError::NotUtf8 { at: 9 }
    );
}

#[test]
fn more_samples_than_the_limit_are_refused_as_a_whole() {
    let limit = MAX_SAMPLES_PER_REQUEST;
    let body = format!("{{\"metrics\":[{}0]}}", "0,".repeat(limit));
    assert_eq!(fails(&body), BodyError::TooManySamples { limit });
    let body = format!("{{\"metrics\":[{}0]}}", "0,".repeat(limit - 1));
    assert_eq!(decode(&body).rejected(), limit);
}

#[test]
fn deep_nesting_is_no_danger() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let body = format!("{{\"x\":{deep},\"metrics\":[{{\"name\":\"a\",\"value\":1,\"x\":{deep}}}]}}");
    assert_eq!(decode(&body).samples().len(), 1);
}

/// A sample as text, most often a good one.
fn any_sample() -> impl Strategy<Value = String> {
    let name = proptest::sample::select(vec!["\"up\"", "\"a.b\"", "\"\"", "\"\\u0061\"", "5"]);
    let value = proptest::sample::select(vec!["1", "-0.5e+3", "\"NaN\"", "1e400", "01", "null", "[1]", "\"x\""]);
    let label = proptest::sample::select(vec![
        "\"host\":\"a\"",
        "\"host\":\"b\"",
        "\"job\":\"x\"",
        "\"env\":\"\"",
        "\"os\":\"l\\n\"",
        "\"code\":200",
        "\"__name__\":\"x\"",
    ]);
    let labels = proptest::collection::vec(label, 0..4).prop_map(|labels| format!("{{{}}}", labels.join(",")));
    let time = proptest::sample::select(vec!["1767225600.5", "\"2026-01-01T00:00:00Z\"", "null", "1", "\"x\""]);
    let field = prop_oneof![
        Just("\"unit\":\"s\"".to_owned()),
        Just("\"extra\":{\"x\":[1]}".to_owned()),
        Just("\"metrics\":1".to_owned()),
        Just("\"name\":\"twice\"".to_owned()),
    ];
    let extra = proptest::option::weighted(0.2, field);
    (
        name,
        value,
        proptest::option::of(labels),
        proptest::option::of(time),
        extra,
    )
        .prop_map(|(name, value, labels, time, extra)| {
            let mut fields = vec![format!("\"name\":{name}"), format!("\"value\":{value}")];
            fields.extend(labels.map(|labels| format!("\"labels\":{labels}")));
            fields.extend(time.map(|time| format!("\"timestamp\":{time}")));
            fields.extend(extra);
            format!("{{{}}}", fields.join(","))
        })
}

/// Everything that can be seen of an answer.
fn describe(outcome: Result<Batch<'_>, BodyError>) -> Result<impl PartialEq + std::fmt::Debug, BodyError> {
    let batch = outcome?;
    let names: Vec<(String, SeriesId)> = batch
        .series()
        .map(|series| (series.name().to_owned(), series.id()))
        .collect();
    let samples: Vec<(u32, i64, u64)> = batch
        .samples()
        .iter()
        .map(|sample| (sample.series, sample.sample.timestamp_ms, sample.sample.value.to_bits()))
        .collect();
    Ok((
        names,
        labels(&batch),
        samples,
        batch.errors().to_vec(),
        batch.rejected(),
    ))
}

#[test]
fn a_sample_out_of_the_ordinary_does_not_slow_down_its_neighbours_or_change_them() {
    let batch = decode(
        r#"{"metrics":[
            {"name":"a","value":1,"labels":{"host":"h","dir":"C:\\"}},
            {"name":"a","value":2,"labels":{"host":"h","dir":"D:"}},
            {"name":"a","value":3,"labels":{"host":"h","dir":"C:\\"},"deep":[{}]},
            {"name":"a","value":4,"labels":{"host":"h","dir":"D:"}}
        ]}"#,
    );
    let of: Vec<u32> = batch.samples().iter().map(|sample| sample.series).collect();
    assert_eq!(of, [0, 1, 0, 1]);
    assert_eq!(labels(&batch)[0][0], ("dir".to_owned(), "C:\\".to_owned()));
}

proptest! {
    /// Whatever JSON writer an agent has, names, labels and values arrive as they were.
    #[test]
    fn what_serde_json_writes_is_read(
        samples in proptest::collection::vec(
            (".{1,12}", proptest::collection::btree_map("[a-c\"\\\\é]{1,3}", ".{0,6}", 0..5), any::<f64>(), 0_i64..1_000_000),
            1..20,
        ),
        pretty: bool,
    ) {
        let metrics: Vec<serde_json::Value> = samples
            .iter()
            .map(|(name, labels, value, at)| {
                let value = match tidemark_model::value::special_name(*value) {
                    Some(name) => serde_json::json!(name),
                    None => serde_json::json!(value),
                };
                let seconds = (NOW - at) as f64 / 1_000.0;
                serde_json::json!({"name": name, "labels": labels, "value": value, "timestamp": seconds})
            })
            .collect();
        let body = serde_json::json!({"metrics": metrics});
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        let batch = decode(&text);
        prop_assert_eq!(batch.errors(), &[]);
        let series: Vec<_> = batch.series().collect();
        for (sample, (name, labels, value, at)) in batch.samples().iter().zip(&samples) {
            let series = &series[sample.series as usize];
            let expected = Labels::from_pairs(labels.clone()).unwrap();
            prop_assert_eq!(series.name(), name);
            prop_assert_eq!(Labels::from_pairs(series.labels()).unwrap(), expected.clone());
            prop_assert_eq!(series.id(), SeriesId::new(name, expected.iter()));
            prop_assert_eq!(sample.sample.timestamp_ms, NOW - at);
            prop_assert!(sample.sample.value.to_bits() == value.to_bits() || value.is_nan());
        }
        prop_assert_eq!(batch.samples().len(), samples.len());
    }

    /// Both ways through a body give one answer, for bodies that are nearly as agents send them.
    #[test]
    fn the_plain_way_and_the_general_way_agree(
        samples in proptest::collection::vec(any_sample(), 0..8),
        changes in proptest::collection::vec(
            (any::<proptest::sample::Index>(), proptest::sample::select(b"\"\\{}[]:,01eun- \n\tx\x01".to_vec()), any::<bool>()),
            0..4,
        ),
        space in proptest::sample::select(vec!["", "", " ", "\n "]),
    ) {
        let body = format!("{{\"metrics\":[{}]}}", samples.join(","));
        let mut body = body.replace(',', &format!(",{space}")).replace(':', &format!("{space}:")).into_bytes();
        for (at, byte, insert) in changes {
            let at = at.index(body.len());
            if insert {
                body.insert(at, byte);
            } else {
                body[at] = byte;
            }
        }
        let text = std::str::from_utf8(&body).unwrap();
        prop_assert_eq!(describe(decode_metrics(&body, BOUNDS)), describe(decode_any(text, BOUNDS)));
    }

    #[test]
    fn any_bytes_give_an_answer(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_metrics(&body, BOUNDS);
    }

    #[test]
    fn broken_bodies_give_an_answer(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::sample::select(b"\"\\{}[]:,0eu- ".to_vec())), 0..6),
    ) {
        let mut body = br#"{"metrics":[{"name":"a\u0041","value":1.5e3,"labels":{"k":"v","x":"\n"},"timestamp":1767225600.5}]}"#.to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(batch) = decode_metrics(&body, BOUNDS) {
            prop_assert_eq!(batch.rejected(), batch.errors().len());
        }
    }
}
