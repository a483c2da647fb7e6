//! The server's process, and what it says to its operator.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longer than anything takes on a slow machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct House {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    said: Arc<Mutex<String>>,
}

pub fn command(data: &Path, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foreseed"));
    command
        .arg("serve")
        .args(["--data".as_ref(), data.as_os_str()])
        .args(options)
        .env_remove("FORESEED_DATA")
        .env_remove("FORESEED_TOKEN")
        .env("RUST_LOG", "error")
        .stdin(Stdio::null());
    command
}

/// Runs a server that must not come up, and gives what it said.
pub fn refused(options: &[&str], token: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path(), options);
    command.env("FORESEED_TOKEN", token).output().unwrap()
}

impl House {
    pub fn start(data: &Path) -> Self {
        Self::with(data, &[], &[])
    }

    pub fn with(data: &Path, options: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = command(data, &["--http", "127.0.0.1:0"]);
        command.args(options).envs(env.iter().copied());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut before = String::new();
        let url = loop {
            let mut line = String::new();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "{before}");
            before += &line;
            if let Some((_, url)) = line.split_once("serving MCP at ") {
                break url.trim().strip_suffix("/mcp").unwrap().to_owned();
            }
        };
        let said = Arc::new(Mutex::new(before));
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stderr.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]);
                heard.lock().unwrap().push_str(&text);
            }
        });
        Self { child, url, said }
    }

    /// What was written to stderr so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// The value of a line of `/metrics`.
    pub async fn figure(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.url)).await.unwrap();
        let text = text.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
        line.trim().parse().unwrap()
    }

    /// Waits until no call is under way and the engine has nothing to do; how long that took.
    pub async fn idle(&self) -> Duration {
        let began = Instant::now();
        while self.figure("foreseed_engine_waiting ").await > 0.0
            || self.figure("foreseed_calls_running ").await > 0.0
        {
            assert!(began.elapsed() < PATIENCE, "it works on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// Waits until the engine has begun to work.
    pub async fn busy(&self) {
        let until = Instant::now() + PATIENCE;
        while self.figure("foreseed_engine_evaluations_total ").await == 0.0
            || self.figure("foreseed_engine_waiting ").await == 0.0
        {
            assert!(Instant::now() < until, "it never begins");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the process to end, as a service manager does.
    #[cfg(unix)]
    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
    }

    /// Ends the process at once, as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
