//! Progress as a client sees it: strictly increasing, not more often than it can be drawn, the first
//! and the last always sent.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::foresight::Progress;

/// The least time between two notifications.
const PACE: Duration = Duration::from_millis(100);

/// The least time between the last notification and the answer. The TypeScript SDK, which most agents
/// are built on, hands on notifications later than an answer that it reads along with them, and takes
/// such a late one for an error (modelcontextprotocol/typescript-sdk#2580): on the wire, they are
/// better apart.
const BREATH: Duration = Duration::from_millis(20);

enum Note {
    Step(Progress),
    /// The job is over; true: it got to its end.
    Over(bool),
}

/// Reports one call's progress, where the client asked for it.
pub struct Reporter {
    notes: UnboundedSender<Note>,
    teller: Option<JoinHandle<()>>,
    /// Cancelled when nobody waits for this call any more, or for any.
    nobody: [CancellationToken; 2],
}

impl Reporter {
    /// `gone` is cancelled when the client is gone.
    pub fn start(context: &RequestContext<RoleServer>, gone: &CancellationToken) -> Self {
        let (notes, heard) = unbounded_channel();
        let teller = context.meta.get_progress_token().map(|token| {
            let teller = Teller {
                peer: context.peer.clone(),
                token,
                told: None,
                told_at: Instant::now(),
                total: 0.0,
            };
            tokio::spawn(teller.tell(heard))
        });
        Self {
            notes,
            teller,
            nobody: [context.ct.clone(), gone.clone()],
        }
    }

    /// What the job calls at every step, from any thread.
    pub fn callback(&self) -> Arc<dyn Fn(Progress) + Send + Sync> {
        let notes = self.teller.as_ref().map(|_| self.notes.clone());
        Arc::new(move |progress| {
            if let Some(notes) = &notes {
                // The receiver is gone only where the client is.
                let _ = notes.send(Note::Step(progress));
            }
        })
    }

    /// Waits until the last notification is on its way, and a breath longer, so that none is read after
    /// the answer; not at all where nobody reads either.
    pub async fn finish(self, completed: bool) {
        let Some(mut teller) = self.teller else {
            return;
        };
        let _ = self.notes.send(Note::Over(completed));
        let [ended, gone] = &self.nobody;
        tokio::select! {
            biased;
            () = ended.cancelled() => teller.abort(),
            () = gone.cancelled() => teller.abort(),
            told = &mut teller => {
                if let Err(error) = told {
                    tracing::warn!(%error, "progress could not be reported");
                }
            }
        }
    }
}

struct Teller {
    peer: Peer<RoleServer>,
    token: ProgressToken,
    told: Option<f64>,
    told_at: Instant,
    total: f64,
}

impl Teller {
    async fn tell(mut self, mut notes: UnboundedReceiver<Note>) {
        // Sent before any weights are loaded: the client's clock starts anew.
        self.send(0.0, None, "started".into()).await;
        let mut next = Instant::now() + PACE;
        let mut waiting: Option<Progress> = None;
        loop {
            let note = tokio::select! {
                note = notes.recv() => note,
                () = tokio::time::sleep_until(next), if waiting.is_some() => {
                    if let Some(progress) = waiting.take() {
                        self.step(progress).await;
                        next = Instant::now() + PACE;
                    }
                    continue;
                }
            };
            match note {
                Some(Note::Step(progress)) => waiting = Some(progress),
                Some(Note::Over(completed)) => {
                    if let Some(progress) = waiting.take() {
                        self.step(progress).await;
                    }
                    if completed {
                        self.last().await;
                    }
                    tokio::time::sleep_until(self.told_at + BREATH).await;
                    return;
                }
                None => return,
            }
        }
    }

    async fn step(&mut self, progress: Progress) {
        self.total = self.total.max(progress.of as f64);
        self.send(
            progress.done as f64,
            Some(progress.of as f64),
            progress.message,
        )
        .await;
    }

    /// The last stands at the total, also where less was to do than was foreseen.
    async fn last(&mut self) {
        let told = self.told.unwrap_or(0.0);
        let end = if self.total > told {
            self.total
        } else {
            told + 1.0
        };
        if told == 0.0 || told < self.total {
            self.send(end, Some(end), "done".into()).await;
        }
    }

    async fn send(&mut self, progress: f64, total: Option<f64>, message: String) {
        if self.told.is_some_and(|told| progress <= told) {
            return;
        }
        self.told = Some(progress);
        let mut note =
            ProgressNotificationParam::new(self.token.clone(), progress).with_message(message);
        // Work may turn out longer than was foreseen; progress beyond its total would confuse.
        note.total = total.map(|total| total.max(progress));
        if let Err(error) = self.peer.notify_progress(note).await {
            tracing::debug!(%error, "a progress notification was not delivered");
        }
        self.told_at = Instant::now();
    }
}
