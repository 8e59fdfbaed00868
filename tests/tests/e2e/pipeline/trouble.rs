//! What may happen to a batch on its way, made to happen.

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::aws::{Aws, DYNAMODB};
use tidemark_tests::harness::stream::{self, Record};
use tidemark_tests::harness::variable;
use tidemark_tsdb::SequenceNumber;
use tokio::sync::watch;

/// So many batches are delivered again at least, and so many invocations killed.
pub(crate) const LEAST_REDELIVERED: usize = 20;
pub(crate) const LEAST_KILLED: usize = 3;

/// Attempts to kill an invocation in its middle: the moment is luck.
const MOST_ATTEMPTS: usize = 200;

pub(crate) struct Trouble<'a> {
    api: &'a Api,
    aws: &'a Aws,
    seed: u64,
    /// The last record of each shard when the trouble began; what other tests pushed before is none of its business.
    began: BTreeMap<String, Option<String>>,
}

impl<'a> Trouble<'a> {
    pub(crate) async fn new(api: &'a Api, aws: &'a Aws, seed: u64) -> anyhow::Result<Self> {
        let stream = variable("STREAM_NAME")?;
        let mut began = BTreeMap::new();
        for shard in stream::shards(aws, &stream).await? {
            let records = stream::records(aws, &stream, &shard, None).await?;
            began.insert(shard, records.last().map(|last| last.sequence().to_owned()));
        }
        Ok(Self { api, aws, seed, began })
    }

    /// What was consumed, shard by shard. What was not is left out: only the event source and a drain may come upon a record
    /// first, as on AWS.
    async fn records(&self) -> anyhow::Result<Vec<Vec<Record>>> {
        let stream = variable("STREAM_NAME")?;
        let mut all = Vec::new();
        for (shard, began) in &self.began {
            let key = json!({"pk": {"S": "checkpoints"}, "sk": {"S": shard}});
            let request = json!({"TableName": variable("CATALOG_TABLE")?, "Key": key, "ConsistentRead": true});
            let item = self.aws.call(DYNAMODB, "GetItem", request).await?;
            let Some(stored) = item["Item"]["sequence"]["S"].as_str().and_then(SequenceNumber::parse) else {
                continue;
            };
            let mut records = stream::records(self.aws, &stream, shard, began.as_deref()).await?;
            records.retain(|record| SequenceNumber::parse(record.sequence()).is_some_and(|it| it <= stored));
            all.push(records);
        }
        Ok(all)
    }

    /// Delivers runs of records that were delivered before, cut anew, and drains the queue by hand, until the pushing is over.
    pub(crate) async fn redeliver_and_drain(&self, mut over: watch::Receiver<bool>) -> anyhow::Result<usize> {
        let mut random = StdRng::seed_from_u64(self.seed);
        let function = variable("CONSUME_FUNCTION")?;
        let mut delivered = 0;
        loop {
            for records in self.records().await? {
                for _ in 0..2 {
                    let batch = stream::cut(&records, 25, &mut random);
                    if batch.is_empty() {
                        continue;
                    }
                    let invoked = self
                        .aws
                        .invoke(&function, &stream::event(batch, self.aws.region()))
                        .await?;
                    // Its process may be killed by the other troublemaker; Lambda would deliver it again, and so is it here.
                    delivered += usize::from(!invoked.failed);
                }
            }
            let drained = self.api.post("/api/v1/ops/process-queue", &json!({})).await?;
            drained.expect(200)?;
            if *over.borrow_and_update() && delivered >= LEAST_REDELIVERED {
                return Ok(delivered);
            }
        }
    }

    /// Delivers everything that was consumed once more, in order.
    pub(crate) async fn redeliver_everything(&self) -> anyhow::Result<()> {
        let function = variable("CONSUME_FUNCTION")?;
        for records in self.records().await? {
            let mut rest = records.as_slice();
            while !rest.is_empty() {
                let batch = stream::fitting(rest);
                rest = &rest[batch.len()..];
                let invoked = self
                    .aws
                    .invoke(&function, &stream::event(batch, self.aws.region()))
                    .await?;
                ensure!(!invoked.failed, "{invoked:?}");
            }
        }
        Ok(())
    }

    /// Invokes the consumer with many records and kills its processes while they work, until the pushing is over.
    pub(crate) async fn kill(&self, mut over: watch::Receiver<bool>) -> anyhow::Result<usize> {
        let mut random = StdRng::seed_from_u64(self.seed ^ 1);
        let function = variable("CONSUME_FUNCTION")?;
        let consumers = Consumers::new()?;
        let mut killed = 0;
        for _ in 0..MOST_ATTEMPTS {
            let records: Vec<Record> = self.records().await?.into_iter().flatten().collect();
            let batch = stream::cut(&records, 60, &mut random).to_vec();
            if batch.is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let event = stream::event(&batch, self.aws.region());
            let delay = Duration::from_millis(random.random_range(1..120));
            let strike = async {
                tokio::time::sleep(delay).await;
                consumers.kill_all()
            };
            let (invoked, ()) = futures::future::try_join(self.aws.invoke(&function, &event), strike).await?;
            // An error is the proof that the invocation was in its middle.
            killed += usize::from(invoked.failed);
            if *over.borrow_and_update() && killed >= LEAST_KILLED {
                break;
            }
        }
        Ok(killed)
    }
}

/// The processes of this stack's consumer: children of its emulator that run the binary that was deployed as `Consume`.
struct Consumers {
    emulator: Pid,
    binary: PathBuf,
}

impl Consumers {
    fn new() -> anyhow::Result<Self> {
        let folder = variable("TIDEMARK_LOCAL_DIR")?;
        let folder = Path::new(&folder);
        let pid = std::fs::read_to_string(folder.join("ministack.pid")).context("the emulator's process id")?;
        Ok(Self {
            emulator: pid.trim().parse()?,
            binary: folder.join("sam/build/Consume/bootstrap"),
        })
    }

    fn kill_all(&self) -> anyhow::Result<()> {
        let mut system = System::new()?;
        let exe = ProcessRefreshKind::nothing().with_exe(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, exe);
        for process in system.processes().values() {
            let ours = process.parent() == Some(self.emulator) && process.thread_kind().is_none();
            if ours && process.exe().is_some_and(|exe| same_content(exe, &self.binary)) {
                process.kill();
            }
        }
        Ok(())
    }
}

/// The emulator runs a copy of what was deployed.
fn same_content(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| std::fs::metadata(path).map(|it| it.len()).ok();
    length(one).is_some() && length(one) == length(other) && std::fs::read(one).ok() == std::fs::read(other).ok()
}
