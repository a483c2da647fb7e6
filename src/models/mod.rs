//! Which models there are: the embedded pocket, diffusers folders, and what was pulled from the hub.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backbones::Backbone;
use crate::probe::Probe;
use crate::{Error, Result};

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    Embedded,
    Folder(PathBuf),
    /// Known by name and not here: `foreseed models pull` fetches it.
    Hub(String),
}

/// What is known of a model before it is loaded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    pub name: String,
    pub family: String,
    pub place: Place,
    pub installed: bool,
    pub licence: Option<String>,
    /// Bytes of memory that the weights and a step need, estimated from the files' sizes.
    pub needs_bytes: u64,
    pub fits: bool,
    /// What the model is for, in a sentence.
    pub about: String,
}

/// How models are found.
#[derive(Clone, Debug, Default)]
pub struct ModelOptions {
    /// A model's name or a diffusers folder, given at start: it becomes the default.
    pub model: Option<String>,
    /// Where probes that were trained here lie: `<data>/probes`.
    pub probes: Option<PathBuf>,
}

pub struct Models {}

impl Models {
    pub fn discover(_options: ModelOptions) -> Result<Self> {
        Err(Error::Internal("the models are not built".into()))
    }

    pub fn list(&self) -> Vec<ModelCard> {
        Vec::new()
    }

    /// The one given at start, else an installed real one, else pocket.
    pub fn default_name(&self) -> &str {
        "pocket"
    }

    /// The card of `name`; the error lists what there is.
    pub fn card(&self, name: &str) -> Result<ModelCard> {
        Err(Error::model(name, "the models are not built"))
    }

    /// Loads the weights: seconds to minutes.
    pub fn load(&self, name: &str) -> Result<Arc<dyn Backbone>> {
        Err(Error::model(name, "the models are not built"))
    }

    /// `Ok` where the model can draw this prompt at all: pocket knows a small world of shapes and
    /// says so; a real model takes any text.
    pub fn vocabulary_check(&self, _name: &str, _prompt: &str) -> Result<()> {
        Ok(())
    }

    /// The probes that were trained for the weights with this fingerprint, the shipped ones among
    /// them.
    pub fn probes(&self, _fingerprint: &str) -> Result<Vec<Arc<Probe>>> {
        Ok(Vec::new())
    }

    /// The probes that were trained for a model of this name, found without loading its weights.
    pub fn probes_of(&self, _name: &str) -> Result<Vec<Arc<Probe>>> {
        Ok(Vec::new())
    }
}
