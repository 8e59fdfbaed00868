//! A small HTTP/1.1 server on the loopback interface that answers by a script and remembers what it accepted.

use crate::SOON;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// 202, every sample kept.
    Accept,
    /// 202, without the samples at these indexes.
    RefuseSome(Vec<usize>),
    /// Keeps the samples and closes the connection without an answer.
    KeepAndReset,
    /// A status, extra header lines and a body; nothing is kept.
    Status(u16, &'static str, &'static str),
    /// No answer at all.
    Hang,
    /// 413 for more samples than this, otherwise as `Accept`.
    AtMost(usize),
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    pub(crate) head: String,
    pub(crate) samples: Vec<Value>,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) requests: Vec<Request>,
    /// (name, labels, timestamp) → value: as in Tidemark, a repeated sample overwrites itself.
    pub(crate) kept: BTreeMap<(String, String, String), Value>,
    script: VecDeque<Reply>,
}

#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
}

impl Server {
    /// Listens on a free port. After the script every request is accepted; its last entry repeats if it is `AtMost`.
    pub(crate) async fn start(script: impl Into<VecDeque<Reply>>) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), script).await
    }

    pub(crate) async fn start_at(address: SocketAddr, script: impl Into<VecDeque<Reply>>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            script: script.into(),
            ..Seen::default()
        }));
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen,
            changed: Arc::default(),
        };
        let shared = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/stage", self.address)
    }

    pub(crate) fn kept(&self) -> usize {
        self.seen.lock().unwrap().kept.len()
    }

    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().requests.len()
    }

    /// Waits until the server has seen what the test waits for.
    pub(crate) async fn until(&self, condition: impl Fn(&Seen) -> bool) {
        let met = async {
            loop {
                // Listens before it looks, so that no change is missed.
                let changed = self.changed.notified();
                if condition(&self.seen.lock().unwrap()) {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(SOON, met).await.expect("a request in time");
    }

    /// The times between the requests.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        self.seen
            .lock()
            .unwrap()
            .requests
            .windows(2)
            .map(|pair| pair[1].at - pair[0].at)
            .collect()
    }
}

async fn serve(mut stream: TcpStream, Server { seen, changed, .. }: Server) {
    while let Some((head, body)) = read_request(&mut stream).await {
        let samples = decode(&head, &body);
        let reply = {
            let mut seen = seen.lock().unwrap();
            let reply = match seen.script.front() {
                Some(Reply::AtMost(most)) => Reply::AtMost(*most),
                Some(_) => seen.script.pop_front().unwrap(),
                None => Reply::Accept,
            };
            seen.requests.push(Request {
                at: Instant::now(),
                head,
                samples: samples.clone(),
            });
            changed.notify_waiters();
            reply
        };
        let keep = |refused: &[usize]| {
            let mut seen = seen.lock().unwrap();
            for (_, sample) in samples.iter().enumerate().filter(|(i, _)| !refused.contains(i)) {
                let text = |field: &str| sample[field].to_string();
                seen.kept.insert(
                    (text("name"), text("labels"), text("timestamp")),
                    sample["value"].clone(),
                );
            }
            changed.notify_waiters();
            let errors: Vec<Value> = refused
                .iter()
                .map(|i| json!({"index": i, "field": "value", "reason": "is refused"}))
                .collect();
            json!({"status": "accepted", "accepted": samples.len() - refused.len(), "rejected": refused.len(), "errors": errors})
        };
        let (status, headers, body) = match reply {
            Reply::Accept => (202, "", keep(&[]).to_string()),
            Reply::AtMost(most) if samples.len() <= most => (202, "", keep(&[]).to_string()),
            Reply::AtMost(_) => (
                413,
                "",
                json!({"error": {"id": "too_large", "message": "too large"}}).to_string(),
            ),
            Reply::RefuseSome(refused) => (202, "", keep(&refused).to_string()),
            Reply::Status(status, headers, body) => (status, headers, body.to_owned()),
            Reply::KeepAndReset => {
                keep(&[]);
                return;
            }
            Reply::Hang => std::future::pending().await,
        };
        let answer = format!(
            "HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head
        .split_once("content-length: ")
        .unwrap()
        .1
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}

#[expect(clippy::disallowed_methods, reason = "unpacks what this test itself has packed")]
fn decode(head: &str, body: &[u8]) -> Vec<Value> {
    let mut json = Vec::new();
    if head.contains("content-encoding: gzip") {
        flate2::read::GzDecoder::new(body).read_to_end(&mut json).unwrap();
    } else {
        json.extend_from_slice(body);
    }
    let body: Value = serde_json::from_slice(&json).unwrap();
    body["metrics"].as_array().unwrap().clone()
}
