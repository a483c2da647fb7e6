//! What is at which path, and what a request has to pass before it gets there.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, AUTHORIZATION, COOKIE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use rmcp::model::ErrorData;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::super::{Served, Server, served, wire};
use super::door::Door;
use super::figures::{self, Figures};
use super::replies::{self, Body};
use super::sessions::Sessions;
use super::throttle::Throttle;
use super::{Limits, Options, Token};
use crate::Result;

/// A message is small: who takes longer to send it holds a place for nothing.
const BODY_WITHIN: Duration = Duration::from_secs(30);
const BUSY: Duration = Duration::from_secs(2);

pub struct Site {
    door: Door,
    token: Option<Token>,
    throttle: Throttle,
    mcp: StreamableHttpService<Served, Sessions>,
    sessions: Arc<Sessions>,
    figures: Figures,
    limits: Limits,
    places: Arc<Semaphore>,
    answers: TaskTracker,
    closed: CancellationToken,
}

impl Site {
    /// `end` ends every session and stream when it is cancelled.
    pub fn new(server: Server, options: &Options, end: CancellationToken) -> Result<Self> {
        let mut hosts = options.hosts.clone();
        if !options.address.ip().is_unspecified() {
            hosts.push(options.address.ip().to_string());
        }
        let sessions = Arc::new(Sessions::new(options.limits.sessions));
        let mut config = StreamableHttpServerConfig::default()
            // The door has looked at it, for every path.
            .disable_allowed_hosts()
            .disable_allowed_origins()
            .with_max_request_body_bytes(options.limits.body_bytes);
        config.cancellation_token = end;
        let serving = served(&server);
        Ok(Self {
            door: Door::new(&hosts, &options.origins)?,
            token: options.token.clone(),
            throttle: Throttle::default(),
            mcp: StreamableHttpService::new(
                move || Ok(serving.clone()),
                Arc::clone(&sessions),
                config,
            ),
            sessions,
            figures: Figures::new(server),
            limits: options.limits.clone(),
            places: Arc::new(Semaphore::new(options.limits.requests)),
            answers: TaskTracker::new(),
            closed: CancellationToken::new(),
        })
    }

    /// From now on no message is taken.
    pub fn close(&self) {
        self.closed.cancel();
        self.answers.close();
    }

    /// Until all answers are on their way, at most this long.
    pub async fn answered_within(&self, patience: Duration) {
        // Streams that only listen have no end of their own.
        let _ = tokio::time::timeout(patience, self.answers.wait()).await;
    }

    pub async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Response<Body> {
        let origin = match self.door.admit(request.uri(), request.headers()) {
            Ok(origin) => origin.cloned(),
            Err(refusal) => {
                tracing::warn!(%from, refusal, "a request was turned away");
                self.figures.answered(StatusCode::FORBIDDEN);
                return replies::text(StatusCode::FORBIDDEN, refusal);
            }
        };
        let path = request.uri().path().to_owned();
        let mut response = match path.as_str() {
            "/health" => self.health(),
            "/mcp" if origin.is_some() && request.method() == Method::OPTIONS => preflight(),
            "/mcp" | "/metrics" => match self.authorize(request.headers(), from) {
                Err(refusal) => *refusal,
                Ok(()) if path == "/metrics" => self.metrics().await,
                Ok(()) => self.message(request).await,
            },
            _ => replies::text(
                StatusCode::NOT_FOUND,
                "Not Found: MCP is served at /mcp, and there are /health and /metrics",
            ),
        };
        if let Some(origin) = origin {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            let told = "Mcp-Session-Id, WWW-Authenticate, Retry-After";
            headers.insert(
                ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(told),
            );
        }
        self.figures.answered(response.status());
        response
    }

    fn authorize(&self, headers: &HeaderMap, from: IpAddr) -> Result<(), Box<Response<Body>>> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let now = Instant::now();
        let wait = self.throttle.wait(from, now);
        if !wait.is_zero() {
            let why = "Too Many Requests: the token was wrong too often";
            return Err(Box::new(replies::later(
                StatusCode::TOO_MANY_REQUESTS,
                why,
                wait,
            )));
        }
        if token.is_in(headers) {
            self.throttle.succeeded(from);
            return Ok(());
        }
        // Who does not know yet that a token is needed has guessed nothing.
        if headers.contains_key(AUTHORIZATION) {
            tracing::warn!(%from, "a wrong token was sent");
            self.throttle.failed(from, now);
        }
        Err(Box::new(replies::unauthorized()))
    }

    fn health(&self) -> Response<Body> {
        let (status, health) = match self.closed.is_cancelled() {
            false => (StatusCode::OK, r#"{"status":"ok"}"#),
            true => (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"ending"}"#),
        };
        replies::of(status, "application/json", health.to_owned())
    }

    async fn metrics(&self) -> Response<Body> {
        match self.figures.told(self.sessions.count().await) {
            Ok(text) => replies::of(StatusCode::OK, figures::CONTENT_TYPE, text),
            Err(error) => replies::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    /// A request to the protocol's own path.
    async fn message(&self, request: Request<Incoming>) -> Response<Body> {
        if self.closed.is_cancelled() {
            let why = "Service Unavailable: the server is ending";
            return replies::later(StatusCode::SERVICE_UNAVAILABLE, why, BUSY);
        }
        let (mut parts, body) = request.into_parts();
        // What lies behind has no business with secrets.
        parts.headers.remove(AUTHORIZATION);
        parts.headers.remove(COOKIE);
        if parts.method != Method::POST {
            let leaves = parts.method == Method::DELETE;
            let request = Request::from_parts(parts, Full::<Bytes>::default());
            let mut answer = self.mcp.handle(request).await;
            // The session is over by then, and some clients take an "accepted" for a failure.
            if leaves && answer.status() == StatusCode::ACCEPTED {
                *answer.status_mut() = StatusCode::NO_CONTENT;
            }
            return answer;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            let why = format!(
                "Service Unavailable: {} messages are being answered, which is the most",
                self.limits.requests
            );
            return replies::later(StatusCode::SERVICE_UNAVAILABLE, &why, BUSY);
        };
        let body = match self.read(body).await {
            Ok(body) => body,
            Err(refusal) => return *refusal,
        };
        let message = match wire::parse(&body) {
            // Numbers that JSON lacks were mended on the way.
            wire::Heard::Message(_, mended) => mended.map_or(body, Bytes::from),
            // A wrong notification: there is nothing to answer it with.
            wire::Heard::Nothing => body,
            wire::Heard::Refused(error, id) => {
                return replies::malformed(StatusCode::BAD_REQUEST, error, id);
            }
        };
        let request = Request::from_parts(parts, Full::new(message));
        let token = self.answers.token();
        self.mcp.handle(request).await.map(|body| {
            Held {
                body,
                _place: place,
                _token: token,
            }
            .boxed()
        })
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, Box<Response<Body>>> {
        let limited = Limited::new(body, self.limits.body_bytes).collect();
        match tokio::time::timeout(BODY_WITHIN, limited).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let problem = format!(
                    "Payload Too Large: a message may have {} bytes at most",
                    self.limits.body_bytes
                );
                let error = ErrorData::invalid_request(problem, None);
                Err(Box::new(replies::malformed(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    error,
                    None,
                )))
            }
            Ok(Err(error)) => Err(Box::new(replies::text(
                StatusCode::BAD_REQUEST,
                format!("Bad Request: the body could not be read: {error}"),
            ))),
            Err(_) => Err(Box::new(replies::text(
                StatusCode::REQUEST_TIMEOUT,
                format!("Request Timeout: the body took longer than {BODY_WITHIN:?}"),
            ))),
        }
    }
}

/// What a browser asks before it lets a page that is let in send its message.
fn preflight() -> Response<Body> {
    let mut response = Response::new(Full::<Bytes>::default().boxed());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, Accept, Last-Event-ID, Mcp-Session-Id, \
             Mcp-Protocol-Version, Mcp-Method, Mcp-Name",
        ),
        (ACCESS_CONTROL_MAX_AGE, "3600"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// An answer that holds its place until it was sent or nobody reads it any more.
struct Held {
    body: Body,
    _place: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
