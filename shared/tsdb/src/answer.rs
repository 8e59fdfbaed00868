//! From what went wrong inside to what a client is told: the one place where a cause is logged, so that it never shows in
//! an answer and is never logged twice.

use crate::store::StoreError;
use std::error::Error;
use tidemark_wire::{ApiError, ErrorId};

/// A parameter or field that may not have its value. `reason` ends a sentence that begins with the field.
#[must_use]
pub fn invalid(field: &str, reason: impl AsRef<str>) -> ApiError {
    ApiError::new(ErrorId::InvalidParameter, format!("{field} {}", reason.as_ref())).with_field(field)
}

/// A call that the database did not carry out.
#[must_use]
pub fn store_failed(error: &StoreError) -> ApiError {
    match error {
        StoreError::Unavailable { .. } => {
            tracing::warn!(cause = chain(error), "the database did not answer");
            ApiError::new(ErrorId::StoreUnavailable, "the database did not answer; try again").with_retry_after(1)
        }
        StoreError::Refused { .. } | StoreError::Corrupt { .. } => internal(error),
    }
}

/// A fault of our own.
#[must_use]
pub fn internal(error: &(dyn Error + 'static)) -> ApiError {
    tracing::error!(cause = chain(error), "a request failed");
    ApiError::new(ErrorId::Internal, "an internal error; the function's log has the cause")
}

/// An error and its causes, on one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
