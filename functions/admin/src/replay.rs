//! From when on the queue is to be processed: `{"from": time}`.

use serde_json::Value;
use tidemark_aws::KinesisStream;
use tidemark_http::Call;
use tidemark_model::Timestamp;
use tidemark_tsdb::StoreError;
use tidemark_tsdb::answer::{invalid, store_failed};
use tidemark_wire::{ApiError, ErrorId};

const FROM: &str = "from";

/// A stream that says how long it keeps a record.
pub(crate) trait Kept {
    fn keeps_ms(&self) -> impl Future<Output = Result<i64, StoreError>> + Send;
}

impl Kept for KinesisStream {
    async fn keeps_ms(&self) -> Result<i64, StoreError> {
        Self::keeps_ms(self).await
    }
}

/// The time to begin at; `None` to go on where the stream is stored to, which is what a call without a body asks for.
///
/// A time that the stream does not reach back to is refused: it would give back its oldest record, and nobody would see that
/// some were missing.
pub(crate) async fn from_ms(call: &Call, stream: &impl Kept, now_ms: i64) -> Result<Option<i64>, ApiError> {
    if call.body()?.is_empty() {
        return Ok(None);
    }
    let body: Value = call.json()?;
    let Some(fields) = body.as_object() else {
        return Err(ApiError::new(ErrorId::InvalidBody, "the body is not a JSON object"));
    };
    if let Some(unknown) = fields.keys().find(|name| *name != FROM) {
        return Err(invalid(unknown, "is not known here; the one field is `from`"));
    }
    let from_ms = match fields.get(FROM) {
        None | Some(Value::Null) => return Ok(None),
        Some(time) => time_ms(time)?,
    };
    if from_ms > now_ms {
        return Err(invalid(FROM, "is in the future"));
    }
    let keeps_ms = stream.keeps_ms().await.map_err(|failed| store_failed(&failed))?;
    if from_ms < now_ms.saturating_sub(keeps_ms) {
        let hours = keeps_ms / 3_600_000;
        return Err(invalid(
            FROM,
            format!("is longer ago than the stream keeps records, which is {hours} hours"),
        ));
    }
    Ok(Some(from_ms))
}

fn time_ms(time: &Value) -> Result<i64, ApiError> {
    let parsed = match time {
        Value::String(text) => Timestamp::parse(text).map_err(|wrong| wrong.to_string()),
        Value::Number(number) => {
            Timestamp::from_unix_seconds(number.as_f64().unwrap_or(f64::NAN)).map_err(|wrong| wrong.to_string())
        }
        _ => Err("is no time: RFC 3339 or Unix seconds".to_owned()),
    };
    parsed.map(|time| time.0).map_err(|wrong| invalid(FROM, wrong))
}
