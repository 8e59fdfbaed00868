use super::*;
use crate::fixtures::{at, labels, row, row_of, rule};
use proptest::prelude::*;
use serde_json::json;
use std::collections::HashSet;
use story::World;

mod absence;
mod stories;
mod story;

#[test]
fn an_instance_knows_its_times_and_values() {
    let mut world = World::new(&json!({"duration_seconds": 60}));
    world.tick(&[row("a", 95.0)], at(0), 0);
    let pending = world.of(&labels("a")).unwrap();
    assert_eq!(
        (pending.pending_since, pending.firing_since, pending.resolved_at),
        (Some(at(0)), None, None)
    );
    assert_eq!(
        (pending.id.as_str(), pending.version),
        (format!("r.{}", pending.fingerprint).as_str(), 1)
    );
    world.tick(&[row("a", 96.5)], at(60), 0);
    let firing = world.of(&labels("a")).unwrap();
    assert_eq!((firing.pending_since, firing.firing_since), (Some(at(0)), Some(at(60))));
    assert_eq!(
        (firing.current_value, firing.annotations["summary"].as_str()),
        (96.5, "a is at 96.5")
    );
    world.tick(&[row("a", 12.0)], at(120), 0);
    let resolved = world.of(&labels("a")).unwrap();
    assert_eq!(
        (resolved.firing_since, resolved.resolved_at, resolved.current_value),
        (Some(at(60)), Some(at(120)), 12.0)
    );
    assert_eq!(
        resolved.annotations["summary"], "a is at 96.5",
        "the problem's text, not that of its end"
    );
    let [pending, firing, resolve] = &world.told[..] else {
        panic!()
    };
    assert_eq!(
        (pending.1.at, pending.1.firing_since, pending.1.value),
        (at(0), at(0), 95.0)
    );
    let event = resolved.event(&resolve.1);
    assert_eq!(
        (event.resolved_at, event.value, event.kind),
        (Some(at(120)), 12.0, TransitionKind::Resolved)
    );
    assert_eq!(event.incident_id(), resolved.event(&firing.1).incident_id());
}

#[test]
fn series_live_apart() {
    let mut world = World::new(&json!({"duration_seconds": 60}));
    world.tick(&[row("a", 95.0), row("b", 5.0)], at(0), 0);
    world.tick(&[row("a", 95.0), row("b", 95.0)], at(60), 0);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(InstanceState::Firing), Some(InstanceState::Pending))
    );
}

#[test]
fn a_resolve_goes_to_those_who_were_told_of_the_firing() {
    let mut world = World::new(&json!({}));
    world.tick(&[row("a", 95.0)], at(0), 0);
    world.rule = Some(rule("r", &json!({"webhook_url": "http://elsewhere.example.org/"})));
    world.tick(&[row("a", 96.0)], at(60), 0);
    world.tick(&[row("a", 6.0)], at(120), 0);
    let event = world.instances[0].event(&world.told[1].1);
    assert_eq!(event.rule.webhook_url.as_deref(), Some("http://example.org/"));
}

#[test]
fn two_incidents_never_share_a_name_whatever_the_clock_says() {
    for duration in [0, 1, 60] {
        let mut world = World::new(&json!({"duration_seconds": duration}));
        for seconds in [0, 60, 60, 0, -5, 60, 0, 60, 65, 60, -100, 60, 60] {
            world.tick(&[row("a", 95.0)], at(seconds), 0);
            world.tick(&[row("a", 95.0)], at(seconds + 5), 0);
            if seconds == 60 {
                world.tick(&[], at(seconds), 0);
            }
        }
        let told = |kind| {
            world
                .told
                .iter()
                .filter(move |(_, one)| one.kind == kind)
                .map(|(_, one)| one)
        };
        let names: HashSet<Timestamp> = told(TransitionKind::Firing).map(|one| one.firing_since).collect();
        assert_eq!(names.len(), told(TransitionKind::Firing).count(), "{duration}");
        assert!(names.len() >= 3, "{duration}");
        assert!(told(TransitionKind::Resolved).all(|one| one.at >= one.firing_since));
        let incidents: Vec<_> = world
            .told
            .iter()
            .filter(|(_, one)| one.kind.is_told())
            .map(|(_, one)| (one.firing_since, one.kind))
            .collect();
        assert!(incidents.is_sorted(), "{incidents:?}");
    }
}

#[test]
fn two_acknowledgements_at_once_are_two_in_the_history() {
    let mut world = World::new(&json!({}));
    world.tick(&[row("a", 95.0)], at(0), 0);
    for by in ["jane", "john"] {
        let change = acknowledge(&world.instances[0], by, Some("mine"), at(60));
        world.apply(change.into_iter().collect());
    }
    let instance = &world.instances[0];
    assert_eq!(instance.acknowledged.as_ref().unwrap().by, "john");
    let entries = world
        .told
        .iter()
        .map(|(_, one)| crate::HistoryEntry::of_transition(instance, one).id);
    assert_eq!(entries.collect::<HashSet<_>>().len(), 3);
}

#[test]
fn a_storm_is_cut_but_what_is_active_goes_on() {
    let mut world = World::new(&json!({}));
    let last = [row("zzz", 95.0)];
    world.tick(&last, at(0), 0);
    let mut rows: Vec<Row> = (0..limits::MAX_INSTANCES_PER_RULE + 10)
        .map(|n| row(&format!("h{n:05}"), 95.0))
        .collect();
    rows.extend(last);
    let decision = decide(&rule("r", &json!({})), &world.instances, &rows, at(60), 0);
    assert_eq!(
        (decision.changes.len(), decision.dropped),
        (limits::MAX_INSTANCES_PER_RULE - 1, 11)
    );
    world.apply(decision.changes);
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
    /// Values of hosts a and b; none: no data. Before it nobody looked for so long.
    Tick {
        after_seconds: i64,
        unobserved_seconds: i64,
        values: [Option<bool>; 2],
    },
    Resolve,
    Acknowledge,
    Enable(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let value = || prop_oneof![4 => Just(Some(true)), 2 => Just(Some(false)), 1 => Just(None)];
    let gap = || prop_oneof![9 => Just(0_i64), 1 => 300_i64..1_000];
    prop_oneof![
        12 => (1_i64..100, gap(), value(), value()).prop_map(|(after_seconds, unobserved_seconds, a, b)| Event::Tick {
            after_seconds,
            unobserved_seconds,
            values: [a, b],
        }),
        1 => Just(Event::Resolve),
        1 => Just(Event::Acknowledge),
        1 => any::<bool>().prop_map(Event::Enable),
    ]
}

/// What one host should be, said in another way than by instances: how long its condition has been seen to hold, and not to.
#[derive(Clone, Copy, Default)]
struct Model {
    held: Option<i64>,
    firing: bool,
    cleared: Option<i64>,
}

impl Model {
    fn see(&mut self, holds: bool, passed: i64, duration: i64, keep: i64) {
        if holds {
            self.held = Some(self.held.map_or(0, |held| held + passed));
            self.cleared = None;
            self.firing |= self.held >= Some(duration);
        } else if self.firing && keep > 0 {
            let cleared = self.cleared.map_or(0, |cleared| cleared + passed);
            self.cleared = Some(cleared);
            if cleared >= keep {
                *self = Self::default();
            }
        } else {
            *self = Self::default();
        }
    }
}

const HOSTS: [&str; 2] = ["a", "b"];

proptest! {
    #[test]
    fn whatever_happens_each_firing_is_earned_and_has_one_resolve(
        duration in prop_oneof![Just(0_i64), 1_i64..200],
        keep in prop_oneof![Just(0_i64), 1_i64..200],
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(&json!({"duration_seconds": duration, "keep_firing_for_seconds": keep}));
        let (mut now, mut enabled, mut models) = (0, true, [Model::default(); 2]);
        for event in events {
            match event {
                Event::Tick { after_seconds, unobserved_seconds, values } => {
                    now += after_seconds + unobserved_seconds;
                    let rows = HOSTS.iter().zip(values);
                    let rows: Vec<Row> = rows.filter_map(|(host, high)| Some(row(host, if high? { 95.0 } else { 5.0 }))).collect();
                    world.tick(&rows, at(now), unobserved_seconds * 1_000);
                    for ((host, model), high) in HOSTS.iter().zip(&mut models).zip(values) {
                        model.see(high == Some(true), after_seconds, duration, keep);
                        if !enabled {
                            *model = Model::default();
                        }
                        prop_assert_eq!(world.state(host) == Some(InstanceState::Firing), model.firing, "{} at {}", host, now);
                    }
                }
                Event::Resolve => {
                    let changes = world.instances.iter().filter_map(|one| resolve_by_hand(one, "jane", None, at(now))).collect();
                    world.apply(changes);
                    now += 1;
                    models = [Model::default(); 2];
                }
                Event::Acknowledge => {
                    let changes = world.instances.iter().filter_map(|one| acknowledge(one, "jane", None, at(now))).collect();
                    world.apply(changes);
                }
                Event::Enable(to) => {
                    enabled = to;
                    if let Some(rule) = &mut world.rule {
                        rule.spec.enabled = to;
                    }
                }
            }
            for instance in &world.instances {
                prop_assert!(instance.state.is_active() || instance.acknowledged.is_none());
                prop_assert!(instance.state == InstanceState::Firing || instance.keep_firing_since.is_none());
            }
        }
        check_told(&world)?;
    }
}

#[derive(Clone, Debug)]
enum Upheaval {
    /// The clock may step back. No rows: no data at all.
    Tick {
        step_seconds: i64,
        unobserved_seconds: i64,
        values: [Option<bool>; 2],
    },
    Edit(&'static str),
    Resolve,
    Acknowledge,
    Topic {
        down: bool,
    },
}

fn upheaval() -> impl Strategy<Value = Upheaval> {
    let value = || prop_oneof![3 => Just(Some(true)), 2 => Just(Some(false)), 2 => Just(None)];
    let patches = [
        r#"{"no_data": "ok"}"#,
        r#"{"no_data": "keep"}"#,
        r#"{"no_data": "alerting"}"#,
        r#"{"threshold": 99}"#,
        r#"{"threshold": 90}"#,
        r#"{"metric_name": "mem"}"#,
        r#"{"metric_name": "cpu"}"#,
        r#"{"labels": {"host": "a"}}"#,
        r#"{"duration_seconds": 100, "keep_firing_for_seconds": 0}"#,
        r#"{"duration_seconds": 0, "keep_firing_for_seconds": 100}"#,
        r#"{"enabled": false}"#,
        r#"{"enabled": true}"#,
    ];
    prop_oneof![
        10 => ((-10_i64..20).prop_map(|tens| tens * 10), prop_oneof![9 => Just(0_i64), 1 => 300_i64..1_000], value(), value()).prop_map(
            |(step_seconds, unobserved_seconds, a, b)| Upheaval::Tick { step_seconds, unobserved_seconds, values: [a, b] },
        ),
        4 => prop::sample::select(patches.to_vec()).prop_map(Upheaval::Edit),
        1 => Just(Upheaval::Resolve),
        1 => Just(Upheaval::Acknowledge),
        1 => any::<bool>().prop_map(|down| Upheaval::Topic { down }),
    ]
}

proptest! {
    /// The world also checks that a doubled tick decides nothing, and that no instance is removed before all of it is told.
    #[test]
    fn no_edit_no_absence_and_no_clock_breaks_the_order_of_what_is_told(events in prop::collection::vec(upheaval(), 1..80)) {
        let mut world = World::new(&json!({}));
        let mut now = 0;
        for event in events {
            match event {
                Upheaval::Tick { step_seconds, unobserved_seconds, values } => {
                    now += step_seconds;
                    let rule = world.rule.clone().unwrap();
                    let rows = HOSTS.iter().zip(values);
                    let rows = rows.filter_map(|(host, high)| Some(row_of(&rule, host, if high? { 95.0 } else { 5.0 })));
                    world.tick(&rows.collect::<Vec<Row>>(), at(now), unobserved_seconds * 1_000);
                }
                Upheaval::Edit(patch) => world.edit(&serde_json::from_str(patch).unwrap()),
                Upheaval::Resolve => world.by_hand(|one| resolve_by_hand(one, "jane", None, at(now))),
                Upheaval::Acknowledge => world.by_hand(|one| acknowledge(one, "jane", None, at(now))),
                Upheaval::Topic { down } => world.set_down(down),
            }
        }
        world.set_down(false);
        check_told(&world)?;
    }
}

/// Each alert's transitions follow each other as its states do, and no two told ones share an id.
fn check_told(world: &World) -> Result<(), TestCaseError> {
    use TransitionKind::{Acknowledged, Firing, Inactive, Pending, Resolved};
    let mut ids = HashSet::new();
    for instance in &world.instances {
        let told = world
            .told
            .iter()
            .filter(|(id, _)| *id == instance.id)
            .map(|(_, one)| one);
        let mut last: Option<&Transition> = None;
        for next in told {
            if next.kind == Acknowledged {
                prop_assert!(last.is_some_and(|last| matches!(last.kind, Pending | Firing)));
                continue;
            }
            prop_assert!(next.at >= next.firing_since);
            let follows = match last.map(|last| last.kind) {
                None | Some(Inactive | Resolved) => matches!(next.kind, Pending | Firing),
                Some(Pending) => matches!(next.kind, Firing | Inactive),
                Some(Firing) => next.kind == Resolved,
                Some(Acknowledged) => false,
            };
            prop_assert!(follows, "{:?} after {:?}", next, last);
            if next.kind == Resolved {
                prop_assert_eq!(Some(next.firing_since), last.map(|last| last.firing_since));
            }
            if next.kind.is_told() {
                prop_assert!(ids.insert(instance.event(next).id));
            }
            last = Some(next);
        }
        prop_assert_eq!(last.map(|last| last.kind.as_str()), Some(instance.state.as_str()));
    }
    Ok(())
}

#[test]
fn what_happens_next_carries_the_end_of_what_was_before() {
    let rule = rule("r", &json!({}));
    let mut instance: Option<Instance> = None;
    let mut told = Vec::new();
    for (second, value) in [(0, 95.0), (60, 1.0), (120, 95.0), (180, 1.0), (240, 95.0)] {
        let previous: Vec<Instance> = instance.clone().into_iter().collect();
        let decision = decide(&rule, &previous, &[row("a", value)], at(second), 0);
        let Some(Change::Save {
            instance: next,
            transition: Some(transition),
            ..
        }) = decision.changes.first()
        else {
            panic!("{decision:?}")
        };
        let event = next.event(transition);
        told.push((
            event.kind,
            event.firing_since,
            event.previous.map(|one| (one.kind, one.firing_since, one.previous)),
        ));
        instance = Some(Instance {
            unsent: Vec::new(),
            ..(**next).clone()
        });
    }
    let (firing, over) = (TransitionKind::Firing, TransitionKind::Resolved);
    let first = Some((over, at(0), None));
    let second = Some((over, at(120), None));
    assert_eq!(
        told,
        [
            (firing, at(0), None),
            (over, at(0), None),
            (firing, at(120), first.clone()),
            (over, at(120), first),
            (firing, at(240), second),
        ]
    );
}

#[test]
fn of_what_is_over_the_oldest_goes_when_there_is_too_much() {
    let mut world = World::new(&json!({}));
    for (from, second) in [(0, 0), (1, 120)] {
        let rows = (from..MAX_ENDED_PER_RULE / 2 + 2).map(|n| row(&format!("h{second}-{n:05}"), 95.0));
        let rows: Vec<Row> = rows.collect();
        let second = i64::from(second);
        world.tick(&rows, at(second), 0);
        let decision = decide(&rule("r", &json!({})), &world.instances, &[], at(second + 60), 0);
        world.apply(decision.changes);
    }
    assert_eq!(world.instances.len(), MAX_ENDED_PER_RULE + 3);
    world.tick(&[], at(240), 0);
    assert_eq!(world.instances.len(), MAX_ENDED_PER_RULE);
    let of_the_first = world.instances.iter().filter(|one| one.updated_at == at(60)).count();
    assert_eq!(of_the_first, MAX_ENDED_PER_RULE / 2 - 1);
}
