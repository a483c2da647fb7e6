//! Each tool does what it promises, on the embedded model.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::client::{Client, Era, text};

const PROMPT: &str = "a red circle left of a blue square on a white background";

/// Holds a value against a published schema, as a strict client does.
fn matches(schema: &Value, value: &Value, at: &str) {
    let fields = schema["properties"].as_object();
    match schema["type"].as_str() {
        Some("object") => {
            let value = value
                .as_object()
                .unwrap_or_else(|| panic!("{at}: no object: {value}"));
            for required in schema["required"].as_array().into_iter().flatten() {
                let name = required.as_str().unwrap();
                assert!(value.contains_key(name), "{at}: {name} is missing");
            }
            for (name, value) in value {
                let at = format!("{at}.{name}");
                match fields.and_then(|fields| fields.get(name)) {
                    Some(schema) => matches(schema, value, &at),
                    None if fields.is_some() => panic!("{at} is not in the schema"),
                    None => matches(&schema["additionalProperties"], value, &at),
                }
            }
        }
        Some("array") => {
            let items = value
                .as_array()
                .unwrap_or_else(|| panic!("{at}: no array: {value}"));
            items
                .iter()
                .for_each(|item| matches(&schema["items"], item, at));
        }
        Some("string") => assert!(value.is_string(), "{at}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{at}: {value}"),
        Some("integer") => assert!(value.is_u64() || value.is_i64(), "{at}: {value}"),
        Some("number") => assert!(value.is_number(), "{at}: {value}"),
        other => panic!("{at}: a schema of type {other:?}"),
    }
}

fn keeps_to_its_schema(client: &mut Client, tool: &str, result: &Value) {
    assert_ne!(result["isError"], json!(true), "{tool}: {result}");
    let list = client.request("tools/list", json!({}));
    let tools = list["result"]["tools"].as_array().unwrap();
    let schema = &tools.iter().find(|t| t["name"] == tool).unwrap()["outputSchema"];
    matches(schema, &result["structuredContent"], tool);
    let copy: Value = serde_json::from_str(text(result)).unwrap();
    assert_eq!(copy, result["structuredContent"], "the text is not a copy");
}

fn holds_its_point(of: &Value, point: &str, interval: &str) {
    if let Some(interval) = of.get(interval) {
        let (low, high) = (interval[0].as_f64().unwrap(), interval[1].as_f64().unwrap());
        let point = of[point].as_f64().unwrap();
        assert!(
            low <= point && point <= high,
            "{point} is not in {low}–{high}"
        );
    }
}

#[test]
fn a_prediction_keeps_the_order_asked_for_and_does_not_depend_on_its_company() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let together = client.call(
        "predict_quality",
        json!({"prompt": PROMPT, "seeds": [7, 3, 5]}),
    );
    keeps_to_its_schema(&mut client, "predict_quality", &together);
    let together = &together["structuredContent"];
    let candidates = together["candidates"].as_array().unwrap();
    let seeds: Vec<u64> = candidates
        .iter()
        .map(|c| c["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [7, 3, 5]);
    holds_its_point(together, "expected_quality", "interval");
    candidates
        .iter()
        .for_each(|c| holds_its_point(c, "quality", "interval"));
    let cost = &together["cost"];
    assert!(
        cost["evaluations"].as_u64() < cost["full_evaluations"].as_u64(),
        "{cost}"
    );

    // Another process, so that nothing is remembered.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut client = Client::start(elsewhere.path(), Era::Stateless);
    let alone = client.done("predict_quality", json!({"prompt": PROMPT, "seeds": [3]}));
    assert_eq!(alone["candidates"][0], candidates[1]);
}

#[test]
fn a_ranking_names_every_seed_once_best_first_within_its_budget() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let free = client.call(
        "rank_seeds",
        json!({"prompt": PROMPT, "count": 6, "keep": 2, "contact_sheet": true}),
    );
    keeps_to_its_schema(&mut client, "rank_seeds", &free);
    let reply = &free["structuredContent"];
    let ranking = reply["ranking"].as_array().unwrap();
    let ranks: Vec<u64> = ranking
        .iter()
        .map(|r| r["rank"].as_u64().unwrap())
        .collect();
    assert_eq!(ranks, [1, 2, 3, 4, 5, 6]);
    let mut seeds: Vec<u64> = ranking
        .iter()
        .map(|r| r["seed"].as_u64().unwrap())
        .collect();
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 6);
    ranking
        .iter()
        .for_each(|r| holds_its_point(r, "quality", "interval"));

    let sheet = reply["contact_sheet"].as_str().unwrap();
    assert!(std::path::Path::new(sheet).is_file());
    shows_a_picture(&mut client, &free);

    let elsewhere = tempfile::tempdir().unwrap();
    let mut client = Client::start(elsewhere.path(), Era::Handshake);
    let spent = reply["cost"]["evaluations"].as_u64().unwrap();
    let bounded = client.done(
        "rank_seeds",
        json!({"prompt": PROMPT, "count": 6, "keep": 2, "budget": spent}),
    );
    assert!(bounded["cost"]["evaluations"].as_u64().unwrap() <= spent);
}

#[test]
fn a_refinement_lets_the_original_compete() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let variants = [
        "red circle, blue square",
        "a blue square right of a red circle",
    ];
    let mine = client.call(
        "refine_prompt",
        json!({"prompt": PROMPT, "variants": variants, "count": 2, "rounds": 1}),
    );
    keeps_to_its_schema(&mut client, "refine_prompt", &mine);
    let tried: Vec<&str> = mine["structuredContent"]["tried"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t["prompt"].as_str().unwrap())
        .collect();
    assert!(
        tried.contains(&PROMPT) && tried.contains(&variants[0]),
        "{tried:?}"
    );
    holds_its_point(&mine["structuredContent"]["best"], "gain", "gain_interval");

    let own = client.done(
        "refine_prompt",
        json!({"prompt": "red circle, blue square", "count": 2}),
    );
    assert!(
        own["tried"].as_array().unwrap().len() > 1,
        "it made no rewrites: {own}"
    );
}

/// The inline thumbnail, the link, and the whole picture behind it.
fn shows_a_picture(client: &mut Client, result: &Value) {
    let blocks = result["content"].as_array().unwrap();
    let of_type = |kind: &str| blocks.iter().find(|b| b["type"] == kind).unwrap().clone();
    let image = of_type("image");
    assert_eq!(image["mimeType"], "image/jpeg");
    let data = image["data"].as_str().unwrap();
    assert!(data.len() <= 100_000, "{} characters of base64", data.len());
    let jpeg = BASE64_STANDARD.decode(data).unwrap();
    assert!(image::load_from_memory(&jpeg).is_ok());
    let link = of_type("resource_link");
    let read = client.request("resources/read", json!({"uri": link["uri"]}));
    let blob = read["result"]["contents"][0]["blob"]
        .as_str()
        .unwrap_or_else(|| panic!("{read}"));
    let png = BASE64_STANDARD.decode(blob).unwrap();
    assert!(image::load_from_memory(&png).is_ok());
}

#[test]
fn a_render_goes_on_from_the_prediction_and_gives_what_a_straight_one_gives() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let predicted = client.done("predict_quality", json!({"prompt": PROMPT, "seeds": [11]}));
    let candidate = &predicted["candidates"][0];
    let result = client.call("render", json!({"handle": candidate["handle"]}));
    keeps_to_its_schema(&mut client, "render", &result);
    shows_a_picture(&mut client, &result);
    let resumed = &result["structuredContent"];
    assert!(
        resumed["resumed_from_step"].as_u64().unwrap() > 0,
        "{resumed}"
    );
    assert_eq!(resumed["predicted"], candidate["quality"]);
    assert!(
        resumed["measured"]
            .as_object()
            .is_some_and(|m| !m.is_empty()),
        "{resumed}"
    );
    let listed = client.request("resources/list", json!({}));
    // The picture, and what is known of it.
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 2);

    let elsewhere = tempfile::tempdir().unwrap();
    let mut client = Client::start(elsewhere.path(), Era::Stateless);
    let straight = client.done("render", json!({"prompt": PROMPT, "seed": 11}));
    assert_eq!(straight["resumed_from_step"], 0);
    assert_eq!(straight["measured"], resumed["measured"]);
    let picture = |reply: &Value| image::open(reply["path"].as_str().unwrap()).unwrap();
    assert_eq!(picture(resumed), picture(&straight));
}

#[test]
fn a_rating_is_kept_without_rendering_again_and_a_later_one_replaces_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let predicted = client.done("predict_quality", json!({"prompt": PROMPT, "seeds": [4]}));
    let handle = &predicted["candidates"][0]["handle"];
    // It was not rendered yet, so it is.
    let first = client.call("render", json!({"handle": handle, "rating": 0.25}));
    keeps_to_its_schema(&mut client, "render", &first);
    shows_a_picture(&mut client, &first);
    let first = &first["structuredContent"];
    assert!(first["cost"]["evaluations"].as_u64() > Some(0), "{first}");
    assert_eq!(first["measured"]["rating"], 0.25);

    let again = client.call("render", json!({"handle": handle, "rating": 0.75}));
    keeps_to_its_schema(&mut client, "render", &again);
    let blocks = again["content"].as_array().unwrap();
    assert_eq!(blocks.len(), 1, "the picture was shown before: {again}");
    let again = &again["structuredContent"];
    assert_eq!(again["cost"]["evaluations"], 0);
    assert_eq!(again["measured"]["rating"], 0.75);
    for same in ["path", "predicted", "prompt", "seed", "handle", "metric"] {
        assert_eq!(again[same], first[same], "{same}");
    }
    assert_eq!(
        again["measured"]["composition"],
        first["measured"]["composition"]
    );
    let listed = client.request("resources/list", json!({}));
    assert_eq!(listed["result"]["resources"].as_array().unwrap().len(), 2);

    // By prompt and seed it is the same picture, and a picture that is gone is made anew.
    let named = json!({"prompt": PROMPT, "seed": 4, "rating": 0.5});
    assert_eq!(
        client.done("render", named.clone())["cost"]["evaluations"],
        0
    );
    std::fs::remove_file(first["path"].as_str().unwrap()).unwrap();
    let anew = client.done("render", named);
    assert!(std::path::Path::new(anew["path"].as_str().unwrap()).is_file());
    assert_eq!(anew["measured"]["rating"], 0.5);

    for (wrong, shown) in [
        (json!(1.5), "1.5"),
        (json!(-0.1), "-0.1"),
        (json!("good"), "good"),
    ] {
        let refused = client.call("render", json!({"handle": handle, "rating": wrong}));
        assert_eq!(refused["isError"], true, "{refused}");
        let problem = text(&refused);
        assert!(
            problem.starts_with("rating") && problem.contains(shown),
            "{problem}"
        );
    }
    let kept = client.done("render", json!({"handle": handle, "rating": 0.5}));
    assert_eq!(kept["measured"]["rating"], 0.5);
}

#[test]
fn the_models_are_listed_with_their_probes_and_one_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let result = client.call("list_models", json!({}));
    keeps_to_its_schema(&mut client, "list_models", &result);
    let models = result["structuredContent"]["models"].as_array().unwrap();
    let pocket = models.iter().find(|m| m["name"] == "pocket").unwrap();
    assert_eq!(
        (&pocket["installed"], &pocket["fits"]),
        (&json!(true), &json!(true))
    );
    let measured = &pocket["probes"][0]["measured"];
    assert!(
        measured["pooled_srcc"].as_f64().unwrap() > 0.5,
        "{measured}"
    );
    assert_eq!(models.iter().filter(|m| m["default"] == true).count(), 1);
}
