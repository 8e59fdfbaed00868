//! A mail server on the loopback interface that takes every mail and keeps it: the least of RFC 5321 that a client may ask for.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The longest line that is read: twice what RFC 5321 allows.
const MAX_LINE_BYTES: u64 = 2_048;

/// The longest mail.
const MAX_MAIL_BYTES: usize = 4_000_000;

/// A mail as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// From whom, as the envelope says.
    pub from: String,
    /// To whom, as the envelope says.
    pub to: Vec<String>,
    /// Head and body.
    pub data: String,
}

impl Mail {
    /// A header, with its continued lines; empty when there is none. Encoded words (RFC 2047, base64) are decoded.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let mut found: Option<String> = None;
        for line in self.data.lines().take_while(|line| !line.is_empty()) {
            if let Some(text) = found.as_mut() {
                if !line.starts_with([' ', '\t']) {
                    break;
                }
                // The space between two encoded words is not part of the text.
                text.push_str(if text.ends_with("?=") { line.trim_start() } else { line });
            } else if let Some((known, value)) = line.split_once(':')
                && known.eq_ignore_ascii_case(name)
            {
                found = Some(value.trim_start().to_owned());
            }
        }
        decoded_words(&found.unwrap_or_default())
    }

    /// The text after the head, decoded.
    #[must_use]
    pub fn text(&self) -> String {
        let body = self.data.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        match self.header("content-transfer-encoding").to_ascii_lowercase().as_str() {
            "base64" => decoded_base64(body),
            "quoted-printable" => decoded_quotes(body),
            _ => body.to_owned(),
        }
    }
}

fn decoded_base64(text: &str) -> String {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(packed).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn decoded_quotes(text: &str) -> String {
    let text = text.replace("=\r\n", "");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (first, byte) {
            (b'=', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn decoded_words(text: &str) -> String {
    let mut all = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("=?") {
        all.push_str(before);
        let mut parts = after.splitn(4, '?');
        let word = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(_), Some(kind), Some(word), Some(behind)) = word else {
            all.push_str("=?");
            rest = after;
            continue;
        };
        match kind.to_ascii_lowercase().as_str() {
            "b" => all.push_str(&decoded_base64(word)),
            _ => all.push_str(&decoded_quotes(&word.replace('_', " "))),
        }
        rest = behind.strip_prefix('=').unwrap_or(behind);
    }
    all.push_str(rest);
    all
}

/// The server. It ends when it is dropped.
#[derive(Debug)]
pub struct MailSink {
    address: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    task: JoinHandle<()>,
}

impl Drop for MailSink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MailSink {
    /// Starts one on a port; 0 for any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(port: u16) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(("127.0.0.1", port)).await;
        let socket = socket.with_context(|| format!("port {port} for mail"))?;
        let address = socket.local_addr()?;
        let mails = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&mails);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    if let Err(error) = serve(stream, &shared).await {
                        eprintln!("the mail server: {error:#}");
                    }
                });
            }
        });
        Ok(Self { address, mails, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The mails to an address.
    #[must_use]
    pub fn mails_to(&self, address: &str) -> Vec<Mail> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        let to = |mail: &&Mail| mail.to.iter().any(|to| to == address);
        mails.iter().filter(to).cloned().collect()
    }
}

/// The address in `MAIL FROM:<a@b> SIZE=1`.
fn address(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}

/// One session. It does not check the order of commands: that is the client's affair, and it gets no mail through without all three.
async fn serve(mut stream: TcpStream, mails: &Mutex<Vec<Mail>>) -> anyhow::Result<()> {
    let (reading, mut writing) = stream.split();
    let mut reader = BufReader::new(reading);
    writing.write_all(b"220 sink.test ESMTP\r\n").await?;
    let mut mail = Mail::default();
    loop {
        let mut line = String::new();
        if (&mut reader).take(MAX_LINE_BYTES).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default();
        let answer = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => "250-sink.test\r\n250 8BITMIME",
            "HELO" | "NOOP" => "250 sink.test",
            "MAIL" => {
                mail.from = address(&line).unwrap_or_default();
                "250 ok"
            }
            "RCPT" => match address(&line) {
                Some(to) => {
                    mail.to.push(to);
                    "250 ok"
                }
                None => "501 no address",
            },
            "DATA" if mail.to.is_empty() => "503 no recipient",
            "DATA" => {
                writing.write_all(b"354 go on\r\n").await?;
                mail.data = data(&mut reader).await?;
                let taken = std::mem::take(&mut mail);
                mails.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
                "250 taken"
            }
            "RSET" => {
                mail = Mail::default();
                "250 ok"
            }
            "QUIT" => {
                writing.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 not here",
        };
        writing.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
}

/// The lines up to the one with just a dot; a dot that was put before another is taken away.
async fn data(reader: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> anyhow::Result<String> {
    let mut all = String::new();
    loop {
        let mut line = Vec::new();
        let read = reader.take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await?;
        ensure!(read > 0, "the mail broke off");
        let line = String::from_utf8_lossy(&line);
        if line.trim_end() == "." {
            return Ok(all);
        }
        all.push_str(line.strip_prefix('.').unwrap_or(&line));
        ensure!(all.len() <= MAX_MAIL_BYTES, "the mail is too large");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed test may panic")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mail_is_taken_as_smtp_sends_it() {
        let sink = MailSink::start(0).await.unwrap();
        let mut client = TcpStream::connect(sink.address()).await.unwrap();
        let session = "EHLO me\r\nMAIL FROM:<a@example.org> SIZE=9\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n\
            Subject: =?utf-8?b?w6RoIA==?=\r\n =?utf-8?q?=C3=B6h_1?=\r\nContent-Transfer-Encoding: base64\r\n\r\nbMOkdXRl\r\n..\r\n.\r\nQUIT\r\n";
        client.write_all(session.as_bytes()).await.unwrap();
        let mut said = String::new();
        client.read_to_string(&mut said).await.unwrap();
        assert!(said.ends_with("221 bye\r\n"), "{said}");
        let mail = &sink.mails_to("c@example.org")[0];
        assert_eq!((mail.from.as_str(), mail.to.len()), ("a@example.org", 2));
        assert_eq!(mail.header("subject"), "äh öh 1");
        assert!(mail.data.ends_with("\r\n.\r\n"), "{}", mail.data);
        assert!(sink.mails_to("d@example.org").is_empty());
    }

    #[test]
    fn texts_are_decoded() {
        let mail = |encoding: &str, body: &str| Mail {
            data: format!("Content-Transfer-Encoding: {encoding}\r\n\r\n{body}"),
            ..Mail::default()
        };
        assert_eq!(mail("base64", "bMOk\r\ndXRl\r\n").text(), "läute");
        assert_eq!(mail("quoted-printable", "l=C3=A4u=\r\nte = 1").text(), "läute = 1");
        assert_eq!(mail("7bit", "x\r\n").text(), "x\r\n");
    }
}
