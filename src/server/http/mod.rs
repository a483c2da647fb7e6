//! MCP over streamable HTTP, in both eras of the protocol, on one engine.
//!
//! ```text
//! serve      the listener, its connections, and their end    (mod.rs)
//! Site       what is at which path, and who may ask for it   (site.rs)
//!   ├ Door      the names and web pages that are let in      (door.rs)
//!   ├ Token     who knows it may use it from afar            (token.rs, throttle.rs)
//!   ├ Sessions  of clients up to 2025-11-25                  (sessions.rs)
//!   └ Figures   for Prometheus                               (figures.rs)
//! ```

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod door;
mod figures;
mod replies;
mod sessions;
mod site;
mod throttle;
mod token;

pub use token::Token;

use super::Server;
use crate::{Error, Result};
use site::Site;

/// A client that has not sent its headers, or begun a further request, after this long is let go.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// What is answered has still this long to arrive when the server ends.
const FLUSHED_WITHIN: Duration = Duration::from_secs(2);
/// Work stops within one step; on a slow device a step takes some seconds.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

/// How the server is reached, by whom, and how much of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub address: SocketAddr,
    /// Asked of every client where there is one; there has to be beyond loopback.
    pub token: Option<Token>,
    /// Names that the server answers to beside loopback's and its own address.
    pub hosts: Vec<String>,
    /// Web pages that may use it beside loopback's.
    pub origins: Vec<String>,
    pub limits: Limits,
    /// When the server is to end, calls under way may go on for so long.
    pub grace: Duration,
}

#[derive(Clone, Debug)]
pub struct Limits {
    pub body_bytes: usize,
    /// Connections at once; further clients wait until one is free.
    pub connections: usize,
    /// Messages answered at once; one more is refused, and told when to come back.
    pub requests: usize,
    /// Sessions at once, of clients up to 2025-11-25.
    pub sessions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            connections: 1024,
            requests: 256,
            sessions: 512,
        }
    }
}

/// When the server is to end: politely, and at once.
#[derive(Clone, Default)]
pub struct Stop {
    pub politely: CancellationToken,
    pub at_once: CancellationToken,
}

/// A listener at [`Options::address`].
pub async fn listen(options: &Options) -> Result<TcpListener> {
    if !options.address.ip().to_canonical().is_loopback() && options.token.is_none() {
        return Err(Error::invalid(
            "--http",
            format!("{} can be reached from other machines", options.address),
            "Set FORESEED_TOKEN or --token-file to a token that clients have to send (`openssl \
             rand -hex 32` makes one), or listen on 127.0.0.1",
        ));
    }
    TcpListener::bind(options.address).await.map_err(|error| {
        Error::invalid(
            "--http",
            format!("{} cannot be listened on: {error}", options.address),
            "Name an address of this machine with a free port, as in 127.0.0.1:8080; port 0 takes \
             any free one",
        )
    })
}

/// Serves until it is told to stop. Calls then under way have [`Options::grace`] to end, and are
/// cancelled after it.
pub async fn serve(
    server: Server,
    listener: TcpListener,
    options: Options,
    stop: Stop,
) -> Result<()> {
    let calls = server.calls.clone();
    // Ends every session and stream.
    let end = CancellationToken::new();
    let site = Arc::new(Site::new(server, &options, end.clone())?);
    let closing = CancellationToken::new();
    let connections = TaskTracker::new();
    accept(&site, &listener, &options, &stop, &closing, &connections).await;
    drop(listener);

    site.close();
    tracing::info!(
        calls = calls.count(),
        "ending: calls under way may go on for a while"
    );
    tokio::select! {
        _ = calls.ended_within(options.grace) => {}
        () = stop.at_once.cancelled() => {}
    }
    if calls.count() > 0 {
        tracing::info!(calls = calls.count(), "calls under way are cancelled");
        calls.gone.cancel();
        calls.ended_within(STOPPED_WITHIN).await;
    }
    site.answered_within(FLUSHED_WITHIN).await;
    end.cancel();
    closing.cancel();
    connections.close();
    // A client that does not read is left behind.
    let _ = tokio::time::timeout(FLUSHED_WITHIN, connections.wait()).await;
    Ok(())
}

async fn accept(
    site: &Arc<Site>,
    listener: &TcpListener,
    options: &Options,
    stop: &Stop,
    closing: &CancellationToken,
    connections: &TaskTracker,
) {
    let room = Arc::new(Semaphore::new(options.limits.connections));
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = stop.politely.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (site, closing) = (Arc::clone(site), closing.clone());
                connections.spawn(async move {
                    talk(site, stream, peer, closing).await;
                    drop(place);
                });
            }
            // Out of file descriptors, most likely: others will be closed.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Answers the requests of one connection until either side ends it.
async fn talk(site: Arc<Site>, stream: TcpStream, peer: SocketAddr, closing: CancellationToken) {
    // Events are small and each is waited for.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection stays with small delays");
    }
    let answer = service_fn(|request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(site.answer(request, peer.ip()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
