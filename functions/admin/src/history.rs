//! What happened: transitions, attempts to notify, what was suppressed.

use crate::answers::{fitting, listed, page_request, time};
use crate::backends::Backends;
use crate::handler::Admin;
use crate::rules;
use serde_json::json;
use tidemark_http::{Answer, Call};
use tidemark_rules::AlertStore;
use tidemark_rules::history::HistoryFilter;
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_wire::ApiError;

/// The newest first.
pub(crate) async fn list<B: Backends>(admin: &Admin<B>, call: &Call) -> Result<Answer, ApiError> {
    let (start, end) = (time(call, "start_time")?, time(call, "end_time")?);
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        return Err(invalid("start_time", "must not be after end_time"));
    }
    let mut request = page_request(call)?;
    let filter = HistoryFilter {
        rule_id: match call.parameter("rule") {
            Some(rule) => Some(rules::id_of(&admin.alerts, rule).await?),
            None => None,
        },
        fingerprint: call.parameter("fingerprint").map(str::to_owned),
        start,
        end,
    };
    loop {
        let page = admin.alerts.list_history(&filter, admin.now(), &request).await;
        let page = page.map_err(|failed| store_failed(&failed))?;
        let fits = fitting(&page.items);
        if fits >= page.items.len() {
            let entries = page.items.iter().map(|entry| json!(entry)).collect();
            return Ok(listed("history", entries, page.next));
        }
        // Only the store knows where a page ends, so it is asked for one that fits.
        request.limit = fits;
    }
}
