//! Calls that outlive the server's patience, for a client that speaks of tasks.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Era};
use crate::house::{House, PATIENCE};

const PROMPT: &str = "a red circle left of a blue square on a white background";

fn able(mut params: Value) -> Value {
    let tasks = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    params["_meta"] = json!({"io.modelcontextprotocol/clientCapabilities": tasks});
    params
}

fn call(count: u32) -> Value {
    let arguments = json!({"prompt": PROMPT, "count": count});
    able(json!({"name": "predict_quality", "arguments": arguments}))
}

/// The task's state once it is no longer at work.
async fn settled(client: &mut Client, task: &Value) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let state = client
            .request("tasks/get", able(json!({"taskId": task})))
            .await;
        let state = state["result"].clone();
        if state["status"] != "working" {
            return state;
        }
        assert!(Instant::now() < until, "it never ends: {state}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_long_call_becomes_a_task_that_comes_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(folder.path(), &["--call-seconds", "0.5"], &[]);
    let mut client = Client::start(&house, Era::Stateless).await;
    let found = client.request("server/discover", json!({})).await;
    let extensions = &found["result"]["capabilities"]["extensions"];
    assert!(
        extensions["io.modelcontextprotocol/tasks"].is_object(),
        "{found}"
    );

    let short = client
        .request("tools/call", able(json!({"name": "list_models"})))
        .await;
    assert_eq!(short["result"]["resultType"], "complete", "{short}");
    let long = client.request("tools/call", call(100)).await;
    assert_eq!(long["result"]["resultType"], "task", "{long}");
    let state = settled(&mut client, &long["result"]["taskId"]).await;
    assert_eq!(state["status"], "completed", "{state}");
    let reply = &state["result"]["structuredContent"];
    assert_eq!(reply["complete"], true);
    assert_eq!(reply["candidates"].as_array().unwrap().len(), 100);
}

#[tokio::test]
async fn a_cancelled_task_frees_its_work() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(folder.path(), &["--call-seconds", "0.2"], &[]);
    let mut client = Client::start(&house, Era::Stateless).await;
    let long = client.request("tools/call", call(100)).await;
    let task = &long["result"]["taskId"];
    assert!(task.is_string(), "{long}");
    client
        .request("tasks/cancel", able(json!({"taskId": task})))
        .await;
    assert_eq!(settled(&mut client, task).await["status"], "cancelled");
    assert!(house.idle().await < Duration::from_secs(5));
}

#[tokio::test]
async fn a_client_that_knows_no_tasks_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::with(folder.path(), &["--call-seconds", "0.2"], &[]);
    let mut client = Client::start(&house, Era::Stateless).await;
    let arguments = json!({"prompt": PROMPT, "count": 100});
    let result = client.call("predict_quality", arguments).await;
    assert_eq!(result["structuredContent"]["complete"], false, "{result}");
}
