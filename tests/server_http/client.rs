//! A small client of our own: it sends plain requests, so that a test can say anything at all, and
//! reads the events of an answer one by one.

use std::time::Instant;

use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

use crate::house::{House, PATIENCE};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Era {
    /// A handshake first, and a session after it.
    Session,
    /// Every request stands for itself.
    Stateless,
}

pub struct Client {
    http: reqwest::Client,
    url: String,
    era: Era,
    pub session: Option<String>,
    pub token: Option<String>,
    next_id: i64,
}

impl Client {
    /// A client that has said nothing yet.
    pub fn silent(house: &House, era: Era) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: format!("{}/mcp", house.url),
            era,
            session: None,
            token: None,
            next_id: 1,
        }
    }

    pub async fn start(house: &House, era: Era) -> Self {
        let mut client = Self::silent(house, era);
        if era == Era::Session {
            client.shake_hands().await;
        }
        client
    }

    pub async fn shake_hands(&mut self) -> Value {
        let hello = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        });
        let (_, events) = self.ask("initialize", hello).await;
        let session = &events.response.headers()["mcp-session-id"];
        self.session = Some(session.to_str().unwrap().to_owned());
        let answer = events.answer().await;
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        assert_eq!(self.post(&initialized).send().await.unwrap().status(), 202);
        answer
    }

    /// A message as this client sends it.
    pub fn post(&self, message: &Value) -> RequestBuilder {
        let request = self.with_headers(self.http.post(&self.url)).json(message);
        let method = message["method"].as_str().unwrap_or_default().to_owned();
        if self.era == Era::Session || method.is_empty() {
            return request;
        }
        let params = &message["params"];
        let names = ["name", "uri", "taskId"];
        let name = names.iter().find_map(|name| params[name].as_str());
        let request = request.header("Mcp-Method", method);
        match name {
            Some(name) => request.header("Mcp-Name", name),
            None => request,
        }
    }

    /// Opens the stream of events after the one with this id.
    pub async fn come_back(&self, last_event: &str) -> Events {
        let request = self.with_headers(self.http.get(&self.url));
        let request = request.header("Last-Event-ID", last_event);
        Events::of(request.send().await.unwrap())
    }

    pub async fn leave(&self) -> Response {
        let request = self.with_headers(self.http.delete(&self.url));
        request.send().await.unwrap()
    }

    fn with_headers(&self, request: RequestBuilder) -> RequestBuilder {
        let version = match self.era {
            Era::Session => "2025-11-25",
            Era::Stateless => "2026-07-28",
        };
        let mut request = request.header("Accept", "application/json, text/event-stream");
        if self.session.is_some() || self.era == Era::Stateless {
            request = request.header("MCP-Protocol-Version", version);
        }
        if let Some(session) = &self.session {
            request = request.header("Mcp-Session-Id", session);
        }
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request's message under a new id.
    pub fn message(&mut self, method: &str, mut params: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        if self.era == Era::Stateless {
            let mut meta = json!({
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
            if let Value::Object(said) = params["_meta"].take() {
                meta.as_object_mut().unwrap().extend(said);
            }
            params["_meta"] = meta;
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// Sends a request and gives its id and its answer's events, unread.
    pub async fn ask(&mut self, method: &str, params: Value) -> (i64, Events) {
        let message = self.message(method, params);
        let response = self.post(&message).send().await.unwrap();
        (message["id"].as_i64().unwrap(), Events::of(response))
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        self.ask(method, params).await.1.answer().await
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let params = json!({"name": tool, "arguments": arguments});
        let answer = self.request("tools/call", params).await;
        assert!(answer.get("error").is_none(), "{tool}: {answer}");
        answer["result"].clone()
    }

    /// The structured content of a call that must go well; repeated while it is not complete.
    pub async fn done(&mut self, tool: &str, arguments: Value) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let result = self.call(tool, arguments.clone()).await;
            assert_ne!(result["isError"], json!(true), "{tool}: {result}");
            let reply = &result["structuredContent"];
            if reply.get("complete") != Some(&json!(false)) {
                return reply.clone();
            }
            assert!(Instant::now() < until, "{tool} never completes: {result}");
        }
    }
}

pub struct Event {
    pub id: Option<String>,
    pub message: Option<Value>,
}

/// What comes back: one message, or events until the answer.
pub struct Events {
    pub response: Response,
    text: String,
}

impl Events {
    pub fn of(response: Response) -> Self {
        Self {
            response,
            text: String::new(),
        }
    }

    fn is_stream(&self) -> bool {
        let kind = self.response.headers().get("content-type");
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"))
    }

    pub async fn next(&mut self) -> Option<Event> {
        let whole = loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                break std::mem::replace(&mut self.text, rest);
            }
            let more = tokio::time::timeout(PATIENCE, self.response.chunk());
            let more = more.await.expect("nothing comes").ok()??;
            self.text += std::str::from_utf8(&more).unwrap();
        };
        let field = |name: &str| {
            let lines = whole.lines().filter_map(|line| line.strip_prefix(name));
            let values: Vec<&str> = lines.map(str::trim).collect();
            (!values.is_empty()).then(|| values.join("\n"))
        };
        let data = field("data:").filter(|data| !data.is_empty());
        Some(Event {
            id: field("id:"),
            message: data.map(|data| serde_json::from_str(&data).unwrap()),
        })
    }

    /// All messages; the answer is the last.
    pub async fn all(mut self) -> Vec<Value> {
        if !self.is_stream() {
            let text = self.response.text().await.unwrap();
            let message = serde_json::from_str(&text);
            return vec![message.unwrap_or_else(|e| panic!("{e}: {text}"))];
        }
        let mut messages = Vec::new();
        while let Some(event) = self.next().await {
            messages.extend(event.message);
        }
        messages
    }

    pub async fn answer(self) -> Value {
        self.all().await.pop().expect("no answer")
    }
}
