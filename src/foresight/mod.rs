//! The four jobs an agent gives Foreseed: predict, rank, refine and render.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub mod replies;
pub mod requests;

use crate::engine::Engine;
use crate::models::Models;
use crate::store::Store;
use crate::{Error, Result};
use replies::{ModelsReply, PredictReply, RankReply, RefineReply, RenderReply};
use requests::{PredictRequest, RankRequest, RefineRequest, RenderRequest};

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
    /// Cancelled: the work stops within one step with [`Error::Cancelled`].
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
}

impl Foresight {
    pub async fn predict(
        &self,
        _request: PredictRequest,
        _caller: &Caller,
    ) -> Result<PredictReply> {
        Err(Error::Internal("predict is not built".into()))
    }

    pub async fn rank(&self, _request: RankRequest, _caller: &Caller) -> Result<RankReply> {
        Err(Error::Internal("rank is not built".into()))
    }

    pub async fn refine(&self, _request: RefineRequest, _caller: &Caller) -> Result<RefineReply> {
        Err(Error::Internal("refine is not built".into()))
    }

    pub async fn render(&self, _request: RenderRequest, _caller: &Caller) -> Result<RenderReply> {
        Err(Error::Internal("render is not built".into()))
    }

    pub fn list_models(&self) -> Result<ModelsReply> {
        Err(Error::Internal("list_models is not built".into()))
    }
}
