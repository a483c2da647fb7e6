//! What is printed, and where: replies on stdout, everything else on stderr.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::{Error, Result};

/// Logs go to stderr: stdout is the reply's, or the protocol's.
pub fn trace_to_stderr(verbose: u8) {
    let level = match verbose {
        // A client that goes away is no error, though rmcp calls it one; what the hub's client says of
        // its tries, our own error says once.
        0 => "warn,rmcp::service=off,hf_hub=off",
        1 => "foreseed=info,warn",
        2 => "foreseed=debug,info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // Fails only where a test or an embedding program has set one already, which then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
}

/// Prints `text` and a line's end on stdout.
pub fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(Error::file(Path::new("<stdout>")))
}

/// Prints `reply` as JSON on stdout.
pub fn print_json(reply: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(reply)
        .map_err(|e| Error::Internal(format!("a reply that is not JSON: {e}")))?;
    print(&text)
}

/// Whether the reader of our output went away, which is its right.
pub fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}
