//! Serving less: nothing written, or only some of the tools.

use serde_json::{Value, json};

use crate::client::{Client, Era};

const PROMPT: &str = "a red circle left of a blue square";

#[test]
fn a_read_only_server_writes_nothing_and_shows_its_pictures() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("data");
    let mut client = Client::silent(&folder, Era::Stateless, &["--read-only"]);
    let ranked = client.call(
        "rank_seeds",
        json!({"prompt": PROMPT, "count": 3, "contact_sheet": true}),
    );
    let rendered = {
        let handle = &ranked["structuredContent"]["ranking"][0]["handle"];
        client.call("render", json!({"handle": handle}))
    };
    for result in [&ranked, &rendered] {
        assert_ne!(result["isError"], json!(true), "{result}");
        let kinds: Vec<&Value> = result["content"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| &b["type"])
            .collect();
        assert_eq!(kinds, ["text", "image"], "no link to what is not there");
    }
    assert!(ranked["structuredContent"].get("contact_sheet").is_none());
    let reply = &rendered["structuredContent"];
    assert!(
        reply.get("path").is_none() && reply["complete"] == json!(true),
        "{reply}"
    );
    assert!(reply["measured"]["composition"].is_number(), "{reply}");
    assert!(reply["resumed_from_step"].as_u64().unwrap() > 0, "{reply}");
    let list = client.request("tools/list", json!({}));
    for tool in list["result"]["tools"].as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], json!(true), "{tool}");
    }
    client.hang_up();
    client
        .wait(std::time::Duration::from_secs(10))
        .expect("it runs on");
    assert!(!folder.exists(), "{folder:?} was made");
}

#[test]
fn a_read_only_server_knows_what_was_recorded_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let predicted = client.done("predict_quality", json!({"prompt": PROMPT, "seeds": [5]}));
    client.hang_up();
    client
        .wait(std::time::Duration::from_secs(10))
        .expect("it runs on");
    let handle = &predicted["candidates"][0]["handle"];
    let mut client = Client::silent(folder.path(), Era::Stateless, &["--read-only"]);
    let reply = client.done("render", json!({"handle": handle}));
    assert_eq!(reply["seed"], 5);
    assert_eq!(reply["predicted"], predicted["candidates"][0]["quality"]);
    assert!(!folder.path().join("pictures").exists());
}

#[test]
fn only_the_tools_that_were_named_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["--tools", "predict_quality,list_models"];
    let mut client = Client::silent(folder.path(), Era::Stateless, &options);
    let list = client.request("tools/list", json!({}));
    let names: Vec<&str> = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["predict_quality", "list_models"]);
    let call = json!({"name": "render", "arguments": {"prompt": PROMPT, "seed": 1}});
    let answer = client.request("tools/call", call);
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    // Prompts that could not be followed are not offered.
    let prompts = client.request("prompts/list", json!({}));
    assert_eq!(prompts["result"]["prompts"], json!([]));
    let mut wrong = Client::silent(folder.path(), Era::Stateless, &["--tools", "rank_seed"]);
    let status = wrong
        .wait(std::time::Duration::from_secs(10))
        .expect("it runs on");
    assert_eq!(status.code(), Some(2));
}
