//! What the tests of this crate build on.

use serde_json::json;
use tidemark_model::{Labels, Timestamp};
use tidemark_rules::instance::{fingerprint, instance_id, transition_id};
use tidemark_rules::rule::RuleSpec;
use tidemark_rules::{Rule, TransitionEvent, TransitionKind, TransitionReason};

/// So many seconds after some noon.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_268_800_000 + seconds * 1_000)
}

/// The firing or the resolve of one incident that began to fire at `at(0)`.
pub(crate) fn event(kind: TransitionKind, url: &str, channels: &[&str]) -> TransitionEvent {
    let body = json!({"name": "high_cpu", "metric_name": "cpu_usage", "condition": ">", "threshold": 90,
        "aggregation": "avg", "group_by": ["host"], "severity": "critical", "webhook_url": url,
        "notification_channels": channels});
    let rule = Rule {
        id: "rule-1".into(),
        spec: RuleSpec::parse(&body).unwrap(),
        version: 3,
        created_at: at(-900),
        updated_at: at(-900),
    };
    let labels = Labels::from_pairs([("host", "web-01")]).unwrap();
    let fingerprint = fingerprint(&rule.id, &labels);
    let instance_id = instance_id(&rule.id, &fingerprint);
    let resolved = kind == TransitionKind::Resolved;
    let at_time = if resolved { at(120) } else { at(0) };
    TransitionEvent {
        schema_version: TransitionEvent::SCHEMA_VERSION,
        id: transition_id(&instance_id, at(0), kind),
        instance_id,
        fingerprint,
        kind,
        reason: if resolved {
            TransitionReason::ConditionCleared
        } else {
            TransitionReason::ConditionHeld
        },
        at: at_time,
        pending_since: Some(at(-60)),
        firing_since: at(0),
        resolved_at: resolved.then_some(at_time),
        value: if resolved { 12.0 } else { 92.5 },
        labels,
        annotations: [("summary".to_owned(), "CPU of web-01 is 92.5".to_owned())].into(),
        rule: rule.snapshot(),
    }
}
