//! What must hold whenever a receiver takes something.

use crate::facts::{KNOWN_MS, Reason, channel_of};
use crate::sim::{BEGIN_MS, MAX_SKEW_MS};
use crate::truth::{Arriving, Incident, Told, Truth};
use tidemark_model::Timestamp;
use tidemark_notify::Cause;
use tidemark_rules::TransitionKind;
use tidemark_rules::instance::incident_id;

/// How long after it was decided a notification may be taken: it may be begun for 35 s, and takes up to 10 s.
const UNDER_WAY_MS: i64 = 45_000;

impl Truth {
    /// Everything that is wrong with a notification.
    pub(crate) fn wrongs(&self, arriving: &Arriving<'_>, news: &[(String, TransitionKind)]) -> Vec<String> {
        let nothing = Told::default();
        let told = self.lanes.get(arriving.lane).unwrap_or(&nothing);
        let mut wrongs = Vec::new();
        let mut has_news = false;
        for (alert, (id, kind)) in arriving.notification.alerts.iter().zip(news) {
            let Some(incident) = self.incidents.get(id) else {
                wrongs.push(format!("{id} never fired"));
                continue;
            };
            let name = channel_of(arriving.lane).unwrap_or("webhook");
            if !incident
                .rule
                .notification_channels
                .iter()
                .any(|used| used.channel == name)
            {
                wrongs.push(format!("{id} is not for this channel"));
            }
            if *kind == TransitionKind::Resolved {
                let at = incident.resolved.map(|(at, _)| at);
                // Whoever knows only that it has begun again knows that this one is over, and not exactly since when.
                let is_later = |ends_at: Timestamp| at.is_some_and(|at| at <= ends_at);
                if at.is_none() || !alert.ends_at.is_some_and(is_later) {
                    wrongs.push(format!("{id} is told to have ended {:?}, it did {at:?}", alert.ends_at));
                }
            }
            wrongs.extend(self.out_of_order(told, id, *kind));
            let earlier = told.tellings.get(&(id.clone(), *kind)).map_or(&[][..], Vec::as_slice);
            let is_news = earlier.iter().all(|&at| told.takes[at].may_be_repeated());
            has_news |= is_news;
            if !is_news && *kind == TransitionKind::Resolved {
                wrongs.push(format!(
                    "{id} was told to be resolved before, in {}",
                    told.names(earlier)
                ));
            }
            if earlier.is_empty() {
                wrongs.extend(
                    self.against(arriving, told, incident, *kind)
                        .map(|why| format!("{id} {why}")),
                );
            }
        }
        match arriving.notification.cause {
            Cause::Change if !has_news => {
                let told_in: Vec<String> = news
                    .iter()
                    .filter_map(|one| told.tellings.get(one))
                    .map(|takes| told.names(takes))
                    .collect();
                wrongs.push(format!("it tells nothing new, all was in {told_in:?}"));
            }
            Cause::Repeat => wrongs.extend(self.repeated_too_soon(arriving, told, news)),
            _ => {}
        }
        wrongs
    }

    /// What was told before must not have come before this.
    fn out_of_order(&self, told: &Told, id: &str, kind: TransitionKind) -> Option<String> {
        let was_told = |id: &str, kind| told.tellings.contains_key(&(id.to_owned(), kind));
        if kind == TransitionKind::Firing && was_told(id, TransitionKind::Resolved) {
            return Some(format!("{id} is told to fire after it was told to be over"));
        }
        let incident = self.incidents.get(id)?;
        let all = self.by_instance.get(&incident.instance_id)?;
        let takes = |id: &str, kind| told.tellings.get(&(id.to_owned(), kind)).map_or(&[][..], Vec::as_slice);
        // What told both at once, and comes again because its answer was lost, tells the older first both times.
        let with_it = takes(id, kind);
        for other in all.iter().skip_while(|other| *other != id).skip(1) {
            let others = [TransitionKind::Firing, TransitionKind::Resolved];
            let mut before = others.iter().flat_map(|kind| takes(other, *kind));
            if before.any(|take| !with_it.contains(take)) {
                return Some(format!(
                    "{id} is told to be {} after its successor {other}",
                    kind.as_str()
                ));
            }
        }
        None
    }

    /// What spoke against telling this at all, for as long as the sender can have known.
    fn against(
        &self,
        arriving: &Arriving<'_>,
        told: &Told,
        incident: &Incident,
        kind: TransitionKind,
    ) -> Option<String> {
        let (from, to) = (arriving.begun_ms - KNOWN_MS, arriving.now_ms + MAX_SKEW_MS);
        // What may have been told before is told again, whatever was set in the meantime.
        if from < BEGIN_MS || arriving.again {
            return None;
        }
        let about = incident.about();
        let always = |any: &[Reason]| self.timeline.always(about, arriving.lane, any, from, to);
        if always(&[Reason::NoChannel]) || (arriving.channel.is_none() && arriving.lane.starts_with("channel#")) {
            return Some("is told to a channel that there is not".to_owned());
        }
        if always(&[Reason::Muted]) {
            return Some("is told in a mute time".to_owned());
        }
        // Who is told that something is over may have to be told of what fires on, and may know of it already.
        let id = incident_id(&incident.instance_id, incident.since);
        let is_known = told.perhaps.get(&id).is_some_and(|&count| count > 1);
        if kind == TransitionKind::Firing && !is_known && always(&[Reason::Silenced, Reason::Inhibited, Reason::Muted])
        {
            return Some("is told although it is silenced or inhibited".to_owned());
        }
        if kind == TransitionKind::Resolved && always(&[Reason::NoResolves]) {
            return Some("is told to be over, which the channel does not want".to_owned());
        }
        None
    }

    fn repeated_too_soon(
        &self,
        arriving: &Arriving<'_>,
        told: &Told,
        news: &[(String, TransitionKind)],
    ) -> Option<String> {
        let incidents: Vec<&Incident> = news.iter().filter_map(|(id, _)| self.incidents.get(id)).collect();
        let long_ago = arriving.begun_ms - KNOWN_MS;
        let all_acknowledged = incidents
            .iter()
            .all(|incident| incident.acknowledged_ms.is_some_and(|at| at < long_ago));
        if all_acknowledged {
            return Some("it repeats what was acknowledged".to_owned());
        }
        let last = told
            .takes
            .iter()
            .rev()
            .find(|take| take.recorded && take.group_key == arriving.notification.group_key)?;
        let shortest = self
            .timeline
            .during(last.at_ms - KNOWN_MS, arriving.now_ms)
            .flat_map(|facts| {
                incidents
                    .iter()
                    .map(|incident| facts.repeat_ms(&incident.rule, arriving.lane))
            })
            .min()?;
        let passed = arriving.now_ms - last.at_ms;
        (passed + UNDER_WAY_MS + 2 * MAX_SKEW_MS < shortest).then(|| format!("it is repeated after {passed} ms"))
    }
}
