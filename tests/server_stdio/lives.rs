//! What happens around a call: progress, cancellation, impatience, and the end of the process.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Era};

const PROMPT: &str = "a red circle left of a blue square on a white background";

fn progress(message: &Value, token: &str) -> Option<f64> {
    let params = &message["params"];
    let mine = message["method"] == "notifications/progress" && params["progressToken"] == token;
    mine.then(|| params["progress"].as_f64().unwrap())
}

#[test]
fn progress_rises_from_its_first_to_its_last_and_ends_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    for era in [Era::Handshake, Era::Stateless] {
        let mut client = Client::start(folder.path(), era);
        let id = client.ask(
            "tools/call",
            json!({"name": "predict_quality", "arguments": {"prompt": PROMPT, "count": 4},
                   "_meta": {"progressToken": "mine"}}),
        );
        client.answer(id);
        let heard: Vec<Value> = client.notes.drain(..).collect();
        let told: Vec<f64> = heard
            .iter()
            .filter_map(|note| progress(note, "mine"))
            .collect();
        assert!(told.len() >= 2, "{told:?}");
        assert_eq!(told[0], 0.0);
        assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
        let last = &heard
            .iter()
            .rfind(|note| progress(note, "mine").is_some())
            .unwrap()["params"];
        assert_eq!(
            last["progress"], last["total"],
            "the last was not sent: {last}"
        );
        assert!(
            client.hear(Duration::from_millis(300)).is_none(),
            "progress after the answer"
        );
    }
}

#[test]
fn nothing_is_reported_to_a_client_that_did_not_ask() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    client.done("predict_quality", json!({"prompt": PROMPT, "count": 1}));
    assert!(client.notes.is_empty(), "{:?}", client.notes);
}

#[test]
fn a_cancelled_call_is_not_answered_and_makes_way_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    client.done("predict_quality", json!({"prompt": PROMPT, "seeds": [1]}));
    let id = client.ask(
        "tools/call",
        json!({"name": "predict_quality", "arguments": {"prompt": PROMPT, "count": 100},
               "_meta": {"progressToken": "long"}}),
    );
    // It is under way once it has told of a step.
    while !client
        .notes
        .iter()
        .any(|n| progress(n, "long").is_some_and(|p| p > 0.0))
    {
        let note = client.hear(Duration::from_secs(60)).expect("no progress");
        assert_ne!(
            note["id"],
            json!(id),
            "it was over before it could be cancelled"
        );
        client.notes.push_back(note);
    }
    client.say(
        &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
                       "params": {"requestId": id, "reason": "enough"}}),
    );
    let began = Instant::now();
    let next = client.done(
        "predict_quality",
        json!({"prompt": "a green ring", "seeds": [5]}),
    );
    let took = began.elapsed();
    assert_eq!(next["candidates"][0]["seed"], 5);
    // 100 candidates would take far longer than one.
    assert!(
        took < Duration::from_secs(20),
        "the cancelled call was in the way for {took:?}"
    );
    assert!(
        client.notes.iter().all(|note| note["id"] != json!(id)),
        "it was answered"
    );
}

#[test]
fn a_client_that_goes_away_takes_its_work_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let arguments = json!({"prompt": PROMPT, "count": 100, "keep": 100});
    client.ask(
        "tools/call",
        json!({"name": "rank_seeds", "arguments": arguments, "_meta": {"progressToken": "mine"}}),
    );
    std::thread::sleep(Duration::from_millis(500));
    client.hang_up();
    // A step, not the seconds that a closing session would wait for its answers.
    let status = client
        .wait(Duration::from_secs(4))
        .expect("it works on for nobody");
    assert!(status.success(), "{status}");
}

#[test]
fn an_impatient_call_says_to_call_again_and_the_next_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::silent(folder.path(), Era::Handshake, &["--call-seconds", "1"]);
    client.shake_hands();
    let arguments = json!({"prompt": PROMPT, "count": 12});
    let mut calls = 0;
    let mut spent = 0;
    let reply = loop {
        let began = Instant::now();
        let result = client.call("predict_quality", arguments.clone());
        assert_ne!(result["isError"], json!(true), "{result}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{:?}",
            began.elapsed()
        );
        calls += 1;
        assert!(calls < 100, "it never completes");
        spent += result["structuredContent"]["cost"]["evaluations"]
            .as_u64()
            .unwrap();
        if result["structuredContent"]["complete"] == json!(true) {
            break result["structuredContent"].clone();
        }
    };
    assert_eq!(reply["candidates"].as_array().unwrap().len(), 12);

    // Interrupted or not, the work is the same, and so are its results.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut client = Client::silent(elsewhere.path(), Era::Handshake, &["--call-seconds", "600"]);
    client.shake_hands();
    let straight = client.done("predict_quality", arguments);
    assert_eq!(straight["candidates"], reply["candidates"]);
    let least = straight["cost"]["evaluations"].as_u64().unwrap();
    assert!(
        spent <= least + least / 10,
        "{spent} evaluations in {calls} calls, {least} in one"
    );
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![];
    };
    entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_handle_outlives_a_killed_server_and_nothing_is_left_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    let predicted = client.done(
        "predict_quality",
        json!({"prompt": PROMPT, "seeds": [21, 22]}),
    );
    let handle = predicted["candidates"][1]["handle"].clone();
    client.ask(
        "tools/call",
        json!({"name": "render", "arguments": {"handle": handle}}),
    );
    client.ask(
        "tools/call",
        json!({"name": "render", "arguments": {"prompt": PROMPT, "seed": 23}}),
    );
    std::thread::sleep(Duration::from_millis(150));
    client.kill();
    for picture in files(&folder.path().join("pictures")) {
        let path = folder.path().join("pictures").join(&picture);
        let whole = !picture.ends_with(".png") || image::open(&path).is_ok();
        assert!(whole, "{picture} is half written");
    }

    let mut client = Client::start(folder.path(), Era::Stateless);
    let render = client.done("render", json!({"handle": handle}));
    assert_eq!(
        (&render["seed"], &render["prompt"]),
        (&json!(22), &json!(PROMPT))
    );
    assert_eq!(render["handle"], handle);
    assert!(image::open(render["path"].as_str().unwrap()).is_ok());
}
