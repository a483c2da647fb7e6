//! What a model's folder says of the whole pipeline.

use serde::Deserialize;
use serde_json::Value;

use super::files::ModelFiles;
use crate::Result;

/// `model_index.json`.
#[derive(Debug)]
pub struct PipelineIndex(Value);

impl PipelineIndex {
    pub fn read(files: &ModelFiles) -> Result<Self> {
        files.json("model_index.json").map(Self)
    }

    /// The pipeline's own class.
    pub fn pipeline(&self) -> Option<&str> {
        self.0.get("_class_name").and_then(Value::as_str)
    }

    /// A component's class; `None` where the pipeline goes without it.
    pub fn class(&self, component: &str) -> Option<&str> {
        self.0.get(component)?.get(1)?.as_str()
    }

    pub fn flag(&self, name: &str, default: bool) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(default)
    }

    /// Refuses a pipeline one of whose components is of another class than `expected` says of it.
    pub fn check(&self, files: &ModelFiles, expected: &[(&str, &str)]) -> Result<()> {
        for (component, class) in expected {
            let found = self.class(component);
            if found != Some(class) {
                return Err(files.error(format!(
                    "model_index.json: {component} is a {}, which is not supported: {class} is",
                    found.unwrap_or("nothing")
                )));
            }
        }
        Ok(())
    }
}

/// `foreseed.json`, which a model may bring along: what it is best run with, where that differs
/// from diffusers' defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Defaults {
    pub steps: Option<usize>,
    pub guidance: Option<f64>,
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// Tokens of the text that the denoiser reads, for families whose files do not say it.
    pub max_sequence_length: Option<usize>,
    /// A GGUF file in the model's folder with the denoiser's weights.
    pub denoiser: Option<String>,
    /// Merged into its weights.
    pub loras: Vec<OwnLora>,
}

/// A LoRA that a model brings along.
#[derive(Debug, Deserialize)]
pub struct OwnLora {
    /// Its path in the model's folder.
    pub file: String,
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

const DEFAULTS: &str = "foreseed.json";

impl Defaults {
    pub fn read(files: &ModelFiles) -> Result<Self> {
        match files.has(DEFAULTS) {
            true => files.json(DEFAULTS),
            false => Ok(Self::default()),
        }
    }
}
