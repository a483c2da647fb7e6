//! What installs Foreseed says what Foreseed is: versions, tools and links agree with the binary.

use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

fn tree(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn parsed(path: &str) -> Value {
    serde_json::from_str(&tree(path)).unwrap()
}

/// The rules of the registry's schema of 2025-12-11 for all that the file uses. `packaging/check`
/// holds it against the published schema itself.
#[test]
fn server_json_keeps_to_the_registrys_rules() {
    let server = parsed("packaging/server.json");
    let text = |of: &Value| of.as_str().unwrap_or_else(|| panic!("{of}")).to_owned();
    assert!(text(&server["$schema"]).ends_with("/schemas/2025-12-11/server.schema.json"));
    let name = text(&server["name"]);
    let (space, own) = name.split_once('/').unwrap();
    let plain = |part: &str, more: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    assert!(plain(space, ".-") && plain(own, "._-"), "{name}");
    assert!((1..=100).contains(&text(&server["description"]).chars().count()));
    assert_eq!(server["version"], env!("CARGO_PKG_VERSION"));
    for package in server["packages"].as_array().unwrap() {
        assert!(text(&package["identifier"]).ends_with(env!("CARGO_PKG_VERSION")));
        assert_eq!(package["transport"]["type"], "stdio");
        for argument in package["runtimeArguments"].as_array().into_iter().flatten() {
            assert_eq!(argument["type"], "named");
            assert!(text(&argument["name"]).starts_with("--"));
        }
        for argument in package["packageArguments"].as_array().into_iter().flatten() {
            assert_eq!(argument["type"], "positional");
            assert!(argument["value"].is_string());
        }
    }
    // The registry looks for this in the image.
    let label = format!("LABEL io.modelcontextprotocol.server.name=\"{name}\"");
    assert!(tree("Dockerfile").contains(&label));
}

#[test]
fn the_bundle_for_claude_desktop_names_the_tools_there_are() {
    let manifest = parsed("packaging/mcpb/manifest.json");
    assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
    let named: Vec<&str> = manifest["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    let snapshots = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server_stdio/snapshots");
    for tool in &named {
        assert!(snapshots.join(format!("{tool}.json")).is_file(), "{tool}");
    }
    assert_eq!(named.len(), 5);
}

/// What a link in the README would have a client run.
#[test]
fn the_links_in_the_readme_install_the_server() {
    let readme = tree("README.md");
    let after = |beginning: &str| -> String {
        let (_, rest) = readme
            .split_once(beginning)
            .unwrap_or_else(|| panic!("{beginning}"));
        rest.split([')', '"', '|', '`', ' '])
            .next()
            .unwrap()
            .to_owned()
    };
    let config = after("https://cursor.com/en/install-mcp?name=foreseed&config=");
    let cursor: Value = serde_json::from_slice(&BASE64_STANDARD.decode(config).unwrap()).unwrap();
    assert_eq!(cursor, json!({"command": "foreseed", "args": ["serve"]}));
    let config = percent_decoded(&after(
        "https://vscode.dev/redirect/mcp/install?name=foreseed&config=",
    ));
    let code: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(code, json!({"command": "foreseed", "args": ["serve"]}));
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let hex = String::from_utf8(vec![*high, *low]).unwrap();
                bytes.push(u8::from_str_radix(&hex, 16).unwrap());
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).unwrap()
}

fn doctor(more: &[&str]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_foreseed"))
        .args(["doctor", "--mcp", "--json", "--data"])
        .arg(folder.path())
        .args(more)
        .env_remove("FORESEED_DATA")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    (done.status.success(), said)
}

#[test]
fn the_doctor_meets_the_server_as_a_client_would_in_both_eras() {
    let (well, said) = doctor(&[]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert!(well && report["well"] == json!(true), "{said}");
    let findings = report["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 2);
    for (finding, era) in findings.iter().zip(["2025-11-25", "2026-07-28"]) {
        assert!(finding["what"].as_str().unwrap().contains(era));
        let found = finding["found"].as_str().unwrap();
        assert!(
            found.contains("5 tools") && found.contains("ended by itself"),
            "{found}"
        );
    }
}

#[test]
fn the_doctor_says_what_is_wrong_with_a_server_that_does_not_start() {
    let (well, said) = doctor(&["--model", "/no/such/model"]);
    let report: Value = serde_json::from_str(&said).unwrap();
    assert!(!well && report["well"] == json!(false));
    let finding = &report["findings"][0];
    assert_eq!(finding["verdict"], "wrong");
    assert!(
        finding["found"]
            .as_str()
            .unwrap()
            .contains("/no/such/model"),
        "{said}"
    );
    assert!(finding["help"].is_string());
}
