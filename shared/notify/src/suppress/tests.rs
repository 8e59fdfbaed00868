use super::*;
use crate::fixtures::{at, rule};

fn labels(pairs: &[(&str, &str)]) -> AlertLabels {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn silence(id: &str, matchers: &str, from: i64, to: i64) -> Silence {
    Silence {
        id: id.into(),
        matchers: matchers.parse().unwrap(),
        starts_at: at(from),
        ends_at: at(to),
        created_by: "ana".into(),
        comment: String::new(),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn inhibition(source: &str, target: &str, equal: &[&str]) -> Inhibition {
    Inhibition {
        id: "dc-down".into(),
        source_matchers: source.parse().unwrap(),
        target_matchers: target.parse().unwrap(),
        equal: equal.iter().map(|name| (*name).to_owned()).collect(),
        version: 1,
        created_at: at(0),
        updated_at: at(0),
    }
}

fn source(pairs: &[(&str, &str)]) -> Source {
    Source {
        instance_id: "i".into(),
        labels: labels(pairs),
    }
}

fn instance(host: &str, state: InstanceState) -> Instance {
    let json = serde_json::json!({"id": format!("rule-1.{host}"), "rule": rule().snapshot(), "fingerprint": host,
        "labels": {"host": host}, "state": state, "current_value": 91.0, "annotations": {}, "pending_since": null,
        "firing_since": null, "resolved_at": null, "updated_at": at(0), "version": 1});
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_silence_mutes_from_its_start_to_just_before_its_end() {
    let all = [silence("s1", r#"{host=~"web-.*"}"#, 0, 60)];
    let web = labels(&[("host", "web-01")]);
    assert_eq!(silenced(&all, &web, at(-1)), None);
    assert_eq!(
        silenced(&all, &web, at(0)),
        Some((Suppression::Silenced { by: vec!["s1".into()] }, at(60)))
    );
    assert_eq!(silenced(&all, &web, at(60)), None);
    assert_eq!(silenced(&all, &labels(&[("host", "db-01")]), at(0)), None);
}

#[test]
fn several_silences_are_all_named_and_the_last_to_end_counts() {
    let all = [
        silence("s2", r#"{host="a"}"#, 0, 60),
        silence("s1", r#"{host!=""}"#, 0, 90),
    ];
    let (why, until) = silenced(&all, &labels(&[("host", "a")]), at(1)).unwrap();
    assert_eq!((why.to_string().as_str(), until), ("silenced by s1, s2", at(90)));
}

#[test]
fn an_inhibition_mutes_its_targets_while_a_source_with_the_same_labels_fires() {
    let all = [inhibition(
        r#"{alertname="dc_down"}"#,
        r#"{severity="warning"}"#,
        &["dc"],
    )];
    let down = [source(&[("alertname", "dc_down"), ("dc", "fra")])];
    let target = labels(&[("severity", "warning"), ("dc", "fra")]);
    let why = inhibited(&all, &down, &target).unwrap();
    assert_eq!(why.to_string(), "inhibited by dc_down (dc-down)");
    assert_eq!(inhibited(&all, &[], &target), None);
    assert_eq!(
        inhibited(&all, &down, &labels(&[("severity", "warning"), ("dc", "ams")])),
        None
    );
    assert_eq!(
        inhibited(&all, &down, &labels(&[("severity", "critical"), ("dc", "fra")])),
        None
    );
}

#[test]
fn a_missing_label_equals_an_empty_one() {
    let all = [inhibition(r#"{alertname="a"}"#, r#"{alertname="b"}"#, &["dc"])];
    let firing = [source(&[("alertname", "a"), ("dc", "")])];
    assert!(inhibited(&all, &firing, &labels(&[("alertname", "b")])).is_some());
}

#[test]
fn an_alert_that_is_both_source_and_target_does_not_mute_itself_or_its_like() {
    let all = [inhibition(r#"{team="x"}"#, r#"{team="x"}"#, &[])];
    let itself = [source(&[("team", "x")])];
    assert_eq!(inhibited(&all, &itself, &labels(&[("team", "x")])), None);
}

#[test]
fn only_what_fires_is_a_source() {
    let all = [inhibition(r#"{alertname="high_cpu"}"#, "{}", &[])];
    let instances = [
        instance("b", InstanceState::Firing),
        instance("a", InstanceState::Firing),
        instance("c", InstanceState::Pending),
        instance("d", InstanceState::Resolved),
    ];
    let ids: Vec<String> = sources(&all, &instances)
        .into_iter()
        .map(|one| one.instance_id)
        .collect();
    assert_eq!(ids, ["rule-1.a", "rule-1.b"]);
}

#[test]
fn a_preview_shows_what_is_active_and_matches() {
    let instances = [
        instance("a", InstanceState::Firing),
        instance("b", InstanceState::Pending),
        instance("c", InstanceState::Resolved),
    ];
    let muted = |matchers: &str| -> Vec<String> {
        let matchers: LabelFilter = matchers.parse().unwrap();
        preview(&matchers, &instances)
            .iter()
            .map(|one| one.fingerprint.clone())
            .collect()
    };
    assert_eq!(muted(r#"{alertname="high_cpu"}"#), ["a", "b"]);
    assert_eq!(muted(r#"{host!="a",severity="critical"}"#), ["b"]);
}
