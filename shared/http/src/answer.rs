//! Responses.

use lambda_http::{Body, Response};
use serde::Serialize;
use tidemark_wire::{ApiError, ErrorId};

/// A response of one of our functions.
pub type Answer = Response<Body>;

/// A JSON answer that was written before.
#[must_use]
pub fn json_bytes(status: u16, body: Vec<u8>) -> Answer {
    // What serde_json wrote is UTF-8; as text it passes API Gateway without the third that base64 adds.
    let body = String::from_utf8(body).map_or_else(|error| Body::Binary(error.into_bytes()), Body::Text);
    respond(status, body)
}

/// A JSON answer.
#[must_use]
pub fn json(status: u16, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => json_bytes(status, bytes),
        Err(_) => error(&ApiError::new(
            ErrorId::Internal,
            "the answer cannot be written as JSON",
        )),
    }
}

/// An answer without a body.
#[must_use]
pub fn no_content() -> Answer {
    respond(204, Body::Empty)
}

/// The answer to a call that failed.
#[must_use]
pub fn error(error: &ApiError) -> Answer {
    let mut answer = respond(error.status, Body::Text(error.to_json()));
    if let Some(seconds) = error.retry_after_s {
        answer.headers_mut().insert("retry-after", seconds.into());
    }
    answer
}

fn respond(status: u16, body: Body) -> Answer {
    let mut answer = Response::new(body);
    // Statuses come from constants; one that is none is a fault of ours.
    *answer.status_mut() = status
        .try_into()
        .unwrap_or(lambda_http::http::StatusCode::INTERNAL_SERVER_ERROR);
    if !matches!(answer.body(), Body::Empty) {
        answer.headers_mut().insert(
            "content-type",
            lambda_http::http::HeaderValue::from_static("application/json"),
        );
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_carries_its_status_and_when_to_try_again() {
        let answer = error(&ApiError::new(ErrorId::StreamThrottled, "slow down").with_retry_after(3));
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["retry-after"], "3");
        assert_eq!(answer.headers()["content-type"], "application/json");
    }

    #[test]
    fn an_answer_without_a_body_has_no_content_type() {
        assert!(no_content().headers().is_empty());
    }
}
