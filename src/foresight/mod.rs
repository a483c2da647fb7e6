//! The four jobs an agent gives Foreseed: predict, rank, refine and render.
//!
//! Each job is a file of its own. They share a [`call`]: the model, the clock and what was spent; a
//! [`predictor`]: the probe that fits, or none; and pure functions that decide ([`race`],
//! [`uncertainty`], [`weak_words`]) and are tested without a model.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

mod advice;
mod call;
mod listing;
mod local;
mod look;
pub(crate) mod measure;
mod predict;
mod predictor;
pub(crate) mod race;
mod rank;
mod rate;
mod refine;
mod render;
pub mod replies;
pub mod requests;
mod rewordings;
mod rewrites;
mod sheet;
mod uncertainty;
pub mod validate;
mod weak_words;

pub use local::Learned;

use crate::engine::Engine;
use crate::models::Models;
use crate::store::Store;

/// How far a call has come: denoiser steps and decodes done of those foreseen, and what it does now.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub done: u64,
    pub of: u64,
    pub message: String,
}

/// Who asked, and how long they wait.
#[derive(Clone)]
pub struct Caller {
    /// Cancelled: the work stops within one step with [`crate::Error::Cancelled`].
    pub cancel: CancellationToken,
    /// Called at every step, from any thread; the first and the last are always reported.
    pub progress: Arc<dyn Fn(Progress) + Send + Sync>,
    /// After this long the call answers with what it has.
    pub patience: Option<Duration>,
}

/// The four jobs, over one engine.
pub struct Foresight {
    pub models: Arc<Models>,
    pub engine: Engine,
    pub store: Arc<Store>,
    /// Pictures go here.
    pub out: PathBuf,
    /// Whether they do; otherwise they are only shown.
    pub writes: bool,
    /// What was rendered here before corrects what is predicted now. Without it, the same call has
    /// the same answer on every machine.
    pub learned: Option<Learned>,
}
