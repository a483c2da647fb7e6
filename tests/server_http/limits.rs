//! What is too much, and what is no message at all.

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::house::House;

const PROMPT: &str = "a red circle left of a blue square on a white background";

#[tokio::test]
async fn what_is_no_message_is_refused_in_the_protocols_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(folder.path(), &["--max-body", "4096"], &[]);
    let mut client = Client::start(&house, Era::Stateless).await;
    let list = client.message("tools/list", json!({}));
    let code = async |body: String| {
        let answer = client.post(&list).body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let message: Value = answer.json().await.unwrap();
        (
            status,
            message["error"]["code"].clone(),
            message["id"].clone(),
        )
    };
    assert_eq!(
        code("nonsense".into()).await,
        (400, json!(-32700), Value::Null)
    );
    assert_eq!(code("[]".into()).await, (400, json!(-32600), Value::Null));
    let without_method = r#"{"jsonrpc":"2.0","id":7}"#;
    assert_eq!(
        code(without_method.into()).await,
        (400, json!(-32600), json!(7))
    );
    let long = format!("{:5000}", "{}");
    assert_eq!(code(long).await.0, 413);
    let http = reqwest::Client::new();
    let nowhere = http
        .get(format!("{}/nowhere", house.url))
        .send()
        .await
        .unwrap();
    assert_eq!(nowhere.status(), 404);
    assert!(nowhere.text().await.unwrap().contains("/mcp"));
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(folder.path(), &["--queue", "1", "--max-requests", "3"], &[]);
    let mut client = Client::start(&house, Era::Stateless).await;
    let long = json!({"name": "predict_quality", "arguments": {"prompt": PROMPT, "count": 100}});
    let message = client.message("tools/call", long);
    let running = tokio::spawn(client.post(&message).send());
    house.busy().await;
    let refusal = client
        .call(
            "predict_quality",
            json!({"prompt": "a green ring", "seeds": [1]}),
        )
        .await;
    assert_eq!(refusal["isError"], true, "{refusal}");
    let text = refusal["content"][0]["text"].as_str().unwrap();
    assert!(
        text.starts_with("busy") && text.contains("call again in about"),
        "{text}"
    );

    // Beside it two more may speak at once, and no third.
    let waits = json!({"name": "render", "arguments": {"prompt": PROMPT, "seed": 1}});
    let mut statuses = Vec::new();
    let mut streams = vec![running];
    for _ in 0..6 {
        let message = client.message("tools/call", waits.clone());
        let request = client.post(&message);
        let answer = request.send().await.unwrap();
        statuses.push(answer.status().as_u16());
        if answer.status() == 503 {
            assert!(answer.headers().contains_key("retry-after"));
            break;
        }
        streams.push(tokio::spawn(async move { Ok(answer) }));
    }
    drop(streams);
}

#[tokio::test]
async fn the_figures_are_prometheus_own() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::start(&house, Era::Stateless).await;
    client
        .done("predict_quality", json!({"prompt": PROMPT, "seeds": [1]}))
        .await;
    client
        .call("predict_quality", json!({"prompt": "", "seeds": [1]}))
        .await;
    let answer = reqwest::get(format!("{}/metrics", house.url))
        .await
        .unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    for line in [
        r#"foreseed_calls_total{tool="predict_quality",outcome="Answered"} 1"#,
        r#"foreseed_calls_total{tool="predict_quality",outcome="Refused"} 1"#,
        r#"foreseed_http_requests_total{status="200"} 2"#,
        "foreseed_calls_running 0",
        "foreseed_engine_waiting 0",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(house.figure("foreseed_engine_busy_seconds_total ").await > 0.0);
    assert!(house.figure("foreseed_engine_evaluations_total ").await > 0.0);
}
