//! Stories of one alert, told line by line: what was seen, and what became of it.
//!
//! ```text
//! 0    95                   pending   condition_met      a value, at so many seconds
//! 60   -                    inactive  data_missing       no row
//! 60   low gap=600          …                            10 minutes before it nobody looked
//! 60   edit {"threshold":9} …                            the rule is changed, and nothing is evaluated
//! 60   delete | down | up   …                            the rule is deleted; nothing can be told; everything can
//! 60   resolve | ack        …                            by jane
//! ```
//! The third column is the state after it, `none` without an instance; the fourth why it changed, `=` when nothing was told.

use super::*;
use serde_json::Value;

/// One rule, its instances as a store would keep them, and what was told of them, as soon as it could be.
pub(super) struct World {
    pub(super) rule: Option<Rule>,
    pub(super) instances: Vec<Instance>,
    pub(super) told: Vec<(String, Transition)>,
    down: bool,
}

impl World {
    pub(super) fn new(extra: &Value) -> Self {
        Self {
            rule: Some(rule("r", extra)),
            instances: Vec::new(),
            told: Vec::new(),
            down: false,
        }
    }

    pub(super) fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Save {
                    instance,
                    expected,
                    transition,
                } => {
                    let stored = self.instances.iter().position(|one| one.id == instance.id);
                    assert_eq!(stored.map(|index| self.instances[index].version), expected);
                    assert_eq!(instance.version, expected.unwrap_or(0) + 1);
                    if let Some(transition) = transition {
                        let last = instance.unsent.last().unwrap();
                        assert_eq!((last.kind, last.at), (transition.kind, transition.at));
                    }
                    match stored {
                        Some(index) => self.instances[index] = *instance,
                        None => self.instances.push(*instance),
                    }
                }
                Change::Remove { id, expected } => {
                    let index = self.instances.iter().position(|one| one.id == id).unwrap();
                    let removed = self.instances.remove(index);
                    assert_eq!((removed.version, removed.unsent), (expected, Vec::new()));
                }
            }
        }
        self.tell();
    }

    /// While it is down, nothing can be told.
    pub(super) fn set_down(&mut self, down: bool) {
        self.down = down;
        self.tell();
    }

    fn tell(&mut self) {
        if self.down {
            return;
        }
        for instance in &mut self.instances {
            let unsent = std::mem::take(&mut instance.unsent);
            self.told
                .extend(unsent.into_iter().map(|transition| (instance.id.clone(), transition)));
        }
    }

    /// Evaluates the rule. The same facts at the same time decide nothing more.
    pub(super) fn tick(&mut self, rows: &[Row], now: Timestamp, unobserved_ms: i64) {
        self.tell();
        for (round, unobserved_ms) in [unobserved_ms, 0].into_iter().enumerate() {
            let decision = match &self.rule {
                Some(rule) => decide(rule, &self.instances, rows, now, unobserved_ms),
                None => decide_orphans(&self.instances, now),
            };
            assert!(round == 0 || decision.changes.is_empty(), "{:?}", decision.changes);
            self.apply(decision.changes);
        }
    }

    pub(super) fn of(&self, labels: &Labels) -> Option<&Instance> {
        self.instances.iter().find(|instance| instance.labels == *labels)
    }

    pub(super) fn state(&self, host: &str) -> Option<InstanceState> {
        self.of(&labels(host)).map(|instance| instance.state)
    }

    pub(super) fn edit(&mut self, patch: &Value) {
        let rule = self.rule.as_mut().unwrap();
        rule.spec = rule.spec.patched(patch).unwrap();
        rule.version += 1;
    }

    pub(super) fn by_hand(&mut self, change: impl Fn(&Instance) -> Option<Change>) {
        let changes = self.instances.iter().filter_map(change).collect();
        self.apply(changes);
    }

    /// Does what a line says, up to its last two columns.
    fn act(&mut self, now: Timestamp, words: &[&str]) {
        match words {
            ["edit", patch] => self.edit(&serde_json::from_str(patch).unwrap()),
            ["delete"] => self.rule = None,
            ["down"] => self.set_down(true),
            ["up"] => self.set_down(false),
            ["resolve"] => self.by_hand(|instance| resolve_by_hand(instance, "jane", Some("done"), now)),
            ["ack"] => self.by_hand(|instance| acknowledge(instance, "jane", None, now)),
            [value, rest @ ..] => {
                let row = |value: f64| {
                    self.rule
                        .as_ref()
                        .map_or_else(|| row("a", value), |rule| row_of(rule, "a", value))
                };
                let rows: Vec<Row> = value.parse().ok().map(row).into_iter().collect();
                assert!(!rows.is_empty() || *value == "-", "{value}");
                let gap = rest
                    .first()
                    .map_or(0, |gap| gap.strip_prefix("gap=").unwrap().parse().unwrap());
                self.tick(&rows, now, gap * 1_000);
            }
            [] => panic!("a line without a word"),
        }
    }
}

/// Plays the story of the series of host `a` under the rule of the fixtures (`> 90`), changed by `extra`.
pub(super) fn play(name: &str, extra: &Value, story: &str) -> World {
    let mut world = World::new(extra);
    for line in story.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [seconds, act @ .., state, reason] = &words[..] else {
            panic!("{line}")
        };
        let told = world.told.len();
        world.act(at(seconds.parse().unwrap()), act);
        let is = world.state("a").map_or("none", InstanceState::as_str);
        assert_eq!(is, *state, "{name}: {line}");
        let said: Vec<String> = world.told[told..].iter().map(|(_, one)| said(one)).collect();
        let wanted: Vec<&str> = reason.split(',').filter(|reason| *reason != "=").collect();
        assert_eq!(said, wanted, "{name}: {line}");
    }
    world
}

fn said(transition: &Transition) -> String {
    let reason = serde_json::to_value(transition.reason).unwrap();
    reason.as_str().unwrap().to_owned()
}
