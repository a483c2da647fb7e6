//! What can be listed and completed: page by page, and by how it begins.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Client, Era};

#[test]
fn renders_are_listed_page_by_page_each_once_with_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    for seed in 0..53 {
        // The first is rendered twice, and is one picture all the same.
        let render =
            json!({"prompt": "a red circle", "seed": seed % 52, "steps": 1, "guidance": 1});
        client.done("render", render);
    }
    let (mut seen, mut pages) = (Vec::new(), 0);
    let mut cursor = Value::Null;
    loop {
        let params = match &cursor {
            Value::Null => json!({}),
            cursor => json!({"cursor": cursor}),
        };
        let answer = client.request("resources/list", params);
        let result = &answer["result"];
        let resources = result["resources"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"));
        seen.extend(
            resources
                .iter()
                .map(|r| r["uri"].as_str().unwrap().to_owned()),
        );
        pages += 1;
        cursor = result["nextCursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert!(pages > 1);
    assert_eq!(seen.len(), 104);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 104);
    let pictures = seen
        .iter()
        .filter(|uri| uri.starts_with("foreseed://pictures/"));
    assert_eq!(pictures.count(), 52);
    for uri in [&seen[0], &seen[103]] {
        let read = client.request("resources/read", json!({"uri": uri}));
        assert!(read["result"]["contents"][0].is_object(), "{read}");
    }
    for wrong in ["x", "r:", "r:one", "..."] {
        let answer = client.request("resources/list", json!({"cursor": wrong}));
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(wrong));
    }
}

#[test]
fn every_template_says_what_it_gives() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let listed = client.request("resources/templates/list", json!({}));
    let templates = listed["result"]["resourceTemplates"].as_array().unwrap();
    let uris: Vec<&str> = templates
        .iter()
        .map(|t| t["uriTemplate"].as_str().unwrap())
        .collect();
    assert_eq!(
        uris,
        [
            "foreseed://pictures/{name}",
            "foreseed://candidates/{handle}",
            "foreseed://candidates/{handle}/preview",
            "foreseed://candidates/{handle}/attention",
        ]
    );
    assert!(
        templates
            .iter()
            .all(|t| t["description"].is_string() && t["mimeType"].is_string())
    );
}

#[test]
fn arguments_are_completed_from_what_is_known_here() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::silent(folder.path(), Era::Handshake, &[]);
    let hello = client.shake_hands();
    assert!(hello["result"]["capabilities"]["completions"].is_object());
    let predicted = client.done(
        "predict_quality",
        json!({"prompt": "A Red circle", "seeds": [1, 2]}),
    );
    let handle = predicted["candidates"][0]["handle"].as_str().unwrap();
    client.done("render", json!({"handle": handle}));
    let mut complete = |of: Value, name: &str, value: &str| -> Value {
        let params = json!({"ref": of, "argument": {"name": name, "value": value}});
        client.request("completion/complete", params)
    };
    let prompt = |name: &str| json!({"type": "ref/prompt", "name": name});
    let template = |uri: &str| json!({"type": "ref/resource", "uri": uri});
    let values = |answer: &Value| -> Vec<String> {
        let values = answer["result"]["completion"]["values"].as_array();
        let values = values.unwrap_or_else(|| panic!("{answer}"));
        values
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    };
    let candidates = "foreseed://candidates/{handle}/preview";
    for (of, name, typed, wanted) in [
        (prompt("plan-an-image"), "model", "po", "pocket"),
        (prompt("pick-a-seed"), "count", "1", "16"),
        (prompt("pick-a-seed"), "prompt", "a red", "A Red circle"),
        (template(candidates), "handle", &handle[..8], handle),
        (
            template("foreseed://pictures/{name}"),
            "name",
            "a-red",
            "a-red-circle-seed1",
        ),
    ] {
        let answer = complete(of.clone(), name, typed);
        let found = values(&answer);
        assert!(found[0].starts_with(wanted), "{of} {name}: {found:?}");
        assert_eq!(answer["result"]["completion"]["hasMore"], false);
        assert_eq!(values(&complete(of, name, "no such beginning")), [""; 0]);
    }
    assert_eq!(
        values(&complete(template(candidates), "handle", "fs_")).len(),
        2
    );
    for (of, name) in [
        (prompt("no-such-prompt"), "idea"),
        (prompt("plan-an-image"), "colour"),
        (template("foreseed://elsewhere/{x}"), "x"),
        (json!({"type": "ref/other"}), "x"),
    ] {
        let answer = complete(of, name, "");
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }
}
