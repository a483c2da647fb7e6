//! Who was heard of when, and which requests are under way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rmcp::model::RequestId;
use rmcp::transport::common::server_side_http::SessionId;
use tokio::time::Instant;

/// A request under way.
#[derive(Debug, PartialEq)]
pub struct Open {
    pub session: SessionId,
    pub request: RequestId,
    /// rmcp's number of the stream that its events go to, once the first was seen.
    stream: Option<u64>,
    /// How often the client came back for it.
    generation: u64,
}

/// The sessions, and their requests by a ticket each. Ticket 0 stands for nothing.
#[derive(Default)]
pub struct Book {
    last_ticket: u64,
    open: HashMap<u64, Open>,
    seen: HashMap<SessionId, Instant>,
    /// How many streams a session has that no request opened: its client is there.
    listening: HashMap<SessionId, usize>,
}

#[derive(Default)]
pub struct Books(Mutex<Book>);

impl Books {
    pub fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    pub fn seen(&mut self, session: &SessionId) {
        self.seen.insert(session.clone(), Instant::now());
    }

    pub fn listens(&mut self, session: &SessionId) {
        *self.listening.entry(session.clone()).or_default() += 1;
    }

    pub fn listens_no_more(&mut self, session: &SessionId) {
        if let Some(streams) = self.listening.get_mut(session) {
            *streams -= 1;
            if *streams == 0 {
                self.listening.remove(session);
            }
        }
    }

    /// Whether nothing is under way for a session, nobody listens, and no word came from its client
    /// since then.
    pub fn is_left(&self, session: &SessionId, since: Instant) -> bool {
        !self.is_busy(session)
            && !self.listening.contains_key(session)
            && self.seen.get(session).is_none_or(|seen| *seen <= since)
    }

    fn is_busy(&self, session: &SessionId) -> bool {
        self.open.values().any(|open| open.session == *session)
    }

    pub fn longest_silent(&self) -> Option<SessionId> {
        let idle = self.seen.iter().filter(|(id, _)| !self.is_busy(id));
        idle.min_by_key(|(_, seen)| **seen)
            .map(|(id, _)| id.clone())
    }

    pub fn open(&mut self, session: &SessionId, request: RequestId) -> u64 {
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

    pub fn is_open(&self, ticket: u64) -> bool {
        self.open.contains_key(&ticket)
    }

    /// The first event of a request tells its stream.
    pub fn goes_to(&mut self, ticket: u64, stream: u64) {
        if let Some(open) = self.open.get_mut(&ticket) {
            open.stream.get_or_insert(stream);
        }
    }

    /// The client is back for this stream: its ticket, and which return this is.
    pub fn back(&mut self, session: &SessionId, stream: u64) -> Option<(u64, u64)> {
        let (ticket, open) = self
            .open
            .iter_mut()
            .find(|(_, open)| open.session == *session && open.stream == Some(stream))?;
        open.generation += 1;
        Some((*ticket, open.generation))
    }

    /// What was under way under `ticket`, unless the client came back for it since.
    pub fn take(&mut self, ticket: u64, generation: u64) -> Option<Open> {
        let current = self.open.get(&ticket)?.generation == generation;
        current.then(|| self.open.remove(&ticket)).flatten()
    }

    /// Forgets a session; gives its requests that are under way.
    pub fn close(&mut self, session: &SessionId) -> Vec<RequestId> {
        self.seen.remove(session);
        self.listening.remove(session);
        let theirs = self.open.extract_if(|_, open| open.session == *session);
        theirs.map(|(_, open)| open.request).collect()
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
        book.goes_to(ticket, 3);
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
        assert!(!book.is_open(1));
    }

    #[test]
    fn a_session_with_a_listener_or_a_request_or_a_later_word_is_not_left() {
        let (mut book, session) = (Book::default(), SessionId::from("s"));
        book.seen(&session);
        let since = Instant::now();
        assert!(book.is_left(&session, since));
        book.listens(&session);
        book.listens(&session);
        book.listens_no_more(&session);
        assert!(!book.is_left(&session, since));
        book.listens_no_more(&session);
        let ticket = book.open(&session, RequestId::Number(1));
        assert!(!book.is_left(&session, since));
        book.take(ticket, 0).unwrap();
        assert!(book.is_left(&session, since));
        book.seen(&session);
        assert!(!book.is_left(&session, since));
    }
}
