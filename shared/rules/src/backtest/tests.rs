use super::*;
use crate::event::{Message, TransitionEvent};
use crate::fixtures::{Data, at, labels, rule};
use crate::memory::{MemoryAlertStore, MemoryTopic};
use crate::store::AlertStore;
use crate::tick::evaluate_all;
use crate::vector::View;
use proptest::prelude::*;
use serde_json::json;
use std::sync::atomic::Ordering;
use tidemark_model::Sample;

const MINUTE: i64 = 60;

fn spec(extra: &serde_json::Value) -> RuleSpec {
    rule("r", extra).spec
}

async fn tested(data: &Data, spec: &RuleSpec, from: i64, to: i64) -> Result<Backtest, BacktestError> {
    run(data, spec, at(from), at(to), None, at(1_000_000)).await
}

/// Above 90 in the minutes 10 to 19 and 40 to 44, and from 55 on.
fn data() -> Data {
    let data = Data::default();
    for minute in 0..60 {
        let high = (10..20).contains(&minute) || (40..45).contains(&minute) || minute >= 55;
        data.push("cpu", "a", minute * MINUTE, if high { 95.0 } else { 5.0 });
    }
    data
}

#[tokio::test]
async fn what_would_have_fired_is_told_with_its_beginning_and_its_end() {
    let data = data();
    let answer = tested(&data, &spec(&json!({"duration_seconds": 300})), 0, 59 * MINUTE)
        .await
        .unwrap();
    assert_eq!((answer.evaluations, answer.step_seconds), (60, 60));
    assert_eq!(
        answer.cost,
        Cost {
            selections: 1,
            series: 1,
            samples_read: 60
        }
    );
    let incident = |minutes: [Option<i64>; 3], state, reason| {
        let [pending_since, firing_since, resolved_at] = minutes.map(|minute| minute.map(|at_| at(at_ * MINUTE)));
        Incident {
            labels: labels("a"),
            state,
            pending_since,
            firing_since,
            resolved_at,
            duration_seconds: if resolved_at.is_some() { 300.0 } else { 0.0 },
            value: 95.0,
            reason,
        }
    };
    let wanted = [
        incident(
            [Some(10), Some(15), Some(20)],
            InstanceState::Resolved,
            TransitionReason::ConditionCleared,
        ),
        incident(
            [Some(55), None, None],
            InstanceState::Pending,
            TransitionReason::ConditionMet,
        ),
    ];
    assert_eq!(answer.incidents, wanted);
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["incidents"][0]["firing_since"], at(15 * MINUTE).to_rfc3339());
    assert_eq!(json["incidents"][0]["duration_seconds"], 300.0);
    assert_eq!(json["incidents"][0]["labels"]["host"], "a");
    assert_eq!(json["incidents"][1]["resolved_at"], serde_json::Value::Null);
    assert_eq!(json["incidents"][1]["state"], "pending");
    assert_eq!(json["cost"]["selections"], 1);
}

#[tokio::test]
async fn what_still_fires_at_the_end_is_marked_so() {
    let answer = tested(&data(), &spec(&json!({"enabled": false})), 50 * MINUTE, 59 * MINUTE)
        .await
        .unwrap();
    let [incident] = &answer.incidents[..] else {
        panic!("{:?}", answer.incidents);
    };
    assert_eq!((incident.state, incident.resolved_at), (InstanceState::Firing, None));
    assert_eq!(incident.duration_seconds, 240.0);
    assert_eq!(incident.reason, TransitionReason::ConditionHeld);
}

#[tokio::test]
async fn the_steps_are_those_of_the_rule_or_of_the_request() {
    let data = data();
    let hourly = spec(&json!({"interval_seconds": 600}));
    assert_eq!(tested(&data, &hourly, 0, 3_599).await.unwrap().evaluations, 6);
    let answer = run(&data, &hourly, at(0), at(100), Some(30), at(3_600)).await.unwrap();
    assert_eq!((answer.evaluations, answer.end_time), (4, at(90)));
    let answer = run(&data, &hourly, at(5), at(5), Some(30), at(3_600)).await.unwrap();
    assert_eq!((answer.evaluations, answer.end_time), (1, at(5)));
}

#[tokio::test]
async fn samples_that_are_too_many_at_once_are_read_in_pieces() {
    let data = data();
    let spec = spec(&json!({"aggregation": "max", "window_seconds": 300}));
    let whole = tested(&data, &spec, 0, 59 * MINUTE).await.unwrap();
    data.most_samples.store(10, Ordering::SeqCst);
    let pieces = tested(&data, &spec, 0, 59 * MINUTE).await.unwrap();
    assert_eq!(whole.incidents, pieces.incidents);
    assert!(pieces.cost.selections > 6 && whole.cost.selections == 1);
    data.most_samples.store(4, Ordering::SeqCst);
    let error = tested(&data, &spec, 0, 59 * MINUTE).await.unwrap_err();
    assert!(matches!(
        error,
        BacktestError::Select(SelectError::TooManySamples { limit: 4 })
    ));
}

#[tokio::test]
async fn a_heartbeat_reads_nothing_and_fires_from_the_first_step_on() {
    let heartbeat = RuleSpec::parse(&json!({"name": "h", "kind": "heartbeat"})).unwrap();
    let answer = tested(&Data::default(), &heartbeat, 0, 600).await.unwrap();
    assert_eq!((answer.evaluations, answer.cost), (11, Cost::default()));
    assert_eq!(answer.incidents.len(), 1);
    assert_eq!(answer.incidents[0].duration_seconds, 600.0);
}

#[tokio::test]
async fn ranges_that_cannot_be_answered_are_refused_by_field() {
    let data = data();
    data.oldest.store(600, Ordering::SeqCst);
    let now = at(3_600);
    let hour = spec(&json!({"aggregation": "avg", "window_seconds": 3_600}));
    let plain = spec(&json!({}));
    for (spec, from, to, step, field, said) in [
        (&plain, 3_000, 2_999, None, "start_time", "must not be after end_time"),
        (&plain, 3_000, 3_601, None, "end_time", "must not be in the future"),
        (&plain, 899, 3_000, None, "start_time", "samples are kept"),
        (&hour, 3_000, 3_000, None, "start_time", "samples are kept"),
        (&plain, 3_000, 3_600, Some(0), "step_seconds", "at least 1"),
    ] {
        let error = run(&data, spec, at(from), at(to), step, now).await.unwrap_err();
        let BacktestError::Invalid(invalid) = error else {
            panic!("{error}");
        };
        assert!(invalid.field == field && invalid.reason.contains(said), "{invalid}");
    }
    assert!(run(&data, &plain, at(900), at(3_600), None, now).await.is_ok());
    let long = run(&data, &plain, at(1_000), at(12_000), Some(1), at(12_000))
        .await
        .unwrap_err();
    assert_eq!(
        long.to_string(),
        "step_seconds: gives 11001 steps from start_time to end_time; at most 11000 are allowed"
    );
}

#[test]
fn work_without_end_is_refused() {
    let (labels, sample) = (
        labels("a"),
        Sample {
            timestamp_ms: 0,
            value: 1.0,
        },
    );
    let view = View {
        labels: &labels,
        samples: &[sample; 3],
    };
    let mut work = Work {
        rows: MAX_ROWS - 1,
        samples: 0,
    };
    assert!(work.add(&[view]).is_ok());
    let refused = work.add(&[view]).unwrap_err().to_string();
    assert!(
        refused.starts_with("step_seconds: gives steps with more than 2000000 series"),
        "{refused}"
    );
    let mut work = Work {
        rows: 0,
        samples: MAX_WINDOW_SAMPLES - 2,
    };
    let refused = work.add(&[view]).unwrap_err().to_string();
    assert!(refused.contains("more than 500000000 samples"), "{refused}");
}

#[test]
fn an_answer_holds_as_many_incidents_as_fit() {
    let incident = |number: usize| Incident {
        labels: labels(&"x".repeat(number)),
        state: InstanceState::Firing,
        pending_since: None,
        firing_since: Some(at(0)),
        resolved_at: None,
        duration_seconds: 1_234_567.125,
        value: -0.000_123_456_789,
        reason: TransitionReason::ConditionCleared,
    };
    let incidents: Vec<Incident> = (0..20_000).map(|number| incident(number % 50)).collect();
    let fits = fitting(&incidents);
    assert!((5_000..20_000).contains(&fits));
    let json = serde_json::to_vec(&incidents[..fits]).unwrap();
    assert!(json.len() < limits::MAX_RESPONSE_BYTES, "{} bytes", json.len());
}

#[test]
fn a_request_is_read_field_by_field() {
    let rule = json!({"name": "r", "metric_name": "m", "condition": ">", "threshold": 1});
    let body =
        json!({"rule": rule, "start_time": "2026-01-01T00:00:00Z", "end_time": 1_767_312_000, "step_seconds": 120});
    let request = Request::parse(&body).unwrap();
    assert_eq!(request.start.to_rfc3339(), "2026-01-01T00:00:00.000Z");
    assert_eq!(request.end, Timestamp(1_767_312_000_000));
    assert_eq!((request.step_seconds, request.spec.name.as_str()), (Some(120), "r"));
    assert!(Request::is_one(&body) && !Request::is_one(&json!({"metric_name": "m"})));
    for (change, field) in [
        (json!({"rule": null}), "rule"),
        (json!({"rule": 3}), "rule"),
        (
            json!({"rule": {"name": "r", "metric_name": "m", "condition": ">"}}),
            "rule.threshold",
        ),
        (json!({"start_time": null}), "start_time"),
        (json!({"end_time": "yesterday"}), "end_time"),
        (json!({"end_time": 1_767_312_000_000_i64}), "end_time"),
        (json!({"step_seconds": 0}), "step_seconds"),
        (json!({"step_seconds": "60"}), "step_seconds"),
    ] {
        let mut body = body.clone();
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        assert_eq!(Request::parse(&body).unwrap_err().field, field, "{body}");
    }
    assert_eq!(Request::parse(&json!([])).unwrap_err().reason, "must be a JSON object");
}

/// What real ticks tell at the times of the steps.
async fn ticked(data: &Data, spec: &RuleSpec, steps: impl Iterator<Item = i64>) -> Vec<Incident> {
    let (store, topic) = (MemoryAlertStore::new(), MemoryTopic::new());
    let mut rule = rule("r", &json!({}));
    rule.spec = spec.clone();
    store.create_rule(&rule).await.unwrap();
    let mut end = at(0);
    for second in steps {
        end = at(second);
        evaluate_all(&store, data, &topic, end, &|| true).await.unwrap();
    }
    let mut events: Vec<TransitionEvent> = Vec::new();
    for message in topic.take() {
        if let Message::Event(event) = message {
            events.push(*event);
        }
    }
    let mut incidents = Vec::new();
    for begin in events.iter().filter(|event| event.kind == TransitionKind::Firing) {
        let over = events
            .iter()
            .find(|event| event.kind == TransitionKind::Resolved && event.incident_id() == begin.incident_id());
        incidents.push(Incident {
            labels: begin.labels.clone(),
            state: over.map_or(InstanceState::Firing, |_| InstanceState::Resolved),
            pending_since: begin.pending_since,
            firing_since: Some(begin.firing_since),
            resolved_at: over.and_then(|over| over.resolved_at),
            duration_seconds: seconds(
                Some(begin.firing_since),
                over.and_then(|over| over.resolved_at).unwrap_or(end),
            ),
            value: begin.value,
            reason: over.unwrap_or(begin).reason,
        });
    }
    for instance in store.load_instances().await.unwrap() {
        if instance.state == InstanceState::Pending {
            incidents.push(Incident {
                labels: instance.labels,
                state: InstanceState::Pending,
                pending_since: instance.pending_since,
                firing_since: None,
                resolved_at: None,
                duration_seconds: 0.0,
                value: instance.current_value,
                reason: match instance.missing_since {
                    Some(_) => TransitionReason::DataMissing,
                    None => TransitionReason::ConditionMet,
                },
            });
        }
    }
    let began = |incident: &Incident| incident.pending_since.or(incident.firing_since);
    incidents.sort_by(|a, b| (began(a), &a.labels, a.firing_since).cmp(&(began(b), &b.labels, b.firing_since)));
    incidents
}

/// Values that say NaN too, for which `==` does not hold.
fn text(incidents: &[Incident]) -> Vec<String> {
    incidents.iter().map(|one| format!("{one:?}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn it_tells_what_ticks_at_those_times_would_have(
        samples in proptest::collection::vec((0..3_usize, 0..7_200_i64, 80.0..100.0_f64), 0..150),
        duration in prop_oneof![Just(0_u64), Just(60), Just(600)],
        keep in prop_oneof![Just(0_u64), Just(300)],
        no_data in prop_oneof![Just("ok"), Just("keep"), Just("alerting")],
        aggregation in prop_oneof![Just(None), Just(Some("avg")), Just(Some("count")), Just(Some("increase"))],
        window in 30..2_000_u64,
        grouped in any::<bool>(),
        start in 0..1_000_i64,
        length in 0..6_000_i64,
        step in prop_oneof![Just(60_i64), Just(61), Just(600)],
        most in prop_oneof![Just(0_usize), Just(60)],
    ) {
        let mut extra = json!({"duration_seconds": duration, "keep_firing_for_seconds": keep, "no_data": no_data});
        if let Some(aggregation) = aggregation {
            extra["aggregation"] = json!(aggregation);
            extra["window_seconds"] = json!(window);
            if grouped {
                extra["group_by"] = json!(["host"]);
            }
        }
        let spec = spec(&extra);
        let data = Data::default();
        for (host, second, value) in &samples {
            data.push("cpu", ["a", "b", "c"][*host], *second, *value);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let steps = (start..=start + length).step_by(usize::try_from(step).unwrap());
        let wanted = runtime.block_on(ticked(&data, &spec, steps.clone()));
        data.most_samples.store(most, Ordering::SeqCst);
        let step_seconds = Some(u64::try_from(step).unwrap());
        let answer = runtime.block_on(run(&data, &spec, at(start), at(start + length), step_seconds, at(10_000)));
        match answer {
            Ok(answer) => {
                prop_assert_eq!(text(&answer.incidents), text(&wanted));
                prop_assert_eq!(answer.evaluations, steps.count());
            }
            // The window alone may hold too many.
            Err(error) => prop_assert!(most > 0, "{}", error),
        }
    }
}

#[tokio::test]
async fn series_that_are_too_many_at_once_are_read_in_pieces() {
    let data = Data::default();
    for minute in 0..60 {
        data.push("cpu", &format!("h{}", minute / 10), minute * MINUTE, 95.0);
    }
    let whole = tested(&data, &spec(&json!({})), 0, 59 * MINUTE).await.unwrap();
    data.most_series.store(2, Ordering::SeqCst);
    let pieces = tested(&data, &spec(&json!({})), 0, 59 * MINUTE).await.unwrap();
    assert_eq!((whole.incidents.len(), whole.incidents), (6, pieces.incidents));
    assert!(pieces.cost.selections > 1 && pieces.cost.series == 2);
    data.most_series.store(1, Ordering::SeqCst);
    let error = tested(&data, &spec(&json!({})), 0, 59 * MINUTE).await.unwrap_err();
    assert!(matches!(
        error,
        BacktestError::Select(SelectError::TooManySeries { .. })
    ));
}
