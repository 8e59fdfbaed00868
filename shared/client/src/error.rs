//! What can go wrong for the caller. What goes wrong on the wire is retried, or counted in [`Stats`](crate::Stats).

use std::time::Duration;

/// Why a client could not be built, or did not finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL of the API cannot be used.
    #[error("the URL {url:?} cannot be used: {reason}")]
    InvalidUrl {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting is out of its range.
    #[error("{setting} {reason}")]
    InvalidSetting {
        /// The builder's method.
        setting: &'static str,
        /// What it must be.
        reason: &'static str,
    },
    /// Signing was asked for and the environment holds no credentials.
    #[error("signing needs the environment variable {0}")]
    MissingCredentials(&'static str),
    /// The machine's certificates could not be read.
    #[error("the machine's trusted certificates could not be read")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be built")]
    Http(#[source] reqwest::Error),
    /// `build` was called outside of a tokio runtime, which the background task needs.
    #[error("a client is built inside a tokio runtime")]
    NoRuntime,
    /// The time for `close` was over before everything was sent.
    #[error("{samples} samples were not sent within {deadline:?}")]
    Unsent {
        /// How many; they are counted as dropped.
        samples: usize,
        /// The time that `close` was given.
        deadline: Duration,
    },
    /// The background task has ended: the client was closed, or its runtime is shutting down.
    #[error("the client is closed")]
    Closed,
}
