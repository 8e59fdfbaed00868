//! SDK errors → [`StoreError`].

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error;
use tidemark_notify::Failure;
use tidemark_tsdb::answer::chain;
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

/// Codes that speak of this process's session, and not of what was asked for.
const BAD_SESSION: [&str; 5] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "InvalidSignatureException",
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

/// The most characters of a service's own words in a failure.
const WORDS: usize = 300;

/// What a failed call means to the delivery of a notification. Nothing of what was sent is in it.
pub(crate) fn delivery_failure<E>(service: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let answer = match error {
        SdkError::TimeoutError(_) => return Failure::Timeout,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => return Failure::Timeout,
        SdkError::ServiceError(answer) => answer,
        SdkError::ConstructionFailure(_) => return Failure::Permanent { reason: chain(error) },
        _ => return Failure::Unreachable { reason: chain(error) },
    };
    let status = answer.raw().status().as_u16();
    let code = answer.err().code().unwrap_or("no code");
    let words: String = answer.err().message().unwrap_or_default().chars().take(WORDS).collect();
    if status == 429 || (status < 500 && (code == "TooManyRequestsException" || is_later(code))) {
        Failure::Throttled {
            status: 429,
            after_seconds: None,
        }
    } else if status >= 500 {
        Failure::Server { status }
    } else if BAD_SESSION.contains(&code) {
        Failure::Unreachable {
            reason: format!("{service} did not take the credentials: {code}"),
        }
    } else {
        Failure::Permanent {
            reason: format!("{service} refused it: {code}: {words}"),
        }
    }
}

/// A part of a batch that was not done, in the service's words.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} entries were not taken: {first}")]
pub(crate) struct Partial {
    pub(crate) failed: usize,
    pub(crate) all: usize,
    pub(crate) first: String,
}
