//! From a call to a selection and back.

use lambda_http::http::HeaderValue;
use serde_json::{Value, json};
use tidemark_http::{Answer, Call, error, in_time, json, json_bytes};
use tidemark_tsdb::answer::store_failed;
use tidemark_tsdb::answers::{self, AnswerCache};
use tidemark_tsdb::query::Query as SimpleQuery;
use tidemark_tsdb::{Reader, Store, StoreError, catalog, page};
use tidemark_wire::ApiError;

/// The function.
pub(crate) struct Query<S, C> {
    reader: Reader<S>,
    cache: C,
}

impl<S: Store, C: AnswerCache> Query<S, C> {
    pub(crate) fn new(reader: Reader<S>, cache: C) -> Self {
        Self { reader, cache }
    }

    pub(crate) async fn handle(&self, call: &Call, now_ms: i64) -> Answer {
        let answer = in_time(call, now_ms, self.answer(call, now_ms)).await;
        answer.unwrap_or_else(|failed| error(&failed))
    }

    async fn answer(&self, call: &Call, now_ms: i64) -> Result<Answer, ApiError> {
        let (method, path) = call.route();
        let Some(path) = path.strip_prefix(&["api", "v1"]) else {
            return Err(call.unknown(&[]));
        };
        let store = self.reader.store();
        // What any tier still holds.
        let (from, to) = (self.reader.oldest_ms(now_ms), now_ms);
        match (method, path) {
            ("GET", ["query"]) => {
                let query = SimpleQuery::parse(call.parameters(), now_ms)?;
                let answered = answers::answer(&query, &self.reader, &self.cache, call.wants_fresh(), now_ms);
                let (body, found) = answered.await?;
                let mut answer = json_bytes(200, body);
                let header = HeaderValue::from_static(found.as_str());
                answer.headers_mut().insert("x-cache", header);
                Ok(answer)
            }
            ("GET", ["metrics", "names"]) => {
                list(call, json!({}), "names", catalog::metric_names(store, from, to).await)
            }
            ("GET", ["metrics", name, "labels"]) => {
                let found = catalog::label_names(store, name, from, to).await;
                list(call, json!({"metric_name": name}), "labels", found)
            }
            ("GET", ["metrics", name, "labels", key, "values"]) => {
                let found = catalog::label_values(store, name, key, from, to).await;
                list(call, json!({"metric_name": name, "label": key}), "values", found)
            }
            (
                _,
                ["query"] | ["metrics", "names"] | ["metrics", _, "labels"] | ["metrics", _, "labels", _, "values"],
            ) => Err(call.unknown(&["GET"])),
            _ => Err(call.unknown(&[])),
        }
    }
}

/// A page of names in `answer` under `field`.
fn list(
    call: &Call,
    mut answer: Value,
    field: &str,
    found: Result<Vec<String>, StoreError>,
) -> Result<Answer, ApiError> {
    let names = found.map_err(|failed| store_failed(&failed))?;
    let limit = page::limit(call.parameter("limit"), usize::MAX)?;
    let (names, next) = page::of_names(names, limit, call.parameter("next_token"))?;
    answer[field] = json!(names);
    if let Some(next) = next {
        answer["next_token"] = json!(next);
    }
    Ok(json(200, &answer))
}

#[cfg(test)]
mod tests;
