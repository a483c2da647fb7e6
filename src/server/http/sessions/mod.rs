//! The sessions of clients up to 2025-11-25, and what becomes of the work of one that vanishes.
//!
//! Those revisions let a client come back to a stream that broke, with the id of the last event that
//! it saw. So a broken stream is no cancellation at once: it is one if nobody comes back within
//! [`RETURN`]. Since 2026-07-28 there is no coming back, and rmcp cancels by itself.
//!
//! A client that broke off in the middle of a request has most likely ended, and will not say so. Its
//! session costs about 100 KiB, whatever was asked in it, so it is closed after [`LEFT`].

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use rmcp::model::{
    CancelledNotification, CancelledNotificationParam, ClientJsonRpcMessage, JsonRpcMessage,
    RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::common::server_side_http::{ServerSseMessage, SessionId};
use rmcp::transport::streamable_http_server::session::SessionManager;
use rmcp::transport::streamable_http_server::session::local::{
    LocalSessionManager, LocalSessionManagerError, SessionConfig,
};
use tokio::time::{Instant, sleep};

mod book;

use book::{Books, Open};

/// So long a client whose stream broke may take to come back for it.
const RETURN: Duration = Duration::from_secs(1);
/// So long an answer that was sent is kept for a client whose stream broke on the way.
const SENT: Duration = Duration::from_secs(5);
/// So soon clients are told to come back.
const RETRY: Duration = Duration::from_millis(250);
/// So long a session is kept whose client broke off a request and was not heard of again. One whose
/// patience ended may call again, once a person has read of it; one that comes later still is told
/// that the session is over, and begins another.
const LEFT: Duration = Duration::from_secs(3 * 60);
/// A session without a word for so long is over: an editor may stay open all day.
const IDLE: Duration = Duration::from_secs(12 * 3600);

type Events = Pin<Box<dyn Stream<Item = ServerSseMessage> + Send + Sync>>;

/// rmcp's sessions, followed.
pub struct Sessions {
    following: Arc<Following>,
    most: usize,
}

struct Following {
    inner: LocalSessionManager,
    books: Books,
}

impl Sessions {
    /// At most so many sessions; for one more, the one is closed that was silent longest.
    pub fn new(most: usize) -> Self {
        let mut config = SessionConfig::default();
        config.keep_alive = Some(IDLE);
        config.sse_retry = Some(RETRY);
        config.completed_cache_ttl = SENT;
        let mut inner = LocalSessionManager::default();
        inner.session_config = config;
        let books = Books::default();
        Self {
            following: Arc::new(Following { inner, books }),
            most,
        }
    }

    pub async fn count(&self) -> usize {
        self.following.inner.sessions.read().await.len()
    }

    async fn make_room(&self) {
        while self.count().await >= self.most {
            let Some(silent) = self.following.books.lock().longest_silent() else {
                return;
            };
            tracing::info!("a session is closed: there are too many, and it was silent longest");
            // It may have ended by itself in between.
            let _ = self.following.close(&silent).await;
        }
    }

    fn follow(&self, ticket: u64, generation: u64, events: Events) -> Followed {
        Followed {
            events,
            ticket,
            generation,
            following: Arc::clone(&self.following),
        }
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.make_room().await;
        let (id, transport) = self.following.inner.create_session().await?;
        self.following.books.lock().seen(&id);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.following.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        let there = self.following.inner.has_session(id).await?;
        if there {
            self.following.books.lock().seen(id);
        }
        Ok(there)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        self.following.close(id).await
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let request = match &message {
            JsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let events = Box::pin(self.following.inner.create_stream(id, message).await?);
        let ticket = match request {
            Some(request) => self.following.books.lock().open(id, request),
            // Nothing runs for it: a ticket that stands for nothing.
            None => 0,
        };
        Ok(self.follow(ticket, 0, events))
    }

    async fn accept_message(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<(), Self::Error> {
        self.following.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let events = self.following.inner.create_standalone_stream(id).await?;
        self.following.books.lock().listens(id);
        Ok(Listened {
            events: Box::pin(events),
            session: id.clone(),
            following: Arc::clone(&self.following),
        })
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let stream = stream_of(&last_event_id);
        let back = stream.and_then(|http| self.following.books.lock().back(id, http));
        let events = Box::pin(self.following.inner.resume(id, last_event_id).await?);
        let (ticket, generation) = back.unwrap_or_default();
        Ok(self.follow(ticket, generation, events))
    }
}

/// The stream that an event belongs to: rmcp writes its ids as `index/stream`.
fn stream_of(event_id: &str) -> Option<u64> {
    event_id.split_once('/')?.1.parse().ok()
}

fn cancellation(request: RequestId) -> ClientJsonRpcMessage {
    let reason = "the client has gone".to_owned();
    let params = CancelledNotificationParam::new(Some(request), Some(reason));
    ClientJsonRpcMessage::notification(CancelledNotification::new(params).into())
}

/// A message that says nothing.
fn nudge() -> ClientJsonRpcMessage {
    let params = CancelledNotificationParam::new(None, None);
    ClientJsonRpcMessage::notification(CancelledNotification::new(params).into())
}

/// Later, unless this is outside a runtime: there everything ends anyway.
fn later(what: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(what);
    }
}

impl Following {
    async fn close(&self, id: &SessionId) -> Result<(), LocalSessionManagerError> {
        // Left to itself, a session that closes lets its work run on for some seconds.
        let left = self.books.lock().close(id);
        for request in left {
            let _ = self.inner.accept_message(id, cancellation(request)).await;
        }
        self.inner.close_session(id).await
    }

    /// Has a session let go of the answers that it keeps, once their time is over: rmcp looks at the
    /// next message only, and in a session that was left none ever comes: it would keep its last
    /// answer, with its pictures, for as long as it lives.
    async fn let_go(&self, session: &SessionId) {
        sleep(SENT + RETURN).await;
        // The session may be over as well.
        let _ = self.inner.accept_message(session, nudge()).await;
    }

    /// The stream of a request broke: what becomes of it, and of its session.
    async fn broken(&self, ticket: u64, generation: u64) {
        let since = Instant::now();
        sleep(RETURN).await;
        let Some(Open {
            session, request, ..
        }) = self.books.lock().take(ticket, generation)
        else {
            return;
        };
        tracing::info!("a client has gone: giving up its work");
        // The session may be over as well.
        let _ = self
            .inner
            .accept_message(&session, cancellation(request))
            .await;
        self.let_go(&session).await;
        sleep(LEFT - SENT).await;
        let left = self.books.lock().is_left(&session, since);
        if left {
            tracing::info!("a session is closed: its client broke off and did not come back");
            let _ = self.close(&session).await;
        }
    }
}

/// A request's events on their way to the client.
struct Followed {
    events: Events,
    ticket: u64,
    generation: u64,
    following: Arc<Following>,
}

impl Stream for Followed {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.as_mut().poll_next(cx);
        let books = &self.following.books;
        match &polled {
            Poll::Ready(Some(event)) => {
                if let Some(stream) = event.event_id.as_deref().and_then(stream_of) {
                    books.lock().goes_to(self.ticket, stream);
                }
            }
            // It was answered, or cancelled.
            Poll::Ready(None) => {
                let ended = books.lock().take(self.ticket, self.generation);
                if let Some(Open { session, .. }) = ended {
                    let following = Arc::clone(&self.following);
                    later(async move { following.let_go(&session).await });
                }
            }
            Poll::Pending => {}
        }
        polled
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let (ticket, generation) = (self.ticket, self.generation);
        if self.following.books.lock().is_open(ticket) {
            let following = Arc::clone(&self.following);
            later(async move { following.broken(ticket, generation).await });
        }
    }
}

/// What a session's client hears without having asked.
struct Listened {
    events: Events,
    session: SessionId,
    following: Arc<Following>,
}

impl Stream for Listened {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.as_mut().poll_next(cx)
    }
}

impl Drop for Listened {
    fn drop(&mut self) {
        self.following.books.lock().listens_no_more(&self.session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Silence;

    impl Stream for Silence {
        type Item = ServerSseMessage;

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Pending
        }
    }

    /// A session whose client broke off a request just now; it lasts as long as its transport.
    async fn broken_off(
        sessions: &Sessions,
    ) -> (SessionId, <Sessions as SessionManager>::Transport) {
        let (id, transport) = sessions.create_session().await.unwrap();
        let ticket = sessions
            .following
            .books
            .lock()
            .open(&id, RequestId::Number(1));
        drop(sessions.follow(ticket, 0, Box::pin(Silence)));
        (id, transport)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_whose_client_broke_off_is_closed_unless_it_is_heard_of_again() {
        let sessions = Sessions::new(8);
        let (idle, _idle) = sessions.create_session().await.unwrap();
        let (gone, _gone) = broken_off(&sessions).await;
        let (back, _back) = broken_off(&sessions).await;
        let (listening, _listening) = broken_off(&sessions).await;
        sleep(LEFT / 2).await;
        assert!(sessions.has_session(&back).await.unwrap());
        sessions.following.books.lock().listens(&listening);
        sleep(LEFT).await;
        for (id, is_there) in [
            (&idle, true),
            (&gone, false),
            (&back, true),
            (&listening, true),
        ] {
            assert_eq!(sessions.has_session(id).await.unwrap(), is_there);
        }
    }

    #[test]
    fn an_events_id_names_its_stream() {
        assert_eq!(stream_of("12/7"), Some(7));
        assert_eq!(stream_of("12"), None);
    }
}
