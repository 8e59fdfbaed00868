use super::*;
use crate::channel::Channel;
use serde_json::json;
use tidemark_model::Timestamp;

fn webhook() -> Value {
    json!({"type": "webhook", "url": "https://hooks.example.org/x"})
}

/// A valid body of each kind.
fn bodies() -> Vec<Value> {
    vec![
        json!({"type": "webhook", "url": "https://hooks.example.org/x",
            "signing_keys": [{"id": "2026-02", "secret": "ssm:/tidemark/new"}, {"id": "2026-01", "secret": "ssm:/tidemark/old"}],
            "headers": {"Authorization": "secretsmanager:tidemark/hook#token"}}),
        json!({"type": "webhook", "url": "secretsmanager:tidemark/hook#url"}),
        json!({"type": "email", "from": "alerts@example.org", "to": ["a.b+c@example.org", "ops@mail.example.org"]}),
        json!({"type": "pagerduty", "routing_key": "ssm:/tidemark/pagerduty", "api_url": "https://events.eu.pagerduty.com/v2/enqueue"}),
        json!({"type": "slack", "webhook_url": "ssm:/tidemark/slack"}),
        json!({"type": "sns", "topic_arn": "arn:aws-us-gov:sns:us-gov-west-1:000000000000:on_call-1"}),
        json!({"type": "teams", "webhook_url": "ssm:/tidemark/teams"}),
    ]
}

fn merged(mut body: Value, patch: &Value) -> Value {
    fields::merge(&mut body, patch);
    body
}

fn error(body: &Value) -> InvalidField {
    ChannelSpec::parse(body).map(|spec| panic!("{spec:?}")).unwrap_err()
}

#[test]
fn every_kind_is_read_stored_and_read_back() {
    for body in bodies() {
        let whole = json!({"group_by": ["alertname", "zone"], "group_wait_seconds": 5, "send_resolved": false, "mute_times": ["nights"],
            "rate_limit": {"notifications": 5, "per_seconds": 300}});
        let spec = ChannelSpec::parse(&merged(body.clone(), &whole)).unwrap();
        assert_eq!(spec.rate_limit.notifications, 5);
        assert_eq!(spec.routing.group_by.as_ref().unwrap().len(), 2);
        let channel = Channel {
            id: "ops".into(),
            spec: spec.clone(),
            version: 2,
            created_at: Timestamp(1_000),
            updated_at: Timestamp(2_000),
        };
        let stored = serde_json::to_value(&channel).unwrap();
        assert_eq!(
            (&stored["id"], &stored["type"], &stored["version"]),
            (&json!("ops"), &body["type"], &json!(2))
        );
        assert_eq!(serde_json::from_value::<Channel>(stored.clone()).unwrap(), channel);
        // What the API answers can be sent back.
        assert_eq!(ChannelSpec::parse(&stored).unwrap(), spec);
    }
}

#[test]
fn what_is_not_given_has_defaults() {
    let spec = ChannelSpec::parse(&webhook()).unwrap();
    assert_eq!((spec.rate_limit.notifications, spec.rate_limit.per_seconds), (30, 60));
    assert_eq!(spec.routing, Routing::default());
    assert_eq!((spec.title, spec.body), (None, None));
}

#[test]
fn every_error_names_its_field() {
    let email = json!({"type": "email", "from": "a@example.org", "to": ["b@example.org"]});
    let keys = |keys: Value| json!({"signing_keys": keys});
    let key = |id: &str| json!({"id": id, "secret": "ssm:/k"});
    for (patch, field) in [
        (json!({"type": null}), "type"),
        (json!({"type": "pager"}), "type"),
        (json!({"type": 1}), "type"),
        (json!({"url": null}), "url"),
        (json!({"url": "hooks.example.org"}), "url"),
        (json!({"url": "ftp://example.org/"}), "url"),
        (json!({"url": "https://user:s3cret@example.org/"}), "url"),
        (json!({"url": "ssm:"}), "url"),
        (json!({"url": 7}), "url"),
        (json!({"title": "x"}), "title"),
        (json!({"body": "x"}), "body"),
        (keys(json!("ssm:/k")), "signing_keys"),
        (keys(json!([key("a"), key("b"), key("c"), key("d")])), "signing_keys"),
        (keys(json!([key("a"), key("a")])), "signing_keys[1].id"),
        (keys(json!([key("t")])), "signing_keys[0].id"),
        (keys(json!([key("a=b")])), "signing_keys[0].id"),
        (keys(json!([key("a,b")])), "signing_keys[0].id"),
        (keys(json!(["ssm:/k"])), "signing_keys[0]"),
        (keys(json!([{"secret": "ssm:/k"}])), "signing_keys[0].id"),
        (keys(json!([{"id": "a"}])), "signing_keys[0].secret"),
        (keys(json!([{"id": "a", "secret": "s3cret"}])), "signing_keys[0].secret"),
        (json!({"headers": ["x"]}), "headers"),
        (
            json!({"headers": {"authorization": "Bearer s3cret"}}),
            "headers.authorization",
        ),
        (json!({"headers": {"a b": "ssm:/k"}}), "headers.a b"),
        (json!({"headers": {"Host": "ssm:/k"}}), "headers.Host"),
        (
            json!({"headers": {"content-length": "ssm:/k"}}),
            "headers.content-length",
        ),
        (
            json!({"headers": {"X-Tidemark-Signature": "ssm:/k"}}),
            "headers.X-Tidemark-Signature",
        ),
        (json!({"headers": {"x-a": "ssm:/k", "X-A": "ssm:/k"}}), "headers.x-a"),
        (json!({"rate_limit": 30}), "rate_limit"),
        (json!({"rate_limit": {"notifications": 1}}), "rate_limit.per_seconds"),
        (
            json!({"rate_limit": {"notifications": 0, "per_seconds": 60}}),
            "rate_limit.notifications",
        ),
        (
            json!({"rate_limit": {"notifications": 1, "per_seconds": 90_000}}),
            "rate_limit.per_seconds",
        ),
        (json!({"group_wait_seconds": -1}), "group_wait_seconds"),
        (json!({"group_by": [1]}), "group_by[0]"),
    ] {
        let error = error(&merged(webhook(), &patch));
        assert_eq!(error.field, field, "{patch}: {error}");
        assert!(!error.reason.contains("s3cret"), "{error}");
    }
    for (patch, field) in [
        (json!({"from": "Tidemark <a@example.org>"}), "from"),
        (json!({"from": "a@example.org\r\nBcc: b@example.org"}), "from"),
        (json!({"to": "b@example.org"}), "to"),
        (json!({"to": []}), "to"),
        (json!({"to": ["b@example.org", "b@example.org,c@example.org"]}), "to[1]"),
        (json!({"to": ["@example.org"]}), "to[0]"),
        (json!({"to": ["b"]}), "to[0]"),
        (json!({"to": ["b@"]}), "to[0]"),
        (json!({"to": ["b@a@example.org"]}), "to[0]"),
        (json!({"to": ["b c@example.org"]}), "to[0]"),
        (json!({"to": ["b..c@example.org"]}), "to[0]"),
        (json!({"to": ["b@-example.org"]}), "to[0]"),
        (json!({"to": ["b@example..org"]}), "to[0]"),
        (json!({"to": ["ö@example.org"]}), "to[0]"),
        (json!({"to": [1]}), "to[0]"),
        (json!({"title": "{% set a = 1 %}"}), "title"),
        (json!({"body": "{{ status|nonsense }}"}), "body"),
        (json!({"body": "x".repeat(8_193)}), "body"),
        (json!({"title": ""}), "title"),
    ] {
        let error = error(&merged(email.clone(), &patch));
        assert_eq!(error.field, field, "{patch}: {error}");
    }
    for (body, field) in [
        (json!("a channel"), ""),
        (
            json!({"type": "slack", "webhook_url": "https://hooks.slack.example/s3cret"}),
            "webhook_url",
        ),
        (
            json!({"type": "teams", "webhook_url": "https://teams.example/s3cret"}),
            "webhook_url",
        ),
        (json!({"type": "teams"}), "webhook_url"),
        (json!({"type": "pagerduty", "routing_key": "s3cret"}), "routing_key"),
        (
            json!({"type": "pagerduty", "routing_key": "ssm:/k", "api_url": "x"}),
            "api_url",
        ),
        (
            json!({"type": "pagerduty", "routing_key": "ssm:/k", "api_url": "http://events.example.org/"}),
            "api_url",
        ),
        (
            json!({"type": "pagerduty", "routing_key": "ssm:/k", "api_url": "http://localhost/"}),
            "api_url",
        ),
        (
            json!({"type": "webhook", "url": "http://hooks.example.org/", "headers": {"x": "ssm:/k"}}),
            "url",
        ),
        (json!({"type": "sns", "topic_arn": "topic"}), "topic_arn"),
        (
            json!({"type": "sns", "topic_arn": "arn:aws:sqs:eu-west-1:000000000000:q"}),
            "topic_arn",
        ),
        (
            json!({"type": "sns", "topic_arn": "arn:aws:sns:eu-west-1:000000000000:t.fifo"}),
            "topic_arn",
        ),
        (
            json!({"type": "sns", "topic_arn": "arn:aws:sns:eu-west-1:000000000000:t:sub"}),
            "topic_arn",
        ),
    ] {
        let error = error(&body);
        assert_eq!(error.field, field, "{body}: {error}");
        assert!(!error.reason.contains("s3cret"), "{error}");
    }
}

#[test]
fn secrets_go_to_the_loopback_without_tls() {
    for host in ["127.0.0.1:1", "[::1]:1"] {
        let url = format!("http://{host}/");
        for body in [
            json!({"type": "pagerduty", "routing_key": "ssm:/k", "api_url": url}),
            json!({"type": "webhook", "url": url, "headers": {"x": "ssm:/k"}}),
        ] {
            assert!(ChannelSpec::parse(&body).is_ok(), "{body}");
        }
    }
    let plain = json!({"type": "webhook", "url": "http://hooks.example.org/"});
    assert!(ChannelSpec::parse(&plain).is_ok());
}

#[test]
fn a_template_that_cannot_be_used_is_refused_with_field_and_line() {
    let body = json!({"type": "slack", "webhook_url": "ssm:/k", "body": "one\ntwo {{ status|nonsense }}"});
    let error = error(&body).to_string();
    assert!(
        error.starts_with("body: line 2: ") && error.contains("nonsense"),
        "{error}"
    );
}

#[test]
fn a_patch_changes_what_it_names_and_may_change_the_kind() {
    let spec = ChannelSpec::parse(&merged(webhook(), &json!({"headers": {"a": "ssm:/a", "b": "ssm:/b"}}))).unwrap();
    let patched = spec
        .patched(&json!({"headers": {"a": null, "c": "ssm:/c"}, "group_wait_seconds": 7}))
        .unwrap();
    let Receiver::Webhook { headers, .. } = &patched.receiver else {
        panic!("{patched:?}")
    };
    assert_eq!(headers.keys().collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(patched.routing.group_wait_seconds, Some(7));
    let slack = spec
        .patched(&json!({"type": "slack", "webhook_url": "ssm:/s", "title": "{{ status }}"}))
        .unwrap();
    assert!(matches!(slack.receiver, Receiver::Slack { .. }));
    assert!(slack.title.is_some());
    assert_eq!(spec.patched(&json!({"url": null})).unwrap_err().field, "url");
    assert_eq!(spec.patched(&json!([])).unwrap_err().field, "");
    assert_eq!(spec.patched(&json!({})).unwrap(), spec);
}
