//! One installation of Tidemark: its resources, its functions as processes, and what AWS does between them.

use crate::template;
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tidemark_tests::harness::api::{Api, Request};
use tidemark_tests::harness::aws::{Aws, Invoked, KINESIS, SQS};
use tidemark_tests::harness::stream::{self, Record};
use tidemark_tests::harness::suites::{create_table, delete_table};
use tidemark_tests::harness::{eventually, unique, variable, within};
use tokio::process::{Child, Command};

/// The most records of one invocation of `consume`: few, so that a test of some thousand samples has many batches.
const MOST_RECORDS: usize = 10;

pub(crate) struct Installation {
    pub(crate) aws: Aws,
    /// What the functions are told, by the name of the variable.
    values: BTreeMap<&'static str, String>,
    tables: Vec<String>,
    runtime: String,
    /// Ended when this is dropped.
    processes: Vec<Child>,
}

/// How far the shards were consumed.
#[derive(Debug, Default)]
pub(crate) struct Positions(BTreeMap<String, String>);

impl Installation {
    /// Makes the resources and starts the functions.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let aws = Aws::from_env()?;
        let mut values = BTreeMap::new();
        let mut tables = Vec::new();
        for (resource, keys) in template::tables()? {
            let name = unique(&format!("tidemark-{resource}"));
            create_table(&aws, &name, keys).await?;
            let variable = match resource {
                "SegmentsTable" => "SEGMENTS_TABLE",
                "CatalogTable" => "CATALOG_TABLE",
                "MetricsTable" => "METRICS_TABLE",
                "AggregatesTable" => "AGGREGATES_TABLE",
                "AlertsTable" => "ALERTS_TABLE",
                "CacheTable" => "CACHE_TABLE",
                other => anyhow::bail!("no function knows the table {other}"),
            };
            values.insert(variable, name.clone());
            tables.push(name);
        }
        values.insert("STREAM_NAME", create_stream(&aws).await?);
        values.insert("DEAD_LETTER_QUEUE_URL", create_queue(&aws, "dead").await?);
        values.insert("EVALUATE_QUEUE_URL", create_queue(&aws, "evaluate").await?);
        values.insert("NOTIFY_DEAD_LETTER_QUEUE_URL", create_queue(&aws, "undelivered").await?);
        let notify_queue = create_queue(&aws, "notify").await?;
        values.insert("ALERTS_TOPIC_ARN", create_topic(&aws, &notify_queue).await?);
        values.insert("NOTIFY_QUEUE_URL", notify_queue);
        values.insert("WEBHOOK_ALLOWED_CIDRS", "127.0.0.0/8".to_owned());
        values.insert("BUCKETS", template::default("Buckets")?.to_owned());
        values.insert("WINDOW_SECONDS", template::default("WindowSeconds")?.to_owned());
        for (variable, parameter) in [
            ("RAW_RETENTION_DAYS", "RawRetentionDays"),
            ("MINUTE_RETENTION_DAYS", "MinuteRetentionDays"),
            ("HOUR_RETENTION_DAYS", "HourRetentionDays"),
            ("COMPACTION_GRACE_SECONDS", "CompactionGraceSeconds"),
        ] {
            values.insert(variable, template::default(parameter)?.to_owned());
        }
        let mut installation = Self {
            aws,
            values,
            tables,
            runtime: String::new(),
            processes: Vec::new(),
        };
        installation.start().await?;
        Ok(installation)
    }

    /// What the functions are told.
    pub(crate) fn value(&self, name: &str) -> &str {
        &self.values[name]
    }

    /// The runtime API of `cargo lambda watch`, and the programs as they were built, each with just the variables that
    /// template.yaml gives it. `watch` does not start them itself: it would compile each with other features than the whole.
    async fn start(&mut self) -> anyhow::Result<()> {
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        self.runtime = format!("127.0.0.1:{port}");
        let top = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("no top folder")?;
        let port = port.to_string();
        let mut watch = Command::new(top.join(".tools/bin/cargo-lambda"));
        watch
            .args(["lambda", "watch", "--only-lambda-apis", "--ignore-changes"])
            .args(["--invoke-address", "127.0.0.1", "--invoke-port", &port])
            .current_dir(top);
        self.processes
            .push(quiet(&mut watch).spawn().context("cargo lambda watch")?);
        within(Duration::from_secs(30), "the runtime API", async || {
            tokio::net::TcpStream::connect(&self.runtime).await?;
            Ok(Some(()))
        })
        .await?;
        let programs = programs()?;
        for (function, variables) in template::functions()? {
            let mut command = Command::new(programs.join(function));
            command.env_clear();
            for name in variables {
                let value = self.values.get(name);
                command.env(name, value.with_context(|| format!("{function} wants {name}"))?);
            }
            for name in [
                "AWS_ENDPOINT_URL",
                "AWS_REGION",
                "AWS_ACCESS_KEY_ID",
                "AWS_SECRET_ACCESS_KEY",
            ] {
                command.env(name, variable(name)?);
            }
            command
                .env(
                    "AWS_LAMBDA_RUNTIME_API",
                    format!("http://{}/.rt/{function}", self.runtime),
                )
                .env("AWS_LAMBDA_FUNCTION_NAME", function)
                .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
                .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
                .env("LOG_LEVEL", "warn");
            let child = quiet(&mut command).spawn();
            self.processes
                .push(child.with_context(|| format!("{function} in {}", programs.display()))?);
        }
        Ok(())
    }

    /// A function behind HTTP, as a gateway invokes it.
    pub(crate) fn api(&self, function: &str) -> anyhow::Result<Api> {
        Api::new(&format!("http://{}/lambda-url/{function}", self.runtime))
    }

    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> anyhow::Result<Invoked> {
        let api = Api::new(&format!("http://{}", self.runtime))?;
        let path = format!("/2015-03-31/functions/{function}/invocations");
        let answer = api.call("POST", &path, Request::json(event.to_string())).await?;
        Ok(Invoked {
            failed: answer.status != 200,
            payload: answer.json,
        })
    }

    /// Delivers records of one shard, as Lambda does.
    pub(crate) async fn deliver(&self, records: &[Record]) -> anyhow::Result<()> {
        let invoked = self
            .invoke("consume", &stream::event(records, self.aws.region()))
            .await?;
        ensure!(!invoked.failed, "{invoked:?}");
        ensure!(invoked.payload["batchItemFailures"] == json!([]), "{invoked:?}");
        Ok(())
    }

    /// What was delivered, shard by shard.
    pub(crate) async fn delivered(&self, positions: &Positions) -> anyhow::Result<Vec<Vec<Record>>> {
        let mut all = Vec::new();
        for (shard, last) in &positions.0 {
            let mut records = stream::records(&self.aws, self.value("STREAM_NAME"), shard, None).await?;
            let end = records.iter().position(|record| record.sequence() == last);
            records.truncate(end.context("a record is gone")? + 1);
            all.push(records);
        }
        Ok(all)
    }

    /// Delivers what is new in all shards; returns how many records that were. Shards are listed in the order in which they
    /// were made, so that parents come before their children.
    pub(crate) async fn consume(&self, positions: &mut Positions) -> anyhow::Result<usize> {
        let stream = self.value("STREAM_NAME");
        let mut delivered = 0;
        for shard in stream::shards(&self.aws, stream).await? {
            let after = positions.0.get(&shard).map(String::as_str);
            let records = stream::records(&self.aws, stream, &shard, after).await?;
            for batch in records.chunks(MOST_RECORDS) {
                self.deliver(batch).await?;
                delivered += batch.len();
                if let Some(last) = batch.last() {
                    positions.0.insert(shard.clone(), last.sequence().to_owned());
                }
            }
        }
        Ok(delivered)
    }

    /// One tick of the schedule.
    pub(crate) async fn tick(&self) -> anyhow::Result<Value> {
        let invoked = self.invoke("evaluate", &json!({"source": "schedule"})).await?;
        ensure!(!invoked.failed, "{invoked:?}");
        Ok(invoked.payload)
    }

    /// Takes what waits in the queue to `notify`, each batch `times` times, and deletes what it reports as done. Returns how
    /// many messages were done.
    pub(crate) async fn notify(&self, times: usize) -> anyhow::Result<usize> {
        let queue = self.value("NOTIFY_QUEUE_URL");
        let request = json!({
            "QueueUrl": queue, "MaxNumberOfMessages": 10, "VisibilityTimeout": 30, "WaitTimeSeconds": 0,
            "AttributeNames": ["All"],
        });
        let page = self.aws.call(SQS, "ReceiveMessage", request).await?;
        let messages = page["Messages"].as_array().cloned().unwrap_or_default();
        if messages.is_empty() {
            return Ok(0);
        }
        let event = sqs_event(&messages, self.aws.region());
        let mut failed = Vec::new();
        for _ in 0..times {
            let invoked = self.invoke("notify", &event).await?;
            ensure!(!invoked.failed, "{invoked:?}");
            let failures = invoked.payload["batchItemFailures"].as_array().cloned();
            failed = failures.context("no batchItemFailures")?;
        }
        let mut done = 0;
        for message in &messages {
            if !failed.iter().any(|it| it["itemIdentifier"] == message["MessageId"]) {
                let handle = &message["ReceiptHandle"];
                let request = json!({"QueueUrl": queue, "ReceiptHandle": handle});
                self.aws.call(SQS, "DeleteMessage", request).await?;
                done += 1;
            }
        }
        Ok(done)
    }

    /// Ends the functions and removes the resources; a test that fails leaves them to the emulator's end.
    pub(crate) async fn remove(mut self) -> anyhow::Result<()> {
        for process in &mut self.processes {
            process.kill().await?;
        }
        for table in &self.tables {
            // A test may have removed one.
            let _ = delete_table(&self.aws, table).await;
        }
        let stream = json!({"StreamName": self.value("STREAM_NAME")});
        self.aws.call(KINESIS, "DeleteStream", stream).await?;
        for queue in [
            "EVALUATE_QUEUE_URL",
            "NOTIFY_QUEUE_URL",
            "NOTIFY_DEAD_LETTER_QUEUE_URL",
            "DEAD_LETTER_QUEUE_URL",
        ] {
            let request = json!({"QueueUrl": self.value(queue)});
            self.aws.call(SQS, "DeleteQueue", request).await?;
        }
        let topic = self.value("ALERTS_TOPIC_ARN");
        self.aws
            .form(
                "sns",
                &[
                    ("Action", "DeleteTopic"),
                    ("Version", "2010-03-31"),
                    ("TopicArn", topic),
                ],
            )
            .await
            .map(drop)
    }
}

/// Its errors are shown, what else it says is not.
fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true)
}

/// Where cargo has put the programs: two folders above this one's.
fn programs() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(Path::parent);
    Ok(folder.context("no folder")?.to_owned())
}

async fn create_stream(aws: &Aws) -> anyhow::Result<String> {
    aws.ready(KINESIS, "ListStreams").await?;
    let name = unique("tidemark");
    aws.call(KINESIS, "CreateStream", json!({"StreamName": name, "ShardCount": 2}))
        .await?;
    until_active(aws, &name).await?;
    Ok(name)
}

/// Waits until a stream can be written to.
pub(crate) async fn until_active(aws: &Aws, stream: &str) -> anyhow::Result<()> {
    eventually(&format!("the stream {stream}"), async || {
        let answer = aws
            .call(KINESIS, "DescribeStreamSummary", json!({"StreamName": stream}))
            .await?;
        Ok(Some(()).filter(|()| answer["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"))
    })
    .await
}

async fn create_queue(aws: &Aws, kind: &str) -> anyhow::Result<String> {
    aws.ready(SQS, "ListQueues").await?;
    let request = json!({"QueueName": unique(&format!("tidemark-{kind}"))});
    let created = aws.call(SQS, "CreateQueue", request).await?;
    Ok(created["QueueUrl"].as_str().context("no queue")?.to_owned())
}

/// The topic of alert transitions, with the queue subscribed to it by raw delivery.
async fn create_topic(aws: &Aws, queue_url: &str) -> anyhow::Result<String> {
    const VERSION: (&str, &str) = ("Version", "2010-03-31");
    let name = unique("tidemark-alerts");
    let xml = aws
        .form("sns", &[("Action", "CreateTopic"), VERSION, ("Name", &name)])
        .await?;
    let (_, arn) = xml.split_once("<TopicArn>").context("no topic")?;
    let (topic, _) = arn.split_once('<').context("no topic")?;
    let request = json!({"QueueUrl": queue_url, "AttributeNames": ["QueueArn"]});
    let queue = aws.call(SQS, "GetQueueAttributes", request).await?;
    let queue_arn = queue["Attributes"]["QueueArn"].as_str().context("no queue")?;
    let fields = [
        ("Action", "Subscribe"),
        VERSION,
        ("TopicArn", topic),
        ("Protocol", "sqs"),
        ("Endpoint", queue_arn),
        ("Attributes.entry.1.key", "RawMessageDelivery"),
        ("Attributes.entry.1.value", "true"),
    ];
    aws.form("sns", &fields).await?;
    Ok(topic.to_owned())
}

/// The event that Lambda makes of messages.
fn sqs_event(messages: &[Value], region: &str) -> Value {
    let records: Vec<Value> = messages
        .iter()
        .map(|message| {
            json!({
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": format!("arn:aws:sqs:{region}:000000000000:notify"),
                "awsRegion": region,
            })
        })
        .collect();
    json!({ "Records": records })
}
