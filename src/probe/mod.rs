//! The learned predictor of a finished image's quality, read off the first denoising steps:
//! *Diffusion Probe: Generated Image Result Prediction Using CNN Probes* (arXiv 2602.23783).

use serde::{Deserialize, Serialize};

use crate::backbones::{Facts, Word};
use crate::candidate::Settings;
use crate::sampling::Observation;
use crate::{Error, Result};

/// What a probe says of one candidate at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The metric's expected value.
    pub quality: f64,
    /// Holds 90 %; `None` where nothing calibrated it.
    pub interval: Option<[f64; 2]>,
    /// The chance of reaching the probe's threshold of good.
    pub p_good: Option<f64>,
    /// A risk in 0–1 for each word given.
    pub word_risks: Vec<f64>,
}

/// What a probe file says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeCard {
    /// SHA-256 of the probe file.
    pub id: String,
    /// The model's [`Facts::fingerprint`].
    pub model_fingerprint: String,
    pub model_name: String,
    pub metric: String,
    /// Steps of the full render.
    pub steps: usize,
    /// Steps done at which it predicts.
    pub at_steps: Vec<usize>,
    pub sampler: String,
    pub guidance: f64,
    pub width: usize,
    pub height: usize,
    /// The metric's threshold of good.
    pub good: f64,
    /// Blocks that must be tapped, by module path.
    pub tap: Vec<String>,
    /// Whether it reads the middle activations.
    pub middle: bool,
    /// How good it was measured to be, in a sentence or figures by name.
    pub measured: serde_json::Value,
}

pub struct Probe {
    card: ProbeCard,
}

impl Probe {
    pub fn from_bytes(_bytes: &[u8]) -> Result<Self> {
        Err(Error::Internal("the probe is not built".into()))
    }

    pub fn card(&self) -> &ProbeCard {
        &self.card
    }

    /// `Err` says in words why this probe does not hold for these settings (other steps, size,
    /// sampler, guidance or weights than it was trained for).
    pub fn fits(
        &self,
        facts: &Facts,
        settings: &Settings,
        at_step: usize,
    ) -> std::result::Result<(), String> {
        let _ = (facts, settings, at_step);
        Err("the probe is not built".into())
    }

    /// One prediction an observation; each depends on its own observation alone.
    pub fn predict(&self, _observations: &[(&Observation, &[Word])]) -> Result<Vec<Prediction>> {
        Err(Error::Internal("the probe is not built".into()))
    }
}

/// What can be said with no probe: how concentrated each word's attention is. Uncalibrated, so
/// interval and p_good are absent.
pub fn attention_only(_observation: &Observation, _words: &[Word]) -> Result<Prediction> {
    Err(Error::Internal("the probe is not built".into()))
}
