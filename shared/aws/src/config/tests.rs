use super::*;

const SOUND: [(&str, &str); 18] = [
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "very-secret"),
    ("AWS_SESSION_TOKEN", "a-token"),
    ("STREAM_NAME", "tidemark-Stream-1A"),
    ("SEGMENTS_TABLE", "tidemark-SegmentsTable-1A"),
    ("CATALOG_TABLE", "tidemark-CatalogTable-1A"),
    ("ALERTS_TABLE", "tidemark-AlertsTable-1A"),
    ("CACHE_TABLE", "tidemark-CacheTable-1A"),
    ("ALERTS_TOPIC_ARN", "arn:aws:sns:eu-central-1:000000000000:alerts"),
    ("DEAD_LETTER_QUEUE_URL", "https://sqs.example/000000000000/dead"),
    ("NOTIFY_QUEUE_URL", "http://127.0.0.1:4566/000000000000/notify"),
    (
        "NOTIFY_DEAD_LETTER_QUEUE_URL",
        "http://127.0.0.1:4566/000000000000/notify-dead",
    ),
    ("BUCKETS", "16"),
    ("WINDOW_SECONDS", "7200"),
    ("RAW_RETENTION_DAYS", "7"),
    ("WEBHOOK_ALLOWED_CIDRS", ""),
    ("LOG_LEVEL", "info"),
];

/// The sound environment with some variables replaced, or removed with `None`.
fn with(changes: &[(&'static str, Option<&str>)]) -> impl Fn(&'static str) -> Option<String> {
    let mut variables: Vec<(&str, Option<String>)> = SOUND
        .iter()
        .map(|(name, value)| (*name, Some((*value).to_owned())))
        .collect();
    for (name, value) in changes {
        variables.retain(|(known, _)| known != name);
        variables.push((name, value.map(str::to_owned)));
    }
    move |wanted| {
        variables
            .iter()
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, value)| value.clone())
    }
}

#[test]
fn a_sound_environment_configures_every_function() {
    let variables = with(&[]);
    assert!(Ingest::read(&variables).is_ok());
    assert!(Consume::read(&variables).is_ok());
    assert!(Query::read(&variables).is_ok());
    assert!(Evaluate::read(&variables).is_ok());
    let notify = Notify::read(&variables).unwrap();
    assert!(notify.webhook_allowed_cidrs.is_empty());
    assert!(
        notify.notify_queue_url.ends_with("/notify") && notify.notify_dead_letter_queue_url.ends_with("/notify-dead")
    );
    let admin = Admin::read(&variables).unwrap();
    assert_eq!(admin.storage.buckets.count(), 16);
    assert_eq!(admin.storage.window.ms(), 7_200_000);
    assert_eq!(admin.storage.raw_retention_ms, 604_800_000);
    assert_eq!(admin.account.endpoint_url, None);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let cases = [
        ("AWS_REGION", None, "is not set or empty"),
        ("AWS_SECRET_ACCESS_KEY", Some(""), "is not set or empty"),
        (
            "AWS_ENDPOINT_URL",
            Some("localhost:4566"),
            "is `localhost:4566`; it must be an http or https address",
        ),
        (
            "STREAM_NAME",
            Some("a/b"),
            "is `a/b`; a name has at most 255 of the characters a-z A-Z 0-9 _ . -",
        ),
        ("BUCKETS", Some("0"), "is `0`; it must be a whole number from 1 to 4096"),
        (
            "BUCKETS",
            Some("99999999"),
            "is `99999999`; it must be a whole number from 1 to 4096",
        ),
        (
            "WINDOW_SECONDS",
            Some("2h"),
            "is `2h`; it must be a whole number from 1 to 86400",
        ),
        (
            "RAW_RETENTION_DAYS",
            Some("31"),
            "is `31`; it must be a whole number from 1 to 30",
        ),
        (
            "ALERTS_TOPIC_ARN",
            Some("alerts"),
            "is `alerts`; it must be the ARN of an SNS topic",
        ),
        (
            "DEAD_LETTER_QUEUE_URL",
            Some("http:///x"),
            "is `http:///x`; it must be an http or https address",
        ),
    ];
    for (variable, value, reason) in cases {
        let error = Admin::read(&with(&[(variable, value)])).unwrap_err();
        assert_eq!((error.variable, error.reason.as_str()), (variable, reason));
    }
    let error = Notify::read(&with(&[("WEBHOOK_ALLOWED_CIDRS", Some("127.0.0.0/8, nonsense"))])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable WEBHOOK_ALLOWED_CIDRS holds `nonsense`; ranges look like 10.0.0.0/8 or fd00::/8"
    );
}

#[test]
fn a_function_asks_only_for_what_it_uses() {
    let variables = with(&[
        ("ALERTS_TABLE", None),
        ("DEAD_LETTER_QUEUE_URL", None),
        ("SEGMENTS_TABLE", None),
    ]);
    assert!(Ingest::read(&variables).is_ok());
    assert!(Query::read(&variables).is_err());
}

#[test]
fn several_ranges_may_be_allowed() {
    let config = Notify::read(&with(&[("WEBHOOK_ALLOWED_CIDRS", Some("127.0.0.0/8,fd00::/8,"))])).unwrap();
    assert_eq!(config.webhook_allowed_cidrs.len(), 2);
}

#[test]
fn secrets_do_not_show() {
    let config = Ingest::read(&with(&[])).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains("very-secret") && !shown.contains("a-token"), "{shown}");
}

#[test]
fn the_readme_has_a_line_for_every_variable() {
    let readme = include_str!("../../README.md");
    for (name, _) in SOUND.iter().chain([&("AWS_ENDPOINT_URL", "")]) {
        assert!(readme.contains(&format!("| `{name}` |")), "{name}");
    }
}
