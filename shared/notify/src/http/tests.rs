use super::*;
use crate::fixtures::at;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the listener answers.
#[derive(Clone)]
enum Answer {
    Text(String),
    /// Reads the request and says nothing.
    Hang,
    /// Closes with a reset.
    Reset,
    /// Never stops.
    Endless,
}

fn answer(status: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    Answer::Text(format!(
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ))
}

/// Reads one request: its head and as much body as the head promises.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        assert!(read > 0, "the client hung up");
    }
}

/// Answers one request on the loopback: the address, and the request once it has come.
async fn listen(answer: Answer) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        match answer {
            Answer::Text(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Answer::Hang => std::future::pending().await,
            Answer::Reset => stream.set_zero_linger().unwrap(),
            Answer::Endless => {
                let head = "HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                while stream.write_all(chunk.as_bytes()).await.is_ok() {}
            }
        }
        request
    });
    (address, served)
}

/// Patient enough for a machine that is busy with other tests.
fn sender(allowed: &[&str]) -> WebhookSender {
    sender_with(allowed, Duration::from_secs(60))
}

fn sender_with(allowed: &[&str], limit: Duration) -> WebhookSender {
    let guard = AddressGuard::with_allowed(allowed.iter().map(|range| range.parse().unwrap()).collect());
    WebhookSender::with_timeouts(guard, limit, limit).unwrap()
}

async fn post(url: &str) -> Result<(), Failure> {
    sender(&["127.0.0.0/8"])
        .post(url, b"{\"a\":1}".to_vec(), "t.1.firing:webhook", at(0))
        .await
}

async fn post_to(answer: Answer) -> Result<(), Failure> {
    let (address, _served) = listen(answer).await;
    post(&format!("http://{address}/hook")).await
}

#[tokio::test]
async fn a_webhook_is_a_post_of_json_with_an_idempotency_key() {
    let (address, served) = listen(answer("200 OK", "", "ok")).await;
    assert_eq!(post(&format!("http://{address}/hook?x=1")).await, Ok(()));
    let request = served.await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("post /hook?x=1 http/1.1"), "{head}");
    for line in [
        "content-type: application/json",
        "idempotency-key: t.1.firing:webhook",
        "user-agent: tidemark/",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(body, "{\"a\":1}");
}

#[tokio::test]
async fn each_status_is_the_failure_that_it_means() {
    let throttled = |status, after_seconds| Failure::Throttled { status, after_seconds };
    let server = |status| Failure::Server { status };
    for (status, headers, body, wanted) in [
        ("429 Slow", "retry-after: 7\r\n", "", throttled(429, Some(7))),
        ("429 Slow", "", "", throttled(429, None)),
        (
            "429 Slow",
            "retry-after: Thu, 01 Jan 2026 12:01:30 GMT\r\n",
            "",
            throttled(429, Some(90)),
        ),
        (
            "429 Slow",
            "retry-after: Thu, 01 Jan 2026 11:00:00 GMT\r\n",
            "",
            throttled(429, Some(0)),
        ),
        ("429 Slow", "retry-after: soon\r\n", "", throttled(429, None)),
        ("429 Slow", "retry-after: -1\r\n", "", throttled(429, None)),
        ("503 Busy", "retry-after: 1e9\r\n", "", server(503)),
        ("503 Busy", "retry-after: 30\r\n", "", throttled(503, Some(30))),
        ("500 Oops", "", "it broke", server(500)),
        ("502 Bad", "retry-after: 9\r\n", "", server(502)),
        ("408 Late", "", "", server(408)),
        ("425 Early", "", "", server(425)),
    ] {
        assert_eq!(
            post_to(answer(status, headers, body)).await,
            Err(wanted),
            "{status} {headers}"
        );
    }
    for status in ["200 OK", "202 Accepted", "204 None"] {
        assert_eq!(post_to(answer(status, "", "")).await, Ok(()), "{status}");
    }
    for status in ["400 Bad", "401 Who", "404 Gone", "410 Gone", "413 Big"] {
        let failure = post_to(answer(status, "", "no such hook")).await.unwrap_err();
        let wanted = format!("the receiver refused it with status {}", &status[..3]);
        assert_eq!(failure, Failure::Permanent { reason: wanted });
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (trap, trapped) = listen(answer("200 OK", "", "")).await;
    let location = format!("location: http://{trap}/\r\n");
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let failure = post_to(answer(status, &location, "")).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Permanent { reason } if reason.contains("redirects")),
            "{failure}"
        );
    }
    assert!(!trapped.is_finished());
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up_in_time() {
    // The receiver never answers, so only the sender's own limit ends this.
    let (address, served) = listen(Answer::Hang).await;
    let impatient = sender_with(&["127.0.0.0/8"], Duration::from_millis(300));
    let url = format!("http://{address}/hook");
    assert_eq!(
        impatient.post(&url, Vec::new(), "k", at(0)).await,
        Err(Failure::Timeout)
    );
    assert!(!served.is_finished());
}

#[tokio::test]
async fn an_endless_answer_is_read_to_a_limit() {
    let (address, served) = listen(Answer::Endless).await;
    // No limit of time is near: only the limit of bytes ends this.
    let patient = sender_with(&["127.0.0.0/8"], Duration::from_secs(86_400));
    let url = format!("http://{address}/hook");
    let failure = tokio::time::timeout(Duration::from_secs(60), patient.post(&url, Vec::new(), "k", at(0))).await;
    assert_eq!(failure, Ok(Err(Failure::Server { status: 500 })));
    served.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_echoes_the_url_does_not_make_it_known() {
    for status in ["500 Oops", "404 Gone", "429 Slow", "302 Found"] {
        let echo = answer(status, "location: /s3cret\r\n", "no route for POST /s3cret");
        let (address, _served) = listen(echo).await;
        let failure = post(&format!("http://{address}/s3cret")).await.unwrap_err();
        let shown = format!("{failure} {failure:?}");
        assert!(shown.contains(&status[..3]) && !shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_and_the_url_stays_secret() {
    let (address, _served) = listen(Answer::Reset).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for url in [
        format!("http://{address}/s3cret"),
        format!("http://{free}/s3cret"),
        format!("https://{free}/s3cret"),
    ] {
        let failure = post(&url).await.unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_may_exist_later() {
    // A resolver that does not answer is as good as one that knows no such name.
    let impatient = sender_with(&[], Duration::from_millis(800));
    let url = "http://no-such-host.invalid/s3cret";
    let failure = impatient.post(url, Vec::new(), "k", at(0)).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Unreachable { .. } | Failure::Timeout),
        "{failure}"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_before_anything_is_sent() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let port = address.port();
    let public_only = sender(&[]);
    for host in [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
    ] {
        let url = format!("http://{host}:{port}/");
        let failure = public_only.post(&url, Vec::new(), "k", at(0)).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Permanent { reason } if reason.contains("not public")),
            "{host}: {failure}"
        );
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn a_name_that_resolves_to_an_allowed_address_is_reached() {
    let (address, _served) = listen(answer("200 OK", "", "")).await;
    assert_eq!(post(&format!("http://localhost:{}/", address.port())).await, Ok(()));
}

#[tokio::test]
async fn what_is_no_url_is_refused_for_good() {
    for url in ["", "hooks.example.org", "http://"] {
        assert!(matches!(post(url).await, Err(Failure::Permanent { .. })), "{url}");
    }
}
