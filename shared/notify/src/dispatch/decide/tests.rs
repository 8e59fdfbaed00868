use super::*;
use crate::fixtures::{at, event};
use crate::store::{GivenUp, Mark};
use tidemark_rules::TransitionEvent;

const MINUTE: i64 = 60;
const HOUR: i64 = 3_600;

fn timing() -> Timing {
    Timing {
        wait_ms: 10_000,
        interval_ms: 300_000,
        repeat_ms: 4 * HOUR * 1_000,
        send_resolved: true,
    }
}

fn group() -> Group {
    Group {
        id: "g".into(),
        key: "{}:{}".into(),
        labels: std::collections::BTreeMap::new(),
        notified_at: None,
        in_flight: None,
        told: None,
        failures: 0,
        not_before: None,
        given_up: None,
        version: 1,
    }
}

fn notified(seconds: i64) -> Group {
    Group {
        notified_at: Some(at(seconds)),
        ..group()
    }
}

fn with_kind(host: &str, kind: TransitionKind) -> Member {
    let mut told: TransitionEvent = event(kind, "https://example.org/", &["ops"]);
    told.instance_id = host.to_owned();
    Member {
        incident: told.incident_id(),
        event: told,
        enlisted_at: at(0),
        mark: Mark::default(),
    }
}

fn firing(host: &str) -> Member {
    with_kind(host, TransitionKind::Firing)
}

fn over(host: &str) -> Member {
    with_kind(host, TransitionKind::Resolved)
}

fn told(mut member: Member) -> Member {
    member.mark.told_at = Some(at(10));
    member
}

fn heartbeat(beat: i64, told_beat: Option<i64>) -> Member {
    let mut member = told(firing("beat"));
    member.event.rule.query = serde_json::json!({"kind": "heartbeat"});
    member.event.beat = Some(at(beat));
    member.mark.told_beat = told_beat.map(at);
    member
}

fn candidate(member: &Member) -> Candidate<'_> {
    Candidate {
        member,
        timing: timing(),
        verdict: Verdict::default(),
        over_at: member.event.resolved_at,
        has_successor: false,
        acknowledged: false,
    }
}

fn silenced(member: &Member, until: i64) -> Candidate<'_> {
    let mut candidate = candidate(member);
    candidate.verdict.quiet = Some((Suppression::Silenced { by: vec!["s".into()] }, at(until)));
    candidate
}

fn muted(member: &Member, until: i64) -> Candidate<'_> {
    let mut candidate = candidate(member);
    candidate.verdict.muted = Some((
        Suppression::Muted {
            by: vec!["night".into()],
        },
        at(until),
    ));
    candidate
}

/// What is told: the reason, the alerts as `+host` and `-host`.
fn sent(decision: &Decision<'_>) -> Option<(Why, String)> {
    let Step::Tell(tell) = &decision.step else {
        return None;
    };
    let alerts = tell.alerts.iter().map(|one| {
        let sign = if one.over_at.is_some() { '-' } else { '+' };
        format!("{sign}{}", one.member.event.instance_id)
    });
    let mut alerts: Vec<String> = alerts.collect();
    alerts.sort();
    Some((tell.why, alerts.join(" ")))
}

fn waits(decision: &Decision<'_>) -> Option<(Option<Timestamp>, Wait)> {
    match decision.step {
        Step::Tell(_) => None,
        Step::Wait { until, why } => Some((until, why)),
    }
}

fn tells(why: Why, alerts: &str) -> Option<(Why, String)> {
    Some((why, alerts.to_owned()))
}

#[test]
fn the_first_notification_waits_for_others() {
    let (a, b) = (firing("a"), firing("b"));
    let both = [candidate(&a), candidate(&b)];
    let early = decide(&group(), &both, at(9));
    assert_eq!(waits(&early), Some((Some(at(10)), Wait::Others)));
    assert_eq!(sent(&decide(&group(), &both, at(10))), tells(Why::NewFiring, "+a +b"));
}

#[test]
fn the_shortest_wait_of_a_group_counts() {
    let (a, b) = (firing("a"), firing("b"));
    let mut hasty = candidate(&b);
    hasty.timing.wait_ms = 0;
    assert_eq!(
        sent(&decide(&group(), &[candidate(&a), hasty], at(0))),
        tells(Why::NewFiring, "+a +b")
    );
}

#[test]
fn news_of_a_group_that_was_told_waits_for_the_interval_and_brings_along_what_still_fires() {
    let (a, b) = (told(firing("a")), firing("b"));
    let both = [candidate(&a), candidate(&b)];
    let early = decide(&notified(10), &both, at(11));
    assert_eq!(waits(&early), Some((Some(at(310)), Wait::Interval)));
    assert_eq!(
        sent(&decide(&notified(10), &both, at(310))),
        tells(Why::NewFiring, "+a +b")
    );
}

#[test]
fn a_resolve_is_told_after_the_interval() {
    let a = told(over("a"));
    assert_eq!(
        waits(&decide(&notified(10), &[candidate(&a)], at(300))).unwrap().0,
        Some(at(310))
    );
    assert_eq!(
        sent(&decide(&notified(10), &[candidate(&a)], at(310))),
        tells(Why::Resolved, "-a")
    );
}

#[test]
fn what_was_over_before_it_was_told_is_told_once_as_resolved() {
    let a = over("a");
    assert_eq!(
        sent(&decide(&group(), &[candidate(&a)], at(130))),
        tells(Why::Resolved, "-a")
    );
}

#[test]
fn nothing_new_is_repeated_after_the_repeat_interval() {
    let a = told(firing("a"));
    let early = decide(&notified(10), &[candidate(&a)], at(HOUR));
    assert_eq!(waits(&early), Some((Some(at(10 + 4 * HOUR)), Wait::Repeat)));
    let decision = decide(&notified(10), &[candidate(&a)], at(10 + 4 * HOUR));
    assert_eq!(sent(&decision), tells(Why::Repeat, "+a"));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert_eq!(tell.news.len(), 1, "a repetition is recorded for each alert");
}

#[test]
fn what_is_acknowledged_is_not_repeated_and_that_is_recorded_once() {
    let mut a = told(firing("a"));
    let mut one = candidate(&a);
    one.acknowledged = true;
    let decision = decide(&notified(10), &[one], at(5 * HOUR));
    assert_eq!(waits(&decision), Some((None, Wait::Nothing)));
    assert_eq!(decision.suppress[0].1.as_deref(), Some("acknowledged"));
    a.mark.suppressed = Some("acknowledged".into());
    let mut one = candidate(&a);
    one.acknowledged = true;
    assert!(decide(&notified(10), &[one], at(6 * HOUR)).suppress.is_empty());
}

#[test]
fn one_alert_that_nobody_has_acknowledged_is_repeated_with_the_others() {
    let (a, b) = (told(firing("a")), told(firing("b")));
    let mut taken = candidate(&a);
    taken.acknowledged = true;
    let decision = decide(&notified(10), &[taken, candidate(&b)], at(5 * HOUR));
    assert_eq!(sent(&decision), tells(Why::Repeat, "+a +b"));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert_eq!(tell.news.len(), 1);
}

#[test]
fn an_acknowledged_alert_that_was_never_told_is_told() {
    let a = firing("a");
    let mut one = candidate(&a);
    one.acknowledged = true;
    assert_eq!(sent(&decide(&group(), &[one], at(10))), tells(Why::NewFiring, "+a"));
}

#[test]
fn a_silenced_firing_is_recorded_and_looked_at_when_the_silence_ends() {
    let a = firing("a");
    let decision = decide(&group(), &[silenced(&a, 600)], at(10));
    assert_eq!(waits(&decision), Some((Some(at(600)), Wait::Suppressed)));
    assert_eq!(decision.suppress[0].1.as_deref(), Some("silenced by s"));
}

#[test]
fn a_reason_that_is_known_is_not_recorded_again_and_one_that_is_gone_is_forgotten() {
    let mut a = firing("a");
    a.mark.suppressed = Some("silenced by s".into());
    assert!(decide(&group(), &[silenced(&a, 600)], at(10)).suppress.is_empty());
    let decision = decide(&group(), &[candidate(&a)], at(600));
    assert_eq!(decision.suppress[0].1, None);
    assert_eq!(sent(&decision), tells(Why::NewFiring, "+a"));
}

#[test]
fn what_was_silenced_until_it_was_over_is_settled_untold() {
    let mut a = over("a");
    assert_eq!(
        decide(&group(), &[silenced(&a, 600)], at(10)).settle[0].1,
        Unsaid::Suppressed
    );
    a.mark.suppressed = Some("inhibited by dc_down".into());
    let decision = decide(&group(), &[candidate(&a)], at(10));
    assert_eq!(decision.settle[0].1, Unsaid::Suppressed, "its inhibition ended with it");
    assert_eq!(waits(&decision), Some((None, Wait::Nothing)));
}

#[test]
fn a_silence_never_leaves_a_page_open() {
    let a = told(over("a"));
    assert_eq!(
        sent(&decide(&notified(10), &[silenced(&a, 600)], at(310))),
        tells(Why::Resolved, "-a")
    );
    let mut b = over("b");
    b.mark.maybe_told = true;
    let decision = decide(&group(), &[silenced(&b, 600)], at(310));
    assert_eq!(
        sent(&decision),
        tells(Why::Resolved, "-b"),
        "the answer was lost, the page may be open"
    );
}

#[test]
fn a_resolve_waits_for_the_end_of_a_mute_time() {
    let a = told(over("a"));
    let decision = decide(&notified(10), &[muted(&a, 600)], at(310));
    assert_eq!(waits(&decision), Some((Some(at(600)), Wait::Suppressed)));
    assert!(decision.settle.is_empty());
}

#[test]
fn a_group_is_not_told_to_be_over_while_something_that_was_silenced_still_fires() {
    let (a, b) = (told(firing("a")), told(over("b")));
    let decision = decide(&notified(10), &[silenced(&a, 9_000), candidate(&b)], at(310));
    assert_eq!(sent(&decision), tells(Why::Resolved, "+a -b"));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert_eq!(tell.news.len(), 1, "only the resolve is news");
}

#[test]
fn a_silenced_alert_is_left_out_of_what_others_have_to_tell() {
    let (a, b) = (told(firing("a")), firing("b"));
    let decision = decide(&notified(10), &[silenced(&a, 9_000), candidate(&b)], at(310));
    assert_eq!(sent(&decision), tells(Why::NewFiring, "+b"));
}

#[test]
fn a_channel_that_takes_no_resolves_settles_them() {
    let (a, b) = (told(over("a")), over("b"));
    let mut all = [candidate(&a), candidate(&b)];
    for one in &mut all {
        one.timing.send_resolved = false;
    }
    let decision = decide(&notified(10), &all, at(310));
    let reasons: Vec<Unsaid> = decision.settle.iter().map(|(_, why)| *why).collect();
    assert_eq!(reasons, [Unsaid::ResolveNotWanted, Unsaid::OverBeforeTold]);
    assert_eq!(waits(&decision), Some((None, Wait::Nothing)));
}

#[test]
fn without_a_channel_firings_wait_for_one_and_resolves_are_settled() {
    let (a, b) = (firing("a"), told(over("b")));
    let mut all = [candidate(&a), candidate(&b)];
    for one in &mut all {
        one.verdict.no_channel = Some((Suppression::NoChannel, at(900)));
    }
    let decision = decide(&notified(10), &all, at(310));
    assert_eq!(decision.settle.len(), 1);
    assert_eq!(decision.settle[0].1, Unsaid::NoChannel);
    assert_eq!(decision.suppress[0].1.as_deref(), Some("the channel is not configured"));
    assert_eq!(waits(&decision), Some((Some(at(900)), Wait::Suppressed)));
}

#[test]
fn a_new_beat_is_news_and_an_old_one_is_not_repeated() {
    let fresh = heartbeat(60, Some(0));
    let mut one = candidate(&fresh);
    one.timing.interval_ms = 0;
    assert_eq!(
        sent(&decide(&notified(10), &[one], at(60))),
        tells(Why::Heartbeat, "+beat")
    );
    let known = heartbeat(60, Some(60));
    let decision = decide(&notified(60), &[candidate(&known)], at(9 * HOUR));
    assert_eq!(
        waits(&decision),
        Some((None, Wait::Nothing)),
        "nobody sent a sign of life"
    );
}

#[test]
fn after_a_failure_everything_waits_for_the_next_attempt() {
    let a = firing("a");
    let failing = Group {
        failures: 1,
        not_before: Some(at(70)),
        ..group()
    };
    assert_eq!(
        waits(&decide(&failing, &[candidate(&a)], at(20))),
        Some((Some(at(70)), Wait::Backoff))
    );
    assert_eq!(
        sent(&decide(&failing, &[candidate(&a)], at(70))),
        tells(Why::NewFiring, "+a")
    );
}

fn given_up(member: &Member, seconds: i64) -> Group {
    Group {
        failures: 20,
        given_up: Some(GivenUp {
            at: at(seconds),
            reason: "status 404".into(),
            news: vec![candidate(member).news()],
        }),
        ..group()
    }
}

#[test]
fn what_was_given_up_is_tried_again_after_the_repeat_interval() {
    let a = firing("a");
    let decision = decide(&given_up(&a, 100), &[candidate(&a)], at(200));
    assert_eq!(waits(&decision), Some((Some(at(100 + 4 * HOUR)), Wait::GivenUp)));
    let decision = decide(&given_up(&a, 100), &[candidate(&a)], at(100 + 4 * HOUR));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert!(!tell.afresh, "one attempt");
}

#[test]
fn more_news_has_what_was_given_up_tried_afresh() {
    let (a, b) = (firing("a"), firing("b"));
    let decision = decide(&given_up(&a, 100), &[candidate(&a), candidate(&b)], at(200));
    assert_eq!(sent(&decision), tells(Why::NewFiring, "+a +b"));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert!(tell.afresh);
    let ended = over("a");
    let decision = decide(&given_up(&a, 100), &[candidate(&ended)], at(200));
    assert_eq!(sent(&decision), tells(Why::Resolved, "-a"), "its end is more news");
}

#[test]
fn the_next_beat_is_one_attempt_to_a_receiver_that_was_given_up() {
    let old = heartbeat(60, Some(0));
    let group = given_up(&old, 61);
    let new = heartbeat(120, Some(0));
    let decision = decide(&group, &[candidate(&new)], at(120));
    let Step::Tell(tell) = decision.step else { panic!() };
    assert!(!tell.afresh);
}

#[test]
fn what_is_over_and_was_given_up_is_kept_for_an_operator_and_then_settled() {
    let a = over("a");
    let group = given_up(&a, 200);
    let day = 24 * HOUR;
    assert_eq!(
        waits(&decide(&group, &[candidate(&a)], at(day))),
        Some((Some(at(120 + 14 * day)), Wait::GivenUp))
    );
    let decision = decide(&group, &[candidate(&a)], at(120 + 14 * day));
    assert_eq!(decision.settle[0].1, Unsaid::GivenUp);
}

#[test]
fn more_alerts_than_fit_are_told_in_several_notifications_and_none_is_forgotten() {
    let members: Vec<Member> = (0..1_203).map(|i| firing(&format!("h{i:04}"))).collect();
    let mut told_incidents = std::collections::BTreeSet::new();
    let mut marked = members.clone();
    let mut complete = Vec::new();
    for _ in 0..3 {
        let all: Vec<Candidate<'_>> = marked.iter().map(candidate).collect();
        let Step::Tell(tell) = decide(&group(), &all, at(10)).step else {
            panic!()
        };
        assert!(tell.alerts.len() <= MAX_ALERTS);
        complete.push(tell.complete);
        told_incidents.extend(tell.news.iter().map(|one| one.incident.clone()));
        let news: Vec<String> = tell.news.iter().map(|one| one.incident.clone()).collect();
        for member in &mut marked {
            if news.contains(&member.incident) {
                member.mark.told_at = Some(at(10));
            }
        }
    }
    assert_eq!(complete, [false, false, true]);
    assert_eq!(told_incidents.len(), members.len());
}

#[test]
fn many_ends_do_not_hide_that_something_still_fires() {
    let mut members: Vec<Member> = (0..600).map(|i| told(over(&format!("h{i:04}")))).collect();
    members.push(told(firing("z")));
    let all: Vec<Candidate<'_>> = members.iter().map(candidate).collect();
    let Step::Tell(tell) = decide(&notified(10), &all, at(310)).step else {
        panic!()
    };
    assert_eq!((tell.alerts.len(), tell.news.len(), tell.complete), (500, 499, false));
    assert!(tell.alerts.iter().any(|one| one.over_at.is_none()));
    assert_eq!(tell.left_out, 101);
}

#[test]
fn what_has_begun_again_is_told_to_be_over_with_it() {
    let (first, mut second) = (told(firing("a")), firing("a"));
    second.event.firing_since = at(MINUTE);
    let mut ended = candidate(&first);
    ended.over_at = Some(at(50));
    ended.has_successor = true;
    let decision = decide(&notified(10), &[ended, candidate(&second)], at(310));
    assert_eq!(sent(&decision), tells(Why::NewFiring, "+a -a"));
}

#[test]
fn a_look_that_finds_nothing_due_never_asks_to_look_again_now() {
    let a = firing("a");
    let decision = decide(&group(), &[silenced(&a, 10)], at(10));
    assert_eq!(waits(&decision).unwrap().0, Some(Timestamp(at(10).0 + 1)));
}

#[test]
fn an_end_that_waits_for_its_mute_time_goes_before_what_begins_again_and_is_not_muted() {
    let ended = told(over("a"));
    let mut next = firing("a");
    next.event.firing_since = at(200);
    next.incident = next.event.incident_id();
    let mut waiting = muted(&ended, 600);
    waiting.has_successor = true;
    let decision = decide(&notified(10), &[waiting, candidate(&next)], at(310));
    let Step::Tell(tell) = decision.step else {
        panic!("{:?}", decision.step)
    };
    let kinds: Vec<TransitionKind> = tell.news.iter().map(|news| news.kind).collect();
    assert_eq!(tell.news.len(), 2, "{kinds:?}");
    assert_eq!(tell.alerts[0].member.incident, ended.incident);
}
