//! A webhook receiver on a random port of the loopback interface. It answers as it is told and keeps what it got.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The most bytes of a webhook that are read.
const MAX_BODY_BYTES: usize = 1_000_000;

/// A request that came, and how it was answered.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Value,
    /// The status it was answered with.
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

#[derive(Debug, Default)]
struct State {
    hooks: Vec<Hook>,
    script: VecDeque<(u16, Option<u32>)>,
}

/// The receiver. It ends when it is dropped.
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
    /// Starts one. The first requests get the statuses of `script`, each with `Retry-After` where it has one; all others 200.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(script: &[(u16, Option<u32>)]) -> anyhow::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await.context("no port")?;
        let address = socket.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            hooks: Vec::new(),
            script: script.iter().copied().collect(),
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        eprintln!("the webhook receiver: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, state, task })
    }

    /// Where rules send their webhooks.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// All that came so far.
    #[must_use]
    pub fn hooks(&self) -> Vec<Hook> {
        lock(&self.state).hooks.clone()
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

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> anyhow::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reader = BufReader::new(reading);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        (&mut reader).take(16_384).read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(Ok(0), |(_, value)| value.parse())?;
    ensure!(length <= MAX_BODY_BYTES, "a webhook of {length} bytes is too large");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let body = serde_json::from_slice(&body).context("the webhook is not JSON")?;
    let retry_after = {
        let mut state = lock(state);
        let (answered, retry_after) = state.script.pop_front().unwrap_or((200, None));
        state.hooks.push(Hook {
            headers,
            body,
            answered,
        });
        (answered, retry_after)
    };
    let (status, retry_after) = retry_after;
    let retry_after = retry_after.map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
    let answer = format!("HTTP/1.1 {status} Told\r\n{retry_after}content-length: 0\r\nconnection: close\r\n\r\n");
    writing.write_all(answer.as_bytes()).await?;
    Ok(())
}
