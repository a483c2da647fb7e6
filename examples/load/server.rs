//! The server under load: a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub struct Server {
    child: Child,
    pub url: String,
    _data: tempfile::TempDir,
}

impl Server {
    pub async fn start(binary: &Path, options: &[&str]) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut child = Command::new(binary)
            .args(["serve", "--http", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .args(options)
            .env_remove("FORESEED_TOKEN")
            .env("RUST_LOG", "error,rmcp=off")
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut line = String::new();
        stderr.read_line(&mut line)?;
        let Some((_, url)) = line.split_once("serving MCP at ") else {
            bail!("the server said {line:?}");
        };
        let url = url.trim().trim_end_matches("/mcp").to_owned();
        // Whatever else it says is for whoever runs this.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(std::io::Result::ok) {
                eprintln!("server: {line}");
            }
        });
        Ok(Self {
            child,
            url,
            _data: data,
        })
    }

    /// Waits until the engine has nothing to do; how long that took.
    pub async fn idle(&self) -> Result<Duration> {
        let began = Instant::now();
        while figure(&self.url, "foreseed_engine_waiting ").await? > 0.0 {
            if began.elapsed() > Duration::from_secs(60) {
                bail!("the engine works on for nobody");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(began.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a line of `/metrics`.
pub async fn figure(url: &str, name: &str) -> Result<f64> {
    let text = reqwest::get(format!("{url}/metrics")).await?.text().await?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .with_context(|| format!("{name} is not told"))?
        .trim()
        .parse()?)
}
