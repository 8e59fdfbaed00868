//! Rules.

use crate::answers::{bad_field, list as list_page, page_request, random_id, refused};
use crate::backends::Backends;
use crate::handler::Admin;
use serde_json::Value;
use tidemark_http::{Answer, Call, json, no_content};
use tidemark_notify::manage::Names;
use tidemark_rules::backtest::{self, BacktestError};
use tidemark_rules::manage::{self, ManageError, StoredRule};
use tidemark_rules::{AlertStore, condition};
use tidemark_tsdb::answer::{select_failed, store_failed};
use tidemark_wire::ApiError;

pub(crate) async fn list<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let page = page_request(call)?;
    let read = futures::try_join!(admin.alerts.list_rules(&page), Names::load(&admin.settings));
    let (rules, names) = read.map_err(|failed| store_failed(&failed))?;
    let shown = rules
        .items
        .into_iter()
        .map(|rule| (rule.id.clone(), with_missing(rule.into(), &names)));
    Ok(list_page("rules", shown, rules.next))
}

pub(crate) async fn create<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let id = || random_id("rule");
    let created = manage::create_rule(&admin.alerts, &call.json()?, id, admin.now()).await;
    answer(admin, 201, created.map_err(refused)?).await
}

pub(crate) async fn get<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    let rule = admin.alerts.get_rule(id).await;
    let rule = rule.map_err(|failed| store_failed(&failed))?;
    let rule = rule.ok_or_else(|| refused(ManageError::NoSuchRule))?;
    answer(admin, 200, rule.into()).await
}

pub(crate) async fn replace<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let replaced = manage::replace_rule(&admin.alerts, id, &call.json()?, admin.now()).await;
    answer(admin, 200, replaced.map_err(refused)?).await
}

pub(crate) async fn patch<B: Backends>(admin: &Admin<B>, call: &Call, id: &str) -> Result<Answer, ApiError> {
    let patched = manage::patch_rule(&admin.alerts, id, &call.json()?, admin.now()).await;
    answer(admin, 200, patched.map_err(refused)?).await
}

pub(crate) async fn delete<B: Backends>(admin: &Admin<B>, id: &str) -> Result<Answer, ApiError> {
    manage::delete_rule(&admin.alerts, id).await.map_err(refused)?;
    Ok(no_content())
}

/// Tests a condition on one value or, with `rule`, a whole rule over stored data.
pub(crate) async fn test<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let body: Value = call.json()?;
    if !backtest::Request::is_one(&body) {
        let answer = condition::test_rule(&body).map_err(|field| bad_field(&field))?;
        return Ok(json(200, &answer));
    }
    let request = backtest::Request::parse(&body).map_err(|field| bad_field(&field))?;
    let (spec, step) = (&request.spec, request.step_seconds);
    let found = backtest::run(&admin.reader, spec, request.start, request.end, step, admin.now()).await;
    let found = found.map_err(|error| match error {
        BacktestError::Invalid(field) => bad_field(&field),
        BacktestError::Select(failed) => select_failed(failed),
    })?;
    Ok(json(200, &found))
}

/// The id of the rule that has this id or, since people know rules by their names, this name.
pub(crate) async fn id_of(alerts: &impl AlertStore, rule: &str) -> Result<String, ApiError> {
    let failed = |failed| store_failed(&failed);
    if alerts.get_rule(rule).await.map_err(failed)?.is_some() {
        return Ok(rule.to_owned());
    }
    let rules = alerts.load_rules().await.map_err(failed)?;
    let named = rules.into_iter().find(|known| known.spec.name == rule);
    // The instances and the history of a rule that was deleted are still found by its id.
    Ok(named.map_or_else(|| rule.to_owned(), |rule| rule.id))
}

/// A rule, with what it names and does not exist among its warnings.
async fn answer<B: Backends>(admin: &Admin<B>, status: u16, rule: StoredRule) -> Result<Answer, ApiError> {
    let names = Names::load(&admin.settings).await;
    let names = names.map_err(|failed| store_failed(&failed))?;
    Ok(json(status, &with_missing(rule, &names)))
}

fn with_missing(mut stored: StoredRule, names: &Names) -> StoredRule {
    stored.warnings.extend(names.missing_of_rule(&stored.rule.spec));
    stored
}
