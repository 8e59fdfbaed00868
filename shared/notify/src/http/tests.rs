use super::*;
use crate::fixtures::at;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the listener answers.
#[derive(Clone)]
pub(crate) enum Answer {
    Text(String),
    /// Reads the request and says nothing.
    Hang,
    /// Closes with a reset.
    Reset,
    /// Never stops.
    Endless,
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> Answer {
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
pub(crate) async fn listen(answer: Answer) -> (SocketAddr, JoinHandle<String>) {
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
const PATIENT: Duration = Duration::from_secs(60);

fn guard(allowed: &[&str]) -> AddressGuard {
    AddressGuard::with_allowed(allowed.iter().map(|range| range.parse().unwrap()).collect())
}

/// A poster that may reach the loopback.
pub(crate) fn local_poster(limit: Duration) -> Poster {
    Poster::with(guard(&["127.0.0.0/8"]), limit, limit, system_look_up()).unwrap()
}

/// A resolver that gives these answers, one for each question, and then none; and how many were asked for.
fn scripted(answers: &[&[&str]]) -> (LookUp, Arc<AtomicUsize>) {
    let parse = |answer: &&[&str]| {
        answer
            .iter()
            .map(|ip| SocketAddr::new(ip.parse().unwrap(), 0))
            .collect()
    };
    let answers: Vec<Vec<SocketAddr>> = answers.iter().map(parse).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up: LookUp = Arc::new(move |_| {
        let answer = answers.get(count.fetch_add(1, Ordering::SeqCst)).cloned();
        Box::pin(async move { answer.ok_or_else(|| io::Error::other("no more answers")) })
    });
    (look_up, asked)
}

async fn post_by(poster: &Poster, url: &str) -> Result<(), Failure> {
    let post = Post {
        url,
        body: b"{\"a\":1}".to_vec(),
        headers: vec![(
            HeaderName::from_static("idempotency-key"),
            HeaderValue::from_static("t.1.firing:webhook"),
        )],
    };
    poster.post(post, at(0)).await
}

async fn post(url: &str) -> Result<(), Failure> {
    post_by(&local_poster(PATIENT), url).await
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
        ("429 Slow", "retry-after: \r\n", "", throttled(429, None)),
        ("429 Slow", "retry-after: \u{e9}\r\n", "", throttled(429, None)),
        (
            "429 Slow",
            "retry-after: Thursday, 01-Jan-26 12:01:30 GMT\r\n",
            "",
            throttled(429, Some(90)),
        ),
        (
            "429 Slow",
            "retry-after: Thu Jan  1 12:01:30 2026\r\n",
            "",
            throttled(429, Some(90)),
        ),
        // As long as a receiver may ask for.
        ("429 Slow", "retry-after: 86400\r\n", "", throttled(429, Some(900))),
        (
            "429 Slow",
            "retry-after: 99999999999999999999999\r\n",
            "",
            throttled(429, Some(900)),
        ),
        (
            "429 Slow",
            "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
            "",
            throttled(429, Some(900)),
        ),
        ("503 Busy", "", "", server(503)),
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
    let impatient = local_poster(Duration::from_millis(300));
    let url = format!("http://{address}/hook");
    assert_eq!(post_by(&impatient, &url).await, Err(Failure::Timeout));
    assert!(!served.is_finished());
}

#[tokio::test]
async fn an_endless_answer_is_read_to_a_limit() {
    let (address, served) = listen(Answer::Endless).await;
    // No limit of time is near: only the limit of bytes ends this.
    let patient = local_poster(Duration::from_secs(86_400));
    let url = format!("http://{address}/hook");
    let failure = tokio::time::timeout(PATIENT, post_by(&patient, &url)).await;
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
        let shown = failure.to_string();
        assert!(!shown.contains("s3cret") && !shown.contains("127.0.0.1"), "{failure}");
    }
}

#[tokio::test]
async fn errors_are_fixed_words() {
    let unreachable = |reason: &str| Failure::Unreachable {
        reason: reason.to_owned(),
    };
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = post(&format!("http://{gone}/")).await;
    assert_eq!(refused, Err(unreachable("the connection was refused")));
    assert_eq!(
        post_to(Answer::Reset).await,
        Err(unreachable("the connection was reset"))
    );
    let (look_up, _) = scripted(&[]);
    let poster = Poster::with(guard(&[]), PATIENT, PATIENT, look_up).unwrap();
    let unknown = post_by(&poster, "http://s3cret.example.org/").await;
    assert_eq!(unknown, Err(unreachable("the name could not be resolved")));
    assert_eq!(
        post_to(Answer::Text("s3cret\r\n\r\n".into())).await,
        Err(unreachable("the connection broke off, or the answer was not HTTP"))
    );
    let forbidden = post_by(&poster, "http://10.1.2.3/").await.unwrap_err();
    assert_eq!(
        forbidden.to_string(),
        "the receiver's host has only an address that is not public"
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_may_exist_later() {
    // A resolver that does not answer is as good as one that knows no such name.
    let limit = Duration::from_millis(800);
    let impatient = Poster::with(guard(&[]), limit, limit, system_look_up()).unwrap();
    let url = "http://no-such-host.invalid/s3cret";
    let failure = post_by(&impatient, url).await.unwrap_err();
    assert!(
        matches!(failure, Failure::Unreachable { .. } | Failure::Timeout),
        "{failure}"
    );
}

#[tokio::test]
async fn private_addresses_are_refused_in_every_spelling_before_anything_is_sent() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let port = address.port();
    let public_only = Poster::with(guard(&[]), PATIENT, PATIENT, system_look_up()).unwrap();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "127.1",
        "127.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0x7f.0x0.0x0.0x1",
        "0177.0.0.1",
        "017700000001",
        "0.0.0.0",
        "0",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        // NAT64 and 6to4.
        "[64:ff9b::7f00:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "10.0.0.1",
        "192.168.257",
        "100.64.0.1",
        // Who is before the `@` does not matter, nor what looks like a port.
        "example.org@127.0.0.1",
        "example.org:80@127.0.0.1",
        "example.org%2f@127.0.0.1",
        // Digits of other scripts, full stops of other scripts, percent signs.
        "①②⑦.0.0.1",
        "127。0。0。1",
        "１２７.0.0.1",
        "%31%32%37.0.0.1",
        "127%2e0%2e0%2e1",
    ] {
        let url = format!("http://{host}:{port}/s3cret");
        let failure = post_by(&public_only, &url).await.unwrap_err();
        assert!(
            matches!(&failure, Failure::Permanent { reason } if reason.contains("not public")),
            "{host}: {failure}"
        );
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn names_are_judged_by_what_they_resolve_to() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let port = address.port();
    for ip in [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fd00:ec2::254",
        "64:ff9b::7f00:1",
    ] {
        for host in [
            "hooks.example.org",
            "localhost.",
            "xn--bcher-kva.example",
            "bücher.example",
        ] {
            let (look_up, asked) = scripted(&[&[ip]]);
            let public_only = Poster::with(guard(&[]), PATIENT, PATIENT, look_up).unwrap();
            let failure = post_by(&public_only, &format!("http://{host}:{port}/")).await;
            let failure = failure.unwrap_err();
            assert!(
                matches!(&failure, Failure::Permanent { reason } if reason.contains("not public")),
                "{host} {ip}: {failure}"
            );
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let port = address.port();
    let url = format!("http://hooks.example.org:{port}/");
    // The first answer is allowed, and is the one that is connected to: there is no second question.
    let (look_up, asked) = scripted(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let poster = Poster::with(guard(&["127.0.0.1/32"]), PATIENT, PATIENT, look_up).unwrap();
    assert_eq!(post_by(&poster, &url).await, Ok(()));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    served.await.unwrap();
    // The next attempt asks again, and is judged by the new answer.
    assert!(matches!(post_by(&poster, &url).await, Err(Failure::Permanent { .. })));
}

#[tokio::test]
async fn of_several_addresses_only_the_allowed_ones_are_tried() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let url = format!("http://hooks.example.org:{}/", address.port());
    let (look_up, _) = scripted(&[&["127.0.0.2", "169.254.169.254", "127.0.0.1"]]);
    let poster = Poster::with(guard(&["127.0.0.1/32"]), PATIENT, PATIENT, look_up).unwrap();
    assert_eq!(post_by(&poster, &url).await, Ok(()));
    served.await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_is_a_receiver_that_cannot_be_reached() {
    let garbage = "SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned();
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "s3cret".repeat(200_000));
    let broken = "HTTP/1.1 2".to_owned();
    for text in [garbage, long, broken, String::new()] {
        let failure = post_to(Answer::Text(text)).await.unwrap_err();
        assert!(matches!(failure, Failure::Unreachable { .. }), "{failure}");
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_wherever_it_leads() {
    for location in [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/",
        "http://10.0.0.1/",
        "//localhost/",
        "/elsewhere",
        "https://hooks.example.org/",
        "file:///etc/passwd",
        "no address at all \u{7f}",
    ] {
        for status in ["300 Choose", "302 Found", "304 Same", "308 Permanent", "399 What"] {
            let failure = post_to(answer(status, &format!("location: {location}\r\n"), "")).await;
            let failure = failure.unwrap_err();
            let Failure::Permanent { reason } = &failure else {
                // A header that is none.
                assert!(location.ends_with('\u{7f}'), "{location}: {failure}");
                continue;
            };
            let code = &status[..3];
            assert!(
                reason.contains("redirects") && reason.contains(code),
                "{location}: {reason}"
            );
        }
    }
}

#[test]
fn debug_shows_no_address_and_no_header() {
    let post = Post {
        url: "https://example.org/s3cret",
        body: b"s3cret".to_vec(),
        headers: vec![(
            HeaderName::from_static("authorization"),
            HeaderValue::from_static("s3cret"),
        )],
    };
    assert!(!format!("{post:?} {:?}", local_poster(PATIENT)).contains("s3cret"));
}

#[tokio::test]
async fn a_name_that_resolves_to_an_allowed_address_is_reached() {
    let (address, _served) = listen(answer("200 OK", "", "")).await;
    assert_eq!(post(&format!("http://localhost:{}/", address.port())).await, Ok(()));
}

#[tokio::test]
async fn what_is_no_url_is_refused_for_good() {
    for url in [
        "",
        "hooks.example.org",
        "http://",
        "file:///etc/passwd",
        "ftp://example.org/",
    ] {
        assert!(matches!(post(url).await, Err(Failure::Permanent { .. })), "{url}");
    }
}
