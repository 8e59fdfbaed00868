//! The runtime's loop, with requests made harmless before they are taken apart.
//!
//! `lambda_http` builds a URI from the event's path, query string and headers, and panics when that is none: a query string
//! that nobody escaped (`?labels={"host":"a"}`) is enough. Nothing here needs the host, and what may not stand in a URI is
//! escaped, which is what its author meant.

use crate::answer::Answer;
use lambda_http::request::LambdaRequest;
use lambda_http::{Adapter, Error, LambdaEvent, Request, Service, lambda_runtime, service_fn};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What may not stand in the query of a URI as it is. Everything beyond ASCII is escaped anyway.
const NOT_IN_A_QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// Serves requests until the process ends.
///
/// # Errors
/// When the runtime's own interface fails.
pub async fn run<S>(handler: S) -> Result<(), Error>
where
    S: Service<Request, Response = Answer, Error = Error>,
    S::Future: Send,
{
    let mut adapter = Adapter::from(handler);
    let serve = service_fn(move |mut event: LambdaEvent<LambdaRequest>| {
        make_harmless(&mut event.payload);
        adapter.call(event)
    });
    lambda_runtime::run(serve).await
}

fn make_harmless(request: &mut LambdaRequest) {
    let LambdaRequest::ApiGatewayV2(request) = request else {
        return;
    };
    for header in ["host", "x-forwarded-proto"] {
        request.headers.remove(header);
    }
    request.request_context.domain_name = None;
    if let Some(query) = &mut request.raw_query_string {
        *query = utf8_percent_encode(query, NOT_IN_A_QUERY).to_string();
    }
    let path = request.raw_path.get_or_insert_default();
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Call;
    use serde_json::json;

    fn call(host: &str, path: &str, query: &str) -> Call {
        let event = json!({
            "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
            "headers": {"host": host, "x-forwarded-proto": host}, "isBase64Encoded": false,
            "requestContext": {
                "http": {"method": "GET", "path": path, "protocol": "HTTP/1.1"},
                "stage": "$default", "domainName": host,
            },
        });
        let mut request: LambdaRequest = serde_json::from_value(event).unwrap();
        make_harmless(&mut request);
        Call::new(request.into())
    }

    #[test]
    fn a_query_that_nobody_escaped_is_read_as_it_was_meant() {
        let call = call(
            "localhost",
            "/api/v1/query",
            "metric_name=cpu&labels={\"host\":\"wéb <1>\"}&x=a%20b",
        );
        assert_eq!(call.parameter("labels"), Some("{\"host\":\"wéb <1>\"}"));
        assert_eq!(call.parameter("x"), Some("a b"));
        assert_eq!(call.route().1, ["api", "v1", "query"]);
    }

    #[test]
    fn no_path_query_or_host_makes_a_panic() {
        let nasty = [
            "",
            "//",
            ":",
            "@:99999",
            "\\",
            "[::",
            "%",
            "%zz",
            "a b",
            "\u{0}\u{7f}",
            "#?#?",
            "..//..",
            "é\u{10ffff}",
            "{\"|^`}",
        ];
        // The gateway lets no control character into a header.
        for host in nasty.into_iter().filter(|host| !host.contains(char::is_control)) {
            for path in nasty {
                for query in nasty {
                    assert_eq!(call(host, path, query).route().0, "GET");
                }
            }
        }
    }
}
