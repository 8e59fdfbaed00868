//! An HTTP server on a random port of the loopback interface, as the far end of channels. Each path answers as it is told, and
//! everything that comes is kept, byte for byte.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The most bytes of a request that are read.
const MAX_BODY_BYTES: usize = 4_000_000;

/// Between two bytes of an answer that does not end.
const DRIP: Duration = Duration::from_millis(200);

/// The path of [`Receiver::url`].
const HOOK: &str = "/hook";

/// How a request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// With this status and no body.
    Status(u16),
    /// With this status, and `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// With this status and this body.
    Body(u16, String),
    /// 307 to this address.
    Redirect(String),
    /// Never; the connection stays open.
    Hang,
    /// The connection is reset once the request has been read.
    Reset,
    /// With the head of a failure (502) and a body that comes a byte at a time and has no end.
    Drip,
}

impl Reply {
    /// The status, 0 when there is none.
    fn status(&self) -> u16 {
        match self {
            Self::Status(status) | Self::RetryAfter(status, _) | Self::Body(status, _) => *status,
            Self::Redirect(_) => 307,
            Self::Drip => 502,
            Self::Hang | Self::Reset => 0,
        }
    }

    /// The bytes of the answer; `None` when nothing is answered.
    fn bytes(&self) -> Option<String> {
        let (extra, body) = match self {
            Self::Status(_) => (String::new(), ""),
            Self::RetryAfter(_, seconds) => (format!("retry-after: {seconds}\r\n"), ""),
            Self::Body(_, body) => ("content-type: application/json\r\n".to_owned(), body.as_str()),
            Self::Redirect(to) => (format!("location: {to}\r\n"), ""),
            Self::Drip => return Some("HTTP/1.1 502 Told\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()),
            Self::Hang | Self::Reset => return None,
        };
        let (status, length) = (self.status(), body.len());
        Some(format!(
            "HTTP/1.1 {status} Told\r\n{extra}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ))
    }
}

/// A request that came, and how it was answered.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its method.
    pub method: String,
    /// Its path, with the query.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The bytes of its body.
    pub bytes: Vec<u8>,
    /// Its body as JSON, null when it is none.
    pub body: Value,
    /// The status it was answered with, 0 for none.
    pub answered: u16,
}

impl Hook {
    /// A header's text, empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }
}

/// What the paths are told.
#[derive(Debug, Default)]
struct State {
    hooks: Vec<Hook>,
    scripts: HashMap<String, VecDeque<Reply>>,
    always: HashMap<String, Reply>,
}

impl State {
    fn reply(&mut self, path: &str) -> Reply {
        let scripted = self.scripts.get_mut(path).and_then(VecDeque::pop_front);
        let always = || self.always.get(path).cloned();
        scripted.or_else(always).unwrap_or(Reply::Status(200))
    }
}

/// The receiver. It ends when it is dropped, and with it every connection that hangs.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    /// Starts one. The first requests to [`Receiver::url`] get the statuses of `script`, each with `Retry-After` where it has one; all
    /// others 200.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(script: &[(u16, Option<u32>)]) -> anyhow::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let address = socket.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Aborted with this task when the receiver is dropped.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = socket.accept().await {
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        eprintln!("the receiver: {error:#}");
                    }
                });
            }
        });
        let receiver = Self { address, state, task };
        let replies = script.iter().map(|(status, after)| match after {
            None => Reply::Status(*status),
            Some(seconds) => Reply::RetryAfter(*status, *seconds),
        });
        receiver.next(HOOK, replies);
        Ok(receiver)
    }

    /// Where rules send their webhooks.
    #[must_use]
    pub fn url(&self) -> String {
        self.at(HOOK)
    }

    /// The address of a path.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next requests to a path get these answers, after those that it was told before.
    pub fn next(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut state = lock(&self.state);
        state.scripts.entry(path.to_owned()).or_default().extend(replies);
    }

    /// From now on every request to a path is answered so, once its script is over.
    pub fn always(&self, path: &str, reply: Reply) {
        lock(&self.state).always.insert(path.to_owned(), reply);
    }

    /// All that came so far.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        lock(&self.state).hooks.clone()
    }

    /// What came to a path.
    #[must_use]
    pub fn came_to(&self, path: &str) -> Vec<Hook> {
        let mut hooks = self.hooks();
        hooks.retain(|hook| hook.path == path);
        hooks
    }

    /// What came with this status of an alert and was taken.
    #[must_use]
    pub fn taken(&self, status: &str) -> Vec<Hook> {
        let mut hooks = self.hooks();
        hooks.retain(|hook| hook.answered == 200 && hook.body["status"] == status);
        hooks
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn read(stream: &mut TcpStream) -> anyhow::Result<Hook> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    (&mut reader).take(16_384).read_line(&mut first).await?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        (&mut reader).take(16_384).read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse())?;
    ensure!(length <= MAX_BODY_BYTES, "a request of {length} bytes is too large");
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok(Hook {
        method,
        path,
        headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        bytes,
        answered: 0,
    })
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> anyhow::Result<()> {
    let mut hook = read(&mut stream).await?;
    let reply = {
        let mut state = lock(state);
        let reply = state.reply(&hook.path);
        hook.answered = reply.status();
        state.hooks.push(hook);
        reply
    };
    match &reply {
        // Closing with a reset instead of an orderly end.
        Reply::Reset => stream.set_zero_linger()?,
        // Until the receiver ends, or the sender gives up.
        Reply::Hang => drop(stream.read_u8().await),
        reply => {
            let bytes = reply.bytes().unwrap_or_default();
            stream.write_all(bytes.as_bytes()).await?;
        }
    }
    if reply == Reply::Drip {
        // Ends with an error once the sender has closed.
        while stream.write_all(b"1\r\n.\r\n").await.is_ok() {
            tokio::time::sleep(DRIP).await;
        }
    }
    Ok(())
}
