//! What the tests of this crate build on.

use crate::notification::{Alert, Cause, Notification};
use serde_json::json;
use tidemark_model::{Labels, Timestamp};
use tidemark_rules::instance::{fingerprint, instance_id};
use tidemark_rules::rule::RuleSpec;
use tidemark_rules::{Rule, TransitionEvent, TransitionKind, TransitionReason};

/// So many seconds after some noon.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp(1_767_268_800_000 + seconds * 1_000)
}

/// A rule that fires on each host above 90.
pub(crate) fn rule() -> Rule {
    let body = json!({"name": "high_cpu", "metric_name": "cpu_usage", "condition": ">", "threshold": 90,
        "aggregation": "avg", "group_by": ["host"], "severity": "critical"});
    Rule {
        id: "rule-1".into(),
        spec: RuleSpec::parse(&body).unwrap(),
        version: 3,
        created_at: at(-900),
        updated_at: at(-900),
    }
}

/// The firing or the resolve of one incident that began to fire at `at(0)`.
pub(crate) fn event(kind: TransitionKind, url: &str, channels: &[&str]) -> TransitionEvent {
    let mut rule = rule();
    rule.spec.webhook_url = Some(url.to_owned());
    rule.spec.notification_channels = channels.iter().map(|name| (*name).into()).collect();
    let labels = Labels::from_pairs([("host", "web-01")]).unwrap();
    let fingerprint = fingerprint(&rule.id, &labels);
    let instance_id = instance_id(&rule.id, &fingerprint);
    let resolved = kind == TransitionKind::Resolved;
    let at_time = if resolved { at(120) } else { at(0) };
    TransitionEvent {
        schema_version: TransitionEvent::SCHEMA_VERSION,
        id: format!("{instance_id}.{}.{}", at(0).0, kind.as_str()),
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
        beat: None,
        previous: None,
    }
}

/// An alert of [`rule`] on a host that fires since `at(0)`, or was resolved so many seconds after.
pub(crate) fn alert(host: &str, resolved_after: Option<i64>) -> Alert {
    let rule = rule();
    let labels = Labels::from_pairs([("host", host)]).unwrap();
    let fingerprint = fingerprint(&rule.id, &labels);
    let (status, reason, value) = match resolved_after {
        None => (TransitionKind::Firing, TransitionReason::ConditionHeld, 92.5),
        Some(_) => (TransitionKind::Resolved, TransitionReason::ConditionCleared, 12.0),
    };
    let snapshot = rule.snapshot();
    Alert {
        status,
        reason,
        labels: snapshot.alert_labels(&labels),
        annotations: [("summary".to_owned(), format!("CPU of {host} is 92.5"))].into(),
        starts_at: at(0),
        ends_at: resolved_after.map(at),
        instance_id: instance_id(&rule.id, &fingerprint),
        fingerprint,
        value,
        rule: snapshot,
    }
}

/// A notification of these alerts to the channel `ops`, grouped by `alertname`.
pub(crate) fn notification(alerts: Vec<Alert>) -> Notification {
    let fires = alerts.iter().any(|alert| alert.status == TransitionKind::Firing);
    Notification {
        id: "n-1".into(),
        channel: "ops".into(),
        group_key: r#"{}:{alertname="high_cpu"}"#.into(),
        group_labels: [("alertname".to_owned(), "high_cpu".to_owned())].into(),
        status: if fires {
            TransitionKind::Firing
        } else {
            TransitionKind::Resolved
        },
        cause: Cause::Change,
        is_digest: false,
        alerts,
        truncated_alerts: 0,
    }
}
