//! Silences.

use crate::answers::{bad_field, list as list_page, not_set, page_request, random_id};
use crate::backends::Backends;
use crate::handler::Admin;
use crate::instances::Shown as ShownInstance;
use serde::Serialize;
use serde_json::{Value, json};
use tidemark_http::{Answer, Call, json as answer};
use tidemark_model::{Timestamp, limits};
use tidemark_notify::DocumentStore;
use tidemark_notify::manage::{self, SilenceState};
use tidemark_notify::settings::{Silence, matchers};
use tidemark_notify::suppress::preview as muted;
use tidemark_rules::rule::fields;
use tidemark_rules::store::{InstanceFilter, PageRequest};
use tidemark_rules::{AlertStore, Instance, InstanceState};
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_wire::ApiError;

/// A silence as it is answered.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    silence: Silence,
    state: SilenceState,
}

impl Shown {
    fn new(silence: Silence, now: Timestamp) -> Self {
        let state = SilenceState::of(&silence, now);
        Self { silence, state }
    }
}

pub(crate) async fn list<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let state: Option<SilenceState> = call
        .parameter("state")
        .map(|state| state.parse().map_err(|e| invalid("state", format!("{e}"))))
        .transpose()?;
    let page = page_request(call)?;
    let silences = admin.settings.load::<Silence>().await;
    let silences = silences.map_err(|failed| store_failed(&failed))?;
    let now = admin.now();
    let mut left = silences
        .into_iter()
        .filter(|silence| page.after.as_ref().is_none_or(|after| silence.id > *after))
        .map(|silence| Shown::new(silence, now))
        .filter(|shown| state.is_none_or(|state| shown.state == state));
    let taken: Vec<Shown> = left.by_ref().take(page.limit).collect();
    let next = left.next().and(taken.last()).map(|last| last.silence.id.clone());
    let items = taken.into_iter().map(|shown| (shown.silence.id.clone(), shown));
    Ok(list_page("silences", items, next))
}

pub(crate) async fn create<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let now = admin.now();
    let id = || random_id("silence");
    let created = manage::create_silence(&admin.settings, &call.json()?, id, now).await;
    Ok(answer(201, &Shown::new(created.map_err(not_set)?, now)))
}

pub(crate) async fn get<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let silence = manage::get_silence(&admin.settings, id).await.map_err(not_set)?;
    Ok(answer(200, &Shown::new(silence, admin.now())))
}

pub(crate) async fn replace<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let now = admin.now();
    let replaced = manage::replace_silence(&admin.settings, id, &call.json()?, now).await;
    Ok(answer(200, &Shown::new(replaced.map_err(not_set)?, now)))
}

/// Ends it now. It stays to be looked at, and so it is answered.
pub(crate) async fn expire<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let now = admin.now();
    let expired = manage::expire_silence(&admin.settings, id, now).await;
    Ok(answer(200, &Shown::new(expired.map_err(not_set)?, now)))
}

/// What a silence with such matchers would mute now: the counts of all, and as many instances as a page may have.
pub(crate) async fn preview<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    let matchers = fields::object(&body)
        .and_then(|object| fields::required(object, "matchers"))
        .and_then(matchers)
        .map_err(|field| bad_field(&field))?;
    let read = futures::try_join!(active_instances(&admin.alerts), admin.settings.load::<Silence>());
    let (instances, silences) = read.map_err(|failed| store_failed(&failed))?;
    let muted = muted(&matchers, &instances);
    let firing = muted.iter().filter(|one| one.state == InstanceState::Firing).count();
    let now = admin.now();
    let mut shown: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for instance in muted.iter().take(limits::MAX_PAGE_SIZE) {
        let one = json!(ShownInstance::new(instance, &silences, now));
        bytes += one.to_string().len() + 1;
        if bytes > limits::MAX_RESPONSE_BYTES {
            break;
        }
        shown.push(one);
    }
    Ok(answer(
        200,
        &json!({
            "matchers": matchers,
            "active": muted.len(),
            "firing": firing,
            "truncated": shown.len() < muted.len(),
            "instances": shown,
        }),
    ))
}

/// All that are pending or fire.
async fn active_instances(alerts: &impl AlertStore) -> Result<Vec<Instance>, StoreError> {
    let filter = InstanceFilter::active();
    let mut all = Vec::new();
    let mut request = PageRequest {
        limit: limits::MAX_PAGE_SIZE,
        after: None,
    };
    loop {
        let page = alerts.list_instances(&filter, &request).await?;
        all.extend(page.items);
        match page.next {
            Some(next) => request.after = Some(next),
            None => return Ok(all),
        }
    }
}
