//! From events to ticks.
//!
//! The schedule calls once per tick. When there are more rules than one invocation evaluates in time, that one sends the other shards
//! to a queue, each of which is an invocation of its own, and evaluates the first itself. Whatever else calls is answered as if it was
//! the schedule.

use crate::outcome::{self, Incomplete};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidemark_aws::queue::EvaluateQueue;
use tidemark_model::{Buckets, Timestamp};
use tidemark_notify::rescue;
use tidemark_notify::store::LaneStore;
use tidemark_rules::tick::{Shard, TickSummary, Which, World, evaluate};
use tidemark_rules::{AlertStore, Publish};
use tidemark_tsdb::{Select, StoreError};

const MINUTE_MS: i64 = 60_000;

/// How long before the invocation's end no further rule is begun.
const RESERVE_MS: i64 = 5_000;

/// The function.
pub(crate) struct Evaluate<A, L, D, P, Q> {
    pub(crate) alerts: A,
    pub(crate) lanes: L,
    pub(crate) data: D,
    pub(crate) topic: P,
    pub(crate) queue: Q,
    /// As many shards are of use at most.
    pub(crate) buckets: Buckets,
    pub(crate) clock: fn() -> Timestamp,
}

/// Where the shards of a tick are sent.
pub(crate) trait Queue: Send + Sync {
    /// Sends messages, each to an invocation of its own.
    fn send(&self, messages: Vec<String>) -> impl Future<Output = Result<(), StoreError>> + Send;
}

impl Queue for EvaluateQueue {
    async fn send(&self, messages: Vec<String>) -> Result<(), StoreError> {
        self.send(messages).await
    }
}

/// Why an invocation failed. What it did is saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The tick left something undone.
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// The rules could not be read, or how far the shard came could not be saved.
    #[error("the tick failed")]
    Tick(#[source] StoreError),
    /// The other shards could not be called; the first one was evaluated.
    #[error("{shards} shards could not be called")]
    Shards {
        /// How many.
        shards: u32,
        /// Why.
        source: StoreError,
    },
    /// Lanes of notifications that nobody comes to could not be woken.
    #[error("overdue lanes could not be woken")]
    Rescue(#[source] StoreError),
    /// The queue brought something else than a shard.
    #[error("a message of the queue is no shard")]
    NoShard(#[source] serde_json::Error),
}

/// A shard's message, and what the schedule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "snake_case")]
enum Message {
    Shard {
        shard: u32,
        of: u32,
        /// When the tick began, in milliseconds since the Unix epoch.
        at: i64,
        /// From tick to tick.
        every_ms: i64,
    },
}

impl<A: AlertStore, L: LaneStore, D: Select, P: Publish, Q: Queue> Evaluate<A, L, D, P, Q> {
    /// Handles one event, until shortly before a time.
    pub(crate) async fn handle(&self, event: &Value, deadline_ms: i64) -> Result<TickSummary, Failed> {
        let mut summary = TickSummary::default();
        let Some(records) = event.get("Records").and_then(Value::as_array) else {
            return self.tick(every_ms(event), deadline_ms).await;
        };
        for record in records {
            let body = record.get("body").and_then(Value::as_str).unwrap_or_default();
            let Message::Shard {
                shard,
                of,
                at,
                every_ms,
            } = serde_json::from_str(body).map_err(Failed::NoShard)?;
            let late_ms = (self.clock)().0.saturating_sub(at);
            if late_ms > every_ms.max(MINUTE_MS) {
                tracing::warn!(shard, late_ms, "a shard came too late: the next tick has come");
                continue;
            }
            // The queue brings one at a time.
            summary = self.shard(Shard { index: shard, of }, every_ms, deadline_ms).await?;
        }
        Ok(summary)
    }

    /// A tick of the schedule: the first shard, and a call to each of the others.
    async fn tick(&self, every_ms: i64, deadline_ms: i64) -> Result<TickSummary, Failed> {
        let rules = self.alerts.count_rules().await.map_err(Failed::Tick)?;
        let of = Shard::count_for(rules).min(u32::from(self.buckets.count()));
        let called = self.call_others(of, every_ms).await;
        // Before the tick, which may take all the time there is.
        let woken = rescue(&self.lanes, &self.topic, (self.clock)()).await;
        let ticked = self.shard(Shard { index: 0, of }, every_ms, deadline_ms).await;
        if let Ok(lanes @ 1..) = woken {
            tracing::warn!(lanes, "woke lanes of notifications that nobody came to");
        }
        called?;
        let summary = ticked?;
        woken.map_err(Failed::Rescue)?;
        Ok(summary)
    }

    async fn call_others(&self, of: u32, every_ms: i64) -> Result<(), Failed> {
        if of <= 1 {
            return Ok(());
        }
        let at = (self.clock)().0;
        let messages = (1..of).map(|shard| {
            let message = Message::Shard {
                shard,
                of,
                at,
                every_ms,
            };
            serde_json::to_string(&message).map_err(Failed::NoShard)
        });
        let messages = messages.collect::<Result<Vec<String>, Failed>>()?;
        let sent = self.queue.send(messages).await;
        sent.map_err(|source| {
            tracing::error!(shards = of - 1, "the other shards of a tick could not be called");
            Failed::Shards { shards: of - 1, source }
        })
    }

    async fn shard(&self, shard: Shard, every_ms: i64, deadline_ms: i64) -> Result<TickSummary, Failed> {
        let may_go_on = || (self.clock)().0 < deadline_ms.saturating_sub(RESERVE_MS);
        let world = World {
            alerts: &self.alerts,
            data: &self.data,
            publisher: &self.topic,
            // The clock of the function that runs, not the time that the schedule was due: a late tick sees today's data.
            now: (self.clock)(),
            may_go_on: &may_go_on,
        };
        let summary = evaluate(&world, shard, Which::Due { every_ms }).await;
        Ok(outcome::outcome(shard, summary.map_err(Failed::Tick)?)?)
    }
}

/// From tick to tick, as the schedule says: `{"source": "schedule", "interval_minutes": 1}`.
fn every_ms(event: &Value) -> i64 {
    let minutes = event.get("interval_minutes").and_then(Value::as_i64).unwrap_or(1);
    minutes.clamp(1, 24 * 60) * MINUTE_MS
}

#[cfg(test)]
mod tests;
