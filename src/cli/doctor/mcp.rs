//! The server as a client meets it: started as its own process, spoken to in both eras of the
//! protocol, asked for its tools and for a call.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Finding, Globals, PROMPT, ok, wrong};

/// Codex gives a server so long to start.
const START: Duration = Duration::from_secs(10);
/// The TypeScript SDK waits so long for an answer.
const CALL: Duration = Duration::from_secs(60);
/// What a client does to a server that does not end by itself is no clean end.
const END: Duration = Duration::from_secs(5);
/// Claude Code cuts a longer description.
const DESCRIPTION: usize = 2048;

const ERAS: [(&str, Era); 2] = [
    ("mcp, 2025-11-25", Era::Handshake),
    ("mcp, 2026-07-28", Era::Stateless),
];

#[derive(Clone, Copy, PartialEq)]
enum Era {
    /// A handshake first.
    Handshake,
    /// Every request says for itself who sends it.
    Stateless,
}

/// One finding an era.
pub(super) fn examine(globals: &Globals) -> Vec<Finding> {
    let of_era = |&(what, era)| match talk(globals, era) {
        Ok(found) => ok(what, found),
        Err(Problem { found, help }) => wrong(what, found, help),
    };
    ERAS.iter().map(of_era).collect()
}

struct Problem {
    found: String,
    help: &'static str,
}

fn problem(found: impl Into<String>, help: &'static str) -> Problem {
    Problem {
        found: found.into(),
        help,
    }
}

fn talk(globals: &Globals, era: Era) -> Result<String, Problem> {
    let began = Instant::now();
    let mut client = Client::start(globals, era)?;
    let hello = match era {
        Era::Handshake => {
            let about = json!({
                "protocolVersion": "2025-11-25", "capabilities": {},
                "clientInfo": {"name": "foreseed-doctor", "version": env!("CARGO_PKG_VERSION")},
            });
            let hello = client.ask("initialize", about, START)?;
            client.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
            hello
        }
        Era::Stateless => client.ask("server/discover", json!({}), START)?,
    };
    let started = began.elapsed();
    if hello["capabilities"]["tools"].is_null() {
        return Err(problem(
            format!("it answers without tools: {hello}"),
            "Something else than foreseed was started: look at what the client's command names",
        ));
    }
    let listed = client.ask("tools/list", json!({}), START)?;
    let tools = listed["tools"].as_array().map_or(&[][..], Vec::as_slice);
    let long = tools
        .iter()
        .find(|tool| tool["description"].as_str().map_or(0, str::len) > DESCRIPTION);
    if let Some(tool) = long.or(tools.is_empty().then_some(&listed)) {
        return Err(problem(
            format!("a tool list that clients cut: {tool}"),
            "This is a bug of foreseed's: please report it",
        ));
    }
    let called = Instant::now();
    let call = json!({"name": "predict_quality", "arguments": prediction(globals)});
    let answer = client.ask("tools/call", call, CALL)?;
    if answer["isError"] == json!(true) {
        return Err(problem(
            format!("predict_quality failed: {}", answer["content"][0]["text"]),
            "Do what it says; `foreseed doctor` without --mcp looks at the model itself",
        ));
    }
    let reply = &answer["structuredContent"];
    let whole = match reply["complete"] == json!(true) {
        true => "",
        false => " (and goes on with the next call: the model is slow here)",
    };
    let call = called.elapsed();
    client.hang_up()?;
    Ok(format!(
        "started in {:.1} s, {} tools, predict_quality by {} in {:.1} s{whole}, ended by itself",
        started.as_secs_f64(),
        tools.len(),
        reply["model"].as_str().unwrap_or("?"),
        call.as_secs_f64(),
    ))
}

/// The cheapest call that does work.
fn prediction(globals: &Globals) -> Value {
    match &globals.model {
        // Steps of a real model may take minutes: one is enough to show that it runs.
        Some(model) if model != crate::models::POCKET => {
            json!({"prompt": PROMPT, "seeds": [0], "at_step": 1})
        }
        _ => json!({"prompt": PROMPT, "seeds": [0]}),
    }
}

struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    era: Era,
    next_id: u64,
}

impl Client {
    fn start(globals: &Globals, era: Era) -> Result<Self, Problem> {
        const HELP: &str = "Reinstall foreseed, and give clients the path of the binary";
        let program = std::env::current_exe()
            .map_err(|e| problem(format!("no path of its own: {e}"), HELP))?;
        let mut child = Command::new(&program)
            .arg("serve")
            .args(globals.arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| problem(format!("{} does not start: {e}", program.display()), HELP))?;
        let (heard, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if heard.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self {
            stdin: child.stdin.take(),
            child,
            lines,
            era,
            next_id: 1,
        })
    }

    fn say(&mut self, message: &Value) -> Result<(), Problem> {
        let line = format!("{message}\n");
        let written = match &mut self.stdin {
            Some(stdin) => stdin
                .write_all(line.as_bytes())
                .and_then(|()| stdin.flush())
                .is_ok(),
            None => false,
        };
        match written {
            true => Ok(()),
            false => Err(self.gone()),
        }
    }

    /// The result of a request.
    fn ask(&mut self, method: &str, mut params: Value, within: Duration) -> Result<Value, Problem> {
        let id = self.next_id;
        self.next_id += 1;
        if self.era == Era::Stateless {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo":
                    {"name": "foreseed-doctor", "version": env!("CARGO_PKG_VERSION")},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        let until = Instant::now() + within;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => return Err(self.gone()),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(problem(
                        format!("no answer to {method} within {} s", within.as_secs()),
                        "Clients give up as well: serve a smaller model, or give less with \
                         --call-seconds",
                    ));
                }
            };
            let Ok(message) = serde_json::from_str::<Value>(&line) else {
                return Err(problem(
                    format!("stdout carries something else than the protocol: {line:?}"),
                    "A wrapper that prints to stdout breaks every client: let it print to stderr",
                ));
            };
            if message["id"] != json!(id) {
                continue;
            }
            return match message.get("result") {
                Some(result) => Ok(result.clone()),
                None => Err(problem(
                    format!("{method} was refused: {}", message["error"]),
                    "This is a bug of foreseed's: please report it",
                )),
            };
        }
    }

    /// Closes its stdin, as a client does that goes away, and waits for it to end.
    fn hang_up(&mut self) -> Result<(), Problem> {
        self.stdin = None;
        let until = Instant::now() + END;
        while Instant::now() < until {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(problem(
            format!("it runs on {} s after its client has gone", END.as_secs()),
            "This is a bug of foreseed's: please report it; end the process by hand",
        ))
    }

    /// It ended before it was told to: what it said of that.
    fn gone(&mut self) -> Problem {
        // It must have ended, or its stderr would be read for ever.
        let _ = self.child.kill();
        let mut said = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let _ = stderr.take(64 << 10).read_to_string(&mut said);
        }
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        problem(
            format!("it ended at once: {}", last.unwrap_or("and said nothing")),
            "Do what it says; `foreseed serve` with the same options says it too",
        )
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
