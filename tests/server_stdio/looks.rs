//! Pictures in the conversation: within what each client takes, and behind each handle.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Era};

const PROMPT: &str = "a red circle left of a blue square on a white background";

/// What every client shows without cutting it.
const SIDE: u32 = 512;
const BASE64: usize = 100_000;
/// Claude Desktop refuses a larger result.
const RESULT: usize = 1_000_000;
/// Claude Code cuts what is longer. JSON of figures comes to no less than two characters a token.
const TOKENS: usize = 25_000;

fn picture(data: &Value) -> image::DynamicImage {
    let data = data.as_str().unwrap();
    assert!(data.len() <= BASE64, "{} of base64", data.len());
    let jpeg = BASE64_STANDARD.decode(data).unwrap();
    let picture = image::load_from_memory(&jpeg).unwrap();
    let (width, height) = (picture.width(), picture.height());
    assert!(width <= SIDE && height <= SIDE, "{width}×{height}");
    picture
}

/// The picture of an answer that every client takes.
fn taken_by_all(what: &str, result: &Value) -> Option<image::DynamicImage> {
    assert_ne!(result["isError"], json!(true), "{what}: {result}");
    let bytes = result.to_string().len();
    assert!(bytes <= RESULT, "{what}: {bytes} bytes");
    let blocks = result["content"].as_array().unwrap();
    let texts = blocks.iter().filter_map(|block| block["text"].as_str());
    let characters: usize = texts.map(str::len).sum();
    assert!(characters <= 2 * TOKENS, "{what}: {characters} characters");
    let image = blocks.iter().find(|block| block["type"] == "image");
    image.map(|image| picture(&image["data"]))
}

#[test]
fn every_answer_keeps_to_the_limits_of_every_client() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let many = json!({"prompt": PROMPT, "count": 64, "at_step": 1, "attention": true});
    assert!(taken_by_all("predict", &client.call("predict_quality", many)).is_some());
    let many = json!({"prompt": PROMPT, "count": 64, "at_step": 1, "contact_sheet": true});
    let ranked = client.call("rank_seeds", many);
    let sheet = taken_by_all("rank", &ranked).unwrap();
    // Drawn for this size, not shrunk to it: its letters are read.
    assert!(sheet.width() > 400, "{}", sheet.width());
    let large = image::open(
        ranked["structuredContent"]["contact_sheet"]
            .as_str()
            .unwrap(),
    );
    assert!(large.unwrap().width() > 1000);
    let rendered = client.call("render", json!({"prompt": PROMPT, "seed": 1}));
    assert!(taken_by_all("render", &rendered).is_some());
    let longest = "a red circle ".repeat(600);
    let refused = client.call("predict_quality", json!({"prompt": longest}));
    assert!(refused.to_string().len() < 2_000, "{refused}");
    taken_by_all("list", &client.call("list_models", json!({})));
}

#[test]
fn attention_is_drawn_where_it_is_asked_for_and_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    let plain = client.call("predict_quality", json!({"prompt": PROMPT, "seeds": [3]}));
    assert!(taken_by_all("plain", &plain).is_none());
    assert!(plain["structuredContent"].get("attention").is_none());
    let asked = json!({"prompt": PROMPT, "seeds": [3], "attention": true});
    let drawn = client.call("predict_quality", asked);
    assert!(taken_by_all("attention", &drawn).is_some());
    let reply = &drawn["structuredContent"];
    assert_eq!(
        reply["candidates"],
        plain["structuredContent"]["candidates"]
    );
    // red, circle, left, blue, square, white, and the picture.
    let path = reply["attention"].as_str().unwrap();
    assert!(path.contains("attention-of-7-"), "{path}");
    assert!(image::open(path).unwrap().width() > 600);
}

#[test]
fn a_handle_leads_to_its_preview_its_attention_and_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let ranked = client.done("rank_seeds", json!({"prompt": PROMPT, "count": 4}));
    let best = &ranked["ranking"][0];
    let of = |what: &str| {
        format!(
            "foreseed://candidates/{}{what}",
            best["handle"].as_str().unwrap()
        )
    };
    let mut seen = Vec::new();
    for what in ["/preview", "/attention"] {
        let read = client.request("resources/read", json!({"uri": of(what)}));
        let contents = &read["result"]["contents"][0];
        assert_eq!(contents["mimeType"], "image/jpeg", "{read}");
        seen.push(picture(&contents["blob"]).to_rgb8());
    }
    assert_ne!(seen[0], seen[1]);
    let record = |client: &mut Client| -> Value {
        let read = client.request("resources/read", json!({"uri": of("")}));
        let text = read["result"]["contents"][0]["text"].as_str().unwrap();
        serde_json::from_str(text).unwrap()
    };
    let before = record(&mut client);
    assert_eq!(before["seed"], best["seed"]);
    assert_eq!(before["prompt"], PROMPT);
    assert_eq!(before["render"], Value::Null);
    let said = before["predictions"].as_array().unwrap();
    assert!(
        said.iter().any(|p| p["quality"] == best["quality"]),
        "{before}"
    );
    let rendered = client.done("render", json!({"handle": best["handle"]}));
    let after = record(&mut client);
    assert_eq!(after["render"]["path"], rendered["path"]);
    assert_eq!(after["render"]["measured"], rendered["measured"]);
    let read = client.request("resources/read", json!({"uri": after["render"]["picture"]}));
    assert_eq!(read["result"]["contents"][0]["mimeType"], "image/png");
    // After the render, and in another process, it is still what it was when it was judged.
    drop(client);
    let mut client = Client::start(folder.path(), Era::Stateless);
    let read = client.request("resources/read", json!({"uri": of("/preview")}));
    assert_eq!(
        picture(&read["result"]["contents"][0]["blob"]).to_rgb8(),
        seen[0]
    );
}

#[test]
fn the_ranking_leads_to_the_gallery() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::silent(folder.path(), Era::Handshake, &[]);
    let hello = client.shake_hands();
    let extension = &hello["result"]["capabilities"]["extensions"]["io.modelcontextprotocol/ui"];
    let mime = "text/html;profile=mcp-app";
    assert_eq!(extension["mimeTypes"], json!([mime]));
    let list = client.request("tools/list", json!({}));
    for tool in list["result"]["tools"].as_array().unwrap() {
        let uri = &tool["_meta"]["ui"]["resourceUri"];
        assert_eq!(uri.is_string(), tool["name"] == "rank_seeds", "{tool}");
        if uri.is_string() {
            let read = client.request("resources/read", json!({"uri": uri}));
            let contents = &read["result"]["contents"][0];
            assert_eq!(contents["mimeType"], mime);
            assert_eq!(contents["_meta"]["ui"]["csp"], json!({}));
            let html = contents["text"].as_str().unwrap();
            assert!(html.starts_with("<!doctype html>"), "{html}");
        }
    }
}
