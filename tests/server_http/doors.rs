//! Who is let in: by the name asked for, the page that asks, and the token.

use std::time::Duration;

use serde_json::json;

use crate::client::{Client, Era};
use crate::house::{House, refused};

const TOKEN: &str = "d41d8cd98f00b204e9800998ecf8427e";

#[tokio::test]
async fn a_foreign_host_or_origin_is_turned_away_at_every_path() {
    let folder = tempfile::tempdir().unwrap();
    let options = [
        "--allow-host",
        "box.example",
        "--allow-origin",
        "https://app.example",
    ];
    let house = House::with(folder.path(), &options, &[]);
    let http = reqwest::Client::new();
    for path in ["/mcp", "/health", "/metrics"] {
        let url = format!("{}{path}", house.url);
        for (header, value) in [
            ("Host", "evil.example"),
            ("Origin", "https://evil.example"),
            ("Origin", "null"),
        ] {
            let request = http.get(&url).header(header, value);
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 403, "{path} {header}: {value}");
            let text = answer.text().await.unwrap();
            assert!(text.contains("--allow-"), "{text}");
        }
    }
    let health = format!("{}/health", house.url);
    for (header, value) in [
        ("Host", "box.example"),
        ("Origin", "https://app.example"),
        ("Origin", "http://localhost:6274"),
    ] {
        let answer = http
            .get(&health)
            .header(header, value)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{header}: {value}");
        if header == "Origin" {
            assert_eq!(answer.headers()["access-control-allow-origin"], value);
        }
    }
}

#[tokio::test]
async fn beyond_loopback_nothing_is_served_without_a_token() {
    let said = refused(&["--http", "0.0.0.0:0"], "");
    assert_eq!(said.status.code(), Some(2));
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(
        error.contains("FORESEED_TOKEN") && error.contains("--token-file"),
        "{error}"
    );
    let said = refused(&["--http", "127.0.0.1:0"], "too short");
    assert_eq!(said.status.code(), Some(2));
    let error = String::from_utf8(said.stderr).unwrap();
    assert!(
        error.contains("FORESEED_TOKEN") && !error.contains("too short\""),
        "{error}"
    );
    let said = refused(&["--http", "127.0.0.1:0", "--token-file", "/nowhere"], "");
    assert!(String::from_utf8(said.stderr).unwrap().contains("/nowhere"));
}

#[tokio::test]
async fn only_who_sends_the_token_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let options = ["--token-file", file.to_str().unwrap()];
    let house = House::with(folder.path(), &options, &[]);
    let http = reqwest::Client::new();
    for path in ["/mcp", "/metrics"] {
        let answer = http
            .get(format!("{}{path}", house.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401, "{path}");
        assert!(answer.headers().contains_key("www-authenticate"));
    }
    let health = http
        .get(format!("{}/health", house.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
    for era in [Era::Session, Era::Stateless] {
        let mut client = Client::silent(&house, era);
        client.token = Some(TOKEN.into());
        if era == Era::Session {
            client.shake_hands().await;
        }
        let list = client.request("tools/list", json!({})).await;
        assert!(list["result"]["tools"].is_array(), "{list}");
    }
}

#[tokio::test]
async fn who_guesses_has_to_wait_and_the_token_is_never_logged() {
    let folder = tempfile::tempdir().unwrap();
    let env = [("FORESEED_TOKEN", TOKEN), ("RUST_LOG", "trace")];
    let house = House::with(folder.path(), &[], &env);
    let mut client = Client::silent(&house, Era::Stateless);
    client.token = Some(TOKEN.into());
    client.request("tools/list", json!({})).await;
    let list = client.message("tools/list", json!({}));
    client.token = Some("guessed-guessed-guessed".into());
    let mut refusals = Vec::new();
    for _ in 0..8 {
        let answer = client.post(&list).send().await.unwrap();
        refusals.push(answer.status().as_u16());
        if answer.status() == 429 {
            let wait = answer.headers()["retry-after"].to_str().unwrap();
            assert!(wait.parse::<u64>().unwrap() >= 1);
        }
    }
    assert_eq!(refusals[..5], [401; 5], "{refusals:?}");
    assert!(refusals.contains(&429), "{refusals:?}");
    // The wait is for everybody at that address, and it ends.
    client.token = Some(TOKEN.into());
    let mut answer = client.post(&list).send().await.unwrap();
    for _ in 0..20 {
        if answer.status() == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        answer = client.post(&list).send().await.unwrap();
    }
    assert_eq!(answer.status(), 200);
    let said = house.said();
    assert!(said.contains("a wrong token was sent"), "{said}");
    assert!(
        !said.contains(TOKEN) && !said.contains("guessed-guessed"),
        "a token was logged"
    );
}
