//! A silence, and the history of all that happened to the alert.

use super::alert::{RULE_NAME, Watch};
use super::api::{Api, list};
use super::listener::Listener;
use super::screen::cell;
use super::{Screen, poll};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::time::Duration;

const HISTORY: &str = "/api/v1/alerts/history";

/// Who made the silences of this program.
const AUTHOR: &str = "demo";

/// Ends the silences of a run that did not come to its end.
pub(crate) async fn end_leftovers(screen: &Screen, api: &Api) -> anyhow::Result<()> {
    let active = api
        .get("/api/v1/alerts/silences", &[("state", "active"), ("limit", "1000")])
        .await?;
    let ours = list(&active, "silences")?
        .iter()
        .filter(|silence| silence["created_by"] == AUTHOR);
    for id in ours.filter_map(|silence| silence["id"].as_str()) {
        end(screen, api, id).await?;
    }
    Ok(())
}

/// Silences the alert of the troubled host; returns the silence's id.
pub(crate) async fn create(screen: &Screen, api: &Api, watch: &Watch) -> anyhow::Result<String> {
    let silence = json!({
        "matchers": format!("{{alertname=\"{RULE_NAME}\", host=\"{}\"}}", watch.host),
        "duration_seconds": 600, "created_by": AUTHOR, "comment": "the fan is being replaced",
    });
    screen.asked(&format!("POST /api/v1/alerts/silences {silence}"));
    let created = api.post("/api/v1/alerts/silences", &silence).await?;
    screen.line(&format!(
        "  {} until {}",
        cell(&created["state"]),
        cell(&created["ends_at"])
    ));
    let id = created["id"].as_str().context("the silence has no id")?;
    Ok(id.to_owned())
}

/// Waits until the history says that the silenced alert was not told, and checks that it was not.
pub(crate) async fn until_suppressed(
    screen: &Screen,
    api: &Api,
    watch: &Watch,
    listener: &Listener,
) -> anyhow::Result<()> {
    let entry = poll("a suppressed notification", Duration::from_millis(200), async || {
        let history = of_rule(api, watch).await?;
        Ok(history.into_iter().find(|entry| entry["event"] == "suppressed"))
    })
    .await?;
    screen.event(&format!(
        "not told to {}: {}",
        cell(&entry["channel"]),
        cell(&entry["reason"])
    ));
    let told = listener.count(|body| body["status"] == "firing" && watch.alert_in(body).is_some());
    ensure!(told == 1, "{told} firings were told, and one of them was silenced");
    Ok(())
}

/// Ends the silence, so that the next run of the demo is heard.
pub(crate) async fn end(screen: &Screen, api: &Api, id: &str) -> anyhow::Result<()> {
    screen.asked(&format!("DELETE /api/v1/alerts/silences/{id}"));
    let ended = api.delete(&format!("/api/v1/alerts/silences/{id}")).await?;
    screen.line(&format!("  {}", cell(&ended["state"])));
    Ok(())
}

/// Shows what happened to the alert of the troubled host, the oldest first.
pub(crate) async fn history(screen: &Screen, api: &Api, watch: &Watch) -> anyhow::Result<()> {
    let mut entries = of_rule(api, watch).await?;
    entries.retain(|entry| entry["labels"]["host"] == watch.host);
    entries.reverse();
    screen.asked(&format!("GET {HISTORY}?rule={RULE_NAME}"));
    let rows: Vec<Vec<String>> = entries
        .iter()
        .map(|entry| {
            let what = ["reason", "outcome"].map(|field| cell(&entry[field])).concat();
            vec![
                cell(&entry["at"]),
                cell(&entry["event"]),
                cell(&entry["state"]),
                cell(&entry["channel"]),
                what,
            ]
        })
        .collect();
    screen.table(&["at", "event", "state", "channel", "how"], &rows);
    let sent = entries.iter().filter(|entry| entry["outcome"] == "sent").count();
    ensure!(
        sent == 2,
        "a firing and its end were told, and the history has {sent} of them"
    );
    Ok(())
}

async fn of_rule(api: &Api, watch: &Watch) -> anyhow::Result<Vec<Value>> {
    let page = api.get(HISTORY, &[("rule", &watch.rule_id), ("limit", "1000")]).await?;
    Ok(list(&page, "history")?.clone())
}
