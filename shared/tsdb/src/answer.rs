//! From what went wrong inside to what a client is told: the one place where a cause is logged, so that it never shows in
//! an answer and is never logged twice.

use crate::select::SelectError;
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

/// A selection that failed, or passed a limit.
#[must_use]
pub fn select_failed(error: SelectError) -> ApiError {
    match error {
        SelectError::Store(source) => store_failed(&source),
        limit => ApiError::new(ErrorId::QueryTooLarge, limit.to_string()),
    }
}

/// A fault of our own.
#[must_use]
pub fn internal(error: &(dyn Error + 'static)) -> ApiError {
    tracing::error!(cause = chain(error), "a request failed");
    ApiError::new(ErrorId::Internal, "an internal error; the function's log has the cause")
}

/// An error and its causes, on one line: `a: b: c`. A cause that says the same as what it caused (the SDK wraps its errors
/// so) is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut text = said.clone();
    let mut next = error.source();
    while let Some(cause) = next {
        let says = cause.to_string();
        if says != said {
            text.push_str(": ");
            text.push_str(&says);
        }
        said = says;
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the batch was not written")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("connection reset")]
    struct Wrapper(#[source] std::io::Error);

    #[test]
    fn a_cause_that_repeats_is_told_once() {
        let error = Wrapper(std::io::Error::other("connection reset"));
        assert_eq!(chain(&error), "connection reset");
    }

    #[test]
    fn a_chain_names_every_cause() {
        let error = Outer(std::io::Error::other("connection reset"));
        assert_eq!(chain(&error), "the batch was not written: connection reset");
    }
}
