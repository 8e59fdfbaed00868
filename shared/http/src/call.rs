//! A request as the handlers see it.

use lambda_http::{Body, Request, RequestExt};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::collections::HashMap;
use tidemark_model::limits;
use tidemark_wire::{ApiError, BodyError, ErrorId, decode_body};

/// What comes before is no time: `cargo lambda watch` gives the milliseconds of its time-out instead of the time of its end.
const EARLIEST_DEADLINE_MS: i64 = 1_000_000_000_000;

/// A request: method, path, parameters, body.
#[derive(Debug)]
pub struct Call {
    method: String,
    segments: Vec<String>,
    parameters: HashMap<String, String>,
    content_encoding: Option<String>,
    wants_fresh: bool,
    body: Body,
    deadline_ms: Option<i64>,
}

impl Call {
    /// Takes a request apart.
    #[must_use]
    pub fn new(request: Request) -> Self {
        let segments = request
            .raw_http_path()
            .split('/')
            .filter(|part| !part.is_empty())
            .map(decoded)
            .collect();
        // Of a parameter that is given twice the first counts.
        let mut parameters = HashMap::new();
        for (name, value) in request.query_string_parameters().iter() {
            parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        let deadline_ms = request
            .lambda_context_ref()
            .and_then(|context| i64::try_from(context.deadline).ok())
            .filter(|deadline| *deadline > EARLIEST_DEADLINE_MS);
        let content_encoding = request.headers().get("content-encoding");
        let cache_control = request.headers().get_all("cache-control").into_iter();
        let wants_fresh = cache_control
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"));
        Self {
            method: request.method().as_str().to_owned(),
            segments,
            parameters,
            content_encoding: content_encoding.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            wants_fresh,
            body: request.into_body(),
            deadline_ms,
        }
    }

    /// The method, and the segments of the path, decoded: what a function routes by.
    #[must_use]
    pub fn route(&self) -> (&str, Vec<&str>) {
        (&self.method, self.segments.iter().map(String::as_str).collect())
    }

    /// The parameters of the query string.
    #[must_use]
    pub fn parameters(&self) -> &HashMap<String, String> {
        &self.parameters
    }

    /// One parameter of the query string, unless it is empty.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// When the invocation ends, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<i64> {
        self.deadline_ms
    }

    /// Whether the caller wants no answer from a cache: `Cache-Control: no-cache`.
    #[must_use]
    pub fn wants_fresh(&self) -> bool {
        self.wants_fresh
    }

    /// The body, decompressed.
    ///
    /// # Errors
    /// When it is too large, before or after, or not what its `Content-Encoding` says.
    pub fn body(&self) -> Result<Cow<'_, [u8]>, ApiError> {
        let bytes: &[u8] = match &self.body {
            Body::Text(text) => text.as_bytes(),
            Body::Binary(bytes) => bytes,
            _ => &[],
        };
        if bytes.len() > limits::MAX_BODY_BYTES {
            return Err(BodyError::TooLarge {
                limit: limits::MAX_BODY_BYTES,
            }
            .into());
        }
        Ok(decode_body(bytes, self.content_encoding.as_deref())?)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// Those of [`Self::body`], and when it is not the JSON that is asked for.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body()?)
            .map_err(|e| ApiError::new(ErrorId::InvalidBody, format!("the body is not the expected JSON: {e}")))
    }

    /// The answer to a path that does not exist, or to a method that it does not take.
    #[must_use]
    pub fn unknown(&self, methods: &[&str]) -> ApiError {
        let path = self.segments.join("/");
        if methods.is_empty() {
            ApiError::new(ErrorId::NotFound, format!("there is no path /{path}"))
        } else {
            let methods = methods.join(", ");
            ApiError::new(
                ErrorId::MethodNotAllowed,
                format!("/{path} takes {methods}, not {}", self.method),
            )
        }
    }
}

fn decoded(segment: &str) -> String {
    // What is not UTF-8 after decoding was not meant as an escape.
    percent_decode_str(segment)
        .decode_utf8()
        .map_or_else(|_| segment.to_owned(), Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambda_http::http;

    fn call(path: &str) -> Call {
        let event = serde_json::json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "a=1&a=2&b=&c=x%20y",
            "headers": {"host": "localhost"}, "isBase64Encoded": false, "body": "{\"x\":1}",
            "requestContext": {"http": {"method": "GET", "path": path, "protocol": "HTTP/1.1"}, "stage": "$default"},
        });
        Call::new(lambda_http::request::from_str(&event.to_string()).unwrap())
    }

    #[test]
    fn segments_are_decoded_as_far_as_they_hold_escapes() {
        assert_eq!(
            call("/api/v1/metrics/cpu.load/labels").route().1,
            ["api", "v1", "metrics", "cpu.load", "labels"]
        );
        assert_eq!(call("/m/%D1%82%D0%B5/x%2Fy").route().1, ["m", "те", "x/y"]);
        assert_eq!(call("/m/100%/%ff").route().1, ["m", "100%", "%ff"]);
    }

    #[test]
    fn of_a_parameter_given_twice_the_first_counts_and_an_empty_one_is_missing() {
        let call = call("/");
        assert_eq!(call.parameter("a"), Some("1"));
        assert_eq!(call.parameter("b"), None);
        assert_eq!(call.parameter("c"), Some("x y"));
    }

    #[test]
    fn a_deadline_that_is_no_time_is_none() {
        let deadline_ms = |deadline: u64| {
            let mut context = lambda_http::Context::default();
            context.deadline = deadline;
            Call::new(Request::default().with_lambda_context(context)).deadline_ms()
        };
        assert_eq!(deadline_ms(600_000), None);
        assert_eq!(deadline_ms(1_795_000_000_000), Some(1_795_000_000_000));
    }

    #[test]
    fn no_cache_is_found_among_other_directives() {
        let wants_fresh = |value: &str| {
            let request = http::Request::builder().header("Cache-Control", value);
            Call::new(request.body(Body::Empty).unwrap()).wants_fresh()
        };
        assert!(wants_fresh("max-age=0, No-Cache"));
        assert!(!wants_fresh("max-age=0"));
        assert!(!Call::new(Request::default()).wants_fresh());
    }

    #[test]
    fn a_body_that_is_not_json_says_where() {
        let request: Request = http::Request::builder().body(Body::Text("{\"x\":".into())).unwrap();
        let error = Call::new(request).json::<serde_json::Value>().unwrap_err();
        assert_eq!(error.status, 400);
        assert!(error.message.contains("column"), "{}", error.message);
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart() {
        assert_eq!(call("/x").unknown(&[]).status, 404);
        assert_eq!(call("/x").unknown(&["POST"]).status, 405);
    }
}
