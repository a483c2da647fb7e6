//! What is answered, field by field as agents and people name it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::candidate::{Handle, Seed};

/// What the work came to. A denoiser evaluation is one latent through the denoiser once; a guided
/// step counts 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    pub evaluations: u64,
    /// What rendering every candidate would have cost.
    pub full_evaluations: u64,
    pub saved_fraction: f64,
    pub seconds: f64,
}

/// What every reply of a job carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Common {
    pub model: String,
    pub metric: String,
    pub calibrated: bool,
    /// False: call again with the same arguments to go on where this call stopped.
    pub complete: bool,
    pub cost: Cost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CandidatePrediction {
    pub seed: Seed,
    pub quality: f64,
    /// 90 %.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_good: Option<f64>,
    pub handle: Handle,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WeakWord {
    pub word: String,
    pub risk: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PredictReply {
    /// Absent where the call's patience ended before the first prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_quality: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    /// The chance that a random seed of this prompt does not come out good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_risk: Option<f64>,
    pub candidates: Vec<CandidatePrediction>,
    pub weak_words: Vec<WeakWord>,
    /// Where in the first seed's picture each word is attended to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attention: Option<PathBuf>,
    /// The same, small.
    #[serde(skip)]
    pub shown: Option<Arc<RgbImage>>,
    pub advice: String,
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ranked {
    pub rank: u32,
    pub seed: Seed,
    pub quality: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p_good: Option<f64>,
    pub handle: Handle,
    pub stopped_at_step: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RankReply {
    /// Best first, every seed once.
    pub ranking: Vec<Ranked>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contact_sheet: Option<PathBuf>,
    /// The same, small.
    #[serde(skip)]
    pub shown: Option<Arc<RgbImage>>,
    /// What to do now.
    pub next: String,
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BestWording {
    pub prompt: String,
    /// Absent where the call's patience ended before the first prediction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_quality: Option<f64>,
    /// Over the original, on the same seeds.
    pub gain: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gain_interval: Option<[f64; 2]>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TriedWording {
    pub prompt: String,
    pub expected_quality: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<[f64; 2]>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RefineReply {
    pub best: BestWording,
    pub tried: Vec<TriedWording>,
    pub weak_words: Vec<WeakWord>,
    pub next: String,
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RenderReply {
    /// The PNG; absent where the call's patience ended before the picture was done, and where
    /// none is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// The picture, where this call rendered it.
    #[serde(skip)]
    pub shown: Option<Arc<RgbImage>>,
    pub seed: Seed,
    pub prompt: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// metric → score.
    pub measured: BTreeMap<String, f64>,
    /// 0: from the start.
    pub resumed_from_step: u32,
    pub handle: Handle,
    /// What to do now, where something is left to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeListing {
    pub metric: String,
    pub steps: u32,
    pub at_steps: Vec<u32>,
    pub width: u32,
    pub height: u32,
    /// How good it was measured to be, by figure.
    pub measured: BTreeMap<String, f64>,
    /// Pictures rendered here that correct it.
    pub local_renders: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelListing {
    pub name: String,
    pub family: String,
    pub installed: bool,
    pub default: bool,
    pub needs_gb: f64,
    pub needs: String,
    pub fits: bool,
    pub about: String,
    pub probes: Vec<ProbeListing>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ModelsReply {
    pub device: String,
    pub models: Vec<ModelListing>,
    // A line each: a schema of its own would cost every agent more than it tells.
    pub scorers: Vec<String>,
}
