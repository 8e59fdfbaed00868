//! What a client is told when a call fails: one JSON shape, one stable id per kind of failure.

use crate::body::BodyError;
use serde::{Serialize, Serializer, ser::SerializeStruct};

macro_rules! error_ids {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $status:literal;)*) => {
        /// Every kind of failure that a client can be told, each with its stable id and HTTP status. The runbook has a line
        /// for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorId {
            $($(#[$doc])* $variant,)*
        }

        impl ErrorId {
            /// All of them, in the order in which they are documented.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The id as it stands in answers and in the runbook.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// The HTTP status that goes with it.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }
        }
    };
}

error_ids! {
    /// The body is not what the call reads.
    InvalidBody = "invalid-body", 400;
    /// The body passes a size limit, as sent or after decompression.
    BodyTooLarge = "body-too-large", 413;
    /// The body holds more samples than one request may.
    TooManySamples = "too-many-samples", 413;
    /// The body has a `Content-Encoding` that is not read here.
    UnsupportedEncoding = "unsupported-encoding", 415;
    /// Every sample of the request was refused.
    AllSamplesRejected = "all-samples-rejected", 400;
    /// A parameter or field has a value that it may not have.
    InvalidParameter = "invalid-parameter", 400;
    /// There is no such path or object.
    NotFound = "not-found", 404;
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed", 405;
    /// Another rule has this name.
    RuleNameTaken = "rule-name-taken", 409;
    /// Another object of this kind has this name.
    NameTaken = "name-taken", 409;
    /// Other objects name this one.
    InUse = "in-use", 409;
    /// Somebody else changed the object in between.
    VersionConflict = "version-conflict", 409;
    /// The object cannot take this step from the state it is in.
    InvalidState = "invalid-state", 409;
    /// As many objects of this kind exist as may.
    LimitReached = "limit-reached", 409;
    /// The query reads or returns more than one query may.
    QueryTooLarge = "query-too-large", 422;
    /// The stream takes no more right now.
    StreamThrottled = "stream-throttled", 503;
    /// The stream did not answer.
    StreamUnavailable = "stream-unavailable", 503;
    /// The database did not answer, or asked to slow down.
    StoreUnavailable = "store-unavailable", 503;
    /// The topic of alerts takes nothing right now.
    TopicUnavailable = "topic-unavailable", 503;
    /// The answer was not ready before the deadline.
    DeadlineExceeded = "deadline-exceeded", 504;
    /// A fault of Tidemark.
    Internal = "internal", 500;
}

/// A failure as a client is told: `{"error":{"id","message","field"?}}` with a status. It never holds an internal error's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The stable id, in kebab case.
    pub id: &'static str,
    /// A sentence for a person: what was wrong, and which limit was hit.
    pub message: String,
    /// The field or parameter that is at fault.
    pub field: Option<String>,
    /// When to try again, in seconds: the `Retry-After` header.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// A failure of a kind, with its usual status.
    #[must_use]
    pub fn new(id: ErrorId, message: impl Into<String>) -> Self {
        Self {
            status: id.status(),
            id: id.as_str(),
            message: message.into(),
            field: None,
            retry_after_s: None,
        }
    }

    /// Names the field or parameter at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The JSON body of the answer.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings as values of a struct always serialize.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Serialize for ApiError {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Inner<'a>(&'a ApiError);
        impl Serialize for Inner<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut inner = serializer.serialize_struct("ErrorBody", 2 + usize::from(self.0.field.is_some()))?;
                inner.serialize_field("id", self.0.id)?;
                inner.serialize_field("message", &self.0.message)?;
                if let Some(field) = &self.0.field {
                    inner.serialize_field("field", field)?;
                }
                inner.end()
            }
        }
        let mut outer = serializer.serialize_struct("ApiError", 1)?;
        outer.serialize_field("error", &Inner(self))?;
        outer.end()
    }
}

impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let id = match &error {
            BodyError::TooLarge { .. } | BodyError::TooLargeDecompressed { .. } => ErrorId::BodyTooLarge,
            BodyError::TooManySamples { .. } => ErrorId::TooManySamples,
            BodyError::UnsupportedEncoding { .. } => ErrorId::UnsupportedEncoding,
            BodyError::BrokenCompression { .. }
            | BodyError::NotUtf8 { .. }
            | BodyError::NotJson { .. }
            | BodyError::NoMetrics => ErrorId::InvalidBody,
        };
        Self::new(id, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_one_json_shape() {
        let error = ApiError::new(ErrorId::NotFound, "no such rule");
        assert_eq!(
            error.to_json(),
            r#"{"error":{"id":"not-found","message":"no such rule"}}"#
        );
        let error = ApiError::new(ErrorId::InvalidParameter, "must be positive").with_field("limit");
        assert_eq!(
            error.to_json(),
            r#"{"error":{"id":"invalid-parameter","message":"must be positive","field":"limit"}}"#
        );
    }

    #[test]
    fn ids_are_unique_kebab_case_and_have_an_error_status() {
        let mut ids: Vec<&str> = ErrorId::ALL.iter().map(|id| id.as_str()).collect();
        assert!(
            ids.iter()
                .all(|id| id.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        );
        assert!(ErrorId::ALL.iter().all(|id| (400..600).contains(&id.status())));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), ErrorId::ALL.len());
    }

    #[test]
    fn a_body_error_keeps_its_message_and_gets_its_status() {
        let cases = [
            (BodyError::NoMetrics, 400),
            (BodyError::TooManySamples { limit: 5 }, 413),
            (BodyError::TooLarge { limit: 5 }, 413),
            (BodyError::UnsupportedEncoding { encoding: "br".into() }, 415),
        ];
        for (error, status) in cases {
            let message = error.to_string();
            let api = ApiError::from(error);
            assert_eq!((api.status, api.message), (status, message));
        }
    }
}
