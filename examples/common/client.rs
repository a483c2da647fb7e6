//! A client over stdio for the examples: the server is a child process of its own.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, bail};
use rmcp::model::{CallToolRequestParams, ProgressNotificationParam, Tool};
use rmcp::service::{NotificationContext, RunningService};
use rmcp::transport::TokioChildProcess;
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::Value;

/// The client's side of one session.
pub struct Session {
    client: RunningService<RoleClient, Watcher>,
}

impl Session {
    /// Starts `server serve` over the records in `data`; pictures go to `pictures`.
    pub async fn start(server: &Path, data: &Path, pictures: &Path) -> Result<Self> {
        let mut server = tokio::process::Command::new(server);
        server
            .arg("serve")
            .arg("--data")
            .arg(data)
            .arg("--out")
            .arg(pictures);
        let transport = TokioChildProcess::new(server).context("the server does not start")?;
        let client = Watcher::default().serve(transport).await?;
        Ok(Self { client })
    }

    pub async fn tools(&self) -> Result<Vec<Tool>> {
        Ok(self.client.list_all_tools().await?)
    }

    /// The structured reply of a tool, called again for as long as it says that it is not complete.
    /// What its calls cost besides the last is added to that one's.
    pub async fn call(&self, tool: &str, arguments: Value) -> Result<Value> {
        let Value::Object(arguments) = arguments else {
            bail!("arguments of {tool} that are no object");
        };
        let mut before = 0;
        loop {
            let call =
                CallToolRequestParams::new(tool.to_string()).with_arguments(arguments.clone());
            let result = self.client.call_tool(call).await?;
            self.client.service().clear();
            if result.is_error == Some(true) {
                bail!("{tool} failed: {:?}", result.content);
            }
            let mut reply = result
                .structured_content
                .context("a reply without structure")?;
            if let Some(spent) = reply.pointer_mut("/cost/evaluations") {
                before += spent.as_u64().unwrap_or(0);
                *spent = before.into();
            }
            if reply["complete"] != false {
                return Ok(reply);
            }
        }
    }

    /// Ends the session; how many progress notifications came in it.
    pub async fn end(self) -> Result<u64> {
        let notifications = self.client.service().notifications.load(Ordering::Relaxed);
        self.client.cancel().await?;
        Ok(notifications)
    }
}

/// Shows progress on one line.
#[derive(Default)]
struct Watcher {
    notifications: AtomicU64,
}

impl Watcher {
    fn clear(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}

impl ClientHandler for Watcher {
    async fn on_progress(
        &self,
        progress: ProgressNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.notifications.fetch_add(1, Ordering::Relaxed);
        if std::io::stderr().is_terminal() {
            let total = progress.total.unwrap_or(progress.progress).max(1.0);
            let message = progress.message.unwrap_or_default();
            eprint!(
                "\r\x1b[K  {:3.0} % {message}",
                progress.progress / total * 100.0
            );
            let _ = std::io::stderr().flush();
        }
    }
}

/// The number at a JSON pointer.
pub fn number(reply: &Value, at: &str) -> Result<f64> {
    reply
        .pointer(at)
        .and_then(Value::as_f64)
        .with_context(|| format!("no number at {at} in {reply}"))
}

/// The text at a JSON pointer.
pub fn text(reply: &Value, at: &str) -> Result<String> {
    reply
        .pointer(at)
        .and_then(Value::as_str)
        .map(str::to_string)
        .with_context(|| format!("no text at {at} in {reply}"))
}

/// The list at a JSON pointer.
pub fn list<'a>(reply: &'a Value, at: &str) -> Result<&'a Vec<Value>> {
    reply
        .pointer(at)
        .and_then(Value::as_array)
        .with_context(|| format!("no list at {at} in {reply}"))
}
