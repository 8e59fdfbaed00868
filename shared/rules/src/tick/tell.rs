//! Telling what was saved: the history first, then the topic, then the outbox is emptied.
//!
//! Whatever fails leaves the outbox as it is, and the next tick does all of it again: an entry of the history replaces itself, and
//! an event that comes twice has one id.

use super::act::WRITES_AT_ONCE;
use crate::event::{Message, Publish};
use crate::history::HistoryEntry;
use crate::instance::Instance;
use crate::store::AlertStore;
use futures::stream::{self, StreamExt};

/// The outboxes of how many instances are told in one go. What an outage has left is told piece by piece, the oldest first, so that each tick
/// gets further than the one before.
const INSTANCES_AT_ONCE: usize = 256;

/// Tells every transition in the outboxes of these instances and empties the outboxes of those that were told whole, here and in
/// the store. Answers how many transitions are still untold.
pub(crate) async fn publish_outboxes<A: AlertStore, P: Publish>(
    alerts: &A,
    publisher: &P,
    instances: &mut [Instance],
) -> usize {
    let mut full: Vec<&mut Instance> = instances
        .iter_mut()
        .filter(|instance| !instance.unsent.is_empty())
        .collect();
    full.sort_by_key(|instance| instance.updated_at);
    let mut left: usize = full.iter().map(|instance| instance.unsent.len()).sum();
    for some in full.chunks_mut(INSTANCES_AT_ONCE) {
        let before: usize = some.iter().map(|instance| instance.unsent.len()).sum();
        let Some(untold) = tell_some(alerts, publisher, some).await else {
            break;
        };
        left -= before - untold;
    }
    left
}

/// Tells what some instances have, as far as it can be told. Answers how many of their transitions are still untold; `None` when the
/// history does not take them.
async fn tell_some<A: AlertStore, P: Publish>(alerts: &A, publisher: &P, full: &mut [&mut Instance]) -> Option<usize> {
    let entries = full.iter().flat_map(|instance| {
        let unsent = instance.unsent.iter();
        unsent.map(|transition| HistoryEntry::of_transition(instance, transition))
    });
    let entries: Vec<HistoryEntry> = entries.collect();
    if let Err(error) = alerts.append_history(&entries).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(
            transitions = entries.len(),
            error,
            "transitions could not be written to the history; the next tick tries again"
        );
        return None;
    }
    drop(entries);
    let untold = publish(publisher, full).await;
    let mut clears = Vec::new();
    let mut left = 0;
    for (instance, untold) in full.iter_mut().zip(untold) {
        if untold {
            left += instance.unsent.len();
        } else {
            instance.unsent.clear();
            clears.push(clear(alerts, instance.id.clone(), instance.version));
        }
    }
    stream::iter(clears)
        .buffer_unordered(WRITES_AT_ONCE)
        .collect::<Vec<()>>()
        .await;
    Some(left)
}

/// Publishes the transitions that people are told of. Answers for each instance whether one of them was not taken.
async fn publish(publisher: &impl Publish, instances: &[&mut Instance]) -> Vec<bool> {
    let told = |instance: &Instance| {
        let told = instance.unsent.iter().filter(|transition| transition.kind.is_told());
        told.map(|transition| Message::Event(Box::new(instance.event(transition))))
            .collect::<Vec<Message>>()
    };
    let messages: Vec<Vec<Message>> = instances.iter().map(|instance| told(instance)).collect();
    let counts: Vec<usize> = messages.iter().map(Vec::len).collect();
    let messages: Vec<Message> = messages.into_iter().flatten().collect();
    if messages.is_empty() {
        return vec![false; instances.len()];
    }
    let mut results = publisher.publish(&messages).await.into_iter();
    let mut untold = Vec::with_capacity(instances.len());
    for (instance, count) in instances.iter().zip(counts) {
        let mut failed = false;
        for _ in 0..count {
            // A publisher that answers for too few events has not taken the others.
            let result = results.next();
            if let Some(Err(error)) = &result {
                let error = error as &dyn std::error::Error;
                tracing::warn!(
                    instance_id = instance.id,
                    error,
                    "a transition was not published; the next tick tries again"
                );
            }
            failed |= !matches!(result, Some(Ok(())));
        }
        untold.push(failed);
    }
    untold
}

async fn clear<A: AlertStore>(alerts: &A, id: String, version: u64) {
    // A conflict: somebody saved a newer state and took the outbox along; it is told once more.
    if let Err(error) = alerts.clear_unsent(&id, version).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(
            instance_id = id,
            error,
            "an outbox could not be emptied; it is told again"
        );
    }
}
