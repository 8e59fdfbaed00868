//! The client against a real HTTP server on the loopback interface: every way a push can fail, and that nothing is lost
//! or counted twice.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test may panic"
)]

#[cfg(feature = "agent")]
mod agent;
mod server;

use server::{Reply, Server};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tidemark_client::{Builder, Client, Error, Metric, Stats};

const SOON: Duration = Duration::from_secs(10);

/// A client that is quick to retry. Only a flush, a close or a full batch sends.
fn quick(url: &str) -> Builder {
    Client::builder(url)
        .interval(Duration::from_secs(600))
        .backoff(Duration::from_millis(5), Duration::from_millis(20))
}

/// Distinct samples, so that the server can tell a loss from a repetition.
fn push_numbered(client: &Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        client.push(Metric::new("n", n as f64).at(UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n)));
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with the clock that the client reads")]
fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

async fn flushed(client: &Client) -> Stats {
    tokio::time::timeout(SOON, client.flush())
        .await
        .expect("a flush in time")
        .unwrap();
    client.stats()
}

#[tokio::test]
async fn samples_are_sent_in_batches_in_order_and_packed() {
    let server = Server::start([]).await;
    let client = quick(&server.url())
        .batch_samples(40)
        .label("host", "web-01")
        .build()
        .unwrap();
    push_numbered(&client, 0..100);
    let stats = flushed(&client).await;
    assert_eq!(
        stats,
        Stats {
            accepted: 100,
            requests: 3,
            ..Stats::default()
        }
    );
    let seen = server.seen.lock().unwrap();
    assert!(seen.requests[0].head.starts_with("post /stage/api/v1/metrics http/1.1"));
    assert!(seen.requests[0].head.contains("content-encoding: gzip"));
    assert!(seen.requests[0].head.contains("user-agent: tidemark-client/"));
    let values: Vec<f64> = seen
        .requests
        .iter()
        .flat_map(|r| &r.samples)
        .map(|s| s["value"].as_f64().unwrap())
        .collect();
    assert_eq!(values, (0..100).map(f64::from).collect::<Vec<_>>());
    assert_eq!(seen.requests[0].samples[0]["labels"]["host"], "web-01");
}

#[tokio::test]
async fn a_small_body_is_sent_plain() {
    let server = Server::start([]).await;
    let client = quick(&server.url()).build().unwrap();
    client.push(Metric::new("up", 1.0));
    flushed(&client).await;
    assert!(
        !server.seen.lock().unwrap().requests[0]
            .head
            .contains("content-encoding")
    );
}

#[tokio::test]
async fn the_interval_sends_without_a_flush() {
    let server = Server::start([]).await;
    let client = quick(&server.url())
        .interval(Duration::from_millis(20))
        .build()
        .unwrap();
    client.push(Metric::new("up", 1.0));
    // When a batch is due is the buffer's decision, and tested there with times that are given.
    server.until(|seen| !seen.kept.is_empty()).await;
    let stats = flushed(&client).await;
    assert_eq!((stats.accepted, stats.requests), (1, 1));
}

#[tokio::test]
async fn a_sample_without_a_time_gets_that_of_its_push_and_keeps_it_over_retries() {
    let server = Server::start([Reply::Status(500, "", ""), Reply::Status(502, "", "")]).await;
    let client = quick(&server.url()).build().unwrap();
    let before = unix_now();
    client.push(Metric::new("up", 1.0));
    let after = unix_now();
    let stats = flushed(&client).await;
    assert_eq!(
        stats,
        Stats {
            accepted: 1,
            retried: 2,
            requests: 3,
            ..Stats::default()
        }
    );
    let seen = server.seen.lock().unwrap();
    let time = seen.requests[0].samples[0]["timestamp"].as_f64().unwrap();
    assert!(time >= before - 0.001 && time <= after, "{before} {time} {after}");
    assert_eq!(seen.requests[2].samples, seen.requests[0].samples);
}

#[tokio::test]
async fn throttling_slows_the_client_down_and_loses_nothing() {
    let script: Vec<Reply> = vec![Reply::Status(429, "", ""); 5];
    let server = Server::start(script).await;
    let client = quick(&server.url())
        .backoff(Duration::from_millis(20), Duration::from_millis(80))
        .build()
        .unwrap();
    push_numbered(&client, 0..500);
    let stats = flushed(&client).await;
    assert_eq!(
        stats,
        Stats {
            accepted: 500,
            retried: 5,
            requests: 6,
            ..Stats::default()
        }
    );
    assert_eq!(server.kept(), 500);
    // Half of 20, 40, 80, 80, 80 ms are the least.
    for (gap, least) in server.gaps().into_iter().zip([10, 20, 40, 40, 40]) {
        assert!(gap >= Duration::from_millis(least), "{gap:?} < {least} ms");
    }
}

#[tokio::test]
async fn retry_after_is_obeyed() {
    let server = Server::start([Reply::Status(503, "retry-after: 1\r\n", "")]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..3);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 3,
            retried: 1,
            requests: 2,
            ..Stats::default()
        }
    );
    assert!(server.gaps()[0] >= Duration::from_secs(1), "{:?}", server.gaps());
}

#[tokio::test]
async fn refused_samples_are_reported_and_never_sent_again() {
    let server = Server::start([Reply::RefuseSome(vec![1, 3])]).await;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reports);
    let client = quick(&server.url())
        .on_refused(move |r| {
            sink.lock().unwrap().push((
                r.index,
                r.field.unwrap().to_owned(),
                r.reason.to_owned(),
                r.sample.to_owned(),
            ));
        })
        .build()
        .unwrap();
    push_numbered(&client, 0..5);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 3,
            rejected: 2,
            requests: 1,
            ..Stats::default()
        }
    );
    let reports = reports.lock().unwrap();
    assert_eq!(reports.len(), 2);
    let (index, field, reason, sample) = &reports[1];
    assert_eq!((*index, field.as_str(), reason.as_str()), (3, "value", "is refused"));
    assert!(sample.contains("\"value\":3.0"), "{sample}");
    assert_eq!(server.kept(), 3);
}

#[tokio::test]
async fn a_request_that_is_refused_as_a_whole_is_not_sent_again() {
    let body = r#"{"error":{"id":"not_found","message":"no such path"}}"#;
    let server = Server::start([Reply::Status(404, "", body)]).await;
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&reasons);
    let client = quick(&server.url())
        .on_refused(move |r| sink.lock().unwrap().push(r.reason.to_owned()))
        .build()
        .unwrap();
    push_numbered(&client, 0..2);
    assert_eq!(
        flushed(&client).await,
        Stats {
            rejected: 2,
            requests: 1,
            ..Stats::default()
        }
    );
    assert_eq!(
        *reasons.lock().unwrap(),
        ["404 Not Found: no such path", "404 Not Found: no such path"]
    );
}

#[tokio::test]
async fn while_its_credentials_are_not_accepted_a_client_keeps_its_samples() {
    let expired = r#"{"message":"The security token included in the request is expired"}"#;
    let server = Server::start([
        Reply::Status(403, "", expired),
        Reply::Status(401, "", ""),
        Reply::Status(403, "", expired),
    ])
    .await;
    let client = quick(&server.url())
        .on_refused(|refusal| panic!("{refusal:?}"))
        .build()
        .unwrap();
    push_numbered(&client, 0..10);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 10,
            retried: 3,
            requests: 4,
            ..Stats::default()
        }
    );
    assert_eq!(server.kept(), 10);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start([Reply::Status(302, "location: /elsewhere\r\n", "")]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..1);
    assert_eq!(
        flushed(&client).await,
        Stats {
            rejected: 1,
            requests: 1,
            ..Stats::default()
        }
    );
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_split_until_it_fits() {
    let server = Server::start([Reply::AtMost(7)]).await;
    let client = quick(&server.url()).batch_samples(64).build().unwrap();
    push_numbered(&client, 0..100);
    let stats = flushed(&client).await;
    assert_eq!((stats.accepted, stats.rejected, stats.dropped), (100, 0, 0));
    assert_eq!(server.kept(), 100);
}

#[tokio::test]
async fn a_single_sample_that_is_too_large_is_refused_and_does_not_block_the_others() {
    let server = Server::start([Reply::Status(413, "", ""), Reply::Status(413, "", "")]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..2);
    let stats = flushed(&client).await;
    assert_eq!(
        stats,
        Stats {
            accepted: 1,
            rejected: 1,
            requests: 3,
            ..Stats::default()
        }
    );
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_on_and_asked_again() {
    let server = Server::start([Reply::Hang]).await;
    let client = quick(&server.url())
        .timeout(Duration::from_millis(150))
        .build()
        .unwrap();
    push_numbered(&client, 0..10);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 10,
            retried: 1,
            requests: 2,
            ..Stats::default()
        }
    );
}

#[tokio::test]
async fn an_answer_that_got_lost_duplicates_nothing() {
    let server = Server::start([Reply::KeepAndReset, Reply::KeepAndReset]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..10);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 10,
            retried: 2,
            requests: 3,
            ..Stats::default()
        }
    );
    assert_eq!(server.kept(), 10);
}

#[tokio::test]
async fn a_captive_portal_is_no_acknowledgement() {
    let server = Server::start([Reply::Status(200, "", "<html>Please log in</html>")]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..10);
    assert_eq!(
        flushed(&client).await,
        Stats {
            accepted: 10,
            retried: 1,
            requests: 2,
            ..Stats::default()
        }
    );
}

#[tokio::test]
async fn nothing_is_lost_while_nobody_listens() {
    // A port that was free a moment ago: connections are refused until the server takes it.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = quick(&format!("http://{address}")).batch_samples(100).build().unwrap();
    push_numbered(&client, 0..350);
    let began = Instant::now();
    while client.stats().retried < 3 {
        assert!(began.elapsed() < SOON, "{:?}", client.stats());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((client.stats().accepted, client.stats().buffered), (0, 350));
    let server = Server::start_at(address, []).await;
    let stats = flushed(&client).await;
    assert_eq!((stats.accepted, stats.dropped, stats.buffered), (350, 0, 0));
    assert_eq!(server.kept(), 350);
}

#[tokio::test]
async fn a_full_buffer_loses_the_oldest_and_says_how_many() {
    let server = Server::start(vec![Reply::Status(503, "", ""); 3]).await;
    let client = quick(&server.url())
        .batch_samples(10)
        .buffer_samples(50)
        .build()
        .unwrap();
    push_numbered(&client, 0..1_000);
    let stats = flushed(&client).await;
    assert_eq!(stats.accepted + stats.dropped, 1_000);
    // What was on its way while the rest was pushed may be more than the buffer by one batch.
    assert!((50..=60).contains(&stats.accepted), "{stats:?}");
    let seen = server.seen.lock().unwrap();
    for newest in 950..1_000 {
        assert!(
            seen.kept
                .keys()
                .any(|(_, _, time)| *time == format!("{}.0", 1_700_000_000 + newest)),
            "{newest}"
        );
    }
}

#[tokio::test]
async fn closing_sends_what_is_left_and_refuses_more() {
    let server = Server::start([Reply::Status(500, "", "")]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..10);
    let stats = client.close(SOON).await.unwrap();
    assert_eq!(
        stats,
        Stats {
            accepted: 10,
            retried: 1,
            requests: 2,
            ..Stats::default()
        }
    );
    push_numbered(&client, 10..11);
    assert_eq!(client.stats().dropped, 1);
    assert_eq!(client.close(SOON).await.unwrap().accepted, 10);
}

#[tokio::test]
async fn closing_during_a_long_pause_tries_once_more_at_once() {
    let server = Server::start([Reply::Status(500, "", "")]).await;
    let client = quick(&server.url())
        .backoff(Duration::from_secs(600), Duration::from_secs(600))
        .build()
        .unwrap();
    push_numbered(&client, 0..10);
    let flush = tokio::spawn({
        let client = client.clone();
        async move { client.flush().await }
    });
    let began = Instant::now();
    while client.stats().retried == 0 {
        assert!(began.elapsed() < SOON);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(client.close(SOON).await.unwrap().accepted, 10);
    flush.await.unwrap().unwrap();
}

#[tokio::test]
async fn closing_gives_up_at_its_deadline_and_says_what_was_not_sent() {
    let server = Server::start(vec![Reply::Hang; 20]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..10);
    let error = client.close(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::Unsent { samples: 10, .. }), "{error}");
    assert_eq!((client.stats().dropped, client.stats().buffered), (10, 0));
    assert!(matches!(client.flush().await, Err(Error::Closed)));
}

#[tokio::test]
async fn what_waits_when_the_last_handle_is_dropped_is_still_sent_once() {
    let server = Server::start([]).await;
    let client = quick(&server.url()).build().unwrap();
    push_numbered(&client, 0..10);
    drop(client);
    server.until(|seen| seen.kept.len() == 10).await;
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn many_tasks_push_through_one_client() {
    let server = Server::start([Reply::Status(429, "", ""), Reply::KeepAndReset]).await;
    let client = quick(&server.url()).batch_samples(100).build().unwrap();
    let pushers = (0..8u64).map(|task| {
        let client = client.clone();
        tokio::spawn(async move {
            for n in 0..500 {
                push_numbered(&client, task * 500 + n..task * 500 + n + 1);
                tokio::task::yield_now().await;
            }
        })
    });
    for pusher in pushers.collect::<Vec<_>>() {
        pusher.await.unwrap();
    }
    let stats = flushed(&client).await;
    assert_eq!((stats.accepted, stats.rejected, stats.dropped), (4_000, 0, 0));
    assert_eq!(server.kept(), 4_000);
}

#[tokio::test]
async fn settings_out_of_range_are_named() {
    let builder = || Client::builder("http://127.0.0.1:1");
    let setting = |b: Builder| match b.build() {
        Err(Error::InvalidSetting { setting, .. }) => setting,
        other => panic!("{other:?}"),
    };
    assert_eq!(setting(builder().batch_samples(0)), "batch_samples");
    assert_eq!(setting(builder().batch_bytes(5_000_000)), "batch_bytes");
    assert_eq!(setting(builder().buffer_samples(10)), "buffer_samples");
    assert_eq!(setting(builder().buffer_bytes(10)), "buffer_bytes");
    assert_eq!(setting(builder().timeout(Duration::ZERO)), "timeout");
    assert!(matches!(
        Client::builder("not a url").build(),
        Err(Error::InvalidUrl { .. })
    ));
}

#[test]
fn a_client_needs_a_runtime() {
    assert!(matches!(
        Client::builder("http://127.0.0.1:1").build(),
        Err(Error::NoRuntime)
    ));
}
