//! Instances: one alert of one rule each.

use crate::answers::{list as list_page, optional_json, page_request, refused};
use crate::backends::Backends;
use crate::handler::Admin;
use crate::rules;
use serde::Serialize;
use tidemark_http::{Answer, Call, json};
use tidemark_model::Timestamp;
use tidemark_notify::DocumentStore;
use tidemark_notify::settings::Silence;
use tidemark_notify::suppress::{Suppression, silenced};
use tidemark_rules::instance::InstanceView;
use tidemark_rules::manage::{self, ManageError, Note};
use tidemark_rules::store::InstanceFilter;
use tidemark_rules::{AlertStore, Instance};
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_wire::ApiError;

/// An instance as it is answered.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    instance: InstanceView<'a>,
    /// The ids of the silences that mute it now.
    silenced_by: Vec<String>,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(instance: &'a Instance, silences: &[Silence], now: Timestamp) -> Self {
        let muted = instance
            .state
            .is_active()
            .then(|| silenced(silences, &instance.rule.alert_labels(&instance.labels), now));
        let silenced_by = match muted.flatten() {
            Some((Suppression::Silenced { by }, _)) => by,
            _ => Vec::new(),
        };
        Self {
            instance: instance.view(),
            silenced_by,
        }
    }
}

pub(crate) async fn list<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let state = call
        .parameter("state")
        .map(|state| state.parse().map_err(|e| invalid("state", format!("{e}"))));
    let filter = InstanceFilter {
        states: state.transpose()?.into_iter().collect(),
        rule_id: match call.parameter("rule") {
            Some(rule) => Some(rules::id_of(&admin.alerts, rule).await?),
            None => None,
        },
    };
    page(admin, call, filter).await
}

pub(crate) async fn list_active<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    page(admin, call, InstanceFilter::active()).await
}

async fn page<B: Backends>(admin: &Admin<B>, call: &Call, filter: InstanceFilter) -> Result<Answer, ApiError> {
    let page = page_request(call)?;
    let read = futures::try_join!(
        admin.alerts.list_instances(&filter, &page),
        admin.settings.load::<Silence>()
    );
    let (found, silences) = read.map_err(|failed| store_failed(&failed))?;
    let now = admin.now();
    let shown = found
        .items
        .iter()
        .map(|instance| (instance.id.clone(), Shown::new(instance, &silences, now)));
    Ok(list_page("instances", shown, found.next))
}

/// Resolves by hand; `{"by", "comment"}` may say who and why.
pub(crate) async fn resolve<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let note = Note::parse(&optional_json(call)?).map_err(|field| refused(field.into()))?;
    let now = admin.now();
    let resolved = manage::resolve_instance(&admin.alerts, &admin.topic, id, note.by, note.comment, now).await;
    changed(admin, resolved).await
}

/// Notes who takes care of it: `{"by", "comment"}`.
pub(crate) async fn acknowledge<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let note = Note::parse(&call.json()?).map_err(|field| refused(field.into()))?;
    let by = note.author().map_err(|field| refused(field.into()))?;
    let comment = note.comment.as_deref();
    let now = admin.now();
    let noted = manage::acknowledge_instance(&admin.alerts, &admin.topic, id, by, comment, now).await;
    changed(admin, noted).await
}

async fn changed<B: Backends>(admin: &Admin<B>, changed: Result<Instance, ManageError>) -> Result<Answer, ApiError> {
    let instance = changed.map_err(refused)?;
    let silences = admin.settings.load::<Silence>().await;
    let silences = silences.map_err(|failed| store_failed(&failed))?;
    Ok(json(200, &Shown::new(&instance, &silences, admin.now())))
}
