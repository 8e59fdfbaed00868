//! The handle that a program keeps, and its builder.

use crate::buffer::{Buffer, Limits};
use crate::retry::Backoff;
use crate::sender::{OnRefused, Phase, Sender, Shared};
use crate::transport::Transport;
use crate::{Error, Metric, Refusal, Stats};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// The largest batch in bytes of JSON. A Lambda function takes an event of 6 MB, in which a packed body grows by a third.
const MAX_BATCH_BYTES: usize = 4_000_000;

/// Pushes samples to Tidemark. Cheap to clone; all clones share one buffer and one background task.
///
/// Close it before the program ends. When the last handle is dropped instead, what waits is tried once in the background,
/// as long as the runtime lives.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    settled: watch::Receiver<u64>,
    task: tokio::task::AbortHandle,
    labels: BTreeMap<String, String>,
}

impl Client {
    /// Begins a client for the API at `url`, the part before `/api/v1/metrics`.
    pub fn builder(url: impl Into<String>) -> Builder {
        Builder::new(url.into())
    }

    /// Takes a sample and returns at once; the sample is sent in the background.
    ///
    /// Its time is fixed here. When the buffer is full, the oldest sample is dropped and counted; after `close`, this one.
    pub fn push(&self, metric: Metric) {
        let sample = metric.encode(&self.inner.labels, wall_clock());
        let mut state = self.inner.shared.lock();
        if state.phase != Phase::Open {
            state.stats.dropped += 1;
            return;
        }
        let due_before = state.buffer.due();
        let dropped = state.buffer.push(sample, Instant::now());
        state.stats.dropped += dropped as u64;
        let due = state.buffer.due();
        drop(state);
        if due != due_before {
            self.inner.shared.bell.notify_one();
        }
    }

    /// Sends everything that was pushed so far and waits until each sample is accepted, refused or dropped.
    ///
    /// While the server cannot be reached this waits; put a time limit around it.
    ///
    /// # Errors
    /// [`Error::Closed`] when the client was closed before.
    pub async fn flush(&self) -> Result<(), Error> {
        let target = {
            let mut state = self.inner.shared.lock();
            state.flush_to = state.buffer.pushed();
            state.flush_to
        };
        self.wait_for(target).await
    }

    /// Sends what is left, with retries, and ends the background task. Later pushes are dropped.
    ///
    /// # Errors
    /// [`Error::Unsent`] when the time is over before everything is sent.
    pub async fn close(&self, deadline: Duration) -> Result<Stats, Error> {
        let target = {
            let mut state = self.inner.shared.lock();
            state.phase = Phase::Draining;
            state.buffer.pushed()
        };
        let done = timeout(deadline, self.wait_for(target)).await;
        if let Ok(Ok(())) = done {
            return Ok(self.stats());
        }
        self.inner.task.abort();
        let mut state = self.inner.shared.lock();
        let samples = state.buffer.abandon();
        state.stats.dropped += samples as u64;
        match done {
            Ok(Err(error)) => Err(error),
            _ => Err(Error::Unsent { samples, deadline }),
        }
    }

    /// What became of the samples so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.inner.shared.lock();
        Stats {
            buffered: state.buffer.unsettled() as u64,
            ..state.stats
        }
    }

    async fn wait_for(&self, target: u64) -> Result<(), Error> {
        self.inner.shared.bell.notify_one();
        let mut settled = self.inner.settled.clone();
        settled
            .wait_for(|settled| *settled >= target)
            .await
            .map_err(|_| Error::Closed)?;
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Also after a `close` that was not waited for.
        self.shared.lock().phase = Phase::Abandoned;
        self.shared.bell.notify_one();
    }
}

/// A client in the making. Every setting has a default that suits an agent on a host.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    url: String,
    limits: Limits,
    backoff: Backoff,
    timeout: Duration,
    gzip_above: usize,
    labels: BTreeMap<String, String>,
    on_refused: Option<OnRefused>,
    #[cfg(feature = "sigv4")]
    region: Option<String>,
}

impl Builder {
    fn new(url: String) -> Self {
        Self {
            url,
            limits: Limits {
                batch_samples: 2_000,
                batch_bytes: 1_000_000,
                interval: Duration::from_secs(10),
                buffer_samples: 200_000,
                buffer_bytes: 32_000_000,
            },
            backoff: Backoff {
                first: Duration::from_millis(500),
                longest: Duration::from_secs(60),
            },
            timeout: Duration::from_secs(30),
            gzip_above: 1_024,
            labels: BTreeMap::new(),
            on_refused: None,
            #[cfg(feature = "sigv4")]
            region: None,
        }
    }

    /// Adds a label to every sample that does not carry it itself.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// A batch is sent as soon as it holds so many samples (default 2,000)…
    pub fn batch_samples(mut self, samples: usize) -> Self {
        self.limits.batch_samples = samples;
        self
    }

    /// …or so many bytes of JSON (default 1 MB, at most 4 MB)…
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.limits.batch_bytes = bytes;
        self
    }

    /// …or when its first sample has waited so long (default 10 s).
    pub fn interval(mut self, interval: Duration) -> Self {
        self.limits.interval = interval;
        self
    }

    /// How many samples may wait (default 200,000). Up to one batch more is on its way.
    pub fn buffer_samples(mut self, samples: usize) -> Self {
        self.limits.buffer_samples = samples;
        self
    }

    /// How many bytes of JSON may wait (default 32 MB).
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.limits.buffer_bytes = bytes;
        self
    }

    /// Bodies longer than this are sent packed (default 1 KiB); `usize::MAX` turns it off.
    pub fn gzip_above(mut self, bytes: usize) -> Self {
        self.gzip_above = bytes;
        self
    }

    /// How long one request may take (default 30 s, API Gateway's own limit).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The pause after the first failure and the longest pause (default 0.5 s and 60 s). It doubles in between.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = Backoff { first, longest };
        self
    }

    /// Calls `report` with every sample that the server refuses and gives the reason of. It runs in the background task
    /// and must not block.
    pub fn on_refused(mut self, report: impl Fn(Refusal<'_>) + Send + Sync + 'static) -> Self {
        self.on_refused = Some(Box::new(report));
        self
    }

    /// Signs every request for `region` with the credentials in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if set,
    /// `AWS_SESSION_TOKEN`, for an API that asks for AWS IAM.
    #[cfg(feature = "sigv4")]
    pub fn sigv4(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Starts the client and its background task.
    ///
    /// # Errors
    /// When a setting is out of range, credentials are missing, or there is no tokio runtime.
    pub fn build(self) -> Result<Client, Error> {
        self.check()?;
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| Error::NoRuntime)?;
        #[cfg_attr(not(feature = "sigv4"), expect(unused_mut, reason = "changed only to sign"))]
        let mut transport = Transport::new(&self.url, self.timeout, self.gzip_above)?;
        #[cfg(feature = "sigv4")]
        if let Some(region) = self.region {
            transport.sign_with(crate::sign::Signer::from_env(region)?);
        }
        let shared = Arc::new(Shared::new(Buffer::new(self.limits)));
        let (settled_sender, settled) = watch::channel(0);
        let sender = Sender {
            shared: Arc::clone(&shared),
            transport,
            backoff: self.backoff,
            batch_samples: self.limits.batch_samples,
            on_refused: self.on_refused,
            settled: settled_sender,
        };
        let task = runtime.spawn(sender.run()).abort_handle();
        Ok(Client {
            inner: Arc::new(Inner {
                shared,
                settled,
                task,
                labels: self.labels,
            }),
        })
    }

    fn check(&self) -> Result<(), Error> {
        let Limits {
            batch_samples,
            batch_bytes,
            buffer_samples,
            buffer_bytes,
            ..
        } = self.limits;
        let checks = [
            ("batch_samples", batch_samples > 0, "must be at least 1"),
            (
                "batch_bytes",
                (1..=MAX_BATCH_BYTES).contains(&batch_bytes),
                "must be between 1 and 4,000,000",
            ),
            (
                "buffer_samples",
                buffer_samples >= batch_samples,
                "must be at least batch_samples",
            ),
            (
                "buffer_bytes",
                buffer_bytes >= batch_bytes,
                "must be at least batch_bytes",
            ),
            ("timeout", !self.timeout.is_zero(), "must be more than zero"),
            ("backoff", !self.backoff.first.is_zero(), "must begin above zero"),
            (
                "backoff",
                self.backoff.longest >= self.backoff.first,
                "must not end below its beginning",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, reason)) => Err(Error::InvalidSetting { setting, reason }),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("url", &self.url)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the edge: a sample is measured when it is pushed"
)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}
