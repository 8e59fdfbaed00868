//! Channels.

use crate::answers::{list as list_page, not_set, page_request, random_id};
use crate::backends::Backends;
use crate::handler::Admin;
use serde::Serialize;
use serde_json::json;
use tidemark_http::{Answer, Call, json as answer, no_content};
use tidemark_notify::manage::{self, ManageError, Names};
use tidemark_notify::{Channel, Deliver, DocumentStore, Notification, Target};
use tidemark_rules::TransitionKind;
use tidemark_tsdb::answer::store_failed;
use tidemark_wire::ApiError;

/// A channel as it is answered, with what its author should know.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    channel: Channel,
    /// Sentences; left out when there is none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Shown {
    fn new(channel: Channel, names: &Names) -> Self {
        let warnings = names.missing_of_channel(&channel.spec);
        Self { channel, warnings }
    }
}

pub(crate) async fn list<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let page = page_request(call)?;
    let read = futures::try_join!(admin.settings.list::<Channel>(&page), Names::load(&admin.settings));
    let (channels, names) = read.map_err(|failed| store_failed(&failed))?;
    let shown = channels
        .items
        .into_iter()
        .map(|channel| (channel.id.clone(), Shown::new(channel, &names)));
    Ok(list_page("channels", shown, channels.next))
}

pub(crate) async fn create<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let created = manage::create(&admin.settings, &call.json()?, admin.now()).await;
    show(admin, 201, created).await
}

pub(crate) async fn get<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    show(admin, 200, manage::get(&admin.settings, id).await).await
}

pub(crate) async fn replace<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let replaced = manage::replace(&admin.settings, id, &call.json()?, admin.now()).await;
    show(admin, 200, replaced).await
}

pub(crate) async fn patch<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let patched = manage::patch_channel(&admin.settings, id, &call.json()?, admin.now()).await;
    show(admin, 200, patched).await
}

pub(crate) async fn delete<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let deleted = manage::delete::<Channel>(&admin.settings, &admin.alerts, id).await;
    deleted.map_err(not_set)?;
    Ok(no_content())
}

async fn show<B: Backends>(
    admin: &Admin<B>,
    status: u16,
    channel: Result<Channel, ManageError>,
) -> Result<Answer, ApiError> {
    let channel = channel.map_err(not_set)?;
    let names = Names::load(&admin.settings).await;
    let names = names.map_err(|failed| store_failed(&failed))?;
    Ok(answer(status, &Shown::new(channel, &names)))
}

/// Sends one made-up alert and, where the channel tells resolves, that it is over, so that nothing stays open at the receiver. A receiver
/// that takes it not is an answer and no error: that is what was asked.
pub(crate) async fn test<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let channel: Channel = manage::get(&admin.settings, id).await.map_err(not_set)?;
    let mut told = vec![TransitionKind::Firing];
    if channel.spec.routing.send_resolved != Some(false) {
        told.push(TransitionKind::Resolved);
    }
    let begun = random_id("test");
    for status in told {
        let notification = Notification::test(id, &format!("{begun}.{}", status.as_str()), status, admin.now());
        let target = Target::Channel(&channel.spec);
        if let Err(failure) = admin.sender.deliver(target, &notification, admin.now()).await {
            let error = failure.to_string();
            return Ok(answer(200, &json!({"delivered": false, "error": error})));
        }
    }
    Ok(answer(200, &json!({"delivered": true})))
}
