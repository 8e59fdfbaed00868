use super::*;
use serde_json::json;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn at(seconds: i64) -> Timestamp {
    Timestamp(NOW.0 + seconds * 1_000)
}

fn silence(extra: &Value) -> Value {
    let mut body = json!({"matchers": {"host": "web-01"}, "duration_seconds": 3_600, "created_by": "ana",
        "comment": "disk is being changed"});
    for (name, value) in extra.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn read(extra: &Value) -> Result<Silence, (String, String)> {
    Silence::parse("s".to_owned(), &silence(extra), NOW).map_err(|error| (error.field, error.reason))
}

fn field(extra: &Value) -> String {
    read(extra).unwrap_err().0
}

#[test]
fn a_silence_begins_now_unless_it_says_when() {
    let now = read(&json!({})).unwrap();
    assert_eq!((now.starts_at, now.ends_at), (NOW, at(3_600)));
    let later = read(&json!({"starts_at": at(60).to_rfc3339()})).unwrap();
    assert_eq!((later.starts_at, later.ends_at), (at(60), at(3_660)));
    let earlier = read(&json!({"starts_at": at(-60).to_rfc3339()})).unwrap();
    assert_eq!(earlier.starts_at, NOW, "the past is not silenced");
    let until = read(&json!({"duration_seconds": null, "ends_at": at(90).0 / 1_000})).unwrap();
    assert_eq!(until.ends_at, at(90));
}

#[test]
fn an_error_of_a_silence_names_its_field() {
    for (extra, name) in [
        (json!({"matchers": null}), "matchers"),
        (json!({"matchers": 7}), "matchers"),
        (json!({"created_by": null}), "created_by"),
        (json!({"created_by": ""}), "created_by"),
        (json!({"comment": 1}), "comment"),
        (json!({"duration_seconds": null}), "ends_at"),
        (json!({"duration_seconds": 0}), "duration_seconds"),
        (json!({"duration_seconds": 1e9}), "duration_seconds"),
        (json!({"ends_at": at(10).to_rfc3339()}), "duration_seconds"),
        (json!({"starts_at": "soon"}), "starts_at"),
        (json!({"starts_at": true}), "starts_at"),
        (
            json!({"duration_seconds": null, "ends_at": at(-1).to_rfc3339()}),
            "ends_at",
        ),
        (
            json!({"duration_seconds": null, "ends_at": at(5).to_rfc3339(), "starts_at": at(5).to_rfc3339()}),
            "ends_at",
        ),
        (
            json!({"duration_seconds": null, "ends_at": "9999-01-01T00:00:00Z"}),
            "ends_at",
        ),
        (json!({"duration_seconds": null, "ends_at": NOW.0}), "ends_at"),
    ] {
        assert_eq!(field(&extra), name, "{extra}");
    }
    assert_eq!(SilenceSpec::parse(&json!([])).unwrap_err().field, "");
}

#[test]
fn a_silence_that_has_begun_keeps_its_beginning() {
    let times = |extra: &Value, stored: i64| {
        let spec = SilenceSpec::parse(&silence(extra)).unwrap();
        spec.times(Some(at(stored)), NOW).unwrap()
    };
    assert_eq!(times(&json!({}), -100), (at(-100), at(3_500)));
    assert_eq!(
        times(&json!({"starts_at": at(-200).to_rfc3339()}), -100),
        (at(-100), at(3_500))
    );
    assert_eq!(
        times(&json!({"starts_at": at(50).to_rfc3339()}), -100),
        (at(50), at(3_650))
    );
    assert_eq!(times(&json!({}), 100), (at(100), at(3_700)), "it still waits");
    assert_eq!(times(&json!({"starts_at": at(-5).to_rfc3339()}), 100), (NOW, at(3_600)));
}

#[test]
fn matchers_have_three_forms() {
    let of = |matchers: Value| read(&json!({ "matchers": matchers })).unwrap().matchers.to_string();
    assert_eq!(of(json!({"host": "a", "b c": "d"})), r#"{"b c"="d",host="a"}"#);
    assert_eq!(
        of(json!("{host=~'web.*', env!=\"dev\"}")),
        r#"{env!="dev",host=~"web.*"}"#
    );
    let list = json!([
        {"name": "a", "value": "1"},
        {"name": "b", "value": "2", "isRegex": false, "isEqual": false},
        {"name": "c", "value": "3", "isRegex": true},
        {"name": "d", "value": "4", "is_regex": true, "is_equal": false},
    ]);
    assert_eq!(of(list), r#"{a="1",b!="2",c=~"3",d!~"4"}"#);
}

#[test]
fn matchers_that_would_take_everything_are_refused() {
    for matchers in [
        json!({}),
        json!([]),
        json!("{}"),
        json!("{host=~\".*\"}"),
        json!("{host=\"\"}"),
        json!("{host!=\"a\",env!~\"b|c\"}"),
    ] {
        let (field, reason) = read(&json!({ "matchers": matchers })).unwrap_err();
        assert_eq!(field, "matchers");
        assert!(reason.contains("empty text"), "{matchers}: {reason}");
    }
    assert!(read(&json!({"matchers": "{host=~\".*\",env=\"prod\"}"})).is_ok());
}

#[test]
fn an_error_of_a_matcher_says_where_it_is() {
    for (matchers, name) in [
        (json!("{host=}"), "matchers"),
        (json!("{host=~\"(\"}"), "matchers.host"),
        (json!({"host": 1}), "matchers.host"),
        (json!(["host=web"]), "matchers[0]"),
        (json!([{"name": "a"}]), "matchers[0].value"),
        (json!([{"name": "a", "value": "b"}, {"value": "b"}]), "matchers[1].name"),
        (json!([{"name": "a", "value": 1}]), "matchers[0].value"),
        (
            json!([{"name": "a", "value": "b", "isRegex": "yes"}]),
            "matchers[0].isRegex",
        ),
        (json!([{"name": "a", "value": "b", "regex": true}]), "matchers[0].regex"),
        (json!([{"name": "a", "value": "(", "isRegex": true}]), "matchers.a"),
        (json!(vec![json!({"name": "a", "value": "b"}); 65]), "matchers"),
    ] {
        assert_eq!(field(&json!({ "matchers": matchers })), name, "{matchers}");
    }
}

#[test]
fn an_inhibition_is_read_and_its_errors_name_their_fields() {
    let body = json!({"source_matchers": {"alertname": "dc_down"}, "target_matchers": "{severity=~\"warning|info\"}",
        "equal": ["dc", "dc", "region"]});
    let read = Inhibition::parse("dc".to_owned(), &body, NOW).unwrap();
    assert_eq!((read.id.as_str(), read.version), ("dc", 1));
    assert_eq!(read.equal, ["dc", "region"]);
    for (name, bad, at) in [
        ("source_matchers", json!({}), "source_matchers"),
        ("target_matchers", json!(null), "target_matchers"),
        ("equal", json!("dc"), "equal"),
        ("equal", json!([1]), "equal[0]"),
    ] {
        let mut body = body.clone();
        body[name] = bad;
        assert_eq!(Inhibition::parse("dc".to_owned(), &body, NOW).unwrap_err().field, at);
    }
}

#[test]
fn a_mute_time_is_read_and_its_errors_name_their_fields() {
    let parse = |intervals: &Value| MuteTime::parse("nights".to_owned(), &json!({ "time_intervals": intervals }), NOW);
    let whole = json!([{"times": [{"start_time": "22:00", "end_time": "24:00"}], "weekdays": ["monday:friday", "sunday"],
        "days_of_month": ["1:5", "-3:-1"], "months": ["january:march", "12"], "years": ["2026:2027"],
        "location": "Europe/Berlin"}]);
    let read = parse(&whole).unwrap();
    assert_eq!(serde_json::to_value(&read.time_intervals).unwrap(), whole);
    for (intervals, name) in [
        (json!(null), "time_intervals"),
        (json!([]), "time_intervals"),
        (json!({}), "time_intervals"),
        (json!([1]), "time_intervals[0]"),
        (json!([{"weekday": ["monday"]}]), "time_intervals[0].weekday"),
        (json!([{"weekdays": "monday"}]), "time_intervals[0].weekdays"),
        (json!([{"weekdays": ["moonday"]}]), "time_intervals[0].weekdays[0]"),
        (
            json!([{"weekdays": ["monday", "friday:monday"]}]),
            "time_intervals[0].weekdays[1]",
        ),
        (
            json!([{"times": [{"start_time": "22:00"}]}]),
            "time_intervals[0].times[0].end_time",
        ),
        (
            json!([{"times": [{"start_time": "22:00", "end_time": "25:00"}]}]),
            "time_intervals[0].times[0].end_time",
        ),
        (
            json!([{"times": [{"start_time": "22:00", "end_time": "21:00"}]}]),
            "time_intervals[0].times[0]",
        ),
        (json!([{"days_of_month": ["0"]}]), "time_intervals[0].days_of_month[0]"),
        (json!([{"months": ["smarch"]}]), "time_intervals[0].months[0]"),
        (json!([{"years": ["2027:2026"]}]), "time_intervals[0].years[0]"),
        (json!([{"location": "Mars/Olympus"}]), "time_intervals[0].location"),
    ] {
        assert_eq!(parse(&intervals).unwrap_err().field, name, "{intervals}");
    }
}

#[test]
fn names_can_be_part_of_a_path_and_never_change() {
    assert_eq!(chosen_id(&json!({"name": "on call"})).unwrap(), "on call");
    assert_eq!(chosen_id(&json!({"id": "oncall"})).unwrap(), "oncall");
    for (body, field) in [
        (json!({}), "name"),
        (json!({"name": ""}), "name"),
        (json!({"name": " a"}), "name"),
        (json!({"name": "a/b"}), "name"),
        (json!({"name": "a#b"}), "name"),
        (json!({"id": "a\nb"}), "id"),
        (json!({"name": ".."}), "name"),
        (json!({"name": "n".repeat(101)}), "name"),
        (json!({"name": 5}), "name"),
        (json!([]), ""),
    ] {
        assert_eq!(chosen_id(&body).unwrap_err().field, field, "{body}");
    }
    assert!(same_id(&json!({"name": "a", "id": "a"}), "a").is_ok());
    assert_eq!(same_id(&json!({"id": "b"}), "a").unwrap_err().field, "id");
}
