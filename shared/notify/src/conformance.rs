//! What every [`LaneStore`] and [`DocumentStore`] must do, as one check that runs against an empty store of any kind. The memory store passes
//! it in this crate's tests, the one on DynamoDB in the tests that have an emulator.

use crate::settings::{Document, MuteTime, Silence};
use crate::store::{
    DocumentStore, Enlisted, GivenUp, Group, InFlight, Lane, LaneStore, Leased, Mark, Member, News, Settled, Told,
    lane_id,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use tidemark_model::{LabelFilter, Labels, Timestamp};
pub use tidemark_rules::conformance::Broken;
use tidemark_rules::store::{PageRequest, Saved};
use tidemark_rules::{RuleSnapshot, Severity, TransitionEvent, TransitionKind, TransitionReason};

fn same<T: PartialEq + Debug>(what: &str, got: &T, wanted: &T) -> Result<(), Broken> {
    if got == wanted {
        Ok(())
    } else {
        Err(Broken::Promise(format!("{what}: got {got:?}, wanted {wanted:?}")))
    }
}

/// So many milliseconds after some moment with a fraction of a second.
fn ms(after: i64) -> Timestamp {
    Timestamp(1_767_268_800_125 + after)
}

fn event(instance: &str, kind: TransitionKind, beat: Option<i64>) -> TransitionEvent {
    let resolved = kind == TransitionKind::Resolved;
    TransitionEvent {
        schema_version: TransitionEvent::SCHEMA_VERSION,
        id: format!("{instance}.{}", kind.as_str()),
        instance_id: instance.to_owned(),
        fingerprint: "f".to_owned(),
        kind,
        reason: TransitionReason::ConditionHeld,
        at: ms(0),
        pending_since: Some(ms(-60_000)),
        firing_since: ms(0),
        resolved_at: resolved.then_some(ms(90_000)),
        value: 0.1,
        labels: Labels::from_pairs([("größe", "3 m²"), ("leer", "")]).unwrap_or_default(),
        annotations: BTreeMap::from([("summary".to_owned(), "a \"quoted\"\nline".to_owned())]),
        rule: RuleSnapshot {
            id: "rule".to_owned(),
            version: 3,
            name: "high cpu".to_owned(),
            query: serde_json::json!({"kind": "heartbeat"}),
            severity: Severity::Critical,
            alert_labels: BTreeMap::new(),
            notification_channels: vec!["ops".into()],
            webhook_url: None,
            repeat_interval_seconds: Some(600),
        },
        beat: beat.map(ms),
        previous: None,
    }
}

/// Checks everything.
///
/// # Errors
/// Names the first promise that is not kept.
pub async fn check(store: &(impl LaneStore + DocumentStore)) -> Result<(), Broken> {
    documents(store).await?;
    pages(store).await?;
    enlisting(store).await?;
    beats(store).await?;
    settling(store).await?;
    groups(store).await?;
    leases(store).await?;
    wakes(store).await
}

fn mute_time(id: &str, version: u64) -> MuteTime {
    MuteTime {
        id: id.to_owned(),
        time_intervals: Vec::new(),
        version,
        created_at: ms(0),
        updated_at: ms(1),
    }
}

async fn documents(store: &impl DocumentStore) -> Result<(), Broken> {
    same(
        "a document that is not there",
        &store.get::<MuteTime>("a").await?,
        &None,
    )?;
    same(
        "nothing to replace",
        &store.put(&mute_time("a", 2), Some(1)).await?,
        &Saved::Conflict,
    )?;
    same(
        "a new document",
        &store.put(&mute_time("a", 1), None).await?,
        &Saved::Saved,
    )?;
    same(
        "a taken id",
        &store.put(&mute_time("a", 1), None).await?,
        &Saved::Conflict,
    )?;
    same(
        "a replacement",
        &store.put(&mute_time("a", 2), Some(1)).await?,
        &Saved::Saved,
    )?;
    same(
        "an old version",
        &store.put(&mute_time("a", 2), Some(1)).await?,
        &Saved::Conflict,
    )?;
    same("a document", &store.get("a").await?, &Some(mute_time("a", 2)))?;
    let silence = Silence {
        id: "a".to_owned(),
        // A pattern and an operator that no object can say.
        matchers: LabelFilter::new([("host", tidemark_model::matcher::MatchOp::NotRegex, "web-.*")])
            .map_err(|error| Broken::Promise(error.to_string()))?,
        starts_at: ms(0),
        ends_at: ms(1),
        created_by: "ana".to_owned(),
        comment: "größe".to_owned(),
        version: 1,
        created_at: ms(0),
        updated_at: ms(0),
    };
    same(
        "kinds do not share ids",
        &store.put(&silence, None).await?,
        &Saved::Saved,
    )?;
    same("a silence", &store.get("a").await?, &Some(silence))?;
    same(
        "an old version is not deleted",
        &store.delete::<MuteTime>("a", 1).await?,
        &Saved::Conflict,
    )?;
    same("deleted", &store.delete::<MuteTime>("a", 2).await?, &Saved::Saved)?;
    same(
        "deleted twice",
        &store.delete::<MuteTime>("a", 2).await?,
        &Saved::Conflict,
    )?;
    same("other kinds stay", &store.get::<Silence>("a").await?.is_some(), &true)
}

async fn pages(store: &impl DocumentStore) -> Result<(), Broken> {
    for id in ["c", "a", "b-1", "b"] {
        store.put(&mute_time(id, 1), None).await?;
    }
    let ids = |all: &[MuteTime]| -> Vec<String> { all.iter().map(|one| one.id().to_owned()).collect() };
    same(
        "all of a kind",
        &ids(&store.load().await?),
        &["a", "b", "b-1", "c"].map(str::to_owned).to_vec(),
    )?;
    let mut seen = Vec::new();
    let mut page = PageRequest { limit: 3, after: None };
    loop {
        let found = store.list::<MuteTime>(&page).await?;
        seen.extend(ids(&found.items));
        let Some(next) = found.next else { break };
        page.after = Some(next);
    }
    same("all pages", &seen, &["a", "b", "b-1", "c"].map(str::to_owned).to_vec())
}

async fn member(store: &impl LaneStore, lane: &str, incident: &str) -> Result<Option<Member>, Broken> {
    let content = store.content(lane).await?;
    let members = content.into_iter().flat_map(|content| content.members);
    Ok(members.into_iter().find(|member| member.incident == incident))
}

async fn enlisting(store: &impl LaneStore) -> Result<(), Broken> {
    let lane = &lane_id("ops/größe", None);
    same("a lane that is not there", &store.content(lane).await?, &None)?;
    same("a head that is not there", &store.lane(lane).await?, &None)?;
    let firing = event("i1", TransitionKind::Firing, None);
    let incident = firing.incident_id();
    same(
        "a new firing",
        &store.enlist(lane, &firing, ms(10)).await?,
        &Enlisted::InLane,
    )?;
    let as_new = Member {
        incident: incident.clone(),
        event: firing.clone(),
        enlisted_at: ms(10),
        mark: Mark::default(),
    };
    same(
        "a new member",
        &member(store, lane, &incident).await?,
        &Some(as_new.clone()),
    )?;
    same(
        "the same again",
        &store.enlist(lane, &firing, ms(99)).await?,
        &Enlisted::InLane,
    )?;
    same(
        "nothing changes",
        &member(store, lane, &incident).await?,
        &Some(as_new.clone()),
    )?;
    let mark = Mark {
        told_at: Some(ms(11)),
        told_beat: Some(ms(12)),
        suppressed: Some("silenced by größe".to_owned()),
        group: Some("g1".to_owned()),
        maybe_told: true,
    };
    store.mark(lane, &incident, &mark).await?;
    store.mark(lane, "no such member", &mark).await?;
    same(
        "no member by a mark",
        &member(store, lane, "no such member").await?,
        &None,
    )?;
    let resolve = event("i1", TransitionKind::Resolved, None);
    same(
        "its resolve",
        &store.enlist(lane, &resolve, ms(20)).await?,
        &Enlisted::InLane,
    )?;
    let over = Member {
        event: resolve.clone(),
        mark: mark.clone(),
        ..as_new
    };
    same(
        "the event is replaced and the mark kept",
        &member(store, lane, &incident).await?,
        &Some(over.clone()),
    )?;
    store.enlist(lane, &firing, ms(30)).await?;
    same(
        "a firing after its resolve changes nothing",
        &member(store, lane, &incident).await?,
        &Some(over),
    )?;
    let unheard = event("i2", TransitionKind::Resolved, None);
    store.enlist(lane, &unheard, ms(20)).await?;
    let found = member(store, lane, &unheard.incident_id()).await?;
    same("a resolve makes a member", &found.map(|one| one.event), &Some(unheard))?;
    let content = store.content(lane).await?;
    let incidents: Vec<String> = content
        .into_iter()
        .flat_map(|all| all.members)
        .map(|one| one.incident)
        .collect();
    same("members in order", &incidents.is_sorted(), &true)?;
    same("each once", &incidents.len(), &2)
}

async fn beats(store: &impl LaneStore) -> Result<(), Broken> {
    let lane = &lane_id("beats", None);
    let beat = |at| event("i1", TransitionKind::Firing, Some(at));
    let incident = beat(0).incident_id();
    for (enlisted, stands) in [(5, 5), (4, 5), (5, 5), (6, 6)] {
        store.enlist(lane, &beat(enlisted), ms(0)).await?;
        let found = member(store, lane, &incident).await?.and_then(|one| one.event.beat);
        same("the latest beat", &found, &Some(ms(stands)))?;
    }
    store
        .enlist(lane, &event("i1", TransitionKind::Firing, None), ms(0))
        .await?;
    let found = member(store, lane, &incident).await?.and_then(|one| one.event.beat);
    same("a firing does not replace a beat", &found, &Some(ms(6)))?;
    store
        .enlist(lane, &event("i1", TransitionKind::Resolved, None), ms(0))
        .await?;
    store.enlist(lane, &beat(7), ms(0)).await?;
    let found = member(store, lane, &incident).await?.map(|one| one.is_resolved());
    same("no beat replaces a resolve", &found, &Some(true))?;
    let lane = &lane_id("beats-2", None);
    store
        .enlist(lane, &event("i1", TransitionKind::Firing, None), ms(0))
        .await?;
    store.enlist(lane, &beat(1), ms(0)).await?;
    let found = member(store, lane, &incident).await?.and_then(|one| one.event.beat);
    same("a beat replaces a firing", &found, &Some(ms(1)))
}

async fn settling(store: &impl LaneStore) -> Result<(), Broken> {
    let (lane, other) = (&lane_id("settling", None), &lane_id("settling", Some("rule")));
    let firing = event("i1", TransitionKind::Firing, None);
    let incident = firing.incident_id();
    store.enlist(lane, &firing, ms(0)).await?;
    store.enlist(other, &firing, ms(0)).await?;
    same("not settled", &store.settled(lane, &incident).await?, &None)?;
    store.settle(lane, &incident, &Settled::Told, ms(1)).await?;
    store.settle(lane, &incident, &Settled::Told, ms(1)).await?;
    same("settled", &store.settled(lane, &incident).await?, &Some(Settled::Told))?;
    same("its member is gone", &member(store, lane, &incident).await?, &None)?;
    for kind in [TransitionKind::Firing, TransitionKind::Resolved] {
        let late = store.enlist(lane, &event("i1", kind, None), ms(2)).await?;
        same("what is settled stays out", &late, &Enlisted::Settled)?;
    }
    same(
        "a beat as well",
        &store
            .enlist(lane, &event("i1", TransitionKind::Firing, Some(9)), ms(2))
            .await?,
        &Enlisted::Settled,
    )?;
    same("no member again", &member(store, lane, &incident).await?, &None)?;
    same("other lanes are apart", &store.settled(other, &incident).await?, &None)?;
    same(
        "and keep their members",
        &member(store, other, &incident).await?.is_some(),
        &true,
    )?;
    let untold = Settled::Untold {
        reason: "silenced by größe".to_owned(),
    };
    store.settle(other, "without a member", &untold, ms(1)).await?;
    same(
        "with a reason",
        &store.settled(other, "without a member").await?,
        &Some(untold),
    )
}

fn group(id: &str, version: u64) -> Group {
    let news = vec![News {
        incident: "i".to_owned(),
        kind: TransitionKind::Firing,
        beat: Some(ms(3)),
    }];
    Group {
        id: id.to_owned(),
        key: "{}:{größe=\"a \\\"b\\\"\"}".to_owned(),
        labels: BTreeMap::from([("größe".to_owned(), String::new())]),
        notified_at: Some(ms(4)),
        in_flight: Some(InFlight {
            notification_id: "n".to_owned(),
            at: ms(5),
            news: news.clone(),
        }),
        told: Some(Told {
            notification_id: "n".to_owned(),
            attempt: 2,
            at: ms(6),
            news: news.clone(),
        }),
        failures: 3,
        not_before: Some(ms(7)),
        given_up: Some(GivenUp {
            at: ms(8),
            reason: "status 404".to_owned(),
            news,
        }),
        version,
    }
}

async fn groups(store: &impl LaneStore) -> Result<(), Broken> {
    let lane = &lane_id("groups", None);
    same(
        "nothing to replace",
        &store.save_group(lane, &group("b", 2), Some(1)).await?,
        &Saved::Conflict,
    )?;
    // Versions may begin anywhere.
    let first = 1_767_268_800_125;
    same(
        "a new group",
        &store.save_group(lane, &group("b", first), None).await?,
        &Saved::Saved,
    )?;
    same(
        "a taken id",
        &store.save_group(lane, &group("b", first), None).await?,
        &Saved::Conflict,
    )?;
    same(
        "its next version",
        &store.save_group(lane, &group("b", first + 1), Some(first)).await?,
        &Saved::Saved,
    )?;
    same(
        "an old version",
        &store.save_group(lane, &group("b", first + 1), Some(first)).await?,
        &Saved::Conflict,
    )?;
    store.save_group(lane, &group("a", 1), None).await?;
    let found = store.content(lane).await?.map(|content| content.groups);
    same(
        "groups in order",
        &found,
        &Some(vec![group("a", 1), group("b", first + 1)]),
    )?;
    same(
        "an old version is not removed",
        &store.remove_group(lane, "b", first).await?,
        &Saved::Conflict,
    )?;
    same(
        "removed",
        &store.remove_group(lane, "b", first + 1).await?,
        &Saved::Saved,
    )?;
    same(
        "removed twice",
        &store.remove_group(lane, "b", first + 1).await?,
        &Saved::Conflict,
    )?;
    let found = store.content(lane).await?.map(|content| content.groups.len());
    same("the other one stays", &found, &Some(1))
}

async fn leases(store: &impl LaneStore) -> Result<(), Broken> {
    let lane = &lane_id("leases", None);
    same(
        "a lease",
        &store.lease(lane, "one", ms(0), ms(100)).await?,
        &Leased::Taken,
    )?;
    let held = Leased::Held { until: ms(100) };
    same(
        "a lane that is held",
        &store.lease(lane, "two", ms(99), ms(199)).await?,
        &held,
    )?;
    let head = Lane {
        leased_until: Some(ms(100)),
        wake_at: Some(ms(100)),
        ..Lane::new(lane)
    };
    same("the head of a held lane", &store.lane(lane).await?, &Some(head.clone()))?;
    let left = Lane {
        wake_at: Some(ms(500)),
        not_before: Some(ms(400)),
        tokens: 2.5,
        tokens_at: Some(ms(50)),
        ..head
    };
    same(
        "somebody else's lease",
        &store.release("two", &left).await?,
        &Saved::Conflict,
    )?;
    same("its end", &store.release("one", &left).await?, &Saved::Saved)?;
    same("ended twice", &store.release("one", &left).await?, &Saved::Conflict)?;
    let free = Lane {
        leased_until: None,
        ..left
    };
    same("the head of a free lane", &store.lane(lane).await?, &Some(free.clone()))?;
    same(
        "the head in the content",
        &store.content(lane).await?.map(|all| all.lane),
        &Some(free.clone()),
    )?;
    same(
        "taken again",
        &store.lease(lane, "three", ms(60), ms(160)).await?,
        &Leased::Taken,
    )?;
    same(
        "after its end it is free",
        &store.lease(lane, "four", ms(160), ms(260)).await?,
        &Leased::Taken,
    )?;
    same(
        "too late to release",
        &store.release("three", &free).await?,
        &Saved::Conflict,
    )?;
    let nothing = Lane::new(lane);
    same(
        "nothing to come",
        &store.release("four", &nothing).await?,
        &Saved::Saved,
    )?;
    same("an empty head", &store.lane(lane).await?, &Some(nothing))
}

async fn wakes(store: &impl LaneStore) -> Result<(), Broken> {
    let lane = &lane_id("wakes", Some("rule"));
    for (asked, stands) in [(1_000, 1_000), (2_000, 1_000), (500, 500)] {
        store.wake_by(lane, ms(asked)).await?;
        let wake_at = store.lane(lane).await?.and_then(|head| head.wake_at);
        same("the earliest wake", &wake_at, &Some(ms(stands)))?;
    }
    same(
        "not overdue at its time",
        &store.overdue(ms(500)).await?.contains(lane),
        &false,
    )?;
    same("overdue", &store.overdue(ms(501)).await?.contains(lane), &true)?;
    store.lease(lane, "one", ms(600), ms(900)).await?;
    same("looked after", &store.overdue(ms(900)).await?.contains(lane), &false)?;
    same("its holder died", &store.overdue(ms(901)).await?.contains(lane), &true)?;
    store.wake_by(lane, ms(700)).await?;
    let head = store.lane(lane).await?.unwrap_or_else(|| Lane::new(lane));
    same(
        "an earlier wake of a held lane",
        &(head.wake_at, head.leased_until),
        &(Some(ms(700)), Some(ms(900))),
    )?;
    store.release("one", &Lane::new(lane)).await?;
    same(
        "nothing to come is never overdue",
        &store.overdue(ms(i64::from(u32::MAX))).await?.contains(lane),
        &false,
    )
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_memory_store_keeps_its_promises() {
        super::check(&crate::MemoryNotifyStore::new()).await.unwrap();
    }
}
