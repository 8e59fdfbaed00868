//! Takes an event into the lanes of its channels, and sees to it that somebody looks at each in time.

use super::decide::later;
use super::facts::recipient;
use super::flush::Flushed;
use super::{Arrival, Dispatcher, MAX_DELAY_SECONDS, Next, OVERDUE_MS, Queue, delay_seconds, grouping};
use crate::sender::Deliver;
use crate::store::{DocumentStore, Enlisted, Lane, LaneStore, lane_id};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use tidemark_model::Timestamp;
use tidemark_rules::rule::WEBHOOK_CHANNEL;
use tidemark_rules::store::StoreError;
use tidemark_rules::{AlertStore, TransitionEvent};

/// How soon somebody looks again when a lane is worked on at the moment, in milliseconds.
const AFTER_OTHERS_MS: i64 = 2_000;

/// The lanes of an event. A rule that has its own `webhook_url` has its own lane for it, also while a channel of that name is configured:
/// which of them is told may change, where the incidents lie does not.
fn lanes_of(event: &TransitionEvent) -> BTreeSet<String> {
    let rule = &event.rule;
    let own = |channel: &str| channel == WEBHOOK_CHANNEL && rule.webhook_url.is_some();
    rule.notification_channels
        .iter()
        .map(|one| lane_id(&one.channel, own(&one.channel).then_some(rule.id.as_str())))
        .collect()
}

/// The wake of a lane that lies in the queue. There is one for each `wake_at` but for the one that a lease sets: that one stands for the case
/// that its holder dies, and goes when it does not.
pub(super) fn sent_wake(head: &Lane) -> Option<Timestamp> {
    let is_sent = |wake_at: &Timestamp| head.leased_until.is_none_or(|leased_until| *wake_at < leased_until);
    head.wake_at.filter(is_sent)
}

/// Whether somebody is sure to look at a lane by a time.
fn is_looked_after(head: &Lane, by: Timestamp, now: Timestamp) -> bool {
    sent_wake(head).is_some_and(|wake_at| wake_at <= by && later(wake_at, OVERDUE_MS) > now)
}

impl<A, N, S, Q> Dispatcher<'_, A, N, S, Q>
where
    A: AlertStore,
    N: LaneStore + DocumentStore,
    S: Deliver,
    Q: Queue,
{
    /// Takes an event in.
    pub(super) async fn take_in(&self, event: &TransitionEvent, arrival: &Arrival) -> Result<Next, StoreError> {
        let alone = TransitionEvent {
            previous: None,
            ..event.clone()
        };
        let mut in_lanes = BTreeMap::new();
        // What came before it may still be in the queue; where it was told, the log says so. First all, so that a lane that is slow to tell
        // does not hold up what the others have to know.
        for event in event.previous.as_deref().into_iter().chain([&alone]) {
            for lane in lanes_of(event) {
                let enlisted = self.store.enlist(&lane, event, (self.clock)()).await?;
                // One that comes again may have been the only one to look after what else is in the lane.
                if enlisted == Enlisted::InLane || arrival.receive_count > 1 {
                    in_lanes.insert(lane, event);
                }
            }
        }
        // Side by side: a receiver that hangs holds up its own lane, and all end within the function's time.
        let attended = join_all(in_lanes.iter().map(|(lane, event)| self.attend(lane, event, arrival))).await;
        attended.into_iter().collect::<Result<(), _>>()?;
        Ok(Next::Done)
    }

    async fn attend(&self, lane: &str, event: &TransitionEvent, arrival: &Arrival) -> Result<(), StoreError> {
        let Some(recipient) = recipient(self.store, lane).await? else {
            return Ok(());
        };
        let wait_ms = grouping::settings(&event.rule, &recipient).timing.wait_ms;
        let now = (self.clock)();
        let mut by = later(now, wait_ms.min(i64::from(MAX_DELAY_SECONDS) * 1_000));
        if wait_ms == 0 {
            let holder = format!("{} {lane}", arrival.holder);
            let flushed = Box::pin(self.flush(lane, &holder, None, false, false)).await?;
            if flushed != Flushed::Busy {
                return Ok(());
            }
            by = later((self.clock)(), AFTER_OTHERS_MS);
        }
        let now = (self.clock)();
        let head = self.store.lane(lane).await?;
        // Who comes again may itself be the one for whom that time was noted down.
        if arrival.receive_count == 1 && head.is_some_and(|head| is_looked_after(&head, by, now)) {
            return Ok(());
        }
        // First the message: a crash in between makes one more, which finds nothing to do.
        self.queue.wake(lane, delay_seconds(by, now)).await?;
        self.store.wake_by(lane, by).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::at;

    fn head(wake_at: Option<i64>, leased_until: Option<i64>) -> Lane {
        Lane {
            wake_at: wake_at.map(at),
            leased_until: leased_until.map(at),
            ..Lane::new("l")
        }
    }

    #[test]
    fn an_earlier_wake_serves_a_later_need() {
        assert!(is_looked_after(&head(Some(5), None), at(10), at(0)));
        assert!(!is_looked_after(&head(Some(11), None), at(10), at(0)));
        assert!(!is_looked_after(&head(None, None), at(10), at(0)));
    }

    #[test]
    fn the_end_of_a_lease_is_no_wake() {
        assert!(!is_looked_after(&head(Some(60), Some(60)), at(100), at(50)));
        assert!(is_looked_after(&head(Some(55), Some(60)), at(100), at(50)));
    }

    #[test]
    fn a_wake_that_is_long_overdue_is_lost() {
        assert!(is_looked_after(&head(Some(0), None), at(100), at(89)));
        assert!(!is_looked_after(&head(Some(0), None), at(100), at(90)));
    }
}
