//! The JSON form of samples: one `{"name","value","labels"?,"timestamp"?}`, or `{"metrics":[…]}` of them. Unknown fields are
//! ignored at every level.
//!
//! One pass over the body finds the fields of each sample and leaves them as text; what is wrong inside a field refuses its
//! sample alone. Label objects that stand in the body more than once, letter by letter, are read once: agents repeat the
//! labels of a host on each of its metrics.

mod fields;
mod labels;

use crate::batch::{Batch, BatchBuilder, TimeBounds};
use crate::body::BodyError;
use fields::BodyVisitor;
use labels::LabelMemo;
use serde::Deserializer as _;
use tidemark_model::limits::MAX_SAMPLES_PER_REQUEST;

/// What decoding collects.
struct Decoder<'a> {
    builder: BatchBuilder<'a>,
    labels: LabelMemo<'a>,
    /// The last timestamp, by its text: the samples of a scrape share it.
    last_timestamp: (&'a str, i64),
    failure: Option<BodyError>,
}

/// Reads a request body.
///
/// # Errors
/// When the body is not JSON, has neither form, or holds too many samples. What is wrong with single samples is in the
/// batch.
pub fn decode_metrics(body: &[u8], bounds: TimeBounds) -> Result<Batch<'_>, BodyError> {
    let text = std::str::from_utf8(body).map_err(|error| BodyError::NotUtf8 {
        at: error.valid_up_to(),
    })?;
    let mut decoder = Decoder {
        builder: BatchBuilder::new(bounds),
        labels: LabelMemo::default(),
        last_timestamp: ("", 0),
        failure: None,
    };
    // A sample of many labels takes some 250 bytes. A wrong guess costs a copy, or some memory in proportion to the body.
    decoder.builder.reserve(body.len() / 256);
    let mut json = serde_json::Deserializer::from_str(text);
    let outcome = json
        .deserialize_map(BodyVisitor(&mut decoder))
        .and_then(|()| json.end());
    if let Some(failure) = decoder.failure {
        return Err(failure);
    }
    match outcome {
        Ok(()) => Ok(decoder.builder.finish()),
        Err(error) => Err(not_json(&error)),
    }
}

fn too_many_samples() -> BodyError {
    BodyError::TooManySamples {
        limit: MAX_SAMPLES_PER_REQUEST,
    }
}

fn not_json(error: &serde_json::Error) -> BodyError {
    let mut reason = error.to_string();
    // The place is told once, in the message of `BodyError`.
    if let Some(at) = reason.rfind(" at line ") {
        reason.truncate(at);
    }
    BodyError::NotJson {
        reason,
        line: error.line(),
        column: error.column(),
    }
}

#[cfg(test)]
mod tests;
