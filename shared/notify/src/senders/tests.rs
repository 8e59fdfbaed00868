use super::*;
use crate::fixtures::{alert, at, notification};
use crate::http::tests::{Answer, answer, listen, local_poster};
use crate::secret::MemorySecrets;
use crate::sender::Mail;
use serde_json::json;
use std::sync::Mutex;

const LIMIT: Duration = Duration::from_secs(60);

/// Mail and topics that remember, and answer as they are told; or never.
#[derive(Default)]
struct Services {
    mails: Mutex<Vec<String>>,
    topics: Mutex<Vec<String>>,
    fails: Option<Failure>,
    hangs: bool,
}

impl Services {
    async fn answer(&self) -> Result<(), Failure> {
        if self.hangs {
            std::future::pending::<()>().await;
        }
        self.fails.clone().map_or(Ok(()), Err)
    }
}

impl SendMail for &Services {
    async fn send_mail(&self, mail: &Mail<'_>) -> Result<(), Failure> {
        self.mails.lock().unwrap().push(format!("{mail:?}"));
        self.answer().await
    }
}

impl PublishTopic for &Services {
    async fn publish_topic(
        &self,
        topic_arn: &str,
        subject: &str,
        text: &str,
        attributes: &[(&str, String)],
    ) -> Result<(), Failure> {
        let said = format!("{topic_arn} {subject} {text} {attributes:?}");
        self.topics.lock().unwrap().push(said);
        self.answer().await
    }
}

fn spec(body: &Value) -> ChannelSpec {
    ChannelSpec::parse(body).unwrap()
}

fn secrets(pairs: &[(&str, &str)]) -> MemorySecrets {
    let secrets = MemorySecrets::new();
    for (reference, value) in pairs {
        secrets.set(reference.parse().unwrap(), value);
    }
    secrets
}

async fn deliver(services: &Services, secrets: MemorySecrets, body: &Value) -> Result<(), Failure> {
    let senders = Senders::new(local_poster(LIMIT), secrets, services, services);
    let one = notification(vec![alert("web-01", None)]);
    senders.deliver(Target::Channel(&spec(body)), &one, at(0)).await
}

/// The head in lower case, and the body.
fn split(request: &str) -> (String, Value) {
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn a_webhook_is_signed_over_the_exact_bytes_with_each_key() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let body = json!({"type": "webhook", "url": format!("http://{address}/hook"),
        "signing_keys": [{"id": "new", "secret": "ssm:/new"}, {"id": "old", "secret": "ssm:/old"}],
        "headers": {"Authorization": "ssm:/token"}});
    let secrets = secrets(&[("ssm:/new", "k1"), ("ssm:/old", "k2"), ("ssm:/token", "Bearer abc\n")]);
    assert_eq!(deliver(&Services::default(), secrets, &body).await, Ok(()));
    let request = served.await.unwrap();
    let (head, bytes) = request.split_once("\r\n\r\n").unwrap();
    let seconds = at(0).0 / 1_000;
    let wanted = webhook::signature(&[("new", "k1".into()), ("old", "k2".into())], seconds, bytes.as_bytes());
    assert!(
        wanted.starts_with("t=1767268800,new=") && wanted.contains(",old="),
        "{wanted}"
    );
    let head = head.to_lowercase();
    for line in [
        format!("x-tidemark-signature: {wanted}"),
        "x-tidemark-timestamp: 1767268800".to_owned(),
        "idempotency-key: n-1".to_owned(),
        "authorization: bearer abc".to_owned(),
        "content-type: application/json".to_owned(),
    ] {
        assert!(head.contains(&line), "{line}\n{head}");
    }
}

#[tokio::test]
async fn a_rules_own_webhook_is_posted_without_a_signature() {
    let (address, served) = listen(answer("204 None", "", "")).await;
    let services = Services::default();
    let senders = Senders::new(local_poster(LIMIT), MemorySecrets::new(), &services, &services);
    let url = format!("http://{address}/own");
    let one = notification(vec![alert("web-01", Some(60))]);
    let target = Target::Webhook { url: &url };
    assert_eq!(senders.deliver(target, &one, at(0)).await, Ok(()));
    let (head, body) = split(&served.await.unwrap());
    assert!(
        head.starts_with("post /own ") && !head.contains("x-tidemark-signature"),
        "{head}"
    );
    assert_eq!((&body["status"], &body["version"]), (&json!("resolved"), &json!("4")));
}

#[tokio::test]
async fn what_is_secret_is_read_and_sent_where_it_belongs() {
    for (kind, field, path) in [
        ("slack", "webhook_url", "attachments"),
        ("teams", "webhook_url", "attachments"),
        ("webhook", "url", "alerts"),
    ] {
        let (address, served) = listen(answer("200 OK", "", "ok")).await;
        let secrets = secrets(&[("secretsmanager:hooks#url", &format!("http://{address}/s3cret\n"))]);
        let body = json!({"type": kind, field: "secretsmanager:hooks#url"});
        assert_eq!(deliver(&Services::default(), secrets, &body).await, Ok(()), "{kind}");
        let (head, body) = split(&served.await.unwrap());
        assert!(head.starts_with("post /s3cret "), "{head}");
        assert!(body[path].is_array(), "{body}");
    }
    let (address, served) = listen(answer("202 Accepted", "", "")).await;
    let body =
        json!({"type": "pagerduty", "routing_key": "ssm:/pd", "api_url": format!("http://{address}/v2/enqueue")});
    let secrets = secrets(&[("ssm:/pd", "routing-key")]);
    assert_eq!(deliver(&Services::default(), secrets, &body).await, Ok(()));
    let (head, body) = split(&served.await.unwrap());
    assert!(head.starts_with("post /v2/enqueue "), "{head}");
    assert_eq!(
        (&body["routing_key"], &body["event_action"]),
        (&json!("routing-key"), &json!("trigger"))
    );
}

#[tokio::test]
async fn mail_and_topics_are_handed_to_their_services() {
    let services = Services::default();
    let mail = json!({"type": "email", "from": "a@example.org", "to": ["b@example.org"]});
    assert_eq!(deliver(&services, MemorySecrets::new(), &mail).await, Ok(()));
    let topic = json!({"type": "sns", "topic_arn": "arn:aws:sns:eu-west-1:000000000000:t"});
    assert_eq!(deliver(&services, MemorySecrets::new(), &topic).await, Ok(()));
    let mails = services.mails.lock().unwrap().clone();
    assert!(
        mails[0].contains("[FIRING:1] high_cpu") && mails[0].contains("id: \"n-1\""),
        "{mails:?}"
    );
    let topics = services.topics.lock().unwrap().clone();
    assert!(topics[0].contains("(\"severity\", \"critical\")"), "{topics:?}");
    let failing = Services {
        fails: Some(Failure::Server { status: 500 }),
        ..Services::default()
    };
    assert_eq!(
        deliver(&failing, MemorySecrets::new(), &mail).await,
        Err(Failure::Server { status: 500 })
    );
}

#[tokio::test]
async fn each_receiver_has_the_same_time_limit() {
    let hanging = Services {
        hangs: true,
        ..Services::default()
    };
    let mut senders = Senders::new(local_poster(LIMIT), MemorySecrets::new(), &hanging, &hanging);
    senders.total_timeout = Duration::from_millis(50);
    let one = notification(vec![alert("web-01", None)]);
    let (address, _served) = listen(Answer::Hang).await;
    for body in [
        json!({"type": "email", "from": "a@example.org", "to": ["b@example.org"]}),
        json!({"type": "sns", "topic_arn": "arn:aws:sns:eu-west-1:000000000000:t"}),
        json!({"type": "webhook", "url": format!("http://{address}/")}),
    ] {
        let result = senders.deliver(Target::Channel(&spec(&body)), &one, at(0)).await;
        assert_eq!(result, Err(Failure::Timeout), "{body}");
    }
}

#[tokio::test]
async fn a_template_that_takes_long_keeps_nobody_from_being_told() {
    let services = Services::default();
    let mut senders = Senders::new(local_poster(LIMIT), MemorySecrets::new(), &services, &services);
    senders.render_timeout = Duration::ZERO;
    let mut channel = spec(&json!({"type": "email", "from": "a@example.org", "to": ["b@example.org"]}));
    let loops = "{% for a in 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' %}".repeat(8);
    channel.body = Some(format!("{loops}x{}", "{% endfor %}".repeat(8)));
    let one = notification(vec![alert("web-01", None)]);
    assert_eq!(senders.deliver(Target::Channel(&channel), &one, at(0)).await, Ok(()));
    let mails = services.mails.lock().unwrap().clone();
    assert!(
        mails[0].contains("Firing: CPU of web-01") && mails[0].contains("This is the default text."),
        "{mails:?}"
    );
}

#[tokio::test]
async fn a_secret_that_cannot_be_used_is_tried_again() {
    let (address, served) = listen(answer("200 OK", "", "")).await;
    let url = format!("http://{address}/");
    for body in [
        json!({"type": "slack", "webhook_url": "ssm:/gone"}),
        json!({"type": "teams", "webhook_url": "ssm:/gone"}),
        json!({"type": "webhook", "url": "ssm:/gone"}),
        json!({"type": "pagerduty", "routing_key": "ssm:/gone", "api_url": url}),
        json!({"type": "webhook", "url": url, "headers": {"x": "ssm:/gone"}}),
        json!({"type": "webhook", "url": url, "headers": {"x": "ssm:/lines"}}),
        json!({"type": "webhook", "url": url, "signing_keys": [{"id": "k", "secret": "ssm:/gone"}]}),
    ] {
        for is_down in [false, true] {
            let secrets = secrets(&[("ssm:/lines", "one\ntwo")]);
            secrets.set_down(is_down);
            let failure = deliver(&Services::default(), secrets, &body).await.unwrap_err();
            assert!(
                matches!(&failure, Failure::Secret { reason } if reason.contains("ssm:/")),
                "{body}: {failure}"
            );
            let verdict = crate::retry::after_failure(1, &failure, 0.5);
            assert!(matches!(verdict, crate::retry::Verdict::RetryIn(_)));
        }
    }
    assert!(!served.is_finished());
}

#[tokio::test]
async fn a_secret_that_is_no_address_or_blank_is_tried_again() {
    for value in [
        "S3CRET",
        "ftp://S3CRET/",
        "http://",
        "http://[S3CRET",
        "http://a b/",
        " \n",
    ] {
        for body in [
            json!({"type": "slack", "webhook_url": "ssm:/s"}),
            json!({"type": "teams", "webhook_url": "ssm:/s"}),
            json!({"type": "webhook", "url": "ssm:/s"}),
        ] {
            let failure = deliver(&Services::default(), secrets(&[("ssm:/s", value)]), &body).await;
            let Err(Failure::Secret { reason }) = failure else {
                panic!("{value} {failure:?}")
            };
            assert!(reason.contains("ssm:/s") && !reason.contains("S3CRET"), "{reason}");
        }
    }
    let url = "http://127.0.0.1:9/";
    for body in [
        json!({"type": "pagerduty", "routing_key": "ssm:/s", "api_url": url}),
        json!({"type": "webhook", "url": url, "signing_keys": [{"id": "k", "secret": "ssm:/s"}]}),
        json!({"type": "webhook", "url": url, "headers": {"x": "ssm:/s"}}),
    ] {
        let failure = deliver(&Services::default(), secrets(&[("ssm:/s", " \n")]), &body).await;
        assert!(matches!(failure, Err(Failure::Secret { .. })), "{failure:?}");
    }
    // A secret address may be changed after the channel was written.
    let body = json!({"type": "webhook", "url": "ssm:/s", "headers": {"x": "ssm:/k"}});
    let values = secrets(&[("ssm:/s", "http://hooks.example.org/"), ("ssm:/k", "k")]);
    let failure = deliver(&Services::default(), values, &body).await.unwrap_err();
    assert!(failure.to_string().contains("must be an https:// URL"), "{failure}");
}

/// Tries every way to fail of every receiver that has a secret, and looks for it in what is said about it.
#[tokio::test]
async fn no_secret_is_ever_shown() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = free.local_addr().unwrap();
    drop(free);
    let mut answers: Vec<Option<Answer>> = ["302 Found", "400 Bad", "403 No", "404 Gone", "429 Slow", "500 Oops"]
        .iter()
        .map(|status| Some(answer(status, "location: /S3CRET\r\n", "no S3CRET here")))
        .collect();
    answers.extend([Some(Answer::Reset), Some(Answer::Text("S3CRET\r\n\r\n".into())), None]);
    for given in answers {
        for kind in ["slack", "teams", "webhook", "pagerduty", "header", "signed"] {
            let address = match &given {
                Some(answer) => listen(answer.clone()).await.0,
                None => closed,
            };
            let (plain, secret) = (format!("http://{address}/"), format!("http://{address}/S3CRET"));
            let (body, value) = match kind {
                "slack" | "teams" => (json!({"type": kind, "webhook_url": "ssm:/s"}), secret),
                "webhook" => (json!({"type": kind, "url": "ssm:/s"}), secret),
                "pagerduty" => (
                    json!({"type": kind, "routing_key": "ssm:/s", "api_url": plain}),
                    "S3CRET".into(),
                ),
                "header" => (
                    json!({"type": "webhook", "url": plain, "headers": {"authorization": "ssm:/s"}}),
                    "S3CRET".into(),
                ),
                _ => {
                    let keys = json!([{"id": "k", "secret": "ssm:/s"}]);
                    (
                        json!({"type": "webhook", "url": plain, "signing_keys": keys}),
                        "S3CRET".into(),
                    )
                }
            };
            not_shown(&body, &value).await;
        }
    }
    // Values that are no URL, or one that must not be reached.
    for value in [
        "S3CRET",
        "ftp://S3CRET/",
        "http://[S3CRET",
        "http://10.0.0.1/S3CRET",
        "http://S3CRET.invalid:99999/",
        "https://S3CRET:S3CRET@169.254.169.254/",
        "http://a b/S3CRET",
    ] {
        for kind in ["slack", "teams"] {
            not_shown(&json!({"type": kind, "webhook_url": "ssm:/s"}), value).await;
        }
        not_shown(&json!({"type": "webhook", "url": "ssm:/s"}), value).await;
    }
}

async fn not_shown(body: &Value, value: &str) {
    let secrets = secrets(&[("ssm:/s", value)]);
    let channel = spec(body);
    let shown = format!("{channel:?} {secrets:?} {}", serde_json::to_string(&channel).unwrap());
    let failure = deliver(&Services::default(), secrets, body).await.unwrap_err();
    let shown = format!("{shown} {failure} {failure:?}").to_lowercase();
    assert!(!shown.contains("s3cret"), "{shown}");
}
