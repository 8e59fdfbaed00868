//! Receivers: they take, refuse, ask to slow down, fail, hang, break off after they have taken, and are out for hours.

use crate::sim::{Effect, Faults, Process, Sim};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tidemark_model::Timestamp;
use tidemark_notify::retry::Failure;
use tidemark_notify::sender::{Deliver, Target};
use tidemark_notify::store::lane_id;
use tidemark_notify::{ChannelSpec, Notification};

/// After how long a sender gives up waiting for an answer, in milliseconds.
const TIMEOUT_MS: i64 = 10_000;

/// How a receiver is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Mood {
    Well,
    Throttles {
        after_seconds: Option<u64>,
    },
    Fails,
    Hangs,
    Resets,
    Away,
    Refuses,
    /// Anything of the above, each time something else.
    Mixed,
}

/// All receivers.
#[derive(Default)]
pub(crate) struct Receivers {
    moods: Mutex<BTreeMap<String, (Mood, i64)>>,
}

impl Receivers {
    /// A receiver is so for a while.
    pub(crate) fn set(&self, lane: &str, mood: Mood, until_ms: i64) {
        self.moods.lock().unwrap().insert(lane.to_owned(), (mood, until_ms));
    }

    /// All are well.
    pub(crate) fn heal(&self) {
        self.moods.lock().unwrap().clear();
    }

    fn mood(&self, lane: &str, now_ms: i64) -> Mood {
        let moods = self.moods.lock().unwrap();
        match moods.get(lane) {
            Some((mood, until_ms)) if now_ms < *until_ms => *mood,
            _ => Mood::Well,
        }
    }
}

/// Draws how a receiver is, for how long.
pub(crate) fn draw_mood(sim: &Sim) -> (Mood, i64) {
    sim.draw(|random| {
        let mood = match random.below(10) {
            0 => Mood::Throttles {
                after_seconds: random.chance(0.7).then(|| random.magnitude(1, 2_000) as u64),
            },
            1 => Mood::Fails,
            2 => Mood::Hangs,
            3 => Mood::Resets,
            4 | 5 => Mood::Away,
            6 => Mood::Refuses,
            _ => Mood::Mixed,
        };
        let ms = if random.chance(0.1) {
            random.between(3_600_000, 3 * 3_600_000)
        } else {
            random.magnitude(2_000, 1_200_000)
        };
        (mood, ms)
    })
}

/// The senders of one process.
pub(crate) struct Senders {
    pub(crate) receivers: Arc<Receivers>,
    pub(crate) process: Arc<Process>,
}

/// A request under way.
struct Request {
    lane: String,
    channel: Option<ChannelSpec>,
    notification: Notification,
    begun_ms: i64,
    order: u64,
    again: bool,
}

impl Senders {
    /// The receiver takes it.
    fn take(&self, request: &Arc<Request>) -> Effect<()> {
        let (process, request) = (Arc::clone(&self.process), Arc::clone(request));
        Box::pin(async move {
            let sim = Arc::clone(&process.sim);
            process.log(|| {
                let alerts: Vec<_> = request
                    .notification
                    .alerts
                    .iter()
                    .map(|alert| format!("{}.{} {}", alert.instance_id, alert.starts_at.0, alert.status.as_str()))
                    .collect();
                let notification = &request.notification;
                format!(
                    "{} TAKES {} {:?} of {} digest {}: {alerts:?}",
                    request.lane, notification.id, notification.cause, notification.group_key, notification.is_digest
                )
            });
            let now_ms = sim.now_ms();
            let order = sim.order();
            let taken = sim.truth().taken(&crate::truth::Arriving {
                process: &process,
                lane: &request.lane,
                channel: request.channel.as_ref(),
                notification: &request.notification,
                begun_ms: request.begun_ms,
                begun: request.order,
                again: request.again,
                now_ms,
                order,
            });
            if let Err(why) = taken {
                sim.violate(|| why);
            }
        })
    }

    async fn send(&self, request: &Arc<Request>) -> Result<(), Failure> {
        let sim = &self.process.sim;
        self.process.pause().await;
        let faults = sim.faults();
        let mood = match self.receivers.mood(&request.lane, sim.now_ms()) {
            Mood::Mixed => draw_mood(sim).0,
            mood => mood,
        };
        // A request may arrive although the process has died.
        if sim.chance(faults.crash) {
            if sim.chance(0.5) && mood == Mood::Well {
                self.process
                    .leave_behind(format!("a request to {}", request.lane), self.take(request));
            }
            self.process.crash().await;
        }
        match mood {
            Mood::Throttles { after_seconds } => {
                return Err(Failure::Throttled {
                    status: 429,
                    after_seconds,
                });
            }
            Mood::Refuses => {
                return Err(Failure::Permanent {
                    reason: "the receiver answered with status 400".to_owned(),
                });
            }
            Mood::Away => {
                return Err(Failure::Unreachable {
                    reason: "the connection was refused".to_owned(),
                });
            }
            Mood::Fails => {
                // A proxy may answer so after the receiver has taken it.
                if sim.draw(|random| random.chance(0.2)) {
                    self.take(request).await;
                }
                return Err(Failure::Server { status: 502 });
            }
            Mood::Hangs => {
                let at = sim.draw(|random| random.between(0, TIMEOUT_MS - 1));
                self.process.sleep(at).await;
                if sim.draw(|random| random.chance(0.5)) {
                    self.take(request).await;
                }
                self.process.sleep(TIMEOUT_MS - at).await;
                return Err(Failure::Timeout);
            }
            Mood::Resets => {
                if sim.draw(|random| random.chance(0.6)) {
                    self.take(request).await;
                }
                self.process.pause().await;
                return Err(Failure::Unreachable {
                    reason: "the connection was reset".to_owned(),
                });
            }
            Mood::Well | Mood::Mixed => {}
        }
        if faults != Faults::default() {
            let ms = sim.draw(|random| {
                if random.chance(0.1) {
                    random.magnitude(1, 9_000)
                } else {
                    0
                }
            });
            self.process.sleep(ms).await;
        }
        self.take(request).await;
        if sim.chance(faults.crash) {
            self.process.crash().await;
        }
        self.process.pause().await;
        if sim.chance(faults.lose) {
            return Err(Failure::Timeout);
        }
        Ok(())
    }
}

impl Deliver for Senders {
    async fn deliver(&self, target: Target<'_>, notification: &Notification, _now: Timestamp) -> Result<(), Failure> {
        let sim = &self.process.sim;
        let (lane, channel) = match target {
            Target::Channel(spec) => (lane_id(&notification.channel, None), Some(spec.clone())),
            Target::Webhook { .. } => {
                let rule = notification.alerts.first().map(|alert| alert.rule.id.clone());
                (lane_id("webhook", rule.as_deref()), None)
            }
        };
        let order = sim.order();
        let again = sim.truth().begun(&lane, notification, &self.process);
        let request = Arc::new(Request {
            lane,
            channel,
            notification: notification.clone(),
            begun_ms: sim.now_ms(),
            order,
            again,
        });
        self.process.log(|| {
            format!(
                "sends {} of {} to {}",
                notification.id, notification.group_key, request.lane
            )
        });
        let answer = self.send(&request).await;
        self.process
            .log(|| format!("is answered {answer:?} for {}", notification.id));
        let mut truth = sim.truth();
        truth.answered(
            &request.lane,
            &request.notification,
            request.order,
            &answer,
            &self.process,
        );
        drop(truth);
        answer
    }
}
