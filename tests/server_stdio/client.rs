//! A small client of our own: it writes raw JSON lines, so that a test can say anything at all, and
//! keeps what it hears in order.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Longer than anything takes on a slow machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Clone, Copy, PartialEq)]
pub enum Era {
    /// A handshake first, as most clients still do it.
    Handshake,
    /// Every request says for itself who sends it.
    Stateless,
}

pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    era: Era,
    next_id: i64,
    /// Notifications that came while an answer was awaited.
    pub notes: VecDeque<Value>,
}

impl Client {
    /// Starts the server over the records in `folder`; nothing is said yet.
    pub fn silent(folder: &Path, era: Era, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_foreseed"))
            .arg("serve")
            .args(["--data".as_ref(), folder.as_os_str()])
            .args(options)
            .env_remove("FORESEED_DATA")
            .env("RUST_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (heard, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if heard.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
            era,
            next_id: 1,
            notes: VecDeque::new(),
        }
    }

    /// Starts the server and, where the era wants it, shakes hands.
    pub fn start(folder: &Path, era: Era) -> Self {
        let mut client = Self::silent(folder, era, &[]);
        if era == Era::Handshake {
            client.shake_hands();
        }
        client
    }

    pub fn shake_hands(&mut self) -> Value {
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let answer = self.request("initialize", hello);
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer
    }

    /// Writes one line, whatever it is.
    pub fn write(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin was hung up");
        stdin.write_all(line.as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
        stdin.flush().unwrap();
    }

    pub fn say(&mut self, message: &Value) {
        self.write(&message.to_string());
    }

    /// The next message of the server, if one comes in time.
    pub fn hear(&mut self, within: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(within).ok()?;
        let message = serde_json::from_str(&line);
        Some(message.unwrap_or_else(|e| panic!("stdout carried something else: {e}: {line}")))
    }

    /// Sends a request and gives its id, without waiting.
    pub fn ask(&mut self, method: &str, mut params: Value) -> i64 {
        let id = self.next_id;
        self.next_id += 1;
        if self.era == Era::Stateless {
            let meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            let said = params["_meta"].take();
            params["_meta"] = meta;
            if let Value::Object(said) = said {
                for (key, value) in said {
                    params["_meta"][key] = value;
                }
            }
        }
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Waits for the answer to `id`; notifications on the way are kept in `notes`.
    pub fn answer(&mut self, id: impl Into<Value>) -> Value {
        let id = id.into();
        let until = Instant::now() + PATIENCE;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Some(message) = self.hear(left) else {
                break;
            };
            if message.get("id") == Some(&id) {
                return message;
            }
            self.notes.push_back(message);
        }
        panic!("no answer to {id}; heard besides: {:?}", self.notes);
    }

    /// The whole answer: a `result` or an `error`.
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask(method, params);
        self.answer(id)
    }

    /// The result of a tool call, whether it went well or not.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let answer = self.request("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(answer.get("error").is_none(), "{tool}: {answer}");
        answer["result"].clone()
    }

    /// The structured content of a call that must go well; repeated while it is not complete.
    pub fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let result = self.call(tool, arguments.clone());
            assert_ne!(result["isError"], json!(true), "{tool}: {result}");
            let reply = &result["structuredContent"];
            if reply.get("complete") != Some(&json!(false)) {
                return reply.clone();
            }
            assert!(Instant::now() < until, "{tool} never completes: {result}");
        }
    }

    /// Closes the server's stdin, as a client does that goes away.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// Waits for the server to end by itself.
    pub fn wait(&mut self, within: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Ends the server at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The text of a result's first content block.
pub fn text(result: &Value) -> &str {
    result["content"][0]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no text: {result}"))
}
