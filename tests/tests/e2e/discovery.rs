//! `GET /api/v1/metrics/...`: names, labels and their values.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tidemark_tests::harness::api::Api;
use tidemark_tests::harness::expect::{labels, sample};
use tidemark_tests::harness::{eventually, now_ms, unique};

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn texts(answer: &Value, field: &str) -> Vec<String> {
    let list = answer[field].as_array().unwrap();
    list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn names_labels_and_values_are_listed_in_order() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let stem = unique("e2e_discovery");
    let (one, two) = (format!("{stem}_a"), format!("{stem}_b"));
    let now = now_ms();
    let body = json!([
        sample(&two, &labels([]), now, 1.0),
        sample(&one, &labels([("zone", "2"), ("host", "b")]), now, 1.0),
        sample(&one, &labels([("zone", "10"), ("host", "a")]), now, 1.0),
        sample(&one, &labels([("host", ""), ("größe", "¼")]), now, 1.0),
    ]);
    api.push(&body).await?;
    eventually("the names", async || {
        let all: Vec<Value> = api.all_pages("/api/v1/metrics/names", "names", &[]).await?;
        let ours: Vec<&str> = all
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| name.starts_with(&stem))
            .collect();
        Ok(Some(()).filter(|()| ours == [one.as_str(), two.as_str()]))
    })
    .await?;
    let all = api.get("/api/v1/metrics/names", &[]).await?.expect(200)?;
    assert!(texts(&all, "names").is_sorted(), "{all}");

    let path = format!("/api/v1/metrics/{one}/labels");
    let found = eventually("all three series", async || {
        let found = api.get(&path, &[]).await?.expect(200)?;
        Ok(Some(found).filter(|found| texts(found, "labels").len() == 3))
    })
    .await?;
    assert_eq!(found, json!({"metric_name": one, "labels": ["größe", "host", "zone"]}));
    let found = api.get(&format!("{path}/zone/values"), &[]).await?.expect(200)?;
    assert_eq!(
        found,
        json!({"metric_name": one, "label": "zone", "values": ["10", "2"]})
    );
    let found = api.get(&format!("{path}/host/values"), &[]).await?.expect(200)?;
    assert_eq!(
        found,
        json!({"metric_name": one, "label": "host", "values": ["", "a", "b"]})
    );
    let found = api
        .get(&format!("{path}/{}/values", escaped("größe")), &[])
        .await?
        .expect(200)?;
    assert_eq!(found, json!({"metric_name": one, "label": "größe", "values": ["¼"]}));
    let found = api
        .get(&format!("/api/v1/metrics/{two}/labels"), &[])
        .await?
        .expect(200)?;
    assert_eq!(found, json!({"metric_name": two, "labels": []}));
    Ok(())
}

#[tokio::test]
async fn what_is_not_known_is_an_empty_list() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let metric = unique("e2e_unknown");
    let found = api
        .get(&format!("/api/v1/metrics/{metric}/labels"), &[])
        .await?
        .expect(200)?;
    assert_eq!(found, json!({"metric_name": metric, "labels": []}));
    let found = api
        .get(&format!("/api/v1/metrics/{metric}/labels/host/values"), &[])
        .await?
        .expect(200)?;
    assert_eq!(found, json!({"metric_name": metric, "label": "host", "values": []}));
    Ok(())
}

#[tokio::test]
async fn lists_page() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    let (metric, now) = (unique("e2e_paged"), now_ms());
    let hosts: Vec<String> = (0..23).map(|host| format!("host-{host:02}")).collect();
    let body: Vec<Value> = hosts
        .iter()
        .map(|host| sample(&metric, &labels([("host", host)]), now, 1.0))
        .collect();
    api.push(&Value::Array(body)).await?;
    let path = format!("/api/v1/metrics/{metric}/labels/host/values");
    eventually("all hosts", async || {
        let found = api.get(&path, &[]).await?.expect(200)?;
        Ok(Some(()).filter(|()| texts(&found, "values") == hosts))
    })
    .await?;
    let first = api.get(&path, &[("limit", "10")]).await?.expect(200)?;
    assert_eq!(texts(&first, "values"), hosts[..10]);
    assert!(first["next_token"].is_string(), "{first}");
    let all = api.all_pages(&path, "values", &[("limit", "10")]).await?;
    assert_eq!(Value::from(all), json!(hosts));
    for (name, bad) in [("limit", "0"), ("limit", "-1"), ("next_token", "####")] {
        api.get(&path, &[(name, bad)])
            .await?
            .is_error(400, "invalid-parameter", name)?;
    }
    Ok(())
}

#[tokio::test]
async fn any_utf_8_may_be_a_name_and_stand_in_a_path() -> anyhow::Result<()> {
    let api = Api::from_env()?;
    // What a path, a key or a separator of ours could trip over. A slash is the exception: the gateway unescapes it before it
    // looks for a route, so such a metric is found by queries only.
    for name in [
        "cpu.load größe μ",
        "a#b%41c?d",
        "名前 ✓",
        "quote\"back\\slash",
        "percent%",
        "plus+and&=",
    ] {
        let metric = format!("{}{name}", unique("e2e_utf8"));
        let key = format!("ключ {name}");
        let value = format!("значение {name}");
        api.push(&json!([sample(&metric, &labels([(&key, &value)]), now_ms(), 1.0)]))
            .await?;
        let path = format!("/api/v1/metrics/{}/labels", escaped(&metric));
        let wanted = json!({"metric_name": metric, "labels": [key]});
        eventually(&format!("the label of {metric}"), async || {
            let found = api.get(&path, &[]).await?.expect(200)?;
            anyhow::ensure!(found == wanted, "{found}");
            Ok(Some(()))
        })
        .await?;
        let found = api
            .get(&format!("{path}/{}/values", escaped(&key)), &[])
            .await?
            .expect(200)?;
        assert_eq!(found, json!({"metric_name": metric, "label": key, "values": [value]}));
        let filter = json!({ key.as_str(): value }).to_string();
        let parameters = [("metric_name", metric.as_str()), ("labels", filter.as_str())];
        let found = api.get("/api/v1/query", &parameters).await?.expect(200)?;
        assert_eq!(found["results"][0]["labels"], json!({ key.as_str(): value }), "{found}");
    }
    Ok(())
}
