use super::*;
use serde_json::json;

fn list(value: Value) -> Result<Vec<ChannelUse>, InvalidField> {
    ChannelUse::parse_list(&Field {
        path: "notification_channels".to_owned(),
        value: &value,
    })
}

#[test]
fn a_channel_is_a_name_or_an_object_and_is_written_as_it_is_said_best() {
    let written = json!([
        "ops",
        {"channel": "dev", "group_by": ["host", "region"], "group_wait_seconds": 30, "group_interval_seconds": 0,
         "repeat_interval_seconds": 3_600, "send_resolved": false, "mute_times": ["nights"]},
        {"channel": "each", "group_by": ["..."]},
        {"channel": "all", "group_by": []},
    ]);
    let read = list(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written);
    assert_eq!(serde_json::from_value::<Vec<ChannelUse>>(written).unwrap(), read);
    assert_eq!(
        list(json!([{"channel": "ops", "colour": 1, "send_resolved": null}])).unwrap(),
        ["ops".into()]
    );
}

#[test]
fn a_channel_that_stands_twice_is_taken_once_or_refused() {
    assert_eq!(list(json!(["a", {"channel": "a"}])).unwrap(), ["a".into()]);
    let error = list(json!(["a", {"channel": "a", "send_resolved": false}])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "notification_channels[1]: names the channel `a` again"
    );
}

#[test]
fn every_error_names_its_field() {
    for (entry, field) in [
        (json!(7), ""),
        (json!(""), ""),
        (json!("x".repeat(101)), ""),
        (json!({}), ".channel"),
        (json!({"channel": ["a"]}), ".channel"),
        (json!({"channel": "a", "group_by": 7}), ".group_by"),
        (json!({"channel": "a", "group_by": ["host", ""]}), ".group_by[1]"),
        (json!({"channel": "a", "group_by": ["...", "host"]}), ".group_by"),
        (
            json!({"channel": "a", "group_wait_seconds": 901}),
            ".group_wait_seconds",
        ),
        (
            json!({"channel": "a", "group_interval_seconds": 604_801}),
            ".group_interval_seconds",
        ),
        (
            json!({"channel": "a", "repeat_interval_seconds": 59}),
            ".repeat_interval_seconds",
        ),
        (json!({"channel": "a", "send_resolved": "no"}), ".send_resolved"),
        (json!({"channel": "a", "mute_times": "nights"}), ".mute_times"),
        (json!({"channel": "a", "mute_times": ["nights", 1]}), ".mute_times[1]"),
    ] {
        let error = list(json!(["first", entry])).unwrap_err();
        assert_eq!(error.field, format!("notification_channels[1]{field}"), "{entry}");
    }
    assert_eq!(list(json!({"a": 1})).unwrap_err().field, "notification_channels");
}

#[test]
fn the_settings_of_a_body_have_no_path_before_them() {
    let body = json!({"group_wait_seconds": -1});
    let error = Routing::parse(body.as_object().unwrap(), "").unwrap_err();
    assert_eq!(error.field, "group_wait_seconds");
}

#[test]
fn all_channels_of_a_rule_together_have_a_limit() {
    let many: Vec<String> = (0..17).map(|n| format!("c{n}")).collect();
    assert!(list(json!(many)).unwrap_err().reason.contains("17 entries"));
    let names: Vec<String> = (0..64).map(|n| format!("{n:0>250}")).collect();
    let long = json!([{"channel": "a", "group_by": names}, {"channel": "b", "group_by": names}]);
    assert!(list(long).unwrap_err().reason.contains("bytes of JSON"));
}
