//! Many calls to a database at once, but not too many.

use futures::stream::{self, Stream, StreamExt};

/// How many calls are under way at once: enough to hide latency, few enough for a small function's sockets.
const CONCURRENCY: usize = 16;

/// Runs the futures and returns their results in order.
/// A `Vec`, since a lazy iterator of borrowing futures is not `Send` for all lifetimes.
pub(crate) async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    stream(futures).collect().await
}

/// Runs the futures and hands over their results in order, one by one.
pub(crate) fn stream<F: Future>(futures: Vec<F>) -> impl Stream<Item = F::Output> {
    stream::iter(futures).buffered(CONCURRENCY)
}
