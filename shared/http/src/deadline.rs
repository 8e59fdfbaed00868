//! An answer before the gateway gives up.

use crate::call::Call;
use std::time::Duration;
use tidemark_wire::{ApiError, ErrorId};

/// How long before the invocation's end the answer has to be on its way, in milliseconds.
const RESERVE_MS: i64 = 1_000;

/// The longest that a caller is kept waiting: the gateway waits 30 seconds, whatever the function's own limit.
const LONGEST: Duration = Duration::from_secs(27);

/// Waits for an answer, but not past the end of the invocation. `now_ms` is the time, in milliseconds since the Unix epoch.
///
/// # Errors
/// Those of the answer, and `deadline-exceeded`. What the answer had begun to do by then may be done or not.
pub async fn in_time<T>(
    call: &Call,
    now_ms: i64,
    answer: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let left = call
        .deadline_ms()
        .map(|deadline| deadline.saturating_sub(now_ms).saturating_sub(RESERVE_MS));
    // A negative rest is no time at all.
    let left = left.map_or(LONGEST, |ms| {
        Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(LONGEST)
    });
    // Boxed: the type of the whole way down to the socket is deeper than the compiler follows.
    tokio::time::timeout(left, Box::pin(answer)).await.unwrap_or_else(|_| {
        Err(ApiError::new(
            ErrorId::DeadlineExceeded,
            "the answer was not ready in time; ask for less at once",
        )
        .with_retry_after(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::{Body, Context, Request, RequestExt};

    fn call(deadline_ms: u64) -> Call {
        let mut context = Context::default();
        context.deadline = deadline_ms;
        Call::new(Request::new(Body::Empty).with_lambda_context(context))
    }

    #[tokio::test]
    async fn what_is_not_ready_before_the_end_is_given_up() {
        let never = std::future::pending::<Result<(), ApiError>>();
        let error = in_time(&call(1_795_000_010_000), 1_795_000_009_500, never)
            .await
            .unwrap_err();
        assert_eq!((error.status, error.id), (504, "deadline-exceeded"));
    }

    #[tokio::test]
    async fn what_is_ready_is_answered() {
        assert_eq!(
            in_time(&call(1_795_000_010_000), 1_795_000_001_000, async { Ok(7) }).await,
            Ok(7)
        );
    }
}
