use super::*;
use crate::channel::{ChannelSpec, RateLimit, Receiver};
use crate::fixtures::{at, event};
use crate::store::Mark;
use tidemark_rules::{ChannelUse, TransitionKind};

fn channel(routing: Routing) -> Recipient {
    let spec = ChannelSpec {
        receiver: Receiver::Sns {
            topic_arn: "arn:aws:sns:eu-central-1:123456789012:ops".into(),
        },
        routing,
        rate_limit: RateLimit::default(),
        title: None,
        body: None,
    };
    Recipient::Channel {
        name: "ops".into(),
        channel: Some(Box::new(Channel {
            id: "ops".into(),
            spec,
            version: 1,
            created_at: at(0),
            updated_at: at(0),
        })),
    }
}

fn member(instance: &str, firing_since: i64) -> Member {
    let mut event = event(TransitionKind::Firing, "https://a.example/", &["ops"]);
    event.instance_id = instance.into();
    event.firing_since = at(firing_since);
    Member {
        incident: event.incident_id(),
        event,
        enlisted_at: at(0),
        mark: Mark::default(),
    }
}

fn snapshot(channels: Vec<ChannelUse>) -> RuleSnapshot {
    let mut rule = member("a", 0).event.rule;
    rule.notification_channels = channels;
    rule
}

fn by(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

fn keys(members: &[Member], recipient: &Recipient) -> Vec<(String, usize)> {
    let all = assemble(&[], members, recipient, at(0));
    let mut keys: Vec<(String, usize)> = all.into_iter().map(|one| (one.group.key, one.members.len())).collect();
    keys.sort();
    keys
}

#[test]
fn what_is_usual_is_what_alertmanager_does_but_for_a_shorter_wait() {
    let usual = settings(&snapshot(vec!["ops".into()]), &channel(Routing::default()));
    assert_eq!(usual.group_by, ["alertname"]);
    assert_eq!(
        usual.timing,
        Timing {
            wait_ms: 10_000,
            interval_ms: 300_000,
            repeat_ms: 14_400_000,
            send_resolved: true
        }
    );
}

#[test]
fn where_the_rule_names_the_channel_counts_before_the_rule_and_that_before_the_channel() {
    let of_channel = channel(Routing {
        group_by: by(&["dc"]),
        group_wait_seconds: Some(1),
        repeat_interval_seconds: Some(60),
        send_resolved: Some(false),
        ..Routing::default()
    });
    let mut rule = snapshot(vec![ChannelUse {
        channel: "ops".into(),
        routing: Routing {
            group_wait_seconds: Some(2),
            ..Routing::default()
        },
    }]);
    let found = settings(&rule, &of_channel);
    assert_eq!((found.group_by, found.timing.wait_ms), (vec!["dc".to_owned()], 2_000));
    assert_eq!((found.timing.repeat_ms, found.timing.send_resolved), (60_000, false));
    rule.repeat_interval_seconds = Some(120);
    assert_eq!(settings(&rule, &of_channel).timing.repeat_ms, 120_000);
    rule.notification_channels[0].routing.repeat_interval_seconds = Some(180);
    assert_eq!(settings(&rule, &of_channel).timing.repeat_ms, 180_000);
}

#[test]
fn a_heartbeat_is_told_alone_and_at_once_whatever_its_channel_says() {
    let of_channel = channel(Routing {
        group_by: by(&[]),
        group_wait_seconds: Some(30),
        ..Routing::default()
    });
    let mut rule = snapshot(vec!["ops".into()]);
    rule.query = serde_json::json!({"kind": "heartbeat"});
    let found = settings(&rule, &of_channel);
    assert_eq!(found.group_by, ["..."]);
    assert_eq!((found.timing.wait_ms, found.timing.interval_ms), (0, 0));
}

#[test]
fn absurd_settings_do_not_overflow() {
    let of_channel = channel(Routing {
        group_wait_seconds: Some(u64::MAX),
        repeat_interval_seconds: Some(0),
        ..Routing::default()
    });
    let found = settings(&snapshot(vec!["ops".into()]), &of_channel).timing;
    assert!(found.wait_ms > 0 && found.repeat_ms > 0);
}

#[test]
fn alerts_with_the_same_values_share_a_group() {
    let both = [member("a", 0), member("b", 0)];
    assert_eq!(
        keys(&both, &channel(Routing::default())),
        [(r#"{}:{alertname="high_cpu"}"#.to_owned(), 2)]
    );
    let all = channel(Routing {
        group_by: by(&[]),
        ..Routing::default()
    });
    assert_eq!(keys(&both, &all), [("{}:{}".to_owned(), 2)]);
    let absent = channel(Routing {
        group_by: by(&["zone"]),
        ..Routing::default()
    });
    assert_eq!(keys(&both, &absent), [("{}:{}".to_owned(), 2)]);
}

#[test]
fn each_alert_by_itself_has_all_its_labels_in_the_key() {
    let mut quoted = member("a", 0);
    quoted.event.labels = tidemark_model::Labels::from_pairs([("host", "say \"hi\"\n")]).unwrap();
    let alone = channel(Routing {
        group_by: by(&["..."]),
        ..Routing::default()
    });
    assert_eq!(
        keys(&[quoted], &alone)[0].0,
        r#"{}:{alertname="high_cpu",host="say \"hi\"\n",severity="critical"}"#
    );
}

#[test]
fn incidents_for_different_addresses_of_a_rule_are_told_apart() {
    let (first, mut second) = (member("a", 0), member("a", 60));
    second.event.rule.webhook_url = Some("https://b.example/".into());
    let found = keys(&[first, second], &Recipient::Webhook);
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].0, found[1].0, "people see the same key");
}

#[test]
fn a_member_that_was_told_stays_in_its_group_when_group_by_changes() {
    let first = assemble(&[], &[member("a", 0)], &channel(Routing::default()), at(0))[0]
        .group
        .clone();
    let mut told = member("a", 0);
    told.mark.group = Some(first.id.clone());
    let changed = channel(Routing {
        group_by: by(&["host"]),
        ..Routing::default()
    });
    let members = [told, member("b", 0)];
    let all = assemble(std::slice::from_ref(&first), &members, &changed, at(0));
    assert_eq!(all.len(), 2);
    let stayed = all.iter().find(|one| one.group.id == first.id).unwrap();
    assert_eq!(stayed.members[0].0.event.instance_id, "a");
}

#[test]
fn what_begins_again_joins_the_group_in_which_its_end_is_told() {
    let first = assemble(&[], &[member("a", 0)], &channel(Routing::default()), at(0))[0]
        .group
        .clone();
    let mut told = member("a", 0);
    told.mark.group = Some(first.id.clone());
    let changed = channel(Routing {
        group_by: by(&["host"]),
        ..Routing::default()
    });
    let members = [member("a", 60), told];
    let all = assemble(&[first], &members, &changed, at(0));
    assert_eq!(all.len(), 1);
}

#[test]
fn a_group_that_is_made_again_does_not_reuse_a_version() {
    let version = |seconds| {
        assemble(&[], &[member("a", 0)], &channel(Routing::default()), at(seconds))[0]
            .group
            .version
    };
    assert!(version(60) > version(0) + 10_000);
}
