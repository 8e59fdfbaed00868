use super::*;

fn judged(status: u16, body: &str) -> Outcome {
    judge(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
}

#[test]
fn the_path_of_the_api_is_appended_once() {
    let url = |base| push_url(base).unwrap().to_string();
    assert_eq!(url("https://x.example"), "https://x.example/api/v1/metrics");
    assert_eq!(
        url("http://localhost:4566/_aws/execute-api/a0/"),
        "http://localhost:4566/_aws/execute-api/a0/api/v1/metrics"
    );
}

#[test]
fn a_url_that_cannot_work_is_refused_and_shows_no_password() {
    for url in ["", "localhost:4566", "ftp://x", "https://x/?a=b", "https://x/#y"] {
        assert!(matches!(push_url(url), Err(Error::InvalidUrl { .. })), "{url}");
    }
    for url in [
        "https://me:secret@x",
        "https://me:secret@x/?a=b",
        "https://me:secret@:x",
        "ftp://me:secret@x",
    ] {
        let text = push_url(url).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn the_local_stack_is_not_reached_through_a_proxy() {
    for (url, loopback) in [
        ("http://localhost:4566/x", true),
        ("http://127.0.0.1:4566", true),
        ("http://[::1]:4566", true),
        ("https://abc.execute-api.us-east-1.amazonaws.com", false),
        ("http://localhost.example", false),
        ("http://10.0.0.1", false),
    ] {
        assert_eq!(is_loopback(&Url::parse(url).unwrap()), loopback, "{url}");
    }
}

#[test]
fn https_is_set_up_without_a_process_wide_provider() {
    assert!(http_client(&push_url("https://x.example").unwrap(), Duration::from_secs(1)).is_ok());
    assert!(rustls::crypto::CryptoProvider::get_default().is_none());
}

#[test]
fn an_accepted_request_names_its_refused_samples() {
    let body =
        r#"{"status":"accepted","accepted":1,"rejected":1,"errors":[{"index":1,"field":"name","reason":"is empty"}]}"#;
    let Outcome::Decided { rejected: 1, errors } = judged(202, body) else {
        panic!()
    };
    assert_eq!(
        (errors[0].index, errors[0].field.as_deref(), errors[0].reason.as_str()),
        (1, Some("name"), "is empty")
    );
    assert!(matches!(judged(400, body), Outcome::Decided { rejected: 1, .. }));
}

#[test]
fn a_refused_request_gives_the_servers_reason() {
    let Outcome::Refused { reason } = judged(400, r#"{"error":{"id":"invalid_json","message":"not JSON at byte 7"}}"#)
    else {
        panic!()
    };
    assert_eq!(reason, "400 Bad Request: not JSON at byte 7");
    assert!(matches!(
        judged(404, r#"{"message":"Not Found"}"#),
        Outcome::Refused { .. }
    ));
    assert!(matches!(judged(301, ""), Outcome::Refused { .. }));
}

#[test]
fn what_passes_is_tried_again() {
    for status in [408, 425, 429, 500, 502, 503, 504] {
        assert!(matches!(judged(status, "<html>"), Outcome::Failed { .. }), "{status}");
    }
    assert!(matches!(judged(413, ""), Outcome::TooLarge));
}

#[test]
fn credentials_that_are_not_accepted_do_not_cost_the_samples() {
    for status in [401, 403] {
        let Outcome::Failed { failure, .. } = judged(status, r#"{"message":"The security token is expired"}"#) else {
            panic!("{status}")
        };
        let text = failure.to_string();
        assert!(
            text.contains(&status.to_string()) && text.contains("token is expired"),
            "{text}"
        );
    }
}

#[test]
fn a_page_of_somebody_else_is_no_acknowledgement() {
    for body in ["<html>Please log in</html>", "{}", "", r#"{"status":"ok"}"#] {
        let Outcome::Failed {
            failure: Failure::Unreadable(_),
            ..
        } = judged(200, body)
        else {
            panic!("{body}")
        };
    }
}
