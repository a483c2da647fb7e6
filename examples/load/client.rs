//! One client over HTTP, of either era.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Response;
use serde_json::{Value, json};

pub struct Client {
    http: reqwest::Client,
    url: String,
    /// `None`: of 2026-07-28, without a session.
    session: Option<String>,
    next_id: u64,
}

impl Client {
    /// Every other client shakes hands, the rest need none.
    pub async fn connect(url: &str, with_session: bool) -> Result<Self> {
        let mut client = Self {
            http: reqwest::Client::new(),
            url: format!("{url}/mcp"),
            session: None,
            next_id: 1,
        };
        if with_session {
            let about = json!({"name": "load", "version": "1"});
            let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
                "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about,
            }});
            let answer = client.send(&hello, "2025-11-25").await?;
            let session = answer
                .headers()
                .get("mcp-session-id")
                .context("no session")?;
            client.session = Some(session.to_str()?.to_owned());
            read(answer).await?;
            let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
            client.send(&ready, "2025-11-25").await?;
        }
        Ok(client)
    }

    async fn send(&self, message: &Value, version: &str) -> Result<Response> {
        let mut request = self
            .http
            .post(&self.url)
            .header("Accept", "application/json, text/event-stream")
            .header("MCP-Protocol-Version", version)
            .json(message);
        if let Some(session) = &self.session {
            request = request.header("Mcp-Session-Id", session);
        } else if version == "2026-07-28" {
            request = request.header("Mcp-Method", message["method"].as_str().unwrap_or_default());
            if let Some(name) = message["params"]["name"].as_str() {
                request = request.header("Mcp-Name", name);
            }
        }
        Ok(request.send().await?)
    }

    /// Begins a request; its answer is yet to come.
    async fn begin(&mut self, method: &str, mut params: Value) -> Result<(u64, Response)> {
        let id = self.next_id;
        self.next_id += 1;
        let version = match self.session {
            Some(_) => "2025-11-25",
            None => "2026-07-28",
        };
        if self.session.is_none() {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": version,
                "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        params["_meta"]["progressToken"] = json!(id);
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        Ok((id, self.send(&message, version).await?))
    }

    /// A request and its answer's result.
    pub async fn request(&mut self, method: &str, params: Value) -> Result<Value> {
        let (id, response) = self.begin(method, params).await?;
        let answer = read(response).await?;
        anyhow::ensure!(
            answer["id"] == json!(id),
            "an answer to something else: {answer}"
        );
        match answer.get("result") {
            Some(result) => Ok(result.clone()),
            None => bail!("{method} failed: {answer}"),
        }
    }

    /// Begins a call and cancels it after this long, unless it was answered.
    pub async fn cancel_after(&mut self, params: Value, after: Duration) -> Result<()> {
        let (id, response) = self.begin("tools/call", params).await?;
        tokio::time::sleep(after).await;
        if self.session.is_some() {
            let params = json!({"requestId": id, "reason": "load"});
            let cancel =
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
            self.send(&cancel, "2025-11-25").await?;
        }
        // Since 2026-07-28 closing the stream is the cancellation.
        drop(response);
        Ok(())
    }

    /// Begins a call and goes away without a word.
    pub async fn vanish_during(mut self, params: Value, after: Duration) -> Result<()> {
        let (_, response) = self.begin("tools/call", params).await?;
        tokio::time::sleep(after).await;
        drop(response);
        Ok(())
    }
}

/// The last message of an answer: of its stream of events, or its only one.
async fn read(response: Response) -> Result<Value> {
    let status = response.status();
    let text = response.text().await?;
    let message = match text
        .lines()
        .rfind(|line| line.len() > "data: ".len() && line.starts_with("data:"))
    {
        Some(line) => line["data:".len()..].trim(),
        None => text.trim(),
    };
    serde_json::from_str(message).with_context(|| format!("{status}: no message: {text:?}"))
}
