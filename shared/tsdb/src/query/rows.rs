//! The answer as it is written, within its limits.

use super::unwritable;
use crate::plan::Part;
use serde::Serialize;
use tidemark_model::value::JsonF64;
use tidemark_model::{Timestamp, limits};
use tidemark_wire::ApiError;

/// One result. `count` is the number of samples that the value stands for.
#[derive(Serialize)]
pub(super) struct Row<'a, L: ?Sized> {
    pub(super) labels: &'a L,
    pub(super) value: JsonF64,
    pub(super) count: u64,
    pub(super) timestamp: Option<Timestamp>,
}

/// What served a part of the range: both ends belong to it.
#[derive(Serialize)]
struct Served {
    tier: &'static str,
    start_time: Timestamp,
    end_time: Timestamp,
}

/// A page.
pub(super) struct Answer {
    bytes: Vec<u8>,
    rows: usize,
    limit: usize,
}

impl Answer {
    /// The fewest bytes of a row: without labels, and with a value of three characters.
    const LEAST_ROW_BYTES: usize = 70;

    pub(super) fn begin(metric: &str, limit: Option<usize>) -> Self {
        let mut bytes = b"{\"metric_name\":".to_vec();
        bytes.extend_from_slice(serde_json::Value::from(metric).to_string().as_bytes());
        bytes.extend_from_slice(b",\"results\":[");
        Self {
            bytes,
            rows: 0,
            limit: limit.unwrap_or(usize::MAX),
        }
    }

    /// No page has more rows than this.
    pub(super) fn most_rows(&self) -> usize {
        self.limit.min(limits::MAX_RESPONSE_BYTES / Self::LEAST_ROW_BYTES)
    }

    /// Adds a row; `false` when the page is full and the row was not added. The first row always fits.
    pub(super) fn push(&mut self, row: &impl Serialize) -> Result<bool, ApiError> {
        if self.rows == self.limit {
            return Ok(false);
        }
        let before = self.bytes.len();
        if self.rows > 0 {
            self.bytes.push(b',');
        }
        serde_json::to_writer(&mut self.bytes, row).map_err(unwritable)?;
        if self.rows > 0 && self.bytes.len() > limits::MAX_RESPONSE_BYTES {
            self.bytes.truncate(before);
            return Ok(false);
        }
        self.rows += 1;
        Ok(true)
    }

    pub(super) fn finish(mut self, parts: &[Part], next_token: Option<String>) -> Result<Vec<u8>, ApiError> {
        self.bytes.extend_from_slice(b"],\"tiers\":");
        serde_json::to_writer(&mut self.bytes, &served(parts)).map_err(unwritable)?;
        if let Some(token) = next_token {
            self.bytes
                .extend_from_slice(format!(",\"next_token\":\"{token}\"").as_bytes());
        }
        self.bytes.push(b'}');
        Ok(self.bytes)
    }
}

/// Which tier served which part: where the samples or points were read from is nobody's business.
fn served(parts: &[Part]) -> Vec<Served> {
    let mut served: Vec<Served> = Vec::new();
    for part in parts {
        let (from_ms, to_ms) = part.widened();
        match served.last_mut() {
            Some(last) if last.tier == part.tier.as_str() && last.end_time.0 + 1 >= from_ms => {
                last.end_time = Timestamp(to_ms);
            }
            _ => served.push(Served {
                tier: part.tier.as_str(),
                start_time: Timestamp(from_ms),
                end_time: Timestamp(to_ms),
            }),
        }
    }
    served
}
