//! Both eras of the protocol, side by side on one engine.

use serde_json::json;

use crate::client::{Client, Era};
use crate::house::House;

const PROMPT: &str = "a red circle left of a blue square on a white background";

#[tokio::test]
async fn a_client_of_2025_has_a_session_until_it_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::silent(&house, Era::Session);
    let hello = client.shake_hands().await;
    assert_eq!(hello["result"]["protocolVersion"], "2025-11-25");
    let list = client.request("tools/list", json!({})).await;
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 5);
    assert!(list["result"].get("ttlMs").is_none(), "unknown in 2025");
    assert_eq!(house.figure("foreseed_sessions ").await, 1.0);
    assert_eq!(client.leave().await.status(), 204);
    let list = client.message("tools/list", json!({}));
    let after = client.post(&list).send().await.unwrap();
    assert_eq!(after.status(), 404, "the session is over");
    assert_eq!(house.figure("foreseed_sessions ").await, 0.0);
}

#[tokio::test]
async fn a_client_of_2026_needs_no_session() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::start(&house, Era::Stateless).await;
    let found = client.request("server/discover", json!({})).await;
    assert_eq!(found["result"]["resultType"], "complete", "{found}");
    let list = client.request("tools/list", json!({})).await;
    assert_eq!(list["result"]["cacheScope"], "private", "{list}");
    assert_eq!(house.figure("foreseed_sessions ").await, 0.0);
}

#[tokio::test]
async fn what_one_era_predicts_the_other_renders() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut old = Client::start(&house, Era::Session).await;
    let mut new = Client::start(&house, Era::Stateless).await;
    let arguments = json!({"prompt": PROMPT, "seeds": [1, 2]});
    let predicted = old.done("predict_quality", arguments.clone()).await;
    let again = new.done("predict_quality", arguments).await;
    assert_eq!(predicted["candidates"], again["candidates"]);
    assert_eq!(again["cost"]["evaluations"], 0, "{again}");
    let handle = predicted["candidates"][1]["handle"].clone();
    let render = new.done("render", json!({"handle": handle})).await;
    assert!(
        render["resumed_from_step"].as_u64().unwrap() > 0,
        "{render}"
    );
    assert!(image::open(render["path"].as_str().unwrap()).is_ok());
    let pictures = old.request("resources/list", json!({})).await;
    let uri = &pictures["result"]["resources"][0]["uri"];
    let read = old.request("resources/read", json!({"uri": uri})).await;
    assert!(read["result"]["contents"][0]["blob"].is_string(), "{read}");
}

#[tokio::test]
async fn a_header_that_contradicts_its_message_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::start(folder.path());
    let mut client = Client::start(&house, Era::Stateless).await;
    let list = client.message("tools/list", json!({}));
    let request = client.post(&list).header("Mcp-Method", "tools/call");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let unknown = client.message("tools/mend", json!({}));
    let answer = client.post(&unknown).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let answer: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(answer["error"]["code"], -32601);
}
