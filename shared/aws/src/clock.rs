//! The one clock. Only the edge reads it: a function's handler passes the time on as a value.

use std::time::{SystemTime, UNIX_EPOCH};
use tidemark_model::Timestamp;

/// Milliseconds since the Unix epoch.
#[must_use]
pub fn now_ms() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge's clock, which everything else gets as an argument"
    )]
    let now = SystemTime::now();
    // A clock before 1970 is set wrong; 0 makes every sample lie in the future, which is refused with a clear reason.
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// [`now_ms`] as a timestamp.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(now_ms())
}
