use super::*;
use crate::memory::MemoryNotifyStore;
use crate::settings::Silence;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use tidemark_rules::MemoryAlertStore;
use tidemark_rules::manage::create_rule;

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_225_600_000 + seconds * 1_000)
}

fn channel(name: &str) -> Value {
    json!({"name": name, "type": "webhook", "url": "https://hooks.example.com/x"})
}

fn mute_time(name: &str) -> Value {
    json!({"name": name, "time_intervals": [{"weekdays": ["saturday"]}]})
}

fn silence() -> Value {
    json!({"matchers": {"host": "web-01"}, "duration_seconds": 60, "created_by": "ana", "comment": "at work"})
}

async fn rule(alerts: &MemoryAlertStore, name: &str, channels: Value) {
    let body = json!({"name": name, "metric_name": "cpu", "condition": ">", "threshold": 1,
        "notification_channels": channels});
    create_rule(alerts, &body, || format!("rule-{name}"), at(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_channel_lives_from_its_creation_to_its_deletion() {
    let (store, alerts) = (MemoryNotifyStore::new(), MemoryAlertStore::default());
    let created: Channel = create(&store, &channel("oncall"), at(0)).await.unwrap();
    assert_eq!((created.id.as_str(), created.version), ("oncall", 1));
    let taken = create::<Channel>(&store, &channel("oncall"), at(1)).await.unwrap_err();
    assert!(matches!(taken, ManageError::Taken { .. }), "{taken}");
    let same: Channel = replace(&store, "oncall", &channel("oncall"), at(2)).await.unwrap();
    assert_eq!(same, created, "nothing changed");
    let patch = json!({"group_wait_seconds": 30});
    let patched = patch_channel(&store, "oncall", &patch, at(3)).await.unwrap();
    assert_eq!(
        (patched.version, patched.spec.routing.group_wait_seconds),
        (2, Some(30))
    );
    assert_eq!((patched.created_at, patched.updated_at), (at(0), at(3)));
    let replaced: Channel = replace(&store, "oncall", &channel("oncall"), at(4)).await.unwrap();
    assert_eq!((replaced.version, &replaced.spec), (3, &created.spec));
    delete::<Channel>(&store, &alerts, "oncall").await.unwrap();
    let gone = delete::<Channel>(&store, &alerts, "oncall").await.unwrap_err();
    assert_eq!(gone.to_string(), "the channel `oncall` does not exist");
    for missing in [
        replace::<Channel>(&store, "oncall", &channel("oncall"), at(5)).await,
        patch_channel(&store, "oncall", &patch, at(5)).await,
        get::<Channel>(&store, "oncall").await,
    ] {
        assert!(matches!(missing, Err(ManageError::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_name_never_changes() {
    let store = MemoryNotifyStore::new();
    let _: Channel = create(&store, &channel("oncall"), at(0)).await.unwrap();
    let refused = replace::<Channel>(&store, "oncall", &channel("other"), at(1)).await;
    assert!(matches!(refused, Err(ManageError::Invalid(field)) if field.field == "name"));
    let refused = patch_channel(&store, "oncall", &json!({"id": "other"}), at(1)).await;
    assert!(matches!(refused, Err(ManageError::Invalid(field)) if field.field == "id"));
}

#[tokio::test]
async fn what_others_name_stays() {
    let (store, alerts) = (MemoryNotifyStore::new(), MemoryAlertStore::default());
    let _: Channel = create(&store, &channel("oncall"), at(0)).await.unwrap();
    let _: MuteTime = create(&store, &mute_time("nights"), at(0)).await.unwrap();
    let mut by_day = channel("by day");
    by_day["mute_times"] = json!(["nights"]);
    let _: Channel = create(&store, &by_day, at(0)).await.unwrap();
    for number in 0..12 {
        rule(&alerts, &format!("r{number:02}"), json!(["oncall"])).await;
    }
    let uses = json!([{"channel": "by day", "mute_times": ["nights"]}]);
    rule(&alerts, "x", uses).await;
    let refused = delete::<Channel>(&store, &alerts, "oncall")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.starts_with("the channel `oncall` is named by rule `r00`, rule `r01`"),
        "{refused}"
    );
    assert!(refused.ends_with("rule `r09` and 2 more"), "{refused}");
    let refused = delete::<MuteTime>(&store, &alerts, "nights")
        .await
        .unwrap_err()
        .to_string();
    assert_eq!(refused, "the mute time `nights` is named by channel `by day`, rule `x`");
}

#[tokio::test]
async fn a_rule_with_an_address_of_its_own_does_not_need_the_channel_webhook() {
    let (store, alerts) = (MemoryNotifyStore::new(), MemoryAlertStore::default());
    let _: Channel = create(&store, &channel("webhook"), at(0)).await.unwrap();
    let body = json!({"name": "r", "metric_name": "cpu", "condition": ">", "threshold": 1,
        "webhook_url": "https://hooks.example.com/own"});
    let stored = create_rule(&alerts, &body, || "rule-r".to_owned(), at(0))
        .await
        .unwrap();
    delete::<Channel>(&store, &alerts, "webhook").await.unwrap();
    let names = Names::load(&store).await.unwrap();
    assert!(names.missing_of_rule(&stored.rule.spec).is_empty());
}

#[tokio::test]
async fn what_is_named_and_missing_is_said() {
    let (store, alerts) = (MemoryNotifyStore::new(), MemoryAlertStore::default());
    let _: Channel = create(&store, &channel("here"), at(0)).await.unwrap();
    let _: MuteTime = create(&store, &mute_time("nights"), at(0)).await.unwrap();
    let uses = json!(["here", "gone", {"channel": "here too", "mute_times": ["nights", "days"]}]);
    rule(&alerts, "x", uses).await;
    let names = Names::load(&store).await.unwrap();
    let spec = alerts.get_rule("rule-x").await.unwrap().unwrap().spec;
    assert_eq!(
        names.missing_of_rule(&spec),
        [
            "the channel `gone` is not configured: nobody is told there",
            "the channel `here too` is not configured: nobody is told there",
            "the mute time `days` is not configured: it mutes nothing",
        ]
    );
    let mut muted = channel("x");
    muted["mute_times"] = json!(["days"]);
    let spec = ChannelSpec::parse(&muted).unwrap();
    assert_eq!(names.missing_of_channel(&spec).len(), 1);
}

#[tokio::test]
async fn a_silence_is_created_changed_and_ended() {
    let store = MemoryNotifyStore::new();
    let first = create_silence(&store, &silence(), || "s0".to_owned(), at(0))
        .await
        .unwrap();
    assert_eq!((first.id.as_str(), first.ends_at), ("s0", at(60)));
    let second = create_silence(&store, &silence(), || "s1".to_owned(), at(0))
        .await
        .unwrap();
    assert_eq!(second.id, "s1");
    let mut longer = silence();
    longer["duration_seconds"] = json!(600);
    let changed = replace_silence(&store, "s0", &longer, at(30)).await.unwrap();
    assert_eq!(
        (changed.starts_at, changed.ends_at, changed.version),
        (at(0), at(600), 2)
    );
    let ended = expire_silence(&store, "s0", at(40)).await.unwrap();
    assert_eq!((ended.starts_at, ended.ends_at, ended.version), (at(0), at(40), 3));
    assert_eq!(SilenceState::of(&ended, at(40)), SilenceState::Expired);
    assert_eq!(expire_silence(&store, "s0", at(50)).await.unwrap(), ended, "it is over");
    let over = replace_silence(&store, "s0", &longer, at(50)).await.unwrap_err();
    assert!(matches!(over, ManageError::Expired));
    assert!(matches!(
        expire_silence(&store, "none", at(0)).await,
        Err(ManageError::NotFound { .. })
    ));
}

#[tokio::test]
async fn a_silence_that_waits_never_begins_when_it_is_ended() {
    let store = MemoryNotifyStore::new();
    let mut later = silence();
    later["starts_at"] = json!(at(100).to_rfc3339());
    let waiting = create_silence(&store, &later, || "s".to_owned(), at(0)).await.unwrap();
    let state = |silence: &Silence, now: i64| SilenceState::of(silence, at(now));
    assert_eq!(state(&waiting, 99), SilenceState::Pending);
    assert_eq!(state(&waiting, 100), SilenceState::Active);
    let ended = expire_silence(&store, "s", at(50)).await.unwrap();
    assert_eq!((ended.starts_at, ended.ends_at), (at(50), at(50)));
    assert_eq!(state(&ended, 100), SilenceState::Expired);
}

#[tokio::test]
async fn an_id_that_is_taken_is_drawn_again() {
    let store = MemoryNotifyStore::new();
    create_silence(&store, &silence(), || "s0".to_owned(), at(0))
        .await
        .unwrap();
    let draws = AtomicUsize::new(0);
    let draw = || format!("s{}", draws.fetch_add(1, Ordering::Relaxed));
    assert_eq!(create_silence(&store, &silence(), draw, at(0)).await.unwrap().id, "s1");
    let stuck = create_silence(&store, &silence(), || "s0".to_owned(), at(0)).await;
    assert!(matches!(stuck, Err(ManageError::Conflict)));
}

#[tokio::test]
async fn there_is_a_limit_on_each_kind() {
    let store = MemoryNotifyStore::new();
    for number in 0..MAX_INHIBITIONS {
        let body = json!({"name": format!("i{number}"), "source_matchers": {"a": "b"}, "target_matchers": {"c": "d"}});
        let _: Inhibition = create(&store, &body, at(0)).await.unwrap();
    }
    let body = json!({"name": "more", "source_matchers": {"a": "b"}, "target_matchers": {"c": "d"}});
    let refused = create::<Inhibition>(&store, &body, at(0)).await.unwrap_err();
    assert!(matches!(refused, ManageError::TooMany { limit: MAX_INHIBITIONS }));
}
