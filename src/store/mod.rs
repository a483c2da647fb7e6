//! The records behind the handles: a small SQLite database in the data folder that several servers
//! may share and that survives a kill.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::candidate::{Candidate, Handle};
use crate::{Error, Result};

/// A prediction as it was answered, kept so that it need not be computed again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PredictionRecord {
    pub handle: Handle,
    pub metric: String,
    pub at_step: usize,
    /// The probe's own fingerprint; another probe's prediction is another prediction.
    pub probe: String,
    pub prediction: crate::probe::Prediction,
}

/// A finished picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RenderRecord {
    pub handle: Handle,
    pub path: PathBuf,
    /// metric → score.
    pub measured: std::collections::BTreeMap<String, f64>,
    /// Seconds since the Unix epoch.
    pub rendered_at: u64,
}

pub struct Store {}

impl Store {
    /// Opens, or makes, the database in `folder`.
    pub fn open(_folder: &Path) -> Result<Self> {
        Err(Error::Internal("the store is not built".into()))
    }

    pub fn remember(&self, _candidates: &[(Handle, Candidate)]) -> Result<()> {
        Err(Error::Internal("the store is not built".into()))
    }

    /// `None`: no such handle was ever given out.
    pub fn recall(&self, _handle: &Handle) -> Result<Option<Candidate>> {
        Err(Error::Internal("the store is not built".into()))
    }

    pub fn keep_predictions(&self, _predictions: &[PredictionRecord]) -> Result<()> {
        Err(Error::Internal("the store is not built".into()))
    }

    pub fn prediction(
        &self,
        _handle: &Handle,
        _metric: &str,
        _at_step: usize,
        _probe: &str,
    ) -> Result<Option<PredictionRecord>> {
        Err(Error::Internal("the store is not built".into()))
    }

    pub fn keep_render(&self, _render: &RenderRecord) -> Result<()> {
        Err(Error::Internal("the store is not built".into()))
    }

    /// Newest first.
    pub fn renders(&self, _at_most: usize) -> Result<Vec<RenderRecord>> {
        Err(Error::Internal("the store is not built".into()))
    }
}
