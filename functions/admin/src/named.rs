//! What is the same for inhibitions and mute times: lists, and documents under the names that their authors chose.

use crate::answers::{list as list_page, not_set, page_request};
use crate::backends::Backends;
use crate::handler::Admin;
use tidemark_http::{Answer, Call, json, no_content};
use tidemark_notify::DocumentStore;
use tidemark_notify::manage::{self, Named};
use tidemark_tsdb::answer::store_failed;
use tidemark_wire::ApiError;

pub(crate) async fn list<T: Named, B: Backends>(admin: &Admin<B>, call: &Call, noun: &str) -> Result<Answer, ApiError> {
    let found = admin.settings.list::<T>(&page_request(call)?).await;
    let found = found.map_err(|failed| store_failed(&failed))?;
    let shown = found.items.into_iter().map(|one| (one.id().to_owned(), one));
    Ok(list_page(noun, shown, found.next))
}

pub(crate) async fn create<T: Named, B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let created = manage::create::<T>(&admin.settings, &call.json()?, admin.now()).await;
    Ok(json(201, &created.map_err(not_set)?))
}

pub(crate) async fn get<T: Named, B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let found = manage::get::<T>(&admin.settings, id).await;
    Ok(json(200, &found.map_err(not_set)?))
}

pub(crate) async fn replace<T: Named, B: Backends>(
    admin: &Admin<B>,
    call: &Call,
    id: &str,
) -> Result<Answer, ApiError> {
    let replaced = manage::replace::<T>(&admin.settings, id, &call.json()?, admin.now()).await;
    Ok(json(200, &replaced.map_err(not_set)?))
}

pub(crate) async fn delete<T: Named, B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let deleted = manage::delete::<T>(&admin.settings, &admin.alerts, id).await;
    deleted.map_err(not_set)?;
    Ok(no_content())
}
