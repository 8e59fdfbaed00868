//! The agent as a process, against a server on the loopback interface.

use crate::SOON;
use crate::server::{Reply, Server};
use std::process::{Output, Stdio};
use tokio::process::{Child, Command};

fn agent(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidemark-agent"));
    command
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(child: Child) -> (Output, String) {
    let output = tokio::time::timeout(SOON, child.wait_with_output())
        .await
        .expect("an end in time")
        .unwrap();
    let log = String::from_utf8(output.stderr.clone()).unwrap();
    (output, log)
}

#[tokio::test]
async fn one_round_describes_this_machine() {
    let server = Server::start([]).await;
    let url = server.url();
    let child = agent(&[
        "--url",
        &url,
        "--once",
        "--host",
        "web-01",
        "--label",
        "region=eu",
        "--per-core",
    ])
    .spawn();
    let (output, log) = output(child.unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{log}");
    let seen = server.seen.lock().unwrap();
    assert_eq!(seen.requests.len(), 1);
    let samples = &seen.requests[0].samples;
    for name in [
        "cpu_usage_percent",
        "memory_used_bytes",
        "network_receive_bytes_total",
        "uptime_seconds",
    ] {
        let sample = samples
            .iter()
            .find(|s| s["name"] == name)
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(
            (&sample["labels"]["host"], &sample["labels"]["region"]),
            (&"web-01".into(), &"eu".into())
        );
        assert!(sample["value"].is_number(), "{sample}");
    }
}

#[tokio::test]
async fn a_signal_ends_it_cleanly_with_everything_sent() {
    // The first answer fails, so that something waits when the signal comes.
    let server = Server::start([Reply::Status(503, "retry-after: 2\r\n", "")]).await;
    let child = agent(&["--url", &server.url(), "--interval", "1"]).spawn().unwrap();
    server.until(|seen| !seen.requests.is_empty()).await;
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let (output, log) = output(child).await;
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(
        log.contains("the agent starts") && log.contains("the agent ends"),
        "{log}"
    );
    let first = server.seen.lock().unwrap().requests[0].samples.len();
    assert!(server.kept() >= first && first > 10, "{} of {first}", server.kept());
}

#[tokio::test]
async fn samples_that_were_not_accepted_fail_the_round() {
    let server = Server::start([Reply::Status(404, "", r#"{"message":"Not Found"}"#)]).await;
    let (output, log) = output(agent(&["--url", &server.url(), "--once"]).spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("Not Found"), "{log}");
}

#[tokio::test]
async fn requests_are_signed_on_demand() {
    let server = Server::start([]).await;
    let mut command = agent(&["--url", &server.url(), "--once", "--sigv4", "eu-central-1"]);
    command
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("AWS_SESSION_TOKEN", "token");
    let (output, log) = output(command.spawn().unwrap()).await;
    assert_eq!(output.status.code(), Some(0), "{log}");
    let seen = server.seen.lock().unwrap();
    let head = &seen.requests[0].head;
    assert!(
        head.contains("authorization: aws4-hmac-sha256 credential=akidexample/"),
        "{head}"
    );
    assert!(head.contains("/eu-central-1/execute-api/aws4_request"), "{head}");
    assert!(
        head.contains("signedheaders=content-type;host;x-amz-date;x-amz-security-token"),
        "{head}"
    );
    assert!(head.contains("x-amz-security-token: token"), "{head}");
}

#[tokio::test]
async fn wrong_usage_has_its_own_exit_code() {
    for args in [&["--interval", "1"][..], &["--url", "http://x", "--interval", "0"]] {
        let (output, log) = output(agent(args).spawn().unwrap()).await;
        assert_eq!(output.status.code(), Some(2), "{log}");
        assert!(log.contains("Try --help."), "{log}");
    }
    let (output, log) = output(
        agent(&["--url", "http://x", "--sigv4", "us-east-1", "--once"])
            .spawn()
            .unwrap(),
    )
    .await;
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("AWS_ACCESS_KEY_ID"), "{log}");
}
