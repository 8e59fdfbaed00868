//! Alert rules and instances over HTTP: create, read, replace, patch, delete, list, test.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use tidemark_tests::harness::api::{Answer, Api, Request};
use tidemark_tests::harness::unique;

const RULES: &str = "/api/v1/alerts/rules";

fn a_rule(name: &str) -> Value {
    json!({
        "name": name,
        "metric_name": "cpu.load größe",
        "labels": {"job": "web"},
        "aggregation": "avg",
        "group_by": ["host", "region"],
        "condition": ">=",
        "threshold": 90.5,
        "duration_seconds": 60,
        "window_seconds": 120,
        "severity": "critical",
        "notification_channels": ["webhook"],
        "webhook_url": "https://example.org/hook",
        "annotations": {"summary": "{{ host }} is at {{ value }} (limit {{ threshold }})"},
        "enabled": true,
        "unknown": "ignored",
    })
}

async fn with_body(api: &Api, method: &str, path: &str, body: &Value) -> anyhow::Result<Answer> {
    api.call(method, path, Request::json(body.to_string())).await
}

async fn delete(api: &Api, id: &str) -> anyhow::Result<()> {
    let answer = api.call("DELETE", &format!("{RULES}/{id}"), Request::default()).await?;
    assert!(answer.bytes.is_empty(), "{answer:?}");
    answer.expect(204)?;
    Ok(())
}

#[tokio::test]
async fn a_rule_lives_from_create_to_delete() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let name = unique("e2e rule");
    let created = api.post(RULES, &a_rule(&name)).await?.expect(201)?;
    let id = created["id"].as_str().unwrap().to_owned();
    for (field, value) in a_rule(&name).as_object().unwrap() {
        if field == "unknown" {
            assert!(created.get(field).is_none(), "{created}");
        } else {
            assert_eq!(&created[field], value, "{field}");
        }
    }
    assert!(
        created["created_at"].is_string() && created["updated_at"].is_string(),
        "{created}"
    );
    let path = format!("{RULES}/{id}");
    assert_eq!(api.get(&path, &[]).await?.expect(200)?, created);

    let patch = json!({"threshold": 10, "annotations": {"runbook": "x"}, "aggregation": null, "group_by": null});
    let patched = with_body(&api, "PATCH", &path, &patch).await?.expect(200)?;
    assert_eq!(patched["threshold"], 10.0);
    assert_eq!(patched["aggregation"], Value::Null);
    assert_eq!(patched["group_by"], json!([]));
    // A patch merges: what it does not name stays.
    assert_eq!(patched["annotations"]["runbook"], "x");
    assert_eq!(patched["annotations"]["summary"], created["annotations"]["summary"]);
    assert_eq!(patched["name"], created["name"]);
    assert_eq!(patched["created_at"], created["created_at"]);
    assert_eq!(api.get(&path, &[]).await?.expect(200)?, patched);

    // A replacement forgets what it does not name.
    let whole = json!({"name": name, "metric_name": "m", "condition": "<", "threshold": -1});
    let replaced = with_body(&api, "PUT", &path, &whole).await?.expect(200)?;
    for (field, value) in [
        ("labels", json!({})),
        ("aggregation", Value::Null),
        ("group_by", json!([])),
        ("duration_seconds", json!(0)),
        ("window_seconds", json!(300)),
        ("severity", json!("warning")),
        ("notification_channels", json!([])),
        ("webhook_url", Value::Null),
        ("annotations", json!({})),
        ("enabled", json!(true)),
        ("id", json!(id)),
    ] {
        assert_eq!(replaced[field], value, "{field}");
    }
    delete(&api, &id).await?;
    api.get(&path, &[]).await?.is_error(404, "not-found", "")?;
    // The name is free again.
    let again = api.post(RULES, &a_rule(&name)).await?.expect(201)?;
    delete(&api, again["id"].as_str().unwrap()).await
}

#[tokio::test]
async fn the_labels_of_a_rule_may_be_a_selector() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let mut rule = a_rule(&unique("e2e selector"));
    rule["labels"] = json!("{job=~'web|api', env != 'test'}");
    let created = api.post(RULES, &rule).await?.expect(201)?;
    assert_eq!(created["labels"], r#"{env!="test",job=~"web|api"}"#);
    let id = created["id"].as_str().unwrap().to_owned();
    let path = format!("{RULES}/{id}");
    assert_eq!(api.get(&path, &[]).await?.expect(200)?, created);
    // Where all labels just have to be equal, it is the object that it always was.
    let patch = json!({"labels": "{job='web'}"});
    let patched = with_body(&api, "PATCH", &path, &patch).await?.expect(200)?;
    assert_eq!(patched["labels"], json!({"job": "web"}));
    delete(&api, &id).await
}

#[tokio::test]
async fn a_name_is_taken_once() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (one, two) = (unique("e2e taken"), unique("e2e free"));
    // Both at once: one of them wins.
    let (a, b) = (a_rule(&one), a_rule(&one));
    let (a, b) = futures::future::try_join(api.post(RULES, &a), api.post(RULES, &b)).await?;
    let (won, lost) = if a.status == 201 { (a, b) } else { (b, a) };
    lost.is_error(409, "rule-name-taken", "name")?;
    let first = won.expect(201)?["id"].as_str().unwrap().to_owned();
    let second = api.post(RULES, &a_rule(&two)).await?.expect(201)?;
    let path = format!("{RULES}/{}", second["id"].as_str().unwrap());
    with_body(&api, "PATCH", &path, &json!({"name": one}))
        .await?
        .is_error(409, "rule-name-taken", "name")?;
    with_body(&api, "PUT", &path, &a_rule(&one))
        .await?
        .is_error(409, "rule-name-taken", "name")?;
    // A rename frees the old name.
    let three = unique("e2e renamed");
    with_body(&api, "PATCH", &path, &json!({"name": three}))
        .await?
        .expect(200)?;
    let third = api.post(RULES, &a_rule(&two)).await?.expect(201)?;
    for id in [
        first.as_str(),
        second["id"].as_str().unwrap(),
        third["id"].as_str().unwrap(),
    ] {
        delete(&api, id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_unknown_id_is_not_found() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let path = format!("{RULES}/{}", unique("rule"));
    for (method, body) in [
        ("GET", Value::Null),
        ("PUT", a_rule("x")),
        ("PATCH", json!({"threshold": 1})),
        ("DELETE", Value::Null),
    ] {
        with_body(&api, method, &path, &body)
            .await?
            .is_error(404, "not-found", "")?;
    }
    api.post("/api/v1/alerts/instances/rule-x.0/resolve", &json!({}))
        .await?
        .is_error(404, "not-found", "")?;
    Ok(())
}

#[tokio::test]
async fn a_wrong_field_is_named_and_nothing_is_created() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let name = unique("e2e wrong");
    for (field, bad) in [
        ("name", json!("")),
        ("name", json!("x".repeat(201))),
        ("metric_name", json!(7)),
        ("labels", json!(["a"])),
        ("labels.a", json!({"labels": {"a": 1}})),
        ("labels.a", json!({"labels": "{a=~'('}"})),
        ("aggregation", json!("median")),
        ("group_by", json!(1)),
        ("condition", json!("=>")),
        ("threshold", json!("high")),
        ("duration_seconds", json!(-1)),
        ("window_seconds", json!(0)),
        ("severity", json!("fatal")),
        ("notification_channels", json!("webhook")),
        ("webhook_url", json!("ftp://example.org")),
        ("annotations", json!("text")),
        ("annotations.summary", json!({"annotations": {"summary": "{{ host"}})),
        ("enabled", json!("yes")),
    ] {
        let mut rule = a_rule(&name);
        match field.split_once('.') {
            Some((top, _)) => rule[top] = bad[top].clone(),
            None => rule[field] = bad,
        }
        let answer = api.post(RULES, &rule).await?;
        answer.is_error(400, "invalid-parameter", field)?;
    }
    for required in ["name", "metric_name", "condition", "threshold"] {
        let mut rule = a_rule(&name);
        rule.as_object_mut().unwrap().remove(required);
        let answer = api.post(RULES, &rule).await?;
        answer.is_error(400, "invalid-parameter", required)?;
    }
    for body in ["", "[", "[]", "7"] {
        let answer = api.call("POST", RULES, Request::json(body)).await?;
        answer.is_error(400, "invalid-body", "")?;
    }
    let all = api.all_pages(RULES, "rules", &[("limit", "1000")]).await?;
    assert!(!all.iter().any(|rule| rule["name"] == name.as_str()));
    Ok(())
}

#[tokio::test]
async fn the_list_of_rules_pages() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let mut ids = BTreeSet::new();
    for _ in 0..5 {
        let mut rule = a_rule(&unique("e2e listed"));
        rule["enabled"] = json!(false);
        let created = api.post(RULES, &rule).await?.expect(201)?;
        ids.insert(created["id"].as_str().unwrap().to_owned());
    }
    let first = api.get(RULES, &[("limit", "2")]).await?.expect(200)?;
    assert_eq!(first["rules"].as_array().map(Vec::len), Some(2), "{first}");
    assert!(first["next_token"].is_string(), "{first}");
    // Other tests create and delete meanwhile; ours are there all the time and come just once.
    let all = api.all_pages(RULES, "rules", &[("limit", "2")]).await?;
    let seen: Vec<&str> = all.iter().filter_map(|rule| rule["id"].as_str()).collect();
    for id in &ids {
        assert_eq!(seen.iter().filter(|it| *it == id).count(), 1, "{id}");
    }
    let last = api.get(RULES, &[("limit", "1000")]).await?.expect(200)?;
    assert_eq!(last["next_token"], Value::Null, "{last}");
    for (name, bad) in [("limit", "0"), ("limit", "1001"), ("next_token", "?")] {
        api.get(RULES, &[(name, bad)])
            .await?
            .is_error(400, "invalid-parameter", name)?;
    }
    for id in ids {
        delete(&api, &id).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_condition_can_be_tried_without_a_rule() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let path = "/api/v1/alerts/rules/test";
    for (condition, value, triggered) in [
        (">", json!(91), true),
        (">", json!(90), false),
        ("<", json!(89.5), true),
        (">=", json!(90), true),
        ("<=", json!(91), false),
        ("==", json!(90.0), true),
        ("!=", json!(90), false),
        (">", json!("NaN"), false),
        (">", json!("+Inf"), true),
    ] {
        let body = json!({"metric_name": "cpu", "condition": condition, "threshold": 90, "current_value": value});
        let answer = api.post(path, &body).await?.expect(200)?;
        assert_eq!(answer["triggered"], triggered, "{body}: {answer}");
        let reason = answer["reason"].as_str().unwrap();
        assert!(reason.contains("cpu") && reason.contains("90"), "{answer}");
        assert_eq!(answer.as_object().unwrap().len(), 2, "{answer}");
    }
    let whole = json!({"metric_name": "cpu", "condition": ">", "threshold": 90, "current_value": 1});
    for field in ["metric_name", "condition", "threshold", "current_value"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(field);
        api.post(path, &body).await?.is_error(400, "invalid-parameter", field)?;
    }
    Ok(())
}

#[tokio::test]
async fn instances_are_filtered_by_state_and_rule() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let path = "/api/v1/alerts/instances";
    for state in ["inactive", "pending", "firing", "resolved"] {
        let found = api
            .get(path, &[("state", state), ("limit", "1000")])
            .await?
            .expect(200)?;
        let instances = found["instances"].as_array().unwrap();
        assert!(instances.iter().all(|instance| instance["state"] == state), "{found}");
        assert!(found.get("next_token").is_some(), "{found}");
    }
    let active = api.get(&format!("{path}/active"), &[]).await?.expect(200)?;
    let states = |found: &Value| -> BTreeSet<String> {
        let instances = found["instances"].as_array().unwrap();
        instances
            .iter()
            .map(|instance| instance["state"].as_str().unwrap().to_owned())
            .collect()
    };
    let may = BTreeSet::from(["pending".to_owned(), "firing".to_owned()]);
    assert!(states(&active).is_subset(&may), "{active}");
    let none = api.get(path, &[("rule", "rule-nobody")]).await?.expect(200)?;
    assert_eq!(none, json!({"instances": [], "next_token": null}));
    api.get(path, &[("state", "angry")])
        .await?
        .is_error(400, "invalid-parameter", "state")?;
    Ok(())
}
