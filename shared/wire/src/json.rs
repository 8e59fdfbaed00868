//! The JSON form of samples: one `{"name","value","labels"?,"timestamp"?}`, or `{"metrics":[…]}` of them. Unknown fields are
//! ignored at every level.
//!
//! There are two ways through a body. `plain` reads what agents send, samples without escapes, at a few times the speed of
//! a general parser: mostly it compares the text with what stood in the sample before. What it does not know it hands to
//! `fields`, sample by sample, which reads any JSON through serde_json. When the body as a whole is not as expected, all of
//! it is read again by serde_json, which says what is wrong and where. A property test holds the two ways to one answer.

mod fields;
mod labels;
mod plain;

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

impl Decoder<'_> {
    fn new(body: &str, bounds: TimeBounds) -> Self {
        let mut builder = BatchBuilder::new(bounds);
        // A sample of many labels takes some 250 bytes. A wrong guess costs a copy, or some memory in proportion to the body.
        builder.reserve(body.len() / 256);
        Self {
            builder,
            labels: LabelMemo::default(),
            last_timestamp: ("", 0),
            failure: None,
        }
    }
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
    let mut decoder = Decoder::new(text, bounds);
    match plain::decode(text, &mut decoder) {
        Some(()) => match decoder.failure {
            Some(failure) => Err(failure),
            None => Ok(decoder.builder.finish()),
        },
        None => decode_any(text, bounds),
    }
}

/// Reads any body, through serde_json alone.
fn decode_any(text: &str, bounds: TimeBounds) -> Result<Batch<'_>, BodyError> {
    let mut decoder = Decoder::new(text, bounds);
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
