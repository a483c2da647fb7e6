//! What agents see, word by word: a change to it is a change to a file beside this one, and so to be
//! reviewed. `UPDATE_SNAPSHOTS=1 cargo test --release --test server_stdio` writes them anew.

use std::path::Path;

use serde_json::{Value, json};

use crate::client::{Client, Era};

fn hold_against(name: &str, seen: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/server_stdio/snapshots")
        .join(format!("{name}.json"));
    let seen = serde_json::to_string_pretty(seen).unwrap() + "\n";
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, seen).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = kept.lines().zip(seen.lines()).position(|(a, b)| a != b);
    let differs = differs.unwrap_or(kept.lines().count().min(seen.lines().count()));
    assert!(
        kept == seen,
        "{name}: what agents see has changed at line {}:\n  was {:?}\n  is  {:?}\n\
         If that is meant, run with UPDATE_SNAPSHOTS=1 and commit the difference.",
        differs + 1,
        kept.lines().nth(differs),
        seen.lines().nth(differs)
    );
}

#[test]
fn every_tool_is_what_its_snapshot_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let list = client.request("tools/list", json!({}));
    for tool in list["result"]["tools"].as_array().unwrap() {
        hold_against(tool["name"].as_str().unwrap(), tool);
    }
}

#[test]
fn the_prompts_are_what_their_snapshot_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    hold_against(
        "prompts",
        &client.request("prompts/list", json!({}))["result"]["prompts"],
    );
}

/// Five tools are to cost an agent less than 2,500 tokens, and 1,500 where possible. Compact JSON
/// comes to more than 3.2 characters a token of o200k_base, so this many characters are safe.
#[test]
fn the_tool_list_stays_short() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let list = client.request("tools/list", json!({}));
    let characters: usize = list["result"]["tools"]
        .as_array()
        .unwrap()
        .iter()
        // What is for the host alone no agent reads.
        .map(|tool| {
            let mut tool = tool.clone();
            tool.as_object_mut().unwrap().remove("_meta");
            tool.to_string().len()
        })
        .sum();
    // About four characters make a token (o200k_base), and 2,500 tokens are the most.
    assert!(characters < 8_400, "{characters} characters");
}

#[test]
fn a_prompt_is_filled_in_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    let arguments = json!({"idea": "a red circle above a blue ring"});
    let got = client.request(
        "prompts/get",
        json!({"name": "plan-an-image", "arguments": arguments}),
    );
    let text = got["result"]["messages"][0]["content"]["text"]
        .as_str()
        .unwrap();
    assert!(text.contains("a red circle above a blue ring"), "{text}");
    assert!(!text.contains("{{"), "{text}");
    for (params, named) in [
        (json!({"name": "plan-an-image"}), "idea"),
        (json!({"name": "no-such-prompt"}), "no-such-prompt"),
        (json!({"name": 7}), "prompts/get"),
    ] {
        let answer = client.request("prompts/get", params);
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(named),
            "{answer}"
        );
    }
}
