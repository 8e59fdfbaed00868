use super::*;
use crate::fixtures::{at, labels, row, rule};
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashSet;

/// The instances of one rule as a store would keep them, with every outbox published at once.
#[derive(Default)]
struct World {
    instances: Vec<Instance>,
    told: Vec<(String, Transition)>,
}

impl World {
    fn apply(&mut self, decision: Decision) {
        for change in decision.changes {
            match change {
                Change::Save {
                    mut instance,
                    expected,
                    transition,
                } => {
                    let stored = self.instances.iter().position(|one| one.id == instance.id);
                    assert_eq!(stored.map(|index| self.instances[index].version), expected);
                    assert_eq!(instance.version, expected.unwrap_or(0) + 1);
                    assert_eq!(instance.unsent.last(), transition.as_ref());
                    self.told
                        .extend(transition.map(|transition| (instance.id.clone(), transition)));
                    instance.unsent.clear();
                    match stored {
                        Some(index) => self.instances[index] = *instance,
                        None => self.instances.push(*instance),
                    }
                }
                Change::Remove { id, expected } => {
                    let index = self.instances.iter().position(|one| one.id == id).unwrap();
                    assert_eq!(self.instances.remove(index).version, expected);
                }
            }
        }
    }

    fn tick(&mut self, rule: &Rule, rows: &[Row], now: Timestamp) {
        let decision = decide(rule, &self.instances, rows, now);
        self.apply(decision);
        let again = decide(rule, &self.instances, rows, now);
        assert_eq!(again.changes, [], "the same facts at the same time decide nothing more");
    }

    fn of(&self, host: &str) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.labels == labels(host))
    }

    fn state(&self, host: &str) -> Option<InstanceState> {
        self.of(host).map(|instance| instance.state)
    }
}

/// One step of a story: (seconds, value or none, state after it, what was told on it).
type Step = (i64, Option<f64>, Option<InstanceState>, Option<TransitionReason>);

fn play(name: &str, duration_seconds: u64, story: &[Step]) -> World {
    let rule = rule("r", &json!({"duration_seconds": duration_seconds}));
    let mut world = World::default();
    for &(seconds, value, state, reason) in story {
        let told = world.told.len();
        let rows: Vec<Row> = value.map(|value| row("a", value)).into_iter().collect();
        world.tick(&rule, &rows, at(seconds));
        assert_eq!(world.state("a"), state, "{name}: at {seconds} s");
        let reasons: Vec<_> = world.told[told..]
            .iter()
            .map(|(_, transition)| transition.reason)
            .collect();
        assert_eq!(
            reasons,
            reason.into_iter().collect::<Vec<_>>(),
            "{name}: at {seconds} s"
        );
    }
    world
}

#[test]
fn stories() {
    use InstanceState::{Firing, Inactive, Pending, Resolved};
    use TransitionReason::{ConditionCleared, ConditionHeld, DataMissing};
    let (p, f, r, i) = (Some(Pending), Some(Firing), Some(Resolved), Some(Inactive));
    let (high, low, none) = (Some(95.0), Some(10.0), None);

    play(
        "nothing is made of a condition that does not hold",
        60,
        &[(0, low, None, None), (60, none, None, None)],
    );
    play(
        "duration 0 fires at once",
        0,
        &[(0, high, f, Some(ConditionHeld)), (60, low, r, Some(ConditionCleared))],
    );
    play(
        "fires when it has held for the duration",
        120,
        &[
            (0, high, p, None),
            (60, high, p, None),
            (119, high, p, None),
            (120, high, f, Some(ConditionHeld)),
            (180, high, f, None),
            (240, low, r, Some(ConditionCleared)),
            (300, low, r, None),
        ],
    );
    play(
        "a pause begins the duration anew",
        120,
        &[
            (0, high, p, None),
            (60, low, i, None),
            (120, high, p, None),
            (200, high, p, None),
            (240, high, f, Some(ConditionHeld)),
        ],
    );
    play(
        "missing data ends a pending alert",
        120,
        &[(0, high, p, None), (60, none, i, None)],
    );
    play(
        "missing data resolves a firing alert",
        0,
        &[(0, high, f, Some(ConditionHeld)), (60, none, r, Some(DataMissing))],
    );
    play(
        "a missed tick is harmless",
        120,
        &[(0, high, p, None), (600, high, f, Some(ConditionHeld))],
    );
    play("NaN does not hold", 0, &[(0, Some(f64::NAN), None, None)]);
    play(
        "a resolved alert may become pending and fire again",
        60,
        &[
            (0, high, p, None),
            (60, high, f, Some(ConditionHeld)),
            (120, low, r, Some(ConditionCleared)),
            (180, high, p, None),
            (240, high, f, Some(ConditionHeld)),
            (300, none, r, Some(DataMissing)),
        ],
    );
    play(
        "a resolved alert that was only pending again is inactive",
        60,
        &[
            (0, high, p, None),
            (60, high, f, Some(ConditionHeld)),
            (120, low, r, Some(ConditionCleared)),
            (180, high, p, None),
            (200, low, i, None),
        ],
    );
    play(
        "a clock that steps back neither fires early nor sticks",
        60,
        &[
            (100, high, p, None),
            (40, high, p, None),
            (90, high, p, None),
            (100, high, f, Some(ConditionHeld)),
            (20, low, r, Some(ConditionCleared)),
        ],
    );
    let gone = [
        (0, high, f, Some(ConditionHeld)),
        (60, low, r, Some(ConditionCleared)),
        (60 + 86_400, low, r, None),
        (61 + 86_400, low, None, None),
    ];
    play("a day after its end an instance is removed", 0, &gone);
}

#[test]
fn an_instance_knows_its_times_and_values() {
    let rule = rule("r", &json!({"duration_seconds": 60}));
    let mut world = World::default();
    world.tick(&rule, &[row("a", 95.0)], at(0));
    let pending = world.of("a").unwrap();
    assert_eq!(
        (pending.pending_since, pending.firing_since, pending.resolved_at),
        (Some(at(0)), None, None)
    );
    assert_eq!(
        (pending.id.as_str(), pending.version),
        (format!("r.{}", pending.fingerprint).as_str(), 1)
    );
    world.tick(&rule, &[row("a", 96.5)], at(60));
    let firing = world.of("a").unwrap();
    assert_eq!((firing.pending_since, firing.firing_since), (Some(at(0)), Some(at(60))));
    assert_eq!(
        (firing.current_value, firing.annotations["summary"].as_str()),
        (96.5, "a is at 96.5")
    );
    world.tick(&rule, &[row("a", 12.0)], at(120));
    let resolved = world.of("a").unwrap();
    assert_eq!(
        (resolved.firing_since, resolved.resolved_at, resolved.current_value),
        (Some(at(60)), Some(at(120)), 12.0)
    );
    assert_eq!(
        resolved.annotations["summary"], "a is at 96.5",
        "the problem's text, not that of its end"
    );
    let event = resolved.event(&world.told[1].1);
    assert_eq!(
        (event.resolved_at, event.value, event.kind),
        (Some(at(120)), 12.0, TransitionKind::Resolved)
    );
    assert_eq!(event.firing_id(), resolved.event(&world.told[0].1).id);
}

#[test]
fn series_live_apart() {
    let rule = rule("r", &json!({"duration_seconds": 60}));
    let mut world = World::default();
    world.tick(&rule, &[row("a", 95.0), row("b", 5.0)], at(0));
    world.tick(&rule, &[row("a", 95.0), row("b", 95.0)], at(60));
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(InstanceState::Firing), Some(InstanceState::Pending))
    );
}

#[test]
fn a_disabled_or_deleted_rule_ends_its_alerts() {
    let rule_on = rule("r", &json!({"duration_seconds": 60}));
    let mut world = World::default();
    world.tick(&rule_on, &[row("a", 95.0)], at(0));
    world.tick(&rule_on, &[row("a", 95.0), row("b", 95.0)], at(60));
    let mut deleted = World {
        instances: world.instances.clone(),
        told: Vec::new(),
    };

    let off = rule("r", &json!({"enabled": false}));
    world.tick(&off, &[row("a", 95.0)], at(120));
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(InstanceState::Resolved), Some(InstanceState::Inactive))
    );
    assert_eq!(world.told[1].1.reason, TransitionReason::RuleDisabled);

    let decision = decide_orphans(&deleted.instances, at(120));
    deleted.apply(decision);
    assert_eq!(deleted.told.len(), 1);
    assert_eq!(deleted.told[0].1.reason, TransitionReason::RuleDeleted);
    assert_eq!(
        deleted.of("a").unwrap().rule.webhook_url.as_deref(),
        Some("http://example.org/")
    );
    assert_eq!(decide_orphans(&deleted.instances, at(120)).changes, []);
    let decision = decide_orphans(&deleted.instances, at(121 + 86_400));
    deleted.apply(decision);
    assert!(deleted.instances.is_empty());
}

#[test]
fn an_edit_says_so_where_it_is_the_reason() {
    let before = rule("r", &json!({}));
    let reason_after = |extra: serde_json::Value, rows: &[Row]| {
        let mut world = World::default();
        world.tick(&before, &[row("a", 95.0)], at(0));
        let mut after = rule("r", &extra);
        after.version = 2;
        world.tick(&after, rows, at(60));
        world.told[1].1.reason
    };
    assert_eq!(
        reason_after(json!({"threshold": 99}), &[row("a", 95.0)]),
        TransitionReason::RuleChanged
    );
    assert_eq!(
        reason_after(json!({"labels": {"env": "x"}}), &[]),
        TransitionReason::RuleChanged
    );
    assert_eq!(
        reason_after(json!({"severity": "info"}), &[row("a", 5.0)]),
        TransitionReason::ConditionCleared
    );
    assert_eq!(
        reason_after(json!({"severity": "info"}), &[]),
        TransitionReason::DataMissing
    );
}

#[test]
fn a_resolve_goes_to_those_who_were_told_of_the_firing() {
    let mut world = World::default();
    world.tick(&rule("r", &json!({})), &[row("a", 95.0)], at(0));
    let moved = rule("r", &json!({"webhook_url": "http://elsewhere.example.org/"}));
    world.tick(&moved, &[row("a", 96.0)], at(60));
    world.tick(&moved, &[row("a", 6.0)], at(120));
    let event = world.of("a").unwrap().event(&world.told[1].1);
    assert_eq!(event.rule.webhook_url.as_deref(), Some("http://example.org/"));
}

#[test]
fn a_resolve_by_hand_ends_it_until_the_next_tick() {
    let rule = rule("r", &json!({}));
    let mut world = World::default();
    world.tick(&rule, &[row("a", 95.0)], at(0));
    let change = resolve_by_hand(world.of("a").unwrap(), at(60)).unwrap();
    world.apply(Decision {
        changes: vec![change],
        dropped: 0,
    });
    assert_eq!(world.state("a"), Some(InstanceState::Resolved));
    assert_eq!(world.told[1].1.reason, TransitionReason::ResolvedByHand);
    assert_eq!(resolve_by_hand(world.of("a").unwrap(), at(61)), None);
    world.tick(&rule, &[row("a", 95.0)], at(60));
    assert_eq!(world.state("a"), Some(InstanceState::Firing));
    let (first, second) = (&world.told[0].1, &world.told[2].1);
    assert_ne!(first.firing_since, second.firing_since, "a new incident has a new name");
}

#[test]
fn two_incidents_never_share_a_name_whatever_the_clock_says() {
    let rule = rule("r", &json!({}));
    let mut world = World::default();
    for seconds in [0, 0, -5, 0, -5] {
        world.tick(&rule, &[row("a", 95.0)], at(seconds));
        world.tick(&rule, &[], at(seconds));
        let resolved = world.of("a").unwrap();
        assert!(resolved.resolved_at >= resolved.firing_since);
    }
    let names: HashSet<Timestamp> = world
        .told
        .iter()
        .map(|(_, transition)| transition.firing_since)
        .collect();
    assert_eq!((world.told.len(), names.len()), (10, 5));
}

#[test]
fn what_has_not_been_told_waits() {
    let rule = rule("r", &json!({}));
    let decision = decide(&rule, &[], &[row("a", 95.0)], at(0));
    let Change::Save { instance, .. } = &decision.changes[0] else {
        panic!()
    };
    let unsent = [(**instance).clone()];
    assert_eq!(decide(&rule, &unsent, &[row("a", 5.0)], at(60)).changes, []);
    assert_eq!(decide_orphans(&unsent, at(60)).changes, []);
}

#[test]
fn a_storm_is_cut_but_what_is_active_goes_on() {
    let rule = rule("r", &json!({}));
    let mut world = World::default();
    let last = [row("zzz", 95.0)];
    world.tick(&rule, &last, at(0));
    let mut rows: Vec<Row> = (0..limits::MAX_INSTANCES_PER_RULE + 10)
        .map(|n| row(&format!("h{n:05}"), 95.0))
        .collect();
    rows.extend(last);
    let decision = decide(&rule, &world.instances, &rows, at(60));
    assert_eq!(
        (decision.changes.len(), decision.dropped),
        (limits::MAX_INSTANCES_PER_RULE - 1, 11)
    );
    world.apply(decision);
    assert_eq!(world.state("zzz"), Some(InstanceState::Firing));
}

#[test]
fn fingerprints_never_change() {
    use crate::instance::{fingerprint, transition_id};
    let labels = Labels::from_pairs([("host", "web-01"), ("region", "eu")]).unwrap();
    // printf '\x06\0\0\0rule-1\x04\0\0\0host\x06\0\0\0web-01\x06\0\0\0region\x02\0\0\0eu' | md5sum
    assert_eq!(fingerprint("rule-1", &labels), "c9b75cbbd642b1c3be0243dc198ece4c");
    // printf '\x06\0\0\0rule-1' | md5sum
    assert_eq!(
        fingerprint("rule-1", &Labels::default()),
        "ef87df68399d99af568aba078c6cd54c"
    );
    assert_eq!(
        transition_id("rule-1.ab", Timestamp(5), TransitionKind::Resolved),
        "rule-1.ab.5.resolved"
    );
}

#[derive(Clone, Debug)]
enum Event {
    /// Values of hosts a and b; none: no data.
    Tick {
        after_seconds: i64,
        values: [Option<bool>; 2],
    },
    Hand,
    Enable(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let value = || prop_oneof![4 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
    prop_oneof![
        12 => (1_i64..100, value(), value()).prop_map(|(after_seconds, a, b)| Event::Tick { after_seconds, values: [a, b] }),
        1 => Just(Event::Hand),
        1 => any::<bool>().prop_map(Event::Enable),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_each_firing_is_earned_and_has_one_resolve(
        duration in prop_oneof![Just(0_u64), 1_u64..200],
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut rule = rule("r", &json!({"duration_seconds": duration}));
        let mut world = World::default();
        let mut now = 0;
        // Since when the condition has held on every tick, by host.
        let mut held: [Option<i64>; 2] = [None, None];
        for event in events {
            let told = world.told.len();
            match event {
                Event::Tick { after_seconds, values } => {
                    now += after_seconds;
                    let hosts = ["a", "b"];
                    let rows: Vec<Row> = hosts.iter().zip(values).filter_map(|(host, high)| Some(row(host, if high? { 95.0 } else { 5.0 }))).collect();
                    for (since, high) in held.iter_mut().zip(values) {
                        *since = if rule.spec.enabled && high == Some(true) { since.or(Some(now)) } else { None };
                    }
                    world.tick(&rule, &rows, at(now));
                    for (host, since) in hosts.iter().zip(held) {
                        let should_fire = since.is_some_and(|since| now - since >= i64::try_from(duration).unwrap());
                        let fires = world.state(host) == Some(InstanceState::Firing);
                        prop_assert_eq!(fires, should_fire, "{} at {}", host, now);
                    }
                }
                Event::Hand => {
                    let changes: Vec<Change> = world.instances.iter().filter_map(|one| resolve_by_hand(one, at(now))).collect();
                    world.apply(Decision { changes, dropped: 0 });
                    now += 1;
                    held = [None, None];
                }
                Event::Enable(enabled) => rule.spec.enabled = enabled,
            }
            for (_, transition) in &world.told[told..] {
                prop_assert!(transition.at >= transition.firing_since);
            }
        }
        let mut ids = HashSet::new();
        for host in ["a", "b"] {
            let Some(instance) = world.of(host) else { continue };
            let told: Vec<&Transition> = world.told.iter().filter(|(id, _)| *id == instance.id).map(|(_, one)| one).collect();
            for pair in told.chunks(2) {
                prop_assert_eq!(pair[0].kind, TransitionKind::Firing);
                if let Some(resolve) = pair.get(1) {
                    prop_assert_eq!((resolve.kind, resolve.firing_since), (TransitionKind::Resolved, pair[0].firing_since));
                }
            }
            prop_assert_eq!(told.len() % 2 == 1, instance.state == InstanceState::Firing);
            for transition in told {
                let event = instance.event(transition);
                prop_assert!(ids.insert(event.id));
            }
        }
    }
}
