//! The sessions of clients up to 2025-11-25, and what becomes of the work of one that vanishes.
//!
//! Those revisions let a client come back to a stream that broke, with the id of the last event that
//! it saw. So a broken stream is no cancellation at once: it is one if nobody comes back within
//! [`RETURN`]. Since 2026-07-28 there is no coming back, and rmcp cancels by itself.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

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

/// So long a client whose stream broke may take to come back for it.
const RETURN: Duration = Duration::from_secs(1);
/// So long an answer that was sent is kept for a client whose stream broke on the way.
const SENT: Duration = Duration::from_secs(5);
/// So soon clients are told to come back.
const RETRY: Duration = Duration::from_millis(250);
/// A session without a word for so long is over: an editor may stay open all day.
const IDLE: Duration = Duration::from_secs(12 * 3600);

type Events = Pin<Box<dyn Stream<Item = ServerSseMessage> + Send + Sync>>;

/// rmcp's sessions, followed.
pub struct Sessions {
    inner: Arc<LocalSessionManager>,
    books: Arc<Books>,
    most: usize,
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
        Self {
            inner: Arc::new(inner),
            books: Arc::default(),
            most,
        }
    }

    pub async fn count(&self) -> usize {
        self.inner.sessions.read().await.len()
    }

    async fn make_room(&self) {
        while self.count().await >= self.most {
            let Some(silent) = self.books.lock().longest_silent() else {
                return;
            };
            tracing::info!("a session is closed: there are too many, and it was silent longest");
            // It may have ended by itself in between.
            let _ = self.close_session(&silent).await;
        }
    }

    fn follow(&self, ticket: u64, generation: u64, events: Events) -> Followed {
        Followed {
            events,
            ticket,
            generation,
            inner: Arc::clone(&self.inner),
            books: Arc::clone(&self.books),
        }
    }
}

impl SessionManager for Sessions {
    type Error = LocalSessionManagerError;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Self::Error> {
        self.make_room().await;
        let (id, transport) = self.inner.create_session().await?;
        self.books.lock().seen(&id);
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Self::Error> {
        self.inner.initialize_session(id, message).await
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Self::Error> {
        let there = self.inner.has_session(id).await?;
        if there {
            self.books.lock().seen(id);
        }
        Ok(there)
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Self::Error> {
        // Left to itself, a session that closes lets its work run on for some seconds.
        let left = self.books.lock().close(id);
        for request in left {
            let _ = self.inner.accept_message(id, cancellation(request)).await;
        }
        self.inner.close_session(id).await
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
        let events = Box::pin(self.inner.create_stream(id, message).await?);
        let ticket = match request {
            Some(request) => self.books.lock().open(id, request),
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
        self.inner.accept_message(id, message).await
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        self.inner.create_standalone_stream(id).await
    }

    async fn resume(
        &self,
        id: &SessionId,
        last_event_id: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Self::Error> {
        let back = stream_of(&last_event_id).and_then(|http| self.books.lock().back(id, http));
        let events = Box::pin(self.inner.resume(id, last_event_id).await?);
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

/// Has a session let go of the answers that it keeps, once their time is over: rmcp looks at the next
/// message only, and in a session that was left none ever comes: it would keep its last answer, with
/// its pictures, for as long as it lives.
fn let_go(inner: &Arc<LocalSessionManager>, session: SessionId) {
    // Outside a runtime everything ends anyway.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    let inner = Arc::clone(inner);
    runtime.spawn(async move {
        tokio::time::sleep(SENT + RETURN).await;
        // The session may be over as well.
        let _ = inner.accept_message(&session, nudge()).await;
    });
}

/// A request under way.
struct Open {
    session: SessionId,
    request: RequestId,
    /// rmcp's number of the stream that its events go to, once the first was seen.
    stream: Option<u64>,
    /// How often the client came back for it.
    generation: u64,
}

/// Who was heard of when, and which requests are under way, by a ticket each.
#[derive(Default)]
struct Book {
    last_ticket: u64,
    open: HashMap<u64, Open>,
    seen: HashMap<SessionId, Instant>,
}

#[derive(Default)]
struct Books(Mutex<Book>);

impl Books {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn seen(&mut self, session: &SessionId) {
        self.seen.insert(session.clone(), Instant::now());
    }

    fn longest_silent(&self) -> Option<SessionId> {
        let idle = self
            .seen
            .iter()
            .filter(|(id, _)| self.open.values().all(|open| open.session != **id));
        idle.min_by_key(|(_, seen)| **seen)
            .map(|(id, _)| id.clone())
    }

    fn open(&mut self, session: &SessionId, request: RequestId) -> u64 {
        self.last_ticket += 1;
        let open = Open {
            session: session.clone(),
            request,
            stream: None,
            generation: 0,
        };
        self.open.insert(self.last_ticket, open);
        self.last_ticket
    }

    /// The client is back for this stream: its ticket, and which return this is.
    fn back(&mut self, session: &SessionId, stream: u64) -> Option<(u64, u64)> {
        let (ticket, open) = self
            .open
            .iter_mut()
            .find(|(_, open)| open.session == *session && open.stream == Some(stream))?;
        open.generation += 1;
        Some((*ticket, open.generation))
    }

    /// What was under way under `ticket`, unless the client came back for it since.
    fn take(&mut self, ticket: u64, generation: u64) -> Option<Open> {
        let current = self.open.get(&ticket)?.generation == generation;
        current.then(|| self.open.remove(&ticket)).flatten()
    }

    /// Forgets a session; gives its requests that are under way.
    fn close(&mut self, session: &SessionId) -> Vec<RequestId> {
        self.seen.remove(session);
        let theirs = self.open.extract_if(|_, open| open.session == *session);
        theirs.map(|(_, open)| open.request).collect()
    }
}

/// A request's events on their way to the client.
struct Followed {
    events: Events,
    ticket: u64,
    generation: u64,
    inner: Arc<LocalSessionManager>,
    books: Arc<Books>,
}

impl Stream for Followed {
    type Item = ServerSseMessage;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.events.as_mut().poll_next(cx);
        match &polled {
            Poll::Ready(Some(event)) => {
                if let Some(stream) = event.event_id.as_deref().and_then(stream_of)
                    && let Some(open) = self.books.lock().open.get_mut(&self.ticket)
                {
                    open.stream.get_or_insert(stream);
                }
            }
            // It was answered, or cancelled.
            Poll::Ready(None) => {
                let ended = self.books.lock().take(self.ticket, self.generation);
                if let Some(Open { session, .. }) = ended {
                    let_go(&self.inner, session);
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
        if !self.books.lock().open.contains_key(&ticket) {
            return;
        }
        let (inner, books) = (Arc::clone(&self.inner), Arc::clone(&self.books));
        // Outside a runtime everything ends anyway.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            tokio::time::sleep(RETURN).await;
            let left = books.lock().take(ticket, generation);
            if let Some(Open {
                session, request, ..
            }) = left
            {
                tracing::info!("a client has gone: giving up its work");
                // The session may be over as well.
                let _ = inner.accept_message(&session, cancellation(request)).await;
                let_go(&inner, session);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_given_up_unless_its_client_came_back() {
        let (mut book, session) = (Book::default(), SessionId::from("s"));
        let ticket = book.open(&session, RequestId::Number(7));
        assert!(book.back(&session, 3).is_none(), "no event was seen yet");
        book.open.get_mut(&ticket).unwrap().stream = Some(3);
        assert_eq!(book.back(&session, 3), Some((ticket, 1)));
        assert!(book.take(ticket, 0).is_none(), "it came back");
        assert_eq!(book.take(ticket, 1).unwrap().request, RequestId::Number(7));
        assert!(book.take(ticket, 1).is_none());
    }

    #[test]
    fn the_session_that_makes_room_has_nothing_under_way() {
        let mut book = Book::default();
        let (busy, idle) = (SessionId::from("busy"), SessionId::from("idle"));
        book.seen(&busy);
        book.seen(&idle);
        book.open(&busy, RequestId::Number(1));
        assert_eq!(book.longest_silent(), Some(idle.clone()));
        assert!(book.close(&idle).is_empty());
        assert_eq!(book.longest_silent(), None);
        assert_eq!(book.close(&busy), vec![RequestId::Number(1)]);
        assert!(book.open.is_empty());
    }

    #[test]
    fn an_events_id_names_its_stream() {
        assert_eq!(stream_of("12/7"), Some(7));
        assert_eq!(stream_of("12"), None);
    }
}
