//! Both eras of the protocol, by what goes over the wire.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Era};

#[test]
fn a_client_of_2025_shakes_hands_and_is_answered_in_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::silent(folder.path(), Era::Handshake, &[]);
    let hello = client.shake_hands();
    let hello = &hello["result"];
    assert_eq!(hello["protocolVersion"], "2025-11-25");
    assert_eq!(hello["serverInfo"]["name"], "foreseed");
    for capability in ["tools", "prompts", "resources"] {
        assert!(
            hello["capabilities"].get(capability).is_some(),
            "{capability}: {hello}"
        );
    }
    let list = client.request("tools/list", json!({}));
    assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 5);
    for modern in ["resultType", "ttlMs", "cacheScope"] {
        assert!(
            list["result"].get(modern).is_none(),
            "{modern} was not known in 2025"
        );
    }
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
}

#[test]
fn a_client_of_2026_discovers_and_calls_without_a_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    let found = client.request("server/discover", json!({}));
    let found = &found["result"];
    assert_eq!(found["resultType"], "complete");
    let versions = found["supportedVersions"].as_array().unwrap();
    assert!(versions.contains(&json!("2026-07-28")) && versions.contains(&json!("2025-11-25")));
    assert!(found["capabilities"].get("tools").is_some());
    let list = client.request("tools/list", json!({}));
    let list = &list["result"];
    assert_eq!(list["resultType"], "complete");
    assert_eq!(list["cacheScope"], "private");
    assert!(list["ttlMs"].is_u64());
    let result = client.call("list_models", json!({}));
    assert_eq!(result["resultType"], "complete", "{result}");
}

#[test]
fn a_version_that_nobody_speaks_is_refused_with_those_that_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2031-01-01"});
    let answer = client.request("tools/list", json!({"_meta": meta}));
    assert_eq!(answer["error"]["code"], -32022, "{answer}");
    assert!(answer["error"]["data"]["supported"].is_array());
}

#[test]
fn the_tool_list_answers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    let mut client = Client::start(folder.path(), Era::Handshake);
    client.request("tools/list", json!({}));
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_server_whose_client_hangs_up_ends_by_itself() {
    for era in [Era::Handshake, Era::Stateless] {
        let folder = tempfile::tempdir().unwrap();
        let mut client = Client::start(folder.path(), era);
        client.hang_up();
        let status = client.wait(Duration::from_secs(10)).expect("it runs on");
        assert!(status.success(), "{status}");
    }
}
