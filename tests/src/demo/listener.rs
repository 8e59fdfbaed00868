//! Receives webhooks on a random port of the loopback interface.

use anyhow::{Context as _, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// The most bytes of a webhook that are read.
const MAX_BODY_BYTES: usize = 1_000_000;

#[derive(Debug)]
pub(crate) struct Listener {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no port for the webhook listener")?;
        let address = socket.local_addr()?;
        let received = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let sink = Arc::clone(&sink);
                tokio::spawn(async move {
                    match answer(stream).await {
                        Ok(body) => sink.lock().unwrap_or_else(PoisonError::into_inner).push(body),
                        Err(error) => eprintln!("             the webhook listener: {error:#}"),
                    }
                });
            }
        });
        Ok(Self { address, received })
    }

    /// Where rules send their webhooks.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/alerts", self.address)
    }

    /// How many bodies `wanted` accepts.
    pub(crate) fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        received.iter().filter(|body| wanted(body)).count()
    }

    /// The first body that `wanted` accepts.
    pub(crate) fn find(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|body| wanted(body))
            .cloned()
    }
}

/// Reads one request, answers 200, and returns its JSON.
async fn answer(mut stream: TcpStream) -> anyhow::Result<Value> {
    let (reading, mut writing) = stream.split();
    let mut reader = BufReader::new(reading);
    let mut length = 0;
    loop {
        let mut line = String::new();
        (&mut reader).take(16_384).read_line(&mut line).await?;
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some(("content-length", value)) = line.to_ascii_lowercase().split_once(": ") {
            length = value.parse().context("the request's length")?;
        }
    }
    ensure!(length <= MAX_BODY_BYTES, "a webhook of {length} bytes is too large");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let parsed = serde_json::from_slice(&body).context("the webhook is not JSON");
    writing
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await?;
    parsed
}
