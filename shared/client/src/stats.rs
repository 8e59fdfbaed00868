//! What became of the samples.

/// Counters since the client was built. `accepted + rejected + dropped + buffered` is the number of samples pushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples that the server acknowledged: it keeps them.
    pub accepted: u64,
    /// Samples that the server refused. They are reported and never sent again.
    pub rejected: u64,
    /// Samples given up on this side: the buffer was full, or the client was closed.
    pub dropped: u64,
    /// Requests that failed in a way that passes and were followed by another attempt.
    pub retried: u64,
    /// Requests sent, failed ones included.
    pub requests: u64,
    /// Samples that wait or are on their way now.
    pub buffered: u64,
}

/// A sample that the server refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal<'a> {
    /// Its place in the request.
    pub index: usize,
    /// The field that is at fault, where the server names one.
    pub field: Option<&'a str>,
    /// The server's reason.
    pub reason: &'a str,
    /// The sample as it was sent, in JSON.
    pub sample: &'a str,
}
