//! What people do in a story, by the same functions that the API calls.

use crate::language::{Act, Series};
use crate::world::World;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tidemark_model::Labels;
use tidemark_notify::settings::{Inhibition, MuteTime};
use tidemark_notify::{Channel, manage as documents};
use tidemark_rules::instance::{fingerprint, instance_id};
use tidemark_rules::tick::Which;
use tidemark_rules::{AlertStore as _, Rule, manage as rules};

impl World {
    pub(crate) fn act(&mut self, act: Act) {
        if !matches!(act, Act::Push { .. }) {
            self.shared.log(&format!("{act:?}"));
        }
        match act {
            Act::Push { metric, series, value } => self.push(&metric, &series, value),
            Act::Tick => self.tick(Which::All),
            Act::Redrive => {
                let letters = std::mem::take(&mut *self.shared.dead.lock().unwrap());
                for body in letters {
                    self.shared.send(body, 0);
                }
            }
            Act::DieBeforePublishing => self.shared.publishing_kills.store(true, Ordering::Relaxed),
            Act::DieBeforeRecording => self.shared.answering_kills.store(true, Ordering::Relaxed),
            Act::CreateRule { .. } | Act::PatchRule { .. } | Act::DeleteRule { .. } => self.change_rules(act),
            Act::Acknowledge { .. } | Act::Resolve { .. } => self.by_hand(act),
            _ => self.change_documents(act),
        }
    }

    fn rule_named(&self, name: &str) -> Rule {
        let all = self.runtime.block_on(self.alerts.load_rules()).unwrap();
        let named = all.into_iter().find(|rule| rule.spec.name == name);
        named.unwrap_or_else(|| panic!("there is no rule {name}"))
    }

    fn change_rules(&self, act: Act) {
        let (alerts, now) = (&self.alerts, self.now());
        match act {
            Act::CreateRule { name, fields } => {
                let mut body = json!({"name": name});
                if fields.get("webhook_url").is_none() {
                    body["notification_channels"] = json!(["ops"]);
                }
                if fields["kind"] != "heartbeat" {
                    body["metric_name"] = "cpu".into();
                    body["condition"] = ">".into();
                    body["threshold"] = 90.into();
                }
                merge(&mut body, &fields);
                // The name is unique; as an id it makes the order of everything repeatable.
                let created = rules::create_rule(alerts, &body, || name.clone(), now);
                self.runtime.block_on(created).unwrap();
            }
            Act::PatchRule { name, fields } => {
                let id = self.rule_named(&name).id;
                let patched = rules::patch_rule(alerts, &id, &fields, now);
                self.runtime.block_on(patched).unwrap();
            }
            Act::DeleteRule { name } => {
                let id = self.rule_named(&name).id;
                self.runtime.block_on(rules::delete_rule(alerts, &id)).unwrap();
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn by_hand(&self, act: Act) {
        let instance = |rule: &str, series: &Series| {
            let labels =
                Labels::from_pairs(series.iter().map(|(name, value)| (name.as_str(), value.as_str()))).unwrap();
            // The rule may have been deleted, and its id is its name.
            instance_id(rule, &fingerprint(rule, &labels))
        };
        let (alerts, topic, now) = (&self.alerts, &*self.shared, self.now());
        match act {
            Act::Acknowledge { rule, series, by } => {
                let id = instance(&rule, &series);
                let done = rules::acknowledge_instance(alerts, topic, &id, &by, None, now);
                self.runtime.block_on(done).unwrap();
            }
            Act::Resolve { rule, series, by } => {
                let id = instance(&rule, &series);
                let done = rules::resolve_instance(alerts, topic, &id, Some(by), None, now);
                self.runtime.block_on(done).unwrap();
            }
            other => unreachable!("{other:?}"),
        }
    }

    fn change_documents(&mut self, act: Act) {
        let (notify, now) = (&self.notify, self.now());
        match act {
            Act::CreateChannel { id, fields } => {
                let mut body = json!({"name": id, "type": "webhook", "url": "https://example.org/"});
                merge(&mut body, &fields);
                let created = documents::create::<Channel>(notify, &body, now);
                self.runtime.block_on(created).unwrap();
            }
            Act::CreateInhibition { fields } => {
                let created = documents::create::<Inhibition>(notify, &fields, now);
                self.runtime.block_on(created).unwrap();
            }
            Act::CreateMuteTime { fields } => {
                let created = documents::create::<MuteTime>(notify, &fields, now);
                self.runtime.block_on(created).unwrap();
            }
            Act::CreateSilence { id, matchers, span } => {
                let body = json!({
                    "matchers": matchers, "created_by": "ann", "comment": "known",
                    "starts_at": span.from.time().to_rfc3339(), "ends_at": span.to.time().to_rfc3339(),
                });
                let created = documents::create_silence(notify, &body, || id.clone(), now);
                self.runtime.block_on(created).unwrap();
            }
            Act::EndSilence { id } => {
                self.runtime
                    .block_on(documents::expire_silence(notify, &id, now))
                    .unwrap();
            }
            other => unreachable!("{other:?}"),
        }
    }
}

fn merge(body: &mut Value, fields: &Value) {
    for (name, value) in fields.as_object().expect("an object of fields") {
        body[name] = value.clone();
    }
}
