//! What every [`AlertStore`] must do, as one check that runs against an empty store of any kind. The memory store passes it
//! in this crate's tests, the one on DynamoDB in the tests that have an emulator.

use crate::condition::Condition;
use crate::history::{AttemptOutcome, HistoryEntry, HistoryEvent, HistoryFilter};
use crate::instance::{
    Acknowledgement, Instance, InstanceState, Transition, TransitionKind, TransitionReason, fingerprint, instance_id,
};
use crate::routing::{ChannelUse, Routing};
use crate::rule::{NoData, Query, Rule, RuleSpec, Severity, Threshold};
use crate::store::{AlertStore, InstanceFilter, PageRequest, RuleCreated, RuleReplaced, Saved, StoreError, TickState};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tidemark_model::{LabelFilter, Labels, Timestamp};

/// A store does not do what its trait promises.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// A promise that is not kept.
    #[error("{0}")]
    Promise(String),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), Broken> {
    if got == wanted {
        Ok(())
    } else {
        Err(Broken::Promise(format!("{what}: got {got:?}, wanted {wanted:?}")))
    }
}

fn a_rule(id: &str, name: &str) -> Rule {
    Rule {
        id: id.to_owned(),
        spec: RuleSpec {
            name: name.to_owned(),
            query: Query::Threshold(Threshold {
                metric_name: "cpu.load größe".to_owned(),
                labels: LabelFilter::default(),
                aggregation: None,
                group_by: Vec::new(),
                condition: Condition::Greater,
                threshold: 0.1,
                window_seconds: 300,
            }),
            duration_seconds: 60,
            keep_firing_for_seconds: 0,
            interval_seconds: 60,
            no_data: NoData::Ok,
            severity: Severity::Critical,
            alert_labels: BTreeMap::from([("team".to_owned(), "größe".to_owned())]),
            notification_channels: vec![
                "webhook".into(),
                ChannelUse {
                    channel: "ops".to_owned(),
                    routing: Routing {
                        group_by: Some(vec!["host".to_owned()]),
                        repeat_interval_seconds: Some(60),
                        ..Routing::default()
                    },
                },
            ],
            webhook_url: Some("https://example.org/".to_owned()),
            repeat_interval_seconds: Some(3_600),
            annotations: BTreeMap::from([("summary".to_owned(), String::new())]),
            enabled: true,
        },
        version: 1,
        created_at: Timestamp(1_000),
        updated_at: Timestamp(1_000),
    }
}

fn an_instance(rule: &Rule, labels: Labels, state: InstanceState) -> Instance {
    let fingerprint = fingerprint(&rule.id, &labels);
    Instance {
        id: instance_id(&rule.id, &fingerprint),
        rule: rule.snapshot(),
        fingerprint,
        labels,
        state,
        current_value: f64::INFINITY,
        annotations: BTreeMap::from([("summary".to_owned(), "{\"quoted\"}".to_owned())]),
        pending_since: Some(Timestamp(5)),
        firing_since: None,
        resolved_at: None,
        previous_resolved_at: Some(Timestamp(3)),
        previous: None,
        missing_since: None,
        keep_firing_since: Some(Timestamp(4)),
        observed_until: None,
        acknowledged: Some(Acknowledgement {
            at: Timestamp(4),
            by: "jane".to_owned(),
            comment: None,
        }),
        updated_at: Timestamp(5),
        version: 1,
        unsent: Vec::new(),
        notifications_sent: 0,
        last_notification_at: None,
    }
}

fn page(limit: usize, after: Option<String>) -> PageRequest {
    PageRequest { limit, after }
}

/// Checks an *empty* store.
///
/// # Errors
/// Names the first promise that is not kept.
pub async fn check(store: &impl AlertStore) -> Result<(), Broken> {
    rules(store).await?;
    instances(store).await?;
    history(store).await?;
    ticks(store).await
}

/// Rules: unique names, versions, pages.
async fn rules(store: &impl AlertStore) -> Result<(), Broken> {
    let (one, two) = (a_rule("conf-1", "one"), a_rule("conf-2", "two"));
    same("an unknown rule", &store.get_rule("conf-1").await?, &None)?;
    same("a new rule", &store.create_rule(&one).await?, &RuleCreated::Created)?;
    same(
        "a rule reads back",
        &store.get_rule("conf-1").await?,
        &Some(one.clone()),
    )?;
    same(
        "a taken name",
        &store.create_rule(&a_rule("conf-9", "one")).await?,
        &RuleCreated::NameTaken,
    )?;
    same("a refused rule", &store.get_rule("conf-9").await?, &None)?;
    same(
        "a taken id",
        &store.create_rule(&a_rule("conf-1", "other")).await?,
        &RuleCreated::IdTaken,
    )?;
    same("a second rule", &store.create_rule(&two).await?, &RuleCreated::Created)?;

    let mut renamed = a_rule("conf-1", "new name");
    renamed.version = 2;
    same(
        "a rename",
        &store.replace_rule(&one, &renamed).await?,
        &RuleReplaced::Replaced,
    )?;
    same(
        "a change of an old version",
        &store.replace_rule(&one, &renamed).await?,
        &RuleReplaced::Conflict,
    )?;
    let mut clash = a_rule("conf-1", "two");
    clash.version = 3;
    same(
        "a rename to a taken name",
        &store.replace_rule(&renamed, &clash).await?,
        &RuleReplaced::NameTaken,
    )?;
    let mut edited = renamed.clone();
    edited.version = 3;
    edited.spec.duration_seconds = 7;
    same(
        "an edit under the same name",
        &store.replace_rule(&renamed, &edited).await?,
        &RuleReplaced::Replaced,
    )?;
    same(
        "an edit reads back",
        &store.get_rule("conf-1").await?,
        &Some(edited.clone()),
    )?;
    let third = a_rule("conf-3", "one");
    same(
        "a name that a rename set free",
        &store.create_rule(&third).await?,
        &RuleCreated::Created,
    )?;

    same(
        "all rules",
        &store.load_rules().await?,
        &vec![edited.clone(), two.clone(), third.clone()],
    )?;
    same("the number of rules", &store.count_rules().await?, &3)?;
    let first = store.list_rules(&page(2, None)).await?;
    same("the first page", &first.items, &vec![edited.clone(), two.clone()])?;
    let second = store.list_rules(&page(2, first.next)).await?;
    same(
        "the last page",
        &(second.items, second.next),
        &(vec![third.clone()], None),
    )?;
    same(
        "a page after any text",
        &store.list_rules(&page(9, Some("zz".into()))).await?.items,
        &Vec::new(),
    )?;

    same(
        "deleting an old version",
        &store.delete_rule(&renamed).await?,
        &Saved::Conflict,
    )?;
    for rule in [&edited, &two, &third] {
        same("deleting", &store.delete_rule(rule).await?, &Saved::Saved)?;
    }
    same("deleting again", &store.delete_rule(&two).await?, &Saved::Conflict)?;
    same(
        "changing what is gone",
        &store.replace_rule(&two, &two).await?,
        &RuleReplaced::Conflict,
    )?;
    same("no rules left", &store.load_rules().await?, &Vec::new())?;
    same(
        "a name that a deletion set free",
        &store.create_rule(&two).await?,
        &RuleCreated::Created,
    )?;
    same("deleting", &store.delete_rule(&two).await?, &Saved::Saved)
}

/// Instances: versions, the outbox, counters apart from the state, filters and pages.
async fn instances(store: &impl AlertStore) -> Result<(), Broken> {
    let rule = a_rule("conf-1", "one");
    let host = |name: &str| Labels::from_pairs([("host", name)]).unwrap_or_default();
    let mut one = an_instance(&rule, host("a"), InstanceState::Pending);
    same("a new instance", &store.save_instance(&one, None).await?, &Saved::Saved)?;
    same(
        "an instance reads back",
        &store.get_instance(&one.id).await?,
        &Some(one.clone()),
    )?;
    same(
        "a new instance again",
        &store.save_instance(&one, None).await?,
        &Saved::Conflict,
    )?;

    (one.version, one.state, one.firing_since) = (2, InstanceState::Firing, Some(Timestamp(9)));
    one.unsent.push(Transition {
        kind: TransitionKind::Firing,
        reason: TransitionReason::ConditionHeld,
        at: Timestamp(9),
        firing_since: Timestamp(9),
        value: f64::NEG_INFINITY,
        by: Some("jane".to_owned()),
        comment: None,
    });
    store.record_notification(&one.id, Timestamp(20)).await?;
    store.record_notification(&one.id, Timestamp(10)).await?;
    same(
        "a save of the wrong version",
        &store.save_instance(&one, Some(7)).await?,
        &Saved::Conflict,
    )?;
    same("a save", &store.save_instance(&one, Some(1)).await?, &Saved::Saved)?;
    (one.notifications_sent, one.last_notification_at) = (2, Some(Timestamp(20)));
    same(
        "a save leaves the counters",
        &store.get_instance(&one.id).await?,
        &Some(one.clone()),
    )?;
    same(
        "a save from an old version",
        &store.save_instance(&one, Some(1)).await?,
        &Saved::Conflict,
    )?;
    same(
        "clearing an old outbox",
        &store.clear_unsent(&one.id, 1).await?,
        &Saved::Conflict,
    )?;
    same(
        "clearing the outbox",
        &store.clear_unsent(&one.id, 2).await?,
        &Saved::Saved,
    )?;
    one.unsent.clear();
    same(
        "an empty outbox",
        &store.get_instance(&one.id).await?,
        &Some(one.clone()),
    )?;
    same(
        "an unknown instance",
        &store.clear_unsent("conf-1.none", 1).await?,
        &Saved::Conflict,
    )?;
    store.record_notification("conf-1.none", Timestamp(1)).await?;
    same(
        "a count makes no instance",
        &store.get_instance("conf-1.none").await?,
        &None,
    )?;

    let two = an_instance(&rule, host("b"), InstanceState::Resolved);
    let other = an_instance(&a_rule("conf-2", "two"), host("a"), InstanceState::Pending);
    for instance in [&two, &other] {
        same(
            "a new instance",
            &store.save_instance(instance, None).await?,
            &Saved::Saved,
        )?;
    }
    let mut all = vec![one.clone(), two.clone(), other.clone()];
    all.sort_by(|a, b| a.id.cmp(&b.id));
    same("all instances", &store.load_instances().await?, &all)?;
    same("active instances", &store.count_active_instances().await?, &2)?;
    same("instances", &store.count_instances().await?, &(all.len() as u64))?;
    let of_rule = InstanceFilter {
        states: Vec::new(),
        rule_id: Some("conf-1".into()),
    };
    for (what, filter) in [
        ("all", InstanceFilter::default()),
        ("active", InstanceFilter::active()),
        ("of a rule", of_rule),
    ] {
        let wanted: Vec<Instance> = all
            .iter()
            .filter(|instance| filter.matches(instance))
            .cloned()
            .collect();
        let (mut got, mut after) = (Vec::new(), None);
        loop {
            let next = store.list_instances(&filter, &page(1, after)).await?;
            same("the size of a page", &(next.items.len() <= 1), &true)?;
            got.extend(next.items);
            after = next.next;
            if after.is_none() {
                break;
            }
        }
        same(&format!("page by page: {what}"), &got, &wanted)?;
        same(
            what,
            &store.list_instances(&filter, &page(100, None)).await?.items,
            &wanted,
        )?;
    }
    same(
        "removing an old version",
        &store.remove_instance(&one.id, 1).await?,
        &Saved::Conflict,
    )?;
    for instance in &all {
        same(
            "removing",
            &store.remove_instance(&instance.id, instance.version).await?,
            &Saved::Saved,
        )?;
    }
    same(
        "removing again",
        &store.remove_instance(&one.id, one.version).await?,
        &Saved::Conflict,
    )?;
    same(
        "saving what is gone",
        &store.save_instance(&one, Some(2)).await?,
        &Saved::Conflict,
    )?;
    same("no instances left", &store.load_instances().await?, &Vec::new())
}

/// The history: by time, rule and fingerprint, the newest first, in pages.
async fn history(store: &impl AlertStore) -> Result<(), Broken> {
    let entry = |rule: &str, host: &str, at: i64| {
        let rule = a_rule(rule, rule);
        let labels = Labels::from_pairs([("host", host)]).unwrap_or_default();
        let instance = an_instance(&rule, labels, InstanceState::Firing);
        let transition = Transition {
            kind: TransitionKind::Firing,
            reason: TransitionReason::ConditionHeld,
            at: Timestamp(at),
            firing_since: Timestamp(at),
            value: 1.5,
            by: None,
            comment: None,
        };
        let mut entry = HistoryEntry::of_transition(&instance, &transition);
        entry.id = format!("{}.{at}", entry.id);
        entry
    };
    // Days and months apart: however a store divides them, a list goes on over the borders.
    let now = Timestamp(1_767_268_800_000);
    let day = 86_400_000;
    let mut all: Vec<HistoryEntry> = (0..6)
        .map(|n| entry(if n % 2 == 0 { "hist-1" } else { "hist-2" }, "a", now.0 - n * 21 * day))
        .collect();
    all[4].event = HistoryEvent::Notification {
        channel: "ops".to_owned(),
        group_key: "ops:{alertname=\"größe\"}".to_owned(),
        state: TransitionKind::Resolved,
        notification_id: "n-1".to_owned(),
        attempt: 3,
        outcome: AttemptOutcome::Failed,
        error: Some("the receiver answered 500".to_owned()),
    };
    all[5].event = HistoryEvent::Suppressed {
        channel: "ops".to_owned(),
        reason: "silenced by s-1".to_owned(),
    };
    store.append_history(&all[..3]).await?;
    store.append_history(&all[2..]).await?;
    let listed = async |filter: HistoryFilter, limit: usize| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let one = store.list_history(&filter, now, &page(limit, after)).await?;
            found.extend(one.items);
            match one.next {
                Some(next) => after = Some(next),
                None => return Ok::<_, StoreError>(found),
            }
        }
    };
    for limit in [1, 2, 100] {
        same(
            "the whole history",
            &listed(HistoryFilter::default(), limit).await?,
            &all,
        )?;
    }
    let of_rule = HistoryFilter {
        rule_id: Some("hist-2".into()),
        ..HistoryFilter::default()
    };
    let odd = [all[1].clone(), all[3].clone(), all[5].clone()];
    same("the history of a rule", &listed(of_rule, 2).await?, &odd.to_vec())?;
    let of_alert = HistoryFilter {
        fingerprint: Some(all[0].fingerprint.clone()),
        start: Some(all[4].at),
        end: Some(all[2].at),
        ..HistoryFilter::default()
    };
    let even = [all[2].clone(), all[4].clone()];
    same(
        "the history of an alert in a range",
        &listed(of_alert, 1).await?,
        &even.to_vec(),
    )?;

    // Two at the same time, and one of them written once more.
    let mut twins = vec![entry("hist-3", "a", now.0 - 7), entry("hist-3", "b", now.0 - 7)];
    store.append_history(&twins).await?;
    twins[1].rule_name = "renamed".to_owned();
    store.append_history(&twins[1..]).await?;
    store.append_history(&[]).await?;
    let of_rule = HistoryFilter {
        rule_id: Some("hist-3".into()),
        start: Some(Timestamp(now.0 - 7)),
        end: Some(Timestamp(now.0 - 7)),
        ..HistoryFilter::default()
    };
    twins.sort_by(|a, b| b.id.cmp(&a.id));
    same("two entries of one time", &listed(of_rule, 1).await?, &twins)?;
    let of_nobody = HistoryFilter {
        rule_id: Some("hist-9".into()),
        ..HistoryFilter::default()
    };
    same("the history of nobody", &listed(of_nobody, 9).await?, &Vec::new())
}

/// How far the shards of the evaluation have come.
async fn ticks(store: &impl AlertStore) -> Result<(), Broken> {
    let state = |at: i64, owed: &[&str]| TickState {
        at: Timestamp(at),
        owed: owed.iter().map(|id| ((*id).to_owned(), Timestamp(at - 10))).collect(),
    };
    same("before the first tick", &store.load_tick(7).await?, &None)?;
    same(
        "a first tick",
        &store.save_tick(7, &state(100, &[])).await?,
        &Saved::Saved,
    )?;
    same(
        "a later tick",
        &store.save_tick(7, &state(200, &["a", "b"])).await?,
        &Saved::Saved,
    )?;
    same(
        "an earlier tick",
        &store.save_tick(7, &state(150, &[])).await?,
        &Saved::Conflict,
    )?;
    same(
        "the last tick",
        &store.load_tick(7).await?,
        &Some(state(200, &["a", "b"])),
    )?;
    same("another shard", &store.load_tick(8).await?, &None)
}
