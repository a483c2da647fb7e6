//! One thread owns the device. Requests are stepped together in batches, a step at a time, fairly;
//! trajectories are kept by what they are, under a memory budget.
//!
//! ```text
//! Engine      the way in: messages to the thread          (mod.rs)
//! Inference   the thread: admits requests, ticks          (inference.rs)
//!   ├ Request what was asked, and what was told of it     (request.rs)
//!   ├ Shelf   trajectories in flight and paused           (shelf.rs, lru.rs)
//!   ├ Texts   prompts encoded before                      (texts.rs, lru.rs)
//!   └ Flight  a candidate in its step                     (flight.rs)
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use image::RgbImage;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;

use crate::backbones::{Backbone, TapRequest};
use crate::candidate::Candidate;
use crate::models::Models;
use crate::sampling::Observation;
use crate::{Error, Result};

mod flight;
mod guard;
mod inference;
mod lru;
mod picture;
mod request;
mod shelf;
mod texts;

pub(crate) use picture::picture_of;
#[cfg(test)]
mod tests;

/// How much the engine takes on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Candidates stepped together at most. On a CPU no more than it has threads: more at once is
    /// not faster there, and a step would take so much longer to cancel.
    pub max_batch: usize,
    /// Memory for paused trajectories and their observations, an eighth of it for encoded prompts.
    pub cache_bytes: u64,
    /// Requests waiting at most; one more is refused with [`Error::Busy`].
    pub max_waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch: 16,
            cache_bytes: 1 << 30,
            max_waiting: 256,
        }
    }
}

/// What is to be done: every candidate is brought to `to_step`, observed on the way, and finished
/// as a picture if `picture` says so (`to_step` is then the settings' own number of steps).
#[derive(Clone, Debug)]
pub struct Work {
    /// All of one model.
    pub candidates: Vec<Candidate>,
    pub to_step: usize,
    /// Steps done at which an observation is wanted, each ≤ `to_step`.
    pub observe_at: Vec<usize>,
    /// What an observation holds; read in the observed steps only.
    pub tap: TapRequest,
    /// Whether the step after `to_step`, which may be 0 then, is to be seen half-way through.
    pub glimpse: bool,
    pub picture: bool,
    /// Denoiser evaluations that may be paid; the work ends before one that would be too many.
    pub purse: Option<u64>,
}

/// What happened to the candidate with this index in [`Work::candidates`].
#[derive(Clone, Debug)]
pub enum Event {
    /// `evaluations` were paid for this step: less where it was glimpsed before, 0 where the cache had it
    /// already, or where another request paid for it; what all came to, [`Running::end`] says. Where a candidate has to start over, the steps that are paid for a
    /// second time are told a second time.
    Stepped {
        index: usize,
        steps_done: usize,
        evaluations: u64,
    },
    Observed {
        index: usize,
        observation: Arc<Observation>,
    },
    /// The first half of the step after [`Work::to_step`]: an evaluation was paid for it, or none
    /// where the cache had it.
    Glimpsed {
        index: usize,
        observation: Arc<Observation>,
        evaluations: u64,
    },
    Picture {
        index: usize,
        picture: Arc<RgbImage>,
        /// 0: from the start.
        resumed_from_step: usize,
    },
}

/// Work under way. Dropping it cancels what is left of it within one step.
pub struct Running {
    /// Ends when the work is done; an error ends it too.
    pub events: UnboundedReceiver<Result<Event>>,
    spent: Arc<AtomicU64>,
}

impl Running {
    /// Gives up what is left. The denoiser evaluations that were set out on, the step in flight
    /// included, which is finished and kept.
    pub fn end(self) -> u64 {
        self.spent.fetch_or(OVER, Ordering::AcqRel)
    }
}

/// In a count of evaluations: nobody wants more of them.
const OVER: u64 = 1 << 63;

/// The way to the inference thread; cheap to clone. The thread stops, within one step, when the last
/// of its handles is dropped; work still under way then ends with [`Error::Cancelled`].
#[derive(Clone)]
pub struct Engine {
    messages: UnboundedSender<Message>,
    load: Arc<Load>,
    max_waiting: usize,
}

/// Makes a model's weights ready by the model's name.
type Loader = Box<dyn Fn(&str) -> Result<Arc<dyn Backbone>> + Send>;

enum Message {
    Open {
        model: String,
        reply: oneshot::Sender<Result<Arc<dyn Backbone>>>,
    },
    Submit {
        work: Work,
        events: UnboundedSender<Result<Event>>,
        spent: Arc<AtomicU64>,
        place: Place,
    },
}

/// How much is waiting, as callers on other threads see it.
#[derive(Default)]
struct Load {
    requests: AtomicUsize,
    /// What the steps that are left will take, in milliseconds.
    milliseconds: AtomicU64,
    /// How long the thread has worked, in microseconds.
    busy: AtomicU64,
    /// Denoiser evaluations done.
    evaluations: AtomicU64,
}

/// How the engine is doing.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Pieces of work taken on and not over.
    pub waiting: usize,
    /// How long it has worked since it was started.
    pub busy: Duration,
    /// Denoiser evaluations done since it was started.
    pub evaluations: u64,
}

/// A request's place among those that wait; given back when it is dropped.
struct Place(Arc<Load>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Engine {
    /// Starts the thread. No weights are loaded yet.
    pub fn start(models: Arc<Models>, limits: Limits) -> Result<Self> {
        Self::start_with(Box::new(move |name| models.load(name)), limits)
    }

    fn start_with(loader: Loader, limits: Limits) -> Result<Self> {
        let (messages, inbox) = mpsc::unbounded_channel();
        let load = Arc::new(Load::default());
        let max_waiting = limits.max_waiting;
        let inference = inference::Inference::new(loader, limits, Arc::clone(&load));
        std::thread::Builder::new()
            .name("inference".into())
            .spawn(move || inference.run(inbox))
            .map_err(|error| Error::Internal(format!("no inference thread: {error}")))?;
        Ok(Self {
            messages,
            load,
            max_waiting,
        })
    }

    /// The model with this name, loaded on the engine's thread if it was not yet.
    pub async fn open(&self, model: &str) -> Result<Arc<dyn Backbone>> {
        let (reply, answer) = oneshot::channel();
        let model = model.to_owned();
        self.send(Message::Open { model, reply })?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Queues work; refuses with [`Error::Busy`] where too much is waiting. Work that makes no sense
    /// (no such model, more steps than the candidate has) ends with its error as the only event.
    pub fn submit(&self, work: Work) -> Result<Running> {
        let waiting = self.load.requests.fetch_add(1, Ordering::AcqRel);
        let place = Place(Arc::clone(&self.load));
        if waiting >= self.max_waiting {
            let left = self.load.milliseconds.load(Ordering::Acquire);
            return Err(Error::Busy {
                waiting,
                seconds: left.div_ceil(1000).max(1),
            });
        }
        let (sender, events) = mpsc::unbounded_channel();
        let spent = Arc::new(AtomicU64::new(0));
        self.send(Message::Submit {
            work,
            events: sender,
            spent: Arc::clone(&spent),
            place,
        })?;
        Ok(Running { events, spent })
    }

    pub fn pulse(&self) -> Pulse {
        Pulse {
            waiting: self.load.requests.load(Ordering::Acquire),
            busy: Duration::from_micros(self.load.busy.load(Ordering::Acquire)),
            evaluations: self.load.evaluations.load(Ordering::Acquire),
        }
    }

    fn send(&self, message: Message) -> Result<()> {
        self.messages.send(message).map_err(|_| stopped())
    }
}

fn stopped() -> Error {
    Error::Internal("the inference thread has stopped".into())
}
