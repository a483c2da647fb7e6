//! `foreseed serve`: the MCP server over this process's stdin and stdout, or over HTTP.

use std::env::VarError;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Globals;
use super::surface::SurfaceArgs;
use crate::engine::Limits;
use crate::server::http;
use crate::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The longest that a call may take before it answers with what it has.
    #[arg(long, value_name = "SECONDS", default_value_t = 45.0)]
    pub call_seconds: f64,

    /// Pieces of work that may wait for the engine; one more is told to come back later.
    #[arg(long, value_name = "N", default_value_t = Limits::default().max_waiting)]
    pub queue: usize,

    /// Memory for paused trajectories, which `render` and a repeated call go on from.
    #[arg(long, value_name = "MIB", default_value_t = Limits::default().cache_bytes >> 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub cache_mib: u64,

    #[command(flatten)]
    surface: SurfaceArgs,

    #[command(flatten)]
    http: HttpArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Over HTTP")]
struct HttpArgs {
    /// Serve over streamable HTTP at http://ADDR/mcp instead of stdio, with /health and /metrics
    /// beside it. Beyond loopback clients must send the token in FORESEED_TOKEN or --token-file.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    http: Option<SocketAddr>,

    /// A file with the token that clients must send as `Authorization: Bearer TOKEN`.
    #[arg(long, value_name = "FILE", requires = "http")]
    token_file: Option<PathBuf>,

    /// A name under which clients ask for this server, beside loopback's and its own address. Can
    /// be given several times.
    #[arg(long, value_name = "HOST[:PORT]", requires = "http")]
    allow_host: Vec<String>,

    /// A web page's origin that may use this server, beside loopback's. Can be given several times.
    #[arg(long, value_name = "ORIGIN", requires = "http")]
    allow_origin: Vec<String>,

    /// The longest message in bytes.
    #[arg(long, value_name = "BYTES", requires = "http", default_value_t = http::Limits::default().body_bytes)]
    max_body: usize,

    /// Messages that are answered at once; one more is told to come back later.
    #[arg(long, value_name = "N", requires = "http", default_value_t = http::Limits::default().requests)]
    max_requests: usize,

    /// At the end (Ctrl-C, SIGTERM), how long calls under way may go on before they are cancelled.
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "http",
        default_value_t = 10.0
    )]
    grace_seconds: f64,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    give_memory_back();
    let patience = patience(args.call_seconds)?;
    let options = args.http.options()?;
    let limits = Limits {
        max_waiting: args.queue.max(1),
        cache_bytes: args.cache_mib.saturating_mul(1 << 20),
        ..Limits::default()
    };
    let server = args.surface.server(globals, limits, patience)?;
    globals.block_on(async {
        let stop = http::Stop::default();
        let signals = stop.clone();
        tokio::spawn(async move {
            asked_to_end().await;
            signals.politely.cancel();
            asked_to_end().await;
            signals.at_once.cancel();
        });
        let Some(options) = options else {
            return server.serve_stdio(stop.politely).await;
        };
        let listener = http::listen(&options).await?;
        let address = listener.local_addr().unwrap_or(options.address);
        // Port 0 is known from here on only.
        eprintln!("foreseed: serving MCP at http://{address}/mcp");
        http::serve(server, listener, options, stop).await
    })
}

impl HttpArgs {
    /// `None`: it is to be stdio.
    fn options(self) -> Result<Option<http::Options>> {
        let Some(address) = self.http else {
            return Ok(None);
        };
        let token = match (&self.token_file, std::env::var("FORESEED_TOKEN")) {
            (Some(file), _) => Some(http::Token::read(file)?),
            (None, Ok(text)) if !text.is_empty() => {
                Some(http::Token::new("FORESEED_TOKEN", &text)?)
            }
            (None, Err(VarError::NotUnicode(_))) => Some(http::Token::new("FORESEED_TOKEN", "")?),
            (None, _) => None,
        };
        Ok(Some(http::Options {
            address,
            token,
            hosts: self.allow_host,
            origins: self.allow_origin,
            limits: http::Limits {
                body_bytes: self.max_body.max(1024),
                requests: self.max_requests.clamp(1, 1 << 20),
                ..http::Limits::default()
            },
            grace: Duration::try_from_secs_f64(self.grace_seconds).map_err(|_| {
                Error::invalid(
                    "--grace-seconds",
                    format!("{} is out of range", self.grace_seconds),
                    "Give 0 seconds or more",
                )
            })?,
        }))
    }
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or a bare port of loopback.
fn address(text: &str) -> std::result::Result<SocketAddr, String> {
    if let Ok(port) = text.trim_start_matches(':').parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let numeric = text.replacen("localhost:", "127.0.0.1:", 1);
    numeric.parse().map_err(|_| {
        "give an address and a port, as in 127.0.0.1:8080 or [::1]:8080; port 0 takes any free one"
            .to_owned()
    })
}

fn patience(seconds: f64) -> Result<Duration> {
    if (0.1..=86_400.0).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Error::invalid(
        "--call-seconds",
        format!("{seconds} is out of range"),
        "Give 0.1 to 86400 seconds; most clients wait 60",
    ))
}

/// Left to itself, glibc gives each thread an arena of its own and keeps what was freed in it, so that
/// a server's memory creeps up for hours. With one arena, and large blocks given back at once, it
/// stays flat, and calls take no longer: the work is in few large blocks.
fn give_memory_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 128 << 10),
        (libc::M_TRIM_THRESHOLD, 128 << 10),
    ] {
        // SAFETY: this sets a number in the allocator, before any other thread runs.
        if unsafe { libc::mallopt(parameter, value) } != 1 {
            tracing::debug!(parameter, "the allocator stays as it is");
        }
    }
}

/// Ctrl-C, or what a client sends to a server that does not end by itself.
async fn asked_to_end() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C cannot be heard");
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_loopback_unless_it_says_otherwise() {
        for text in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(address(text).unwrap(), "127.0.0.1:8080".parse().unwrap());
        }
        assert!(!address("0.0.0.0:1").unwrap().ip().is_loopback());
        assert!(address("example.com").is_err() && address("127.0.0.1").is_err());
    }

    #[test]
    fn a_patience_that_is_no_time_is_refused() {
        assert_eq!(patience(45.0).unwrap(), Duration::from_secs(45));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(patience(seconds).is_err(), "{seconds}");
        }
    }
}
