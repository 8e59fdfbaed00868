//! SDK errors → [`StoreError`].

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error;
use tidemark_tsdb::store::{BoxError, StoreError};

/// Codes of services that ask to come back later, beside those that speak of throttling.
const LATER: [&str; 12] = [
    "ProvisionedThroughputExceededException",
    "ProvisionedThroughputExceeded",
    "TransactionConflict",
    "RequestLimitExceeded",
    "LimitExceededException",
    "TransactionInProgressException",
    "TransactionConflictException",
    "InternalServerError",
    "InternalFailure",
    "InternalError",
    "ServiceUnavailable",
    "OverLimit",
];

/// Whether a code asks to come back later.
pub(crate) fn is_later(code: &str) -> bool {
    // ThrottlingException, RequestThrottled, KMSThrottlingException, KmsThrottled, Throttling ...
    code.contains("Throttl") || LATER.contains(&code)
}

/// Whether the same call may succeed later: throttled, timed out, not reached, or a fault of the service.
pub(crate) fn is_unavailable<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(failure) => !failure.is_user(),
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            status >= 500 || status == 429 || service.err().code().is_some_and(is_later)
        }
        _ => false,
    }
}

/// What a failed call means to the storage engine.
pub(crate) fn store_error<E>(operation: &'static str, error: SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if is_unavailable(&error) {
        unavailable(operation, Some(error.into()))
    } else {
        StoreError::Refused {
            operation,
            source: error.into(),
        }
    }
}

/// The database may answer later.
pub(crate) fn unavailable(operation: &'static str, source: Option<BoxError>) -> StoreError {
    StoreError::Unavailable { operation, source }
}

/// A part of a batch that was not done, in the service's words.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} entries were not taken: {first}")]
pub(crate) struct Partial {
    pub(crate) failed: usize,
    pub(crate) all: usize,
    pub(crate) first: String,
}
