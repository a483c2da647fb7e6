//! One thread owns the device. Requests are stepped together in batches, a step at a time, fairly;
//! trajectories are kept by what they are, under a memory budget.

use std::sync::Arc;

use image::RgbImage;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::backbones::{Backbone, TapRequest};
use crate::candidate::Candidate;
use crate::models::Models;
use crate::sampling::Observation;
use crate::{Error, Result};

/// How much the engine takes on.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Candidates stepped together at most.
    pub max_batch: usize,
    /// Memory for paused trajectories and their observations.
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
    pub picture: bool,
}

/// What happened to the candidate with this index in [`Work::candidates`].
#[derive(Clone, Debug)]
pub enum Event {
    /// `evaluations` were paid for this step: 0 where the cache had it already.
    Stepped {
        index: usize,
        steps_done: usize,
        evaluations: u64,
    },
    Observed {
        index: usize,
        observation: Arc<Observation>,
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
}

/// The way to the inference thread; cheap to clone.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Starts the thread. No weights are loaded yet.
    pub fn start(_models: Arc<Models>, _limits: Limits) -> Result<Self> {
        Err(Error::Internal("the engine is not built".into()))
    }

    /// The model with this name, loaded on the engine's thread if it was not yet.
    pub async fn open(&self, _model: &str) -> Result<Arc<dyn Backbone>> {
        Err(Error::Internal("the engine is not built".into()))
    }

    /// Queues work; refuses with [`Error::Busy`] where too much is waiting.
    pub fn submit(&self, _work: Work) -> Result<Running> {
        Err(Error::Internal("the engine is not built".into()))
    }
}
