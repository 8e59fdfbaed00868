//! What people do meanwhile: rules, channels, silences, inhibitions and mute times come, change and go; incidents are resolved
//! and acknowledged by hand.

use crate::alerts::Alerts;
use crate::lanes::Lanes;
use crate::queue::Topic;
use crate::random::Random;
use crate::sim::Process;
use serde_json::{Value, json};
use std::sync::Arc;
use tidemark_model::{LabelFilter, Timestamp};
use tidemark_notify::channel::RateLimit;
use tidemark_notify::channel::{Address, Receiver};
use tidemark_notify::settings::{Document, Inhibition, MuteTime, Silence, TimeInterval, TimeRange};
use tidemark_notify::store::DocumentStore;
use tidemark_notify::{Channel, ChannelSpec};
use tidemark_rules::store::{AlertStore, InstanceFilter, PageRequest};
use tidemark_rules::{Routing, manage};

/// The names of channels; the last is never configured.
pub(crate) const CHANNELS: [&str; 5] = ["c0", "c1", "c2", "c3", "ghost"];

const SILENCES: [&str; 4] = ["s0", "s1", "s2", "s3"];
const INHIBITIONS: [&str; 2] = ["i0", "i1"];
const MUTE_TIMES: [&str; 2] = ["t0", "t1"];

/// What somebody does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    Create {
        id: String,
        body: Value,
    },
    Patch {
        body: Value,
    },
    Delete,
    Resolve,
    Acknowledge,
    Silence(Silence),
    Unsilence,
    Inhibit(Inhibition),
    Uninhibit,
    Mute(MuteTime),
    Unmute,
    Configure(Channel),
    Unconfigure,
    /// All silences, inhibitions and mute times go.
    Hush,
    /// Everything that would fire for ever goes.
    End,
}

fn routing(random: &mut Random, of_channel: bool) -> Routing {
    let likely = if of_channel { 0.7 } else { 0.2 };
    let texts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<String>>();
    Routing {
        group_by: random.chance(likely).then(|| {
            let choices: [&[&str]; 6] = [
                &[],
                &["..."],
                &["alertname"],
                &["host"],
                &["alertname", "dc"],
                &["team"],
            ];
            texts(random.pick::<&[&str]>(&choices))
        }),
        group_wait_seconds: random.chance(likely).then(|| *random.pick(&[0, 0, 10, 45])),
        group_interval_seconds: random.chance(likely).then(|| *random.pick(&[0, 10, 60, 300])),
        repeat_interval_seconds: random.chance(likely).then(|| *random.pick(&[60, 300, 1_800, 7_200])),
        send_resolved: random.chance(likely / 3.0).then(|| random.chance(0.5)),
        mute_times: random.chance(likely / 3.0).then(|| texts(&[*random.pick(&MUTE_TIMES)])),
    }
}

/// A channel.
pub(crate) fn channel(random: &mut Random, name: &str, now: Timestamp) -> Channel {
    let limits = [(30, 60), (30, 60), (2, 600), (1, 120), (3, 60), (1, 1_200)];
    let (notifications, per_seconds) = *random.pick(&limits);
    Channel {
        id: name.to_owned(),
        spec: ChannelSpec {
            receiver: Receiver::Webhook {
                url: Address::Plain(format!("https://{name}.example/")),
                signing_keys: Vec::new(),
                headers: Default::default(),
            },
            routing: routing(random, true),
            rate_limit: RateLimit {
                notifications,
                per_seconds,
            },
            title: None,
            body: None,
        },
        version: 1,
        created_at: now,
        updated_at: now,
    }
}

/// The body of a rule.
pub(crate) fn rule(random: &mut Random, name: &str) -> Value {
    let mut uses = Vec::new();
    let mut names = CHANNELS.to_vec();
    let count = 1 + random.below(3);
    let has_webhook = random.chance(0.25);
    for _ in 0..count {
        let at = random.below(names.len());
        let name = names.swap_remove(at);
        if name == "ghost" && random.chance(0.7) {
            continue;
        }
        uses.push(channel_use(random, name));
    }
    if has_webhook {
        uses.push(channel_use(random, "webhook"));
    }
    let mut body = json!({
        "name": name,
        "severity": *random.pick(&["info", "warning", "critical"]),
        "notification_channels": uses,
        "alert_labels": {"team": *random.pick(&["red", "blue"])},
        "annotations": {"summary": "{{ $value }}"},
        "interval_seconds": *random.pick(&[60, 60, 60, 120, 300]),
    });
    if has_webhook {
        body["webhook_url"] = json!(format!("https://{name}.example/hook"));
    }
    if random.chance(0.2) {
        body["repeat_interval_seconds"] = json!(*random.pick(&[60, 600, 3_600]));
    }
    if random.chance(0.08) {
        body["kind"] = json!("heartbeat");
        return body;
    }
    body["metric_name"] = json!(*random.pick(&["m0", "m1"]));
    body["condition"] = json!(">");
    body["threshold"] = json!(*random.pick(&[0.5, 1.5]));
    body["duration_seconds"] = json!(*random.pick(&[0, 0, 60, 120, 300]));
    body["keep_firing_for_seconds"] = json!(*random.pick(&[0, 0, 0, 120]));
    body["no_data"] = json!(*random.pick(&["ok", "ok", "alerting", "keep"]));
    if random.chance(0.3) {
        body["labels"] = json!({"host": *random.pick(&["a", "b", "c", "z"])});
    }
    if random.chance(0.4) {
        body["aggregation"] = json!(*random.pick(&["max", "avg"]));
        body["window_seconds"] = json!(*random.pick(&[60, 300]));
        body["group_by"] = json!(*random.pick(&[&["dc"][..], &[]]));
    }
    body
}

fn channel_use(random: &mut Random, name: &str) -> Value {
    let mut written = serde_json::to_value(routing(random, false)).unwrap();
    written["channel"] = json!(name);
    written
}

fn filter(pairs: &[(&str, &str)]) -> LabelFilter {
    LabelFilter::equal(pairs.iter().copied()).unwrap()
}

fn clock_time(minute: i64) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

/// Draws what somebody does next.
pub(crate) fn deed(random: &mut Random, next: usize, now: Timestamp) -> Deed {
    let minutes = |random: &mut Random| random.magnitude(1, 60) * 60_000;
    match random.below(26) {
        0..2 => Deed::Create {
            id: format!("rule{next}"),
            body: rule(random, &format!("r{next}")),
        },
        2..5 => {
            let whole = rule(random, "?");
            let mut body = json!({});
            for name in [
                "severity",
                "notification_channels",
                "alert_labels",
                "threshold",
                "duration_seconds",
            ] {
                if random.chance(0.4) && !whole[name].is_null() {
                    body[name] = whole[name].clone();
                }
            }
            if whole.get("webhook_url").is_some() && body.get("notification_channels").is_some() {
                body["webhook_url"] = whole["webhook_url"].clone();
            }
            Deed::Patch { body }
        }
        5..8 => Deed::Patch {
            body: json!({"enabled": random.chance(0.6)}),
        },
        8 => Deed::Delete,
        9..12 => Deed::Resolve,
        12..14 => Deed::Acknowledge,
        14..17 => {
            let choices: [&[(&str, &str)]; 6] = [
                &[("host", "a")],
                &[("team", "red")],
                &[("severity", "warning")],
                &[("alertname", "r1")],
                &[("dc", "x"), ("team", "blue")],
                &[("severity", "critical")],
            ];
            let starts = now.0 + random.between(-60_000, 120_000);
            Deed::Silence(Silence {
                id: (*random.pick(&SILENCES)).to_owned(),
                matchers: filter(random.pick::<&[(&str, &str)]>(&choices)),
                starts_at: Timestamp(starts),
                ends_at: Timestamp(starts + minutes(random)),
                created_by: "somebody".to_owned(),
                comment: String::new(),
                version: 1,
                created_at: now,
                updated_at: now,
            })
        }
        17 => Deed::Unsilence,
        18 => {
            let equal: [&[&str]; 3] = [&[], &["host"], &["dc"]];
            Deed::Inhibit(Inhibition {
                id: (*random.pick(&INHIBITIONS)).to_owned(),
                source_matchers: filter(&[("severity", "critical")]),
                target_matchers: filter(&[("severity", *random.pick(&["warning", "info"]))]),
                equal: random.pick(&equal).iter().map(|&name| name.to_owned()).collect(),
                version: 1,
                created_at: now,
                updated_at: now,
            })
        }
        19 => Deed::Uninhibit,
        20 => {
            let minute = now.0.rem_euclid(86_400_000) / 60_000;
            let from = (minute + random.between(-10, 20)).clamp(0, 1_438);
            let to = (from + random.magnitude(1, 60)).min(1_439);
            Deed::Mute(MuteTime {
                id: (*random.pick(&MUTE_TIMES)).to_owned(),
                time_intervals: vec![TimeInterval {
                    times: vec![TimeRange {
                        start_time: clock_time(from),
                        end_time: clock_time(to),
                    }],
                    ..TimeInterval::default()
                }],
                version: 1,
                created_at: now,
                updated_at: now,
            })
        }
        21 => Deed::Unmute,
        22..25 => {
            let name = CHANNELS[random.below(4)];
            Deed::Configure(channel(random, name, now))
        }
        _ => Deed::Unconfigure,
    }
}

/// Somebody at the API.
pub(crate) struct Person {
    pub(crate) alerts: Alerts,
    pub(crate) lanes: Lanes,
    pub(crate) topic: Topic,
    pub(crate) process: Arc<Process>,
}

impl Person {
    /// Does it. What fails was not done, or was: nobody asks.
    pub(crate) async fn act(self, deed: Deed) {
        let now = self.process.now();
        self.process.log(|| format!("{deed:?}"));
        match deed {
            Deed::Create { id, body } => {
                let made = manage::create_rule(&self.alerts, &body, || id.clone(), now).await;
                if let Err(manage::ManageError::Invalid(field)) = made {
                    self.process
                        .sim
                        .violate(|| format!("a rule was refused: {field}: {body}"));
                }
            }
            Deed::Patch { body } => {
                if let Some(id) = self.some_rule().await {
                    let _ = manage::patch_rule(&self.alerts, &id, &body, now).await;
                }
            }
            Deed::Delete => {
                if let Some(id) = self.some_rule().await {
                    let _ = manage::delete_rule(&self.alerts, &id).await;
                }
            }
            Deed::Resolve => {
                if let Some(id) = self.some_active_instance().await {
                    self.resolve(&id, now).await;
                }
            }
            Deed::Acknowledge => {
                if let Some(id) = self.some_active_instance().await {
                    self.acknowledge(&id, now).await;
                }
            }
            Deed::Silence(silence) => self.put(silence, |silence, version| silence.version = version).await,
            Deed::Inhibit(inhibition) => {
                self.put(inhibition, |inhibition, version| inhibition.version = version)
                    .await;
            }
            Deed::Mute(mute) => self.put(mute, |mute, version| mute.version = version).await,
            Deed::Configure(channel) => self.put(channel, |channel, version| channel.version = version).await,
            Deed::Unsilence => self.remove::<Silence>(&SILENCES).await,
            Deed::Uninhibit => self.remove::<Inhibition>(&INHIBITIONS).await,
            Deed::Unmute => self.remove::<MuteTime>(&MUTE_TIMES).await,
            Deed::Unconfigure => self.remove::<Channel>(&CHANNELS[..4]).await,
            Deed::Hush => {
                for id in SILENCES {
                    self.remove::<Silence>(&[id]).await;
                }
                for id in INHIBITIONS {
                    self.remove::<Inhibition>(&[id]).await;
                }
                for id in MUTE_TIMES {
                    self.remove::<MuteTime>(&[id]).await;
                }
            }
            Deed::End => self.end(now).await,
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        self.process.sim.draw(draw)
    }

    async fn resolve(&self, id: &str, now: Timestamp) {
        let _ = manage::resolve_instance(&self.alerts, &self.topic, id, None, None, now).await;
    }

    async fn acknowledge(&self, id: &str, now: Timestamp) {
        let _ = manage::acknowledge_instance(&self.alerts, &self.topic, id, "somebody", None, now).await;
    }

    async fn some_rule(&self) -> Option<String> {
        let rules = self.alerts.load_rules().await.ok()?;
        let at = self.draw(|random| random.below(rules.len()));
        rules.get(at).map(|rule| rule.id.clone())
    }

    async fn some_active_instance(&self) -> Option<String> {
        let page = PageRequest {
            limit: 100,
            after: None,
        };
        let active = self
            .alerts
            .list_instances(&InstanceFilter::active(), &page)
            .await
            .ok()?;
        let at = self.draw(|random| random.below(active.items.len()));
        active.items.get(at).map(|instance| instance.id.clone())
    }

    async fn put<T: Document>(&self, mut document: T, set_version: impl Fn(&mut T, u64)) {
        let Ok(before) = self.lanes.get::<T>(document.id()).await else {
            return;
        };
        let expected = before.map(|before| before.version());
        set_version(&mut document, expected.map_or(1, |version| version + 1));
        let _ = self.lanes.put(&document, expected).await;
    }

    async fn remove<T: Document>(&self, ids: &[&str]) {
        let id = self.draw(|random| *random.pick(ids));
        if let Ok(Some(before)) = self.lanes.get::<T>(id).await {
            let _ = self.lanes.delete::<T>(id, before.version()).await;
        }
    }

    /// Deletes or disables the rules that would fire for ever, and some of the others.
    async fn end(&self, now: Timestamp) {
        for rule in self.alerts.load_rules().await.unwrap_or_default() {
            let needs_no_data =
                rule.spec.query.selector().is_none() || rule.spec.no_data != tidemark_rules::rule::NoData::Ok;
            match self.draw(|random| random.below(4)) {
                0 => drop(manage::delete_rule(&self.alerts, &rule.id).await),
                1 => drop(manage::patch_rule(&self.alerts, &rule.id, &json!({"enabled": false}), now).await),
                _ if needs_no_data => drop(manage::delete_rule(&self.alerts, &rule.id).await),
                _ => {}
            }
        }
    }
}
