//! What the storage engine asks of a database. Two implementations ship: DynamoDB (`tidemark-aws`) and memory
//! ([`crate::memory`]), and both pass one suite of tests.




/// Why a database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database asked to slow down, or did not answer in time; the same call may succeed later.
    #[error("{operation} was throttled or timed out")]
    Unavailable {
        /// The operation, in the database's words.
        operation: &'static str,
        /// What the client reported.
        #[source]
        source: Option<BoxError>,
    },
    /// The database refused the call; the same call will fail again.
    #[error("{operation} was refused")]
    Refused {
        /// The operation, in the database's words.
        operation: &'static str,
        /// What the client reported.
        #[source]
        source: BoxError,
    },
    /// An item is not what this version of Tidemark writes.
    #[error("{item} cannot be read: {reason}")]
    Corrupt {
        /// Which item, by its key.
        item: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// A source error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The database under the storage engine.
pub trait Store: Send + Sync {}
