use super::*;

const SOUND: [(&str, &str); 25] = [
    ("AWS_REGION", "eu-central-1"),
    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "very-secret"),
    ("AWS_SESSION_TOKEN", "a-token"),
    ("STREAM_NAME", "tidemark-Stream-1A"),
    ("SEGMENTS_TABLE", "tidemark-SegmentsTable-1A"),
    ("CATALOG_TABLE", "tidemark-CatalogTable-1A"),
    ("METRICS_TABLE", "tidemark-MetricsTable-1A"),
    ("AGGREGATES_TABLE", "tidemark-AggregatesTable-1A"),
    ("ALERTS_TABLE", "tidemark-AlertsTable-1A"),
    ("CACHE_TABLE", "tidemark-CacheTable-1A"),
    ("ALERTS_TOPIC_ARN", "arn:aws:sns:eu-central-1:000000000000:alerts"),
    ("DEAD_LETTER_QUEUE_URL", "https://sqs.example/000000000000/dead"),
    ("EVALUATE_QUEUE_URL", "http://127.0.0.1:4566/000000000000/evaluate"),
    ("NOTIFY_QUEUE_URL", "http://127.0.0.1:4566/000000000000/notify"),
    (
        "NOTIFY_DEAD_LETTER_QUEUE_URL",
        "http://127.0.0.1:4566/000000000000/notify-dead",
    ),
    ("BUCKETS", "16"),
    ("WINDOW_SECONDS", "7200"),
    ("RAW_RETENTION_DAYS", "7"),
    ("MINUTE_RETENTION_DAYS", "30"),
    ("HOUR_RETENTION_DAYS", "365"),
    ("COMPACTION_GRACE_SECONDS", "3600"),
    ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024"),
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
    let evaluate = Evaluate::read(&variables).unwrap();
    assert!(evaluate.evaluate_queue_url.ends_with("/evaluate"));
    assert!(Compact::read(&variables).is_ok());
    let notify = Notify::read(&variables).unwrap();
    assert!(notify.webhook_allowed_cidrs.is_empty());
    assert!(
        notify.notify_queue_url.ends_with("/notify") && notify.notify_dead_letter_queue_url.ends_with("/notify-dead")
    );
    let admin = Admin::read(&variables).unwrap();
    assert_eq!(
        (&admin.notify_queue_url, &admin.notify_dead_letter_queue_url),
        (&notify.notify_queue_url, &notify.notify_dead_letter_queue_url)
    );
    assert_eq!(admin.storage.buckets.count(), 16);
    assert_eq!(admin.storage.window.ms(), 7_200_000);
    let layout = admin.storage.layout();
    assert_eq!(layout.retention.raw_ms, 7 * DAY_MS);
    assert_eq!(layout.retention.minute_ms, 30 * DAY_MS);
    assert_eq!(layout.retention.hour_ms, 365 * DAY_MS);
    assert_eq!(layout.grace_ms, 3_600_000);
    assert_eq!(admin.cache_bytes, 341_333_333);
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
            "is `2h`; it must be a whole number from 3600 to 86400",
        ),
        (
            "WINDOW_SECONDS",
            Some("18000"),
            "is `18000`; a window must be whole hours that divide a day",
        ),
        (
            "WINDOW_SECONDS",
            Some("5400"),
            "is `5400`; a window must be whole hours that divide a day",
        ),
        (
            "MINUTE_RETENTION_DAYS",
            Some("6"),
            "is `6`; it must be at least RAW_RETENTION_DAYS, which is 7",
        ),
        (
            "HOUR_RETENTION_DAYS",
            Some("29"),
            "is `29`; it must be at least MINUTE_RETENTION_DAYS, which is 30",
        ),
        (
            "HOUR_RETENTION_DAYS",
            Some("366"),
            "is `366`; it must be a whole number from 1 to 365",
        ),
        (
            "COMPACTION_GRACE_SECONDS",
            Some("599"),
            "is `599`; it must be a whole number from 600 to 86400",
        ),
        (
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
            Some("much"),
            "is `much`; it must be a whole number from 1 to 1000000",
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
fn tiers_may_live_equally_long() {
    let changes = ["MINUTE_RETENTION_DAYS", "HOUR_RETENTION_DAYS"].map(|variable| (variable, Some("7")));
    let variables = with(&changes);
    assert_eq!(
        Compact::read(&variables).unwrap().storage.retention.longest_ms(),
        7 * DAY_MS
    );
}

#[test]
fn a_function_that_is_not_told_its_memory_takes_the_least_for_granted() {
    let variables = with(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", None)]);
    assert_eq!(Query::read(&variables).unwrap().cache_bytes, 85_333_333);
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
