//! JSON lines over the process's own streams. Two threads do the blocking reads and writes, so that
//! neither a slow client nor one that never speaks again can hold up the runtime.

use std::io::{self, BufRead, Read, Write};
use std::thread;

use rmcp::RoleServer;
use rmcp::model::{ClientJsonRpcMessage, ErrorData, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::wire::{Heard, parse};

/// A longer line is refused rather than kept in memory.
const LONGEST_LINE: u64 = 16 << 20;
/// Messages read ahead of the server.
const READ_AHEAD: usize = 64;

/// One line to write, and who waits for it to be written.
struct Line {
    bytes: Vec<u8>,
    written: Option<oneshot::Sender<io::Result<()>>>,
}

type Lines = mpsc::UnboundedSender<Line>;

/// The transport: this process's stdin and stdout.
pub struct Stdio {
    incoming: mpsc::Receiver<ClientJsonRpcMessage>,
    outgoing: Option<Lines>,
    /// Before the first request nothing else means anything; rmcp would take it for the end.
    opened: bool,
}

impl Stdio {
    /// Takes over stdin and stdout. `unread` is cancelled when nobody reads what is written, `gone`
    /// when the client closes its side: who leaves waits for no work.
    pub fn open(unread: CancellationToken, gone: CancellationToken) -> io::Result<Self> {
        let (outgoing, lines) = mpsc::unbounded_channel();
        let (messages, incoming) = mpsc::channel(READ_AHEAD);
        let replies = outgoing.clone();
        thread::Builder::new().name("stdin".into()).spawn(move || {
            read(io::stdin().lock(), &messages, &replies);
            gone.cancel();
        })?;
        thread::Builder::new()
            .name("stdout".into())
            .spawn(move || {
                write(io::stdout().lock(), lines, &unread);
            })?;
        Ok(Self {
            incoming,
            outgoing: Some(outgoing),
            opened: false,
        })
    }
}

impl Transport<RoleServer> for Stdio {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let sent = line(&message).and_then(|bytes| {
            let (written, done) = oneshot::channel();
            let line = Line {
                bytes,
                written: Some(written),
            };
            let outgoing = self.outgoing.as_ref().ok_or_else(closed)?;
            outgoing.send(line).map_err(|_| closed())?;
            Ok(done)
        });
        async move { sent?.await.map_err(|_| closed())? }
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let message = self.incoming.recv().await?;
            self.opened |= matches!(message, JsonRpcMessage::Request(_));
            if self.opened {
                return Some(message);
            }
            tracing::debug!("a message before the first request was passed over");
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outgoing = None;
        Ok(())
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the client has gone")
}

fn line(message: &ServerJsonRpcMessage) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn write(
    mut out: impl Write,
    mut lines: mpsc::UnboundedReceiver<Line>,
    unread: &CancellationToken,
) {
    while let Some(Line { bytes, written }) = lines.blocking_recv() {
        let result = out.write_all(&bytes).and_then(|()| out.flush());
        let failed = result.is_err();
        if let Some(written) = written {
            // Whoever waited may have been cancelled.
            let _ = written.send(result);
        }
        if failed {
            tracing::info!("the client no longer reads: giving up its work");
            unread.cancel();
            return;
        }
    }
}

fn read(mut input: impl BufRead, messages: &mpsc::Sender<ClientJsonRpcMessage>, replies: &Lines) {
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        match input
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut bytes)
        {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::error!(%error, "stdin cannot be read");
                return;
            }
        }
        let whole = bytes.ends_with(b"\n");
        let read = if whole || (bytes.len() as u64) < LONGEST_LINE {
            parse(&bytes)
        } else if skip_line(&mut input).is_ok() {
            let problem = format!("a message may have {LONGEST_LINE} bytes at most");
            Heard::Refused(ErrorData::invalid_request(problem, None), None)
        } else {
            return;
        };
        let went_through = match read {
            Heard::Message(message, _) => messages.blocking_send(*message).is_ok(),
            Heard::Refused(error, id) => {
                let refusal = ServerJsonRpcMessage::error(error, id);
                line(&refusal).is_ok_and(|bytes| {
                    replies
                        .send(Line {
                            bytes,
                            written: None,
                        })
                        .is_ok()
                })
            }
            Heard::Nothing => true,
        };
        if !went_through {
            return;
        }
    }
}

/// Reads on to the end of a line that is not kept.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (used, ended) = match buffer.iter().position(|b| *b == b'\n') {
            Some(end) => (end + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(used);
        if ended {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_without_end_is_refused_and_the_next_one_read() {
        let mut input = vec![b'x'; (LONGEST_LINE + 10) as usize];
        input.extend_from_slice(b"\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
        let (messages, mut incoming) = mpsc::channel(2);
        let (replies, mut refused) = mpsc::unbounded_channel();
        read(&input[..], &messages, &replies);
        assert!(refused.try_recv().is_ok());
        assert!(incoming.try_recv().is_ok());
    }
}
