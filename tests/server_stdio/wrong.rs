//! Bad input: each gets an answer within a second that names the field and the value and says what
//! would be right, and the server goes on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Era, text};

const HANDLE: &str = "fs_0123456789abcdef0123456789abcdef";

/// Tool, arguments, and what the answer must name.
fn table() -> Vec<(&'static str, Value, Vec<&'static str>)> {
    let p = "a red circle";
    let mut rows = vec![
        ("predict_quality", json!({}), vec!["prompt", "missing"]),
        (
            "predict_quality",
            json!({"prompt": ""}),
            vec!["prompt", "\"\""],
        ),
        (
            "predict_quality",
            json!({"prompt": " \n\t"}),
            vec!["prompt"],
        ),
        ("predict_quality", json!({"prompt": 7}), vec!["prompt", "7"]),
        (
            "predict_quality",
            json!({"prompt": null}),
            vec!["prompt", "null"],
        ),
        (
            "predict_quality",
            json!({"prompt": [p]}),
            vec!["prompt", "red circle"],
        ),
        (
            "predict_quality",
            json!({"prompt": "x".repeat(400_000)}),
            vec!["prompt", "4000"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": 100_000}),
            vec!["steps", "100000"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": 0}),
            vec!["steps", "0"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": -3}),
            vec!["steps", "-3"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": 2.5}),
            vec!["steps", "2.5"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": "25"}),
            vec!["steps", "25"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "guidance": -1}),
            vec!["guidance", "-1"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "guidance": "high"}),
            vec!["guidance", "high"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "guidance": 1e300}),
            vec!["guidance", "1e+300"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "count": 0}),
            vec!["count", "0"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "count": 1_000_000}),
            vec!["count", "1000000"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": []}),
            vec!["seeds", "[]"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": [-1]}),
            vec!["seeds", "-1"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": [1, 4_294_967_296u64]}),
            vec!["seeds", "4294967296"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": [5, 6, 5]}),
            vec!["seeds", "5", "twice"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": "1,2"}),
            vec!["seeds", "1,2"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seeds": [1], "count": 2}),
            vec!["count", "2"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "seed": 1}),
            vec!["seed", "seeds"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "colour": "red"}),
            vec!["colour", "red"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "width": 65}),
            vec!["width", "65"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "height": 1_000_000}),
            vec!["height", "1000000"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "width": 4, "height": 4}),
            vec!["width", "height"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "at_step": 0}),
            vec!["at_step", "0"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "steps": 10, "at_step": 11}),
            vec!["at_step", "11"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "metric": "beauty"}),
            vec!["metric", "beauty"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "model": "no-such-model"}),
            vec!["no-such-model", "pocket"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "model": "../../etc/passwd"}),
            vec!["../../etc/passwd"],
        ),
        (
            "predict_quality",
            json!({"prompt": p, "model": ""}),
            vec!["model"],
        ),
        (
            "predict_quality",
            json!({"prompt": "an astronaut riding a horse"}),
            vec!["prompt"],
        ),
        (
            "rank_seeds",
            json!({"prompt": p, "count": 4, "keep": 5}),
            vec!["keep", "5"],
        ),
        (
            "rank_seeds",
            json!({"prompt": p, "keep": 0}),
            vec!["keep", "0"],
        ),
        (
            "rank_seeds",
            json!({"prompt": p, "count": 4, "budget": 0}),
            vec!["budget", "0"],
        ),
        (
            "rank_seeds",
            json!({"prompt": p, "contact_sheet": "yes"}),
            vec!["contact_sheet", "yes"],
        ),
        (
            "refine_prompt",
            json!({"prompt": p, "variants": []}),
            vec!["variants"],
        ),
        (
            "refine_prompt",
            json!({"prompt": p, "variants": ["a red ring", ""]}),
            vec!["variants[1]"],
        ),
        (
            "refine_prompt",
            json!({"prompt": p, "rounds": 1000}),
            vec!["rounds", "1000"],
        ),
        ("render", json!({}), vec!["handle", "prompt", "seed"]),
        ("render", json!({"prompt": p}), vec!["seed"]),
        ("render", json!({"seed": 1}), vec!["prompt"]),
        (
            "render",
            json!({"handle": "../../etc/passwd"}),
            vec!["handle", "../../etc/passwd"],
        ),
        ("render", json!({"handle": "fs_0"}), vec!["handle", "fs_0"]),
        ("render", json!({"handle": HANDLE}), vec!["handle", HANDLE]),
        (
            "render",
            json!({"handle": HANDLE, "seed": 1}),
            vec!["handle", HANDLE],
        ),
        (
            "render",
            json!({"handle": HANDLE, "steps": 9}),
            vec!["handle"],
        ),
        ("list_models", json!({"all": true}), vec!["all", "true"]),
    ];
    rows.push((
        "rank_seeds",
        json!({"prompt": p, "seeds": (0..5000).collect::<Vec<u32>>()}),
        vec!["seeds"],
    ));
    rows
}

#[test]
fn wrong_arguments_are_answered_within_a_second_by_field_and_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    // The second belongs to the check, not to the start of the process.
    client.request("tools/list", json!({}));
    let mut failures = Vec::new();
    for (tool, arguments, named) in table() {
        let began = Instant::now();
        let result = client.call(tool, arguments.clone());
        let took = began.elapsed();
        let shown: String = arguments.to_string().chars().take(80).collect();
        if result["isError"] != json!(true) {
            failures.push(format!("{tool} {shown}: taken for right"));
            continue;
        }
        let text = text(&result);
        for name in named.iter().filter(|name| !text.contains(*name)) {
            failures.push(format!("{tool} {shown}: {name:?} is not in {text:?}"));
        }
        if text.len() > 1000 {
            failures.push(format!(
                "{tool} {shown}: {} characters of answer",
                text.len()
            ));
        }
        if took > Duration::from_secs(1) {
            failures.push(format!("{tool} {shown}: took {took:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn numbers_that_json_lacks_are_answered_by_the_name_of_their_field() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    for (id, number) in ["NaN", "Infinity", "-Infinity", "1e999"].iter().enumerate() {
        let id = 1000 + id;
        client.write(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"predict_quality","arguments":{{"prompt":"a red circle","guidance":{number}}}}}}}"#
        ));
        let result = client.answer(id)["result"].take();
        assert_eq!(result["isError"], json!(true), "{number}: {result}");
        let text = text(&result);
        assert!(
            text.contains("guidance") && text.contains(number),
            "{number}: {text}"
        );
    }
}

#[test]
fn what_is_no_request_is_an_error_of_the_protocol_and_the_server_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    for (line, code) in [
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"tools/call","params":{"name":"no_such_tool"}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"tools/call","params":{"name":7}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"tools/call","params":{"name":"render","arguments":[]}}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"tools/call"}"#,
            -32602,
        ),
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"no/such/method"}"#,
            -32601,
        ),
        (r#"{"id":1000,"method":"tools/list"}"#, -32600),
        (r#"{"jsonrpc":"2.0","id":1000}"#, -32600),
        (
            r#"{"jsonrpc":"2.0","id":1000,"method":"tools/list""#,
            -32700,
        ),
    ] {
        client.write(line);
        let answer = client.answer(1000);
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    for (line, code) in [("nonsense", -32700), ("[]", -32600), ("\u{0}\u{1}", -32700)] {
        client.write(line);
        let answer = client.hear(Duration::from_secs(5)).expect("no answer");
        assert_eq!(answer["error"]["code"], code, "{line:?}: {answer}");
    }
    client.write("");
    client.write(r#"{"jsonrpc":"2.0","method":"notifications/no-such"}"#);
    assert!(client.request("tools/list", json!({}))["result"]["tools"].is_array());
}

#[test]
fn a_stray_message_before_the_first_request_does_not_end_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::silent(folder.path(), Era::Handshake, &[]);
    client.write(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
    client.write(r#"{"jsonrpc":"2.0","id":9,"result":{}}"#);
    client.shake_hands();
    assert!(client.request("tools/list", json!({}))["result"]["tools"].is_array());
}

#[test]
fn only_pictures_of_its_own_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    std::fs::write(pictures.join("private.png"), b"not made by Foreseed").unwrap();
    std::fs::write(folder.path().join("secret.png"), b"nor this").unwrap();
    let mut client = Client::start(folder.path(), Era::Stateless);
    for uri in [
        "foreseed://pictures/private.png",
        "foreseed://pictures/../secret.png",
        "foreseed://pictures/..%2fsecret.png",
        "foreseed://pictures/",
        "foreseed://pictures//etc/passwd",
        "file:///etc/passwd",
        "",
    ] {
        let answer = client.request("resources/read", json!({"uri": uri}));
        assert_eq!(answer["error"]["code"], -32602, "{uri}: {answer}");
    }
}

#[test]
fn a_cursor_that_was_never_given_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut client = Client::start(folder.path(), Era::Handshake);
    for list in [
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    ] {
        let answer = client.request(list, json!({"cursor": "made up"}));
        assert_eq!(answer["error"]["code"], -32602, "{list}: {answer}");
    }
}
