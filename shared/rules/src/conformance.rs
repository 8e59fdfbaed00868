//! What every [`AlertStore`] must do, as one check that runs against an empty store of any kind. The memory store passes it
//! in this crate's tests, the one on DynamoDB in the tests that have an emulator.

use crate::condition::Condition;
use crate::instance::{
    Instance, InstanceState, Transition, TransitionKind, TransitionReason, fingerprint, instance_id,
};
use crate::rule::{Rule, RuleSpec, Severity};
use crate::store::{
    AlertStore, AttemptKey, Begun, Finished, InstanceFilter, LogState, PageRequest, RuleCreated, RuleReplaced, Saved,
    StoreError,
};
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
            metric_name: "cpu.load größe".to_owned(),
            labels: LabelFilter::default(),
            aggregation: None,
            group_by: Vec::new(),
            condition: Condition::Greater,
            threshold: 0.1,
            duration_seconds: 60,
            window_seconds: 300,
            severity: Severity::Critical,
            notification_channels: vec!["webhook".to_owned()],
            webhook_url: Some("https://example.org/".to_owned()),
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
    log(store).await
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
    (edited.version, edited.spec.threshold) = (3, -5e-324);
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

/// The notification log: leases, attempts, what is final.
async fn log(store: &impl AlertStore) -> Result<(), Broken> {
    let key = |transition: &str| AttemptKey {
        transition_id: transition.into(),
        channel: "webhook".into(),
    };
    let state = async |key: &AttemptKey| {
        store
            .log_entry(key)
            .await
            .map(|entry| entry.map(|entry| (entry.state, entry.attempts)))
    };
    let (sent, given_up, never) = (key("conf.1.firing"), key("conf.2.firing"), key("conf.3.firing"));
    let t = Timestamp;

    same("no entry", &state(&sent).await?, &None)?;
    same(
        "the first attempt",
        &store.begin_attempt(&sent, t(100), t(130)).await?,
        &Begun::Attempt(1),
    )?;
    same(
        "its entry",
        &state(&sent).await?,
        &Some((LogState::Open { lease_until: t(130) }, 1)),
    )?;
    same(
        "a running attempt",
        &store.begin_attempt(&sent, t(129), t(159)).await?,
        &Begun::Running { until: t(130) },
    )?;
    same(
        "a lease that ended",
        &store.begin_attempt(&sent, t(130), t(160)).await?,
        &Begun::Attempt(2),
    )?;
    store
        .finish_attempt(&sent, &Finished::Failed { reason: "500".into() }, t(131))
        .await?;
    same(
        "after a failure",
        &store.begin_attempt(&sent, t(132), t(162)).await?,
        &Begun::Attempt(3),
    )?;
    store.finish_attempt(&sent, &Finished::Sent, t(133)).await?;
    same(
        "after a success",
        &store.begin_attempt(&sent, t(999), t(999)).await?,
        &Begun::Done,
    )?;
    store
        .finish_attempt(&sent, &Finished::GivenUp { reason: "late".into() }, t(140))
        .await?;
    same(
        "a success is final",
        &state(&sent).await?,
        &Some((LogState::Sent { at: t(133) }, 3)),
    )?;

    same(
        "an attempt",
        &store.begin_attempt(&given_up, t(1), t(2)).await?,
        &Begun::Attempt(1),
    )?;
    store
        .finish_attempt(&given_up, &Finished::GivenUp { reason: "404".into() }, t(2))
        .await?;
    same(
        "given up",
        &state(&given_up).await?,
        &Some((LogState::GivenUp { reason: "404".into() }, 1)),
    )?;
    same(
        "given up is not final",
        &store.begin_attempt(&given_up, t(3), t(4)).await?,
        &Begun::Attempt(2),
    )?;

    store
        .finish_attempt(&never, &Finished::Undeliverable { reason: "no".into() }, t(1))
        .await?;
    same(
        "undeliverable",
        &state(&never).await?,
        &Some((LogState::Undeliverable { reason: "no".into() }, 0)),
    )?;
    same(
        "undeliverable is final",
        &store.begin_attempt(&never, t(5), t(6)).await?,
        &Begun::Done,
    )
}
