//! `foreseed serve`: the MCP server over this process's stdin and stdout.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Globals;
use crate::server::Server;
use crate::{Error, Result};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The longest that a call may take before it answers with what it has.
    #[arg(long, value_name = "SECONDS", default_value_t = 45.0)]
    pub call_seconds: f64,
}

pub fn run(args: Args, globals: &Globals) -> Result<()> {
    let patience = patience(args.call_seconds)?;
    let server = Server::new(Arc::new(globals.foresight()?), patience);
    globals.block_on(async {
        let stop = CancellationToken::new();
        let signal = stop.clone();
        tokio::spawn(async move {
            asked_to_end().await;
            signal.cancel();
        });
        server.serve_stdio(stop).await
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
    fn a_patience_that_is_no_time_is_refused() {
        assert_eq!(patience(45.0).unwrap(), Duration::from_secs(45));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(patience(seconds).is_err(), "{seconds}");
        }
    }
}
