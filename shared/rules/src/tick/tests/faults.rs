//! A store and a topic that fail at any of their calls, before or after they did what they were asked.

use super::*;
use crate::history::HistoryFilter;
use crate::instance::Instance;
use crate::store::{InstanceFilter, Page, RuleCreated, RuleReplaced, Saved};
use crate::{AlertStore, Publish, PublishError};
use std::collections::BTreeSet;

/// When a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing is done.
    Before,
    /// All is done, and the answer is lost.
    After,
    /// The process dies before the call: this one and all that come after fail.
    Death,
}

/// Counts the calls that a tick makes, and fails one of them.
struct Faulty<'a> {
    house: &'a House,
    calls: AtomicUsize,
    at: usize,
    fault: Fault,
}

fn broken() -> StoreError {
    StoreError::Unavailable {
        operation: "a call",
        source: None,
    }
}

impl Faulty<'_> {
    async fn call<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Before if number == self.at => Err(broken()),
            Fault::Death if number >= self.at => Err(broken()),
            Fault::After if number == self.at => {
                work.await?;
                Err(broken())
            }
            _ => work.await,
        }
    }
}

impl AlertStore for Faulty<'_> {
    async fn create_rule(&self, rule: &Rule) -> Result<RuleCreated, StoreError> {
        self.house.store.create_rule(rule).await
    }

    async fn get_rule(&self, id: &str) -> Result<Option<Rule>, StoreError> {
        self.house.store.get_rule(id).await
    }

    async fn list_rules(&self, page: &PageRequest) -> Result<Page<Rule>, StoreError> {
        self.house.store.list_rules(page).await
    }

    async fn load_rules(&self) -> Result<Vec<Rule>, StoreError> {
        self.call(self.house.store.load_rules()).await
    }

    async fn replace_rule(&self, previous: &Rule, next: &Rule) -> Result<RuleReplaced, StoreError> {
        self.house.store.replace_rule(previous, next).await
    }

    async fn delete_rule(&self, rule: &Rule) -> Result<Saved, StoreError> {
        self.house.store.delete_rule(rule).await
    }

    async fn count_rules(&self) -> Result<u64, StoreError> {
        self.house.store.count_rules().await
    }

    async fn count_instances(&self) -> Result<u64, StoreError> {
        self.house.store.count_instances().await
    }

    async fn count_active_instances(&self) -> Result<u64, StoreError> {
        self.house.store.count_active_instances().await
    }

    async fn load_instances(&self) -> Result<Vec<Instance>, StoreError> {
        self.call(self.house.store.load_instances()).await
    }

    async fn list_instances(&self, filter: &InstanceFilter, page: &PageRequest) -> Result<Page<Instance>, StoreError> {
        self.house.store.list_instances(filter, page).await
    }

    async fn get_instance(&self, id: &str) -> Result<Option<Instance>, StoreError> {
        self.house.store.get_instance(id).await
    }

    async fn save_instance(&self, instance: &Instance, expected: Option<u64>) -> Result<Saved, StoreError> {
        self.call(self.house.store.save_instance(instance, expected)).await
    }

    async fn remove_instance(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        self.call(self.house.store.remove_instance(id, expected)).await
    }

    async fn clear_unsent(&self, id: &str, expected: u64) -> Result<Saved, StoreError> {
        self.call(self.house.store.clear_unsent(id, expected)).await
    }

    async fn record_notification(&self, instance_id: &str, at: Timestamp) -> Result<(), StoreError> {
        self.house.store.record_notification(instance_id, at).await
    }

    async fn append_history(&self, entries: &[HistoryEntry]) -> Result<(), StoreError> {
        self.call(self.house.store.append_history(entries)).await
    }

    async fn list_history(
        &self,
        filter: &HistoryFilter,
        now: Timestamp,
        page: &PageRequest,
    ) -> Result<Page<HistoryEntry>, StoreError> {
        self.house.store.list_history(filter, now, page).await
    }

    async fn load_tick(&self, shard: u32) -> Result<Option<TickState>, StoreError> {
        self.call(self.house.store.load_tick(shard)).await
    }

    async fn save_tick(&self, shard: u32, state: &TickState) -> Result<Saved, StoreError> {
        self.call(self.house.store.save_tick(shard, state)).await
    }
}

impl Publish for Faulty<'_> {
    async fn publish(&self, messages: &[Message]) -> Vec<Result<(), PublishError>> {
        let published = self.call(async { Ok(self.house.topic.publish(messages).await) }).await;
        published.unwrap_or_else(|_| {
            let failed = |_| {
                Err(PublishError {
                    reason: "no answer".to_owned(),
                })
            };
            messages.iter().map(failed).collect()
        })
    }
}

/// A minute of the story: a rule that fires and resolves, one that is deleted while it fires, a heart.
async fn prepare(house: &House, minute: i64) {
    house.data.push(
        "cpu",
        "a",
        minute * 60 - 1,
        if (3..6).contains(&minute) { 95.0 } else { 5.0 },
    );
    house.data.push("mem", "b", minute * 60 - 1, 95.0);
    house
        .data
        .push("mem", "c", minute * 60 - 1, if minute < 4 { 95.0 } else { 5.0 });
    if minute == 6 {
        crate::manage::delete_rule(&house.store, "deleted").await.unwrap();
    }
}

async fn new_house() -> House {
    House::with_rules(&[
        ("held", json!({"duration_seconds": 60})),
        ("deleted", json!({"metric_name": "mem"})),
        ("heart", json!({"kind": "heartbeat"})),
    ])
    .await
}

const MINUTES: std::ops::Range<i64> = 1..10;

/// Plays the story with one fault in the tick of one minute, and tells what was published, without beats, with duplicates.
async fn play(faulty_minute: i64, at_call: usize, fault: Fault) -> (House, Vec<TransitionEvent>, usize) {
    let house = new_house().await;
    let mut calls = 0;
    for minute in MINUTES {
        prepare(&house, minute).await;
        if minute != faulty_minute {
            house.scheduled(minute * 60).await;
            continue;
        }
        let faulty = Faulty {
            house: &house,
            calls: AtomicUsize::new(0),
            at: at_call,
            fault,
        };
        let world = World {
            alerts: &faulty,
            data: &house.data,
            publisher: &faulty,
            now: at(minute * 60),
            may_go_on: &|| true,
        };
        // An error is a tick that does not tell what it did.
        let _ = evaluate(&world, Shard::WHOLE, EVERY_MINUTE).await;
        calls = faulty.calls.load(Ordering::SeqCst);
    }
    let events = house
        .events()
        .into_iter()
        .filter(|event| event.beat.is_none())
        .collect();
    (house, events, calls)
}

/// What each instance went through, without times: a fault may delay it by a minute.
fn lives(events: &[TransitionEvent]) -> HashSet<(String, TransitionKind, TransitionReason)> {
    let life = |event: &TransitionEvent| (event.instance_id.clone(), event.kind, event.reason);
    events.iter().map(life).collect()
}

#[tokio::test]
async fn a_fault_at_any_call_loses_nothing_and_doubles_nothing_but_what_is_published() {
    let (good, told, _) = play(0, 0, Fault::Before).await;
    assert_eq!(told.len(), 2 + 4 + 1);
    let states = good.states().await;
    let mut tried = 0;
    for minute in MINUTES {
        for fault in [Fault::Before, Fault::After, Fault::Death] {
            for call in 0.. {
                let (house, events, calls) = play(minute, call, fault).await;
                if call >= calls {
                    break;
                }
                tried += 1;
                let place = format!("minute {minute}, call {call}, {fault:?}");
                assert_eq!(lives(&events), lives(&told), "{place}");
                let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
                assert_eq!(ids.len(), told.len(), "{place}: each is named once");
                let orderly = |id: &str| {
                    let first = |kind| events.iter().position(|one| one.instance_id == id && one.kind == kind);
                    let last = |kind| events.iter().rposition(|one| one.instance_id == id && one.kind == kind);
                    first(TransitionKind::Resolved)
                        .is_none_or(|end| last(TransitionKind::Firing).is_some_and(|begin| begin < end))
                };
                assert!(events.iter().all(|event| orderly(&event.instance_id)), "{place}");
                let instances = house.store.load_instances().await.unwrap();
                assert!(instances.iter().all(|instance| instance.unsent.is_empty()), "{place}");
                let mut history = house.states().await;
                history.sort_unstable();
                let mut wanted = states.clone();
                wanted.sort_unstable();
                assert_eq!(history, wanted, "{place}");
            }
        }
    }
    assert!(tried > 150, "{tried}");
}

#[tokio::test]
async fn a_tick_that_cannot_be_remembered_says_so_and_is_repeated() {
    let house = House::with_rules(&[("hourly", json!({"interval_seconds": 3_600}))]).await;
    house.data.push("cpu", "a", 0, 95.0);
    let faulty = Faulty {
        house: &house,
        calls: AtomicUsize::new(0),
        // After the loading of the state, instances and rules, the save, the history, the publish and the clear.
        at: 7,
        fault: Fault::Before,
    };
    let world = World {
        alerts: &faulty,
        data: &house.data,
        publisher: &faulty,
        now: at(1),
        may_go_on: &|| true,
    };
    assert!(evaluate(&world, Shard::WHOLE, EVERY_MINUTE).await.is_err());
    assert_eq!(house.told(), [HELD]);
    assert!(house.store.load_tick(0).await.unwrap().is_none());
    let again = house.scheduled(2).await;
    assert_eq!((again.rules_evaluated, again.alerts_triggered), (1, 0));
}
